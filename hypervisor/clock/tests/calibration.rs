//! Frequencies from simulated counters: the truth lies within the error stated.

use clock::{Calibration, CounterReading, best, hz_from_period_fs};
use proptest::prelude::*;

const PM_TIMER_HZ: u64 = 3_579_545;

/// Reads two ideal counters: the TSC at `at`, the reference `late` ticks of the TSC after it, the TSC
/// again after `width`. Times are in TSC ticks since the reference stood at `offset`.
fn read(
    at: u64,
    late: u64,
    width: u64,
    tsc_hz: u64,
    ref_hz: u64,
    offset: u64,
    bits: u32,
) -> CounterReading {
    let elapsed = u128::from(at + late) * u128::from(ref_hz) / u128::from(tsc_hz);
    let mask = u64::MAX >> (64 - bits);
    CounterReading {
        tsc_before: at,
        reference: (elapsed as u64).wrapping_add(offset) & mask,
        tsc_after: at + width,
    }
}

proptest! {
    #[test]
    fn the_true_frequency_lies_within_the_stated_error(
        tsc_hz in 1_000_000_u64..10_000_000_000,
        ref_hz in prop_oneof![Just(PM_TIMER_HZ), Just(1_193_182), Just(14_318_180), 1000_u64..100_000_000],
        begin in 0_u64..1 << 40,
        millis in 1_u64..200,
        offset: u64,
        (widths, lates) in (prop::array::uniform2(0_u64..50_000), prop::array::uniform2(0.0..=1.0_f64)),
    ) {
        let late = |i: usize| (widths[i] as f64 * lates[i]) as u64;
        let end = begin + tsc_hz * millis / 1000 + 50_000;
        let first = read(begin, late(0), widths[0], tsc_hz, ref_hz, offset, 24);
        let second = read(end, late(1), widths[1], tsc_hz, ref_hz, offset, 24);
        let elapsed_ref = u128::from(end - begin) * u128::from(ref_hz) / u128::from(tsc_hz);
        // A counter that wraps more than once cannot be told from one that did not.
        prop_assume!(elapsed_ref < (1 << 24) - 100_000);
        let calibration = Calibration::between(&first, &second, ref_hz, 24).expect("24 bits");
        if let Some(found) = calibration.frequency() {
            let off = u128::from(found.hz.abs_diff(tsc_hz)) * 1_000_000_000;
            prop_assert!(
                off <= u128::from(found.error_ppb) * u128::from(found.hz),
                "{found:?} for {tsc_hz} by {calibration:?}"
            );
        }
    }

    #[test]
    fn no_reading_overflows(a: [u64; 3], b: [u64; 3], ref_hz: u64, bits in 0_u32..70) {
        let reading = |r: [u64; 3]| CounterReading { tsc_before: r[0], reference: r[1], tsc_after: r[2] };
        if let Some(calibration) = Calibration::between(&reading(a), &reading(b), ref_hz, bits) {
            let _ = calibration.frequency().map(|frequency| frequency.error_ppm());
        }
    }

    #[test]
    fn no_calibration_overflows(ref_ticks: u64, ref_hz: u64, tsc_ticks: u64, tsc_uncertainty: u64) {
        let _ = Calibration { ref_ticks, ref_hz, tsc_ticks, tsc_uncertainty }.frequency();
    }
}

fn sample(tsc_ticks: u64, tsc_uncertainty: u64) -> Calibration {
    Calibration {
        ref_ticks: PM_TIMER_HZ / 10,
        ref_hz: PM_TIMER_HZ,
        tsc_ticks,
        tsc_uncertainty,
    }
}

#[test]
fn the_sample_with_the_least_uncertainty_wins() {
    let samples = [
        sample(250_000_000, 90_000),
        sample(240_000_000, 2_000),
        sample(260_000_000, 40_000),
    ];
    let found = best(samples).expect("all are usable");
    assert!(found.hz.abs_diff(2_400_000_000) < 10_000, "{found:?}");
    assert!(found.error_ppm() < 20, "{found:?}");
}

#[test]
fn unusable_samples_are_passed_over() {
    assert_eq!(best([sample(0, 0)]), None);
    assert_eq!(best([]), None);
    assert!(best([sample(0, 0), sample(1_000_000, 5)]).is_some());
}

#[test]
fn a_counter_that_wrapped_is_understood() {
    let at = |tsc, reference| CounterReading {
        tsc_before: tsc,
        reference,
        tsc_after: tsc,
    };
    let calibration = Calibration::between(&at(0, 0xff_fff0), &at(1000, 0x10), 1, 24);
    assert_eq!(calibration.map(|c| c.ref_ticks), Some(0x20));
}

#[test]
fn a_period_in_femtoseconds_gives_a_frequency() {
    assert_eq!(hz_from_period_fs(69_841_279), Some(14_318_180));
    assert_eq!(hz_from_period_fs(10_000_000), Some(100_000_000));
    assert_eq!(hz_from_period_fs(0), None);
    assert_eq!(hz_from_period_fs(100_000_001), None);
}

#[test]
fn a_reference_that_ticked_once_bounds_nothing() {
    let once = Calibration {
        ref_ticks: 1,
        ref_hz: 1000,
        tsc_ticks: 1_000_000,
        tsc_uncertainty: 0,
    };
    // The true count may lie anywhere between none and two.
    assert!(
        once.frequency()
            .is_some_and(|found| found.error_ppb == u64::MAX)
    );
    let thrice = Calibration {
        ref_ticks: 3,
        tsc_uncertainty: 100_000,
        ..once
    };
    // 1.1 over 2/3 is off by 65 per cent, and rounding to a whole hertz adds 2 parts in 10^9.
    assert_eq!(
        thrice.frequency().map(|found| found.error_ppb),
        Some(650_000_002)
    );
}
