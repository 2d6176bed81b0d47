//! Which CPU a vCPU is at home with, what it is promised there, and the rules of the machine: the crate's [`Placement`].
//!
//! A tick is a nanosecond of system time: what is asked for, charged, kept and told is in one unit, and nothing is rounded
//! in between.
//!
//! # Invariants
//! - P1: what a vCPU is promised was admitted before, and is given back when what it took is paid for.
//! - P2: the lock is taken before a queue's and held from an admission, or a change of it, to the queue's part in it, and
//!   from a vCPU's removal until its room is given back: nobody is granted what is another's. It is held, too, from the
//!   look at what a domain has to its grant: it is granted no more than it may reserve.

use super::cpu::{self, runs_vcpus};
use super::{ask, at_home};
use crate::arch::smp;
use crate::boot;
use crate::device::timer;
use crate::domain::{Domain, MAX_VCPUS, NO_CPU, Vcpu};
use crate::sync::{Lock, rank};
use crate::{info, warn};
use ::cpus::set::CpuSet;
use ::reservations::request::NANOSECONDS;
use ::reservations::{
    Allowance, Change, Charge, CpuBooks, Exceeded, Extra, Member, Next, Placement, Refusal, Rules,
    Terms,
};
use ::sched::Shown;
use alloc::vec;
use boot_info::params::Dom0Cpu;
use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicU16, AtomicU64};

static PLACEMENT: Lock<Option<Placement<'static>>, rank::Placement> = Lock::new(None);

/// What the control domain's vCPUs are promised where nothing is said: enough to answer within a period whoever else runs,
/// and little enough that it is no loss to the others.
const USUAL_SLICE_NS: u64 = 2_000_000;
const USUAL_PERIOD_NS: u64 = 20_000_000;
/// Its part in left-over time: twice that of others, for it works for them.
const USUAL_WEIGHT: u16 = 2 * Terms::USUAL_WEIGHT;
/// All that it is promised of a CPU where nothing is said, in millionths.
const USUAL_MOST_PPM: u32 = 500_000;

/// Opens the books of the CPUs, when all are started that will be. Boot only.
pub fn init() {
    let rules = of_command_line();
    let number = open().last().map_or(1, |last| last as usize + 1);
    let mut placement = Placement::new(vec![CpuBooks::OFFLINE; number].leak(), rules);
    for cpu in open() {
        placement.set_online(cpu as usize, true);
    }
    *PLACEMENT.lock() = Some(placement);
    info!(
        "scheduling: B is {} us, the quantum {} us; {} ppm of each CPU are nobody's to reserve",
        rules.section() / 1000,
        rules.quantum() / 1000,
        rules.reserve_ppm()
    );
}

/// The rules that the command line says; what it may say makes sense.
pub(super) fn of_command_line() -> Rules {
    let p = boot::params();
    let rules = Rules::new(NANOSECONDS, p.section_ns, p.quantum_ns, p.reserve_ppm);
    rules.unwrap_or_else(|why| boot::give_up(format_args!("the rules of scheduling: {why:?}")))
}

/// The rules as they are now.
pub fn rules() -> Rules {
    let placement = PLACEMENT.lock();
    placement
        .as_ref()
        .map_or_else(of_command_line, |placement| *placement.rules())
}

/// Puts rules in force that differ from those that are in the quantum alone: for turns that begin from now on.
pub fn set_quantum(rules: Rules) {
    let mut placement = PLACEMENT.lock();
    let is_set = placement.as_mut().is_some_and(|p| p.set_quantum(rules));
    if is_set {
        for cpu in smp::online().iter() {
            cpu::with(cpu, |sched| sched.queue.set_quantum(rules));
        }
    }
}

/// The CPUs that take vCPUs. Before the others are started, and without a local APIC's table, there is this one.
fn open() -> impl Iterator<Item = u32> {
    let online = smp::online().with(0);
    online.iter().filter(|cpu| runs_vcpus(*cpu))
}

/// CPUs that take vCPUs: one at least.
pub fn nr_cpus() -> u32 {
    open().count() as u32
}

