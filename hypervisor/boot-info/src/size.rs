//! Numbers, sizes and times as server admins write them.

/// Reads a non-negative number: decimal, or hexadecimal after `0x`. `None` if it is anything else or does not fit.
pub fn parse_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` would take a sign; we do not.
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain
        .then(|| u64::from_str_radix(digits, radix).ok())
        .flatten()
}

/// Reads a size in bytes. A suffix of B, K, M, G or T (either case) says the unit; a bare number counts KiB, as it
/// does on Xen's command line. `None` if it is not a size or does not fit in 64 bits.
pub fn parse_size(text: &str) -> Option<u64> {
    // In hexadecimal, B is a digit and not a unit.
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let unit = text.chars().next_back()?.to_ascii_uppercase();
    let shift = match unit {
        'B' if !hexadecimal => 0,
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return parse_number(text)?.checked_mul(1024),
    };
    // The unit is one ASCII byte.
    let number = text.get(..text.len().saturating_sub(1))?;
    parse_number(number)?.checked_mul(1 << shift)
}

/// Reads a time in nanoseconds: a number and its unit, ns, us, ms or s. `None` if it is none or does not fit.
pub fn parse_time(text: &str) -> Option<u64> {
    // The longer units first: each ends in `s`.
    for (unit, factor) in [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
    ] {
        if let Some(number) = text.strip_suffix(unit) {
            return parse_number(number)?.checked_mul(factor);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_size_counts_kib() {
        assert_eq!(parse_size("2048"), Some(2 << 20));
        assert_eq!(parse_size("0x800"), Some(2 << 20));
    }

    #[test]
    fn every_unit_is_read_in_either_case() {
        assert_eq!(parse_size("512B"), Some(512));
        assert_eq!(parse_size("4k"), Some(4096));
        assert_eq!(parse_size("512M"), Some(512 << 20));
        assert_eq!(parse_size("3g"), Some(3 << 30));
        assert_eq!(parse_size("0x10T"), Some(16 << 40));
        assert_eq!(parse_size("0x1B"), Some(0x1b * 1024));
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(parse_time("20us"), Some(20_000));
        assert_eq!(parse_time("10ms"), Some(10_000_000));
        assert_eq!(parse_time("1s"), Some(1_000_000_000));
        assert_eq!(parse_time("7ns"), Some(7));
        for text in ["", "s", "10", "ms", "-1ms", "1.5ms", "1m", "99999999999s"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "M",
            "-1M",
            "+1",
            "1.5G",
            "0x",
            "12Q",
            "1MM",
            "é",
            "18446744073709551615K",
            "20000000T",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_take_no_sign_and_do_not_wrap() {
        assert_eq!(parse_number("0xf4"), Some(0xf4));
        assert_eq!(parse_number("18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "-1",
            "+1",
            "0x",
            "18446744073709551616",
            "0x+1",
            "f4",
            "1_0",
        ] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }
}
