//! What a child's vCPUs do without a pause. Each has memory of its own for it, which its vCPU 0 makes before they start, and
//! fights for the rest; any call may be refused, because a sibling was there before or the neighbour is gone, and counts
//! where it is not.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

use guest_runtime::abi::{DOMID_SELF, memory, mmu, mmuext};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{mmu_update, mmuext as op};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{Global, check, child, control, link};
use guests::channels::{alloc_unbound, bind_interdomain, bind_ipi, close, notify};
use guests::lending;
use guests::racers::{self, FAULTED, Racer, code};

/// vCPUs of a child that shoot; its first sleeps.
pub const SHOOTERS: usize = 2;
/// Frames that a child may have besides what it starts with.
pub const ROOM: u64 = 64;
/// The word of the shared page that has the number of whom a child uses; the next has that of whom uses it.
pub const NEIGHBOURS: usize = link::FREE + 32;

/// A child's neighbours, by their numbers.
#[derive(Clone, Copy)]
struct Circle {
    /// Whose grants it maps, and whose ports it binds to.
    uses: u64,
    /// To whom it lends, and for whom it opens ports.
    serves: u64,
}

/// Does it with what the racer has, and its neighbours; whether it worked.
type Act = fn(&mut Racer, &Own, Circle) -> bool;

/// What there is to do, each counted in a word of the shared page.
const DONE: [(&str, Act); 7] = [
    ("entries of tables", entries),
    ("tables pinned", pins),
    ("grants mapped", maps),
    ("grants copied", copies),
    ("events sent and ports closed", ports),
    ("memory taken and given up", memory_moves),
    ("faults", faults),
];
/// How many that are.
pub const ACTS: usize = DONE.len();
/// Their names.
pub const NAMES: [&str; ACTS] = {
    let mut names = [""; ACTS];
    let mut at = 0;
    while at < ACTS {
        names[at] = DONE[at].0;
        at += 1;
    }
    names
};

/// What one of them has for itself.
#[derive(Clone, Copy)]
struct Own {
    /// Lent to the neighbour by the entry of the same number.
    lent: Page,
    /// What others' grants are mapped at.
    mapped: Page,
    /// What is copied to.
    copy: Page,
    /// A page that is not there.
    hidden: Page,
    /// A table of level 1, and one of level 2 that leads to it.
    tables: [Page; 2],
    list: Page,
}

const NOWHERE: Page = Page { pfn: 0 };

static OWN: Global<[Own; SHOOTERS]> = Global::new(
    [Own {
        lent: NOWHERE,
        mapped: NOWHERE,
        copy: NOWHERE,
        hidden: NOWHERE,
        tables: [NOWHERE; 2],
        list: NOWHERE,
    }; SHOOTERS],
);
/// A page whose entry all of them change.
static SHARED: Global<Page> = Global::new(NOWHERE);

/// Step: makes what they need, and starts them.
pub fn begin(_: [u64; 5]) -> i64 {
    lending::table();
    let hidden = || {
        let page = frames::allocate();
        check!(page_table::hide(page) == 0, "hidden");
        page
    };
    SHARED.set(hidden());
    OWN.set(core::array::from_fn(|_| {
        let own = Own {
            lent: frames::allocate(),
            mapped: hidden(),
            copy: frames::allocate(),
            hidden: hidden(),
            tables: [frames::allocate(), frames::allocate()],
            list: frames::allocate(),
        };
        let [table, above] = own.tables;
        for index in 0..512 {
            table.write(index, own.copy.maddr() | bits::KERNEL_RO | bits::NX);
            above.write(
                index,
                if index < 3 {
                    table.maddr() | bits::TABLE
                } else {
                    0
                },
            );
        }
        check!(
            page_table::protect(table) == 0 && page_table::protect(above) == 0,
            "tables"
        );
        own
    }));
    racers::start(SHOOTERS, shoot);
    racers::begin();
    i64::from(check::failures())
}

fn shoot(racer: &mut Racer) {
    let Some(link) = child::link() else { return };
    let own = OWN.get()[racer.number];
    loop {
        let act = racer.below(ACTS as u64) as usize;
        // A few of the same, so that siblings meet in it.
        for _ in 0..1 + racer.below(8) {
            let whom = Circle {
                uses: link.get(NEIGHBOURS),
                serves: link.get(NEIGHBOURS + 1),
            };
            let worked = DONE[act].1(racer, &own, whom);
            link.add(link::FREE + act, u64::from(worked));
        }
    }
}