/// What a vCPU of a domain is promised to begin with.
fn first_terms(dom: &Domain, rules: &Rules) -> Terms {
    let best_effort = |weight| {
        let terms = Terms::best_effort(rules, weight);
        // Neither weight that is asked for here is zero.
        terms.unwrap_or_else(|_| boot::give_up(format_args!("no weight")))
    };
    if !dom.privileged {
        return best_effort(dom.weight.load(Relaxed));
    }
    let usual = Charge::of_ppm(USUAL_MOST_PPM);
    let (slice, period, extra, most) = match boot::params().dom0_cpu {
        Dom0Cpu::None => return best_effort(USUAL_WEIGHT),
        Dom0Cpu::Usual => (USUAL_SLICE_NS, USUAL_PERIOD_NS, Extra::ByWeight, usual),
        Dom0Cpu::Slice {
            slice_ns,
            period_ns,
            extra,
        } => {
            let extra = if extra { Extra::ByWeight } else { Extra::Never };
            (slice_ns, period_ns, extra, Charge::WHOLE)
        }
    };
    let each = dom.max_vcpus.div_ceil(nr_cpus());
    let most = most.at_most(rules.capacity());
    match Terms::new(rules, slice, period, extra, USUAL_WEIGHT) {
        Ok(terms) => terms.within(rules, each, most),
        Err(why) => {
            warn!(
                "the command line's `dom0_cpu=` cannot be had ({why:?}): the control domain is promised nothing"
            );
            best_effort(USUAL_WEIGHT)
        }
    }
}

/// A CPU for a vCPU that is to be made, and what it is promised there; `None` if no CPU takes any. The control domain's go
/// round, so that each has a CPU that the others begin on last; others go where none of their domain are, if there is room.
pub(super) fn admit(dom: &Domain, id: u32) -> Option<(u32, Terms)> {
    let taken = dom.vcpus().map(|vcpu| vcpu.home.cpu());
    let taken = taken.filter(|cpu| *cpu != NO_CPU);
    let taken = taken.fold(CpuSet::EMPTY, |set, cpu| set.with(cpu));
    let own = open().nth((id % nr_cpus()) as usize);
    let preferred = |cpu: usize| match dom.privileged {
        true => own == Some(cpu as u32),
        false => !taken.contains(cpu as u32),
    };
    let mut placement = PLACEMENT.lock();
    let placement = placement.as_mut()?;
    let mut terms = first_terms(dom, placement.rules());
    loop {
        match placement.admit(timer::now_ns(), &terms, |_| true, preferred) {
            Ok(cpu) => return Some((cpu as u32, terms)),
            Err(Refusal::NoCpu) => return None,
            // What the control domain had before it crashed is not paid for yet, and it asks for very much.
            Err(Refusal::NoRoom { .. }) if terms.slice() != 0 => {
                let weight = terms.weight();
                terms = Terms::best_effort(placement.rules(), weight).ok()?;
            }
            Err(Refusal::NoRoom { .. }) => return None,
        }
    }
}

/// Does what removes a vCPU from its CPU's queue, and gives its room back (P2). That says which CPU that was, what the vCPU
/// was granted, and when what it took is paid for; `None` if it was not in the queue.
pub(super) fn give_back(remove: impl FnOnce() -> Option<(u32, Terms, u64)>) {
    let mut placement = PLACEMENT.lock();
    let removed = remove();
    if let (Some(placement), Some((cpu, terms, paid_for_at))) = (placement.as_mut(), removed) {
        let release = placement.withdraw(cpu as usize, &terms);
        placement.release(timer::now_ns(), release, paid_for_at);
    }
}

/// Of some CPUs the one with the fewest vCPUs among those with room for what a vCPU has on its own.
pub(super) fn room_on(vcpu: &Vcpu, cpus: &CpuSet) -> Option<u32> {
    let mut placement = PLACEMENT.lock();
    let placement = placement.as_mut()?;
    let granted = at_home(vcpu, |sched, _| sched.queue.granted(vcpu.home.place()));
    let Some((home, Ok(terms))) = granted else {
        return None;
    };
    let mut has_room = |cpu: u32| {
        let mut members = [Member::new(home as usize, terms)];
        let only = |_, other: usize| other == cpu as usize;
        placement.would_amend_all(timer::now_ns(), &mut members, &terms, only)
    };
    let with_room = cpus.iter().filter(|cpu| has_room(*cpu));
    let with_room = with_room.fold(CpuSet::EMPTY, CpuSet::with);
    let vcpus = |cpu: &u32| placement.vcpus(*cpu as usize);
    with_room.iter().min_by_key(vcpus)
}

