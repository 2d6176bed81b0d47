//! How values are written: text to value, one function a kind.
//!
//! # Invariants
//! - What is not wholly understood is no value: nothing is guessed from a part, so that the word's default holds (P1 of
//!   [`super`]).

use crate::params::{
    Choice, Cpus, CrashTest, Dom0Cpu, Dom0Memory, LogLevel, OnCrash, Params, Parity, Serial,
    SmpTest, Tsc,
};
use crate::size::{parse_number, parse_size, parse_time};

pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "on" | "true" | "enable" | "1" => Some(true),
        "no" | "off" | "false" | "disable" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn choice(text: &str) -> Option<Choice> {
    if text == "auto" {
        return Some(Choice::Auto);
    }
    boolean(text).map(|yes| if yes { Choice::Yes } else { Choice::No })
}

pub(super) fn on_crash(text: &str) -> Option<OnCrash> {
    match text {
        "restart" => Some(OnCrash::Restart),
        "reboot" => Some(OnCrash::Reboot),
        "halt" => Some(OnCrash::Halt),
        _ => None,
    }
}

/// A level, perhaps followed by `/` and Xen's level for rate-limited messages, which we do not distinguish.
pub(super) fn level(text: &str) -> Option<LogLevel> {
    let one = |name: &str| match name {
        "none" => Some(LogLevel::None),
        "error" => Some(LogLevel::Error),
        "warning" => Some(LogLevel::Warning),
        "info" => Some(LogLevel::Info),
        "debug" | "all" => Some(LogLevel::Debug),
        _ => None,
    };
    match text.split_once('/') {
        Some((first, limited)) => one(limited).and(one(first)),
        None => one(text),
    }
}

pub(super) fn tsc(text: &str) -> Option<Tsc> {
    match text {
        "auto" => Some(Tsc::Auto),
        "stable" => Some(Tsc::Stable),
        "unstable" => Some(Tsc::Unstable),
        _ => None,
    }
}

pub(super) fn crash_test(text: &str) -> Option<CrashTest> {
    match text {
        "panic" => Some(CrashTest::Panic),
        "fault" => Some(CrashTest::Fault),
        "stack" => Some(CrashTest::Stack),
        "nested" => Some(CrashTest::Nested),
        "early" => Some(CrashTest::Early),
        "other" => Some(CrashTest::Other),
        "deaf" => Some(CrashTest::Deaf),
        "stuck" => Some(CrashTest::Stuck),
        "locks" => Some(CrashTest::Locks),
        "wait" => Some(CrashTest::Wait),
        _ => None,
    }
}

/// vCPUs of one domain.
pub(super) fn vcpus(text: &str) -> Option<u32> {
    count(text).filter(|count| *count <= Params::MAX_VCPUS)
}

pub(super) fn cpus(text: &str) -> Option<Cpus> {
    match text {
        "first" => Some(Cpus::First),
        "all" => Some(Cpus::All),
        _ => None,
    }
}

/// A quantum: a millionth of a second to a second.
pub(super) fn quantum(text: &str) -> Option<u64> {
    parse_time(text).filter(|ns| (1_000..=1_000_000_000).contains(ns))
}

/// The longest section: a microsecond to 200.
pub(super) fn section(text: &str) -> Option<u64> {
    parse_time(text).filter(|ns| (1_000..=200_000).contains(ns))
}

/// A part of each CPU, in millionths: half of it at most.
pub(super) fn reserve(text: &str) -> Option<u32> {
    let number = parse_number(text)?;
    u32::try_from(number).ok().filter(|ppm| *ppm <= 500_000)
}

/// `none`, or `SLICE/PERIOD[,extra]`.
pub(super) fn dom0_cpu(text: &str) -> Option<Dom0Cpu> {
    if text == "none" {
        return Some(Dom0Cpu::None);
    }
    let (times, extra) = match text.strip_suffix(",extra") {
        Some(times) => (times, true),
        None => (text, false),
    };
    let (slice, period) = times.split_once('/')?;
    let (slice_ns, period_ns) = (parse_time(slice)?, parse_time(period)?);
    let makes_sense = slice_ns != 0 && slice_ns <= period_ns && period_ns <= 1_000_000_000;
    makes_sense.then_some(Dom0Cpu::Slice {
        slice_ns,
        period_ns,
        extra,
    })
}

pub(super) fn smp_test(text: &str) -> Option<SmpTest> {
    match text {
        "flush" => Some(SmpTest::Flush),
        "absent" => Some(SmpTest::Absent),
        "storm" => Some(SmpTest::Storm),
        "skew" => Some(SmpTest::Skew),
        _ => None,
    }
}

/// How many of something, one at least.
pub(super) fn count(text: &str) -> Option<u32> {
    parse_number(text)
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number != 0)
}

/// An I/O port; 0 is the DMA controller's and nobody means it.
pub(super) fn io_port(text: &str) -> Option<u16> {
    parse_number(text)
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0)
}

/// `[min:SIZE,][max:SIZE,][SIZE]` in any order, at least one of them.
pub(super) fn dom0_memory(text: &str) -> Option<Dom0Memory> {
    let mut memory = Dom0Memory::default();
    for part in text.split(',') {
        let (place, size) = if let Some(size) = part.strip_prefix("min:") {
            (&mut memory.min, size)
        } else if let Some(size) = part.strip_prefix("max:") {
            (&mut memory.max, size)
        } else {
            (&mut memory.size, part)
        };
        *place = Some(parse_size(size).filter(|bytes| *bytes != 0)?);
    }
    let contradicts =
        |low: Option<u64>, high: Option<u64>| low.zip(high).is_some_and(|(low, high)| low > high);
    (!contradicts(memory.min, memory.max)).then_some(memory)
}

/// `BAUD[,FRAME[,PORT[,IRQ]]]`; the interrupt line, which Xen takes here too, is read and not used.
pub(super) fn serial(text: &str, mut serial: Serial) -> Option<Serial> {
    let mut fields = text.split(',');
    let baud = fields.next().filter(|baud| !baud.is_empty())?;
    serial.baud = parse_number(baud).and_then(|baud| u32::try_from(baud).ok())?;
    let divides = Serial::BASE_BAUD.checked_rem(serial.baud) == Some(0);
    if !divides || Serial::BASE_BAUD.checked_div(serial.baud)? > u32::from(u16::MAX) {
        return None;
    }
    if let Some(frame) = fields.next() {
        let [data_bits @ b'5'..=b'8', parity, stop_bits @ b'1'..=b'2'] = frame.as_bytes() else {
            return None;
        };
        serial.data_bits = data_bits - b'0';
        serial.stop_bits = stop_bits - b'0';
        serial.parity = match parity {
            b'n' => Parity::None,
            b'o' => Parity::Odd,
            b'e' => Parity::Even,
            b'm' => Parity::Mark,
            b's' => Parity::Space,
            _ => return None,
        };
    }
    if let Some(port) = fields.next() {
        serial.port = io_port(port)?;
    }
    if let Some(irq) = fields.next() {
        parse_number(irq).filter(|irq| *irq < 256)?;
    }
    fields.next().is_none().then_some(serial)
}
