//! Terms for all vCPUs of a domain: all get them, or none, and what is offered is granted.

use proptest::prelude::*;
use reservations::{Change, CpuBooks, Extra, Member, Placement, Rules, Search, Terms};

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

/// What each CPU has to carry: a domain's vCPUs, and others.
fn filled<'a>(books: &'a mut [CpuBooks], others: &[u64], members: &mut [Member]) -> Placement<'a> {
    let cpus = books.len();
    let mut placement = Placement::new(books, rules());
    (0..cpus).for_each(|cpu| assert!(placement.set_online(cpu, true)));
    for member in members.iter_mut() {
        let any = |_: usize| true;
        member.cpu = placement.admit(0, &member.from, any, any).unwrap();
    }
    for slice in others {
        let _full = placement.admit(0, &terms(*slice, 100 * MS), |_| true, |_| true);
    }
    placement
}

fn best_effort(count: usize) -> Vec<Member> {
    let none = Terms::best_effort(&rules(), 256).unwrap();
    (0..count).map(|_| Member::new(0, none)).collect()
}

#[test]
fn four_halves_fit_three_cpus_not_at_all_and_four_wholly() {
    for (cpus, fits) in [(3, false), (4, true)] {
        let mut books = vec![CpuBooks::OFFLINE; cpus];
        let mut members = best_effort(4);
        let mut placement = filled(&mut books, &[], &mut members);
        let before = seen(&placement, cpus);
        // Two of these do not fit one CPU.
        let outcome = placement.amend_all(0, &mut members, &terms(50 * MS, 100 * MS), |_, _| true);
        if fits {
            assert_eq!(outcome, Ok(()));
            assert!(members.iter().all(|member| member.granted.is_some()));
        } else {
            assert_eq!(outcome.unwrap_err().0, 3, "the fourth finds none");
            assert_eq!(seen(&placement, cpus), before);
            assert!(members.iter().all(|member| member.granted.is_none()));
        }
    }
}

#[test]
fn who_may_run_on_one_cpu_alone_is_looked_for_there_alone() {
    let mut books = vec![CpuBooks::OFFLINE; 2];
    let mut members = best_effort(2);
    let mut placement = filled(&mut books, &[], &mut members);
    let want = terms(60 * MS, 100 * MS);
    let pinned = |_, cpu| cpu == 1;
    assert!(placement.amend_all(0, &mut members, &want, pinned).is_err());
    assert_eq!(
        placement.amend_all(0, &mut members, &want, |member, cpu| member == cpu),
        Ok(())
    );
    let ends = members.iter().map(|member| match member.granted {
        Some(Change::Elsewhere { to, .. }) => to,
        _ => member.cpu,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [0, 1]);
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
        let from = had.iter().map(|slice| terms(slice * MS / 10, 100 * MS));
        let mut members: Vec<Member> = from.map(|from| Member::new(0, from)).collect();
        let mut placement = filled(&mut books, &others, &mut members);
        let may = |member: usize, cpu: usize| allowed >> ((member * 4 + cpu) % 64) & 1 == 1 || cpu == member % cpus;
        let before = seen(&placement, cpus);
        let want = terms(slice * MS, 100 * MS);
        let would = placement.would_amend_all(0, &mut members, &want, may);
        prop_assert_eq!(&seen(&placement, cpus), &before);
        let outcome = placement.amend_all(0, &mut members, &want, may);
        prop_assert_eq!(outcome.is_ok(), would);
        if would {
            return Ok(());
        }
        prop_assert_eq!(&seen(&placement, cpus), &before);
        let mut search = Search::below(&want, &rules());
        let mut tries = 0;
        while let Some(slice) = search.next() {
            let fits = placement.would_amend_all(0, &mut members, &terms(slice, 100 * MS), may);
            search.note(slice, fits);
            tries += 1;
        }
        prop_assert!(tries <= 41);
        prop_assert_eq!(&seen(&placement, cpus), &before);
        prop_assert!(search.largest() < want.slice());
        if search.largest() != 0 {
            let offered = terms(search.largest(), 100 * MS);
            prop_assert_eq!(placement.amend_all(0, &mut members, &offered, may), Ok(()));
            for cpu in 0..cpus {
                prop_assert!(placement.charged(cpu).unwrap() <= rules().capacity());
            }
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
