//! Several vCPUs of one guest that do the same thing at once: on one processor they take turns wherever they yield and
//! wherever a turn ends, on several they truly race.
//!
//! vCPU 0 starts a round and waits until every racer has done its part; what it looks at then is at rest. A racer runs
//! beside others, so it touches atomics, memory of its own and what it fights for, makes hypercalls, and uses nothing else
//! of the runtime. What it finds wrong it notes; vCPU 0 says so.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use guest_runtime::abi::{
    CODE64, DATA, Poll, SharedInfo, TI_MASK_EVENTS, TrapInfo, VGCF_IN_KERNEL, VcpuGuestContext, nr,
    sched, vcpu,
};
use guest_runtime::hypercall::{call, sched_op, vcpu_op};
use guest_runtime::{Global, check, check_eq, events, page_table};

use crate::accepted;

/// Most racers there can be.
pub const MOST: usize = 4;
/// What an instruction that faulted comes to.
pub const FAULTED: u64 = u64::MAX;

const STACK: usize = 16 * 1024;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Stack([u8; STACK]);

/// What a racer's GS base leads to.
#[repr(C)]
struct Own {
    /// Where its vcpu_info lies.
    info: AtomicU64,
    /// How often it was told of events.
    told: AtomicU64,
}

static OWN: [Own; MOST] = [const {
    Own {
        info: AtomicU64::new(0),
        told: AtomicU64::new(0),
    }
}; MOST];
static STACKS: Global<[Stack; MOST]> = Global::new([Stack([0; STACK]); MOST]);
/// What VCPUOP_initialise was last given.
static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);
/// What the racers do, and how many there are.
static WORK: Global<Option<fn(&mut Racer)>> = Global::new(None);
static COUNT: Global<usize> = Global::new(0);

/// The round that is on, and how often a racer was done with one.
static ROUND: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

/// The first thing that was wrong: claimed, and there.
static WRONG_CLAIMED: AtomicBool = AtomicBool::new(false);
static WRONG_THERE: AtomicBool = AtomicBool::new(false);
static WRONG: Global<Option<(&str, u64, u64)>> = Global::new(None);

/// One of them, in a round.
pub struct Racer {
    /// Its number, from 0; its vCPU's is one more.
    pub number: usize,
    /// The round, from 1.
    pub round: u64,
    state: u64,
    /// How often it had been told of events when it looked last.
    seen: u64,
}

impl Racer {
    /// A number below `end`, another each time, and the same in each run.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }

    /// Whether events wait for it, and whether it is not to be told of them: bytes of its own vcpu_info.
    fn upcall(&self) -> [&'static AtomicU8; 2] {
        let info = OWN[self.number].info.load(Ordering::Relaxed);
        // SAFETY: its own vcpu_info, mapped for good; others change it as other threads would.
        [0, 1].map(|at| unsafe { AtomicU8::from_ptr((info + at) as *mut u8) })
    }

    /// Waits until a port that leads to its vCPU is pending, and takes that: running, without a call, until it is told. Only
    /// if that takes long it lets others go first: on one processor who is to tell it waits for its turn.
    pub fn spin_for(&mut self, port: u32) {
        let [waits, mask] = self.upcall();
        mask.store(0, Ordering::SeqCst);
        if waits.load(Ordering::SeqCst) != 0 {
            // What came before it was unmasked is delivered on the way out of a call.
            give_way();
        }
        let told = &OWN[self.number].told;
        while !events::clear_port(port) {
            let mut spins = 0u32;
            while told.load(Ordering::Acquire) == self.seen {
                core::hint::spin_loop();
                spins += 1;
                if spins.is_multiple_of(LONG) {
                    give_way();
                }
            }
            self.seen = told.load(Ordering::Acquire);
        }
    }

    /// Waits until a port that leads to its vCPU is pending, and takes that: asleep for any event, if the port is not
    /// masked.
    pub fn sleep_for(&self, port: u32) {
        let [_, mask] = self.upcall();
        loop {
            // What comes from here on is delivered when the call unmasks it, and ends the sleep.
            mask.store(1, Ordering::SeqCst);
            if events::clear_port(port) {
                return;
            }
            call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]);
        }
    }

    /// As [`Self::sleep_for`], asleep for this port alone, masked or not.
    pub fn poll_for(&self, port: u32) {
        while !events::clear_port(port) {
            let ports = [port];
            let mut poll = Poll {
                ports: ports.as_ptr() as u64,
                nr_ports: 1,
                ..Poll::ZERO
            };
            expect("a poll", sched_op(sched::POLL, &mut poll) as u64, 0);
        }
    }

    /// Does something again and again: so often, or until the round has taken long. On several processors each change of a
    /// table waits for others to flush, and how long that takes is the emulator's host's matter.
    pub fn often(&mut self, times: u64, mut act: impl FnMut(&mut Racer)) {
        let end = ENDS.load(Ordering::Acquire);
        for _ in 0..times {
            act(self);
            if events::now_ns() >= end {
                break;
            }
        }
    }

    /// Lets others go first, now and then.
    pub fn now_and_then(&mut self) {
        if self.below(4) == 0 {
            give_way();
        }
    }
}

