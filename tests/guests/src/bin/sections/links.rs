//! As many ports, grants and mappings of grants as there can be: made, used and given back in lists, reset, and destroyed
//! with the domain that has them.

use guest_runtime::abi::event::{AllocUnbound, Reset};
use guest_runtime::abi::grant::{
    Copy, CopyPtr, GNTCOPY_SOURCE_GREF, GNTMAP_CONTAINS_PTE, GNTMAP_HOST_MAP, MapGrantRef,
    SetupTable, UnmapGrantRef,
};
use guest_runtime::abi::{DomctlCommand, domctl::Createdomain, evtchn, memory, mmuext, nr};
use guest_runtime::builder::{self, Plan};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, event_channel, mmuext as op};
use guest_runtime::{Global, check, check_eq, control, page_table};
use guests::{accepted, channels, lending};

use crate::{SELF, first_far};

/// Entries of a frame of a grant table that these use, and mappings made of them.
const GRANTS: usize = (lending::ENTRIES - lending::FIRST) as usize;
/// Frames of the largest grant table.
const TABLE_FRAMES: u32 = 64;
/// The highest port there can be.
const LAST_PORT: u32 = 4095;

static MAPS: Global<[MapGrantRef; GRANTS]> = Global::new([MapGrantRef::ZERO; GRANTS]);
static UNMAPS: Global<[UnmapGrantRef; GRANTS]> = Global::new([UnmapGrantRef::ZERO; GRANTS]);
static COPIES: Global<[Copy; GRANTS]> = Global::new([Copy::ZERO; GRANTS]);
static FRAMES: Global<[u64; 512]> = Global::new([0; 512]);

/// Fills a list in.
fn fill<T: core::marker::Copy, const N: usize>(
    list: &Global<[T; N]>,
    element: impl Fn(usize) -> T,
) -> u64 {
    let place = list.as_ptr().cast::<T>();
    for n in 0..N {
        // SAFETY: within the list, which nobody refers to.
        unsafe { place.add(n).write_volatile(element(n)) };
    }
    place as u64
}

/// An element.
fn at<T: core::marker::Copy, const N: usize>(list: &Global<[T; N]>, n: usize) -> T {
    // SAFETY: as in `fill`.
    unsafe { list.as_ptr().cast::<T>().add(n % N).read_volatile() }
}

fn gref(n: usize) -> u32 {
    lending::FIRST + n as u32
}

/// One call of `grant_table_op` about all of them.
fn grant_call(what: &str, op: u64, list: u64) {
    accepted(
        what,
        call(nr::GRANT_TABLE_OP, [op, list, GRANTS as u64, 0, 0]),
    );
}

/// Maps a table full of what `domain` lends, by one call.
fn map_all(table: Page, domain: u16) {
    let list = fill(&MAPS, |n| MapGrantRef {
        host_addr: table.entry_maddr(n),
        flags: GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE,
        gref: gref(n),
        dom: domain,
        ..MapGrantRef::ZERO
    });
    grant_call("maps", 0, list);
    let good = (0..GRANTS).all(|n| at(&MAPS, n).status == 0);
    check!(good, "all are mapped");
}

/// Takes all of that away by one call.
fn unmap_all(table: Page) {
    let list = fill(&UNMAPS, |n| UnmapGrantRef {
        host_addr: table.entry_maddr(n),
        handle: at(&MAPS, n).handle,
        ..UnmapGrantRef::ZERO
    });
    grant_call("unmaps", 1, list);
    let good = (0..GRANTS).all(|n| at(&UNMAPS, n).status == 0);
    check!(good, "none is mapped");
}

