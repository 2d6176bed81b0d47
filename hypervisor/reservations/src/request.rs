//! What callers ask for, in the interface's words, as checked terms; and what they are told.
//!
//! The interface speaks nanoseconds of system time, and so does the clock of queues and placement wherever this is used:
//! a tick is a nanosecond, and nothing is rounded between what was asked, what is charged and what is told.
//!
//! Everything here is decided from the caller's copy of its argument and the machine's rules alone. What remains for
//! the caller to check is who may ask, and whether the domain and the vCPU are there.

use guest_abi::Errno;
use guest_abi::reserve::{
    SCHED_EXTRA, SCHED_FLAGS, SCHED_GRANTED, SCHED_IN_QUANTA, SCHED_LARGEST_RATE,
    SCHED_LARGEST_WEIGHT, SCHED_REFUSED_FLAGS, SCHED_REFUSED_NEVER_RUNS, SCHED_REFUSED_NO_CPU,
    SCHED_REFUSED_NO_ROOM, SCHED_REFUSED_NOT_ALLOWED, SCHED_REFUSED_OVERFLOW, SCHED_REFUSED_PERIOD,
    SCHED_REFUSED_SLICE, SCHED_REFUSED_TOO_SHORT, SCHED_REFUSED_WEIGHT, SCHED_SET_QUANTUM,
    SchedAllow, SchedRules, SchedSet, SchedTerms,
};

use crate::allowance::Exceeded;
use crate::placement::Refusal;
use crate::rules::{Extra, Rules, Terms, TermsError};

/// Ticks a second of the clock that the interface speaks of.
pub const NANOSECONDS: u64 = 1_000_000_000;

/// Why terms are not granted, before any CPU was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The answer's reason, `SCHED_REFUSED_*`.
    pub reason: u32,
    /// What the call comes to.
    pub errno: Errno,
}

impl Refused {
    const fn new(reason: u32, errno: Errno) -> Self {
        Self { reason, errno }
    }

    const FLAGS: Self = Self::new(SCHED_REFUSED_FLAGS, Errno::Inval);
    const WEIGHT: Self = Self::new(SCHED_REFUSED_WEIGHT, Errno::Inval);
}

impl From<TermsError> for Refused {
    fn from(error: TermsError) -> Self {
        match error {
            TermsError::Period => Self::new(SCHED_REFUSED_PERIOD, Errno::Range),
            TermsError::SliceExceedsPeriod => Self::new(SCHED_REFUSED_SLICE, Errno::Inval),
            TermsError::SliceTooShort => Self::new(SCHED_REFUSED_TOO_SHORT, Errno::Range),
            TermsError::NeverRuns => Self::new(SCHED_REFUSED_NEVER_RUNS, Errno::Inval),
            TermsError::Weight => Self::WEIGHT,
            TermsError::Overflow => Self::new(SCHED_REFUSED_OVERFLOW, Errno::Overflow),
        }
    }
}

/// The unit in which somebody asked, and is told the largest slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// The machine's quantum when it was asked.
    Quanta,
}

/// Terms that were asked for and can be had on some CPU, if it has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The terms.
    pub terms: Terms,
    /// The unit they were told in.
    pub unit: Unit,
}

impl Asked {
    /// Checks what is asked for.
    ///
    /// # Errors
    /// Why it cannot be had on any CPU.
    pub fn read(want: &SchedTerms, rules: &Rules) -> Result<Self, Refused> {
        let has = |flag| want.flags & flag != 0;
        if want.flags & !SCHED_FLAGS != 0 || has(SCHED_EXTRA) && has(SCHED_IN_QUANTA) {
            return Err(Refused::FLAGS);
        }
        // The largest weight is that of the type.
        let weight = u16::try_from(want.weight).map_err(|_| Refused::WEIGHT)?;
        let (unit, terms) = if has(SCHED_IN_QUANTA) {
            if weight != Terms::USUAL_WEIGHT {
                return Err(Refused::WEIGHT);
            }
            let terms = Terms::of_quanta(rules, want.slice, want.period)?;
            (Unit::Quanta, terms)
        } else {
            let terms = match (want.slice, has(SCHED_EXTRA)) {
                // Who has no slice has no period that would mean anything.
                (0, true) if want.period == 0 => Terms::best_effort(rules, weight)?,
                (slice, true) => Terms::new(rules, slice, want.period, Extra::ByWeight, weight)?,
                (slice, false) => Terms::new(rules, slice, want.period, Extra::Never, weight)?,
            };
            (Unit::Time, terms)
        };
        Ok(Self { terms, unit })
    }

