//! Table work in parts, bound to vCPUs: what a call that stopped keeps until it is made again, and whose list of tables
//! to be undone is whose.
//!
//! # Invariants
//! - K1: a list belongs to the domain whose vCPU let the tables go, whosever they are: it pays for the work, and goes on
//!   only when that is done (`domain::unfinished`). What is let go where no vCPU is in hand is undone at once.
//! - K2: what a vCPU keeps is touched under its lock, and worked on without it, since work waits for other CPUs. Another may
//!   help: it takes the validation away for a part of the work (`frames::lent`). Its owner finds the tables busy meanwhile,
//!   and whoever gives it up, when the domain goes, leaves that to the helper.

use crate::arch::percpu;
use crate::domain::{self, Domain, Vcpu};
use crate::hypercall::BUDGET;
use crate::mmu::{HeldRoot, Ring0, tables};
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, Ordering};
use frames::audit::Hold;
use frames::held::{Descriptors, Held, Table};
use frames::lent::Lent;
use frames::table::{UndoList, Validation};
use frames::{DomId, FrameType, Level, Mfn};

/// Units of checking a page of descriptors.
pub const DESCRIPTOR_PAGE: i32 = 80;

/// References a call takes before it can do its work: pages of a descriptor table and two roots.
const MAX_PARKED: usize = crate::domain::local::GDT_FRAMES + 2;

/// A reference that a call took and will want again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Parked {
    Root(DomId, Mfn),
    Descriptors(DomId, Mfn),
}

impl Parked {
    fn dom(self) -> DomId {
        match self {
            Parked::Root(dom, _) | Parked::Descriptors(dom, _) => dom,
        }
    }

    fn give_back(self) {
        match self {
            Parked::Root(dom, mfn) => drop(Held::kept(tables(dom), mfn, Table(Level::L4))),
            Parked::Descriptors(dom, mfn) => drop(Held::kept(tables(dom), mfn, Descriptors)),
        }
    }
}

/// What a vCPU's call keeps until it is made again.
#[derive(Default)]
pub struct Kept {
    validation: Lent<Validation>,
    parked: ArrayVec<Parked, MAX_PARKED>,
}

/// Tables let go where no vCPU is in hand: while the machine starts, and when the control domain is taken apart.
static NOBODYS: UndoList = UndoList::new();

/// Whether they wait for [`undo_nobodys`], instead of being undone at once.
static IN_PARTS: AtomicBool = AtomicBool::new(false);

/// A section begins: a guest came in, or others were let in.
#[inline]
pub fn begin_section() {
    percpu::current().budget.set(BUDGET);
}

/// Gives the section at hand more of a share, where nobody can be let in before the work is done. With no vCPU in hand
/// there is nobody who waits.
pub fn extend_section() {
    let this = percpu::current();
    this.budget.set(match this.current.get() {
        Some(_) => BUDGET,
        None => i32::MAX,
    });
}

/// Whether the section at hand has some of its share left.
pub fn in_budget() -> bool {
    percpu::current().budget.get() > 0
}

/// Whether so many units are left of it; it is to be less than [`BUDGET`] by what calls count first.
pub fn has_room_for(units: i32) -> bool {
    percpu::current().budget.get() >= units
}

/// The units that are left of it.
#[inline]
pub fn left() -> u32 {
    percpu::current().budget.get().max(0).unsigned_abs()
}

/// Counts units of work.
#[inline]
pub fn charge(units: i32) {
    let budget = &percpu::current().budget;
    budget.set(budget.get().saturating_sub(units));
}

/// Where the tables wait that are let go now (K1).
pub(super) fn undo_list() -> &'static UndoList {
    match percpu::current().current.get() {
        Some(vcpu) => &vcpu.domain.undo,
        None => &NOBODYS,
    }
}

/// A table was let go: says whether somebody will undo it.
pub(super) fn undo_waits() -> bool {
    let this = percpu::current();
    this.unfinished.set(true);
    this.current.get().is_some() || IN_PARTS.load(Ordering::Relaxed)
}

/// Says whether tables that are let go where no vCPU is in hand wait for [`undo_nobodys`].
pub fn undo_in_parts(wait: bool) {
    IN_PARTS.store(wait, Ordering::Relaxed);
}

/// Undoes tables that were let go where no vCPU was in hand, as [`undo_some`].
pub fn undo_nobodys() -> bool {
    tables(DomId::RING0).undo_from(&NOBODYS)
}

/// Undoes tables that a domain's vCPUs let go, for as long as the budget lasts. True if none is left.
pub fn undo_some(dom: &Domain) -> bool {
    tables(dom.id).undo_from(&dom.undo)
}

pub(super) fn keep(validation: Validation) -> Option<Validation> {
    let this = percpu::current();
    let Some(vcpu) = this.current.get() else {
        return Some(validation);
    };
    this.unfinished.set(true);
    vcpu.kept.lock().validation.keep(validation)
}

