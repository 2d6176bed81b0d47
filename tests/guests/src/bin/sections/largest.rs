//! The longest lists and the largest answers: of every call whose length its caller chooses, as much as the interface lets
//! one ask for.

use guest_runtime::abi::domctl::{Getdomaininfo, Getpageframeinfo3};
use guest_runtime::abi::memory::EXCHANGE;
use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_USUAL_WEIGHT, SchedGet, SchedSet, SchedTerms,
};
use guest_runtime::abi::sysctl::{Getdomaininfolist, Readconsole};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{
    DOMID_SELF, DomctlCommand, MmuUpdate, Sysctl, SysctlCommand, Wire, XenMemoryExchange,
    XenMemoryReservation, errno, memory, mmuext, nr,
};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, call, mmuext as op};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{Global, check, check_eq, control, events, say};
use guests::accepted;

use crate::{SELF, first_far};

/// Frames of an extent of the largest order that a domain may ask for.
pub const EXTENT: usize = 512;
/// The same as an order.
const ORDER: u32 = 9;

/// Lists that calls are given: more than a stack has room for.
static LIST: Global<[u64; EXTENT]> = Global::new([0; EXTENT]);
static NUMBERS: Global<[u64; 2 * EXTENT]> = Global::new([0; 2 * EXTENT]);
static UPDATES: Global<[MmuUpdate; EXTENT]> = Global::new([MmuUpdate::ZERO; EXTENT]);
static TEXT: Global<[u8; 16 << 10]> = Global::new([0; 16 << 10]);

/// Does something and says how long the call took in all: as long as no other vCPU ran if it was one that is not put off.
fn timed(what: &str, act: impl FnOnce() -> i64) -> i64 {
    let began = events::now_ns();
    let result = act();
    say!("{what}: {} ns in all", events::now_ns() - began);
    result
}

fn list(count: usize, mut element: impl FnMut(usize) -> u64) -> u64 {
    let place = LIST.as_ptr().cast::<u64>();
    for n in 0..count.min(EXTENT) {
        // SAFETY: within the list, which nobody refers to.
        unsafe { place.add(n).write_volatile(element(n)) };
    }
    place as u64
}

fn listed(n: usize) -> u64 {
    // SAFETY: as in `list`.
    unsafe { LIST.as_ptr().cast::<u64>().add(n % EXTENT).read_volatile() }
}

fn extents(start: u64, count: usize, order: u32) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: start,
        nr_extents: count as u64,
        extent_order: order,
        domid: SELF,
        ..XenMemoryReservation::ZERO
    }
}

/// As many frames as one exchange may be about: single ones for a block, the block for single ones, and single ones for
/// others; then a list whose last frame is refused.
#[inline(never)]
pub fn exchange() {
    let pfn = |n: usize| first_far() + n as u64;
    for (give_order, get_order) in [(0, ORDER), (ORDER, 0), (0, 0)] {
        let count = |order: u32| EXTENT >> order;
        let numbers = NUMBERS.as_ptr().cast::<u64>();
        for n in 0..count(give_order) {
            // SAFETY: as in `list`.
            unsafe { numbers.add(n).write_volatile(frames::pfn_to_mfn(pfn(n))) };
        }
        let give = extents(numbers as u64, count(give_order), give_order);
        let got = list(count(get_order), pfn);
        let mut request = XenMemoryExchange {
            give,
            get: extents(got, count(get_order), get_order),
            nr_exchanged: 0,
        };
        let argument = &raw mut request as u64;
        let result = timed("512 frames are exchanged", || {
            call(nr::MEMORY_OP, [EXCHANGE, argument, 0, 0, 0])
        });
        accepted("512 frames are exchanged", result);
        check_eq!(
            "extents exchanged",
            request.nr_exchanged,
            count(give_order) as u64
        );
        for n in 0..EXTENT {
            let within = n & ((1 << get_order) - 1);
            let mfn = listed(n >> get_order) + within as u64;
            frames::set_mfn(Page { pfn: pfn(n) }, mfn);
        }
    }
    let numbers = NUMBERS.as_ptr().cast::<u64>();
    for n in 0..EXTENT {
        // SAFETY: as in `list`.
        unsafe { numbers.add(n).write_volatile(frames::pfn_to_mfn(pfn(n))) };
    }
    // SAFETY: as in `list`.
    unsafe {
        numbers
            .add(EXTENT - 1)
            .write_volatile(page_table::root().mfn())
    };
    let mut request = XenMemoryExchange {
        give: extents(numbers as u64, EXTENT, 0),
        get: extents(list(EXTENT, pfn), EXTENT, 0),
        nr_exchanged: 0,
    };
    let argument = &raw mut request as u64;
    check!(
        call(nr::MEMORY_OP, [EXCHANGE, argument, 0, 0, 0]) < 0,
        "a table is not exchanged"
    );
    let traded = request.nr_exchanged as usize;
    check_eq!("the frames before it are", traded, EXTENT - 1);
    for n in 0..traded {
        frames::set_mfn(Page { pfn: pfn(n) }, listed(n));
    }
}

