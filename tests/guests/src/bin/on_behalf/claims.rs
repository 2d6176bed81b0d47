//! Memory set aside for a domain: promised once, taken by nobody else, given back with the domain.

use guest_runtime::abi::{DOMID_SELF, errno, memory};
use guest_runtime::builder::{self, Child, Plan, Stage};
use guest_runtime::{check, check_eq, control, say};
use guests::accepted;

use crate::reservations::reservation;
use crate::{either, memory_op};

fn claim(domain: u16, frames: u64) -> i64 {
    memory_op(memory::CLAIM_PAGES, &mut reservation(domain, 0, frames, 0))
}

fn created() -> Child {
    let plan = Plan {
        until: Stage::HasVcpus,
        ..Plan::SMALL
    };
    builder::build(plan).expect("a domain is created")
}

fn free() -> u64 {
    control::free_frames().unwrap_or(0)
}

pub fn all() {
    let (one, two) = (created(), created());
    wrong(&one);
    let free = free();
    for child in [&one, &two] {
        accepted("as much as there is", control::max_mem(child.id, 2 * free));
    }
    check_eq!(
        "more than there is",
        claim(one.id, free + 4096),
        -errno::ENOMEM
    );
    accepted("all but 64 MiB", claim(one.id, free - 0x4000));
    check_eq!("twice", claim(one.id, 512), -errno::EINVAL);
    check_eq!("what is promised", claim(two.id, 0x8000), -errno::ENOMEM);
    accepted("what is not", claim(two.id, 0x2000));
    // The claims are all but 32 MiB: somebody else does not get 64.
    let mut taken = 0;
    let mut list = [0u64; 8];
    for _ in 0..4 {
        list.fill(0x4000);
        let mut r = reservation(two.id, list.as_mut_ptr() as u64, 8, 9);
        let came = memory_op(memory::POPULATE_PHYSMAP, &mut r);
        taken += came.max(0);
        if came < 8 {
            break;
        }
    }
    // It has a claim of 16 extents; what is unclaimed is at most 16 more.
    if !check!(
        (16..=32).contains(&taken),
        "what it gets is its claim and what nobody claims"
    ) {
        say!("  {taken} extents came");
    }
    let mut list = [0x5000u64; 4];
    let mut r = reservation(one.id, list.as_mut_ptr() as u64, 4, 9);
    check_eq!(
        "who claimed it gets it",
        memory_op(memory::POPULATE_PHYSMAP, &mut r),
        4
    );
    accepted("the rest is given up", claim(one.id, 0));
    accepted("which may be done twice", claim(one.id, 0));
    let has = two.info().map_or(0, |info| info.tot_pages);
    let more = claim(two.id, has + 0x4000);
    accepted("and claimed by another", more);
    check!(two.destroy_and_wait(), "a claimant is gone");
    accepted("and its claim with it", claim(one.id, free - 0x4000));
    check!(one.destroy_and_wait(), "a claimant is gone");
}

fn wrong(child: &Child) {
    let id = child.id;
    accepted("some memory", control::max_mem(id, 1024));
    for nobody in [0x7000, 0x7ff1] {
        let result = claim(nobody, 512);
        check_eq!("nobody's", result, either(-errno::EINVAL, -errno::ESRCH));
    }
    check_eq!("more than it may have", claim(id, 1025), -errno::EINVAL);
    check_eq!(
        "more than there can be",
        claim(id, u64::MAX),
        -errno::EINVAL
    );
    let mut order = reservation(id, 0, 4, 9);
    check_eq!(
        "large extents",
        memory_op(memory::CLAIM_PAGES, &mut order),
        -errno::EINVAL
    );
    let mut list = [0u64];
    let mut listed = reservation(id, list.as_mut_ptr() as u64, 1, 0);
    check_eq!(
        "a list",
        memory_op(memory::CLAIM_PAGES, &mut listed),
        -errno::EINVAL
    );
    let mut flags = reservation(id, 0, 4, 0);
    flags.mem_flags = 32;
    check_eq!(
        "flags",
        memory_op(memory::CLAIM_PAGES, &mut flags),
        -errno::EINVAL
    );
    let own = claim(DOMID_SELF as u16, 1);
    check!(own < 0, "fewer than we have ourselves");
    check_eq!("no list", control::populate(id, &mut [0x100; 8]), 8);
    check_eq!("as many as it has", claim(id, 8), -errno::EINVAL);
    accepted("one more", claim(id, 9));
    check_eq!("which it takes", control::populate(id, &mut [0x200]), 1);
    accepted("then it has none", claim(id, 100));
    accepted("and gives it up", claim(id, 0));
}
