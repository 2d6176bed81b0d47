//! What ring 0 remembers of the usage record that the control domain keeps, and of domains that are gone: arguments of
//! [`XenoCommand::LedgerHead`](crate::xeno::XenoCommand::LedgerHead),
//! [`XenoCommand::LedgerAppend`](crate::xeno::XenoCommand::LedgerAppend) and
//! [`XenoCommand::LedgerEnded`](crate::xeno::XenoCommand::LedgerEnded).
//!
//! A record is a chain: each entry names the hash of the one before. Ring 0 does not see the entries; it keeps how many
//! there are and the hash of the last, of one chain for each domain and one for the machine, for as long as the machine
//! runs, and takes back nothing. `docs/ledger.md` has the rest.

use crate::domid::{DOMID_XEN, DomId};
use crate::usage::USAGE_CAUSES;
use crate::wire::wire_struct;

/// In [`LedgerHead::domid`]: the chain of the machine.
pub const LEDGER_OF_MACHINE: DomId = DOMID_XEN;

/// Bytes of a hash.
pub const LEDGER_HASH: usize = 32;

/// Domains that are gone whose accounts are remembered: the last so many.
pub const LEDGER_ENDED_KEPT: usize = 64;

wire_struct! {
    /// Argument of `ledger_head` and `ledger_append`: how long a chain is, and the hash of its last entry.
    pub struct LedgerHead: 96 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// In: whose chain; [`LEDGER_OF_MACHINE`].
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// Out: which of all domains that there ever were it is; 0 of the machine.
        0x08 serial: u64,
        /// In, to append: how many entries the chain has as the caller knows it.
        0x10 from: u64,
        /// How many it has; to append, how many it is to have. 0: ring 0 was told of none since the machine started.
        0x18 count: u64,
        /// The hash of the last; zeros with none.
        0x20 head: [u8; LEDGER_HASH],
        /// Zero.
        0x40 _reserved: [u64; 4],
    }
    /// Argument of `ledger_ended`: the account of a domain that is gone, complete. They are numbered from 0 on in the
    /// order in which they went, and the last [`LEDGER_ENDED_KEPT`] are remembered. Counters are those of
    /// [`Usage`](crate::usage::Usage); frames are none any more.
    pub struct LedgerEnded: 256 {
        /// In: [`XENO_INTERFACE_VERSION`](crate::xeno::XENO_INTERFACE_VERSION).
        0x00 version: u32,
        /// The number it had, which may be another's by now.
        0x04 domid: u16,
        /// Padding.
        0x06 _pad0: u16,
        /// In: the number asked for. Out: the first from there on that is remembered; the rest is about that one.
        0x08 index: u64,
        /// How many are gone since the machine started. Told also where there is none to tell of.
        0x10 ended: u64,
        /// Which of all domains that there ever were it was.
        0x18 serial: u64,
        /// What the tool stack knew it by.
        0x20 handle: [u8; 16],
        /// Cycles a second.
        0x30 tsc_hz: u64,
        /// When it was gone, in cycles.
        0x38 at: u64,
        /// Cycles in applications.
        0x40 user: u64,
        /// In the kernel.
        0x48 kernel: u64,
        /// In the hypervisor, by cause.
        0x50 hypervisor: [u64; USAGE_CAUSES],
        /// Of all those: in time that was reserved.
        0x80 guaranteed: u64,
        /// Of all those: in time that nobody had reserved.
        0x88 extra: u64,
        /// Of all those: while none of its vCPUs was in hand.
        0x90 elsewhere: u64,
        /// A vCPU could run, and did not.
        0x98 stolen: u64,
        /// How often a CPU was given to a vCPU.
        0xa0 switches: u64,
        /// The most frames it had.
        0xa8 frames_peak: u64,
        /// Its frames times cycles: the lower half, and the upper.
        0xb0 frame_cycles: [u64; 2],
        /// The most frames of the hypervisor's there were because of it.
        0xc0 overhead_peak: u64,
        /// Those, times cycles.
        0xc8 overhead_cycles: [u64; 2],
        /// Events that it sent.
        0xd8 events_sent: u64,
        /// Events that became pending on its ports.
        0xe0 events_received: u64,
        /// Uses of grants that it began.
        0xe8 grants_used: u64,
        /// Uses of its grants that anybody began.
        0xf0 grants_lent: u64,
        /// Zero.
        0xf8 _reserved: u64,
    }
}