pub(super) fn resume(dom: DomId, table: Mfn, level: Level) -> Option<Validation> {
    let vcpu = percpu::current().current.get()?;
    let kept = vcpu.kept.lock().validation.take()?;
    if kept.dom() == dom && kept.asked() == (table, level) {
        return Some(kept);
    }
    // Of a call that the guest has changed since: what this one waits for may be in it.
    tables(kept.dom()).abandon(kept);
    None
}

fn park(what: Parked) {
    let this = percpu::current();
    let Some(vcpu) = this.current.get() else {
        return what.give_back();
    };
    this.unfinished.set(true);
    let mut kept = vcpu.kept.lock();
    // Each once, however often the call is made again: there is room for what one call takes.
    let is_there = kept.parked.contains(&what);
    if is_there || kept.parked.try_push(what).is_err() {
        drop(kept);
        what.give_back();
    }
}

/// Holds a root until the call in hand is made again, so that what was checked stays checked.
pub fn park_root(root: HeldRoot) {
    park(Parked::Root(root.dom(), root.keep()));
}

/// As [`park_root`], of a page of descriptors.
pub fn park_descriptors(page: Held<'static, Ring0, Descriptors>) {
    park(Parked::Descriptors(page.dom(), page.keep()));
}

/// Whether a vCPU keeps anything for a call to be made again.
pub fn keeps_any(vcpu: &Vcpu) -> bool {
    let kept = vcpu.kept.lock();
    kept.validation.is_any() || !kept.parked.is_empty()
}

/// Names the references that a vCPU keeps for a call to be made again.
pub fn held(vcpu: &Vcpu, hold: &mut dyn FnMut(Mfn, Hold)) {
    let kept = vcpu.kept.lock();
    if let Some(validation) = kept.validation.here() {
        let (asked, level) = validation.asked();
        match validation.is_finished() {
            true => hold(asked, Hold::Type(level.frame_type())),
            false => validation.each(|table| hold(table, Hold::Work)),
        }
    }
    for parked in &kept.parked {
        match *parked {
            Parked::Root(_, mfn) => hold(mfn, Hold::Type(FrameType::L4)),
            Parked::Descriptors(_, mfn) => hold(mfn, Hold::Type(FrameType::Descriptors)),
        }
    }
}

/// Gives up what a vCPU keeps.
pub fn give_up(vcpu: &Vcpu) {
    give_up_if(vcpu, |_| true);
}

fn give_up_if(vcpu: &Vcpu, whose: impl Fn(DomId) -> bool) {
    let validation = vcpu.kept.lock().validation.give_up(Validation::dom, &whose);
    if let Some(validation) = validation {
        tables(validation.dom()).abandon(validation);
    }
    loop {
        let mut kept = vcpu.kept.lock();
        let Some(at) = kept.parked.iter().position(|p| whose(p.dom())) else {
            return;
        };
        let parked = kept.parked.swap_remove(at);
        drop(kept);
        parked.give_back();
    }
}

/// The vCPUs that may have tables of this domain in progress: its own, and those of the control domain.
fn who_may_hold(dom: &Domain) -> impl Iterator<Item = &'static Vcpu> + '_ {
    let control = domain::control().filter(|control| control.id != dom.id);
    dom.vcpus()
        .chain(control.into_iter().flat_map(Domain::vcpus))
}

/// Does some of the work on a domain's tables that others have in progress and that somebody waits for.
pub fn help(whose: DomId) {
    let Some(dom) = domain::get(whose) else {
        return;
    };
    for list in [Some(dom), domain::control()].into_iter().flatten() {
        if !undo_some(list) {
            return;
        }
    }
    for vcpu in who_may_hold(dom) {
        if !in_budget() {
            return;
        }
        if percpu::current()
            .current
            .get()
            .is_some_and(|here| core::ptr::eq(here, vcpu))
        {
            continue;
        }
        // K2.
        let wants = |v: &Validation| v.dom() == whose && !v.is_finished();
        let lent = vcpu.kept.lock().validation.lend(whose, wants);
        let Some(validation) = lent else { continue };
        let left = tables(whose).advance(validation);
        let unwanted = vcpu.kept.lock().validation.bring_back(left);
        if let Some(validation) = unwanted {
            tables(whose).abandon(validation);
        }
    }
}

/// Whether somebody helps a vCPU with work on a domain's tables at this moment.
fn is_helped(vcpu: &Vcpu, dom: &Domain) -> bool {
    vcpu.kept.lock().validation.is_away(dom.id)
}

/// Ends what is in progress on the tables of a domain that does not run any more, for as long as the budget lasts. True
/// if nothing is left; false: call again, after others were let in.
pub fn settle(dom: &Domain) -> bool {
    let mut helped = false;
    for vcpu in who_may_hold(dom) {
        give_up_if(vcpu, |whose| whose == dom.id);
        helped |= is_helped(vcpu, dom);
    }
    if helped {
        return false;
    }
    if percpu::current().current.get().is_some() {
        return undo_some(dom);
    }
    if IN_PARTS.load(Ordering::Relaxed) {
        return undo_some(dom) && undo_nobodys();
    }
    while !undo_some(dom) {
        extend_section();
    }
    true
}