    /// Puts into the answer that the domain that asks for itself may not have it, and what it may.
    pub fn is_not_allowed(&self, answer: &mut SchedSet, rules: &Rules, why: Exceeded) {
        answer.refusal = SCHED_REFUSED_NOT_ALLOWED;
        answer.largest_slice = self.in_unit(rules, why.largest_slice);
        answer.largest_slice_soon = 0;
    }

    fn in_unit(&self, rules: &Rules, slice: u64) -> u64 {
        match self.unit {
            Unit::Time => slice,
            // Rounded down: what is told is granted. The quantum is not zero.
            Unit::Quanta => slice / rules.quantum(),
        }
    }

    /// Puts into the answer that there is no room for a vCPU, and what there is room for.
    pub fn refuse(&self, answer: &mut SchedSet, rules: &Rules, vcpu: u32, why: Refusal) -> Errno {
        answer.refused_vcpu = vcpu;
        (answer.largest_slice, answer.largest_slice_soon) = (0, 0);
        match why {
            Refusal::NoCpu => {
                answer.refusal = SCHED_REFUSED_NO_CPU;
                Errno::NoDev
            }
            Refusal::NoRoom {
                largest_slice,
                largest_slice_soon,
            } => {
                answer.refusal = SCHED_REFUSED_NO_ROOM;
                answer.largest_slice = self.in_unit(rules, largest_slice);
                answer.largest_slice_soon = self.in_unit(rules, largest_slice_soon);
                Errno::NoSpc
            }
        }
    }
}

/// An answer to a question that is as it was asked, and says nothing yet: what the caller left in its place for answers
/// does not come back.
#[must_use]
pub const fn blank(want: &SchedSet) -> SchedSet {
    SchedSet {
        version: want.version,
        domid: want.domid,
        vcpu: want.vcpu,
        refusal: SCHED_GRANTED,
        terms: want.terms,
        ..SchedSet::ZERO
    }
}

/// Terms as they are told: in nanoseconds, whatever they were asked in.
#[must_use]
pub const fn told(terms: &Terms) -> SchedTerms {
    SchedTerms {
        slice: terms.slice(),
        period: terms.period(),
        weight: terms.weight() as u32,
        flags: match terms.extra() {
            Extra::ByWeight => SCHED_EXTRA,
            Extra::Never => 0,
        },
    }
}

/// The rules as they are told, on a machine of so many CPUs.
#[must_use]
pub const fn rules_told(rules: &Rules, nr_cpus: u32) -> SchedRules {
    SchedRules {
        quantum: rules.quantum(),
        section: rules.section(),
        shortest_period: rules.shortest_period(),
        longest_period: rules.longest_period(),
        reserve_ppm: rules.reserve_ppm(),
        nr_cpus,
        ..SchedRules::ZERO
    }
}

/// The rules that somebody wants: the same with another quantum, or `None` to leave them.
///
/// # Errors
/// `-EINVAL` for something else that there is not, `-ERANGE` for a quantum shorter than B or longer than a second.
pub fn rules_wanted(want: &SchedRules, rules: &Rules) -> Result<Option<Rules>, Errno> {
    match want.set {
        0 => Ok(None),
        SCHED_SET_QUANTUM => rules
            .with_quantum(want.quantum)
            .map(Some)
            .map_err(|_| Errno::Range),
        _ => Err(Errno::Inval),
    }
}

/// What a domain is to be allowed: nanoseconds of each second, and the largest weight.
///
/// # Errors
/// `-EINVAL` for a weight that none has and flags that there are none of, `-ERANGE` for more than all CPUs it could use.
pub fn allowance(want: &SchedAllow) -> Result<(u64, u16), Errno> {
    if want.flags != 0 {
        return Err(Errno::Inval);
    }
    let weight = u16::try_from(want.weight).map_err(|_| Errno::Inval)?;
    if want.rate > SCHED_LARGEST_RATE {
        return Err(Errno::Range);
    }
    Ok((want.rate, weight))
}

