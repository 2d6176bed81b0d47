//! The calendar: from the real-time clock's registers to seconds since 1970, and the wall-clock base
//! that guests add to their system time.

use crate::NS_PER_SECOND;

const SECONDS_PER_DAY: u64 = 86_400;
/// Days in a cycle of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;
/// Days from 1 March of year 0 to 1 January 1970.
const DAYS_TO_EPOCH: u64 = 719_468;

/// A date that no calendar has, or one outside what we represent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDate {
    /// A register that should hold binary-coded decimal has a digit above nine.
    NotDecimal,
    /// The year lies before 1970 or after 9999.
    Year,
    /// The month is not 1 to 12.
    Month,
    /// The month has no such day.
    Day,
    /// The hour, minute or second is out of range.
    Time,
}

/// A date and time of day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilTime {
    /// 1970 to 9999.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59; a leap second has no place in Unix time.
    pub second: u8,
}

impl CivilTime {
    /// Seconds since 1970, or what is wrong with the date.
    pub fn unix_seconds(&self) -> Result<u64, BadDate> {
        if !(1970..=9999).contains(&self.year) {
            return Err(BadDate::Year);
        }
        let last_day = days_in_month(self.year, self.month).ok_or(BadDate::Month)?;
        if self.day == 0 || self.day > last_day {
            return Err(BadDate::Day);
        }
        if self.hour > 23 || self.minute > 59 || self.second > 59 {
            return Err(BadDate::Time);
        }
        let days = days_since_epoch(self.year, self.month, self.day);
        let in_day =
            u64::from(self.hour) * 3600 + u64::from(self.minute) * 60 + u64::from(self.second);
        Ok(days * SECONDS_PER_DAY + in_day)
    }

    /// The date of a Unix time, for logs; `None` after the year 9999.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Option<Self> {
        let days = (seconds / SECONDS_PER_DAY).checked_add(DAYS_TO_EPOCH)?;
        let in_day = seconds % SECONDS_PER_DAY;
        let era = days / DAYS_PER_ERA;
        let day_of_era = days % DAYS_PER_ERA;
        // Years begin in March here, so the leap day is the last of its year and these divisions hold:
        // 1460 days before a leap day is due, 36524 before one is skipped, 146096 before one is not.
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months from March follow 31,30,31,30,31 twice and a bit: 153 days in five of them.
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 {
            month_from_march + 3
        } else {
            month_from_march - 9
        };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        if year > 9999 {
            return None;
        }
        // Every `as` is of a value whose range the arithmetic above bounds.
        Some(Self {
            year: year as u16,
            month: month as u8,
            day: day as u8,
            hour: (in_day / 3600) as u8,
            minute: (in_day / 60 % 60) as u8,
            second: (in_day % 60) as u8,
        })
    }
}

const fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u16, month: u8) -> Option<u8> {
    Some(match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => return None,
    })
}

/// Days from 1 January 1970 to a date already found valid.
fn days_since_epoch(year: u16, month: u8, day: u8) -> u64 {
    let (year, month, day) = (u64::from(year), u64::from(month), u64::from(day));
    // Counted in years that begin in March: January and February belong to the year before.
    let (year, month_from_march) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_TO_EPOCH
}

/// The time registers of an MC146818-style clock, as read. Read them twice and use them only if the two
/// readings agree: the clock may tick between two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcRegisters {
    /// Register 0.
    pub second: u8,
    /// Register 2.
    pub minute: u8,
    /// Register 4; bit 7 says "afternoon" in 12-hour mode.
    pub hour: u8,
    /// Register 7.
    pub day: u8,
    /// Register 8.
    pub month: u8,
    /// Register 9, years within the century.
    pub year: u8,
    /// The register the firmware names for the century, if it names one.
    pub century: Option<u8>,
    /// Status register B: bit 2 says binary rather than decimal digits, bit 1 says 24-hour mode.
    pub status_b: u8,
}

impl RtcRegisters {
    const BINARY: u8 = 1 << 2;
    const HOURS_24: u8 = 1 << 1;
    const AFTERNOON: u8 = 1 << 7;

    /// The date these registers show, taken for UTC. The parts are checked when it is converted.
    pub fn civil(&self) -> Result<CivilTime, BadDate> {
        let year_of_century = self.number(self.year)?;
        if year_of_century > 99 {
            return Err(BadDate::Year);
        }
        Ok(CivilTime {
            year: u16::from(self.century_number(year_of_century)) * 100
                + u16::from(year_of_century),
            month: self.number(self.month)?,
            day: self.number(self.day)?,
            hour: self.hour_number()?,
            minute: self.number(self.minute)?,
            second: self.number(self.second)?,
        })
    }

    /// Seconds since 1970 by these registers.
    pub fn unix_seconds(&self) -> Result<u64, BadDate> {
        self.civil()?.unix_seconds()
    }

    fn number(&self, raw: u8) -> Result<u8, BadDate> {
        if self.status_b & Self::BINARY != 0 {
            return Ok(raw);
        }
        let (tens, units) = (raw >> 4, raw & 0xf);
        if tens > 9 || units > 9 {
            Err(BadDate::NotDecimal)
        } else {
            Ok(tens * 10 + units)
        }
    }

    fn hour_number(&self) -> Result<u8, BadDate> {
        if self.status_b & Self::HOURS_24 != 0 {
            return self.number(self.hour);
        }
        let hour = self.number(self.hour & !Self::AFTERNOON)?;
        if hour == 0 || hour > 12 {
            return Err(BadDate::Time);
        }
        // Twelve comes before one, in the morning and in the afternoon.
        let half_day = if self.hour & Self::AFTERNOON != 0 {
            12
        } else {
            0
        };
        Ok(hour % 12 + half_day)
    }

    /// The century register where it is believable. Firmware leaves nonsense in it often enough that a
    /// bad one is no reason to have no time: years below 70 are then 20xx, others 19xx.
    fn century_number(&self, year_of_century: u8) -> u8 {
        match self.century.map(|raw| self.number(raw)) {
            Some(Ok(century @ 19..=29)) => century,
            _ if year_of_century < 70 => 20,
            _ => 19,
        }
    }
}

/// The wall-clock time at system time zero, which a guest adds to its system time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Seconds since 1970.
    pub seconds: u64,
    /// Nanoseconds within the second, below 10^9.
    pub nanoseconds: u32,
}

impl WallClock {
    /// The base that makes it `unix_seconds` and `nanoseconds` now, when the system time is `system_ns`.
    /// `None` if that lies before 1970, or if `nanoseconds` is a second or more.
    #[must_use]
    pub const fn from_now(unix_seconds: u64, nanoseconds: u32, system_ns: u64) -> Option<Self> {
        if nanoseconds as u64 >= NS_PER_SECOND {
            return None;
        }
        let now_ns = unix_seconds as u128 * NS_PER_SECOND as u128 + nanoseconds as u128;
        let Some(base_ns) = now_ns.checked_sub(system_ns as u128) else {
            return None;
        };
        // Not above `unix_seconds`, which is 64 bits, and a remainder.
        Some(Self {
            seconds: (base_ns / NS_PER_SECOND as u128) as u64,
            nanoseconds: (base_ns % NS_PER_SECOND as u128) as u32,
        })
    }
}
