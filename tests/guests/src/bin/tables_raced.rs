//! Attacks page tables from several vCPUs at once: all of them write the same entries by calls and by trapped writes, pin
//! and unpin the same tables at two levels, unhook tables through which others read, and go onto a root that others unpin.
//! Proves that every count is right when they rest, that what they read is what a page they may read holds, and that every
//! frame is ordinary memory in the end.
//!
//! xtask: hv=dom0_max_vcpus=4
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU64, Ordering};

use guest_runtime::abi::{
    DOMID_SELF, ROOT_TABLE_FIRST_XEN_SLOT, ROOT_TABLE_LAST_XEN_SLOT, errno, mmu, mmuext,
};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{mmu_update, mmuext as op};
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::{Global, check, check_eq, control, guest, say};
use guests::accepted;
use guests::racers::code::{exchange, protect, read, remove, replace, store};
use guests::racers::{self, FAULTED, Racer, expect, wrong};

guest!(tables_raced, main);

/// Rounds, and the most that each racer does in one.
const ROUNDS: u64 = 10;
const ACTS: u64 = 500;
/// Where the tables that are fought for lead: a slot of the root that nobody else uses.
const WINDOW: u64 = 0x0000_6000_0000_0000;
/// Entries of a table that are fought for, and pages that they can name.
const ENTRIES: u64 = 4;
const PAGES: usize = 4;
/// What a page holds, its number added.
const CONTENTS: u64 = 0x1234_5678_0000_0000;

/// All that is fought for.
#[derive(Clone, Copy)]
struct Bench {
    /// Two tables of level 1, of which one is mostly hooked into the window.
    tables: [Page; 2],
    /// The table of level 2 that they are hooked into, and the one above it.
    above: [Page; 2],
    /// Another root, like the kernel's.
    root: Page,
    pages: [Page; PAGES],
}

const NOWHERE: Page = Page { pfn: 0 };

static BENCH: Global<Bench> = Global::new(Bench {
    tables: [NOWHERE; 2],
    above: [NOWHERE; 2],
    root: NOWHERE,
    pages: [NOWHERE; PAGES],
});
/// What the acts came to: done, refused.
static DONE: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Reads that found a page, and that found none.
static FOUND: AtomicU64 = AtomicU64::new(0);
static NOT_FOUND: AtomicU64 = AtomicU64::new(0);

/// What a racer can do.
const ALL: [fn(&mut Racer, &Bench); 10] = [
    update,
    update,
    trapped,
    trapped,
    look,
    look,
    pin_table,
    hook,
    pin_root,
    change_root,
];

fn main() {
    let start = frames_by_type();
    let bench = Bench::new();
    BENCH.set(bench);
    bench.rest();
    let before = frames_by_type();
    racers::start(3, |racer| {
        let bench = BENCH.get();
        racer.often(ACTS, |racer| {
            let act = racer.below(ALL.len() as u64) as usize;
            ALL[act](racer, &bench);
            racer.now_and_then();
        });
    });
    for _ in 0..ROUNDS {
        bench.hook();
        let fine = racers::round();
        recount("with all of it as they left it");
        bench.rest();
        check_eq!("frames by type", frames_by_type(), before);
        if !fine {
            break;
        }
    }
    racers::stop();
    let [done, refused, found, not] =
        [&DONE, &REFUSED, &FOUND, &NOT_FOUND].map(|count| count.load(Ordering::Relaxed));
    say!("{done} done, {refused} refused; {found} reads found a page, {not} did not");
    for (what, count) in [("done", done), ("refused", refused), ("found", found)] {
        check!(count > 0, what);
    }
    // A vCPU that is down keeps its root, which is the kernel's.
    bench.finish();
    check_eq!("frames by type at the end", frames_by_type(), start);
}

/// Frames of ours by what they are used as, where the hypervisor can tell; no count is wrong.
fn frames_by_type() -> [u64; 8] {
    let mut by_type = [0; 8];
    if let Some(audit) = control::audit(DOMID_SELF as u16) {
        check_eq!("counts that are wrong", audit.mismatches, 0);
        for (place, frames) in by_type.iter_mut().zip(audit.frames_by_type) {
            *place = frames;
        }
    }
    by_type
}

fn recount(when: &str) {
    if let Some(audit) = control::audit(DOMID_SELF as u16) {
        check_eq!(when, audit.mismatches, 0);
    }
}

fn entry_of(table: Page) -> u64 {
    table.maddr() | bits::TABLE
}

impl Bench {
    fn new() -> Bench {
        let pages = [0u64; PAGES].map(|_| frames::allocate());
        for (page, number) in pages.iter().zip(0..) {
            page.write(0, CONTENTS + number);
        }
        let tables = [page_table::new_table(), page_table::new_table()];
        let above = [page_table::new_table(), page_table::new_table()];
        let bench = Bench {
            tables,
            above,
            root: frames::allocate(),
            pages,
        };
        accepted("level 3", bench.place(4).set(entry_of(above[1])));
        accepted("level 2", bench.place(3).set(entry_of(above[0])));
        let reserved = ROOT_TABLE_FIRST_XEN_SLOT..=ROOT_TABLE_LAST_XEN_SLOT;
        for index in (0..512).filter(|index| !reserved.contains(index)) {
            bench.root.write(index, page_table::root().read(index));
        }
        accepted("another root", page_table::protect(bench.root));
        bench
    }