/// Has a vCPU that is on no CPU go from one to another, if that has room for what it has, and gives its room here back (P2).
/// `go` does that, under the terms that it is told, and says when what the vCPU took here is paid for.
pub(super) fn go(
    from: u32,
    to: u32,
    granted: impl FnOnce() -> Option<Terms>,
    go: impl FnOnce(&Terms) -> Option<u64>,
) {
    let mut placement = PLACEMENT.lock();
    let Some((placement, terms)) = placement.as_mut().zip(granted()) else {
        return;
    };
    let now = timer::now_ns();
    let only = |cpu: usize| cpu == to as usize;
    let change = placement.amend(now, from as usize, &terms, &terms, only);
    // Another may have taken the room: then it stays.
    if let Ok(Change::Elsewhere { release, .. }) = change {
        // It cannot fail: all is locked, and looked at.
        let paid_for_at = go(&terms).unwrap_or(now);
        placement.release(now, release, paid_for_at);
    }
}

/// What a domain may reserve for itself: written and read under the lock.
#[derive(Default)]
pub struct May {
    rate: AtomicU64,
    weight: AtomicU16,
}

impl May {
    /// Nothing.
    pub const fn new() -> May {
        May {
            rate: AtomicU64::new(0),
            weight: AtomicU16::new(0),
        }
    }

    /// In nanoseconds of each second, and the largest weight.
    pub fn told(&self) -> (u64, u16) {
        (self.rate.load(Relaxed), self.weight.load(Relaxed))
    }

    fn is(&self) -> Allowance {
        let (rate, weight) = self.told();
        let rate = Charge::of_ticks(rate, NANOSECONDS);
        Allowance { rate, weight }
    }
}

/// Says what a domain may reserve for itself from now on: nanoseconds of each second, and the largest weight.
pub fn allow(dom: &Domain, rate: u64, weight: u16) {
    let _placement = PLACEMENT.lock();
    dom.allowance.rate.store(rate, Relaxed);
    dom.allowance.weight.store(weight, Relaxed);
}

/// Why terms are not granted.
pub enum NotGranted {
    /// The first vCPU that is refused, and why.
    Refused(u32, Refusal),
    /// The domain, which asked for itself, may not.
    NotAllowed(Exceeded),
}

/// Whether a domain may have these terms for those of its vCPUs by its own wish. Under the placement's lock (P2).
fn is_allowed(dom: &Domain, asking: &Asking, to: &Terms, rules: &Rules) -> Result<(), Exceeded> {
    let mut named = [Charge::NOTHING; MAX_VCPUS];
    let mut number = 0;
    let mut others = Charge::NOTHING;
    // A bit each: there are no more vCPUs than that.
    const _: () = assert!(MAX_VCPUS <= 64);
    let asking = asking.vcpus.iter().flatten();
    let is_named = asking.fold(0_u64, |named, vcpu| named | 1 << vcpu.id);
    for vcpu in dom.vcpus() {
        let Some(has) = reserved(vcpu) else { continue };
        let in_force = has.terms.charge(rules);
        match named.get_mut(number) {
            Some(place) if is_named >> vcpu.id & 1 == 1 => {
                *place = in_force;
                number += 1;
            }
            _ => {
                let coming = has
                    .coming
                    .map_or(Charge::NOTHING, |(terms, _)| terms.charge(rules));
                others = others.and(in_force.at_least(coming));
            }
        }
    }
    let named = named.get(..number).unwrap_or_default();
    dom.allowance.is().permits(rules, to, named, others)
}

/// What a vCPU is promised, and where.
pub struct Reserved {
    /// Its CPU.
    pub cpu: u32,
    /// What is in force.
    pub terms: Terms,
    /// What will be, and when.
    pub coming: Option<(Terms, u64)>,
}

/// What a vCPU is promised; `None` if it has been removed.
pub fn reserved(vcpu: &Vcpu) -> Option<Reserved> {
    let (cpu, (terms, coming)) = at_home(vcpu, |sched, _| {
        let place = vcpu.home.place();
        let (terms, _) = sched.queue.terms(place).ok()?;
        Some((terms, sched.queue.coming(place).ok()?))
    })
    .and_then(|(cpu, told)| Some((cpu, told?)))?;
    // The queue notes the change when it next looks at it: of one that sleeps, when it wakes.
    match coming {
        Some((terms, at)) if at <= timer::now_ns() => Some(Reserved {
            cpu,
            terms,
            coming: None,
        }),
        _ => Some(Reserved { cpu, terms, coming }),
    }
}

