//! Other terms for vCPUs, one or all of a domain's: all of them get them, or none.

use super::allowance::is_allowed;
use super::placement;
use super::terms::show;
use super::{ask, at_home};
use crate::device::timer;
use crate::domain::{Domain, MAX_VCPUS, Vcpu};
use ::cpus::set::CpuSet;
use ::reservations::{Change, Exceeded, Member, Next, Refusal, Terms};
use core::sync::atomic::Ordering::Relaxed;

/// Why terms are not granted.
pub enum NotGranted {
    /// The first vCPU that is refused, and why.
    Refused(u32, Refusal),
    /// The domain, which asked for itself, may not.
    NotAllowed(Exceeded),
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

    fn named(&self) -> impl Iterator<Item = &'static Vcpu> {
        self.vcpus.iter().flatten().copied()
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
        let mut placement = placement::lock();
        let no_cpu = NotGranted::Refused(0, Refusal::NoCpu);
        let placement = placement.as_mut().ok_or(no_cpu)?;
        let mut asking = Asking::new(vcpus, to);
        if let Some(dom) = for_itself {
            let allowed = is_allowed(dom, asking.named(), to, placement.rules());
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
        let _placement = placement::lock();
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
    let mut placement = placement::lock();
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
