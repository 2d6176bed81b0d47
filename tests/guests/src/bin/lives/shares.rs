//! One CPU for many: children with several vCPUs, children that spin, and one generation after the other.

use guest_runtime::abi::{CODE64, DATA, VGCF_IN_KERNEL, VcpuGuestContext, vcpu};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::context::flags;
use guest_runtime::entry::has_argument;
use guest_runtime::hypercall::vcpu_op;
use guest_runtime::{
    Global, check, check_eq, child, control, events, instructions, link, page_table,
};

use crate::endings::spin;
use crate::with_child;

const VCPUS: u32 = 3;
const STACK: usize = 4096;

/// Longer than a turn of every vCPU here takes, in nanoseconds, and how often it is looked whether they had theirs.
const PATIENCE: u64 = 1_000_000_000;
const LOOK: u64 = 3_000_000;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Stack([u8; STACK]);

static STACKS: Global<[Stack; VCPUS as usize]> = Global::new([Stack([0; STACK]); VCPUS as usize]);
static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

/// What the other vCPUs do: count in a word of the shared page each.
extern "C" fn count(index: u64) -> ! {
    loop {
        if let Some(link) = child::link() {
            link.add(link::FREE + index as usize, 1);
        }
    }
}

/// Step: brings the other vCPUs up; 0 if all came.
fn bring_up([vcpus, ..]: [u64; 5]) -> i64 {
    for id in 1..vcpus {
        let mut context = VcpuGuestContext::ZERO;
        context.flags = VGCF_IN_KERNEL;
        let registers = &mut context.user_regs;
        registers.rip = count as *const () as u64;
        registers.rdi = id;
        registers.cs = CODE64;
        registers.ss = DATA;
        // As after a call: eight bytes off a multiple of 16.
        registers.rsp = STACKS.as_ptr() as u64 + (id as usize + 1) as u64 * STACK as u64 - 8;
        registers.rflags = flags::IF;
        context.kernel_ss = u64::from(DATA);
        context.kernel_sp = registers.rsp;
        context.ctrlreg[3] = page_table::root().maddr();
        CONTEXT.set(context);
        // SAFETY: nobody else refers to it.
        let argument = unsafe { &mut *CONTEXT.as_ptr() };
        let result = vcpu_op(vcpu::INITIALISE, id, argument);
        if result != 0 {
            return result;
        }
        let result = vcpu_op(vcpu::UP, id, &mut 0u64);
        if result != 0 {
            return result;
        }
    }
    0
}

fn counts(child: &Child) -> [u64; VCPUS as usize] {
    let link = child.link();
    core::array::from_fn(|index| link.get(link::FREE + index))
}

/// Lets children run until something holds: whether it does. Each nanosecond that they run is an instruction for whoever
/// waits for the test, so it ends as soon as it may.
fn comes(holds: impl Fn() -> bool) -> bool {
    let end = events::now_ns() + PATIENCE;
    while !holds() {
        if events::now_ns() > end {
            return false;
        }
        child::wait(&[], events::now_ns() + LOOK);
    }
    true
}

/// Lets children run until each vCPU of these has moved: whether it does.
fn have_turns<const N: usize>(children: [&Child; N]) -> bool {
    let before = children.map(counts);
    comes(|| {
        let mut pairs = before.iter().zip(children);
        pairs.all(|(before, child)| all_moved(*before, counts(child)))
    })
}

/// Whether each counter has moved.
fn all_moved(before: [u64; VCPUS as usize], after: [u64; VCPUS as usize]) -> bool {
    before
        .iter()
        .zip(after)
        .all(|(before, after)| after > *before)
}

/// Two children with several vCPUs each, all of which run; a pause stops every one.
pub fn processors() {
    let plan = Plan {
        vcpus: VCPUS,
        ..Plan::SMALL
    };
    with_child(plan, |one| {
        with_child(plan, |two| {
            for child in [&mut *one, &mut *two] {
                check_eq!(
                    "the others come up",
                    child.call(bring_up, [u64::from(VCPUS), 0, 0, 0, 0]),
                    0
                );
                child.start(spin, [0; 5]);
            }
            check!(have_turns([one, two]), "every vCPU of both runs");
            let info = one.info().unwrap_or_default();
            check_eq!(
                "vCPUs that are up",
                (info.nr_online_vcpus, info.max_vcpu_id),
                (VCPUS, VCPUS - 1)
            );
            check_eq!("pause", one.pause(), 0);
            let before = counts(one);
            // Twice: what is between them has had its turn by then, too.
            check!(
                have_turns([two]) && have_turns([two]),
                "the other's still do"
            );
            check_eq!("no vCPU of a paused child runs", counts(one), before);
            check_eq!("unpause", one.run(), 0);
            check!(have_turns([one]), "they run again");
        });
        check!(have_turns([one]), "one runs when the other is gone");
    });
}

