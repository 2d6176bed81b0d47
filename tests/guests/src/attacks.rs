//! The known attacks on accounts and shares of processor time, each a step of a child's that does it for ever, and what their
//! victim does. Work is counted in words of the page that a child shares with its parent.

use core::arch::asm;

use guest_runtime::abi::grant::{Copy, CopyPtr};
use guest_runtime::abi::{DOMID_SELF, mmuext, nr, sched};
use guest_runtime::frames::{self, Page};
use guest_runtime::{child, events, hypercall, link};

use crate::accounts::{self, SPIN};
use crate::lending;

/// Instructions that the victim has executed, in whole turns of [`TURN`].
pub const VICTIMS: usize = link::FREE;
/// Instructions of work that the attacker has got done.
pub const WORK: usize = link::FREE + 1;
/// What the attacker did of its kind: yields, sleeps, calls.
pub const DEEDS: usize = link::FREE + 2;

/// Turns of the inner loop.
const INNER: u64 = 40;
/// Instructions of a turn of the victim's.
pub const TURN: u64 = 2 * INNER + 3;

/// How long turns of best effort are, and where a tick would be.
const TICK_NS: u64 = 10_000_000;

fn word(index: usize) -> u64 {
    child::link().expect("a child has a link").address + 8 * index as u64
}

/// Counts its own instructions.
pub fn counts([..]: [u64; 5]) -> i64 {
    // SAFETY: counts up a word of the page shared with the parent, for ever.
    unsafe {
        asm!(
            "2:",
            "mov eax, {inner}",
            "3:",
            "dec eax",
            "jnz 3b",
            "add qword ptr [rcx], {turn}",
            "jmp 2b",
            inner = const INNER,
            turn = const TURN,
            in("rcx") word(VICTIMS),
            options(noreturn),
        );
    }
}

/// Executes and counts so many thousand instructions.
fn work(thousands: u64) {
    let link = child::link().expect("a child has a link");
    for _ in 0..thousands {
        accounts::spin(1000 / SPIN);
        link.add(WORK, 1000);
    }
}

fn did() {
    if let Some(link) = child::link() {
        link.add(DEEDS, 1);
    }
}

fn sleep_until(deadline: u64) {
    child::wait(&[], deadline);
}

/// Just works.
pub fn works([..]: [u64; 5]) -> i64 {
    loop {
        work(10);
    }
}

/// Works for nearly a turn, and yields before it is over.
pub fn yields_early([..]: [u64; 5]) -> i64 {
    loop {
        let begun = events::now_ns();
        while events::now_ns() - begun < TICK_NS * 9 / 10 {
            work(10);
        }
        hypercall::call(nr::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]);
        did();
    }
}

/// Works, and sleeps whenever a tick would come, so that it never would find it running.
pub fn sleeps_over_ticks([..]: [u64; 5]) -> i64 {
    loop {
        let now = events::now_ns();
        let next = now.next_multiple_of(TICK_NS);
        if next - now < TICK_NS / 10 {
            sleep_until(next + TICK_NS / 50);
            did();
        } else {
            work(10);
        }
    }
}

/// Sleeps for a moment, works for a moment.
pub fn wakes_often([..]: [u64; 5]) -> i64 {
    loop {
        sleep_until(events::now_ns() + 100_000);
        did();
        work(5);
    }
}

/// Has its timer fire again and again while the other runs: each is set as soon as it is on.
pub fn timers([..]: [u64; 5]) -> i64 {
    loop {
        // It is late already when the call comes back: the interrupt is another's that runs next.
        let soon = events::now_ns() + 20_000;
        hypercall::call(nr::SET_TIMER_OP, [soon, 0, 0, 0, 0]);
        sleep_until(soon + 30_000);
        did();
        work(1);
    }
}

/// Many calls that do nothing.
pub fn tiny_calls([..]: [u64; 5]) -> i64 {
    loop {
        for _ in 0..20 {
            hypercall::version();
            did();
        }
        work(1);
    }
}

/// Notifies its parent without end, which is the control domain.
pub fn storm([..]: [u64; 5]) -> i64 {
    loop {
        for _ in 0..10 {
            hypercall::send(child::port());
            did();
        }
        work(1);
    }
}

/// Has the hypervisor copy pages.
pub fn copies([..]: [u64; 5]) -> i64 {
    let (from, to) = (frames::allocate(), frames::allocate());
    let place = |page: Page| CopyPtr {
        u: page.mfn(),
        domid: DOMID_SELF as u16,
        ..CopyPtr::ZERO
    };
    loop {
        // By frames, not by grants.
        let mut copy = Copy {
            source: place(from),
            dest: place(to),
            len: 4096,
            ..Copy::ZERO
        };
        lending::op(COPY, &mut copy);
        did();
        work(1);
    }
}

/// GNTTABOP_copy.
const COPY: u64 = 5;

/// Has all translations dropped, the other's as well.
pub fn flushes([..]: [u64; 5]) -> i64 {
    loop {
        hypercall::mmuext(mmuext::TLB_FLUSH_ALL, 0, 0);
        did();
        work(1);
    }
}
