//! Atomics that let a test choose who moves next.

use crate::before_step;
use core::sync::atomic::Ordering;

macro_rules! atomic {
    ($name:ident, $of:ty) => {
        /// As the one of `core`, with a step of the schedule before each operation.
        #[derive(Debug)]
        #[repr(transparent)]
        pub struct $name(core::sync::atomic::$name);

        impl $name {
            /// An atomic with a value.
            pub const fn new(value: $of) -> Self {
                Self(core::sync::atomic::$name::new(value))
            }
            /// Reads.
            pub fn load(&self, order: Ordering) -> $of {
                before_step();
                self.0.load(order)
            }
            /// Writes.
            pub fn store(&self, value: $of, order: Ordering) {
                before_step();
                self.0.store(value, order);
            }
            /// Exchanges if equal.
            ///
            /// # Errors
            /// With the value that was there instead.
            pub fn compare_exchange(
                &self,
                old: $of,
                new: $of,
                good: Ordering,
                bad: Ordering,
            ) -> Result<$of, $of> {
                before_step();
                self.0.compare_exchange(old, new, good, bad)
            }
            /// As `compare_exchange`: never fails without cause, since a schedule must repeat exactly.
            ///
            /// # Errors
            /// With the value that was there instead.
            pub fn compare_exchange_weak(
                &self,
                old: $of,
                new: $of,
                good: Ordering,
                bad: Ordering,
            ) -> Result<$of, $of> {
                self.compare_exchange(old, new, good, bad)
            }
            /// Exchanges.
            pub fn swap(&self, value: $of, order: Ordering) -> $of {
                before_step();
                self.0.swap(value, order)
            }
            /// Adds.
            pub fn fetch_add(&self, value: $of, order: Ordering) -> $of {
                before_step();
                self.0.fetch_add(value, order)
            }
            /// Subtracts.
            pub fn fetch_sub(&self, value: $of, order: Ordering) -> $of {
                before_step();
                self.0.fetch_sub(value, order)
            }
            /// Sets bits.
            pub fn fetch_or(&self, value: $of, order: Ordering) -> $of {
                before_step();
                self.0.fetch_or(value, order)
            }
            /// Clears bits.
            pub fn fetch_and(&self, value: $of, order: Ordering) -> $of {
                before_step();
                self.0.fetch_and(value, order)
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
