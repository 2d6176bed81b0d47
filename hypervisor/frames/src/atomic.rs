//! The atomics of the frame word: those of `core`, and in tests ones that let a test choose who moves next.

#[cfg(not(test))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(test)]
pub(crate) use interleave::{AtomicU32, AtomicU64};
