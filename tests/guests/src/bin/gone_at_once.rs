//! Proves, beside three CPUs that have nothing to do but answer, that calls which end something answer when it has ended: a
//! child that was paused counts no further and its state can be read, and when one was destroyed its memory is free, to the
//! frame, nobody has its number, and the number can be had again.
//!
//! xtask: smp=4
//! xtask: memory=512M
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{Domctl, DomctlCommand, VcpuGuestContext, errno};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{Global, check, check_eq, child, control, events, guest, link, say};

guest!(gone_at_once, main);

/// Children, one after the other, and empty domains.
const CHILDREN: u64 = 12;
const EMPTY: u64 = 200;
/// vCPUs that a child has records of.
const VCPUS: u32 = 4;
/// Looks at a child that must stand still, and nanoseconds between two.
const LOOKS: u64 = 20;
const BETWEEN: u64 = 50_000;

static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

fn main() {
    // What is made on first use and kept is made now.
    a_child();
    create_and_destroy(0);
    let before = control::free_frames();
    for _ in 0..CHILDREN {
        let id = a_child();
        is_gone(id, before);
        // The number that was just free.
        create_and_destroy(id);
        is_gone(id, before);
    }
    say!("gone_at_once: empty domains");
    for _ in 0..EMPTY {
        let id = create_and_destroy(0);
        is_gone(id, before);
    }
}

/// Step: counts for ever.
fn count(_: [u64; 5]) -> i64 {
    loop {
        if let Some(link) = child::link() {
            link.add(link::FREE, 1);
        }
    }
}

/// A child that counts, is paused, looked at, let go on, and destroyed in the middle: its number.
fn a_child() -> u16 {
    let plan = Plan {
        vcpus: VCPUS,
        ..Plan::SMALL
    };
    let Some(mut child) = builder::running(plan) else {
        return 0;
    };
    child.start(count, [0; 5]);
    let link = child.link();
    check!(child.wait_until(|_| link.get(link::FREE) > 0), "it counts");
    stands_still_paused(&child);
    check_eq!("unpause", child.run(), 0);
    let id = child.id;
    check_eq!("destroy", child.destroy(), 0);
    id
}

/// As soon as pausedomain has answered; and while its state is read, which does not let it go on.
fn stands_still_paused(child: &Child) {
    check_eq!("pause", child.pause(), 0);
    let link = child.link();
    let (counted, mut moved) = (link.get(link::FREE), 0);
    for _ in 0..LOOKS {
        check_eq!("its state", state_of(child, 0), 0);
        child::wait(&[], events::now_ns() + BETWEEN);
        moved += u64::from(link.get(link::FREE) != counted);
    }
    check_eq!("looks at which it had moved", moved, 0);
    check_eq!(
        "the state of one that has none",
        state_of(child, VCPUS - 1),
        -errno::ENODATA
    );
}

fn state_of(child: &Child, vcpu: u32) -> i64 {
    // SAFETY: one vCPU, one call at a time: nobody else refers to it.
    let context = unsafe { &mut *CONTEXT.as_ptr() };
    control::get_context(child.id, vcpu, context)
}

/// A domain of this number, or 0 for any, without vCPUs and memory, for a moment: its number.
fn create_and_destroy(asked: u16) -> u16 {
    let mut request = Domctl::new(DomctlCommand::Createdomain, asked);
    request.set_payload(&control::ordinary(1));
    check_eq!("create", control::domctl(&mut request), 0);
    check!(
        asked == 0 || request.domain == asked,
        "the number asked for"
    );
    check_eq!("destroy", control::destroy(request.domain), 0);
    request.domain
}

/// Nothing is left of a domain that was just destroyed. Elsewhere it goes later.
fn is_gone(id: u16, free: Result<u64, i64>) {
    if !control::is_ours() {
        builder::is_gone_soon(id);
        return;
    }
    check_eq!("its number", control::info(id).err(), Some(-errno::ESRCH));
    check_eq!("free frames", control::free_frames(), free);
}
