//! CPU time that domains have reserved, as the control domain asks for it and is told.

use crate::privcmd::Privcmd;
use crate::{DomId, Result};
use guest_abi::Hypercall;
use guest_abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_IN_QUANTA, SCHED_REFUSED_FLAGS, SCHED_REFUSED_NEVER_RUNS,
    SCHED_REFUSED_NO_CPU, SCHED_REFUSED_NO_ROOM, SCHED_REFUSED_OVERFLOW, SCHED_REFUSED_PERIOD,
    SCHED_REFUSED_SLICE, SCHED_REFUSED_TOO_SHORT, SCHED_REFUSED_WEIGHT, SCHED_SET_QUANTUM,
    SchedAllow, SchedGet, SchedRules, SchedSet, SchedTerms,
};
use guest_abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};

/// What a vCPU has: slice of CPU time in every period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTerms {
    /// Nanoseconds; quanta with `in_quanta`. 0 with `extra` alone.
    pub slice: u64,
    /// Nanoseconds; quanta with `in_quanta`.
    pub period: u64,
    /// Whether those are numbers of the machine's quantum. Told are nanoseconds always.
    pub in_quanta: bool,
    /// Whether it takes part in time that nobody reserved.
    pub extra: bool,
    /// Its part in that; usually 256.
    pub weight: u16,
}

impl CpuTerms {
    pub(crate) fn to_wire(self) -> SchedTerms {
        let flag = |set, flag| if set { flag } else { 0 };
        SchedTerms {
            slice: self.slice,
            period: self.period,
            weight: u32::from(self.weight),
            flags: flag(self.in_quanta, SCHED_IN_QUANTA) | flag(self.extra, SCHED_EXTRA),
        }
    }

    fn from_wire(wire: &SchedTerms) -> Self {
        Self {
            slice: wire.slice,
            period: wire.period,
            in_quanta: wire.flags & SCHED_IN_QUANTA != 0,
            extra: wire.flags & SCHED_EXTRA != 0,
            // The interface knows no larger one.
            weight: u16::try_from(wire.weight).unwrap_or(u16::MAX),
        }
    }
}

/// What became of a wish for other terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuAnswer {
    /// Granted: the last vCPU has them at this system time, in nanoseconds; 0 if all have them.
    Granted {
        /// When.
        in_force_at: u64,
    },
    /// Not granted, and nothing has changed.
    Refused(CpuRefusal),
}

/// Why terms are not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuRefusal {
    /// No CPU has room. Slices in the unit of the wish.
    NoRoom {
        /// The largest that would be granted now; 0 if none would.
        largest_slice: u64,
        /// The largest in a little more than a second, when what is given up is free.
        largest_slice_soon: u64,
        /// The first vCPU that found no room.
        vcpu: u32,
    },
    /// It may run on no CPU that takes vCPUs.
    NoCpu,
    /// The period is too short or too long for this machine.
    Period,
    /// The slice is shorter than this machine can keep.
    TooShort,
    /// Something else about the terms makes no sense; the interface's reason.
    Senseless(u32),
}

impl CpuRefusal {
    /// The reason in an answer, if it holds one.
    pub(crate) fn of(answer: &SchedSet) -> Option<Self> {
        match answer.refusal {
            SCHED_REFUSED_NO_ROOM => Some(Self::NoRoom {
                largest_slice: answer.largest_slice,
                largest_slice_soon: answer.largest_slice_soon,
                vcpu: answer.refused_vcpu,
            }),
            SCHED_REFUSED_NO_CPU => Some(Self::NoCpu),
            SCHED_REFUSED_PERIOD => Some(Self::Period),
            SCHED_REFUSED_TOO_SHORT => Some(Self::TooShort),
            reason @ (SCHED_REFUSED_SLICE
            | SCHED_REFUSED_NEVER_RUNS
            | SCHED_REFUSED_WEIGHT
            | SCHED_REFUSED_OVERFLOW
            | SCHED_REFUSED_FLAGS) => Some(Self::Senseless(reason)),
            _ => None,
        }
    }
}

/// What a domain's vCPUs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuReserved {
    /// What the first one has, in nanoseconds.
    pub terms: CpuTerms,
    /// What it was granted and has not yet, and the system time when it will, in nanoseconds.
    pub coming: Option<(CpuTerms, u64)>,
    /// vCPUs there are.
    pub vcpus: u32,
    /// Those that have and will have the same.
    pub alike: u32,
    /// The CPU where they are admitted, if it is one.
    pub cpu: Option<u32>,
    /// What the domain may reserve for itself, in nanoseconds of each second.
    pub allowed: u64,
    /// And the largest weight.
    pub allowed_weight: u16,
}

impl CpuReserved {
    pub(crate) fn from_wire(answer: &SchedGet) -> Self {
        let coming = CpuTerms::from_wire(&answer.coming);
        // Nobody is granted no period.
        let coming = (coming.period != 0).then_some((coming, answer.coming_at));
        Self {
            terms: CpuTerms::from_wire(&answer.terms),
            coming,
            vcpus: answer.nr_vcpus,
            alike: answer.nr_alike,
            cpu: (answer.cpu != guest_abi::reserve::SCHED_NO_CPU).then_some(answer.cpu),
            allowed: answer.allowed,
            // As above.
            allowed_weight: u16::try_from(answer.allowed_weight).unwrap_or(u16::MAX),
        }
    }
}

