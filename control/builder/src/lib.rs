//! The domain builder: makes a paravirtualized guest of a kernel, an initrd and a size.
//!
//! [`build`] leaves a domain that is paused and complete: its memory filled, its first vCPU at the kernel's entry
//! point, rings for its console and the store in place, granted and with their ports. Whoever called then introduces
//! it to the store, listens to its console and unpauses it.
//!
//! # Invariants
//! - B1: whatever can be known beforehand is checked before anything is created ([`plan`] does it all).
//! - B2: when a step fails, everything done before is undone: no domain, no mapping and no port is left.
//! - B3: at most [`BATCH_PAGES`] pages of the domain are mapped at a time, whatever its size.
#![forbid(unsafe_code)]

mod error;
mod spec;

pub use error::BuildError;
pub use spec::{Built, Initrd, Limits, Ring, Spec};

/// Pages mapped at a time while building.
pub const BATCH_PAGES: usize = 1024;

/// Checks all that can be checked, then builds the domain. It is left paused.
///
/// # Errors
/// [`BuildError`]; then nothing is left behind (B2).
pub fn build(_hypervisor: &dyn xen::Hypervisor, _spec: &Spec<'_>) -> Result<Built, BuildError> {
    todo!()
}