const _: () = assert!(SCHED_LARGEST_WEIGHT == u16::MAX as u32);
const _: () = assert!(guest_abi::reserve::SCHED_USUAL_WEIGHT == Terms::USUAL_WEIGHT as u32);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn rules() -> Rules {
        Rules::new(NANOSECONDS, 20_000, 10 * MS, 20_000).unwrap()
    }

    fn asked(slice: u64, period: u64, weight: u32, flags: u32) -> Result<Asked, Refused> {
        let want = SchedTerms {
            slice,
            period,
            weight,
            flags,
        };
        Asked::read(&want, &rules())
    }

    #[test]
    fn what_is_granted_is_told_as_it_was_asked() {
        for (slice, period, weight, flags) in [
            (5 * MS, 20 * MS, 256, 0),
            (20_000, 200_000, 1, SCHED_EXTRA),
            (NANOSECONDS, NANOSECONDS, 65_535, 0),
            (0, 300 * MS, 7, SCHED_EXTRA),
        ] {
            let asked = asked(slice, period, weight, flags).unwrap();
            let told = told(&asked.terms);
            assert_eq!(
                (told.slice, told.period, told.weight, told.flags),
                (slice, period, weight, flags)
            );
            assert_eq!(asked.unit, Unit::Time);
        }
    }

    #[test]
    fn quanta_are_of_the_advertised_length_and_without_extra() {
        let asked = asked(2, 10, 256, SCHED_IN_QUANTA).unwrap();
        let told = told(&asked.terms);
        assert_eq!(
            (told.slice, told.period, told.flags),
            (20 * MS, 100 * MS, 0)
        );
        assert_eq!(asked.unit, Unit::Quanta);
    }

    #[test]
    fn who_has_no_slice_needs_no_period() {
        let terms = asked(0, 0, 256, SCHED_EXTRA).unwrap().terms;
        assert_eq!(Ok(terms), Terms::best_effort(&rules(), 256));
    }

    #[test]
    fn each_wrong_wish_has_its_reason_and_its_number() {
        let both = SCHED_EXTRA | SCHED_IN_QUANTA;
        let quanta = SCHED_IN_QUANTA;
        for (slice, period, weight, flags, reason, errno) in [
            (5, 4, 256, 0, SCHED_REFUSED_PERIOD, Errno::Range),
            (0, 0, 256, 0, SCHED_REFUSED_PERIOD, Errno::Range),
            (MS, 199_999, 256, 0, SCHED_REFUSED_PERIOD, Errno::Range),
            (
                MS,
                1_000 * MS + 1,
                256,
                0,
                SCHED_REFUSED_PERIOD,
                Errno::Range,
            ),
            (
                MS,
                u64::MAX,
                256,
                SCHED_EXTRA,
                SCHED_REFUSED_PERIOD,
                Errno::Range,
            ),
            (21 * MS, 20 * MS, 256, 0, SCHED_REFUSED_SLICE, Errno::Inval),
            (u64::MAX, 20 * MS, 256, 0, SCHED_REFUSED_SLICE, Errno::Inval),
            (
                19_999,
                20 * MS,
                256,
                0,
                SCHED_REFUSED_TOO_SHORT,
                Errno::Range,
            ),
            (
                1,
                20 * MS,
                256,
                SCHED_EXTRA,
                SCHED_REFUSED_TOO_SHORT,
                Errno::Range,
            ),
            (0, 20 * MS, 256, 0, SCHED_REFUSED_NEVER_RUNS, Errno::Inval),
            (MS, 20 * MS, 0, 0, SCHED_REFUSED_WEIGHT, Errno::Inval),
            (MS, 20 * MS, 65_536, 0, SCHED_REFUSED_WEIGHT, Errno::Inval),
            (0, 0, 0, SCHED_EXTRA, SCHED_REFUSED_WEIGHT, Errno::Inval),
            (1, 4, 512, quanta, SCHED_REFUSED_WEIGHT, Errno::Inval),
            (
                1,
                u64::MAX,
                256,
                quanta,
                SCHED_REFUSED_OVERFLOW,
                Errno::Overflow,
            ),
            (0, 4, 256, quanta, SCHED_REFUSED_NEVER_RUNS, Errno::Inval),
            (5, 4, 256, quanta, SCHED_REFUSED_SLICE, Errno::Inval),
            (1, 101, 256, quanta, SCHED_REFUSED_PERIOD, Errno::Range),
            (1, 4, 256, both, SCHED_REFUSED_FLAGS, Errno::Inval),
            (MS, 20 * MS, 256, 4, SCHED_REFUSED_FLAGS, Errno::Inval),
        ] {
            assert_eq!(
                asked(slice, period, weight, flags),
                Err(Refused { reason, errno }),
                "{slice} {period} {weight} {flags}"
            );
        }
    }

    #[test]
    fn the_largest_slice_is_told_in_the_unit_of_the_question_and_never_too_large() {
        let want = SchedSet {
            vcpu: 3,
            largest_slice: 77,
            in_force_at: 78,
            ..SchedSet::ZERO
        };
        let mut answer = blank(&want);
        assert_eq!(
            (answer.vcpu, answer.largest_slice, answer.in_force_at),
            (3, 0, 0)
        );
        let why = Refusal::NoRoom {
            largest_slice: 29 * MS,
            largest_slice_soon: 30 * MS,
        };
        let time = asked(50 * MS, 100 * MS, 256, 0).unwrap();
        assert_eq!(time.refuse(&mut answer, &rules(), 2, why), Errno::NoSpc);
        assert_eq!(
            (answer.largest_slice, answer.largest_slice_soon),
            (29 * MS, 30 * MS)
        );
        assert_eq!(
            (answer.refusal, answer.refused_vcpu),
            (SCHED_REFUSED_NO_ROOM, 2)
        );
        let quanta = asked(5, 10, 256, SCHED_IN_QUANTA).unwrap();
        assert_eq!(quanta.refuse(&mut answer, &rules(), 0, why), Errno::NoSpc);
        assert_eq!((answer.largest_slice, answer.largest_slice_soon), (2, 3));
        let nowhere = time.refuse(&mut answer, &rules(), 0, Refusal::NoCpu);
        assert_eq!((nowhere, answer.largest_slice), (Errno::NoDev, 0));
    }

    #[test]
    fn an_allowance_is_within_the_machine_and_has_no_flags() {
        let want = |rate, weight, flags| {
            allowance(&SchedAllow {
                rate,
                weight,
                flags,
                ..SchedAllow::ZERO
            })
        };
        assert_eq!(want(0, 0, 0), Ok((0, 0)));
        let most = SCHED_LARGEST_RATE;
        assert_eq!(want(most, 65_535, 0), Ok((most, 65_535)));
        assert_eq!(want(most + 1, 0, 0), Err(Errno::Range));
        assert_eq!(want(u64::MAX, 0, 0), Err(Errno::Range));
        assert_eq!(want(0, 65_536, 0), Err(Errno::Inval));
        assert_eq!(want(0, 0, 1), Err(Errno::Inval));
    }

    #[test]
    fn the_quantum_can_be_set_within_its_bounds_and_nothing_else_can() {
        let want = |set, quantum| SchedRules {
            set,
            quantum,
            ..SchedRules::ZERO
        };
        assert_eq!(rules_wanted(&want(0, MS), &rules()), Ok(None));
        let set = rules_wanted(&want(SCHED_SET_QUANTUM, MS), &rules());
        let set = set.unwrap().unwrap();
        assert_eq!(rules_told(&set, 4).quantum, MS);
        assert_eq!(
            SchedRules {
                quantum: 10 * MS,
                ..rules_told(&set, 4)
            },
            rules_told(&rules(), 4)
        );
        for quantum in [0, 19_999, NANOSECONDS + 1, u64::MAX] {
            let refused = rules_wanted(&want(SCHED_SET_QUANTUM, quantum), &rules());
            assert_eq!(refused, Err(Errno::Range), "{quantum}");
        }
        assert_eq!(rules_wanted(&want(2, MS), &rules()), Err(Errno::Inval));
        assert_eq!(rules_wanted(&want(3, MS), &rules()), Err(Errno::Inval));
    }
}
