//! Admission against exact arithmetic, and what terms are refused.

mod sim;

use reservations::{
    Change, Charge, CpuBooks, Extra, Placement, Refusal, Rules, RulesError, Terms, TermsError,
};
use sim::{Dice, SECTION, rules, terms};

/// All periods divide this, so that sums of fractions are whole numbers.
const COMMON: u64 = 302_400;
const PERIODS: [u64; 8] = [30, 45, 100, 189, 240, 300, 1008, 3024];

#[test]
fn what_is_admitted_fits_exactly_and_what_is_offered_is_granted() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut books = [CpuBooks::OFFLINE; 1];
        let mut placement = Placement::new(&mut books, rules());
        assert!(placement.set_online(0, true));
        let mut exact = 0_u64;
        for _ in 0..200 {
            let period = PERIODS[dice.below(8) as usize];
            let slice = SECTION + dice.below(period / 2 - SECTION);
            let asked = terms(slice, period, Extra::Never);
            let share = |slice: u64| (slice + SECTION) * (COMMON / period);
            match placement.admit(0, &asked, |_| true, |_| true) {
                Ok(_) => exact += share(slice),
                Err(Refusal::NoRoom { largest_slice, .. }) => {
                    // Rounding up may cost a unit of 2^-48 each: nothing at these scales but at equality.
                    assert!(exact + share(slice) >= COMMON, "refused what fits");
                    assert!(largest_slice < slice);
                    if largest_slice != 0 {
                        assert!(exact + share(largest_slice) <= COMMON);
                        let offered = terms(largest_slice, period, Extra::Never);
                        assert_eq!(placement.admit(0, &offered, |_| true, |_| true), Ok(0));
                        exact += share(largest_slice);
                    }
                }
                Err(Refusal::NoCpu) => panic!("there is one"),
            }
            assert!(exact <= COMMON, "more than the CPU was promised");
        }
    }
}

#[test]
fn a_refusal_changes_nothing_and_a_withdrawal_takes_back_what_was_charged() {
    let mut books = [CpuBooks::OFFLINE; 2];
    let mut placement = Placement::new(&mut books, rules());
    assert!(placement.set_online(0, true));
    let (large, small) = (terms(72, 100, Extra::Never), terms(7, 30, Extra::Never));
    assert_eq!(placement.admit(0, &large, |_| true, |_| true), Ok(0));
    let before = placement.charged(0);
    assert!(placement.admit(0, &small, |_| true, |_| true).is_err());
    assert_eq!(placement.charged(0), before);
    let release = placement.withdraw(0, &large);
    placement.release(0, release, 60);
    assert_eq!(placement.charged(0), before, "not before it is paid for");
    let refused = placement.admit(60, &small, |_| true, |_| true);
    // A quarter of the CPU is left: 7.5 of 30, of which B is 3; later all but B.
    assert_eq!(
        refused,
        Err(Refusal::NoRoom {
            largest_slice: 4,
            largest_slice_soon: 27
        })
    );
    assert_eq!(placement.admit(200_000, &small, |_| true, |_| true), Ok(0));
}

#[test]
fn the_first_cpu_with_room_is_taken_and_pins_are_honoured() {
    let mut books = [CpuBooks::OFFLINE; 4];
    let mut placement = Placement::new(&mut books, rules());
    let half = terms(47, 100, Extra::Never);
    assert_eq!(
        placement.admit(0, &half, |_| true, |_| true),
        Err(Refusal::NoCpu)
    );
    for cpu in 0..3 {
        assert!(placement.set_online(cpu, true));
    }
    assert!(!placement.set_online(4, true));
    assert_eq!(placement.admit(0, &half, |_| true, |_| true), Ok(0));
    // A sibling goes to a CPU of its own while there is one, and else where there is room.
    assert_eq!(placement.admit(0, &half, |_| true, |cpu| cpu != 0), Ok(1));
    assert_eq!(
        placement.admit(0, &half, |cpu| cpu == 0, |cpu| cpu != 0),
        Ok(0)
    );
    assert_eq!(
        placement.admit(0, &half, |cpu| cpu == 0, |_| true),
        Err(Refusal::NoRoom {
            largest_slice: 0,
            largest_slice_soon: 0
        })
    );
    assert_eq!(
        placement.admit(0, &half, |cpu| cpu == 3, |_| true),
        Err(Refusal::NoCpu)
    );
    // Who is promised nothing goes where there are few.
    let any = Terms::best_effort(&rules(), 1).unwrap();
    assert_eq!(placement.admit(0, &any, |_| true, |_| true), Ok(2));
    assert_eq!(placement.admit(0, &any, |_| true, |_| true), Ok(1));
}

#[test]
fn a_change_stays_where_it_is_or_moves_where_there_is_room_or_is_refused() {
    let mut books = [CpuBooks::OFFLINE; 2];
    let mut placement = Placement::new(&mut books, rules());
    assert!(placement.set_online(0, true) && placement.set_online(1, true));
    let half = terms(47, 100, Extra::Never);
    let most = terms(90, 100, Extra::Never);
    for _ in 0..2 {
        assert_eq!(placement.admit(0, &half, |cpu| cpu == 0, |_| true), Ok(0));
    }
    let change = placement.amend(0, 0, &half, &most, |_| true).unwrap();
    let Change::Elsewhere { to: 1, release } = change else {
        panic!("{change:?}");
    };
    placement.release(0, release, 0);
    let before = (placement.charged(0), placement.charged(1));
    // The one that stayed has 50 and may have what is left beside; the full CPU has nothing for it.
    let refused = placement.amend(0, 0, &half, &terms(98, 100, Extra::Never), |_| true);
    assert_eq!(
        refused,
        Err(Refusal::NoRoom {
            largest_slice: 97,
            largest_slice_soon: 97
        })
    );
    assert_eq!((placement.charged(0), placement.charged(1)), before);
    // Less is always granted, at its time.
    let less = terms(7, 100, Extra::Never);
    let Ok(Change::Here(release)) = placement.amend(0, 1, &most, &less, |_| true) else {
        panic!("less was refused");
    };
    assert_eq!(placement.charged(1), before.1, "until the period ends");
    placement.release(0, release, 0);
    assert!(placement.charged(1) < before.1);
}

