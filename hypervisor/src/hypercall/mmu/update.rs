//! `mmu_update`: a batch of entries, each by its machine address; and of words of the machine-to-physical table.
//!
//! Neighbours in a batch are mostly in one table: the batch takes one reference on it and keeps it until an entry lies
//! elsewhere or the batch ends. A frame that is no table is stored to while it is held as writable memory, so that it
//! becomes none meanwhile.

use crate::domain::Guest;
use crate::hypercall::mmu::batch::Batch;
use crate::hypercall::mmu::{errno, mapped_owner, with_writable};
use crate::hypercall::{Args, Outcome, Stop, subject};
use crate::layout::PAGE;
use crate::memory::{frame_table, m2p, phys};
use crate::mmu::tables;
use core::sync::atomic::Ordering;
use frames::table::Change;
use frames::{Class, DomId, Entry, Level, Mfn};
use guest_abi::Errno;
use guest_abi::domid::DOMID_SELF;
use guest_abi::mmu::{
    ForeignDomains, MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE,
    MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate,
};

/// `mmu_update(list, count, done, domains)`.
pub fn mmu_update(g: &mut Guest<'_>, args: Args) -> Outcome {
    let whose = Whose::of(g, args[3])?;
    let mut batch = Batch::new::<MmuUpdate>(g, &args)?;
    let mut held = None;
    let outcome = loop {
        let Some(at) = batch.next() else {
            break Ok(0);
        };
        if !g.spend() {
            break Err(Stop::Again(args));
        }
        let step = match g.memory().value::<MmuUpdate>(at) {
            Ok(update) => one_update(&mut held, update, whose),
            Err(_) => Err(Errno::Fault),
        };
        match step {
            Ok(()) => batch.done += 1,
            Err(Errno::Again) => break Err(Stop::Again(args)),
            Err(errno) => break Err(errno.into()),
        }
    };
    drop_held(whose, held);
    batch.finish(g, outcome)
}

/// Whom a batch of updates is about.
#[derive(Clone, Copy)]
struct Whose {
    /// Whose tables change.
    tables: DomId,
    /// Whose frames entries may name.
    frames: DomId,
}

impl Whose {
    /// # Errors
    /// As [`mapped_owner`] for either; `-EPERM` for another's tables that are to name what is not their domain's: only
    /// the control domain's own tables have foreign leaves without a grant.
    #[inline]
    fn of(g: &Guest<'_>, argument: u64) -> Result<Whose, Errno> {
        // What nearly all calls say.
        if argument as u32 == u32::from(DOMID_SELF) {
            return Ok(Whose {
                tables: g.dom.id,
                frames: g.dom.id,
            });
        }
        Whose::named(g, ForeignDomains::from_argument(argument as u32))
    }

    #[inline(never)]
    fn named(g: &Guest<'_>, domains: ForeignDomains) -> Result<Whose, Errno> {
        let whose = Whose {
            tables: subject(g, domains.tables)?.id,
            frames: mapped_owner(g, domains.frames)?,
        };
        let allowed = whose.tables == g.dom.id || whose.tables == whose.frames;
        allowed.then_some(whose).ok_or(Errno::Perm)
    }
}

/// A table on which a batch holds a reference while entries stay in it.
type Held = Option<(Mfn, Level)>;

fn drop_held(whose: Whose, held: Held) {
    if let Some((mfn, level)) = held {
        tables(whose.tables).put_table(mfn, level);
    }
}

#[inline]
fn one_update(held: &mut Held, update: MmuUpdate, whose: Whose) -> Result<(), Errno> {
    let command = update.command();
    if command == MMU_MACHPHYS_UPDATE {
        return set_m2p(whose.frames, Mfn(update.ptr >> 12), update.val);
    }
    let change = match command {
        MMU_NORMAL_PT_UPDATE | MMU_PT_UPDATE_NO_TRANSLATE => Change::Set(Entry(update.val)),
        MMU_PT_UPDATE_PRESERVE_AD => Change::SetKeepAd(Entry(update.val)),
        _ => return Err(Errno::NoSys),
    };
    let mfn = Mfn(update.address() >> 12);
    let index = (update.address() & (PAGE - 1)) as usize / 8;
    if held.is_none_or(|(table, _)| table != mfn) {
        drop_held(whose, held.take());
        let Class::Ram(frame) = frame_table::class(mfn) else {
            return Err(Errno::Inval);
        };
        let snap = frame.snapshot();
        match snap.frame_type().level() {
            Some(level)
                if snap.type_count() > 0
                    && frame
                        .get_if_valid(Some(whose.tables), level.frame_type())
                        .is_ok() =>
            {
                *held = Some((mfn, level));
            }
            _ => return plain_store(whose.tables, mfn, index, change),
        }
    }
    let Some((_, level)) = *held else {
        return Err(Errno::Inval);
    };
    tables(whose.tables)
        .update_here(mfn, level, index, change, whose.frames)
        .map(|_| ())
        .map_err(errno)
}

/// An update of a frame that is no table: a plain store, as long as the frame may be written.
fn plain_store(dom: DomId, mfn: Mfn, index: usize, change: Change) -> Result<(), Errno> {
    with_writable(dom, mfn, || {
        let word = phys::word(mfn, index);
        match change {
            Change::Set(new) => word.store(new.0, Ordering::Relaxed),
            Change::SetKeepAd(new) => {
                let keep = word.load(Ordering::Relaxed) & (Entry::ACCESSED | Entry::DIRTY);
                word.store(new.0 | keep, Ordering::Relaxed);
            }
            Change::And(mask) => {
                word.fetch_and(mask, Ordering::Relaxed);
            }
            Change::Replace { expected, new } => {
                let (old, new) = (expected.0, new.0);
                let _ = word.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    })
}

fn set_m2p(owner: DomId, mfn: Mfn, pfn: u64) -> Result<(), Errno> {
    let Class::Ram(frame) = frame_table::class(mfn) else {
        return Err(Errno::Inval);
    };
    if owner == DomId::RING0 || frame.snapshot().owner() != owner {
        return Err(Errno::Perm);
    }
    m2p::set(mfn, pfn);
    Ok(())
}
