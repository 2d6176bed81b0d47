//! What is drawn: numbers, frames, entries, pointers; and the playground they refer to.

use crate::calls::LIST;
use guest_runtime::abi::{DOMID_INVALID, DOMID_SELF, HOLE_END, HOLE_START};
use guest_runtime::entry::start_info;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, call};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{trap, user};
use guests::lending;

/// Frames that nothing of the guest's own depends on.
const POOL: usize = 24;
/// Root slot of the window: addresses mapped by tables whose entries are drawn.
const SLOT: u64 = 3;
/// First address of the window.
pub const WINDOW: u64 = SLOT << 39;
/// Pages of the window that are drawn from.
pub const WINDOW_PAGES: u64 = 16;

/// The source of everything random, and the playground.
#[derive(Clone, Copy)]
pub struct Draw {
    state: u64,
    pool: [u64; POOL],
    /// L1, L2 and L3 of the window.
    tables: [Page; 3],
    /// Where arguments are put: the page behind it is not mapped.
    pub args: Page,
    /// Where lists of calls are put: no call's own arguments or results lie there.
    pub list: Page,
    /// The table of what is lent.
    lent: Page,
    /// Domains beside this one; to begin with, none that there is.
    pub neighbours: [u64; 2],
    /// vCPUs of this domain.
    pub vcpus: u64,
    /// Whether breakpoints on data are drawn.
    pub watches: bool,
    /// Calls that were not refused.
    pub accepted: u64,
}

impl Draw {
    /// Makes the playground.
    pub fn new(seed: u64) -> Self {
        let pool = core::array::from_fn(|_| {
            let page = frames::allocate();
            assert_eq!(page_table::hide(page), 0);
            page.mfn()
        });
        let tables = core::array::from_fn(|_| page_table::new_table());
        let (args, guard) = (frames::allocate(), frames::allocate());
        assert_eq!(guard.pfn, args.pfn + 1);
        assert_eq!(page_table::hide(guard), 0);
        let list = frames::allocate();
        let draw = Self {
            state: seed,
            pool,
            tables,
            args,
            list,
            lent: lending::table(),
            neighbours: [1, 2],
            vcpus: 1,
            watches: true,
            accepted: 0,
        };
        draw.mend();
        draw
    }

    /// The same playground for another vCPU: its own sequence, its own place for arguments.
    #[allow(dead_code)] // One of the two guests that have this file has one vCPU.
    pub fn beside(&self, seed: u64) -> Self {
        let (args, guard) = (frames::allocate(), frames::allocate());
        assert_eq!(guard.pfn, args.pfn + 1);
        assert_eq!(page_table::hide(guard), 0);
        Self {
            state: seed,
            args,
            list: frames::allocate(),
            ..*self
        }
    }

    /// A domain, mostly one that there is.
    pub fn domain(&mut self) -> u64 {
        match self.below(16) {
            0 => self.next(),
            1 => self.of(&[0x7fe0, 0x7fef, 0x7ff1, 0x7ff2, DOMID_INVALID, 0x7000]),
            2..=5 => self.neighbours[self.below(2) as usize],
            6 => 0,
            _ => DOMID_SELF,
        }
    }

    /// Lends a frame of the playground, or puts anything into the table.
    pub fn lend(&mut self) {
        let entry = match self.below(8) {
            0 => self.next(),
            1 => 0,
            _ => {
                let flags = self.of(&[1, 1, 1, 5, 2, 3, 0x101, 0x19]);
                flags | (self.domain() & 0xffff) << 16 | self.mfn() << 32
            }
        };
        let at = 8 + self.below(16);
        self.lent.write(at as usize, entry);
    }

