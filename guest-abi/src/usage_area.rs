//! The usage area: a domain's accounts as the hypervisor keeps them, for the domain and the control domain to read without
//! a call. [`UsageFrame`](crate::usage::UsageFrame) tells where it is.
//!
//! It begins with [`UsageHead`]; from [`UsageHead::rows_at`] on there is a [`UsageRow`] for each vCPU that the domain may
//! have, [`UsageHead::row_bytes`] apart. With 22 vCPUs it is one frame, with 64, the most there are, three, to be mapped side
//! by side. Later versions may be longer, and have longer rows; what is zero today may mean something then.
//!
//! This is where the accounts are, not a copy: it is never late. It can only be read. What a CPU did since it last entered
//! anything for a vCPU is not in the vCPU's row yet; [`UsageRow::open_since`] says since when that is. What vCPUs used of a
//! domain that is being destroyed goes over from their rows to [`UsageHead::besides`].
//!
//! # How to read it
//! - A1: every aligned word of 8 bytes is right for itself at any time, and counters only grow (modulo 2^64).
//! - A2: words of a row from [`UsageRow::cpu`] to [`UsageRow::extra`], and those of a [`UsageHeld`], belong together if the
//!   sequence number before them was even, and was the same before and after they were read.
//! - A3: a vCPU is on a CPU while [`UsageRow::cpu`] is not [`USAGE_AREA_NO_CPU`]: it has used the time-stamp counter less
//!   [`UsageRow::open_since`] besides, not cut up yet. It waits for one while [`UsageRow::stolen`] is negative.
//!
//! [`UsageArea`] does all that.

use core::sync::atomic::Ordering::{Acquire, Relaxed};
use core::sync::atomic::{AtomicU64, fence};

use crate::usage::USAGE_CAUSES;
use crate::wire::{Wire, wire_struct};

/// In [`UsageHead::magic`]: "XenoUse1".
pub const USAGE_AREA_MAGIC: u64 = u64::from_le_bytes(*b"XenoUse1");
/// In [`UsageHead::version`].
pub const USAGE_AREA_VERSION: u32 = 1;
/// In [`UsageRow::cpu`]: none.
pub const USAGE_AREA_NO_CPU: u16 = u16::MAX;
/// In [`UsageRow::flags`]: the vCPU is in time that was reserved for it.
pub const USAGE_AREA_GUARANTEED: u16 = 1 << 0;
/// In [`UsageRow::terms`]: the vCPU takes part in time that nobody reserved, by its weight.
pub const USAGE_AREA_EXTRA: u32 = 1 << 0;
/// Bytes of a frame.
const FRAME_BYTES: usize = 4096;

