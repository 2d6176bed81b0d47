//! Vectors are one source's at a time, and no source storms for long.

use interrupts::{Meter, Vectors, Verdict, WINDOW_NS};

const LIMIT: u32 = 2000;

#[test]
fn every_vector_of_the_range_is_handed_out_once_but_those_kept_back() {
    let mut vectors = Vectors::new(0x30..=0xef, &[0x80, 0xee]);
    let mut seen = Vec::new();
    while let Some(vector) = vectors.take() {
        assert!((0x30..=0xef).contains(&vector));
        assert!(!seen.contains(&vector), "{vector:#x} twice");
        seen.push(vector);
    }
    assert_eq!(seen.len(), 0xc0 - 2);
    assert!(!seen.contains(&0x80) && !seen.contains(&0xee));
}

#[test]
fn a_vector_given_back_is_handed_out_again() {
    let mut vectors = Vectors::new(0x30..=0x31, &[]);
    let (a, b) = (vectors.take().unwrap(), vectors.take().unwrap());
    assert_eq!(vectors.take(), None);
    vectors.give(b);
    assert_eq!(vectors.take(), Some(b));
    vectors.give(a);
    assert_eq!(vectors.take(), Some(a));
}

#[test]
fn a_vector_that_is_no_devices_cannot_be_given() {
    let mut vectors = Vectors::new(0x30..=0x30, &[]);
    assert_eq!(vectors.take(), Some(0x30));
    for vector in [0, 2, 0x20, 0x80, 0xf0, 0xff] {
        vectors.give(vector);
    }
    assert_eq!(vectors.take(), None);
}

#[test]
fn a_range_that_ends_with_the_last_vector_is_taken_whole() {
    let mut vectors = Vectors::new(0xfe..=0xff, &[]);
    assert_eq!((vectors.take(), vectors.take()), (Some(0xfe), Some(0xff)));
    assert_eq!(vectors.take(), None);
}

#[test]
fn a_source_within_the_limit_is_never_held_back() {
    let mut meter = Meter::NEW;
    // A little slower than the limit, for a second.
    let step = WINDOW_NS / u64::from(LIMIT - 2);
    for n in 0..200_000 {
        assert_eq!(
            meter.arrived(1 + n * step, LIMIT),
            Verdict::Deliver,
            "number {n}"
        );
    }
}

#[test]
fn a_source_that_storms_is_held_back_until_its_window_ends() {
    let mut meter = Meter::NEW;
    let start = 5 * WINDOW_NS;
    for n in 1..LIMIT {
        assert_eq!(
            meter.arrived(start + u64::from(n) - 1, LIMIT),
            Verdict::Deliver
        );
    }
    let until_ns = start + WINDOW_NS;
    assert_eq!(
        meter.arrived(start + u64::from(LIMIT), LIMIT),
        Verdict::Storm { until_ns }
    );
    // What is still on its way when it is masked says the same.
    assert_eq!(
        meter.arrived(until_ns - 1, LIMIT),
        Verdict::Storm { until_ns }
    );
    assert_eq!(meter.arrived(until_ns, LIMIT), Verdict::Deliver);
}

#[test]
fn in_no_window_are_there_more_than_the_limit_before_a_source_is_held_back() {
    let mut meter = Meter::NEW;
    let mut now = 0;
    for _ in 0..10 {
        let mut count = 0;
        let until = loop {
            count += 1;
            now += 1000;
            if let Verdict::Storm { until_ns } = meter.arrived(now, LIMIT) {
                break until_ns;
            }
        };
        assert!(count <= LIMIT);
        now = until;
    }
}

#[test]
fn with_a_limit_of_one_every_interrupt_is_the_last_of_its_window() {
    let mut meter = Meter::NEW;
    let start = 3 * WINDOW_NS;
    let until_ns = start + WINDOW_NS;
    assert_eq!(meter.arrived(start, 1), Verdict::Storm { until_ns });
    assert_eq!(meter.arrived(start + 1, 1), Verdict::Storm { until_ns });
    let next = until_ns + WINDOW_NS;
    assert_eq!(
        meter.arrived(until_ns, 1),
        Verdict::Storm { until_ns: next }
    );
}

#[test]
fn clocks_at_their_ends_or_going_back_fail_nothing() {
    let mut meter = Meter::NEW;
    assert_eq!(meter.arrived(u64::MAX, LIMIT), Verdict::Deliver);
    assert_eq!(meter.arrived(u64::MAX, LIMIT), Verdict::Deliver);
    assert_eq!(meter.arrived(0, LIMIT), Verdict::Deliver);
}
