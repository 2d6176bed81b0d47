//! Terms for all vCPUs of a domain: all get them, or none, and what is offered is granted.

use cpus::set::CpuSet;
use proptest::prelude::*;
use reservations::{
    Change, Charge, Charges, CpuBooks, Extra, Member, Placement, Rules, Search, Terms,
};

const MS: u64 = 1_000_000;
const SECTION: u64 = 20_000;

fn rules() -> Rules {
    Rules::new(1_000_000_000, SECTION, 10 * MS, 20_000).unwrap()
}

fn terms(slice: u64, period: u64) -> Terms {
    Terms::new(&rules(), slice, period, Extra::ByWeight, 256).unwrap()
}

/// All that can be seen of the CPUs.
fn seen(placement: &Placement<'_>, cpus: usize) -> Vec<String> {
    let one = |cpu| format!("{:?} {:?}", placement.charged(cpu), placement.vcpus(cpu));
    (0..cpus).map(one).collect()
}

fn anywhere(_: usize) -> CpuSet {
    CpuSet::ALL
}

/// What each CPU has to carry: a domain's vCPUs, and others.
fn filled<'a>(
    books: &'a mut [CpuBooks],
    others: &[u64],
    had: &[Terms],
) -> (Placement<'a>, Vec<Member>) {
    let cpus = books.len();
    let mut placement = Placement::new(books, rules());
    (0..cpus).for_each(|cpu| assert!(placement.set_online(cpu, true)));
    let members = had.iter().map(|had| {
        let any = |_: usize| true;
        let cpu = placement.admit(0, had, any, any).unwrap();
        Member::new(cpu as u32, had.charge(&rules()))
    });
    let members = members.collect();
    for slice in others {
        let _full = placement.admit(0, &terms(*slice, 100 * MS), |_| true, |_| true);
    }
    (placement, members)
}

fn best_effort(count: usize) -> Vec<Terms> {
    vec![Terms::best_effort(&rules(), 256).unwrap(); count]
}

/// Members that have nothing, all on the first CPU.
fn on_the_first(placement: &mut Placement<'_>, count: usize) -> Vec<Member> {
    let admit = |had: &Terms| {
        let home = placement.admit(0, had, |cpu| cpu == 0, |_| true);
        assert_eq!(home, Ok(0));
        Member::new(0, Charge::NOTHING)
    };
    best_effort(count).iter().map(admit).collect()
}

#[test]
fn four_halves_fit_three_cpus_not_at_all_and_four_wholly() {
    for (cpus, fits) in [(3, false), (4, true)] {
        let mut books = vec![CpuBooks::OFFLINE; cpus];
        let (mut placement, mut members) = filled(&mut books, &[], &best_effort(4));
        let before = seen(&placement, cpus);
        // Two of these do not fit one CPU.
        let want = terms(50 * MS, 100 * MS);
        let outcome = placement.amend_in_place(0, &mut members, &want, anywhere);
        if fits {
            assert_eq!(outcome, Ok(None));
            let each = want.charge(&rules());
            assert!((0..cpus).all(|cpu| placement.charged(cpu) == Some(each)));
        } else {
            assert_eq!(outcome.unwrap_err().0, 3, "the fourth finds none");
            assert_eq!(seen(&placement, cpus), before);
        }
    }
}

#[test]
fn who_may_go_to_one_cpu_alone_is_looked_for_there_alone() {
    let mut books = vec![CpuBooks::OFFLINE; 3];
    let (mut placement, _) = filled(&mut books, &[], &[]);
    let mut members = on_the_first(&mut placement, 3);
    let before = seen(&placement, 3);
    let want = terms(60 * MS, 100 * MS);
    let only = |cpu: u32| move |_: usize| CpuSet::EMPTY.with(cpu);
    let outcome = placement.amend_in_place(0, &mut members, &want, only(1));
    assert_eq!(outcome.unwrap_err().0, 2, "one may stay, and one may go");
    assert_eq!(seen(&placement, 3), before);
    let each = |place: usize| CpuSet::EMPTY.with(3 - place as u32);
    let outcome = placement.amend_in_place(0, &mut members, &want, each);
    assert_eq!(
        outcome,
        Ok(Some((1, 2))),
        "the second goes first, to the last"
    );
    assert_eq!(seen(&placement, 3), before);
    let outcome = placement.would_amend(0, &mut members, &want, anywhere);
    assert_eq!(outcome, Ok(Some((1, 1))), "or to the first that has room");
    assert_eq!(seen(&placement, 3), before);
}

