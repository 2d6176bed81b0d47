//! Other terms for vCPUs, one or all of a domain's: all of them get them, or none. It is decided in one section, and given in
//! parts.
//!
//! ```text
//!  decide       all have room where they are: what each will have is charged beside what it has      one section
//!  give         the next few get it, and what they had more is given back                            a section each
//! ```
//!
//! # Invariants
//! - G1: nothing is changed before all is decided, and what is refused changes nothing. From the decision on each vCPU is
//!   charged the more of both until it has what it was granted: nobody finds room that is another's in between.
//! - G2: one change is under way at a time. Who comes with another gives the next part of it first, so that none waits for
//!   whoever began it.
//! - G3: a vCPU that waits is in its queue and not removed: who moves it or removes it gives it what it waits for first
//!   ([`settle`]). So its record is there, and its domain's, for as long as the books name it.

use super::allowance::is_allowed;
use super::cpu::CpuSched;
use super::dues;
use super::placement::{self, Books};
use super::terms::show;
use super::{ask, at_home, cpu, each_at_home};
use crate::device::timer;
use crate::domain::{Domain, MAX_VCPUS, Vcpu};
use ::cpus::set::CpuSet;
use ::reservations::{Charges, Dues, Exceeded, Member, New, Next, Part, Refusal, Standing, Terms};
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering::Relaxed;

/// How many vCPUs get what they were granted in one section.
const PART: u32 = 16;

// A bit each.
const _: () = assert!(MAX_VCPUS <= 64);

/// Why terms are not granted.
pub enum NotGranted {
    /// The first vCPU that is refused, and why.
    Refused(u32, Refusal),
    /// The domain, which asked for itself, may not.
    NotAllowed(Exceeded),
}

/// What became of a wish.
pub enum Granted {
    /// All have it, the last of them from this system time on, or by now.
    All(u64),
    /// All are granted it and not all have it yet: [`go_on`] with this number.
    Begun(u64),
    /// There is room for all if this one goes to that CPU first. Nothing was granted.
    Goes(&'static Vcpu, u32),
    /// Another change was under way, of which a part was done. To be asked again.
    Busy,
}

/// Where vCPUs may run.
pub struct Allowed {
    cpus: [CpuSet; MAX_VCPUS],
}

impl Allowed {
    /// Of these. Before the placement is locked: it may be something else by the time one of them has to go ([`Granted::Goes`]),
    /// which is looked at then (`moves`, V4).
    pub fn of(vcpus: impl Iterator<Item = &'static Vcpu>) -> Allowed {
        let mut cpus = [CpuSet::EMPTY; MAX_VCPUS];
        for vcpu in vcpus {
            if let Some(place) = cpus.get_mut(vcpu.id as usize) {
                *place = vcpu.affinity.lock().hard;
            }
        }
        Allowed { cpus }
    }
}

/// Those of a domain's vCPUs that terms are asked for, with what they have now.
struct Asking {
    vcpus: ArrayVec<&'static Vcpu, MAX_VCPUS>,
    members: ArrayVec<Member, MAX_VCPUS>,
}

impl Asking {
    /// Under the placement's lock: none is removed meanwhile (P2).
    fn new(vcpus: impl Iterator<Item = &'static Vcpu>, books: &Books) -> Asking {
        let mut asking = Asking {
            vcpus: ArrayVec::new(),
            members: ArrayVec::new(),
        };
        for vcpu in vcpus {
            if let Some((home, charged)) = dues::of(books, vcpu)
                && asking.vcpus.try_push(vcpu).is_ok()
            {
                let member = Member::new(home, charged.granted());
                asking.members.push(member);
            }
        }
        asking
    }

    /// Where the one in a place may go.
    fn allowed(&self, may: &Allowed, place: usize) -> CpuSet {
        let id = self.vcpus.get(place).map(|vcpu| vcpu.id as usize);
        let cpus = id.and_then(|id| may.cpus.get(id));
        cpus.copied().unwrap_or(CpuSet::EMPTY)
    }

