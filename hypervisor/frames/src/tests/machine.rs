//! A simple machine: memory, frame records, one CPU's translation cache, and what the tests want to know of it.

use super::schedule::{before_step, in_one_step};
use crate::frame::Snapshot;
use crate::table::{Tables, UndoList, Validation};
use crate::{Class, DomId, ENTRIES_PER_TABLE, Entry, Frame, L4_RESERVED, Level, Machine, Mfn};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::vec::Vec;

/// What [`Toy::init_root`] writes to the reserved slots.
pub const RING0_ENTRY: Entry = Entry(0x5a5a);
/// First word of a page that [`Toy::check_descriptors`] refuses.
pub const BAD_DESCRIPTOR: u64 = 0xbad;
/// Device registers that [`super::A`] may map; the frame after them nobody may.
pub const DEVICE: Mfn = Mfn(0x1000);
/// The one frame of ring 0's own that guests may see, if it is ring 0's.
pub const SHOWN: Mfn = Mfn(20);
/// The one that is shown as if it were [`super::B`]'s.
pub const SHOWN_OF_B: Mfn = Mfn(22);
/// Beyond what the CPU can address.
pub const ABSENT: Mfn = Mfn(0x10_0000);

type Page = Vec<AtomicU64>;

/// What a CPU may still do through its translation cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cached {
    pub mfn: u64,
    pub writable: bool,
    /// Assignment of the frame at which the translation was made.
    pub generation: u32,
}

pub struct Toy {
    frames: Vec<Frame>,
    memory: Vec<Page>,
    generations: Vec<AtomicU32>,
    clock: AtomicU32,
    flushed_at: AtomicU32,
    /// Full flushes so far.
    pub flushes: AtomicU32,
    /// Flushes of upper-level entries so far.
    pub upper_flushes: AtomicU32,
    /// CPUs speculate through non-present entries.
    pub l1tf: AtomicBool,
    /// Every leaf written since the last flush: the worst a translation cache may hold.
    cache: Mutex<BTreeSet<Cached>>,
    /// Frames given back, in order.
    pub released: Mutex<Vec<Mfn>>,
    undo: UndoList,
    /// Whether tables let go are left to be undone later.
    pub waits: AtomicBool,
    /// Units left of the section in hand.
    pub units: AtomicU32,
    /// What the party in hand keeps until it makes its call again.
    pub kept: Mutex<Option<Validation>>,
    /// Whether it can keep anything.
    pub keeps: AtomicBool,
}

/// A frame's word as far as it means anything, and what the page holds.
pub type Image = Vec<(
    (
        DomId,
        bool,
        bool,
        u64,
        u64,
        Option<(crate::FrameType, bool)>,
    ),
    Vec<u64>,
)>;

impl Toy {
    pub fn new(nr_frames: usize) -> Toy {
        let page = |_| (0..ENTRIES_PER_TABLE).map(|_| AtomicU64::new(0)).collect();
        Toy {
            frames: (0..nr_frames).map(|_| Frame::new()).collect(),
            memory: (0..nr_frames).map(page).collect(),
            generations: (0..nr_frames).map(|_| AtomicU32::new(0)).collect(),
            clock: AtomicU32::new(1),
            flushed_at: AtomicU32::new(0),
            flushes: AtomicU32::new(0),
            upper_flushes: AtomicU32::new(0),
            l1tf: AtomicBool::new(false),
            cache: Mutex::default(),
            released: Mutex::default(),
            undo: UndoList::new(),
            waits: AtomicBool::new(false),
            units: AtomicU32::new(u32::MAX),
            kept: Mutex::default(),
            keeps: AtomicBool::new(false),
        }
    }

    pub fn nr_frames(&self) -> u64 {
        self.frames.len() as u64
    }

