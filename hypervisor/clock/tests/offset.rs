//! Counters that are apart: ring 0's clock, a guest's and the timer agree on every CPU (C5, C7, C8).

use clock::{Clock, Offset, PvClock, TscScale};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_count_goes_from_one_counter_to_the_other_and_back(ticks: i64, count: u64) {
        let offset = Offset::ahead(ticks);
        prop_assert_eq!(offset.machine(offset.here(count)), count);
        prop_assert_eq!(offset.here(offset.machine(count)), count);
        prop_assert_eq!(Offset::NONE.here(count), count);
    }

    #[test]
    fn a_guest_reads_the_machines_time_on_a_cpu_whose_counter_is_off(
        hz in 1_000_000_u64..10_000_000_000, ticks: i64, base: u64, ns_base in 0..1_u64 << 50, gone in 0..1_u64 << 50,
    ) {
        let scale = TscScale::from_hz(hz).expect("not zero");
        // The machine's own counter does not wrap around; another CPU's may look as if it had.
        let base = base >> 1;
        let clock = Clock::new(base, ns_base, scale);
        let offset = Offset::ahead(ticks);
        let page = PvClock::on(&clock, offset, 0, 2);
        prop_assert_eq!(page.guest_ns(offset.here(base + gone)), Some(clock.now_ns(base + gone)));
    }

    #[test]
    fn without_an_offset_every_page_is_the_same(base: u64, ns_base: u64, flags: u8) {
        let clock = Clock::new(base, ns_base, TscScale::NANOSECONDS);
        prop_assert_eq!(PvClock::on(&clock, Offset::NONE, flags, 4), PvClock::new(&clock, flags, 4));
    }

    #[test]
    fn a_deadline_is_met_whatever_the_counter_shows(ticks: i64, machine in 0..1_u64 << 62, wait in 0..1_u64 << 61) {
        let offset = Offset::ahead(ticks);
        let now = offset.here(machine);
        let at = offset.deadline(machine + wait, now);
        // C8: neither before nor after, but where the CPU's counter would have to wrap around: there it never comes, and
        // whoever waits is woken by something else or in a thousand years.
        if now.checked_add(wait).is_some() {
            prop_assert_eq!(offset.machine(at), machine + wait);
        } else {
            prop_assert_eq!(at, u64::MAX);
        }
        prop_assert_eq!(offset.deadline(machine, now), now, "what is due is due at once");
        prop_assert_eq!(offset.deadline(machine.saturating_sub(wait), now), now, "and what was");
    }
}

#[test]
fn a_moment_out_of_reach_is_not_taken_for_one_that_has_passed() {
    for ticks in [i64::MIN, -1000, 0, 1000] {
        let offset = Offset::ahead(ticks);
        let now = offset.here(5000);
        assert!(offset.deadline(u64::MAX, now) > now);
    }
}