/// How long a round in which things are done [`Racer::often`] may take, and the system time at which this one has.
const LONG_ROUND_NS: u64 = 1_000_000_000;
static ENDS: AtomicU64 = AtomicU64::new(0);

/// Turns of a loop that are long: far longer than it takes to tell another processor that is there.
const LONG: u32 = 5_000;

/// Lets others go first.
pub fn give_way() {
    call(nr::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]);
}

/// How long one sleeps who has nothing to do.
const NAP_NS: u64 = 100_000;

/// Sleeps a little: who only waits leaves the processor, and the emulator's host, to those who race. Every one that races
/// waits for all others that hold translations to flush, and where the host has fewer processors than the machine an answer
/// takes as long as the host lets others run.
fn nap() {
    let mut poll = Poll {
        timeout: events::now_ns() + NAP_NS,
        ..Poll::ZERO
    };
    expect("a nap", sched_op(sched::POLL, &mut poll) as u64, 0);
}

/// Notes what is not as it must be.
pub fn wrong(what: &'static str, wanted: u64, got: u64) {
    if !WRONG_CLAIMED.swap(true, Ordering::AcqRel) {
        WRONG.set(Some((what, wanted, got)));
        WRONG_THERE.store(true, Ordering::Release);
    }
}

/// Notes what is not as it must be, if it is not.
pub fn expect(what: &'static str, got: u64, wanted: u64) {
    if got != wanted {
        wrong(what, wanted, got);
    }
}

/// Starts racers on vCPUs 1 and up, which wait for the first round.
pub fn start(count: usize, work: fn(&mut Racer)) {
    assert!(count <= MOST);
    WORK.set(Some(work));
    COUNT.set(count);
    for (racer, own) in OWN.iter().enumerate().take(count) {
        let id = racer as u64 + 1;
        let info = events::shared() as *const SharedInfo as u64 + 64 * id;
        own.info.store(info, Ordering::Relaxed);
        CONTEXT.set(context(racer));
        // SAFETY: the hypervisor reads it during the call and nobody keeps a reference.
        let context = unsafe { &mut *CONTEXT.as_ptr() };
        accepted("initialise", vcpu_op(vcpu::INITIALISE, id, context));
        accepted("up", call(nr::VCPU_OP, [vcpu::UP, id, 0, 0, 0]));
    }
}

fn context(racer: usize) -> VcpuGuestContext {
    let mut c = VcpuGuestContext::ZERO;
    c.flags = VGCF_IN_KERNEL;
    let r = &mut c.user_regs;
    r.rip = run as *const () as u64;
    // As behind a call.
    let top = STACKS.as_ptr() as u64 + ((racer + 1) * STACK) as u64;
    r.rsp = top - 8;
    r.rdi = racer as u64;
    (r.cs, r.ss) = (CODE64, DATA & !3);
    c.trap_ctxt[14] = TrapInfo {
        vector: 14,
        flags: TI_MASK_EVENTS,
        cs: CODE64,
        address: code::page_fault(),
        ..TrapInfo::ZERO
    };
    c.kernel_ss = u64::from(DATA);
    c.kernel_sp = top;
    c.event_callback_eip = code::event();
    c.gs_base_kernel = &raw const OWN[racer] as u64;
    c.ctrlreg[3] = page_table::root().maddr();
    c
}

/// Entered by VCPUOP_up; RDI is the racer's number.
extern "C" fn run(number: usize) -> ! {
    let mut racer = Racer {
        number,
        round: 0,
        seen: 0,
        state: 0x9e37_79b9_7f4a_7c15 ^ number as u64,
    };
    let work = WORK.get();
    loop {
        while ROUND.load(Ordering::Acquire) == racer.round {
            nap();
        }
        racer.round += 1;
        if let Some(work) = work {
            work(&mut racer);
        }
        DONE.fetch_add(1, Ordering::AcqRel);
    }
}

/// One round: each racer does its part once. Counts one check: that none of them found anything wrong.
pub fn round() -> bool {
    begin();
    end()
}

/// Begins a round.
pub fn begin() {
    ENDS.store(events::now_ns() + LONG_ROUND_NS, Ordering::Release);
    ROUND.fetch_add(1, Ordering::AcqRel);
}

