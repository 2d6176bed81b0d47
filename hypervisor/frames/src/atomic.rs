//! The atomics of the frame word: those of `core`, and in tests ones that let a test choose who moves next.

#[cfg(not(test))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(test)]
pub(crate) use instrumented::{AtomicU32, AtomicU64};

#[cfg(test)]
mod instrumented {
    use crate::tests::schedule::before_step;
    use core::sync::atomic::Ordering;

    macro_rules! atomic {
        ($name:ident, $of:ty) => {
            #[derive(Debug)]
            #[repr(transparent)]
            pub(crate) struct $name(core::sync::atomic::$name);

            #[allow(dead_code, reason = "both widths have the same set")]
            impl $name {
                pub(crate) const fn new(value: $of) -> Self {
                    Self(core::sync::atomic::$name::new(value))
                }
                pub(crate) fn load(&self, order: Ordering) -> $of {
                    before_step();
                    self.0.load(order)
                }
                pub(crate) fn store(&self, value: $of, order: Ordering) {
                    before_step();
                    self.0.store(value, order);
                }
                pub(crate) fn compare_exchange(
                    &self,
                    old: $of,
                    new: $of,
                    good: Ordering,
                    bad: Ordering,
                ) -> Result<$of, $of> {
                    before_step();
                    self.0.compare_exchange(old, new, good, bad)
                }
                pub(crate) fn compare_exchange_weak(
                    &self,
                    old: $of,
                    new: $of,
                    good: Ordering,
                    bad: Ordering,
                ) -> Result<$of, $of> {
                    // Never fails without cause: a schedule must repeat exactly.
                    self.compare_exchange(old, new, good, bad)
                }
                pub(crate) fn fetch_sub(&self, value: $of, order: Ordering) -> $of {
                    before_step();
                    self.0.fetch_sub(value, order)
                }
                pub(crate) fn fetch_or(&self, value: $of, order: Ordering) -> $of {
                    before_step();
                    self.0.fetch_or(value, order)
                }
                pub(crate) fn fetch_and(&self, value: $of, order: Ordering) -> $of {
                    before_step();
                    self.0.fetch_and(value, order)
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}
