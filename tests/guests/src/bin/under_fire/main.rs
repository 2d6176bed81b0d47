//! Attacks the end of domains: children whose vCPUs do, on all processors and without a pause, what takes hold of frames,
//! tables, ports and each other's grants, are destroyed in the middle of it and built anew, one after the other, while the
//! others go on and the control domain looks at them, maps their pages and pauses them. Proves that every one goes, its
//! neighbours never notice, and no frame is lost.
//!
//! xtask: memory=512M
//! xtask: dom0_mem=192M
//! xtask: seconds=180
//! xtask: parallel=4
#![cfg_attr(target_os = "none", no_std, no_main)]

mod acts;

use guest_runtime::abi::VcpuGuestContext;
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::entry::number;
use guest_runtime::window::Window;
use guest_runtime::{Global, check, check_eq, child, control, events, guest, link, say};
use guests::balance;

use acts::{ACTS, NAMES, NEIGHBOURS, SHOOTERS};

guest!(under_fire, main);

/// Children at a time, in a circle: each uses what the next one lends.
const CHILDREN: usize = 3;
/// Rounds, in each of which one is destroyed and built anew; unless the command line has `rounds=`.
const ROUNDS: u64 = 12;
/// Nanoseconds that a round's fire lasts at least, and how much longer at most.
const FIRE: u64 = 2_000_000;
const LONGER: u64 = 9_000_000;

static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

fn main() {
    let mut draw = Draw(number("seed", 1));
    let mut total = [0; ACTS];
    // The first time makes what is made once and kept.
    battle(1, &mut draw, &mut total);
    let before = balance::frames();
    battle(number("rounds", ROUNDS), &mut draw, &mut total);
    check_eq!("frames are whose they were", balance::frames(), before);
    for (name, times) in NAMES.into_iter().zip(total) {
        say!("under_fire: {name}: {times} times");
        check!(times > 0, name);
    }
}

/// Numbers that are the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % end
    }
}

fn battle(rounds: u64, draw: &mut Draw, total: &mut [u64; ACTS]) {
    let mut children: [Option<Child>; CHILDREN] = core::array::from_fn(|_| shooter());
    introduce(&children);
    for _ in 0..rounds {
        fire(&children, draw);
        let victim = draw.below(CHILDREN as u64) as usize;
        if let Some(child) = children[victim].take() {
            end(child, total, draw.below(2) == 0);
        }
        children[victim] = shooter();
        introduce(&children);
    }
    fire(&children, draw);
    // All that are left, with the fire still on; the last may wait for no other.
    let ids = children
        .each_ref()
        .map(|child| child.as_ref().map_or(0, |child| child.id));
    for child in children.iter_mut().filter_map(Option::take) {
        end(child, total, true);
    }
    for id in ids {
        check!(builder::is_gone_soon(id), "it is gone");
    }
}

/// A child that shoots at nobody yet.
fn shooter() -> Option<Child> {
    let plan = Plan {
        vcpus: SHOOTERS as u32 + 1,
        ..Plan::SMALL
    };
    let mut child = builder::running(plan)?;
    check_eq!(
        "memory to play with",
        control::max_mem(child.id, plan.pages + acts::ROOM),
        0
    );
    check_eq!("it shoots", child.call(acts::begin, [0; 5]), 0);
    Some(child)
}

/// Tells each who its neighbours are.
fn introduce(children: &[Option<Child>; CHILDREN]) {
    for (at, child) in children.iter().enumerate() {
        for (word, other) in [at + 1, at + CHILDREN - 1].into_iter().enumerate() {
            if let (Some(child), Some(other)) = (child, &children[other % CHILDREN]) {
                child.link().set(NEIGHBOURS + word, u64::from(other.id));
            }
        }
    }
}

/// Lets them shoot, and looks at one of them meanwhile in every way that there is.
fn fire(children: &[Option<Child>; CHILDREN], draw: &mut Draw) {
    let end = events::now_ns() + FIRE + draw.below(LONGER);
    let window = Window::new();
    while events::now_ns() < end {
        let Some(child) = &children[draw.below(CHILDREN as u64) as usize] else {
            return;
        };
        match draw.below(4) {
            0 => {
                check_silently("pause", child.pause());
                check_silently("unpause", child.run());
            }
            1 => {
                // SAFETY: one vCPU, one call at a time: nobody else refers to it.
                let context = unsafe { &mut *CONTEXT.as_ptr() };
                let vcpu = 1 + draw.below(SHOOTERS as u64) as u32;
                check_silently("its state", control::get_context(child.id, vcpu, context));
            }
            2 => {
                // It may be one of its tables just then.
                window.show(child.id, child.mfn(draw.below(child.pages())));
            }
            _ => {
                child::wait(&[], events::now_ns() + draw.below(200_000));
            }
        }
    }
    window.close();
}

/// One of many that are a check together.
fn check_silently(what: &str, result: i64) {
    if result != 0 {
        check_eq!(what, result, 0);
    }
}

/// Destroys a child in the middle of what it does: at once, or while a page of it is still mapped here.
fn end(mut child: Child, total: &mut [u64; ACTS], at_once: bool) {
    let link = child.link();
    for (act, total) in total.iter_mut().enumerate() {
        *total += link.get(link::FREE + act);
    }
    let id = child.id;
    if at_once {
        check_eq!("destroy", child.destroy(), 0);
        return;
    }
    check_eq!("destroy", control::destroy(id), 0);
    let counted: [u64; ACTS] = core::array::from_fn(|act| link.get(link::FREE + act));
    child::wait(&[], events::now_ns() + FIRE);
    let later: [u64; ACTS] = core::array::from_fn(|act| link.get(link::FREE + act));
    check_eq!("what a destroyed child does", later, counted);
    child.let_go();
}
