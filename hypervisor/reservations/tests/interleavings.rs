//! Every order of a few events, on a CPU that is reserved to the brim; the machine checks the formula all the time.

mod sim;

use reservations::Extra;
use sim::{Machine, SECTION, rules, storage, terms};

#[derive(Clone, Copy, Debug)]
enum Event {
    Wake,
    Block,
    Yield,
    Pause,
    Unpause,
    More,
    Less,
    Soon,
    Late,
}

const EVENTS: [Event; 9] = [
    Event::Wake,
    Event::Block,
    Event::Yield,
    Event::Pause,
    Event::Unpause,
    Event::More,
    Event::Less,
    Event::Soon,
    Event::Late,
];

fn tell(order: &[Event], late: u64) {
    let (mut slots, mut books) = storage(1, 3);
    let mut machine = Machine::new(rules(), &mut slots, &mut books, 11, late);
    // 20/60 + 25/90: a third of the CPU is left for More.
    let first = machine.try_add(terms(17, 60, Extra::Never), 1).unwrap();
    let second = machine.try_add(terms(22, 90, Extra::ByWeight), 1).unwrap();
    machine.up(first);
    machine.up(second);
    machine.run_to(13);
    for &event in order {
        match event {
            Event::Wake => machine.wake(first),
            Event::Block if machine.cpus[0].on == Some(first) => machine.block(first),
            Event::Yield if machine.cpus[0].on == Some(first) => machine.yield_now(first),
            Event::Block | Event::Yield => {}
            Event::Pause => machine.pause(first),
            Event::Unpause => machine.unpause(first),
            Event::More => drop(machine.change(first, terms(33, 50, Extra::Never), |_| true)),
            Event::Less => drop(machine.change(first, terms(5, 40, Extra::ByWeight), |_| true)),
            Event::Soon => machine.run_to(machine.now + 7),
            Event::Late => machine.run_to(machine.now + 55),
        }
    }
    machine.run_to(machine.now + 300);
    machine.assert_nothing_missed();
    // The neighbour never slept: it has its slice for each of its periods, whatever the first did.
    let periods = machine.now / 90;
    assert!(
        machine.vcpus[second].guaranteed >= 22 * periods,
        "{order:?}"
    );
}

#[test]
fn every_order_of_five_events_keeps_every_promise() {
    let depth = 5;
    for number in 0..EVENTS.len().pow(depth) {
        let mut rest = number;
        let order: Vec<_> = (0..depth)
            .map(|_| {
                let event = EVENTS[rest % EVENTS.len()];
                rest /= EVENTS.len();
                event
            })
            .collect();
        tell(&order, if number % 2 == 0 { SECTION } else { 0 });
    }
}
