//! The timer queue against a sorted set (S7).

use std::collections::BTreeSet;

use proptest::prelude::*;
use sched::{NoSuchTimer, TimerQueue, TimerRows, TimerSlot};

const TIMERS: u32 = 20;

#[derive(Clone, Debug)]
enum Op {
    Set(u32, u64),
    Cancel(u32),
    PopDue(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let timer = 0..TIMERS + 1;
    prop_oneof![
        5 => (timer.clone(), prop_oneof![0_u64..50, any::<u64>()]).prop_map(|(t, d)| Op::Set(t, d)),
        2 => timer.prop_map(Op::Cancel),
        2 => prop_oneof![0_u64..50, any::<u64>()].prop_map(Op::PopDue),
    ]
}

proptest! {
    #[test]
    fn queue_and_model_agree_after_any_operations(ops in prop::collection::vec(any_op(), 0..300)) {
        let mut storage = [TimerSlot::EMPTY; TIMERS as usize];
        let mut queue = TimerQueue::new(&mut storage);
        let mut model = BTreeSet::new();
        for op in ops {
            match op {
                Op::Set(timer, _) if timer >= TIMERS => {
                    prop_assert_eq!(queue.set(timer, 0), Err(NoSuchTimer));
                }
                Op::Set(timer, deadline_ns) => {
                    model.retain(|&(_, set)| set != timer);
                    model.insert((deadline_ns, timer));
                    prop_assert_eq!(queue.set(timer, deadline_ns), Ok(()));
                }
                Op::Cancel(timer) => {
                    let before = model.len();
                    model.retain(|&(_, set)| set != timer);
                    prop_assert_eq!(queue.cancel(timer), model.len() < before);
                }
                Op::PopDue(now_ns) => {
                    let due = model.first().copied().filter(|&(deadline_ns, _)| deadline_ns <= now_ns);
                    if due.is_some() {
                        model.pop_first();
                    }
                    prop_assert_eq!(queue.pop_due(now_ns), due.map(|(deadline_ns, timer)| (timer, deadline_ns)));
                }
            }
            prop_assert_eq!(queue.next_deadline(), model.first().map(|&(deadline_ns, _)| deadline_ns));
            for timer in 0..=TIMERS {
                let set = model.iter().find(|&&(_, set)| set == timer);
                prop_assert_eq!(queue.deadline(timer), set.map(|&(deadline_ns, _)| deadline_ns));
            }
        }
    }

    #[test]
    fn every_timer_fires_once_and_in_order(deadlines in prop::collection::vec(0_u64..1000, 1..=TIMERS as usize)) {
        let mut storage = [TimerSlot::EMPTY; TIMERS as usize];
        let mut queue = TimerQueue::new(&mut storage);
        for (timer, &deadline_ns) in deadlines.iter().enumerate() {
            prop_assert_eq!(queue.set(timer as u32, deadline_ns), Ok(()));
        }
        let mut fired = Vec::new();
        for now_ns in 0..1000 {
            while let Some((timer, deadline_ns)) = queue.pop_due(now_ns) {
                prop_assert_eq!(deadline_ns, now_ns, "neither early nor late");
                fired.push(timer);
            }
        }
        fired.sort_unstable();
        prop_assert!(fired.into_iter().eq(0..deadlines.len() as u32));
        prop_assert_eq!(queue.next_deadline(), None);
    }
}

#[test]
fn a_deadline_in_the_past_is_due_at_once() {
    let mut storage = [TimerSlot::EMPTY; 1];
    let mut queue = TimerQueue::new(&mut storage);
    assert_eq!(queue.set(0, 5), Ok(()));
    assert_eq!(queue.pop_due(1_000_000), Some((0, 5)));
    assert_eq!(queue.pop_due(1_000_000), None);
}

/// The number of timers that a row of storage holds.
fn row() -> Vec<TimerSlot> {
    vec![TimerSlot::EMPTY; TimerRows::PER_ROW]
}

#[test]
fn a_queue_that_grew_keeps_what_was_set_and_takes_more() {
    let (mut first, mut second, mut more) = (row(), row(), row());
    let per_row = TimerRows::PER_ROW as u32;
    let mut queue = TimerQueue::new(&mut first);
    for timer in 0..per_row {
        assert_eq!(queue.set(timer, u64::from(1000 - timer)), Ok(()));
    }
    assert_eq!(queue.set(per_row, 5), Err(NoSuchTimer));
    assert!(queue.add_row(&mut second));
    assert_eq!(queue.capacity(), 2 * TimerRows::PER_ROW);
    for timer in per_row..2 * per_row {
        assert_eq!(queue.set(timer, u64::from(1000 - timer)), Ok(()));
    }
    for timer in (0..2 * per_row).rev() {
        let due = queue.pop_due(u64::MAX);
        assert_eq!(due, Some((timer, u64::from(1000 - timer))));
    }
    assert_eq!(queue.pop_due(u64::MAX), None);
    // A row that is not full is the last.
    assert!(queue.add_row(&mut more[..3]));
    assert_eq!(queue.set(2 * per_row + 2, 1), Ok(()));
    assert!(!queue.add_row(&mut [TimerSlot::EMPTY; 2]));
}
