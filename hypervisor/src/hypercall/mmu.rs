//! Page-table calls: batches of updates, one address, and the extended operations.
//!
//! The control domain may make them on behalf of another domain, and map another domain's frames. A foreign leaf holds
//! its reference on the frame it maps, whoever owns it; nothing else remembers it (frames F4). It enters a table by an
//! update only: a table that is no longer in use as one holds nothing, and is refused when it is validated again with a
//! foreign leaf still in it. Stock kernels do not do that: such mappings are not copied by `fork`, and the tables of an
//! address space that ends are unpinned for good.

use crate::domain::{Domain, Guest};
use crate::hypercall::memory::CLEAR_UNITS;
use crate::hypercall::{Args, Outcome, Stop, descriptor, subject};
use crate::layout::{PAGE, guest_address_ok};
use crate::memory::{frame_table, m2p, phys};
use crate::mmu::{hold, hold_root, hold_writable, kept_root, show_m2p, tables};
use core::sync::atomic::Ordering;
use frames::table::{Change, Refused};
use frames::{Class, DomId, Entry, FrameType, Level, Mfn};
use guest_abi::domid::{DOMID_IO, DOMID_SELF, DOMID_XEN};
use guest_abi::mmu::{
    ForeignDomains, MMU_MACHPHYS_UPDATE, MMU_NORMAL_PT_UPDATE, MMU_PT_UPDATE_NO_TRANSLATE,
    MMU_PT_UPDATE_PRESERVE_AD, MmuUpdate, MmuextCommand, MmuextOp,
};
use guest_abi::{Errno, Wire};

/// Set in a count when a batch is continued: the number done so far is in the caller's `done`.
const CONTINUED: u64 = 1 << 31;

fn errno(refused: Refused) -> Errno {
    match refused {
        Refused::Invalid => Errno::Inval,
        Refused::NotYours => Errno::Perm,
        // Inside: the batch loops make the call again.
        Refused::Busy | Refused::Unfinished => Errno::Again,
    }
}

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

