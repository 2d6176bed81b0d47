//! The crash report: registers, backtrace, whom we served, the log's tail; once, and then the machine ends.
//!
//! # Invariants
//! - R1: one report for the machine. The reporter stops the other CPUs first and says where each was; a fault inside
//!   the report ends it; a crash on another CPU stops that CPU.
//! - R2: the report reads no address that might not be mapped: saved frames only inside [`stack_contains`], code
//!   addresses are only named, never read.
//! - R3: the report takes no lock (`console` S2, `log` L2) and allocates nothing.

use crate::arch::regs::Regs;
use crate::arch::{cpu, exposed, percpu, smp};
use crate::debug::{log, symbols};
use crate::device::power;
use crate::layout::CPU_AREAS;
use core::arch::asm;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Notes whom this CPU works for from now on.
#[inline]
pub fn set_serving(domid: u16, vcpu: u32) {
    smp::remote(percpu::current().id).serves(Some((domid, vcpu)));
}

/// Notes that this CPU works for nobody.
#[inline]
pub fn set_serving_nobody() {
    smp::remote(percpu::current().id).serves(None);
}

/// Set from a report's first line to the end of the machine.
static REPORTING: AtomicBool = AtomicBool::new(false);
/// Which CPU reports, [`NO_CPU`] for none yet.
static REPORTER: AtomicU32 = AtomicU32::new(NO_CPU);
const NO_CPU: u32 = u32::MAX;
/// Where the log ended when the report began.
static LOG_END: AtomicU64 = AtomicU64::new(0);
/// How often the reporter came here.
static ENTRIES: AtomicU32 = AtomicU32::new(0);

/// Deepest backtrace.
const DEEPEST: usize = 32;
/// Bytes of the log that a report repeats.
const TAIL: u64 = 4096;

/// Whether a crash is being reported, so that locks must not be waited for.
#[inline]
pub fn in_progress() -> bool {
    REPORTING.load(Ordering::Relaxed)
}

macro_rules! say {
    ($($arg:tt)*) => { log::write_report(format_args!($($arg)*)) };
}

/// Makes this CPU the one that reports, or does not return (R1). `rip` is where it was, if that is known.
fn begin(rip: u64) {
    // While booting, on the boot stack, there is only CPU 0.
    let this = percpu::number().unwrap_or(0);
    let claimed = REPORTER.compare_exchange(NO_CPU, this, Ordering::AcqRel, Ordering::Acquire);
    if claimed.is_err_and(|reporter| reporter != this) {
        smp::stop::crashed_too(rip);
    }
    REPORTING.store(true, Ordering::Release);
    match ENTRIES.fetch_add(1, Ordering::AcqRel) {
        0 => {
            smp::stop::others_at_once();
            LOG_END.store(log::end_of_ring(), Ordering::Relaxed);
        }
        1 => {
            say!("\n(xeno) another fault while the first was reported; the report ends here\n");
            power::halt(true)
        }
        _ => cpu::halt_for_ever(),
    }
}

/// Reports an exception taken in ring 0 that nothing can fix, and ends the machine.
pub fn fatal_exception(regs: &Regs, cr2: u64) -> ! {
    begin(regs.rip);
    say!(
        "\n(xeno) ring 0 crashed: {} (vector {:#x}), error code {:#x}\n",
        exception_name(regs.vector),
        regs.vector,
        regs.error
    );
    say!("at {}\n", Place(regs.rip));
    print_registers(regs, cr2);
    backtrace(regs.rbp);
    finish()
}

/// Reports that this CPU is stuck in ring 0, where an NMI found it.
pub fn stuck(regs: &Regs, seconds: u64) -> ! {
    begin(regs.rip);
    say!(
        "\n(xeno) ring 0 crashed: CPU {} is stuck in ring 0: it has taken no interrupt for {seconds} s\n",
        percpu::number().unwrap_or(0)
    );
    say!("at {}\n", Place(exposed::linked(regs.rip)));
    print_registers(regs, cpu::read_cr2());
    backtrace(regs.rbp);
    finish()
}

#[cfg_attr(target_os = "none", panic_handler)]
#[cfg_attr(not(target_os = "none"), allow(dead_code))]
fn panic(what: &PanicInfo<'_>) -> ! {
    begin(0);
    say!("\n(xeno) ring 0 crashed: {}", what.message());
    if let Some(place) = what.location() {
        say!(" ({place})");
    }
    say!("\n");
    let rbp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    say!(
        "cr2 {:016x}  cr3 {:016x}  cr4 {:08x}  rsp {:016x}\n",
        cpu::read_cr2(),
        cpu::read_cr3(),
        cpu::read_cr4(),
        stack_pointer()
    );
    backtrace(rbp);
    finish()
}