#[test]
fn who_stays_need_not_be_allowed_to() {
    let mut books = vec![CpuBooks::OFFLINE; 2];
    let (mut placement, mut members) = filled(&mut books, &[], &best_effort(3));
    let before = seen(&placement, 2);
    let nowhere = |_: usize| CpuSet::EMPTY;
    let want = terms(60 * MS, 100 * MS);
    let in_place = placement.amend_in_place(0, &mut members[..2], &want, nowhere);
    assert_eq!(in_place, Ok(None));
    for cpu in [0, 1] {
        let back = placement.given_back(cpu, want.charge(&rules()), Charge::NOTHING);
        placement.release(0, back, 0);
    }
    assert_eq!(seen(&placement, 2), before);
    // Two are on the first, and the other takes nobody any more.
    placement.set_online(1, false);
    let refused = placement.amend_in_place(0, &mut members, &want, anywhere);
    assert_eq!(refused.unwrap_err().0, 2);
    assert_eq!(seen(&placement, 2), before);
}

#[test]
fn what_each_gives_back_later_leaves_what_all_were_granted() {
    let had = [10, 30, 20, 20].map(|slice| terms(slice * MS, 100 * MS));
    let to = terms(20 * MS, 100 * MS);
    let mut books = vec![CpuBooks::OFFLINE; 1];
    let (mut placement, mut members) = filled(&mut books, &[], &had);
    let granted = placement.amend_in_place(0, &mut members, &to, anywhere);
    assert_eq!(granted, Ok(None));
    // All of it is charged until the last has what it was granted, and then no more than that.
    let mut alone = vec![CpuBooks::OFFLINE; 1];
    let wanted = filled(&mut alone, &[], &[to; 4]).0.charged(0);
    let will = to.charge(&rules());
    for had in had {
        let before = placement.charged(0);
        let release = placement.given_back(0, had.charge(&rules()), will);
        placement.release(0, release, 0);
        let more = had.slice() > to.slice();
        assert_eq!(placement.charged(0) < before, more);
        assert!(placement.charged(0) >= wanted);
    }
    assert_eq!(placement.charged(0), wanted);
}

#[test]
fn what_is_charged_for_terms_is_the_same_whoever_was_asked_about_before() {
    let mut charges = Charges::default();
    let none = Terms::best_effort(&rules(), 256).unwrap();
    let some = [(10, 100), (10, 100), (10, 50), (20, 100)];
    let some = some.map(|(slice, period)| terms(slice * MS, period * MS));
    for of in [none]
        .iter()
        .chain(&some)
        .chain([&none, &some[0], &some[3]])
    {
        assert_eq!(charges.of(of, &rules()), of.charge(&rules()));
    }
}

#[test]
fn what_is_free_is_free_on_every_cpu_from_its_step_on() {
    let mut books = vec![CpuBooks::OFFLINE; 2];
    let (mut placement, _) = filled(&mut books, &[90, 90].map(|slice| slice * MS), &[]);
    for cpu in [0, 1] {
        let had = placement.withdraw(cpu, &terms(90 * MS, 100 * MS));
        placement.release(0, had, 100 * MS);
    }
    let wish = terms(90 * MS, 100 * MS);
    let admit =
        |placement: &mut Placement<'_>, now| placement.admit(now, &wish, |_| true, |_| true);
    assert!(admit(&mut placement, 90 * MS).is_err(), "not yet");
    assert!(
        admit(&mut placement, 90 * MS).is_err(),
        "nor when asked again"
    );
    let later = 400 * MS;
    assert_eq!(admit(&mut placement, later), Ok(0));
    assert_eq!(admit(&mut placement, later), Ok(1));
    assert!(admit(&mut placement, later).is_err());
}

