//! Per-CPU data, reached from the stack pointer, and the flush clock.
//!
//! Every stack ring 0's Rust code runs on lies in its CPU's private area, aligned to its size, with the
//! [`Cpu`] structure in the last page.
//!
//! # Invariants
//! - C1: Rust code runs only on stacks of the CPU's own area (the boot stack is left before the first use).
//! - C2: `Cpu` fields that are cells are touched by their own CPU only, with interrupts off (X1).

use crate::account::Slip;
use crate::arch::cpu;
use crate::domain::Vcpu;
use crate::layout::CPU_AREAS;
use ::sched::Ledger;
use core::arch::asm;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU32, Ordering};

/// Bytes of one CPU's private area.
pub const AREA: u64 = 0x40000;
/// Ends of the stacks in the area; each starts above an unmapped guard page.
pub const MAIN_TOP: u64 = 0x21000;
pub const FAULT_TOP: u64 = 0x24000;
pub const NMI_TOP: u64 = 0x27000;
pub const MC_TOP: u64 = 0x2a000;
pub const DF_TOP: u64 = 0x2d000;
pub const DB_TOP: u64 = 0x30000;
/// Page ranges of the area that are mapped.
pub const MAPPED: [(u64, u64); 7] = [
    (0x1000, MAIN_TOP),
    (0x22000, FAULT_TOP),
    (0x25000, NMI_TOP),
    (0x28000, MC_TOP),
    (0x2b000, DF_TOP),
    (0x2e000, DB_TOP),
    (CPU_OFFSET, AREA),
];
/// Where the structure lies in the area.
pub const CPU_OFFSET: u64 = 0x3f000;

/// What one CPU knows.
#[repr(C)]
pub struct Cpu {
    /// Time stamp of the last exit to a guest, written by `exit_to_guest`.
    pub last_exit: Cell<u64>,
    /// Our number for it, from 0.
    pub id: u32,
    /// Its local APIC's id.
    pub apic_id: Cell<u32>,
    /// First address of its exposed block.
    pub block: u64,
    /// The vCPU that runs here, if any.
    pub current: Cell<Option<&'static Vcpu>>,
    /// Root in force, as loaded in CR3, while in ring 0.
    pub root: Cell<u64>,
    /// Flush clock at this CPU's last full flush.
    flushed_at: AtomicU32,
    /// Set while this CPU reports a crash, so that a second fault does not report again.
    pub crashing: Cell<bool>,
    /// Local APIC timer's deadline in force (nanoseconds), `u64::MAX` for none.
    pub timer_deadline: Cell<u64>,
    /// Somebody asked for a new scheduling decision.
    pub reschedule: Cell<bool>,
    /// NMIs taken and not told of yet.
    pub nmis: Cell<u32>,
    /// Watchpoints of the guest's that ring 0 hit while it worked for it: for the guest's status register.
    pub watched: Cell<u64>,
    /// Who used it.
    pub ledger: RefCell<Option<Ledger<'static>>>,
    /// What is not in it yet.
    pub slip: Slip,
}

impl Cpu {
    /// The structure of CPU `id`, running on ring 0's root.
    pub fn new(id: u32, block: u64, root: u64) -> Cpu {
        Cpu {
            last_exit: Cell::new(0),
            id,
            apic_id: Cell::new(0),
            block,
            current: Cell::new(None),
            root: Cell::new(root),
            flushed_at: AtomicU32::new(0),
            crashing: Cell::new(false),
            timer_deadline: Cell::new(u64::MAX),
            reschedule: Cell::new(false),
            nmis: Cell::new(0),
            watched: Cell::new(0),
            ledger: RefCell::new(None),
            slip: Slip::default(),
        }
    }
}

/// First address of a CPU's private area.
pub const fn area(id: u32) -> u64 {
    CPU_AREAS + id as u64 * AREA
}

/// This CPU's structure.
#[inline]
pub fn current() -> &'static Cpu {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    let place = (sp & !(AREA - 1)) + CPU_OFFSET;
    // SAFETY: C1; the structure is initialised before the first stack of the area is used and lives for ever.
    // The reference does not leave the CPU: interrupts are off and nothing migrates.
    unsafe { &*(place as *const Cpu) }
}

static FLUSH_CLOCK: AtomicU32 = AtomicU32::new(1);

/// The flush clock: advances with every full flush of a CPU.
#[inline]
pub fn flush_clock() -> u32 {
    FLUSH_CLOCK.load(Ordering::Acquire)
}

/// Drops every translation this CPU may hold of guest addresses.
#[inline]
pub fn flush_here() {
    let this = current();
    // The clock is read before the flush: a frame dropped in between carries the newer stamp and is flushed again.
    let now = FLUSH_CLOCK.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
    // SAFETY: reloads the root in force.
    unsafe { cpu::write_cr3(this.root.get()) };
    this.flushed_at.store(now, Ordering::Release);
}

/// Makes sure that no CPU holds a translation older than `stamp`.
///
/// One CPU runs guests so far; the others, once started, are asked by an inter-processor interrupt from here.
#[inline]
pub fn flush_since(stamp: u32) {
    let this = current();
    // Wrapping: a difference too large to tell says "flush", which is always safe.
    let newer = this.flushed_at.load(Ordering::Acquire).wrapping_sub(stamp) as i32 > 0;
    if !newer {
        flush_here();
    }
}
