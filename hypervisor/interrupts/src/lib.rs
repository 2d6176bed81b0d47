//! Device interrupts without the devices: which vectors are free, when a source storms, and what a PCI function's
//! registers say of the messages it can send.
//!
//! Nothing here touches hardware. Configuration space is reached through the trait [`Config`], so that the host can
//! test what the machine's functions might answer, lies included.
//!
//! # Invariants
//! - N1: a vector is taken by one source at a time, and never one of those kept back.
//! - N2: in one window of [`WINDOW_NS`] a source interrupts at most as often as the limit says before it is to be masked.
//! - N3: whatever configuration space answers, a walk over it ends and no arithmetic fails.
//! - N4: a message names a vector from 16 up and one CPU, fixed delivery, by edge: nothing a function may be told to
//!   send is an NMI, a reset or an exception.
#![no_std]
#![forbid(unsafe_code)]

mod message;
mod meter;
mod pci;
mod vectors;

pub use message::{Message, Msi, Msix, NoMessages};
pub use meter::{Meter, Verdict, WINDOW_NS};
pub use pci::{Config, Function, MSI_CAPABILITY, MSIX_CAPABILITY};
pub use vectors::Vectors;