/// Many extents of the largest order for another domain, asked about and mapped as a batch, and destroyed with it.
#[inline(never)]
pub fn others_memory() {
    const EXTENTS: usize = 12;
    let Ok(domain) = control::create(&control::ordinary(1)) else {
        check!(false, "a domain is created");
        return;
    };
    accepted(
        "a size",
        control::max_mem(domain, (EXTENTS * EXTENT) as u64),
    );
    let request = XenMemoryReservation {
        domid: domain,
        ..extents(list(EXTENTS, |n| (n * EXTENT) as u64), EXTENTS, ORDER)
    };
    let argument = &raw const request as u64;
    let got = call(nr::MEMORY_OP, [memory::POPULATE_PHYSMAP, argument, 0, 0, 0]);
    check_eq!("extents of 2 MiB", got, EXTENTS as i64);
    let first = listed(0);
    types(domain, first);
    map_all(domain, first);
    accepted("it is destroyed", control::destroy(domain));
}

fn types(domain: u16, first: u64) {
    let numbers = NUMBERS.as_ptr().cast::<u64>();
    for n in 0..2 * EXTENT {
        // SAFETY: as in `list`.
        unsafe { numbers.add(n).write_volatile(first + (n % EXTENT) as u64) };
    }
    let asked = Getpageframeinfo3 {
        num: 2 * EXTENT as u64,
        array: numbers as u64,
    };
    let result = timed("types of 1024 frames", || {
        control::with(DomctlCommand::Getpageframeinfo3, domain, &asked)
    });
    accepted("types of 1024 frames", result);
}