#[test]
fn of_those_with_room_the_one_with_the_fewest_is_the_roomiest() {
    let mut books = vec![CpuBooks::OFFLINE; 4];
    let others = [50, 60, 70, 30, 20].map(|slice| slice * MS);
    let (mut placement, _) = filled(&mut books, &others, &[]);
    // 50 and 30 on the first, 60 and 20 on the second, 70 on the third, none on the last.
    assert_eq!(
        [0, 1, 2, 3].map(|cpu| placement.vcpus(cpu)),
        [2, 2, 1, 0].map(Some)
    );
    let of = |cpus: &[u32]| cpus.iter().fold(CpuSet::EMPTY, |set, &cpu| set.with(cpu));
    let mut best = |slice, at, cpus: &[u32]| {
        placement.roomiest(0, &terms(slice * MS, 100 * MS), at, &of(cpus))
    };
    assert_eq!(best(15, 0, &[0, 1, 2, 3]), Some(3));
    assert_eq!(best(15, 0, &[0, 1, 2]), Some(2));
    assert_eq!(best(15, 3, &[0, 1]), Some(0));
    assert_eq!(best(35, 3, &[0, 1, 2]), None);
    assert_eq!(
        best(35, 1, &[0, 1, 2]),
        Some(1),
        "what it has there is its own"
    );
    assert_eq!(best(15, 3, &[]), None);
    placement.set_online(3, false);
    let best = placement.roomiest(0, &terms(15 * MS, 100 * MS), 0, &CpuSet::ALL);
    assert_eq!(best, Some(2), "who takes nobody has no room");
}

proptest! {
    #[test]
    fn nothing_is_granted_in_part_and_what_is_offered_is_granted(
        cpus in 1usize..5,
        others in prop::collection::vec(MS..60 * MS, 0..8),
        had in prop::collection::vec(0u64..20, 1..9),
        slice in 1u64..100,
        allowed in any::<u64>(),
    ) {
        let mut books = vec![CpuBooks::OFFLINE; cpus];
        let had: Vec<_> = had.iter().map(|slice| terms(slice * MS / 10, 100 * MS)).collect();
        let (mut placement, mut members) = filled(&mut books, &others, &had);
        let may = |member: usize| (0..cpus as u32)
            .filter(|cpu| allowed >> ((member as u32 * 4 + cpu) % 64) & 1 == 1)
            .fold(CpuSet::EMPTY, CpuSet::with);
        let before = seen(&placement, cpus);
        let want = terms(slice * MS, 100 * MS);
        let would = placement.would_amend(0, &mut members, &want, may);
        prop_assert_eq!(&seen(&placement, cpus), &before);
        let outcome = placement.amend_in_place(0, &mut members, &want, may);
        prop_assert_eq!(outcome, would);
        if would == Ok(None) {
            for cpu in 0..cpus {
                prop_assert!(placement.charged(cpu).unwrap() <= rules().capacity());
            }
            return Ok(());
        }
        prop_assert_eq!(&seen(&placement, cpus), &before);
        if would.is_ok() {
            return Ok(());
        }
        let mut search = Search::below(&want, &rules());
        let mut tries = 0;
        while let Some(slice) = search.next() {
            let fits = placement.would_amend(0, &mut members, &terms(slice, 100 * MS), may).is_ok();
            search.note(slice, fits);
            tries += 1;
        }
        prop_assert!(tries <= 41);
        prop_assert_eq!(&seen(&placement, cpus), &before);
        prop_assert!(search.largest() < want.slice());
        if search.largest() != 0 {
            let offered = terms(search.largest(), 100 * MS);
            prop_assert!(placement.amend_in_place(0, &mut members, &offered, may).is_ok());
            for cpu in 0..cpus {
                prop_assert!(placement.charged(cpu).unwrap() <= rules().capacity());
            }
        }
    }
}

