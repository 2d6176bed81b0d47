//! The usage area of a domain: frames of ring 0's own in which its accounts lie, where the domain and the control domain may
//! read them (`guest_abi::usage_area`).
//!
//! # Invariants
//! - U1: no guest ever maps one of its frames writable: they are ring 0's, of which guests may at most read
//!   (`frames`: `ring0_shows_of`). So ring 0 trusts what lies there, as it does its own records.
//! - U2: it goes with the domain's record, after the grace in which nobody finds the domain any more: then no vCPU and no
//!   payer has an account there. What others still map stays a frame of ring 0's, which nobody writes, until they let go.
//! - U3: what is shown of a domain is what somebody finds alive (`domain::get`): so nobody maps a frame of an area that is
//!   being given back.

use crate::device::timer;
use crate::layout::PAGE;
use crate::memory::{alloc, phys};
use ::sched::{SharedAccount, SharedHeld, VcpuAccount};
use core::mem::offset_of;
use frames::{DomId, Mfn};
use guest_abi::Wire;
use guest_abi::usage_area::{
    USAGE_AREA_MAGIC, USAGE_AREA_VERSION, USAGE_HEAD_BYTES, USAGE_ROW_BYTES, UsageHead,
    usage_area_frames,
};

const _: () = assert!(size_of::<VcpuAccount>() == USAGE_ROW_BYTES);

/// Where a domain's accounts lie.
#[derive(Clone, Copy)]
pub struct Area {
    first: Mfn,
    nr_frames: u32,
    nr_rows: u32,
}

/// Cycles a second.
pub fn tsc_hz() -> u64 {
    timer::clock().scale.ticks_from_ns(1_000_000_000)
}

impl Area {
    /// Makes one in which nothing is used yet, in frames that nobody is charged for; `None` if there are none.
    pub fn make(domain: DomId, serial: u64, max_vcpus: u32) -> Option<Area> {
        let nr_frames = usage_area_frames(max_vcpus as usize) as u64;
        let order = nr_frames.next_power_of_two().ilog2();
        let first = alloc::take(DomId::RING0, order, 64)?;
        // Frames come in powers of two; what is not needed goes back at once.
        for rest in nr_frames..1 << order {
            alloc::give_ring0(Mfn(first.0 + rest));
        }
        let area = Area {
            first,
            nr_frames: nr_frames as u32,
            nr_rows: max_vcpus,
        };
        let head = UsageHead {
            magic: USAGE_AREA_MAGIC,
            version: USAGE_AREA_VERSION,
            nr_frames: area.nr_frames,
            serial,
            tsc_hz: tsc_hz(),
            domid: domain.0,
            nr_vcpus: max_vcpus,
            rows_at: USAGE_HEAD_BYTES as u32,
            row_bytes: USAGE_ROW_BYTES as u32,
            ..UsageHead::ZERO
        };
        let mut bytes = [0; UsageHead::SIZE];
        let _ = head.write_to(&mut bytes);
        phys::write(first.0 * PAGE, &bytes);
        for vcpu in 0..max_vcpus {
            area.row(vcpu).close();
        }
        Some(area)
    }

    /// The frames.
    pub fn frames(self) -> impl Iterator<Item = Mfn> {
        (self.first.0..self.first.0 + u64::from(self.nr_frames)).map(Mfn)
    }

    /// Whether a frame is one of them.
    pub fn holds(self, mfn: Mfn) -> bool {
        mfn.0.wrapping_sub(self.first.0) < u64::from(self.nr_frames)
    }

    /// Gives the frames back (U2).
    pub fn give(self) {
        self.frames().for_each(alloc::give_ring0);
    }

    /// The account of a vCPU that the domain may have.
    pub fn row(self, vcpu: u32) -> &'static VcpuAccount {
        assert!(vcpu < self.nr_rows);
        self.part(USAGE_HEAD_BYTES + vcpu as usize * USAGE_ROW_BYTES)
    }

    /// The account of what is no vCPU's.
    pub fn besides(self) -> &'static SharedAccount {
        self.part(offset_of!(UsageHead, besides))
    }

    /// How many frames the domain has.
    pub fn held(self) -> &'static SharedHeld {
        self.part(offset_of!(UsageHead, frames))
    }

    /// How many of ring 0's exist because of it.
    pub fn overhead(self) -> &'static SharedHeld {
        self.part(offset_of!(UsageHead, overhead))
    }

    fn part<T: Shared>(self, at: usize) -> &'static T {
        let bytes = u64::from(self.nr_frames) * PAGE;
        assert!(at.is_multiple_of(align_of::<T>()) && (at + size_of::<T>()) as u64 <= bytes);
        let place = phys::at(self.first.0 * PAGE, bytes).wrapping_add(at);
        // SAFETY: inside the area, whose frames lie side by side in the direct map (P1 of `phys`) and were zeroed; aligned; all
        // of a `Shared` is atomic, for which any bytes are a value, and guests cannot write it (U1). Whoever has an
        // account does not keep it longer than the domain's record is there (U2).
        unsafe { &*place.cast::<T>() }
    }
}

/// What is made of atomic integers alone.
trait Shared {}
impl Shared for VcpuAccount {}
impl Shared for SharedAccount {}
impl Shared for SharedHeld {}
