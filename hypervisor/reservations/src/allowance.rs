//! What a domain may reserve for itself, within what the machine has: an upper bound that its owner set.

use crate::rules::{Charge, Extra, Rules, Terms};

/// What a domain may have by its own wish, all its vCPUs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// What its reservations may be charged.
    pub rate: Charge,
    /// The largest weight of each vCPU in time that nobody reserved; 0 for no part in it.
    pub weight: u16,
}

/// A wish that goes beyond the allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The largest slice that would not, in the same period; 0 if none would be, if one of them still has more
    /// than each could have, or if the slice is not why.
    pub largest_slice: u64,
}

impl Allowance {
    /// A domain that may wish for nothing.
    pub const NONE: Self = Self {
        rate: Charge::NOTHING,
        weight: 0,
    };

    /// Whether each of a domain's vCPUs that have `named` in force may have `to`, while the others are charged `others`.
    /// What a vCPU gives up counts until it has given it up: others are charged the most of what is in force and what is
    /// coming.
    ///
    /// # Errors
    /// It may not.
    pub fn permits(
        &self,
        rules: &Rules,
        to: &Terms,
        named: &[Charge],
        others: Charge,
    ) -> Result<(), Exceeded> {
        if to.extra() == Extra::ByWeight && to.weight() > self.weight {
            return Err(Exceeded { largest_slice: 0 });
        }
        if Self::sum(to.charge(rules), named, others) <= self.rate {
            return Ok(());
        }
        let largest_slice = self.largest_slice(rules, to.period(), named, others);
        Err(Exceeded { largest_slice })
    }

    /// The largest slice that each of those vCPUs may have in periods of `period` ticks, as [`Self::permits`] has it; 0 if
    /// there is none, or if one of them still has more than each could have.
    #[must_use]
    pub fn largest_slice(
        &self,
        rules: &Rules,
        period: u64,
        named: &[Charge],
        others: Charge,
    ) -> u64 {
        let left = self.rate.less(others);
        let share = Charge(left.0 / (named.len() as u64).max(1));
        match Self::sum(share, named, others) <= self.rate {
            true => share.largest_slice(rules, period),
            false => 0,
        }
    }

    /// What all are charged where each of `named` is at least `least`.
    fn sum(least: Charge, named: &[Charge], others: Charge) -> Charge {
        let most = |sum: Charge, held: &Charge| sum.and(held.at_least(least));
        named.iter().fold(others, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::Refusal;
    use crate::request::NANOSECONDS;

    const MS: u64 = 1_000_000;

    fn rules() -> Rules {
        Rules::new(NANOSECONDS, 20_000, 10 * MS, 20_000).unwrap()
    }

    fn terms(slice: u64, period: u64, extra: Extra, weight: u16) -> Terms {
        Terms::new(&rules(), slice, period, extra, weight).unwrap()
    }

    const NOTHING: Charge = Charge::NOTHING;

    fn half() -> Allowance {
        Allowance {
            rate: Charge::of_ppm(500_000),
            weight: 300,
        }
    }

    #[test]
    fn the_largest_slice_that_is_told_is_permitted_and_a_tick_more_is_not() {
        for (number, others) in [(1, NOTHING), (3, NOTHING), (2, Charge::of_ppm(123_457))] {
            let named = &[NOTHING; 3][..number];
            for period in [MS, 7 * MS + 3, 20 * MS, 1000 * MS] {
                let ask = |slice| {
                    let wish = terms(slice, period, Extra::Never, 256);
                    half().permits(&rules(), &wish, named, others)
                };
                let largest = ask(period).unwrap_err().largest_slice;
                assert!(largest >= rules().section(), "{number} {period}");
                assert_eq!(ask(largest), Ok(()), "{number} {period} {largest}");
                assert!(ask(largest + 1).is_err(), "{number} {period} {largest}");
            }
        }
    }

    #[test]
    fn a_refusal_for_want_of_room_tells_no_slice_that_is_not_permitted() {
        let largest = half().largest_slice(&rules(), 20 * MS, &[NOTHING], NOTHING);
        let wish = |slice| {
            let wish = terms(slice, 20 * MS, Extra::Never, 256);
            half().permits(&rules(), &wish, &[NOTHING], NOTHING)
        };
        let told = |largest_slice_soon| {
            let refusal = Refusal::NoRoom {
                largest_slice: 0,
                largest_slice_soon,
            };
            match refusal.within(largest) {
                Refusal::NoRoom {
                    largest_slice_soon, ..
                } => largest_slice_soon,
                Refusal::NoCpu => 0,
            }
        };
        // All of a CPU is free soon.
        assert_eq!(told(19 * MS), largest);
        assert_eq!(wish(told(19 * MS)), Ok(()));
        assert!(wish(19 * MS).is_err());
        assert_eq!(told(MS), MS);
        assert_eq!(Refusal::NoCpu.within(largest), Refusal::NoCpu);
    }

    #[test]
    fn what_is_still_held_counts_until_it_is_given_up() {
        let little = terms(MS, 20 * MS, Extra::Never, 256);
        let (some, all) = (Charge::of_ppm(400_000), half().rate);
        let permits = |named: &[Charge], others| half().permits(&rules(), &little, named, others);
        assert_eq!(permits(&[all], NOTHING), Ok(()));
        assert_eq!(permits(&[some, NOTHING], NOTHING), Ok(()));
        let refused = Err(Exceeded { largest_slice: 0 });
        assert_eq!(permits(&[all, NOTHING], NOTHING), refused);
        assert_eq!(permits(&[some, some], NOTHING), refused);
        assert_eq!(permits(&[NOTHING], all), refused);
    }

    #[test]
    fn a_weight_counts_where_there_is_a_part_in_left_over_time_and_nothing_is_allowed_to_begin_with()
     {
        let permits = |allowance: Allowance, extra, weight| {
            let wish = terms(MS, 20 * MS, extra, weight);
            allowance
                .permits(&rules(), &wish, &[NOTHING], NOTHING)
                .is_ok()
        };
        assert!(permits(half(), Extra::ByWeight, 300));
        assert!(!permits(half(), Extra::ByWeight, 301));
        assert!(permits(half(), Extra::Never, 301));
        for extra in [Extra::Never, Extra::ByWeight] {
            assert!(!permits(Allowance::NONE, extra, 1));
        }
        let rest = Terms::best_effort(&rules(), 300).unwrap();
        let of = |allowance: Allowance| allowance.permits(&rules(), &rest, &[NOTHING; 64], NOTHING);
        assert_eq!(of(half()), Ok(()));
        assert!(of(Allowance::NONE).is_err());
    }

    #[test]
    fn no_number_overflows() {
        let wish = terms(1000 * MS, 1000 * MS, Extra::Never, 256);
        let most = Charge(u64::MAX);
        let allowance = Allowance {
            rate: most,
            weight: 1,
        };
        let all = allowance.permits(&rules(), &wish, &[most; 3], most);
        assert_eq!(all, Ok(()));
        assert!(half().permits(&rules(), &wish, &[most; 64], most).is_err());
        assert_eq!(half().permits(&rules(), &wish, &[], NOTHING), Ok(()));
    }
}