proptest! {
    #[test]
    fn all_are_granted_what_each_would_be_one_after_the_other(
        cpus in 1usize..5,
        others in prop::collection::vec(MS..60 * MS, 0..8),
        had in prop::collection::vec(0u64..40, 1..9),
        slice in 0u64..100,
        allowed in any::<u64>(),
    ) {
        let had: Vec<_> = had.iter().map(|slice| terms(slice * MS / 10, 100 * MS)).collect();
        let may = |member: usize| (0..cpus as u32)
            .filter(|cpu| allowed >> ((member as u32 * 4 + cpu) % 64) & 1 == 1)
            .fold(CpuSet::EMPTY, CpuSet::with);
        let want = terms(slice * MS, 100 * MS);
        let mut books = [vec![CpuBooks::OFFLINE; cpus], vec![CpuBooks::OFFLINE; cpus]];
        let [one, other] = &mut books;
        let (mut together, mut members) = filled(one, &others, &had);
        let (mut singly, _) = filled(other, &others, &had);
        let homes: Vec<usize> = {
            // Where `filled` put them.
            let mut again = vec![CpuBooks::OFFLINE; cpus];
            let (mut placement, _) = filled(&mut again, &[], &[]);
            let admit = |had: &Terms| placement.admit(0, had, |_| true, |_| true).unwrap();
            had.iter().map(admit).collect()
        };
        let granted = together.amend_in_place(0, &mut members, &want, may);
        let mut first = None;
        for (place, (had, &here)) in had.iter().zip(&homes).enumerate() {
            let may = |cpu: usize| cpu == here || may(place).contains(cpu as u32);
            match singly.amend(0, here, had, &want, may) {
                Ok(Change::Here(_)) => {}
                Ok(Change::Elsewhere { to, .. }) => first = first.or(Some((place, to as u32))),
                Err(why) => {
                    prop_assert_eq!(granted, Err((place, why)));
                    return Ok(());
                }
            }
        }
        prop_assert_eq!(granted, Ok(first));
        if first.is_none() {
            prop_assert_eq!(seen(&together, cpus), seen(&singly, cpus));
        }
    }
}

#[test]
fn a_search_goes_on_from_its_parts_and_ends_whatever_they_are() {
    let rules = rules();
    let refused = terms(90 * MS, 100 * MS);
    let room = |slice: u64| slice <= 37 * MS;
    let run = |mut search: Search| {
        for _ in 0..50 {
            let Some(slice) = search.next() else {
                return search.largest();
            };
            search.note(slice, room(slice));
            search = Search::resume(&refused, &rules, search.parts());
        }
        panic!("no end");
    };
    assert_eq!(run(Search::below(&refused, &rules)), 37 * MS);
    assert_eq!(run(Search::resume(&refused, &rules, (0, 0))), 37 * MS);
    for parts in [
        (5, 3),
        (u64::MAX, 7),
        (0, u64::MAX),
        (90 * MS, 90 * MS),
        (1, 2),
        (89 * MS, 89 * MS),
    ] {
        // No end is worse than a wrong answer to who lied.
        assert!(
            run(Search::resume(&refused, &rules, parts)) < 90 * MS,
            "{parts:?}"
        );
    }
}

#[test]
fn a_search_that_goes_on_from_what_it_told_ends() {
    let refused = terms(90 * MS, 100 * MS);
    // Nothing fits, everything does, or what is short enough.
    for largest in [0, 90 * MS, 7_654_321] {
        let mut search = Search::below(&refused, &rules());
        let mut trials = 0;
        while let Some(slice) = search.next() {
            search.note(slice, slice <= largest);
            search = Search::resume(&refused, &rules(), search.parts());
            trials += 1;
            assert!(trials <= 41, "it does not end");
        }
        assert_eq!(search.largest(), largest.min(90 * MS - 1));
    }
}
