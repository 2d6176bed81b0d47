//! What is done often is what is done carefully (C2, C9).

use clock::{Clock, Countdown, NS_PER_SECOND, NearClock, Offset, TscScale};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_cpu_reads_the_machines_clock(
        hz in 1_u64..20_000_000_000, ticks: i64, base: u64, ns_base: u64, gone in 0..1_u64 << 63, early in 0..1_u64 << 62,
    ) {
        let base = base >> 1;
        let clock = Clock::new(base, ns_base, TscScale::from_hz(hz).expect("not zero"));
        let offset = Offset::ahead(ticks);
        let near = NearClock::on(&clock, offset);
        prop_assert_eq!(near.ns_at(offset.here(base + gone)), clock.now_ns(base + gone));
        prop_assert_eq!(near.ns_from_ticks(gone), clock.scale.ns_from_ticks(gone));
        let before = base.saturating_sub(early);
        prop_assert_eq!(near.ns_at(offset.here(before)), clock.now_ns(before));
    }

    #[test]
    fn a_countdown_is_never_early_and_a_tick_a_second_late(hz in 1_000_u64..10_000_000_000, ns in 0..20 * NS_PER_SECOND) {
        let ticks = u64::from(Countdown::from_hz(hz).expect("not zero").ticks(ns));
        let exact = u128::from(ns) * u128::from(hz);
        let least = exact.div_ceil(u128::from(NS_PER_SECOND));
        if let Ok(least) = u32::try_from(least) {
            let least = u64::from(least);
            prop_assert!(least <= ticks && ticks <= least + 1 + ns / NS_PER_SECOND + 1, "{} for {}", ticks, least);
        } else {
            prop_assert_eq!(ticks, u64::from(u32::MAX));
        }
    }
}

#[test]
fn before_a_calibration_a_tick_is_a_nanosecond() {
    assert_eq!(NearClock::NANOSECONDS.ns_at(12_345), 12_345);
}

#[test]
fn what_goes_a_tick_a_nanosecond_counts_them() {
    let countdown = Countdown::from_hz(NS_PER_SECOND).expect("not zero");
    assert_eq!(
        [0, 1, 987_654_321].map(|ns| countdown.ticks(ns)),
        [0, 1, 987_654_321]
    );
    assert_eq!(countdown.ticks(u64::MAX), u32::MAX);
    assert_eq!(Countdown::from_hz(0), None);
    assert_eq!(
        Countdown::from_hz(u64::MAX).map(|fast| fast.ticks(1)),
        Some(u32::MAX)
    );
}