    /// Links the window's tables again, if they still are tables.
    pub fn mend(&self) {
        let [l1, l2, l3] = self.tables;
        let root = page_table::root().entry_maddr(SLOT as usize);
        for (place, table) in [(root, l3), (l3.maddr(), l2), (l2.maddr(), l1)] {
            hypercall::mmu_update(place, table.maddr() | bits::TABLE);
        }
        hypercall::flush();
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A frame of the pool.
    pub fn pool(&mut self) -> u64 {
        self.pool[self.below(POOL as u64) as usize]
    }

    /// Puts a frame the hypervisor gave into the pool.
    pub fn keep(&mut self, mfn: u64) {
        let at = self.below(POOL as u64) as usize;
        self.pool[at] = mfn;
    }

    /// A frame that is not this domain's: ring 0's, the machine's, nobody's.
    pub fn foreign(&mut self) -> u64 {
        if self.once_in(4) {
            return self.next() >> self.below(64);
        }
        let mfn = self.below(1 << 17);
        let ours = frames::mfn_to_pfn(mfn) < start_info().nr_pages;
        if ours || self.is_pool(mfn) {
            0xfee00
        } else {
            mfn
        }
    }

    fn is_pool(&self, mfn: u64) -> bool {
        self.pool.contains(&mfn)
    }

    /// A frame: mostly of the pool.
    pub fn mfn(&mut self) -> u64 {
        match self.below(16) {
            0 => self.foreign(),
            1 => self.tables[self.below(3) as usize].mfn(),
            2 => self.args.mfn(),
            _ => self.pool(),
        }
    }

    /// A frame that is special to somebody, for calls that must refuse it or survive it.
    pub fn special(&mut self) -> u64 {
        match self.below(4) {
            0 => start_info().shared_info >> 12,
            1 => page_table::root().mfn(),
            _ => self.mfn(),
        }
    }

    /// Machine address of an entry. Of the guest's own root only slots it does not live in.
    pub fn entry_address(&mut self) -> u64 {
        if self.once_in(24) {
            let slot = if self.once_in(2) {
                3 + self.below(8)
            } else {
                256 + self.below(16)
            };
            return page_table::root().entry_maddr(slot as usize);
        }
        let index = if self.once_in(3) {
            self.below(512)
        } else {
            self.below(WINDOW_PAGES)
        };
        (self.mfn() << 12) + 8 * index
    }

    /// A page-table entry.
    pub fn entry(&mut self) -> u64 {
        let flags = match self.below(8) {
            0 => 0,
            1 => self.below(4096),
            2 | 3 => bits::KERNEL_RW,
            4 => bits::KERNEL_RO,
            _ => bits::TABLE,
        };
        let high = match self.below(16) {
            0 => self.next() << 52,
            1 => 1 << (52 + self.below(12)),
            _ => bits::NX & self.next(),
        };
        if self.once_in(32) {
            return self.next();
        }
        (self.mfn() << 12) | flags | high
    }

    /// An address of the window.
    pub fn window(&mut self) -> u64 {
        WINDOW + (self.below(WINDOW_PAGES) << 12) + 8 * self.below(512)
    }

    /// An address: of the argument page, or one that does not work.
    pub fn pointer(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => HOLE_START + self.below(HOLE_END - HOLE_START),
            2 => HOLE_END - self.below(64),
            3 => 0x7fff_ffff_f000 + self.below(0x2000),
            4 => (self.next() | 1 << 47) & !(1 << 63),
            5 => u64::MAX - self.below(256),
            6 => user::CODE + 8 * self.below(16), // Mapped, and not to be written.
            7 => self.window(),
            8 => self.args.va() + 4096 - self.below(64),
            _ => self.args.va() + 8 * self.below(512),
        }
    }

    /// An address where nothing is, or nothing to be written.
    pub fn nowhere(&mut self) -> u64 {
        let hole = HOLE_START + self.below(HOLE_END - HOLE_START);
        self.of(&[0, 0x1000, hole, user::CODE, u64::MAX - 64, 1 << 62])
    }

    /// Any word.
    pub fn value(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 | 2 => self.below(16),
            3 => self.below(5000),
            4 => self.mfn(),
            5 => DOMID_SELF,
            6 => self.pointer(),
            7 => u64::MAX - self.below(4096),
            8 => 1 << self.below(64),
            9 => HOLE_START + self.below(HOLE_END - HOLE_START),
            10 => self.next() >> 32,
            _ => self.next(),
        }
    }

    /// As [`Self::put`], but sometimes the address is another.
    pub fn place(&mut self, words: &[u64]) -> u64 {
        let at = self.put(words);
        if self.once_in(32) { self.pointer() } else { at }
    }

    /// Puts words where a call may read them.
    pub fn put(&mut self, words: &[u64]) -> u64 {
        let at = self.below((LIST - words.len()) as u64);
        for (index, word) in words.iter().enumerate() {
            self.args.write(at as usize + index, *word);
        }
        self.args.va() + 8 * at
    }

    /// As [`Self::place`], with one word changed now and then.
    pub fn place_roughly<const N: usize>(&mut self, mut words: [u64; N]) -> u64 {
        if self.once_in(6) {
            let at = self.below(N as u64) as usize;
            words[at] = self.value();
        }
        self.place(&words)
    }

    /// Makes a call and counts it if it was not refused.
    pub fn make(&mut self, number: u64, arguments: [u64; 5]) -> i64 {
        let result = call(number, arguments);
        if !(-4095..0).contains(&result) {
            self.accepted += 1;
        }
        result
    }

    /// Stores a word through the window where it shows a frame of the pool, be that a table or not.
    pub fn touch(&mut self) {
        let address = self.window();
        let index = (address >> 12) as usize & 511;
        let entry = self.tables[0].read(index);
        let mfn = (entry & bits::ADDRESS) >> 12;
        if entry & bits::PRESENT == 0 || !self.is_pool(mfn) {
            return;
        }
        let value = self.entry();
        let _ = trap::catch(|| {
            // SAFETY: a frame of the playground, in which Rust keeps nothing; a fault comes back to `catch`.
            unsafe { guest_runtime::instructions::store(address, value) }
        });
    }
}