/// Those of a domain's vCPUs that terms are asked for, with what they have now.
struct Asking {
    vcpus: [Option<&'static Vcpu>; MAX_VCPUS],
    members: [Member; MAX_VCPUS],
    number: usize,
}

impl Asking {
    /// Under the placement's lock: none is removed meanwhile (P2).
    fn new(vcpus: impl Iterator<Item = &'static Vcpu>, any: &Terms) -> Asking {
        let mut asking = Asking {
            vcpus: [None; MAX_VCPUS],
            members: core::array::from_fn(|_| Member::new(0, *any)),
            number: 0,
        };
        for vcpu in vcpus {
            let granted = at_home(vcpu, |sched, _| sched.queue.granted(vcpu.home.place()));
            let place = asking.number;
            if let Some((cpu, Ok(from))) = granted
                && let Some(member) = asking.members.get_mut(place)
                && let Some(who) = asking.vcpus.get_mut(place)
            {
                (*member, *who) = (Member::new(cpu as usize, from), Some(vcpu));
                asking.number += 1;
            }
        }
        asking
    }

    /// Whose CPU is which. They stay where they are.
    fn cpus(&self) -> [usize; MAX_VCPUS] {
        core::array::from_fn(|place| self.members.get(place).map_or(0, |member| member.cpu))
    }

    fn members(&mut self) -> &mut [Member] {
        let number = self.number;
        self.members.get_mut(..number).unwrap_or_default()
    }
}

/// Gives vCPUs other terms from their next periods on, all of them or none; says when the last of them has them, in system
/// time, or why not. `for_itself` is the domain if it asks for its own vCPUs, and has to be allowed.
pub fn grant(
    vcpus: impl Iterator<Item = &'static Vcpu>,
    to: &Terms,
    for_itself: Option<&Domain>,
) -> Result<u64, NotGranted> {
    let mut decisions = Decisions::default();
    let mut in_force_at = 0;
    {
        let mut placement = PLACEMENT.lock();
        let no_cpu = NotGranted::Refused(0, Refusal::NoCpu);
        let placement = placement.as_mut().ok_or(no_cpu)?;
        let mut asking = Asking::new(vcpus, to);
        if let Some(dom) = for_itself {
            let allowed = is_allowed(dom, &asking, to, placement.rules());
            allowed.map_err(NotGranted::NotAllowed)?;
        }
        let cpus = asking.cpus();
        let stays = |place: usize, cpu: usize| cpus.get(place) == Some(&cpu);
        let now = timer::now_ns();
        if let Err((place, why)) = placement.amend_all(now, asking.members(), to, stays) {
            let refused = asking.vcpus.get(place).copied().flatten();
            let refused = refused.map_or(0, |vcpu| vcpu.id);
            return Err(NotGranted::Refused(refused, why));
        }
        let vcpus = asking.vcpus;
        for (member, vcpu) in asking.members().iter_mut().zip(vcpus.iter().flatten()) {
            // Both always: it stays where it is, and is there.
            if let Some(at) = change(vcpu, to, &mut decisions)
                && let Some(Change::Here(release)) = member.granted.take()
            {
                placement.release(now, release, at);
                if at > now {
                    in_force_at = at.max(in_force_at);
                }
            }
        }
    }
    decisions.ask();
    Ok(in_force_at)
}

/// CPUs that are to decide anew, and for whom, once no lock is held.
#[derive(Default)]
struct Decisions {
    cpus: CpuSet,
    whom: Option<&'static Domain>,
}

impl Decisions {
    fn ask(self) {
        if let Some(whom) = self.whom {
            self.cpus.iter().for_each(|cpu| ask(cpu, whom));
        }
    }
}

/// Has a vCPU's queue change its terms, and shows them: until when the old ones hold; `None` if it has been removed. Under
/// the placement's lock.
fn change(vcpu: &'static Vcpu, to: &Terms, decisions: &mut Decisions) -> Option<u64> {
    let changed = at_home(vcpu, |sched, _| {
        let place = vcpu.home.place();
        sched.queue.change(timer::now_ns(), place, *to)
    });
    show(vcpu, to);
    let Some((home, Ok((at, next)))) = changed else {
        return None;
    };
    if next == Next::Decide {
        decisions.cpus = decisions.cpus.with(home);
        decisions.whom = Some(vcpu.domain);
    }
    Some(at)
}

/// Gives all vCPUs of a domain another weight, from their next periods on; what they are promised stays.
pub fn weigh(dom: &'static Domain, weight: u16) {
    let mut decisions = Decisions::default();
    {
        let _placement = PLACEMENT.lock();
        dom.weight.store(weight, Relaxed);
        for vcpu in dom.vcpus() {
            let granted = at_home(vcpu, |sched, _| sched.queue.granted(vcpu.home.place()));
            if let Some((_, Ok(granted))) = granted
                && let Ok(to) = granted.with_weight(weight)
            {
                // It is charged what it was: nothing is released.
                change(vcpu, &to, &mut decisions);
            }
        }
    }
    decisions.ask();
}

/// Shows who reads a vCPU's account what it was granted: under the placement's lock, or before anybody else knows it.
pub(super) fn show(vcpu: &Vcpu, granted: &Terms) {
    vcpu.account.has_terms(&Shown {
        // Neither is longer than a second.
        slice_ns: granted.slice() as u32,
        period_ns: granted.period() as u32,
        weight: granted.weight().into(),
        extra: granted.extra() == Extra::ByWeight,
    });
}

/// Where vCPUs may run.
pub struct Allowed {
    cpus: [CpuSet; MAX_VCPUS],
}

impl Allowed {
    /// Of these, in their order. Before the placement is locked.
    pub fn of(vcpus: impl Iterator<Item = &'static Vcpu>) -> Allowed {
        let mut cpus = [CpuSet::EMPTY; MAX_VCPUS];
        for vcpu in vcpus {
            if let Some(place) = cpus.get_mut(vcpu.id as usize) {
                *place = vcpu.affinity.lock().hard;
            }
        }
        Allowed { cpus }
    }

