//! Children that are destroyed in the middle of something long: of each long call of their own, looked at from many
//! moments, and while the control domain uses what is theirs.

use guest_runtime::abi::{
    DOMID_SELF, MulticallEntry, VcpuGuestContext, XenMemoryExchange, XenMemoryReservation, memory,
    mmuext, nr,
};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, mmuext as mmuext_op};
use guest_runtime::link::{self, Step};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{Global, check, check_eq, child, control, events, trap};
use guests::lending;

/// Moments at which each is destroyed, and how far they are from one another, in nanoseconds. Odd against a turn's
/// length, so that they fall to different places of what goes on.
const MOMENTS: u64 = 5;
/// And at most, if none of those was in the middle of a call.
const MOST_MOMENTS: u64 = 60;
const APART_NS: u64 = 1_370_000;
/// Pages that a child may have more than it begins with.
const ROOM: u64 = 256;

/// The instruction that makes a call.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

/// Counts a round of what is done for ever.
fn round() {
    if let Some(link) = child::link() {
        link.add(link::FREE, 1);
    }
}

fn reserve(operation: u64, list: Page, count: u64) -> i64 {
    control::reservation(operation, DOMID_SELF as u16, list.va(), count)
}

/// Step: takes frames and gives them up.
fn populate(_: [u64; 5]) -> i64 {
    let list = frames::allocate();
    loop {
        for index in 0..ROOM {
            list.write(index as usize, 0x10_0000 + index);
        }
        let came = reserve(memory::POPULATE_PHYSMAP, list, ROOM);
        reserve(memory::DECREASE_RESERVATION, list, came.max(0) as u64);
        round();
    }
}

/// Step: gives frames for others, all of what it has room for at once.
fn exchange(_: [u64; 5]) -> i64 {
    let (give, get) = (frames::allocate(), frames::allocate());
    for index in 0..ROOM {
        give.write(index as usize, 0x10_0000 + index);
    }
    let came = reserve(memory::POPULATE_PHYSMAP, give, ROOM).max(0) as u64;
    loop {
        for index in 0..came {
            get.write(index as usize, 0x10_0000 + index);
        }
        let list = |page: Page| XenMemoryReservation {
            extent_start: page.va(),
            nr_extents: came,
            domid: DOMID_SELF as u16,
            ..XenMemoryReservation::ZERO
        };
        let request = XenMemoryExchange {
            give: list(give),
            get: list(get),
            ..XenMemoryExchange::ZERO
        };
        let result = call(
            nr::MEMORY_OP,
            [memory::EXCHANGE, &raw const request as u64, 0, 0, 0],
        );
        if result == 0 {
            for index in 0..came as usize {
                give.write(index, get.read(index));
            }
        }
        round();
    }
}

/// Step: pins and unpins a tree of tables whose leaves are all one page.
fn pin(_: [u64; 5]) -> i64 {
    const TABLES: usize = 24;
    let page = frames::allocate();
    let top = frames::allocate();
    top.clear();
    for at in 0..TABLES {
        let table = frames::allocate();
        for index in 0..512 {
            table.write(index, page.maddr() | bits::KERNEL_RO | bits::NX);
        }
        page_table::protect(table);
        top.write(at, table.maddr() | bits::TABLE);
    }
    page_table::protect(top);
    loop {
        mmuext_op(mmuext::PIN_L2, top.mfn(), 0);
        mmuext_op(mmuext::UNPIN, top.mfn(), 0);
        round();
    }
}

