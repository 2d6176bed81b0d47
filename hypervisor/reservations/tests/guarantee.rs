//! The guarantee, under everything that can happen to vCPUs, in CPUs that are reserved to the brim.

mod sim;

use reservations::{Extra, Terms};
use sim::{Machine, SECTION, rules, storage, terms};

/// Anything between the shortest slice and the whole period, often a small part.
fn any_terms(machine: &mut Machine<'_>) -> Terms {
    let period = 30 + machine.dice.below(270);
    let most = if machine.dice.one_in(3) {
        period
    } else {
        period / 4
    };
    let slice = SECTION + machine.dice.below(most.saturating_sub(SECTION) + 1);
    let extra = if machine.dice.one_in(2) {
        Extra::Never
    } else {
        Extra::ByWeight
    };
    let weight = 1 + machine.dice.below(1000) as u16;
    let slice = if machine.dice.one_in(6) && extra == Extra::ByWeight {
        0
    } else {
        slice
    };
    Terms::new(&rules(), slice, period, extra, weight).unwrap()
}

fn anything_happens(machine: &mut Machine<'_>, with_yields: bool, with_changes: bool) {
    let alive: Vec<_> = (0..machine.vcpus.len())
        .filter(|&v| machine.vcpus[v].alive)
        .collect();
    let Some(&vcpu) = alive.get(machine.dice.below(alive.len() as u64) as usize) else {
        let terms = any_terms(machine);
        machine.try_add(terms, 0);
        return;
    };
    let runs = machine.cpus[machine.vcpus[vcpu].cpu].on == Some(vcpu);
    match machine.dice.below(24) {
        0..8 => machine.wake(vcpu),
        8..12 if runs => machine.block(vcpu),
        12 => machine.pause(vcpu),
        13 | 14 => machine.unpause(vcpu),
        15 => machine.down(vcpu),
        16 | 17 => machine.up(vcpu),
        18 | 19 if runs && with_yields => machine.yield_now(vcpu),
        20 if with_changes => {
            let to = any_terms(machine);
            machine.change(vcpu, to, |_| true);
        }
        21 if with_changes => {
            let to = any_terms(machine);
            let only = machine.dice.below(machine.cpus.len() as u64) as usize;
            machine.change(vcpu, to, |cpu| cpu == only);
        }
        22 if with_changes => machine.end(vcpu),
        23 if with_changes => {
            let terms = any_terms(machine);
            let domain = machine.dice.below(3) as u32;
            if let Some(new) = machine.try_add(terms, domain) {
                machine.up(new);
            }
        }
        _ => {}
    }
}

fn story(seed: u64, cpus: usize, with_yields: bool, with_changes: bool) {
    println!("story {seed}");
    let (mut slots, mut books) = storage(cpus, 24);
    let mut machine = Machine::new(rules(), &mut slots, &mut books, seed, SECTION);
    for attempt in 0..24 {
        let terms = any_terms(&mut machine);
        let domain = attempt % 3;
        if let Some(vcpu) = machine.try_add(terms, domain) {
            machine.up(vcpu);
        }
    }
    // Some runs are quiet, so that periods go by undisturbed; some are storms.
    let pace = [3, 20, 100, 400][machine.dice.below(4) as usize];
    for _ in 0..400 {
        let later = machine.now + machine.dice.below(pace);
        machine.run_to(later);
        anything_happens(&mut machine, with_yields, with_changes);
    }
    machine.assert_nothing_missed();
}

/// How many stories each test tells: `STORIES=10000 cargo test --release -p reservations` for a long night.
fn stories() -> u64 {
    let asked = std::env::var("STORIES").ok();
    asked.and_then(|n| n.parse().ok()).unwrap_or(80)
}

#[test]
fn nobody_gets_less_or_more_than_its_rate_whatever_others_do() {
    for seed in 0..stories() {
        story(seed, 1, false, false);
    }
}

#[test]
fn nor_when_terms_change_and_vcpus_come_move_and_go() {
    for seed in 1000..1000 + stories() {
        story(seed, 1 + seed as usize % 3, false, true);
    }
}

#[test]
fn yielding_breaks_nobodys_guarantee() {
    for seed in 2000..2000 + stories() {
        story(seed, 1 + seed as usize % 2, true, seed % 2 == 0);
    }
}

#[test]
fn whole_periods_give_the_slice_and_at_most_a_section_more() {
    for seed in 0..40 {
        let (mut slots, mut books) = storage(1, 8);
        let mut machine = Machine::new(rules(), &mut slots, &mut books, seed, SECTION);
        // (17 + 3) / 100 and so on: the CPU is full to the last tick.
        let all = [(17, 100), (27, 150), (7, 50), (17, 200), (57, 300)];
        let mut vcpus = Vec::new();
        for (slice, period) in all {
            vcpus.push((
                machine.start(terms(slice, period, Extra::Never)),
                slice,
                period,
            ));
        }
        for k in 1..=120 {
            for &(vcpu, slice, period) in &vcpus {
                // Boundaries in order of time: each k of the shortest period.
                let boundary = 50 * k;
                if boundary % period != 0 {
                    continue;
                }
                machine.run_to(boundary);
                let (ran, whole) = (machine.vcpus[vcpu].ran, slice * (boundary / period));
                assert!(
                    ran >= whole && ran <= whole + SECTION,
                    "{ran} of {whole} at {boundary}, seed {seed}"
                );
            }
        }
        machine.assert_nothing_missed();
    }
}

#[test]
fn a_wake_up_close_to_a_deadline_promises_nothing_that_a_section_could_break() {
    for (at, pause) in (1..61).flat_map(|at| (1..20).map(move |pause| (at, pause))) {
        let (mut slots, mut books) = storage(1, 2);
        let seed = at * 64 + pause;
        let mut machine = Machine::new(rules(), &mut slots, &mut books, seed, SECTION);
        let vcpu = machine.start(terms(57, 61, Extra::Never));
        machine.start(Terms::best_effort(&rules(), 1).unwrap());
        machine.run_to(at);
        machine.pause(vcpu);
        machine.run_to(at + pause);
        machine.unpause(vcpu);
        machine.run_to(400);
        machine.assert_nothing_missed();
    }
}
