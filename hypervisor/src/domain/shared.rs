//! The pages a guest shares with us: shared_info and each vCPU's vcpu_info, wherever the guest moved it.
//!
//! Everything here is memory the guest can write at any moment. It is read and written by word and never trusted.

use crate::device::timer;
use crate::domain::{Domain, Vcpu};
use crate::layout::PAGE;
use crate::memory::phys;
use crate::sync::{Guard, rank};
use clock::PvClock;
use core::sync::atomic::{AtomicU64, Ordering};
use events::{Port, SharedBits, VcpuId};

const EVTCHN_PENDING: u64 = 0x800;
const EVTCHN_MASK: u64 = 0xa00;
const WALL_CLOCK: u64 = 0xc00;
/// Offsets in vcpu_info.
const UPCALL_WORD: u64 = 0x00;
const UPCALL_PENDING: u64 = 0xff;
const UPCALL_MASK: u64 = 0xff00;
const PENDING_SELECTOR: u64 = 0x08;
const CR2: u64 = 0x10;
const TIME: u64 = 0x20;

fn word_at(address: u64) -> &'static AtomicU64 {
    phys::word(frames::Mfn(address / PAGE), (address % PAGE / 8) as usize)
}

impl Vcpu {
    #[inline]
    fn info_word(&self, offset: u64) -> &'static AtomicU64 {
        let first = self.info_words.load(Ordering::Acquire);
        // SAFETY: `set_info` put it there: the first of the eight words of a vcpu_info inside one page of the direct
        // map, which is never unmapped; the offsets in use are the constants above, all below 64.
        unsafe { &*first.add((offset / 8) as usize & 7) }
    }

    /// Says where the vcpu_info is: 64 bytes inside one page, aligned to 8.
    pub fn set_info(&self, phys: u64) {
        assert!(phys.is_multiple_of(8) && phys % PAGE <= PAGE - 64);
        self.info.store(phys, Ordering::Release);
        let first: *const AtomicU64 = word_at(phys);
        self.info_words.store(first.cast_mut(), Ordering::Release);
    }

    /// Whether events may not be delivered now.
    #[inline]
    pub fn events_masked(&self) -> bool {
        self.info_word(UPCALL_WORD).load(Ordering::Relaxed) & UPCALL_MASK != 0
    }

    /// Whether an event waits.
    #[inline]
    pub fn event_pending(&self) -> bool {
        self.info_word(UPCALL_WORD).load(Ordering::Acquire) & UPCALL_PENDING != 0
    }

    /// Whether an event is to be delivered: one waits, and none is masked.
    #[inline]
    pub fn event_waits(&self) -> bool {
        let word = self.info_word(UPCALL_WORD).load(Ordering::Acquire);
        // Two bytes: one says that something waits, the other, above it, that nothing is to be delivered.
        matches!(word as u16, 1..0x100)
    }

    /// Masks or unmasks event delivery.
    #[inline]
    pub fn mask_events(&self, mask: bool) {
        let word = self.info_word(UPCALL_WORD);
        if mask {
            word.fetch_or(0x100, Ordering::AcqRel);
        } else {
            word.fetch_and(!UPCALL_MASK, Ordering::AcqRel);
        }
    }

    /// Publishes the address of a page fault.
    #[inline]
    pub fn put_cr2(&self, address: u64) {
        self.info_word(CR2).store(address, Ordering::Relaxed);
    }

    /// Publishes this CPU's clock: version odd, contents, version even. What was published, and forgotten here: it is
    /// published again when the vCPU is next loaded, if nobody says otherwise ([`Vcpu::time_shown`]). One CPU at a time: who
    /// has [`Vcpu::time`].
    pub fn put_time(&self, flags: u8, _: &Guard<'_, (), rank::Time>) -> PvClock {
        self.time_shown.store(0, Ordering::Relaxed);
        let first = self.info_word(TIME);
        let version = first.load(Ordering::Relaxed) as u32;
        let page = timer::time_page(flags, version.wrapping_add(2) & !1);
        let words = page.words();
        first.store(u64::from(version | 1), Ordering::SeqCst);
        for (i, word) in words.iter().enumerate().skip(1) {
            self.info_word(TIME + 8 * i as u64)
                .store(*word, Ordering::Release);
        }
        first.store(words[0], Ordering::SeqCst);
        page
    }
}

impl Domain {
    fn bit(&self, base: u64, port: Port) -> (&'static AtomicU64, u64) {
        let word = word_at(self.shared_info.0 * PAGE + base + 8 * port.word() as u64);
        (word, 1 << port.bit())
    }

    /// Publishes the wall clock: the time of day, in seconds and nanoseconds, when system time was zero.
    pub fn put_wall_clock(&self, seconds: u64, nanoseconds: u32) {
        let offset = self.time_offset.load(Ordering::Relaxed);
        let seconds = seconds.saturating_add_signed(offset);
        let base = self.shared_info.0 * PAGE + WALL_CLOCK;
        let first = word_at(base);
        let version = first.load(Ordering::Relaxed) as u32;
        let next = u64::from(version.wrapping_add(2) & !1);
        first.store(
            u64::from(version | 1) | (seconds & 0xffff_ffff) << 32,
            Ordering::SeqCst,
        );
        word_at(base + 8).store(
            u64::from(nanoseconds) | (seconds >> 32) << 32,
            Ordering::Release,
        );
        first.store(next | (seconds & 0xffff_ffff) << 32, Ordering::SeqCst);
    }
}

impl SharedBits for Domain {
    fn test_and_set_pending(&self, port: Port) -> bool {
        let (word, bit) = self.bit(EVTCHN_PENDING, port);
        word.fetch_or(bit, Ordering::SeqCst) & bit != 0
    }
    fn clear_pending(&self, port: Port) {
        let (word, bit) = self.bit(EVTCHN_PENDING, port);
        word.fetch_and(!bit, Ordering::SeqCst);
    }
    fn is_pending(&self, port: Port) -> bool {
        let (word, bit) = self.bit(EVTCHN_PENDING, port);
        word.load(Ordering::SeqCst) & bit != 0
    }
    fn is_masked(&self, port: Port) -> bool {
        let (word, bit) = self.bit(EVTCHN_MASK, port);
        word.load(Ordering::SeqCst) & bit != 0
    }
    fn clear_mask(&self, port: Port) {
        let (word, bit) = self.bit(EVTCHN_MASK, port);
        word.fetch_and(!bit, Ordering::SeqCst);
    }
    fn test_and_set_selector(&self, vcpu: VcpuId, word: usize) -> bool {
        let Some(vcpu) = self.vcpu(u32::from(vcpu.0)) else {
            return true;
        };
        let bit = 1u64 << (word & 63);
        vcpu.info_word(PENDING_SELECTOR)
            .fetch_or(bit, Ordering::SeqCst)
            & bit
            != 0
    }
    fn set_all_selectors(&self, vcpu: VcpuId) {
        if let Some(vcpu) = self.vcpu(u32::from(vcpu.0)) {
            vcpu.info_word(PENDING_SELECTOR).store(!0, Ordering::SeqCst);
        }
    }
    fn test_and_set_upcall_pending(&self, vcpu: VcpuId) -> bool {
        let Some(vcpu) = self.vcpu(u32::from(vcpu.0)) else {
            return true;
        };
        vcpu.info_word(UPCALL_WORD).fetch_or(1, Ordering::SeqCst) & UPCALL_PENDING != 0
    }
}
