//! What a worker does: rounds in kernel and in user mode, for ever, and between them what vCPU 0 asks for.
//!
//! It runs beside other vCPUs, so it touches its own block and nothing of the runtime that is not one hypercall.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_runtime::abi::{nr, sched, vcpu};
use guest_runtime::events;
use guest_runtime::hypercall::call;
use guest_runtime::instructions;

use crate::block::{self, Block, HAS_AUX, HAS_AVX, IN_USER};
use crate::code;
use crate::start;

/// What can be wrong, by number from 1.
pub const WRONG: [&str; 15] = [
    "a general register",
    "a vector register",
    "MXCSR",
    "the x87 control word",
    "the x87 stack",
    "DF or ID in RFLAGS",
    "DS",
    "ES",
    "FS",
    "GS",
    "FS base",
    "TSC_AUX",
    "the debug exceptions of one round",
    "the general protection faults of one round",
    "device-not-available faults of one round",
];
/// Further numbers, for what is not of a round.
pub const WRONG_DR6: u64 = 16;
pub const WRONG_CALL: u64 = 17;
pub const WRONG_FIRST_FPU: u64 = 18;

/// What vCPU 0 may ask for.
pub mod command {
    pub const NONE: u64 = 0;
    pub const RELOAD: u64 = 1;
    pub const GO_DOWN: u64 = 2;
    pub const BLOCK: u64 = 3;
    pub const TIMER: u64 = 4;
    pub const ANSWER: u64 = 5;
}

const DF: u64 = 1 << 10;
const ID: u64 = 1 << 21;
const SPIN: u64 = 8000;

/// A page of words, one a worker, all of which every worker writes and each watches its own.
#[repr(C, align(4096))]
pub struct Watched(pub [AtomicU64; 4]);
pub static WATCHED: Watched = Watched([const { AtomicU64::new(0) }; 4]);

fn get(word: &AtomicU64) -> u64 {
    word.load(Ordering::Relaxed)
}

fn put(word: &AtomicU64, value: u64) {
    word.store(value, Ordering::Relaxed);
}