/// The entry of a page that siblings change, too.
fn entries(racer: &mut Racer, own: &Own, _: Circle) -> bool {
    let Some(slot) = page_table::slot(SHARED.get().va()) else {
        return false;
    };
    let flags =
        [bits::KERNEL_RO | bits::NX, bits::KERNEL_RW | bits::NX, 0][racer.below(3) as usize];
    let value = if flags == 0 {
        0
    } else {
        own.copy.maddr() | flags
    };
    let set = mmu_update(
        slot.maddr() | [0, mmu::PRESERVE_AD][racer.below(2) as usize],
        value,
    );
    code::read(SHARED.get().va());
    code::replace(slot.va(), value, 0);
    set == 0
}

fn pins(_: &mut Racer, own: &Own, _: Circle) -> bool {
    let [table, above] = own.tables;
    let pinned = op(mmuext::PIN_L2, above.mfn(), 0);
    op(mmuext::PIN_L1, table.mfn(), 0);
    op(mmuext::UNPIN, above.mfn(), 0);
    op(mmuext::UNPIN, table.mfn(), 0);
    pinned == 0
}

/// The grant by which a vCPU's own page is lent.
fn gref(of: u64) -> u32 {
    lending::FIRST + of as u32
}

fn maps(racer: &mut Racer, own: &Own, whom: Circle) -> bool {
    let (me, from) = (racer.number as u64, racer.below(SHOOTERS as u64));
    lending::lend(
        gref(me),
        whom.serves as u16,
        own.lent.mfn(),
        racer.below(4) == 0,
    );
    let mapped = lending::map_at(
        own.mapped.va(),
        whom.uses as u16,
        gref(from),
        racer.below(2) == 0,
    );
    if let Ok(handle) = mapped {
        code::read(own.mapped.va());
        lending::unmap(own.mapped.va(), handle);
    }
    if racer.below(8) == 0 {
        lending::take_back(gref(me));
    }
    mapped.is_ok()
}

fn copies(racer: &mut Racer, own: &Own, whom: Circle) -> bool {
    let from = racer.below(SHOOTERS as u64);
    let read = lending::copy_from(whom.uses as u16, gref(from), own.copy, 4096);
    let written = lending::copy_to(whom.uses as u16, gref(from), own.copy, 2048);
    read == 0 || written == 0
}

/// The port that each racer keeps open for its neighbour until its next turn: else the two would have to meet in it.
static STAYS: [AtomicU32; SHOOTERS] = [const { AtomicU32::new(NO_PORT) }; SHOOTERS];
const NO_PORT: u32 = u32::MAX;

fn ports(racer: &mut Racer, _: &Own, whom: Circle) -> bool {
    let me = racer.number as u32 + 1;
    let opened = alloc_unbound(whom.serves);
    let stayed = STAYS[racer.number].swap(opened.unwrap_or(NO_PORT), Relaxed);
    // Where the other's vCPUs open theirs: the first few are for its console and the like.
    let guess = 4 + racer.below(5) as u32;
    let bound = bind_interdomain(whom.uses, guess);
    let own = [
        Some(stayed).filter(|port| *port != NO_PORT),
        bind_ipi(me).ok(),
        bound.ok(),
    ];
    for port in own.into_iter().chain([opened.ok()]).flatten() {
        notify(port);
    }
    for port in own.into_iter().flatten() {
        close(port);
    }
    bound.is_ok()
}

fn memory_moves(_: &mut Racer, own: &Own, _: Circle) -> bool {
    const COUNT: u64 = 16;
    let list = own.list;
    for index in 0..COUNT {
        list.write(index as usize, 0x10_0000 + index);
    }
    let reserve =
        |operation, count| control::reservation(operation, DOMID_SELF as u16, list.va(), count);
    let came = reserve(memory::POPULATE_PHYSMAP, COUNT);
    reserve(memory::DECREASE_RESERVATION, came.max(0) as u64);
    came > 0
}

/// What is not there is read and written, and a table is written as if it were a page.
fn faults(racer: &mut Racer, own: &Own, _: Circle) -> bool {
    let read = code::read(own.hidden.va() + 8 * racer.below(512));
    code::store(own.hidden.va(), 1);
    let entry = own.tables[0].va() + 8 * racer.below(512);
    code::exchange(entry, own.copy.maddr() | bits::KERNEL_RO | bits::NX);
    read == FAULTED
}