/// Domains of a crowd, and the vCPUs each of them has.
const CROWD: usize = 33;
const EACH: u32 = 64;

/// Thousands of vCPUs at a time: each is made, those that come last run like any others, and the time each used is its
/// own.
pub fn crowd() {
    let mut crowd = [0u16; CROWD];
    for place in &mut crowd {
        let made = control::create(&control::ordinary(EACH));
        *place = made.unwrap_or_default();
        check_eq!("one of the crowd", made.map(|id| id != 0), Ok(true));
        check_eq!("its vCPUs", control::max_vcpus(*place, EACH), 0);
    }
    let last = control::info(crowd[CROWD - 1]).unwrap_or_default();
    check_eq!("the last one's vCPUs", last.max_vcpu_id, EACH - 1);
    processors();
    let used = |id| control::info(id).map_or(u64::MAX, |info| info.cpu_time);
    with_child(Plan::SMALL, |child| {
        child.start(spin, [0; 5]);
        check!(
            comes(|| (10_000_000..u64::MAX).contains(&used(child.id))),
            "the time of one behind it all is counted"
        );
    });
    check_eq!("time that the crowd used", crowd.map(used), [0; CROWD]);
    for domain in crowd {
        check_eq!("destroy", control::destroy(domain), 0);
    }
}

/// Children that never give up the CPU do not keep it from their parent, nor from each other.
pub fn spinning() {
    with_child(Plan::SMALL, |one| {
        with_child(Plan::SMALL, |two| {
            if has_argument("parallel") {
                // They share one CPU: the emulator's host may hold one of two back, and how far that comes is its matter.
                for child in [&*one, &*two] {
                    check_eq!("a home", control::set_affinity(child.id, 0, 1 << 1), 0);
                }
            }
            one.start(spin, [0; 5]);
            two.start(spin, [0; 5]);
            let counted = || [counts(one)[0], counts(two)[0]];
            check!(
                comes(|| counted().iter().all(|count| *count > 0)),
                "both children run"
            );
            let before = counted();
            // The parent works too, without ever sleeping: hypercalls, and plain computing.
            let start = events::now_ns();
            let mut work = 0u64;
            while events::now_ns() < start + 100_000_000 {
                work = work.wrapping_add(instructions::rdtsc() & 1) + 1;
                guest_runtime::hypercall::version();
            }
            let after = counted();
            let moved = [after[0] - before[0], after[1] - before[1]];
            check!(work > 1000, "the parent works");
            check!(moved[0] > 0 && moved[1] > 0, "both children run meanwhile");
            let (less, more) = (moved[0].min(moved[1]), moved[0].max(moved[1]));
            if !check!(less > more / 4, "neither has nearly all of the CPU") {
                guest_runtime::say!("  they counted {moved:?}");
            }
        });
    });
}

/// Many children, one after the other and three at a time, while an old one stays.
pub fn generations() {
    with_child(Plan::SMALL, |old| {
        for round in 0..4 {
            let mut young: [Option<Child>; 3] =
                core::array::from_fn(|_| builder::running(Plan::SMALL));
            for (index, child) in young.iter_mut().flatten().enumerate() {
                let answer = child.call(
                    |[a, ..]| a as i64 + 1,
                    [round * 10 + index as u64, 0, 0, 0, 0],
                );
                check_eq!("an answer", answer, (round * 10) as i64 + index as i64 + 1);
            }
            // In another order every time.
            for at in 0..3 {
                if let Some(child) = young[((at * 2 + round) % 3) as usize].take() {
                    check!(child.destroy_and_wait(), "it is gone");
                }
            }
            check_eq!("the old one answers", old.call(|_| 4, [0; 5]), 4);
        }
    });
}
