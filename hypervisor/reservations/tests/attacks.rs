//! The known ways of getting more time than one pays for, and of taking it from others.

mod sim;

use reservations::{Arrival, CpuBooks, Extra, Kind, Queue, Slot, Terms};
use sim::{Machine, QUANTUM, SECTION, rules, storage, terms};

/// A machine with one CPU, hogs included, and the attacker the last of its vCPUs.
fn with_hogs(seed: u64, late: u64, attacker: Terms, act: impl FnOnce(&mut Machine<'_>, usize)) {
    let (mut slots, mut books): (Vec<Vec<Slot>>, Vec<CpuBooks>) = storage(1, 8);
    let mut machine = Machine::new(rules(), &mut slots, &mut books, seed, late);
    machine.start(terms(37, 100, Extra::Never));
    machine.start(terms(20, 80, Extra::ByWeight));
    let attacker = machine.start(attacker);
    act(&mut machine, attacker);
    machine.assert_nothing_missed();
}

/// Lets time pass until the vCPU has run for so long that `left` ticks of its budget are left.
fn run_until_left(machine: &mut Machine<'_>, vcpu: usize, left: u64) {
    for _ in 0..1000 {
        let v = &machine.vcpus[vcpu];
        let cpu = &machine.cpus[v.cpu];
        let (_, budget, _) = cpu.queue.period(v.seat).unwrap();
        let runs = cpu.on == Some(vcpu) && cpu.decision.kind == Kind::Guaranteed;
        let now = machine.now;
        if runs && budget <= left {
            return;
        }
        machine.run_to(now + 1);
        // Brings the queue's account up to date, as any call does.
        let seat = machine.vcpus[vcpu].seat;
        let cpu = machine.vcpus[vcpu].cpu;
        let _ = machine.cpus[cpu].queue.owes(now + 1, seat, 0);
    }
}

/// At its rate, and what may be saved up or overrun once.
fn assert_no_gain(ran: u64, slice: u64, period: u64, elapsed: u64) {
    let most = slice * elapsed / period + 2 * slice * (period - slice) / period + SECTION + 1;
    assert!(ran <= most, "{ran} > {most}");
}

#[test]
fn yielding_just_before_the_budget_ends_gains_nothing() {
    for seed in 0..10 {
        with_hogs(
            seed,
            SECTION,
            terms(10, 100, Extra::Never),
            |m, attacker| {
                while m.now < 20_000 {
                    run_until_left(m, attacker, 1);
                    m.yield_now(attacker);
                    m.run_to(m.now + 1);
                }
                assert_no_gain(m.vcpus[attacker].ran, 10, 100, m.now);
            },
        );
    }
}

#[test]
fn sleeping_just_before_the_budget_ends_gains_nothing() {
    for left in [1, 2, 5, 9] {
        for asleep in [1, 2, 10, 40, 90] {
            with_hogs(
                left,
                SECTION,
                terms(10, 100, Extra::Never),
                |m, attacker| {
                    while m.now < 20_000 {
                        run_until_left(m, attacker, left);
                        m.block(attacker);
                        m.run_to(m.now + asleep);
                        m.wake(attacker);
                    }
                    assert_no_gain(m.vcpus[attacker].ran, 10, 100, m.now);
                },
            );
        }
    }
}

#[test]
fn a_storm_of_wake_ups_delays_nobodys_guarantee() {
    for pace in [1, 2, 7] {
        with_hogs(pace, SECTION, terms(4, 30, Extra::Never), |m, attacker| {
            while m.now < 10_000 {
                m.run_to(m.now + pace);
                if m.cpus[0].on == Some(attacker) {
                    m.block(attacker);
                }
                m.wake(attacker);
            }
            assert_no_gain(m.vcpus[attacker].ran, 4, 30, m.now);
            // The first hog has run 37 in each of its periods: it never slept.
            let periods = m.now / 100;
            assert!(m.vcpus[0].ran >= 37 * periods);
            assert!(m.vcpus[0].ran <= 37 * (periods + 1) + SECTION);
        });
    }
}

#[test]
fn who_slept_has_saved_up_no_left_over_time() {
    let (mut slots, mut books) = storage(1, 4);
    let mut m = Machine::new(rules(), &mut slots, &mut books, 1, SECTION);
    let sleeper = m.start(terms(0, 100, Extra::ByWeight));
    let other = m.start(terms(0, 100, Extra::ByWeight));
    m.run_to(50);
    while m.cpus[0].on != Some(sleeper) {
        m.run_to(m.now + 1);
    }
    m.block(sleeper);
    m.run_to(100_000);
    m.wake(sleeper);
    let (had, others) = (m.vcpus[sleeper].ran, m.vcpus[other].ran);
    m.run_to(101_000);
    let gained = m.vcpus[sleeper].ran - had;
    let of_other = m.vcpus[other].ran - others;
    assert!(
        gained.abs_diff(of_other) <= 2 * (QUANTUM + SECTION),
        "{gained} {of_other}"
    );
}

#[test]
fn being_charged_in_crumbs_is_being_charged() {
    // Weights for which a tick is no whole number of anything; one of the two is charged at each tick it runs.
    let weighted = |weight| Terms::new(&rules(), 0, 100, Extra::ByWeight, weight).unwrap();
    let (mut slots, mut books) = storage(1, 4);
    let mut m = Machine::new(rules(), &mut slots, &mut books, 1, 0);
    let crumbs = m.start(weighted(40_000));
    let plain = m.start(weighted(40_000));
    while m.now < 50_000 {
        m.run_to(m.now + 1);
        if m.cpus[0].on == Some(crumbs) {
            m.wake(crumbs);
        }
    }
    let (a, b) = (m.vcpus[crumbs].ran, m.vcpus[plain].ran);
    assert!(a.abs_diff(b) <= 2 * QUANTUM, "{a} {b}");
}

#[test]
fn work_done_for_one_while_another_runs_is_the_first_ones() {
    let mut slots = [Slot::EMPTY; 4];
    let mut queue = Queue::new(&mut slots, rules(), 0);
    let mut seats = Vec::new();
    for tag in 0..2 {
        let arrival = Arrival {
            tag,
            domain: tag as u32,
            sibling: None,
            origin: 0,
            terms: terms(30, 100, Extra::Never),
        };
        let seat = queue.arrive(0, arrival).unwrap();
        let _ = queue.up(0, seat);
        seats.push(seat);
    }
    assert_eq!(queue.decide(0).run, Some(seats[0]));
    // An interrupt for the second arrives at 10 and takes 4.
    assert_eq!(queue.excused(14, 4).0, 4);
    let _ = queue.owes(14, seats[1], 4).unwrap();
    let (first, second) = (
        queue.account(seats[0]).unwrap(),
        queue.account(seats[1]).unwrap(),
    );
    assert_eq!((first.guaranteed, second.elsewhere), (10, 4));
    assert_eq!(queue.period(seats[0]).unwrap().1, 20);
    assert_eq!(queue.period(seats[1]).unwrap().1, 26);
    // No more is given back than was taken.
    assert_eq!(queue.excused(15, 1000).0, 11);
    assert_eq!(queue.account(seats[0]).unwrap().used(), 0);
    assert_eq!(queue.period(seats[0]).unwrap().1, 30);
    assert!(queue.is_balanced());
}
