//! Who used what: arguments of [`XenoCommand::Usage`](crate::xeno::XenoCommand::Usage),
//! [`XenoCommand::UsageFrame`](crate::xeno::XenoCommand::UsageFrame) and
//! [`XenoCommand::Books`](crate::xeno::XenoCommand::Books). The same accounts can be read without a call:
//! [`crate::usage_area`].
//!
//! Times are cycles of the time-stamp counter. Counters grow, modulo 2^64, and are never set back. What each means and
//! who pays for what is in `docs/accounting.md`.

use crate::wire::wire_struct;

/// In [`Usage::vcpu`]: the whole domain.
pub const USAGE_OF_DOMAIN: u32 = u32::MAX;
/// In [`Usage::vcpu`]: what was done for the domain while none of its vCPUs was in hand, and what those used that it has
/// no more.
pub const USAGE_BESIDES: u32 = u32::MAX - 1;

/// In [`Usage::cpu`]: none.
pub const USAGE_NO_CPU: u32 = u32::MAX;

/// Causes of the hypervisor's work, by their place in [`Usage::hypervisor`].
pub const USAGE_CAUSES: usize = 6;
/// Their names, in order.
pub const USAGE_CAUSE_NAMES: [&str; USAGE_CAUSES] =
    ["call", "fault", "interrupt", "timer", "device", "switch"];

/// In [`Books::cpu`]: all of the machine.
pub const BOOKS_OF_MACHINE: u32 = u32::MAX;

wire_struct! {
    /// Argument of `usage`: what a domain or a vCPU used. Only the version, the domain and the vCPU are read.
    pub struct Usage: 256 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the domain; `DOMID_SELF` is the caller.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: the vCPU, or [`USAGE_OF_DOMAIN`], or [`USAGE_BESIDES`].
        0x08 vcpu: u32,
        /// The CPU that has it in hand, or [`USAGE_NO_CPU`]. Of a vCPU.
        0x0c cpu: u32,
        /// Cycles a second.
        0x10 tsc_hz: u64,
        /// When this was read, in cycles.
        0x18 at: u64,
        /// Up to when what follows is, of a vCPU that a CPU has in hand: what it used since is the difference to `at`,
        /// not cut up yet. 0 of any other, and where nothing is open.
        0x20 open_since: u64,
        /// Cycles in applications.
        0x28 user: u64,
        /// In the kernel.
        0x30 kernel: u64,
        /// In the hypervisor, by cause: [`USAGE_CAUSE_NAMES`].
        0x38 hypervisor: [u64; USAGE_CAUSES],
        /// Of all those: in time that was reserved.
        0x68 guaranteed: u64,
        /// Of all those: in time that nobody had reserved.
        0x70 extra: u64,
        /// Of all those: while none of the domain's vCPUs was in hand.
        0x78 elsewhere: u64,
        /// Outside that sum: a vCPU could run, and did not.
        0x80 stolen: u64,
        /// How often a CPU was given to a vCPU.
        0x88 switches: u64,
        /// Frames that the domain has. This and what follows is of a domain.
        0x90 frames: u64,
        /// The most it has had.
        0x98 frames_peak: u64,
        /// Frames times the cycles they were had for: the lower half, and the upper.
        0xa0 frame_cycles: [u64; 2],
        /// Frames of the hypervisor's that exist because of the domain.
        0xb0 overhead: u64,
        /// The most there have been.
        0xb8 overhead_peak: u64,
        /// Those, times cycles.
        0xc0 overhead_cycles: [u64; 2],
        /// The number of the machine's books that were made last ([`Books::number`]); 0 while others are made, and of a vCPU.
        0xd0 books: u64,
        /// What the domain had used by those, in cycles: each CPU's part up to when that CPU's were made.
        0xd8 books_used: u64,
        /// How often it sent an event on a port of its own, and was not refused.
        0xe0 events_sent: u64,
        /// How often a port that notifies it became pending that was not. Of a domain, also of ports that notify a vCPU it
        /// has not got.
        0xe8 events_received: u64,
        /// How often it began to use a grant, its domain's own included: each that it mapped, each granted end of a copy.
        0xf0 grants_used: u64,
        /// How often anybody began to use a grant of the domain's: domains, itself included, and the hypervisor's own
        /// ends. Of a domain.
        0xf8 grants_lent: u64,
    }
    /// Argument of `usage_frame`: where a domain's usage area lies, frame by frame. Only the version, the domain and the
    /// index are read. The frame is mapped, read-only, as if it were the domain's own: by the domain, and by the control
    /// domain in its name. It stays readable until the last mapping ends, whatever becomes of the domain.
    pub struct UsageFrame: 32 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the domain; `DOMID_SELF` is the caller.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: which frame of the area, from 0.
        0x08 index: u32,
        /// Out: frames of the area.
        0x0c nr_frames: u32,
        /// Out: the frame.
        0x10 mfn: u64,
        /// Zero.
        0x18 _reserved: u64,
    }
    /// Argument of `books`: what became of a CPU's time, or of that of all. Only the version and the CPU are read. For
    /// each CPU, and so for all of them, `elapsed` is `idle`, `machine` and `sold`, to the cycle; of the machine, `sold` is
    /// `held` and `departed`, while CPUs go on: each CPU's part is up to when that CPU's were made. Of whoever makes books of
    /// the machine at the same time, all but the last are told `-EAGAIN`.
    pub struct Books: 128 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: the CPU, or [`BOOKS_OF_MACHINE`].
        0x04 cpu: u32,
        /// CPUs that run.
        0x08 nr_cpus: u32,
        /// Padding.
        0x0c _pad0: u32,
        /// Cycles a second.
        0x10 tsc_hz: u64,
        /// The first boundary; of the machine 0.
        0x18 first: u64,
        /// The last; of the machine 0.
        0x20 last: u64,
        /// Cycles between the two, of all CPUs added up.
        0x28 elapsed: u64,
        /// Nobody had anything to do.
        0x30 idle: u64,
        /// The hypervisor's own work, for nobody in particular.
        0x38 machine: u64,
        /// For domains.
        0x40 sold: u64,
        /// In the accounts of domains that are there. Of the machine.
        0x48 held: u64,
        /// Of domains that are gone. Of the machine.
        0x50 departed: u64,
        /// Which books of the machine these are, for [`Usage::books`]; of a CPU 0.
        0x58 number: u64,
        /// Zero.
        0x60 _reserved: [u64; 4],
    }
}