/// A different number for each worker, round and place.
fn pattern(id: u64, round: u64, place: u64) -> u64 {
    let mixed = (id << 48 ^ round << 16 ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Entered by VCPUOP_up; RDI is the worker's number.
pub extern "C" fn run(worker: usize) -> ! {
    let (kernel, user) = (block::kernel(worker), block::in_user(worker));
    first_vectors(worker, kernel);
    first_base(worker, kernel);
    if get(&kernel.flags) & HAS_AVX != 0 {
        // SAFETY: x87, SSE and AVX, which the processor has; emulated.
        unsafe { asm!("xsetbv", in("ecx") 0, in("eax") 7, in("edx") 0) };
    }
    if get(&kernel.flags) & HAS_AUX != 0 {
        instructions::wrmsr(0xc000_0103, get(&kernel.id));
    }
    let mut expected = Expected {
        selectors: start::selectors(worker),
        entered: 0,
    };
    loop {
        let round = get(&kernel.rounds) + 1;
        privileged_part(worker, kernel, round);
        for page in [kernel, user] {
            fill(page, get(&kernel.id), round);
            if get(&page.flags) & IN_USER == 0 {
                code::kernel_round();
            } else {
                code::user_round(block::user_stack(worker));
            }
            compare(kernel, page, &mut expected);
        }
        let tasks = u64::from(start::sets_task_switched(worker)) * round;
        kernel.note_unless(15, tasks, get(&kernel.traps[7]));
        count_absence(kernel, &mut expected);
        put(&kernel.rounds, round);
        obey(worker, kernel, &mut expected);
    }
}

/// The vector registers are as VCPUOP_initialise was told.
fn first_vectors(worker: usize, kernel: &Block) {
    let low: u64;
    // SAFETY: reads a register that compiled code does not use. A worker that starts with TS has to be told of its
    // first use of vectors, so it is left alone.
    unsafe {
        if start::sets_task_switched(worker) {
            return;
        }
        asm!("movq {}, xmm3", out(reg) low);
    }
    kernel.note_unless(WRONG_FIRST_FPU, start::first_vector(worker), low);
}

/// The selector in FS came with its descriptor's base. Xen 4.17 leaves it at zero; there the selector is loaded again.
fn first_base(worker: usize, kernel: &Block) {
    const FS_BASE: u32 = 0xc000_0100;
    if !start::has_fs_selector(worker) {
        return;
    }
    if start::COMPARES_BASE.get() {
        let wanted = block::in_user(worker).address();
        kernel.note_unless(11, wanted, instructions::rdmsr(FS_BASE));
    }
    let fs = u32::from(start::selectors(worker)[2]);
    // SAFETY: compiled code does not use FS; the descriptor is there.
    unsafe { asm!("mov fs, {:e}", in(reg) fs) };
}

struct Expected {
    selectors: [u16; 4],
    /// When the run state last changed, as far as was seen.
    entered: u64,
}

impl Block {
    fn note_unless(&self, what: u64, wanted: u64, got: u64) {
        if wanted != got {
            self.note_wrong(what, wanted, got);
        }
    }
}

/// What only the kernel may do: interrupt flag, debug registers, task switched.
fn privileged_part(worker: usize, kernel: &Block, round: u64) {
    // SAFETY: does nothing where the vCPU has the I/O privilege, and faults and is stepped over where not.
    unsafe { asm!("cli") };
    let faults = u64::from(!start::has_iopl(worker)) * round;
    kernel.note_unless(14, faults, get(&kernel.traps[13]));
    for word in &WATCHED.0 {
        put(word, round);
    }
    kernel.note_unless(13, round, get(&kernel.traps[1]));
    let status = call(nr::GET_DEBUGREG, [6, 0, 0, 0, 0]) as u64 & 0xf;
    kernel.note_unless(WRONG_DR6, 1, status);
    call(nr::SET_DEBUGREG, [6, 0, 0, 0, 0]);
    // The first time it is so from the start.
    if start::sets_task_switched(worker) && round > 1 {
        call(nr::FPU_TASKSWITCH, [1, 0, 0, 0, 0]);
    }
}

fn fill(page: &Block, id: u64, round: u64) {
    let mode = get(&page.flags) & IN_USER;
    let of = |place: u64| pattern(id, round, place << 1 | mode);
    for (place, word) in page.general.iter().enumerate() {
        put(word, of(place as u64));
    }
    for (place, word) in page.vector.iter().enumerate() {
        put(word, of(100 + place as u64));
    }
    let rounding = (id + round) & 3;
    page.mxcsr
        .store(0x1f80 | (rounding as u32) << 13, Ordering::Relaxed);
    page.fcw
        .store(0x37f | (rounding as u32) << 10, Ordering::Relaxed);
    // It comes back as it went in if it is a whole number of at most 63 bits.
    put(&page.x87, of(200) >> 2);
    let flags = 0x202 | if id & 1 == 0 { DF } else { 0 } | if round & 1 == 0 { ID } else { 0 };
    put(&page.rflags, flags);
    put(&page.spin, SPIN + (of(300) & 0xfff));
}

fn compare(kernel: &Block, page: &Block, expected: &mut Expected) {
    for (place, (put, seen)) in page.general.iter().zip(&page.general_seen).enumerate() {
        // RSP is what the stack is.
        if place != 4 {
            kernel.note_unless(1, get(put), get(seen));
        }
    }
    let words_each = if get(&page.flags) & HAS_AVX != 0 {
        4
    } else {
        2
    };
    for (place, (put, seen)) in page.vector.iter().zip(&page.vector_seen).enumerate() {
        if place % 4 < words_each {
            kernel.note_unless(2, get(put), get(seen));
        }
    }
    let half = |put: &core::sync::atomic::AtomicU32| u64::from(put.load(Ordering::Relaxed));
    // The low six bits are flags of what was computed.
    kernel.note_unless(3, half(&page.mxcsr), half(&page.mxcsr_seen) & !0x3f);
    kernel.note_unless(4, half(&page.fcw), half(&page.fcw_seen) & 0xffff);
    kernel.note_unless(5, get(&page.x87), get(&page.x87_seen));
    let flags = get(&page.rflags) & (DF | ID);
    kernel.note_unless(6, flags, get(&page.rflags_seen) & (DF | ID));
    for (i, seen) in page.selectors.iter().enumerate() {
        let seen = seen.load(Ordering::Relaxed);
        // One that could not be loaded again is null, and the callback said so.
        if seen == 0 && get(&kernel.failsafes) > 0 {
            expected.selectors[i] = 0;
        }
        kernel.note_unless(
            7 + i as u64,
            u64::from(expected.selectors[i]),
            u64::from(seen),
        );
    }
    kernel.note_unless(
        11,
        get(&block::in_user_of(kernel).marker),
        get(&page.fs_seen),
    );
    if get(&page.flags) & HAS_AUX != 0 {
        kernel.note_unless(12, get(&kernel.id), get(&page.aux_seen));
    }
}

/// The run state changes whenever the vCPU leaves its processor and whenever it comes back.
fn count_absence(kernel: &Block, expected: &mut Expected) {
    let entered = get(&kernel.runstate[1]) & !(1 << 63);
    if entered != expected.entered {
        expected.entered = entered;
        put(&kernel.away, get(&kernel.away) + 1);
    }
}

fn obey(worker: usize, kernel: &Block, expected: &mut Expected) {
    let wanted = kernel.command.swap(command::NONE, Ordering::Acquire);
    let this = get(&kernel.id);
    match wanted {
        command::NONE => return,
        command::RELOAD => {
            let [ds, es, ..] = start::selectors(worker).map(u32::from);
            // SAFETY: compiled code uses neither; a fault is noted by its handler.
            unsafe { asm!("mov ds, {0:e}", "mov es, {1:e}", in(reg) ds, in(reg) es) };
            expected.selectors = start::selectors(worker);
        }
        command::GO_DOWN => {
            let result = call(nr::VCPU_OP, [vcpu::DOWN, this, 0, 0, 0]);
            kernel.note_unless(WRONG_CALL, 0, result as u64);
        }
        command::BLOCK => {
            let before = get(&kernel.ipis);
            while get(&kernel.ipis) == before {
                call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]);
            }
        }
        command::TIMER => {
            let before = get(&kernel.timers);
            let mut at = [events::now_ns() + 2_000_000, 0];
            let timer = &raw mut at as u64;
            let result = call(nr::VCPU_OP, [vcpu::SET_SINGLESHOT_TIMER, this, timer, 0, 0]);
            kernel.note_unless(WRONG_CALL, 0, result as u64);
            while get(&kernel.timers) == before {
                call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]);
            }
            let early = events::now_ns() < at[0];
            kernel.note_unless(WRONG_CALL, 0, u64::from(early));
        }
        _ => {
            // A port of vCPU 0's, to be sent on.
            let result = guest_runtime::hypercall::send((wanted >> 8) as u32);
            kernel.note_unless(WRONG_CALL, 0, result as u64);
        }
    }
    kernel.done.store(wanted, Ordering::Release);
}