    pub fn tables(&self, dom: DomId) -> Tables<'_, Toy> {
        Tables::new(self, dom)
    }

    pub fn frame(&self, mfn: u64) -> &Frame {
        &self.frames[mfn as usize]
    }

    pub fn at(&self, mfn: u64) -> Snapshot {
        in_one_step(|| self.frame(mfn).snapshot())
    }

    /// (type count, general count).
    pub fn counts(&self, mfn: u64) -> (u64, u64) {
        (self.at(mfn).type_count(), self.at(mfn).general_count())
    }

    pub fn peek(&self, mfn: u64, index: usize) -> Entry {
        Entry(self.memory[mfn as usize][index].load(SeqCst))
    }

    /// Writes memory as a device or the past would: no rule is asked.
    pub fn poke(&self, mfn: u64, index: usize, entry: Entry) {
        self.memory[mfn as usize][index].store(entry.0, SeqCst);
    }

    /// What the allocator does: the last owner's translations end before the next owner begins.
    pub fn assign(&self, mfn: Mfn, dom: DomId) -> bool {
        let frame = self.frame(mfn.0);
        if frame.snapshot().is_alive() {
            return false;
        }
        self.flush_since(frame.stamp());
        self.memory[mfn.0 as usize]
            .iter()
            .for_each(|word| word.store(0, SeqCst));
        self.generations[mfn.0 as usize].fetch_add(1, SeqCst);
        frame.assign(dom)
    }

    /// The owner gives the frame up.
    pub fn give_up(&self, mfn: Mfn) -> bool {
        let frame = self.frame(mfn.0);
        if !frame.disown() {
            return false;
        }
        let left = frame.put(self.flush_clock());
        self.tables(frame.snapshot().owner()).after(left, mfn);
        true
    }

    /// Time goes on: another CPU flushes, which is no help to this one.
    pub fn tick(&self) {
        before_step();
        self.clock.fetch_add(1, SeqCst);
    }

    /// The flush clock at this CPU's last flush.
    pub fn flushed_at(&self) -> u32 {
        self.flushed_at.load(SeqCst)
    }

    /// Drops all translations but those that memory still holds.
    pub fn flush(&self) {
        let now = self.clock.fetch_add(1, SeqCst).wrapping_add(1);
        self.flushes.fetch_add(1, SeqCst);
        let mut cache = self.cache.lock().unwrap();
        cache.clear();
        self.use_all(&mut cache);
        self.flushed_at.store(now, SeqCst);
    }

    /// The CPU uses every leaf there is.
    pub fn touch(&self) {
        self.use_all(&mut self.cache.lock().unwrap());
    }

    fn use_all(&self, cache: &mut BTreeSet<Cached>) {
        for mfn in 0..self.nr_frames() {
            let snap = self.at(mfn);
            if snap.is_validated() && snap.frame_type() == crate::FrameType::L1 {
                (0..ENTRIES_PER_TABLE)
                    .for_each(|index| self.may_cache(cache, self.peek(mfn, index)));
            }
        }
    }

    /// A CPU may use any leaf of a table as soon as it is written.
    fn may_cache(&self, cache: &mut BTreeSet<Cached>, leaf: Entry) {
        if leaf.is_present() && leaf.mfn().0 < self.nr_frames() {
            let generation = self.generations[leaf.mfn().0 as usize].load(SeqCst);
            cache.insert(Cached {
                mfn: leaf.mfn().0,
                writable: leaf.is_writable(),
                generation,
            });
        }
    }

    /// The translations that break F5: writable ones of pages in use as tables or descriptors, and any to a frame
    /// that has found another owner.
    pub fn stale(&self) -> Vec<Cached> {
        let cache = self.cache.lock().unwrap();
        let bad = |cached: &&Cached| {
            let snap = self.at(cached.mfn);
            let reassigned =
                self.generations[cached.mfn as usize].load(SeqCst) != cached.generation;
            (cached.writable && snap.is_validated()) || (snap.is_alive() && reassigned)
        };
        cache.iter().filter(bad).copied().collect()
    }

    /// Everything the rules govern.
    pub fn image(&self) -> Image {
        let page = |mfn: u64| {
            let snap = self.at(mfn);
            let counts = self.counts(mfn);
            let used = (counts.0 > 0).then(|| (snap.frame_type(), snap.is_validated()));
            let words = self.memory[mfn as usize]
                .iter()
                .map(|word| word.load(SeqCst))
                .collect();
            (
                (
                    snap.owner(),
                    snap.is_pinned(),
                    snap.is_allocated(),
                    counts.0,
                    counts.1,
                    used,
                ),
                words,
            )
        };
        (0..self.nr_frames()).map(page).collect()
    }

    fn written(&self, table: Mfn, entry: Entry) {
        if self.at(table.0).frame_type() == crate::FrameType::L1 {
            self.may_cache(&mut self.cache.lock().unwrap(), entry);
        }
    }
}