/// Lists of maps, copies and unmaps; the second time what is unmapped was given up before, and is freed by that.
#[inline(never)]
pub fn grants() {
    let pfn = |n: usize| first_far() + n as u64;
    let table = page_table::new_table();
    let page = frames::allocate();
    accepted("pinned", op(mmuext::PIN_L1, table.mfn(), 0));
    for freed in [false, true] {
        for n in 0..GRANTS {
            lending::lend(gref(n), 0, frames::pfn_to_mfn(pfn(n)), false);
        }
        map_all(table, 0);
        let copies = fill(&COPIES, |n| Copy {
            source: CopyPtr {
                u: u64::from(gref(n)),
                domid: 0,
                ..CopyPtr::ZERO
            },
            dest: CopyPtr {
                u: page.mfn(),
                domid: SELF,
                ..CopyPtr::ZERO
            },
            len: 4096,
            flags: GNTCOPY_SOURCE_GREF,
            ..Copy::ZERO
        });
        grant_call("copies", 5, copies);
        let good = (0..GRANTS).all(|n| at(&COPIES, n).status == 0);
        check!(good, "all are copied");
        if freed {
            let list = fill(&FRAMES, |n| frames::pfn_to_mfn(pfn(n % GRANTS)));
            let gone =
                control::reservation(memory::DECREASE_RESERVATION, SELF, list, GRANTS as u64);
            check_eq!("given up", gone, GRANTS as i64);
        }
        unmap_all(table);
        for n in 0..GRANTS {
            lending::take_back(gref(n));
        }
    }
    let list = fill(&FRAMES, pfn);
    let back = control::reservation(memory::POPULATE_PHYSMAP, SELF, list, GRANTS as u64);
    check_eq!("taken back", back, GRANTS as i64);
    for n in 0..GRANTS {
        frames::set_mfn(Page { pfn: pfn(n) }, at(&FRAMES, n));
    }
    accepted("unpinned", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
    frames::release(page);
}

/// All ports of a domain, a part of them linked to ours: reset, and made again and destroyed.
#[inline(never)]
pub fn ports() {
    const LINKED: u32 = 800;
    let wanted = Createdomain {
        max_evtchn_port: LAST_PORT,
        max_grant_frames: TABLE_FRAMES as i32,
        ..control::ordinary(64)
    };
    let Ok(domain) = control::create(&wanted) else {
        check!(false, "a domain is created");
        return;
    };
    accepted("vCPUs", control::max_vcpus(domain, 64));
    for command in [DomctlCommand::Unpausedomain, DomctlCommand::Pausedomain] {
        accepted("64 vCPUs go or stop", control::simple(command, domain));
    }
    for last in [false, true] {
        for n in 1..=LAST_PORT {
            let mut alloc = AllocUnbound {
                dom: domain,
                remote_dom: 0,
                port: 0,
            };
            let result = event_channel(evtchn::ALLOC_UNBOUND, &mut alloc);
            if (result, alloc.port) != (0, n) {
                check_eq!("a port", (result, alloc.port), (0, n));
                break;
            }
        }
        let mut ours = [0u32; LINKED as usize];
        for (place, theirs) in ours.iter_mut().zip(1..) {
            *place = channels::bind_interdomain(u64::from(domain), theirs).unwrap_or(0);
        }
        check!(ours.iter().all(|port| *port != 0), "ports are linked");
        let mut setup = SetupTable {
            dom: domain,
            nr_frames: TABLE_FRAMES,
            frame_list: FRAMES.as_ptr() as u64,
            status: -1,
            ..SetupTable::ZERO
        };
        accepted("a large table", lending::op(2, &mut setup));
        check_eq!("its status", setup.status, 0);
        if last {
            accepted("destroyed with all that", control::destroy(domain));
        } else {
            accepted(
                "reset",
                event_channel(evtchn::RESET, &mut Reset { dom: domain }),
            );
        }
        let closed = ours.iter().all(|port| channels::close(*port) == 0);
        check!(closed, "ours are closed");
    }
    check!(control::info(domain).is_err(), "it is gone");
}

/// A domain goes that has as many grants mapped as fit a table.
#[inline(never)]
pub fn mappings_of_a_child() {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    let id = u64::from(child.id);
    let mapped = child.call(hoard, [id, 0, 0, 0, 0]);
    check_eq!("a child's mappings", mapped, GRANTS as i64);
    check!(child.destroy_and_wait(), "it goes with all of them");
}

/// Step: lends itself a page as often as there are entries, and maps each: its number. How many there are.
fn hoard([me, ..]: [u64; 5]) -> i64 {
    let page = frames::allocate();
    let table = page_table::new_table();
    if op(mmuext::PIN_L1, table.mfn(), 0) != 0 {
        return -1;
    }
    for n in 0..GRANTS {
        lending::lend(gref(n), me as u16, page.mfn(), false);
    }
    map_all(table, me as u16);
    (0..GRANTS).filter(|n| at(&MAPS, *n).status == 0).count() as i64
}