fn finish() -> ! {
    let this = percpu::number().unwrap_or(0);
    say!("on CPU {this}\n");
    match smp::remote(this).served() {
        None => say!("serving no domain\n"),
        Some((domain, vcpu)) => say!("serving domain {domain}, vCPU {vcpu}\n"),
    }
    for other in smp::stop::whereabouts() {
        say!("{other}\n");
    }
    log::show_hidden_tail(TAIL, LOG_END.load(Ordering::Relaxed));
    say!("(xeno) end of report\n");
    power::halt(true)
}

fn print_registers(r: &Regs, cr2: u64) {
    let rows = [
        [
            ("rax", r.rax),
            ("rbx", r.rbx),
            ("rcx", r.rcx),
            ("rdx", r.rdx),
        ],
        [
            ("rsi", r.rsi),
            ("rdi", r.rdi),
            ("rbp", r.rbp),
            ("rsp", r.rsp),
        ],
        [("r8 ", r.r8), ("r9 ", r.r9), ("r10", r.r10), ("r11", r.r11)],
        [
            ("r12", r.r12),
            ("r13", r.r13),
            ("r14", r.r14),
            ("r15", r.r15),
        ],
        [
            ("rip", r.rip),
            ("flg", r.rflags),
            ("cr2", cr2),
            ("cr3", cpu::read_cr3()),
        ],
    ];
    for row in rows {
        for (name, value) in row {
            say!("{name} {value:016x}  ");
        }
        say!("\n");
    }
    say!(
        "cs {:04x}  ss {:04x}  cr0 {:08x}  cr4 {:08x}\n",
        r.cs,
        r.ss,
        cpu::read_cr0(),
        cpu::read_cr4()
    );
}

/// An address, with the function it lies in where that is known.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)?;
        match symbols::lookup(self.0) {
            Some((name, offset)) => write!(f, "  {name}+{offset:#x}"),
            None => Ok(()),
        }
    }
}

/// Prints the callers that saved frame pointers lead to.
fn backtrace(mut frame: u64) {
    say!("called from:\n");
    for _ in 0..DEEPEST {
        // R2: both words of a saved frame: the caller's frame pointer and the return address.
        let whole = frame.is_multiple_of(8)
            && stack_contains(frame)
            && frame.checked_add(15).is_some_and(stack_contains);
        if !whole {
            return;
        }
        let words = frame as *const u64;
        // SAFETY: aligned and inside mapped stack memory of ours (R2); volatile, since any value may lie there.
        let (caller, back) = unsafe { (words.read_volatile(), words.add(1).read_volatile()) };
        if !text_contains(back) {
            return;
        }
        // The return address may be the next function's first byte, after a call that never returns.
        match symbols::lookup(back.wrapping_sub(1)) {
            Some((name, offset)) => {
                say!("  {back:#018x}  {name}+{:#x}\n", offset.saturating_add(1))
            }
            None => say!("  {back:#018x}\n"),
        }
        // Callers' frames lie higher; anything else is no chain and might be a circle.
        if caller <= frame {
            return;
        }
        frame = caller;
    }
    say!("  and more\n");
}

fn stack_pointer() -> u64 {
    let sp: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

// Linker symbols: only their addresses are used.
unsafe extern "C" {
    static text_start: u8;
    static text_end: u8;
    static data_start: u8;
    static image_end: u8;
}

fn text_contains(address: u64) -> bool {
    let (start, end) = (&raw const text_start as u64, &raw const text_end as u64);
    (start..end).contains(&address)
}

/// Whether an address is mapped stack memory that this CPU's code may run on: the stacks of its own private area,
/// or, before that is used, the boot stack in the image's data.
fn stack_contains(address: u64) -> bool {
    let sp = stack_pointer();
    if sp >= CPU_AREAS {
        let area = sp & !(percpu::AREA - 1);
        let Some(offset) = address.checked_sub(area) else {
            return false;
        };
        return percpu::MAPPED
            .iter()
            .any(|&(start, end)| (start..end).contains(&offset));
    }
    let (start, end) = (&raw const data_start as u64, &raw const image_end as u64);
    (start..end).contains(&address)
}

fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        14 => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD floating-point exception",
        20 => "virtualization exception",
        21 => "control protection exception",
        _ => "unexpected vector",
    }
}