impl Machine for Toy {
    fn class(&self, mfn: Mfn) -> Class<'_> {
        match self.frames.get(mfn.0 as usize) {
            Some(frame) => Class::Ram(frame),
            None if mfn < ABSENT => Class::Io,
            None => Class::Absent,
        }
    }

    fn may_map_io(&self, dom: DomId, mfn: Mfn) -> bool {
        dom == super::A && mfn == DEVICE
    }

    fn ring0_shows(&self, mfn: Mfn) -> bool {
        mfn == SHOWN
    }

    fn ring0_shows_of(&self, dom: DomId, mfn: Mfn) -> bool {
        dom == super::B && mfn == SHOWN_OF_B
    }

    fn read_entry(&self, table: Mfn, index: usize) -> Entry {
        // Every entry of a table being validated would make too many orders.
        if index < 2 {
            before_step();
        }
        self.peek(table.0, index)
    }

    fn write_entry(&self, table: Mfn, index: usize, entry: Entry) {
        self.poke(table.0, index, entry);
        self.written(table, entry);
    }

    fn swap_entry(&self, table: Mfn, index: usize, new: Entry) -> Entry {
        before_step();
        let old = Entry(self.memory[table.0 as usize][index].swap(new.0, SeqCst));
        self.written(table, new);
        old
    }

    fn replace_entry(&self, table: Mfn, index: usize, old: Entry, new: Entry) -> Result<(), Entry> {
        before_step();
        let word = &self.memory[table.0 as usize][index];
        word.compare_exchange(old.0, new.0, SeqCst, SeqCst)
            .map_err(Entry)?;
        self.written(table, new);
        Ok(())
    }

    fn init_root(&self, _dom: DomId, root: Mfn) {
        L4_RESERVED.for_each(|slot| self.poke(root.0, slot, RING0_ENTRY));
    }

    fn check_descriptors(&self, page: Mfn) -> bool {
        self.peek(page.0, 0).0 != BAD_DESCRIPTOR
    }

    fn flush_clock(&self) -> u32 {
        before_step();
        self.clock.load(SeqCst)
    }

    fn flush_since(&self, stamp: u32) {
        before_step();
        if self.flushed_at().wrapping_sub(stamp) as i32 <= 0 {
            self.flush();
        }
    }

    fn flush_upper(&self, _dom: DomId) {
        self.upper_flushes.fetch_add(1, SeqCst);
        self.flush();
    }

    fn release(&self, mfn: Mfn) {
        assert!(
            !self.at(mfn.0).is_alive(),
            "F3: {mfn:?} released while in use"
        );
        self.frame(mfn.0).retire();
        self.released.lock().unwrap().push(mfn);
    }

    fn undo_list(&self) -> &UndoList {
        &self.undo
    }

    fn undo_waits(&self) -> bool {
        self.waits.load(SeqCst)
    }

    fn budget(&self) -> u32 {
        self.units.load(SeqCst)
    }

    fn charge(&self, units: u32) {
        let left = self.budget().saturating_sub(units);
        self.units.store(left, SeqCst);
    }

    fn keep(&self, validation: Validation) -> Option<Validation> {
        if self.keeps.load(SeqCst) {
            self.kept.lock().unwrap().replace(validation)
        } else {
            Some(validation)
        }
    }

    fn resume(&self, dom: DomId, table: Mfn, level: Level) -> Option<Validation> {
        let mut kept = self.kept.lock().unwrap();
        kept.take_if(|v| v.dom() == dom && v.asked() == (table, level))
    }

    fn nonpresent_may_name_memory(&self) -> bool {
        !self.l1tf.load(SeqCst)
    }
}