    fn has(&self, vcpu: Option<&Vcpu>, cpu: usize) -> bool {
        let cpus = vcpu.and_then(|vcpu| self.cpus.get(vcpu.id as usize));
        cpus.is_some_and(|cpus| cpus.contains(cpu as u32))
    }
}

/// The first of the vCPUs that would have to go to another CPU for all to be granted these terms, and which CPU; `None` if
/// all may stay. Nothing is changed.
///
/// # Errors
/// As [`grant`], wherever they may go.
pub fn would_move(
    vcpus: impl Iterator<Item = &'static Vcpu>,
    may: &Allowed,
    to: &Terms,
) -> Result<Option<(&'static Vcpu, u32)>, (u32, Refusal)> {
    let mut placement = PLACEMENT.lock();
    let placement = placement.as_mut().ok_or((0, Refusal::NoCpu))?;
    let mut asking = Asking::new(vcpus, to);
    let vcpus = asking.vcpus;
    let who = |place: usize| vcpus.get(place).copied().flatten();
    let allowed = |place: usize, cpu: usize| may.has(who(place), cpu);
    let first = placement.would_move(timer::now_ns(), asking.members(), to, allowed);
    match first {
        Ok(first) => Ok(first.and_then(|(place, cpu)| Some((who(place)?, cpu as u32)))),
        Err((place, why)) => Err((who(place).map_or(0, |vcpu| vcpu.id), why)),
    }
}

/// What is reserved of a CPU.
pub struct Promised {
    /// Whether it takes vCPUs.
    pub online: bool,
    /// vCPUs that are admitted there.
    pub nr_vcpus: u32,
    /// What can be reserved.
    pub capacity: Charge,
    /// What is, with what is not free yet.
    pub charged: Charge,
    /// What is not free yet.
    pub departing: Charge,
}

/// What is reserved of a CPU; `None` if it has no books.
pub fn promised(cpu: u32) -> Option<Promised> {
    let cpu = cpu as usize;
    let mut placement = PLACEMENT.lock();
    let placement = placement.as_mut()?;
    // First: what is free by now is charged no more.
    let departing = placement.departing(timer::now_ns(), cpu)?;
    Some(Promised {
        online: placement.is_online(cpu),
        nr_vcpus: placement.vcpus(cpu)?,
        capacity: placement.rules().capacity(),
        charged: placement.charged(cpu)?,
        departing,
    })
}
