//! What the rules need from the machine beneath, and how they refuse.

use crate::entry::{ENTRIES_PER_TABLE, Entry};
use crate::frame::{Denied, DomId, Frame, Level, Mfn};
use crate::work::{UndoList, Validation};

/// What stands behind a frame number.
#[derive(Clone, Copy, Debug)]
pub enum Class<'a> {
    /// Memory that the frame table describes.
    Ram(&'a Frame),
    /// An address that is no memory of ours: device registers, firmware, the first MiB.
    Io,
    /// Beyond what the CPU can address.
    Absent,
}

/// The machine beneath: frame records, table memory, flushes.
pub trait Machine {
    /// What stands behind `mfn`.
    fn class(&self, mfn: Mfn) -> Class<'_>;
    /// Whether `dom` may map the non-memory frame `mfn`.
    fn may_map_io(&self, dom: DomId, mfn: Mfn) -> bool;
    /// Whether guests may only read the non-memory frame `mfn`. A leaf that asks for more is stored without it.
    fn io_is_read_only(&self, _mfn: Mfn) -> bool {
        false
    }
    /// Whether a domain that may map other domains' frames may read this frame of ring 0's own.
    fn ring0_shows(&self, _mfn: Mfn) -> bool {
        false
    }
    /// Whether this frame of ring 0's own may be read as if it were the domain's.
    fn ring0_shows_of(&self, _dom: DomId, _mfn: Mfn) -> bool {
        false
    }
    /// Reads an entry of a table. `index` is below [`ENTRIES_PER_TABLE`](crate::ENTRIES_PER_TABLE).
    fn read_entry(&self, table: Mfn, index: usize) -> Entry;
    /// Calls `act` with each entry of a table from `from` on that is not zero, in order of index, until it fails. The
    /// caller alone changes entries of the table meanwhile, or none but accessed and dirty bits of present ones change.
    #[inline]
    fn each_entry<E>(
        &self,
        table: Mfn,
        from: usize,
        mut act: impl FnMut(usize, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        for index in from..ENTRIES_PER_TABLE {
            let entry = self.read_entry(table, index);
            if entry != Entry::default() {
                act(index, entry)?;
            }
        }
        Ok(())
    }
    /// Writes an entry of a table that no CPU uses yet.
    fn write_entry(&self, table: Mfn, index: usize, entry: Entry);
    /// Exchanges a live entry and returns the old one.
    fn swap_entry(&self, table: Mfn, index: usize, new: Entry) -> Entry;
    /// Replaces a live entry if it still is `old`; otherwise returns what it is.
    fn replace_entry(&self, table: Mfn, index: usize, old: Entry, new: Entry) -> Result<(), Entry>;
    /// Fills the reserved slots of a root that is about to be usable.
    fn init_root(&self, dom: DomId, root: Mfn);
    /// Checks and normalises a page of descriptors; false refuses it.
    fn check_descriptors(&self, page: Mfn) -> bool;
    /// The flush clock. Never goes back (modulo 2^32), and is read after what precedes it in the program.
    fn flush_clock(&self) -> u32;
    /// Flushes every CPU that has not flushed since the clock read `stamp` (F5).
    fn flush_since(&self, stamp: u32);
    /// Flushes what any CPU may have cached of `dom`'s upper-level entries: every CPU with one of its roots
    /// loaded. Done when this returns (F5).
    fn flush_upper(&self, dom: DomId);
    /// Takes back a frame whose last reference is gone (F3). Called once for each such frame.
    fn release(&self, mfn: Mfn);
    /// Whether a non-present entry may carry the address of real memory: not on CPUs that speculate through
    /// it (L1 terminal fault).
    fn nonpresent_may_name_memory(&self) -> bool;
    /// How many more units of work, of one entry each, the section at hand may do.
    fn budget(&self) -> u32 {
        u32::MAX
    }
    /// Counts units that were done.
    fn charge(&self, _units: u32) {}
    /// Keeps a validation for the party in hand until it makes the call again. Each party keeps one: the one it kept
    /// before, or this one if it cannot keep any, is the answer, to be given up.
    fn keep(&self, validation: Validation) -> Option<Validation> {
        Some(validation)
    }
    /// The party's own validation of this table, if it has kept one.
    fn resume(&self, _dom: DomId, _table: Mfn, _level: Level) -> Option<Validation> {
        None
    }
    /// The party in hand met a table of this domain's that somebody else has in progress, and will try again.
    fn met_busy(&self, _dom: DomId) {}
    /// Where tables wait that the party in hand let go.
    fn undo_list(&self) -> &UndoList;
    /// Something was added to that list. Says whether it is worked off later; if not, that is done at once.
    fn undo_waits(&self) -> bool {
        false
    }
}

/// Why a change was refused. No reference, no use of a frame and no live entry has changed; a page that was
/// refused as a table may keep entries brought to their stored form (see [`Entry`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The request makes no sense or breaks a rule (`-EINVAL`).
    Invalid,
    /// The frame is not the caller's to map (`-EPERM`).
    NotYours,
    /// Somebody else is validating or undoing the frame: the call is to be made again.
    Busy,
    /// The budget ended before the work did: the call is to be made again, and goes on then.
    Unfinished,
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Refused {
        match denied {
            Denied::NotYours => Refused::NotYours,
            Denied::Busy => Refused::Busy,
            Denied::InUse | Denied::TooMany => Refused::Invalid,
        }
    }
}