/// Whose frames the caller's entries may name: a domain's, devices' only, or what ring 0 shows of its own.
fn mapped_owner(g: &Guest<'_>, domid: u16) -> Result<DomId, Errno> {
    match domid {
        DOMID_IO | DOMID_XEN if !g.dom.privileged => Err(Errno::Perm),
        DOMID_IO => Ok(DomId::IO),
        DOMID_XEN => Ok(DomId::RING0),
        _ => subject(g, domid).map(|dom| dom.id),
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

/// The part of a batch that all batch calls share: list, count, where the number done goes.
struct Batch {
    list: u64,
    /// Bytes of an entry.
    size: u64,
    count: u64,
    done: u64,
    done_before: u64,
    done_at: u64,
}

impl Batch {
    fn new<T: Wire>(g: &Guest<'_>, args: &Args) -> Result<Batch, Stop> {
        let done_at = args[2];
        let mut done_before = 0;
        if done_at != 0 {
            let before = g.memory().counter(done_at)?;
            if args[1] & CONTINUED != 0 {
                done_before = u64::from(before);
            }
        }
        Ok(Batch {
            list: args[0],
            size: T::SIZE as u64,
            count: args[1] & 0xffff_ffff & !CONTINUED,
            done: 0,
            done_before,
            done_at,
        })
    }

    fn next(&self) -> Option<u64> {
        (self.done < self.count).then(|| self.at(self.done))
    }

    /// Where an entry lies.
    fn at(&self, index: u64) -> u64 {
        self.list.wrapping_add(index.wrapping_mul(self.size))
    }

    /// Tells the number done, whatever the outcome; a continuation starts behind it.
    #[inline(always)]
    fn finish(self, g: &Guest<'_>, outcome: Outcome) -> Outcome {
        if self.done_at != 0 {
            let total = self.done_before.wrapping_add(self.done) as u32;
            g.memory().put_u32(self.done_at, total)?;
        }
        match outcome {
            Err(Stop::Again(mut args)) => {
                args[0] = self.at(self.done);
                args[1] = (self.count - self.done) | CONTINUED;
                Err(Stop::Again(args))
            }
            other => other,
        }
    }
}

/// Flags of `update_va_mapping`.
const UVMF_FLUSH_MASK: u64 = 3;

/// `update_va_mapping(va, entry, flags)`.
pub fn update_va_mapping(g: &mut Guest<'_>, args: Args) -> Outcome {
    set_leaf(g, args, g.dom.id)
}

/// `update_va_mapping_otherdomain(va, entry, flags, domain)`: the caller's address, another's frame.
pub fn update_va_mapping_otherdomain(g: &mut Guest<'_>, args: Args) -> Outcome {
    let owner = mapped_owner(g, args[3] as u16)?;
    set_leaf(g, args, owner)
}

/// Sets the leaf for an address of the caller's, to name a frame of `owner`'s.
#[inline(always)]
fn set_leaf(g: &mut Guest<'_>, args: Args, owner: DomId) -> Outcome {
    // In a multicall there may be many, and each walks and changes a table.
    const UNITS: u64 = 3;
    g.charge(UNITS);
    let [va, value, flush, ..] = args;
    if !guest_address_ok(va) {
        return Err(Errno::Inval.into());
    }
    // Local or all; anything else is the address of a set of vCPUs.
    const UVMF_KNOWN: u64 = 7;
    if flush & UVMF_FLUSH_MASK != 0 && flush & !UVMF_KNOWN != 0 {
        vcpu_set(g, flush & !UVMF_KNOWN)?;
    }
    let (table, index, _) = g.memory().leaf(va).ok_or(Errno::Inval)?;
    let Class::Ram(frame) = frame_table::class(table) else {
        return Err(Errno::Inval.into());
    };
    frame
        .get_if_valid(Some(g.dom.id), FrameType::L1)
        .map_err(|_| Errno::Inval)?;
    let t = tables(g.dom.id);
    let outcome = t.update_here(table, Level::L1, index, Change::Set(Entry(value)), owner);
    t.put_table(table, Level::L1);
    outcome.map_err(errno)?;
    if flush & UVMF_FLUSH_MASK != 0 {
        // Beside the kind of flush: nothing for this vCPU's, "all", or the address of a set.
        if flush & !UVMF_FLUSH_MASK == 0 {
            g.flush_local();
        } else {
            g.flush_everywhere();
        }
    }
    Ok(0)
}

/// `mmuext_op(list, count, done, domain)`.
pub fn mmuext_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let target = subject(g, args[3] as u16)?;
    let mut batch = Batch::new::<MmuextOp>(g, &args)?;
    let outcome = loop {
        let Some(at) = batch.next() else {
            break Ok(0);
        };
        if !g.spend() {
            break Err(Stop::Again(args));
        }
        let step = match g.memory().value::<MmuextOp>(at) {
            Ok(op) => one_extended(g, op, target),
            Err(_) => Err(Errno::Fault),
        };
        match step {
            Ok(()) => batch.done += 1,
            Err(Errno::Again) => break Err(Stop::Again(args)),
            Err(errno) => break Err(errno.into()),
        }
    };
    batch.finish(g, outcome)
}

/// Whether an operation can be asked for in another domain's name: roots, descriptor tables, translations and caches are
/// those of the vCPU that asks.
fn is_of_memory(command: MmuextCommand) -> bool {
    matches!(
        command,
        MmuextCommand::PinL1Table
            | MmuextCommand::PinL2Table
            | MmuextCommand::PinL3Table
            | MmuextCommand::PinL4Table
            | MmuextCommand::UnpinTable
            | MmuextCommand::ClearPage
            | MmuextCommand::CopyPage
            | MmuextCommand::MarkSuper
            | MmuextCommand::UnmarkSuper
    )
}

fn one_extended(g: &mut Guest<'_>, op: MmuextOp, target: &Domain) -> Result<(), Errno> {
    let mfn = Mfn(op.arg1);
    let t = tables(target.id);
    let command = MmuextCommand::from_number(op.cmd).ok_or(Errno::NoSys)?;
    if target.id != g.dom.id && !is_of_memory(command) {
        return Err(Errno::Perm);
    }
    match command {
        MmuextCommand::PinL1Table => t.pin(mfn, Level::L1).map_err(errno),
        MmuextCommand::PinL2Table => t.pin(mfn, Level::L2).map_err(errno),
        MmuextCommand::PinL3Table => t.pin(mfn, Level::L3).map_err(errno),
        MmuextCommand::PinL4Table => t.pin(mfn, Level::L4).map_err(errno),
        MmuextCommand::UnpinTable => t.unpin(mfn).map_err(errno),
        MmuextCommand::NewBaseptr => new_kernel_root(g, mfn),
        MmuextCommand::NewUserBaseptr => new_user_root(g, mfn),
        MmuextCommand::TlbFlushMulti => {
            vcpu_set(g, op.arg2).map_err(|_| Errno::Inval)?;
            g.flush_everywhere();
            Ok(())
        }
        MmuextCommand::TlbFlushAll => {
            g.flush_everywhere();
            Ok(())
        }
        MmuextCommand::TlbFlushLocal => {
            g.flush_local();
            Ok(())
        }
        command @ (MmuextCommand::InvlpgLocal
        | MmuextCommand::InvlpgMulti
        | MmuextCommand::InvlpgAll) => {
            if command == MmuextCommand::InvlpgMulti {
                vcpu_set(g, op.arg2).map_err(|_| Errno::Inval)?;
            }
            if guest_address_ok(op.arg1) {
                if !g.dom.isolated {
                    crate::arch::cpu::invlpg(op.arg1);
                }
                if command != MmuextCommand::InvlpgLocal {
                    crate::arch::smp::flush::flush_others_of(g.dom.id);
                }
            }
            Ok(())
        }
        MmuextCommand::SetLdt => descriptor::set_ldt(g, op.arg1, op.arg2 as u32),
        command @ (MmuextCommand::FlushCache | MmuextCommand::FlushCacheGlobal) => {
            if !g.dom.privileged {
                return Err(Errno::Access);
            }
            crate::arch::cpu::write_back_caches();
            if command == MmuextCommand::FlushCacheGlobal {
                crate::arch::smp::call::write_back_other_caches();
            }
            Ok(())
        }
        MmuextCommand::ClearPage => whole_page(g, target.id, mfn, None),
        MmuextCommand::CopyPage => whole_page(g, target.id, mfn, Some(Mfn(op.arg2))),
        MmuextCommand::MarkSuper | MmuextCommand::UnmarkSuper => Err(Errno::OpNotSupp),
    }
}

/// A set of the domain's vCPUs, a bit each. Whoever is in it, all CPUs that run the domain flush.
fn vcpu_set(g: &Guest<'_>, at: u64) -> Result<u64, Errno> {
    let mut bytes = [0u8; 8];
    let len = (g.dom.max_vcpus as usize).div_ceil(8).min(8);
    g.memory().read(at, &mut bytes[..len])?;
    Ok(u64::from_le_bytes(bytes))
}

/// Fills a page of a domain's that may be written: with zeros, or from another page of the same domain's.
fn whole_page(g: &mut Guest<'_>, dom: DomId, to: Mfn, from: Option<Mfn>) -> Result<(), Errno> {
    g.charge(u64::from(CLEAR_UNITS));
    let Some(from) = from else {
        return with_writable(dom, to, || phys::zero_frame(to));
    };
    let _source = hold(dom, from)?;
    with_writable(dom, to, || {
        phys::copy_phys(to.0 * PAGE, from.0 * PAGE, PAGE)
    })
}

/// Does something to a frame of a domain's while it holds the frame as writable memory.
pub fn with_writable<T>(dom: DomId, mfn: Mfn, act: impl FnOnce() -> T) -> Result<T, Errno> {
    let _frame = hold_writable(dom, mfn)?;
    Ok(act())
}

fn new_kernel_root(g: &mut Guest<'_>, mfn: Mfn) -> Result<(), Errno> {
    let old = g.local.kernel_root;
    if mfn == old {
        return Ok(());
    }
    let new = hold_root(g.dom.id, mfn)?;
    show_m2p(mfn, true);
    g.local.kernel_root = new.keep();
    g.vcpu.walks.forget();
    g.vcpu.transit.set_roots(mfn, g.local.user_root);
    // The old root may go with its last reference: it must not be in force then.
    g.load_root();
    drop(kept_root(g.dom.id, old));
    Ok(())
}

fn new_user_root(g: &mut Guest<'_>, mfn: Mfn) -> Result<(), Errno> {
    let old = g.local.user_root;
    let new = (mfn.0 != 0).then_some(mfn);
    if new == old {
        return Ok(());
    }
    if let Some(new) = new {
        let root = hold_root(g.dom.id, new)?;
        // One table for both modes is the kernel's first of all.
        show_m2p(new, new == g.local.kernel_root);
        root.keep();
    }
    g.local.user_root = new;
    g.vcpu.transit.set_roots(g.local.kernel_root, new);
    drop(old.map(|old| kept_root(g.dom.id, old)));
    Ok(())
}