/// A table of mappings of another domain's frames, made, changed and taken away by one list each.
fn map_all(domain: u16, first: u64) {
    let table = page_table::new_table();
    accepted("pinned", op(mmuext::PIN_L1, table.mfn(), 0));
    for flags in [bits::KERNEL_RW, bits::KERNEL_RO, 0] {
        let place = UPDATES.as_ptr().cast::<MmuUpdate>();
        for n in 0..EXTENT {
            let mapped = (first + n as u64) << 12 | flags | bits::NX;
            let update = MmuUpdate {
                ptr: table.entry_maddr(n),
                val: if flags == 0 { 0 } else { mapped },
            };
            // SAFETY: within the list, which nobody refers to meanwhile.
            unsafe { place.add(n).write_volatile(update) };
        }
        // SAFETY: the whole list; nobody changes it meanwhile.
        let all = unsafe { core::slice::from_raw_parts(place, EXTENT) };
        let done = hypercall::mmu_update_for(all, u64::from(domain));
        check_eq!("foreign frames", done, (0, EXTENT as u32));
    }
    accepted("unpinned", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
}

/// A list of as many domains as there are, one of them with as many vCPUs as one may have.
#[inline(never)]
pub fn many_domains() {
    const MANY: usize = 40;
    const MOST_VCPUS: u32 = 64;
    let mut all = [0u16; MANY + 1];
    for (n, place) in all.iter_mut().enumerate() {
        let vcpus = if n == 0 { MOST_VCPUS } else { 2 };
        let Ok(domain) = control::create(&control::ordinary(vcpus)) else {
            check!(false, "a domain is created");
            continue;
        };
        accepted("vCPUs", control::max_vcpus(domain, vcpus));
        *place = domain;
    }
    let mut request = Sysctl::new(SysctlCommand::Getdomaininfolist);
    request.set_payload(&Getdomaininfolist {
        max_domains: (size_of::<[u8; 16 << 10]>() / Getdomaininfo::SIZE) as u32,
        buffer: TEXT.as_ptr() as u64,
        ..Getdomaininfolist::ZERO
    });
    let result = timed("a list of domains", || control::sysctl(&mut request));
    accepted("a list of domains", result);
    let told: Getdomaininfolist = request.payload();
    check_eq!("domains", told.num_domains, MANY as u32 + 2);
    reservations(all[0]);
    for domain in all {
        accepted("one is destroyed", control::destroy(domain));
    }
}

/// Terms for as many vCPUs as a domain may have: granted, refused for want of room, and told.
fn reservations(domain: u16) {
    let set = |what: &str, slice: u64| {
        let mut wish = SchedSet {
            version: XENO_INTERFACE_VERSION,
            domid: domain,
            vcpu: SCHED_ALL_VCPUS,
            terms: SchedTerms {
                slice,
                period: 1_000_000_000,
                weight: SCHED_USUAL_WEIGHT,
                flags: SCHED_EXTRA,
            },
            ..SchedSet::ZERO
        };
        let answer = timed(what, || xeno(XenoCommand::SchedSet, &mut wish));
        (answer, wish.largest_slice)
    };
    // Another hypervisor has no reservations.
    let (granted, _) = set("a slice for each of 64 vCPUs", 2_000_000);
    if granted == -errno::ENOSYS {
        return;
    }
    check_eq!("a slice for each of 64 vCPUs", granted, 0);
    accepted("a longer one", set("a longer one", 4_000_000).0);
    let (refused, largest) = set("more than there is", 900_000_000);
    check_eq!("more than there is", refused, -errno::ENOSPC);
    check!(largest >= 4_000_000, "how much there is is told");
    accepted("nothing", set("nothing", 0).0);
    let mut question = SchedGet {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        vcpu: SCHED_ALL_VCPUS,
        ..SchedGet::ZERO
    };
    let answer = timed("what each has", || {
        xeno(XenoCommand::SchedGet, &mut question)
    });
    accepted("what each has", answer);
    check_eq!("how many", question.nr_vcpus, 64);
}

fn xeno<T>(operation: XenoCommand, argument: &mut T) -> i64 {
    let operation = u64::from(operation.number());
    call(nr::XENO_OP, [operation, &raw mut *argument as u64, 0, 0, 0])
}

/// The whole log, and much text to the console at once.
#[inline(never)]
pub fn console() {
    const LINE: usize = 64;
    const WRITTEN: usize = 4 << 10;
    let mut request = Sysctl::new(SysctlCommand::Readconsole);
    request.set_payload(&Readconsole {
        buffer: TEXT.as_ptr() as u64,
        count: 16 << 10,
        ..Readconsole::ZERO
    });
    let result = timed("the log", || control::sysctl(&mut request));
    accepted("the log", result);
    let told: Readconsole = request.payload();
    check!(told.count > 1000, "much of it");
    let place = TEXT.as_ptr().cast::<u8>();
    for n in 0..WRITTEN {
        let byte = if n % LINE == LINE - 1 { b'\n' } else { b'.' };
        // SAFETY: within the text, which nobody refers to.
        unsafe { place.add(n).write_volatile(byte) };
    }
    let arguments = [0, WRITTEN as u64, place as u64, 0, 0];
    accepted("much text", call(nr::CONSOLE_IO, arguments));
    check_eq!("ourselves", u64::from(SELF), DOMID_SELF);
}
