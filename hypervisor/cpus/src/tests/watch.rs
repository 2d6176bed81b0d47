//! A CPU and the neighbour that watches it, alone and in every order of their steps.

use super::{Look, PATIENCE, Watched};
use crate::atomic::AtomicU32;
use interleave::every_order;
use std::sync::atomic::Ordering::SeqCst;

/// Looks until something other than waiting comes of it.
fn looks_until(watched: &Watched, end: Look) -> u32 {
    for looks in 1.. {
        match watched.look() {
            Look::Again => {}
            found => {
                assert_eq!(found, end);
                return looks;
            }
        }
    }
    unreachable!()
}

#[test]
fn one_that_never_answers_is_accused_after_so_many_looks_and_found_deaf_after_one_more() {
    let watched = Watched::new();
    assert!(watched.works());
    assert_eq!(watched.look(), Look::Ask);
    assert_eq!(looks_until(&watched, Look::Accuse), PATIENCE + 1);
    assert!(watched.is_accused());
    assert_eq!(watched.look(), Look::Deaf);
}

#[test]
fn one_that_answers_late_is_asked_anew() {
    let watched = Watched::new();
    assert!(watched.works());
    for _ in 0..3 {
        assert_eq!(watched.look(), Look::Ask);
        for _ in 0..PATIENCE {
            assert_eq!(watched.look(), Look::Again);
        }
        assert!(!watched.is_accused());
        watched.answer();
    }
}

#[test]
fn an_accused_that_does_anything_is_cleared() {
    for act in [Watched::answer, Watched::rests] {
        let watched = Watched::new();
        assert!(watched.works());
        assert_eq!(watched.look(), Look::Ask);
        looks_until(&watched, Look::Accuse);
        act(&watched);
        assert!(!watched.is_accused());
        assert_ne!(watched.look(), Look::Deaf);
    }
}

#[test]
fn one_that_rests_costs_its_neighbour_one_look() {
    let watched = Watched::new();
    assert_eq!(watched.look(), Look::NoMore);
    assert!(watched.works());
    watched.rests();
    assert_eq!(watched.look(), Look::NoMore);
    // From then on it has to say so when it works; before, it did not.
    assert!(watched.works());
    watched.rests();
    assert!(!watched.works(), "it is looked at still");
}

#[test]
fn one_that_rested_before_it_ever_worked_says_so_when_it_works() {
    let watched = Watched::new();
    watched.rests();
    assert!(watched.works());
}

/// A CPU that comes and goes, and one that looks: the second is told to whenever nobody would find the first at work (W1).
#[test]
fn nobody_works_unwatched() {
    struct Toy {
        watched: Watched,
        /// Whether the neighbour's timer is set, or it was told to look.
        looks: AtomicU32,
    }
    let cpu = |toy: &Toy| {
        for _ in 0..2 {
            if toy.watched.works() {
                toy.looks.swap(1, SeqCst);
            }
            toy.watched.answer();
            toy.watched.rests();
        }
        if toy.watched.works() {
            toy.looks.swap(1, SeqCst);
        }
    };
    let neighbour = |toy: &Toy| {
        for _ in 0..4 {
            if toy.looks.swap(0, SeqCst) == 0 {
                continue;
            }
            match toy.watched.look() {
                Look::NoMore => {}
                Look::Accuse | Look::Deaf => panic!("accused"),
                Look::Again | Look::Ask => {
                    toy.looks.swap(1, SeqCst);
                }
            }
        }
    };
    let fresh = || Toy {
        watched: Watched::new(),
        looks: AtomicU32::new(0),
    };
    let orders = every_order(fresh, &[&cpu, &neighbour], |toy| {
        assert_eq!(toy.looks.load(SeqCst), 1, "it works, and nobody looks");
    });
    assert!(orders > 100, "{orders}");
}

/// One that answers whenever it is asked, however the looks fall, is never accused (W2).
#[test]
fn one_that_answers_is_never_accused() {
    let fresh = || {
        let watched = Watched::new();
        assert!(watched.works());
        watched
    };
    let cpu = |watched: &Watched| (0..3).for_each(|_| watched.answer());
    let neighbour = |watched: &Watched| {
        for _ in 0..PATIENCE {
            let found = watched.look();
            assert!(matches!(found, Look::Ask | Look::Again), "{found:?}");
        }
    };
    let orders = every_order(fresh, &[&cpu, &neighbour], |_| {});
    assert!(orders > 100, "{orders}");
}
