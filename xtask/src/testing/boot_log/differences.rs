//! The one list of lines in which the stock kernel's log on our ring 0 may differ from that on Xen 4.17, and why.
//!
//! A row is a pattern (a regular expression found anywhere in the line, its time stamp gone), whose log has such
//! lines, and the reason. A row that stops occurring fails the test: remove it. A line without a row fails too: remove
//! the difference in the hypervisor if that can be; only what is meant belongs here.

/// Whose log has the lines of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Only Xen's: the kernel does something there that it does not do here.
    Xen,
    /// Only ours.
    #[allow(dead_code, reason = "no row of this kind is left")]
    Ours,
    /// Each has its own form.
    Both,
}

/// A difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// What the lines have in them.
    pub pattern: &'static str,
    /// Whose log has them.
    pub side: Side,
    /// The machine model that has them, if not all do.
    pub only_on: Option<&'static str>,
    /// Why; for the reader of this list.
    #[expect(dead_code, reason = "read by people")]
    pub reason: &'static str,
    /// A line of Xen's log and one of ours, empty where there is none; the list's own tests use them.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the tests"))]
    pub examples: [&'static str; 2],
}

const fn row(
    pattern: &'static str,
    side: Side,
    reason: &'static str,
    examples: [&'static str; 2],
) -> Difference {
    Difference {
        pattern,
        side,
        only_on: None,
        reason,
        examples,
    }
}

/// The list.
pub const DIFFERENCES: &[Difference] = &[
    row(
        r"^Xen version: 4\.17",
        Side::Both,
        "the same interface, and each its own name behind it",
        [
            "Xen version: 4.17.7 (preserve-AD)",
            "Xen version: 4.17.0-xeno-0.1.0 (preserve-AD)",
        ],
    ),
    row(
        r"^tsc: Fast TSC calibration",
        Side::Both,
        "Xen lets the control domain use the 8254's second channel; ours is ring 0's alone. The kernel takes the \
         rate from the paravirtual clock in either case",
        [
            "tsc: Fast TSC calibration using PIT",
            "tsc: Fast TSC calibration failed",
        ],
    ),
    row(
        r"^tsc: Detected # MHz TSC",
        Side::Xen,
        "the kernel measured the rate there itself, and says what the paravirtual clock says beside it",
        ["tsc: Detected # MHz TSC", ""],
    ),
    row(
        r"^RAMDISK: \[mem ",
        Side::Both,
        "where the initial file system lies in the domain's own numbering, which the interface leaves open: here \
         right behind the kernel, there behind the first block of memory",
        [
            "RAMDISK: [mem 0x08000000-0x081edfff]",
            "RAMDISK: [mem 0x04c00000-0x04dedfff]",
        ],
    ),
    row(
        r"^Memory: \d+K/\d+K available",
        Side::Both,
        "follows from the place of the initial file system: two pages fewer are lost beside it",
        [
            "Memory: 205980K/524284K available (14343K kernel code)",
            "Memory: 205988K/524284K available (14343K kernel code)",
        ],
    ),
    row(
        r"^xen:events: Using ",
        Side::Both,
        "the FIFO form is refused on purpose: docs/abi.md, events",
        [
            "xen:events: Using FIFO-based ABI",
            "xen:events: Using 2-level ABI",
        ],
    ),
];