#[test]
fn the_reserve_is_kept_and_overflow_is_refused() {
    let rules = Rules::new(1_000_000, SECTION, 10, 50_000).unwrap();
    let mut books = [CpuBooks::OFFLINE; 1];
    let mut placement = Placement::new(&mut books, rules);
    assert!(placement.set_online(0, true));
    let all = Terms::new(&rules, 93, 100, Extra::Never, 1).unwrap();
    assert_eq!(
        placement.admit(0, &all, |_| true, |_| true),
        // 95 less B; the reserve is rounded up.
        Err(Refusal::NoRoom {
            largest_slice: 91,
            largest_slice_soon: 91
        })
    );
    assert_eq!(
        Terms::of_quanta(&rules, u64::MAX, 2),
        Err(TermsError::Overflow)
    );
}

#[test]
fn terms_that_make_no_sense_are_refused_by_name() {
    let rules = rules();
    let new = |slice, period, extra, weight| Terms::new(&rules, slice, period, extra, weight);
    assert_eq!(new(10, 29, Extra::Never, 1), Err(TermsError::Period));
    assert_eq!(new(10, 1_000_001, Extra::Never, 1), Err(TermsError::Period));
    assert_eq!(new(10, 0, Extra::Never, 1), Err(TermsError::Period));
    assert_eq!(
        new(101, 100, Extra::Never, 1),
        Err(TermsError::SliceExceedsPeriod)
    );
    assert_eq!(new(0, 100, Extra::Never, 1), Err(TermsError::NeverRuns));
    assert_eq!(new(2, 100, Extra::Never, 1), Err(TermsError::SliceTooShort));
    assert_eq!(new(10, 100, Extra::Never, 0), Err(TermsError::Weight));
    assert!(
        new(100, 100, Extra::Never, 1).is_ok(),
        "nowhere admitted, but not nonsense"
    );
    assert_eq!(Terms::of_quanta(&rules, 5, 20).unwrap().slice(), 50);
    assert_eq!(Rules::new(1, 1, 1, 0), Err(RulesError::Clock));
    assert_eq!(Rules::new(1_000_000, 0, 1, 0), Err(RulesError::Section));
    assert_eq!(
        Rules::new(1_000_000, 100_001, 200_000, 0),
        Err(RulesError::Section)
    );
    assert_eq!(Rules::new(1_000_000, 20, 19, 0), Err(RulesError::Quantum));
    assert_eq!(
        Rules::new(1_000_000, 20, 20, 1_000_001),
        Err(RulesError::Reserve)
    );
}

#[test]
fn what_departs_is_told_and_parts_of_a_second_are_rounded_to_the_careful_side() {
    let mut books = [CpuBooks::OFFLINE; 2];
    let mut placement = Placement::new(&mut books, rules());
    assert!(placement.set_online(0, true));
    assert!(placement.is_online(0) && !placement.is_online(1) && !placement.is_online(2));
    let third = terms(30, 100, Extra::Never);
    let cpu = placement.admit(0, &third, |_| true, |_| true).unwrap();
    assert_eq!(placement.departing(0, cpu), Some(Charge::NOTHING));
    let release = placement.withdraw(cpu, &third);
    placement.release(0, release, 100);
    let held = placement.departing(50, cpu).unwrap();
    assert_eq!(held, placement.charged(cpu).unwrap());
    // (30 + 3) / 100 of a million, and its charge was rounded up.
    assert_eq!(
        (held.of(1_000_000), held.of_rounded_up(1_000_000)),
        (330_000, 330_001)
    );
    assert_eq!(Charge::WHOLE.of(u64::MAX), u64::MAX);
    assert_eq!(placement.departing(500_000, cpu), Some(Charge::NOTHING));
    assert_eq!(placement.charged(cpu), Some(Charge::NOTHING));
}

#[test]
fn several_on_a_cpu_share_what_is_kept_for_them() {
    let half = rules().capacity().at_most(Charge::of_ppm(500_000));
    let asked = terms(100, 1000, Extra::ByWeight);
    for number in [1, 2, 4, 5, 20, 64, 160] {
        let each = asked.within(&rules(), number, half);
        let charge = each.charge(&rules());
        let all = (0..number).fold(Charge::NOTHING, |sum, _| sum.and(charge));
        assert!(all <= half, "{number}: {each:?}");
        assert_eq!((each.period(), each.extra()), (1000, Extra::ByWeight));
        // (100 + 3) / 1000 fits four times into half.
        assert_eq!(each.slice() == 100, number <= 4);
        assert_eq!(each.slice() == 0, number == 160, "{number}");
    }
    let capped = terms(100, 1000, Extra::Never).within(&rules(), 160, half);
    assert_eq!(capped.slice(), SECTION);
}