wire_struct! {
    /// How much memory there was, and for how long. Belongs together (A2).
    pub struct UsageHeld: 48 {
        /// Sequence number: odd while this is written.
        0x00 seq: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// Frames.
        0x08 now: u64,
        /// The most there have been.
        0x10 peak: u64,
        /// Frames times the cycles that they were had for, until `until`: the lower half, and the upper. Since then `now`
        /// for each cycle.
        0x18 over_time: [u64; 2],
        /// In cycles, by the first CPU's time-stamp counter where they differ.
        0x28 until: u64,
    }
    /// What was done for the domain while none of its vCPUs was in hand, and what those used that it has no more. Of the
    /// fields, see [`Usage`](crate::usage::Usage).
    pub struct UsageBesides: 136 {
        /// Cycles in applications.
        0x00 user: u64,
        /// In the kernel.
        0x08 kernel: u64,
        /// In the hypervisor, by cause.
        0x10 hypervisor: [u64; USAGE_CAUSES],
        /// Of all those: in time that was reserved.
        0x40 guaranteed: u64,
        /// In time that nobody had reserved.
        0x48 extra: u64,
        /// While none of the domain's vCPUs was in hand.
        0x50 elsewhere: u64,
        /// Outside that sum: a vCPU could run, and did not.
        0x58 stolen: u64,
        /// How often a CPU was given to a vCPU.
        0x60 switches: u64,
        /// Events sent.
        0x68 events_sent: u64,
        /// Events received, those of ports included that notify a vCPU which the domain has not got.
        0x70 events_received: u64,
        /// Grants used.
        0x78 grants_used: u64,
        /// How often anybody began to use a grant of the domain's: all of it is here.
        0x80 grants_lent: u64,
    }
    /// Traffic on the network. Zero: there is none yet.
    pub struct UsageTraffic: 64 {
        /// To the domain.
        0x00 packets_in: u64,
        /// To the domain.
        0x08 bytes_in: u64,
        /// From the domain.
        0x10 packets_out: u64,
        /// From the domain.
        0x18 bytes_out: u64,
        /// Packets that were dropped, by reason.
        0x20 drops: [u64; 4],
    }
    /// The beginning of the area.
    pub struct UsageHead: 512 {
        /// [`USAGE_AREA_MAGIC`].
        0x000 magic: u64,
        /// [`USAGE_AREA_VERSION`].
        0x008 version: u32,
        /// Frames of the area.
        0x00c nr_frames: u32,
        /// Which of all domains that there ever were it is.
        0x010 serial: u64,
        /// Cycles a second.
        0x018 tsc_hz: u64,
        /// The domain's number.
        0x020 domid: u16,
        /// Padding.
        0x022 _pad0: u16,
        /// Rows: vCPUs that the domain may have. Those that it has not got are zero.
        0x024 nr_vcpus: u32,
        /// Bytes from here to the first row.
        0x028 rows_at: u32,
        /// Bytes from one row to the next.
        0x02c row_bytes: u32,
        /// Zero.
        0x030 _reserved0: [u64; 10],
        /// The domain's frames.
        0x080 frames: UsageHeld,
        /// Frames of the hypervisor's that exist because of the domain.
        0x0b0 overhead: UsageHeld,
        /// What is in no row.
        0x0e0 besides: UsageBesides,
        /// Zero.
        0x168 _reserved1: [u64; 3],
        /// Traffic on the network.
        0x180 traffic: UsageTraffic,
        /// Zero.
        0x1c0 _reserved2: [u64; 8],
    }
    /// A vCPU. Of the fields without a word here, see [`Usage`](crate::usage::Usage).
    pub struct UsageRow: 160 {
        /// Sequence number: odd while the words from `cpu` to `extra` are written.
        0x00 seq: u32,
        /// The CPU that it is on, or [`USAGE_AREA_NO_CPU`].
        0x04 cpu: u16,
        /// [`USAGE_AREA_GUARANTEED`].
        0x06 flags: u16,
        /// Up to when what follows is, in cycles, if it is on a CPU.
        0x08 open_since: u64,
        /// Cycles in applications.
        0x10 user: u64,
        /// In the kernel.
        0x18 kernel: u64,
        /// In the hypervisor, by cause.
        0x20 hypervisor: [u64; USAGE_CAUSES],
        /// Of all those: in time that was reserved.
        0x50 guaranteed: u64,
        /// In time that nobody had reserved.
        0x58 extra: u64,
        /// How often a CPU was given to it. Right for itself, as are the words that follow (A1).
        0x60 switches: u64,
        /// How long it could run and did not: cycles; while it waits, those until now less the time-stamp counter, of the first
        /// CPU where they differ: then the highest bit is set, and the counter is to be added.
        0x68 stolen: u64,
        /// Its reservation: at least so many nanoseconds in each period while it can run. 0 for none.
        0x70 slice: u32,
        /// Nanoseconds.
        0x74 period: u32,
        /// Its part in time that nobody reserved.
        0x78 weight: u32,
        /// [`USAGE_AREA_EXTRA`].
        0x7c terms: u32,
        /// Events sent.
        0x80 events_sent: u64,
        /// Events received.
        0x88 events_received: u64,
        /// Grants used.
        0x90 grants_used: u64,
        /// Zero.
        0x98 _reserved: u64,
    }
}

/// Bytes before the first row.
pub const USAGE_HEAD_BYTES: usize = UsageHead::SIZE;
/// Bytes of a row.
pub const USAGE_ROW_BYTES: usize = UsageRow::SIZE;

/// Frames of the area of a domain that may have so many vCPUs.
#[must_use]
pub const fn usage_area_frames(nr_vcpus: usize) -> usize {
    (USAGE_HEAD_BYTES + nr_vcpus * USAGE_ROW_BYTES).div_ceil(FRAME_BYTES)
}

impl UsageHeld {
    /// Frames times cycles until `tsc`, while there are no more and no fewer.
    #[must_use]
    pub fn over_time_at(&self, tsc: u64) -> u128 {
        let [low, high] = self.over_time;
        let until = u128::from(high) << 64 | u128::from(low);
        // Counters of CPUs may differ by a little.
        let since = tsc.saturating_sub(self.until);
        until.wrapping_add(u128::from(self.now) * u128::from(since))
    }
}