/// Step: maps a grant of its own in many places by one batch, and unmaps it.
fn grants(_: [u64; 5]) -> i64 {
    use guest_runtime::abi::grant::{GNTMAP_HOST_MAP, GNTMAP_READONLY, MapGrantRef, UnmapGrantRef};
    const PLACES: usize = 48;
    let own = child::link().map_or(0, |link| link.get(link::FREE + 1)) as u16;
    let lent = frames::allocate();
    lending::lend(lending::FIRST, own, lent.mfn(), true);
    let places: [Page; PLACES] = core::array::from_fn(|_| frames::allocate());
    loop {
        let mut maps = places.map(|page| MapGrantRef {
            host_addr: page.va(),
            flags: GNTMAP_HOST_MAP | GNTMAP_READONLY,
            gref: lending::FIRST,
            dom: own,
            ..MapGrantRef::ZERO
        });
        let count = PLACES as u64;
        call(
            nr::GRANT_TABLE_OP,
            [0, maps.as_mut_ptr() as u64, count, 0, 0],
        );
        let mut unmaps = maps.map(|map| UnmapGrantRef {
            host_addr: map.host_addr,
            handle: map.handle,
            ..UnmapGrantRef::ZERO
        });
        call(
            nr::GRANT_TABLE_OP,
            [1, unmaps.as_mut_ptr() as u64, count, 0, 0],
        );
        round();
    }
}

/// Step: many calls in one, memory and ports among them.
fn multicall(_: [u64; 5]) -> i64 {
    let list = frames::allocate();
    let request = XenMemoryReservation {
        extent_start: list.va(),
        nr_extents: 16,
        domid: DOMID_SELF as u16,
        ..XenMemoryReservation::ZERO
    };
    loop {
        let mut entries = [MulticallEntry::ZERO; 32];
        for (at, entry) in entries.iter_mut().enumerate() {
            let operation = match at % 2 {
                0 => memory::POPULATE_PHYSMAP,
                _ => memory::DECREASE_RESERVATION,
            };
            entry.op = nr::MEMORY_OP;
            entry.args = [operation, &raw const request as u64, 0, 0, 0, 0];
        }
        for index in 0..16 {
            list.write(index, 0x10_0000 + index as u64);
        }
        call(nr::MULTICALL, [entries.as_mut_ptr() as u64, 32, 0, 0, 0]);
        round();
    }
}

/// Whether a child that was paused stands at the entry of a call: it has made a part of it, or is about to begin.
fn is_in_call(child: &Child) -> bool {
    // SAFETY: no other reference to it is ever made.
    let context = unsafe { &mut *CONTEXT.as_ptr() };
    if control::get_context(child.id, 0, context) != 0 {
        return false;
    }
    // The child's image is ours: what is at the address here is there, too.
    let rip = context.user_regs.rip;
    // SAFETY: a read of two bytes, whose fault comes back to `catch`.
    let code = trap::catch(|| unsafe { (rip as *const [u8; 2]).read_unaligned() });
    code.is_ok_and(|code| code == SYSCALL)
}

/// Each long call, destroyed at several moments. Of all of them some must be met in the middle.
pub fn of_its_own_calls() {
    let calls: [(&str, Step); 5] = [
        ("taking frames", populate),
        ("exchanging frames", exchange),
        ("pinning", pin),
        ("a batch of grants", grants),
        ("many calls in one", multicall),
    ];
    for (what, step) in calls {
        let mut met = 0;
        for moment in 0..MOST_MOMENTS {
            // Where time is not counted in instructions, any moment may be between two calls.
            if moment >= MOMENTS && met > 0 {
                break;
            }
            let Some(mut child) = builder::running(Plan::SMALL) else {
                return;
            };
            check_eq!(
                "room",
                control::max_mem(child.id, Plan::SMALL.pages + ROOM),
                0
            );
            child.link().set(link::FREE + 1, u64::from(child.id));
            child.start(step, [0; 5]);
            check!(
                child.wait_until(|child| child.link().get(link::FREE) > 0),
                what
            );
            child::wait(
                &[],
                events::now_ns() + APART_NS * (moment % (2 * MOMENTS) + 1),
            );
            check_eq!("pause", child.pause(), 0);
            met += u64::from(is_in_call(&child));
            check!(child.destroy_and_wait(), what);
        }
        check!(
            met > 0 || !control::is_ours(),
            "one was met in the middle of its call"
        );
    }
}