/// What holds for all reservations of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuRules {
    /// The quantum in nanoseconds: a turn in time that nobody reserved, and the unit of terms in quanta.
    pub quantum: u64,
    /// The hypervisor's longest section, as admission charges it; also the shortest slice. Nanoseconds.
    pub section: u64,
    /// Nanoseconds.
    pub shortest_period: u64,
    /// Nanoseconds.
    pub longest_period: u64,
    /// The part of each CPU that nobody can reserve, in millionths.
    pub reserve_ppm: u32,
    /// CPUs that take vCPUs.
    pub cpus: u32,
}

/// Asks for the rules, after making this the quantum if one is given.
pub(crate) fn rules(privcmd: &Privcmd, quantum: Option<u64>) -> Result<CpuRules> {
    let mut buffer = privcmd.buffers.take()?;
    let place = buffer.put(&SchedRules {
        version: XENO_INTERFACE_VERSION,
        set: quantum.map_or(0, |_| SCHED_SET_QUANTUM),
        quantum: quantum.unwrap_or(0),
        ..SchedRules::ZERO
    });
    let operation = u64::from(XenoCommand::SchedRules.number());
    let arguments = [operation, place.address, 0, 0, 0];
    privcmd.call(RULING, None, Hypercall::XenoOp, arguments)?;
    let answer: SchedRules = buffer.get(place);
    Ok(CpuRules {
        quantum: answer.quantum,
        section: answer.section,
        shortest_period: answer.shortest_period,
        longest_period: answer.longest_period,
        reserve_ppm: answer.reserve_ppm,
        cpus: answer.nr_cpus,
    })
}

/// Asks for terms of all vCPUs of a domain.
pub(crate) fn set(privcmd: &Privcmd, domain: DomId, terms: CpuTerms) -> Result<CpuAnswer> {
    let mut buffer = privcmd.buffers.take()?;
    let place = buffer.put(&SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        vcpu: SCHED_ALL_VCPUS,
        terms: terms.to_wire(),
        ..SchedSet::ZERO
    });
    let operation = u64::from(XenoCommand::SchedSet.number());
    let arguments = [operation, place.address, 0, 0, 0];
    let called = privcmd.call(SETTING, Some(domain), Hypercall::XenoOp, arguments);
    let answer: SchedSet = buffer.get(place);
    match (called, CpuRefusal::of(&answer)) {
        (Ok(_), _) => Ok(CpuAnswer::Granted {
            in_force_at: answer.in_force_at,
        }),
        (Err(_), Some(refusal)) => Ok(CpuAnswer::Refused(refusal)),
        (Err(error), None) => Err(error),
    }
}

/// Asks what all vCPUs of a domain have.
pub(crate) fn get(privcmd: &Privcmd, domain: DomId) -> Result<CpuReserved> {
    let mut buffer = privcmd.buffers.take()?;
    let place = buffer.put(&SchedGet {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        vcpu: SCHED_ALL_VCPUS,
        ..SchedGet::ZERO
    });
    let operation = u64::from(XenoCommand::SchedGet.number());
    let arguments = [operation, place.address, 0, 0, 0];
    privcmd.call(GETTING, Some(domain), Hypercall::XenoOp, arguments)?;
    Ok(CpuReserved::from_wire(&buffer.get(place)))
}

/// Says what a domain may reserve for itself.
pub(crate) fn allow(privcmd: &Privcmd, domain: DomId, rate: u64, weight: u16) -> Result<()> {
    let mut buffer = privcmd.buffers.take()?;
    let place = buffer.put(&SchedAllow {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        rate,
        weight: weight.into(),
        ..SchedAllow::ZERO
    });
    let operation = u64::from(XenoCommand::SchedAllow.number());
    let arguments = [operation, place.address, 0, 0, 0];
    privcmd
        .call(ALLOWING, Some(domain), Hypercall::XenoOp, arguments)
        .map(drop)
}

/// What is tried, as errors tell it.
pub(crate) const SETTING: &str = "reserve CPU time";
pub(crate) const ALLOWING: &str = "say what it may reserve";
pub(crate) const GETTING: &str = "ask for its reserved CPU time";
pub(crate) const RULING: &str = "ask what holds for reservations of CPU time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_the_way_through_the_interface() {
        for (in_quanta, extra) in [(false, false), (false, true), (true, false)] {
            let terms = CpuTerms {
                slice: 5,
                period: 20,
                in_quanta,
                extra,
                weight: 300,
            };
            assert_eq!(CpuTerms::from_wire(&terms.to_wire()), terms);
        }
    }

    #[test]
    fn a_refusal_without_a_reason_is_none_of_ours() {
        let answer = |refusal| SchedSet {
            refusal,
            largest_slice: 3,
            refused_vcpu: 1,
            ..SchedSet::ZERO
        };
        assert_eq!(CpuRefusal::of(&answer(0)), None);
        assert_eq!(CpuRefusal::of(&answer(99)), None);
        let room = CpuRefusal::NoRoom {
            largest_slice: 3,
            largest_slice_soon: 0,
            vcpu: 1,
        };
        assert_eq!(CpuRefusal::of(&answer(SCHED_REFUSED_NO_ROOM)), Some(room));
    }

    #[test]
    fn what_is_coming_is_told_only_if_something_is() {
        let mut answer = SchedGet {
            cpu: 2,
            ..SchedGet::ZERO
        };
        assert_eq!(CpuReserved::from_wire(&answer).coming, None);
        answer.coming.period = 7;
        answer.coming_at = 9;
        let reserved = CpuReserved::from_wire(&answer);
        assert_eq!(
            reserved.coming.map(|(terms, at)| (terms.period, at)),
            Some((7, 9))
        );
        assert_eq!(reserved.cpu, Some(2));
    }
}