impl UsageRow {
    /// The CPU that the vCPU is on.
    #[must_use]
    pub fn on_cpu(&self) -> Option<u16> {
        (self.cpu != USAGE_AREA_NO_CPU).then_some(self.cpu)
    }

    /// All cycles that are entered.
    #[must_use]
    pub fn used(&self) -> u64 {
        let hypervisor = self.hypervisor.iter();
        let all = hypervisor.fold(self.user, |sum, more| sum.wrapping_add(*more));
        all.wrapping_add(self.kernel)
    }

    /// All cycles until `tsc`, those that are not cut up yet included (A3).
    #[must_use]
    pub fn used_at(&self, tsc: u64) -> u64 {
        let open = match self.on_cpu() {
            Some(_) => tsc.saturating_sub(self.open_since),
            None => 0,
        };
        self.used().wrapping_add(open)
    }

    /// Whether the vCPU could run, and does not.
    #[must_use]
    pub fn waits(&self) -> bool {
        (self.stolen as i64) < 0
    }

    /// How long it could run and did not, until `tsc`.
    #[must_use]
    pub fn stolen_at(&self, tsc: u64) -> u64 {
        match self.waits() {
            true => self.stolen.wrapping_add(tsc),
            false => self.stolen,
        }
    }
}

/// A mapped usage area.
#[derive(Clone, Copy, Debug)]
pub struct UsageArea<'a> {
    words: &'a [AtomicU64],
}

impl<'a> UsageArea<'a> {
    /// The area in these words, which are all of its frames; `None` if it is none, or none that this was made for.
    #[must_use]
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        let area = Self { words };
        let head: UsageHead = area.value(0)?;
        let rows = (head.nr_vcpus as usize).checked_mul(head.row_bytes as usize)?;
        let end = rows.checked_add(head.rows_at as usize)?;
        let is_known = head.magic == USAGE_AREA_MAGIC && head.version == USAGE_AREA_VERSION;
        let is_aligned = (head.rows_at | head.row_bytes).is_multiple_of(8);
        let is_long = head.rows_at as usize >= USAGE_HEAD_BYTES
            && head.row_bytes as usize >= USAGE_ROW_BYTES
            && end <= words.len() * 8;
        (is_known && is_aligned && is_long).then_some(area)
    }

    /// The beginning. Of what belongs together see [`Self::frames`] and [`Self::overhead`].
    #[must_use]
    pub fn head(&self) -> UsageHead {
        self.value(0).unwrap_or(UsageHead::ZERO)
    }

    /// The domain's frames.
    #[must_use]
    pub fn frames(&self) -> UsageHeld {
        self.together(core::mem::offset_of!(UsageHead, frames))
            .unwrap_or(UsageHeld::ZERO)
    }

    /// Frames of the hypervisor's that exist because of the domain.
    #[must_use]
    pub fn overhead(&self) -> UsageHeld {
        self.together(core::mem::offset_of!(UsageHead, overhead))
            .unwrap_or(UsageHeld::ZERO)
    }

    /// A vCPU's row; `None` of one that the domain may not have.
    #[must_use]
    pub fn row(&self, vcpu: u32) -> Option<UsageRow> {
        let head = self.head();
        let at = head.rows_at as usize + vcpu as usize * head.row_bytes as usize;
        (vcpu < head.nr_vcpus).then(|| self.together(at))?
    }

    /// A value at so many bytes from the beginning, word by word.
    fn value<T: Wire>(&self, at: usize) -> Option<T> {
        let words = self.words.get(at / 8..at / 8 + T::SIZE / 8)?;
        let mut bytes = [0; USAGE_HEAD_BYTES];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.load(Relaxed).to_le_bytes();
        }
        T::read_from(&bytes)
    }

    /// A value that begins with a sequence number (A2).
    fn together<T: Wire>(&self, at: usize) -> Option<T> {
        let first = self.words.get(at / 8)?;
        loop {
            let seq = first.load(Acquire) as u32;
            let seen = self.value(at)?;
            fence(Acquire);
            if seq & 1 == 0 && first.load(Relaxed) as u32 == seq {
                return Some(seen);
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
#[path = "tests/usage_area.rs"]
mod tests;
