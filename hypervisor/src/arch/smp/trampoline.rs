//! The first code of other CPUs (`trampoline.s`): its page below 640 KiB, and the tables it runs on.

use crate::arch::paging;
use crate::boot::memory;
use crate::layout::{FIRST_SLOT, IMAGE, PAGE, PRIVATE_SLOTS};
use crate::memory::{alloc, phys};
use arrayvec::ArrayVec;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering};
use frames::{DomId, Mfn};

global_asm!(include_str!("trampoline.s"));

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline32: u8;
    static trampoline64: u8;
    static trampoline_end: u8;
}

/// Offsets in the trampoline's page, as `trampoline.s` has them.
mod at {
    pub const WANTED: u64 = 0xf00;
    pub const APIC_ID: u64 = 0xf04;
    pub const STATUS: u64 = 0xf08;
    pub const CR3: u64 = 0xf0c;
    pub const STACK: u64 = 0xf10;
    pub const ENTRY: u64 = 0xf18;
    pub const GDTR: u64 = 0xf20;
    pub const FAR32: u64 = 0xf28;
    pub const FAR64: u64 = 0xf30;
    pub const GDT: u64 = 0xf40;
}

/// Flat segments: 32-bit code, data, 64-bit code.
const GDT: [u64; 4] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00af_9b00_0000_ffff,
];
const CODE32: u64 = 0x08;
const CODE64: u64 = 0x18;

/// What the trampoline says of its CPU.
const UNFIT: u32 = 2;

/// The page below 1 MiB with the first code, and the tables it runs on.
pub struct Trampoline {
    /// The page's number.
    pub page: u8,
    /// Root, and the three tables that map the page at its own address. Given back at the end.
    tables: ArrayVec<Mfn, 4>,
}

impl Trampoline {
    /// Puts the code in its page, to lead to `next`. `None` where there is no page or no memory.
    pub fn new(next: extern "C" fn() -> !) -> Option<Trampoline> {
        let page = memory::first_code_page()?;
        let base = u64::from(page) * PAGE;
        let mut tables = ArrayVec::new();
        for _ in 0..tables.capacity() {
            // Real mode loads 32 bits of CR3.
            tables.push(alloc::take(DomId::RING0, 0, 32)?);
        }
        let [root, l3, l2, l1] = tables[..] else {
            return None;
        };
        let put = |table: Mfn, index: usize, entry: u64| {
            phys::word(table, index).store(entry, Ordering::Release);
        };
        for slot in FIRST_SLOT..PRIVATE_SLOTS.end {
            let entry = phys::word(paging::root(), slot).load(Ordering::Acquire);
            put(root, slot, entry);
        }
        put(root, 0, (l3.0 * PAGE) | paging::bits::TABLE);
        put(l3, 0, (l2.0 * PAGE) | paging::bits::TABLE);
        put(l2, 0, (l1.0 * PAGE) | paging::bits::TABLE);
        put(l1, usize::from(page), base | paging::bits::RX);
        let start = &raw const trampoline_start as u64;
        let offset = |symbol: *const u8| symbol as u64 - start;
        let len = offset(&raw const trampoline_end);
        assert!(len <= at::WANTED, "the trampoline runs into its own data");
        phys::copy_phys(base, start - IMAGE, len);
        for (i, descriptor) in GDT.iter().enumerate() {
            phys::write_u64(base + at::GDT + 8 * i as u64, *descriptor);
        }
        let limit = size_of_val(&GDT) as u64 - 1;
        phys::write_u64(base + at::GDTR, limit | (base + at::GDT) << 16);
        let far = |symbol, selector: u64| (base + offset(symbol)) | selector << 32;
        phys::write_u64(base + at::FAR32, far(&raw const trampoline32, CODE32));
        phys::write_u64(base + at::FAR64, far(&raw const trampoline64, CODE64));
        phys::write_u64(base + at::ENTRY, next as *const () as u64);
        let trampoline = Trampoline { page, tables };
        trampoline.word(at::WANTED).store(0, Ordering::Release);
        let cr3 = (root.0 * PAGE) as u32;
        trampoline.word(at::CR3).store(cr3, Ordering::Release);
        Some(trampoline)
    }

    /// A word of 32 bits in the page.
    fn word(&self, offset: u64) -> &AtomicU32 {
        phys::half(phys::page(Mfn(u64::from(self.page))), offset as usize / 4)
    }

    /// Says who is wanted, and which stack is his.
    pub fn want(&self, apic_id: u32, stack: u64) {
        self.word(at::APIC_ID).store(apic_id, Ordering::Relaxed);
        self.word(at::STATUS).store(0, Ordering::Relaxed);
        phys::write_u64(u64::from(self.page) * PAGE + at::STACK, stack);
        self.word(at::WANTED).store(1, Ordering::SeqCst);
    }

    /// Whether nobody has come yet.
    pub fn is_wanted(&self) -> bool {
        self.word(at::WANTED).load(Ordering::Acquire) != 0
    }

    /// Wants nobody any more. True if nobody had come.
    pub fn withdraw(&self) -> bool {
        self.word(at::WANTED).swap(0, Ordering::AcqRel) != 0
    }

    /// Whether who came has no 64-bit mode, or no NX.
    pub fn says_unfit(&self) -> bool {
        self.word(at::STATUS).load(Ordering::Acquire) == UNFIT
    }
}

impl Drop for Trampoline {
    fn drop(&mut self) {
        for &table in &self.tables {
            alloc::give_ring0(table);
        }
    }
}
