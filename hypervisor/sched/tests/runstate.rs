//! Runstate: the four times add up (S5).

use proptest::prelude::*;
use sched::{Runstate, State};

proptest! {
    #[test]
    fn the_four_times_add_up_and_never_shrink(
        begin in 0_u64..1 << 40,
        steps in prop::collection::vec((0_usize..4, -20_i64..1000), 0..60),
    ) {
        const STATES: [State; 4] = [State::Running, State::Runnable, State::Blocked, State::Offline];
        let mut runstate = Runstate::new(State::Offline, begin);
        let mut now = begin;
        for (state, later) in steps {
            let before = runstate;
            now = now.saturating_add_signed(later);
            let seen = runstate.snapshot(now);
            runstate.transition(STATES[state], now);
            prop_assert_eq!(runstate.time_ns.iter().sum::<u64>(), runstate.entry_time_ns - begin, "S5");
            prop_assert_eq!(seen.time_ns, runstate.time_ns, "a snapshot counts the open interval");
            prop_assert_eq!((seen.state, seen.entry_time_ns), (before.state, before.entry_time_ns));
            for (earlier, later) in before.time_ns.iter().zip(runstate.time_ns) {
                prop_assert!(*earlier <= later);
            }
            prop_assert!(runstate.entry_time_ns >= before.entry_time_ns);
            prop_assert_eq!(runstate.state, STATES[state]);
        }
    }
}

#[test]
fn a_runstate_has_the_words_of_the_interface() {
    let mut runstate = Runstate::new(State::Runnable, 5);
    runstate.transition(State::Blocked, 7);
    assert_eq!(runstate.words(), [2, 7, 0, 2, 0, 0]);
}
