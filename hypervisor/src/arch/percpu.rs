//! Per-CPU data, reached from the stack pointer.
//!
//! Every stack ring 0's Rust code runs on lies in its CPU's private area, aligned to its size, with the
//! [`Cpu`] structure in the last page.
//!
//! # Invariants
//! - C1: Rust code runs only on stacks of the CPU's own area (the boot stack is left before the first use).
//! - C2: `Cpu` fields that are cells are touched by their own CPU only, with interrupts off (X1). What others may
//!   look at is in `smp`, by the CPU's number.

use crate::account;
use crate::debug::sections::Kind;
use crate::domain::Vcpu;
use crate::layout::CPU_AREAS;
use crate::sync::OnThisCpu;
use ::clock::{NearClock, Offset};
use ::cpus::MAX_CPUS;
use core::arch::asm;
use core::cell::Cell;
use frames::{DomId, Mfn};

pub use crate::arch::smp::flush::{flush_clock, flush_here, flush_since};

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
    /// Our number for it, from 0.
    pub id: u32,
    /// First address of its exposed block.
    pub block: u64,
    /// The vCPU that runs here, if any.
    pub current: Cell<Option<&'static Vcpu>>,
    /// The serial number of the domain that ran here last, if any did; it may be gone.
    pub last_domain: Cell<Option<u64>>,
    /// The root that ring 0 runs on here while an isolated domain does (`domain::exposed_area`). There before any does.
    pub isolated_root: Cell<Mfn>,
    /// Root in force, as loaded in CR3, while in ring 0.
    pub root: Cell<u64>,
    /// Local APIC timer's deadline in force (nanoseconds), `u64::MAX` for none.
    pub timer_deadline: Cell<u64>,
    /// When it looks at the CPU that it watches (nanoseconds), `u64::MAX` for never (`smp::watch`).
    pub look_at_ns: Cell<u64>,
    /// How far its time-stamp counter is ahead of CPU 0's, where that is corrected (`smp::skew`).
    pub tsc_offset: Cell<Offset>,
    /// The machine's clock as it reads it by its own counter (`device::timer`).
    pub clock: Cell<NearClock>,
    /// Somebody asked for a new scheduling decision.
    pub reschedule: Cell<bool>,
    /// The vCPU in hand has something to finish before its guest goes on (`domain::unfinished`).
    pub unfinished: Cell<bool>,
    /// Units of work that may still be done before interrupts are let in ([`crate::hypercall::BUDGET`]).
    pub budget: Cell<i32>,
    /// Whose tables somebody else has in progress that the vCPU in hand waits for.
    pub busy: Cell<Option<DomId>>,
    /// Interrupts are let in in the middle of a piece of work, which goes on with what it found (`smp::grace`).
    pub holds: Cell<bool>,
    /// The last hypercall made here.
    pub call: Cell<u64>,
    /// Whether sections are measured (`debug::sections`), when the one in hand began and what it is for.
    pub measuring: Cell<bool>,
    pub section_began: Cell<u64>,
    pub section_kind: Cell<Kind>,
    /// NMIs taken and not told of yet.
    pub nmis: Cell<u32>,
    /// Watchpoints of the guest's that ring 0 hit while it worked for it: for the guest's status register.
    pub watched: Cell<u64>,
    /// Who used it.
    pub books: account::Here,
    /// Which locks it holds (`sync`).
    pub locks: OnThisCpu,
}

impl Cpu {
    /// The structure of CPU `id`, running on ring 0's root.
    pub fn new(id: u32, block: u64, root: u64) -> Cpu {
        Cpu {
            id,
            block,
            current: Cell::new(None),
            last_domain: Cell::new(None),
            isolated_root: Cell::new(Mfn(0)),
            root: Cell::new(root),
            timer_deadline: Cell::new(u64::MAX),
            look_at_ns: Cell::new(u64::MAX),
            tsc_offset: Cell::new(Offset::NONE),
            clock: Cell::new(NearClock::NANOSECONDS),
            reschedule: Cell::new(false),
            unfinished: Cell::new(false),
            budget: Cell::new(i32::MAX),
            busy: Cell::new(None),
            holds: Cell::new(false),
            call: Cell::new(0),
            measuring: Cell::new(false),
            section_began: Cell::new(0),
            section_kind: Cell::new(Kind::Waiting),
            nmis: Cell::new(0),
            watched: Cell::new(0),
            books: account::Here::new(),
            locks: OnThisCpu::default(),
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
    // Pure: whatever stack it is, it is one of this CPU's (C1), and so the result is the same everywhere.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(pure, nomem, nostack, preserves_flags)) };
    let place = (sp & !(AREA - 1)) + CPU_OFFSET;
    // SAFETY: C1; the structure is initialised before the first stack of the area is used and lives for ever.
    // The reference does not leave the CPU: interrupts are off and nothing migrates.
    unsafe { &*(place as *const Cpu) }
}

/// Number of the CPU this runs on; `None` while booting, on the boot stack. Reads nothing, so that it serves reports.
pub fn number() -> Option<u32> {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    let number = sp.checked_sub(CPU_AREAS)? / AREA;
    u32::try_from(number)
        .ok()
        .filter(|number| (*number as usize) < MAX_CPUS)
}

/// Whether this runs on the stack of NMIs or of machine checks, which come whatever the CPU is at.
pub fn is_on_deaf_stack() -> bool {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    (FAULT_TOP..MC_TOP).contains(&(sp % AREA))
}
