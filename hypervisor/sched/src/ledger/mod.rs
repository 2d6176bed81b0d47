//! Where the cycles went (invariant S2): accounts of vCPUs, of domains and of CPUs.
//!
//! Time on a CPU is a chain of intervals between boundaries: guest entered, guest left, interrupt taken, vCPU switched,
//! idle begun. Each boundary is one reading of the time-stamp counter, which closes one account and opens the next: the
//! reading is added to the one and taken from the other, and nothing else is ever done to an account. So all of them add
//! up to the last boundary less the first, and none is what was left over when others were taken from a total.
//!
//! ```text
//!  CpuLedger    of one CPU: idle, the machine's own, and `sold`: all that was put into accounts of vCPUs and domains
//!  VcpuAccount  of one vCPU, in its record: written by the CPU that it is loaded on, read by any
//!  SharedAccount  of a domain, for what was done for it while none of its vCPUs was in hand; of all that are gone
//! ```
//! Per CPU: last − first = idle + machine + sold. Of the machine: the sum of what CPUs sold is the sum of all accounts of
//! vCPUs and domains, and of those that are gone. Arithmetic is modulo 2^64: counters wrap after centuries.
//!
//! Time that firmware takes in system management mode shows in no counter and falls on whoever ran.

mod account;
mod anchor;
mod cpu;
mod held;
mod makers;
mod sold;
mod usage;

pub use account::{SharedAccount, Shown, VcpuAccount};
pub use anchor::{Anchor, LastOf, NotAppended};
pub use cpu::{CpuBooks, CpuLedger, Due, Guest, Payer, Paying};
pub use held::{Held, SharedHeld};
pub use makers::{Makers, Overtaken};
pub use sold::Sold;
pub use usage::{CAUSES, Cause, Kind, Usage};
