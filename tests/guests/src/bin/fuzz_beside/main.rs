//! The fuzzer as ordinary domains: two children draw calls, stores, instructions and returns, each on two vCPUs, with the
//! other, the control domain and nobody as the domains they name; and, rarely, what ends a guest. Meanwhile the control
//! domain pauses them, maps their frames and grants, binds their ports. Whoever crashes, hangs or ends is destroyed and
//! built anew with the next seed.
//!
//! What they are answered does not matter. The hypervisor must stay up; what a child keeps to itself must stay its own, as
//! must what the control domain does; and after every pair each frame is whose it was, as the audit counts them.
//!
//! `seed=` starts the sequence, `count=` is how many draws are made by all children, at least.
//!
//! xtask: memory=512M
//! xtask: append=seed=1 count=24000
//! xtask: seconds=180
#![cfg_attr(target_os = "none", no_std, no_main)]

#[path = "../fuzz/calls.rs"]
mod calls;
mod child_side;
#[path = "../fuzz/draw.rs"]
mod draw;
#[path = "../fuzz/machine.rs"]
mod machine;
mod watch;

use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::entry::number;
use guest_runtime::{check, check_eq, control, frames, guest, say};
use watch::{Ended, Watcher};

guest!(fuzz_beside, main);

/// Draws that a child is asked for at a time.
const STRETCH: u64 = 1500;

fn main() {
    let (mut seed, count) = (number("seed=", 1), number("count=", 24_000));
    say!("fuzz_beside: seed={seed} count={count}");
    let canary = frames::allocate();
    for index in 0..512 {
        canary.write(index, 0x00c0_ffee_0000_0000 + index as u64);
    }
    let mut watcher = Watcher::new(seed);
    let mut ends = [0u32; Ended::NAMES.len()];
    let mut done = 0;
    // The first pair makes what the hypervisor makes on first use and keeps.
    let mut before = None;
    while done < count {
        let made = pair(seed, &mut watcher, &mut ends);
        if check::failures() > 0 {
            say!("fuzz_beside: that was seed={seed}");
            return;
        }
        seed += 2;
        done += made;
        let now = control::audit(guest_runtime::abi::DOMID_SELF as u16);
        if let Some(audit) = now {
            check_eq!("counts that are wrong", audit.mismatches, 0);
            let frames = (audit.free, audit.domain, audit.others);
            let wanted = *before.get_or_insert(frames);
            if !check_eq!("frames: free, ours, others'", frames, wanted) {
                say!("fuzz_beside: that was seed={}", seed - 2);
                return;
            }
        }
        let kept = (0..512).all(|index| canary.read(index) == 0x00c0_ffee_0000_0000 + index as u64);
        check!(kept, "the control domain's own page");
    }
    say!(
        "fuzz_beside: {done} draws, {} calls of the control domain's",
        watcher.calls
    );
    for (name, count) in Ended::NAMES.into_iter().zip(ends) {
        say!("fuzz_beside: {count} children {name}");
    }
    check!(
        ends[Ended::Answered as usize] > 0,
        "some children come to their end"
    );
}

/// Two children beside each other, until both have ended in some way: how many draws they made.
fn pair(seed: u64, watcher: &mut Watcher, ends: &mut [u32]) -> u64 {
    let plan = Plan {
        vcpus: 2,
        pages: 768,
        ..Plan::SMALL
    };
    let (Some(mut one), Some(mut two)) = (builder::running(plan), builder::running(plan)) else {
        return 0;
    };
    let ids = [one.id, two.id].map(u64::from);
    for (child, seed, other) in [(&mut one, seed, ids[1]), (&mut two, seed + 1, ids[0])] {
        child.hush();
        // Room for what populating and exchanging draw.
        check_eq!(
            "its maximum",
            control::max_mem(child.id, plan.pages + 64),
            0
        );
        child.start(child_side::fuzz, [seed, STRETCH, other, 0, 0]);
    }
    let how = watcher.watch(&mut one, &mut two);
    let made = [&one, &two].map(child_side::draws).iter().sum();
    watcher.let_go();
    for how in how {
        ends[how as usize] += 1;
        check!(how != Ended::Changed, "what a child keeps to itself");
    }
    end(one, two, seed);
    made
}

/// Destroys both. Each may hold what is the other's, so the first may linger until the second is gone too.
fn end(one: Child, two: Child, seed: u64) {
    let ids = [one.id, two.id];
    let children = if seed % 4 < 2 { [one, two] } else { [two, one] };
    for child in children {
        check_eq!("destroy", child.destroy(), 0);
    }
    for id in ids {
        check!(builder::is_gone_soon(id), "a child is gone");
    }
}
