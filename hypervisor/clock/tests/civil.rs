//! The calendar and the real-time clock's registers.

use clock::{BadDate, CivilTime, RtcRegisters, WallClock};
use proptest::prelude::*;

const LAST_SECOND_OF_9999: u64 = 253_402_300_799;

fn civil(year: u16, month: u8, day: u8, hour: u8, minute: u8, second: u8) -> CivilTime {
    CivilTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
    }
}

#[test]
fn known_dates_have_their_known_numbers() {
    for (date, seconds) in [
        (civil(1970, 1, 1, 0, 0, 0), 0),
        (civil(1999, 12, 31, 23, 59, 59), 946_684_799),
        (civil(2000, 2, 29, 0, 0, 0), 951_782_400),
        (civil(2026, 4, 14, 12, 30, 15), 1_776_169_815),
        (civil(2038, 1, 19, 3, 14, 8), 1 << 31),
        (civil(2100, 3, 1, 0, 0, 0), 4_107_542_400),
        (civil(9999, 12, 31, 23, 59, 59), LAST_SECOND_OF_9999),
    ] {
        assert_eq!(date.unix_seconds(), Ok(seconds), "{date:?}");
        assert_eq!(CivilTime::from_unix(seconds), Some(date));
    }
}

#[test]
fn days_that_do_not_exist_are_refused() {
    for (date, why) in [
        (civil(1969, 12, 31, 0, 0, 0), BadDate::Year),
        (civil(10_000, 1, 1, 0, 0, 0), BadDate::Year),
        (civil(2026, 0, 1, 0, 0, 0), BadDate::Month),
        (civil(2026, 13, 1, 0, 0, 0), BadDate::Month),
        (civil(2026, 4, 31, 0, 0, 0), BadDate::Day),
        (civil(2026, 4, 0, 0, 0, 0), BadDate::Day),
        (civil(2025, 2, 29, 0, 0, 0), BadDate::Day),
        (civil(2100, 2, 29, 0, 0, 0), BadDate::Day),
        (civil(2026, 1, 1, 24, 0, 0), BadDate::Time),
        (civil(2026, 1, 1, 0, 60, 0), BadDate::Time),
        (civil(2026, 1, 1, 0, 0, 60), BadDate::Time),
    ] {
        assert_eq!(date.unix_seconds(), Err(why), "{date:?}");
    }
}

/// What a clock in the given mode would hold at `time`.
fn registers(time: CivilTime, binary: bool, hours_24: bool, has_century: bool) -> RtcRegisters {
    let raw = |value: u8| {
        if binary {
            value
        } else {
            ((value / 10) << 4) | (value % 10)
        }
    };
    let hour = if hours_24 {
        raw(time.hour)
    } else {
        let half_day = if time.hour >= 12 { 0x80 } else { 0 };
        raw((time.hour + 11) % 12 + 1) | half_day
    };
    RtcRegisters {
        second: raw(time.second),
        minute: raw(time.minute),
        hour,
        day: raw(time.day),
        month: raw(time.month),
        year: raw((time.year % 100) as u8),
        century: has_century.then(|| raw((time.year / 100) as u8)),
        status_b: u8::from(binary) << 2 | u8::from(hours_24) << 1,
    }
}

proptest! {
    #[test]
    fn every_second_has_a_date_and_back(seconds in 0..=LAST_SECOND_OF_9999) {
        let date = CivilTime::from_unix(seconds).expect("in range");
        prop_assert_eq!(date.unix_seconds(), Ok(seconds));
    }

    #[test]
    fn no_seconds_overflow_the_calendar(seconds: u64) {
        prop_assert_eq!(CivilTime::from_unix(seconds).is_some(), seconds <= LAST_SECOND_OF_9999);
    }

    #[test]
    fn every_mode_of_the_clock_tells_the_same_time(
        seconds in 0..4_102_444_800_u64, binary: bool, hours_24: bool,
    ) {
        let date = CivilTime::from_unix(seconds).expect("in range");
        prop_assert_eq!(registers(date, binary, hours_24, true).unix_seconds(), Ok(seconds));
        if (1970..2070).contains(&date.year) {
            prop_assert_eq!(registers(date, binary, hours_24, false).unix_seconds(), Ok(seconds));
        }
    }

    #[test]
    fn any_registers_give_a_date_or_an_error(
        raw: [u8; 7], has_century: bool, status_b: u8,
    ) {
        let [second, minute, hour, day, month, year, century] = raw;
        let century = has_century.then_some(century);
        let _ = RtcRegisters { second, minute, hour, day, month, year, century, status_b }.unix_seconds();
    }

    #[test]
    fn base_and_system_time_add_up_to_now(
        now in 0_u64..1 << 40, nanoseconds in 0_u32..1_000_000_000, system_ns in 0_u64..1 << 62,
    ) {
        let now_ns = u128::from(now) * 1_000_000_000 + u128::from(nanoseconds);
        match WallClock::from_now(now, nanoseconds, system_ns) {
            Some(base) => {
                prop_assert!(base.nanoseconds < 1_000_000_000);
                let base_ns = u128::from(base.seconds) * 1_000_000_000 + u128::from(base.nanoseconds);
                prop_assert_eq!(base_ns + u128::from(system_ns), now_ns);
            }
            None => prop_assert!(now_ns < u128::from(system_ns)),
        }
    }
}

#[test]
fn nonsense_in_the_century_register_is_no_reason_to_have_no_time() {
    let date = civil(2026, 4, 14, 0, 0, 0);
    for century in [0x00, 0xff, 0x99] {
        let registers = RtcRegisters {
            century: Some(century),
            ..registers(date, false, true, false)
        };
        assert_eq!(registers.civil(), Ok(date));
    }
}

#[test]
fn digits_above_nine_are_refused() {
    let registers = registers(civil(2026, 4, 14, 0, 0, 0), false, true, true);
    assert_eq!(
        RtcRegisters {
            second: 0x5a,
            ..registers
        }
        .civil(),
        Err(BadDate::NotDecimal)
    );
    assert_eq!(
        RtcRegisters {
            month: 0xa1,
            ..registers
        }
        .civil(),
        Err(BadDate::NotDecimal)
    );
}