/// Whether all have done their part of the round.
pub fn is_over() -> bool {
    DONE.load(Ordering::Acquire) == ROUND.load(Ordering::Acquire) * COUNT.get() as u64
}

/// Waits for the end of a round, and counts a check as [`round`].
pub fn end() -> bool {
    while !is_over() {
        nap();
    }
    let wrong = match WRONG_THERE.load(Ordering::Acquire) {
        true => WRONG.get(),
        false => None,
    };
    match wrong {
        None => check::condition("what the racers saw is right", true),
        Some((what, wanted, got)) => {
            check::fail(format_args!("{what}, wanted {wanted:#x}, got {got:#x}"));
            false
        }
    }
}

/// Takes the racers down.
pub fn stop() {
    for id in 1..=COUNT.get() as u64 {
        accepted("down", call(nr::VCPU_OP, [vcpu::DOWN, id, 0, 0, 0]));
        let is_up = call(nr::VCPU_OP, [vcpu::IS_UP, id, 0, 0, 0]);
        check_eq!("it is down", is_up, 0);
    }
}

/// Single accesses to memory that may not be there, or to tables that must not be written: [`FAULTED`] if they fault.
pub mod code {
    macro_rules! accesses {
        ($($(#[$attribute:meta])* $name:ident($($argument:ident),*) = $symbol:ident: $($line:literal),+;)+) => {
            $(
                $(#[$attribute])*
                pub fn $name($($argument: u64),*) -> u64 {
                    unsafe extern "C" {
                        fn $symbol($($argument: u64),*) -> u64;
                    }
                    // SAFETY: one access; what it does to memory is the caller's to answer for (see the runtime's text), and a
                    // fault is stepped over.
                    unsafe { $symbol($($argument),*) }
                }
            )+
            #[cfg(target_os = "none")]
            core::arch::global_asm!(
                ".pushsection .text.racers, \"ax\", @progbits",
                "racers_begin:",
                $(concat!(".global ", stringify!($symbol)), concat!(stringify!($symbol), ":"), $($line,)+ "ret",)+
                "racers_end:",
                "racers_faulted:",
                "mov rax, -1",
                "ret",
                // The frame: RCX, R11, error code, RIP, CS, RFLAGS, RSP, SS. An access above ends as one that faulted; what
                // else faults ends the guest.
                ".global racers_page_fault",
                "racers_page_fault:",
                "pop rcx",
                "pop r11",
                "lea rsp, [rsp + 8]",
                "push rax",
                "push rdx",
                "mov rax, [rsp + 16]",
                "lea rdx, [rip + racers_begin]",
                "cmp rax, rdx",
                "jb 2f",
                "lea rdx, [rip + racers_end]",
                "cmp rax, rdx",
                "jae 2f",
                "lea rax, [rip + racers_faulted]",
                "mov [rsp + 16], rax",
                "pop rdx",
                "pop rax",
                "racers_return:",
                "push 0",
                "push rcx",
                "push r11",
                "push rax",
                "mov eax, 23",
                "syscall",
                "2: ud2",
                // An event: the racer looks at its ports itself, and is told of the next.
                ".global racers_event",
                "racers_event:",
                "pop rcx",
                "pop r11",
                "push rax",
                "mov rax, gs:[0]",
                "mov byte ptr [rax], 0",
                "mov qword ptr [rax + 8], 0",
                "inc qword ptr gs:[8]",
                "pop rax",
                "jmp racers_return",
                ".popsection",
            );
        };
    }

    accesses! {
        /// Reads a word.
        read(at) = racers_read: "mov rax, [rdi]";
        /// Stores a word.
        store(at, value) = racers_store: "xor eax, eax", "mov [rdi], rsi";
        /// Exchanges a word.
        exchange(at, value) = racers_exchange: "mov rax, rsi", "xchg [rdi], rax";
        /// Clears bit 1, the permission to write of an entry.
        protect(at) = racers_protect: "xor eax, eax", "lock and byte ptr [rdi], 0xfd";
        /// Clears bit 0, an entry's being present.
        remove(at) = racers_remove: "xor eax, eax", "lock btr qword ptr [rdi], 0";
        /// Stores a word in place of an old one.
        replace(at, old, new) = racers_replace: "mov rax, rsi", "lock cmpxchg [rdi], rdx";
    }

    /// The handler of events.
    pub(super) fn event() -> u64 {
        unsafe extern "C" {
            static racers_event: u8;
        }
        &raw const racers_event as u64
    }

    /// The handler of page faults.
    pub(super) fn page_fault() -> u64 {
        unsafe extern "C" {
            static racers_page_fault: u8;
        }
        &raw const racers_page_fault as u64
    }
}
