//! The arithmetic of ticks and nanoseconds against exact fractions (C1 to C5).

use clock::{Clock, NS_PER_SECOND, PvClock, TscScale, VersionStep};
use proptest::prelude::*;

/// Frequencies of every magnitude, those of real counters most often.
fn any_hz() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1_000_000_u64..10_000_000_000,
        1 => 1_u64..1_000_000,
        1 => 1_u64..,
        1 => Just(NS_PER_SECOND),
        1 => (0_u32..64).prop_map(|bit| 1 << bit),
    ]
}

/// Tick counts and times of every magnitude.
fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0_u64..1000,
        (0_u32..64).prop_flat_map(|bits| 0..=u64::MAX >> bits)
    ]
}

fn scale_of(hz: u64) -> TscScale {
    TscScale::from_hz(hz).expect("the frequency is not zero")
}

#[test]
fn a_counter_that_stands_has_no_scale() {
    assert_eq!(TscScale::from_hz(0), None);
}

#[test]
fn a_gigahertz_counter_counts_nanoseconds() {
    assert_eq!(scale_of(NS_PER_SECOND), TscScale::NANOSECONDS);
    assert_eq!(TscScale::NANOSECONDS.ns_from_ticks(12_345), 12_345);
}

#[test]
fn a_century_at_five_gigahertz_is_counted_to_the_second() {
    let century_s = 100 * 365 * 86_400_u64;
    let ns = scale_of(5_000_000_000).ns_from_ticks(century_s * 5_000_000_000);
    let exact = century_s * NS_PER_SECOND;
    assert!(
        ns.abs_diff(exact) <= (exact >> 32) + 2,
        "{ns} against {exact}"
    );
}

#[test]
fn what_does_not_fit_saturates() {
    let slow = Clock::new(0, u64::MAX - 5, scale_of(1));
    assert_eq!(slow.now_ns(u64::MAX), u64::MAX);
    let fast = Clock::new(u64::MAX - 5, 0, scale_of(u64::MAX));
    assert_eq!(fast.tsc_at(u64::MAX), u64::MAX);
}

proptest! {
    #[test]
    fn the_multiplier_keeps_its_top_bit(hz in any_hz()) {
        prop_assert!(scale_of(hz).mul() >= 1 << 31);
    }

    #[test]
    fn the_error_is_under_two_ns_and_one_more_in_2_to_the_32(hz in any_hz(), ticks in any_count()) {
        let ns = scale_of(hz).ns_from_ticks(ticks);
        let exact_times_hz = u128::from(ticks) * u128::from(NS_PER_SECOND);
        let exact = exact_times_hz / u128::from(hz);
        if ns == u64::MAX {
            // Saturated: then the exact value is no smaller than that, but for the error allowed.
            prop_assert!(exact + (exact >> 32) + 2 >= u128::from(u64::MAX));
        } else {
            let off_times_hz = (u128::from(ns) * u128::from(hz)).abs_diff(exact_times_hz);
            let allowed = 2 + (exact >> 32) + 1;
            prop_assert!(off_times_hz <= allowed * u128::from(hz), "{ns} against {exact}");
        }
    }

    #[test]
    fn later_ticks_never_give_an_earlier_time(
        hz in any_hz(), base in any_count(), ns_base in any_count(), a in any_count(), b in any_count(),
    ) {
        let clock = Clock::new(base, ns_base, scale_of(hz));
        prop_assert!(clock.now_ns(a.min(b)) <= clock.now_ns(a.max(b)));
        prop_assert!(clock.now_ns(a) >= ns_base);
    }

    #[test]
    fn a_deadline_is_the_first_tick_that_has_reached_it(
        hz in any_hz(), base in any_count(), ns_base in any_count(), ns in any_count(),
    ) {
        let clock = Clock::new(base, ns_base, scale_of(hz));
        let tsc = clock.tsc_at(ns);
        prop_assert!(tsc == u64::MAX || clock.now_ns(tsc) >= ns, "early");
        prop_assert!(tsc == base || clock.now_ns(tsc - 1) < ns, "late");
    }

    #[test]
    fn another_scale_goes_on_without_a_jump(
        hz in any_hz(), other in any_hz(), base in any_count(), tsc in any_count(), later in any_count(),
    ) {
        let clock = Clock::new(base, 7, scale_of(hz));
        let rescaled = clock.rescaled(tsc, scale_of(other));
        prop_assert_eq!(rescaled.now_ns(tsc), clock.now_ns(tsc));
        prop_assert!(rescaled.now_ns(tsc.saturating_add(later)) >= clock.now_ns(tsc));
    }

    #[test]
    fn a_guest_reads_the_time_we_read(
        hz in 1_000_000_u64..10_000_000_000, base in any::<u32>(), ns_base in any::<u32>(), ticks in 0_u64..1 << 54,
    ) {
        let clock = Clock::new(u64::from(base), u64::from(ns_base), scale_of(hz));
        let page = PvClock::new(&clock, PvClock::TSC_STABLE, 2);
        let tsc = clock.tsc_base + ticks;
        prop_assert_eq!(page.guest_ns(tsc), Some(clock.now_ns(tsc)));
    }

    #[test]
    fn a_guest_finds_the_frequency(hz in 1_000_000_u64..10_000_000_000) {
        let page = PvClock::new(&Clock::new(0, 0, scale_of(hz)), 0, 0);
        let khz = page.guest_khz().expect("mul is not zero");
        // The guest's own rounding, before it shifts, costs up to one kHz for each place shifted.
        let slack = 1 + (1 << page.shift.min(0).unsigned_abs());
        prop_assert!(khz.abs_diff(hz / 1000) <= slack, "{khz} for {hz}");
    }

    #[test]
    fn an_update_shows_an_odd_version_and_leaves_a_new_even_one(previous in any::<u32>()) {
        let step = VersionStep::after(previous);
        prop_assert_eq!(step.writing % 2, 1);
        prop_assert_eq!(step.at_rest % 2, 0);
        prop_assert_eq!(step.at_rest, step.writing.wrapping_add(1));
        prop_assert_ne!(step.at_rest, previous);
        prop_assert_ne!(step.writing, previous);
    }

    #[test]
    fn the_words_hold_every_field(version: u32, tsc: u64, ns: u64, mul: u32, shift: i8, flags: u8) {
        let page = PvClock { version, tsc_timestamp: tsc, system_time: ns, mul, shift, flags };
        let bytes: Vec<u8> = page.words().iter().flat_map(|word| word.to_le_bytes()).collect();
        prop_assert_eq!(&bytes[0..4], &version.to_le_bytes()[..]);
        prop_assert_eq!(&bytes[8..16], &tsc.to_le_bytes()[..]);
        prop_assert_eq!(&bytes[16..24], &ns.to_le_bytes()[..]);
        prop_assert_eq!(&bytes[24..28], &mul.to_le_bytes()[..]);
        prop_assert_eq!(bytes[28] as i8, shift);
        prop_assert_eq!(&bytes[29..32], &[flags, 0, 0][..]);
    }
}

#[test]
fn a_page_being_written_tells_no_time() {
    assert_eq!(
        PvClock {
            version: 3,
            ..PvClock::default()
        }
        .guest_ns(5),
        None
    );
}

#[test]
fn the_page_before_a_calibration_divides_by_no_zero() {
    assert_eq!(PvClock::default().guest_khz(), Some(1_000_000));
}