    /// Where the window's table of the level below is hooked in.
    fn place(&self, level: u32) -> Slot {
        let table = match level {
            2 => self.above[0],
            3 => self.above[1],
            _ => page_table::root(),
        };
        let index = page_table::index(WINDOW, level);
        Slot { table, index }
    }

    /// As each round begins.
    fn hook(&self) {
        accepted("hooked in", self.place(2).set(entry_of(self.tables[0])));
    }

    /// Nothing is pinned, hooked in or named.
    fn rest(&self) {
        for page in [self.tables[0], self.tables[1], self.root] {
            // It may be pinned.
            op(mmuext::UNPIN, page.mfn(), 0);
        }
        accepted("unhooked", self.place(2).set(0));
        for table in self.tables {
            for index in 0..ENTRIES as usize {
                accepted("empty", Slot { table, index }.set(0));
            }
        }
    }

    fn finish(&self) {
        accepted("no level 2", self.place(3).set(0));
        accepted("no level 3", self.place(4).set(0));
        for table in self.tables.into_iter().chain(self.above) {
            page_table::release_table(table);
        }
        accepted("the other root is memory", page_table::unprotect(self.root));
        frames::release(self.root);
        for page in self.pages {
            page.clear();
            accepted("no writable use", page_table::protect(page));
            accepted("nor any other", op(mmuext::PIN_L1, page.mfn(), 0));
            accepted("unpinned", op(mmuext::UNPIN, page.mfn(), 0));
            accepted("memory", page_table::unprotect(page));
            frames::release(page);
        }
    }

    /// A table, and an entry of it.
    fn slot(&self, racer: &mut Racer) -> Slot {
        Slot {
            table: self.tables[racer.below(2) as usize],
            index: racer.below(ENTRIES) as usize,
        }
    }

    /// What an entry may become: nothing, a page to read, or one to write.
    fn entry(&self, racer: &mut Racer) -> u64 {
        let page = self.pages[racer.below(PAGES as u64) as usize];
        match racer.below(3) {
            0 => 0,
            1 => page.maddr() | bits::KERNEL_RO | bits::NX,
            _ => page.maddr() | bits::KERNEL_RW | bits::NX,
        }
    }
}

/// Counts what a call came to, which may be refused because of what others do.
fn came_to(what: &'static str, result: i64) {
    match result {
        0 => DONE.fetch_add(1, Ordering::Relaxed),
        error if error == -errno::EINVAL || error == -errno::EPERM => {
            REFUSED.fetch_add(1, Ordering::Relaxed)
        }
        error => {
            wrong(what, 0, error as u64);
            0
        }
    };
}

fn update(racer: &mut Racer, bench: &Bench) {
    let (slot, entry) = (bench.slot(racer), bench.entry(racer));
    let kind = [0, mmu::PRESERVE_AD][racer.below(2) as usize];
    came_to("an update", mmu_update(slot.maddr() | kind, entry));
}

fn trapped(racer: &mut Racer, bench: &Bench) {
    let slot = bench.slot(racer);
    let (at, entry) = (slot.va(), bench.entry(racer));
    let result = match racer.below(5) {
        0 => store(at, entry),
        1 => exchange(at, entry),
        2 => protect(at),
        3 => remove(at),
        _ => replace(at, read(at), entry),
    };
    // A page that is in use as nothing is read-only, and no table whose entries can be written so.
    match result {
        FAULTED => REFUSED.fetch_add(1, Ordering::Relaxed),
        _ => DONE.fetch_add(1, Ordering::Relaxed),
    };
}

/// Reads through what others change. Of a translation that is gone the processor may know still.
fn look(racer: &mut Racer, bench: &Bench) {
    let at = WINDOW + 4096 * racer.below(ENTRIES);
    match read(at) {
        FAULTED => NOT_FOUND.fetch_add(1, Ordering::Relaxed),
        value => {
            let is_ones = value.wrapping_sub(CONTENTS) < bench.pages.len() as u64;
            expect("what is read", u64::from(is_ones), 1);
            FOUND.fetch_add(1, Ordering::Relaxed)
        }
    };
}

fn pin_table(racer: &mut Racer, bench: &Bench) {
    let table = bench.tables[racer.below(2) as usize].mfn();
    let command = [mmuext::PIN_L1, mmuext::PIN_L2, mmuext::UNPIN][racer.below(3) as usize];
    came_to("a pin of a table", op(command, table, 0));
}

fn hook(racer: &mut Racer, bench: &Bench) {
    let entry = match racer.below(3) {
        0 => 0,
        which => entry_of(bench.tables[which as usize - 1]),
    };
    came_to("a hook", bench.place(2).set(entry));
}

fn pin_root(racer: &mut Racer, bench: &Bench) {
    let command = [mmuext::PIN_L4, mmuext::UNPIN][racer.below(2) as usize];
    came_to("a pin of a root", op(command, bench.root.mfn(), 0));
}

/// Onto the other root, a look, and back.
fn change_root(racer: &mut Racer, bench: &Bench) {
    came_to("another root", op(mmuext::NEW_BASEPTR, bench.root.mfn(), 0));
    racer.now_and_then();
    look(racer, bench);
    let back = op(mmuext::NEW_BASEPTR, page_table::root().mfn(), 0);
    expect("the kernel's root", back as u64, 0);
}