    fn refused(&self, (place, why): (usize, Refusal)) -> NotGranted {
        NotGranted::Refused(self.vcpus.get(place).map_or(0, |vcpu| vcpu.id), why)
    }
}

/// Gives some of a domain's vCPUs other terms from their next periods on, all of them or none; or says why not.
/// `for_itself`: the domain asks for its own, and has to be allowed.
pub fn grant(
    dom: &'static Domain,
    vcpus: impl Iterator<Item = &'static Vcpu> + Clone,
    may: &Allowed,
    to: &Terms,
    for_itself: bool,
) -> Result<Granted, NotGranted> {
    let mut decisions = Decisions::default();
    let granted = {
        let mut books = placement::lock();
        let no_cpu = NotGranted::Refused(0, Refusal::NoCpu);
        let books = books.as_mut().ok_or(no_cpu)?;
        if carry_on(books, &mut decisions).is_some() {
            Granted::Busy
        } else {
            let mut most = u64::MAX;
            if for_itself {
                let named = vcpus.clone().fold(0, |named, vcpu| named | bit(vcpu));
                most = is_allowed(books, dom, named, to).map_err(NotGranted::NotAllowed)?;
            }
            let asking = Asking::new(vcpus, books);
            let mut members = asking.members.clone();
            let allowed = |place| asking.allowed(may, place);
            let now = timer::now_ns();
            let goes = books
                .placement
                .amend_in_place(now, &mut members, to, allowed);
            let refused =
                |(place, why): (usize, Refusal)| asking.refused((place, why.within(most)));
            match goes.map_err(refused)? {
                None => begin(books, dom, &asking, New::Terms(*to), &mut decisions),
                Some((place, cpu)) => match asking.vcpus.get(place) {
                    Some(vcpu) => Granted::Goes(vcpu, cpu),
                    None => Granted::Busy,
                },
            }
        }
    };
    decisions.ask();
    Ok(granted)
}

/// Whether [`grant`] would grant terms to all of these, wherever they may go. Nothing is changed. `None` if another change
/// was under way: to be asked again.
pub fn would_grant(
    vcpus: impl Iterator<Item = &'static Vcpu>,
    may: &Allowed,
    to: &Terms,
) -> Option<bool> {
    let mut decisions = Decisions::default();
    let would = {
        let mut books = placement::lock();
        let books = books.as_mut()?;
        match carry_on(books, &mut decisions) {
            Some(_) => None,
            None => {
                let asking = Asking::new(vcpus, books);
                let mut members = asking.members.clone();
                let allowed = |place| asking.allowed(may, place);
                let now = timer::now_ns();
                let goes = books.placement.would_amend(now, &mut members, to, allowed);
                Some(goes.is_ok())
            }
        }
    };
    decisions.ask();
    would
}

/// Gives all vCPUs of a domain another weight, from their next periods on; what they are promised stays. As [`grant`], and
/// never refused.
pub fn weigh(dom: &'static Domain, weight: u16) -> Granted {
    let mut decisions = Decisions::default();
    let granted = match placement::lock().as_mut() {
        Some(books) => match carry_on(books, &mut decisions) {
            Some(_) => Granted::Busy,
            None => {
                dom.weight.store(weight, Relaxed);
                // Those that are in no queue any more do not wait for it (G3).
                let asking = Asking::new(dom.vcpus(), books);
                begin(books, dom, &asking, New::Weight(weight), &mut decisions)
            }
        },
        None => Granted::Busy,
    };
    decisions.ask();
    granted
}

/// Goes on with what was begun under a number, which may be any.
pub fn go_on(number: u64) -> Standing {
    let mut decisions = Decisions::default();
    let standing = match placement::lock().as_mut() {
        Some(books) => {
            if books.parts.standing(number) == Standing::UnderWay {
                carry_on(books, &mut decisions);
            }
            books.parts.standing(number)
        }
        None => Standing::NeverBegun,
    };
    decisions.ask();
    standing
}

/// When the last of these has what it was granted, in system time; 0 if all have it by now.
pub fn in_force_at(vcpus: impl Iterator<Item = &'static Vcpu>) -> u64 {
    let mut last = 0;
    each_at_home(vcpus, |sched, _, now, vcpu| {
        if let Ok(Some((_, at))) = sched.queue.coming(vcpu.home.place()) {
            last = later(last, at, now);
        }
    });
    last
}

/// A vCPU is to be moved or removed: it gets what it waits for first (G3).
pub(super) fn settle(books: &mut Books, vcpu: &Vcpu) {
    let is_whose = |dom: &'static Domain| core::ptr::eq(dom, vcpu.domain);
    let Some(to) = books.parts.take(is_whose, vcpu.id) else {
        return;
    };
    // It is on no CPU, or decided anew for anyhow: nobody else's turn depends on it.
    at_home(vcpu, |sched, _| {
        let home = vcpu.home.cpu();
        let here = (sched, home, timer::now_ns());
        give(books, &mut Default::default(), here, vcpu, to);
    });
}

/// What is granted is under way; few get it at once.
fn begin(
    books: &mut Books,
    dom: &'static Domain,
    asking: &Asking,
    to: New,
    decisions: &mut Decisions,
) -> Granted {
    let vcpus = asking.vcpus.iter().fold(0, |all, vcpu| all | bit(vcpu));
    let number = books.parts.begin(Part {
        whose: dom,
        to,
        vcpus,
    });
    if vcpus.count_ones() > PART {
        return Granted::Begun(number);
    }
    Granted::All(carry_on(books, decisions).unwrap_or(0))
}

fn bit(vcpu: &Vcpu) -> u64 {
    1_u64.checked_shl(vcpu.id).unwrap_or(0)
}

/// The next part of what is under way: when the last of them has it, 0 for by now. `None` if nothing is.
fn carry_on(books: &mut Books, decisions: &mut Decisions) -> Option<u64> {
    let part = books.parts.next(PART)?;
    let waits = |vcpu: &&Vcpu| part.vcpus & bit(vcpu) != 0;
    let mut charges = Default::default();
    let mut last = 0;
    each_at_home(
        part.whose.vcpus().filter(waits),
        |sched, home, now, vcpu| {
            if let Some(at) = give(books, &mut charges, (sched, home, now), vcpu, part.to) {
                last = later(last, at, now);
                decisions.of(home, part.whose);
            }
        },
    );
    Some(last)
}

fn later(last: u64, at: u64, now: u64) -> u64 {
    if at > now { at.max(last) } else { last }
}

/// Gives a vCPU what it was granted: until when it has what it had, which is given back then. Under the placement's lock and
/// its home's.
fn give(
    books: &mut Books,
    charges: &mut (Charges, Charges),
    (sched, home, now): (&mut CpuSched, u32, u64),
    vcpu: &Vcpu,
    to: New,
) -> Option<u64> {
    let place = vcpu.home.place();
    let had = dues::of_one_here(books, sched, vcpu).granted();
    // All always: it is there (G3).
    let to = to.after(&sched.queue.granted(place).ok()?);
    let at = sched.queue.change_one(now, place, to).ok()?;
    let (in_force, _) = sched.queue.terms(place).ok()?;
    show(vcpu, &to);
    let rules = books.placement.rules();
    let (has, will) = (charges.0.of(&in_force, rules), charges.1.of(&to, rules));
    let dues = Dues::changing(has, will, at);
    vcpu.home.dues.write(books, &dues);
    let release = books.placement.given_back(home as usize, had, will);
    books.placement.release(now, release, at);
    Some(at)
}

/// CPUs that may have to decide anew, and for whom.
#[derive(Default)]
struct Decisions {
    cpus: CpuSet,
    whom: Option<&'static Domain>,
}

impl Decisions {
    fn of(&mut self, cpu: u32, whom: &'static Domain) {
        self.cpus = self.cpus.with(cpu);
        self.whom = Some(whom);
    }

    /// Has them do it. Nothing is locked.
    fn ask(self) {
        let Some(whom) = self.whom else { return };
        for home in self.cpus.iter() {
            let next = cpu::with(home, |sched| sched.queue.changed(timer::now_ns()));
            if next == Some(Next::Decide) {
                ask(home, whom);
            }
        }
    }
}
