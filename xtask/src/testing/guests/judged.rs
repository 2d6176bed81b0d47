//! What a console says about a guest.

use crate::testing::{EXIT_BY_PORT_AT_LEAST, RING0_CRASHED, check_last_words};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Passed(String),
    Skipped(String),
    Failed(String),
}

/// Why what a guest said is not what one says that passed, if it is not; whatever the hypervisor said after it.
pub fn complaint(console: &str, name: &str) -> Option<String> {
    let mut lines = console.lines().map(str::trim);
    if let Some(failure) = lines.clone().find(|l| l.contains("GUEST FAIL ")) {
        return Some(failure.to_owned());
    }
    let pass = format!("GUEST PASS {name}");
    let passed = lines.any(|l| l == pass || l.ends_with(&format!(" {pass}")));
    (!passed).then(|| format!("it did not say `{pass}`"))
}

/// What a console and the emulator's status say about a guest.
pub(super) fn judge(console: &str, name: &str, status: i32) -> Verdict {
    // The hypervisor may put a prefix of its own before a domain's line.
    let line = |wanted: &str| {
        console.lines().map(str::trim_end).find(|l| {
            l.strip_suffix(wanted)
                .is_some_and(|before| before.is_empty() || before.ends_with(' '))
        })
    };
    let mut failures = console.lines().filter(|l| l.contains("GUEST FAIL "));
    if let Some(first) = failures.next() {
        return Verdict::Failed(match failures.count() {
            0 => first.trim().to_owned(),
            more => format!("{} (and {more} more)", first.trim()),
        });
    }
    if let Some((_, reason)) = console
        .lines()
        .find_map(|l| l.split_once(&format!("GUEST SKIP {name}")))
    {
        return Verdict::Skipped(reason.trim_start_matches([':', ' ']).to_owned());
    }
    if line(&format!("GUEST EXPECT CRASH {name}")).is_some() {
        return if status < EXIT_BY_PORT_AT_LEAST {
            Verdict::Failed(format!(
                "should have been crashed, and the emulator ended with status {status}"
            ))
        } else if console.contains(RING0_CRASHED) {
            Verdict::Failed("the hypervisor itself crashed".to_owned())
        } else if !console
            .lines()
            .any(|l| l.contains("domain 0") && l.contains("crashed"))
        {
            Verdict::Failed("no line says that domain 0 crashed".to_owned())
        } else {
            Verdict::Passed("crashed, as it should be".to_owned())
        };
    }
    match (line(&format!("GUEST PASS {name}")), status) {
        (Some(_), 0) => match check_last_words(console) {
            Ok(()) => Verdict::Passed(checks(console, name)),
            Err(why) => Verdict::Failed(format!("passed, yet {why}")),
        },
        (Some(_), status) => Verdict::Failed(format!(
            "passed, yet the emulator ended with status {status}"
        )),
        (None, status) => Verdict::Failed(format!("no line `GUEST PASS {name}`, status {status}")),
    }
}

/// The guest's own count, `name: 12 checks`, for its line.
fn checks(console: &str, name: &str) -> String {
    let prefix = format!("{name}: ");
    console
        .lines()
        .filter_map(|l| l.split_once(&prefix))
        .map(|(_, rest)| rest.trim())
        .find(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.contains(" checks"))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_needs_the_line_and_a_clean_end() {
        let console = "booting\nhello: 3 checks\nGUEST PASS hello\n";
        assert_eq!(
            judge(console, "hello", 0),
            Verdict::Passed("3 checks".to_owned())
        );
        assert!(matches!(judge(console, "hello", 3), Verdict::Failed(_)));
        assert!(matches!(judge(console, "hell", 0), Verdict::Failed(_)));
        assert!(matches!(
            judge("GUEST FAIL hello: x\nGUEST PASS hello", "hello", 0),
            Verdict::Failed(_)
        ));
    }

    #[test]
    fn a_guest_that_failed_or_is_not_done_is_complained_of() {
        assert_eq!(complaint("x\nGUEST PASS hello\r\n", "hello"), None);
        assert!(complaint("GUEST PASS hello\n", "hell").is_some());
        assert!(complaint("GUEST FAIL hello: x\nGUEST PASS hello", "hello").is_some());
        assert!(complaint("booting\n", "hello").is_some());
    }

    #[test]
    fn a_pass_needs_right_counts_and_books() {
        let pass = "(xeno) booting\nGUEST PASS hello\n";
        assert!(matches!(judge(pass, "hello", 0), Verdict::Failed(_)));
        let books = format!("{pass}(xeno) CPU 0: 1 in all; the books balance\n");
        assert!(matches!(judge(&books, "hello", 0), Verdict::Failed(_)));
        let books = format!("{books}(xeno) accounts: 1 given; the accounts add up\n");
        assert!(matches!(judge(&books, "hello", 0), Verdict::Failed(_)));
        let both = format!("{books}(xeno) audit: all counts of 7 frames are right\n");
        assert!(matches!(judge(&both, "hello", 0), Verdict::Passed(_)));
    }

    #[test]
    fn a_guest_that_must_crash_does_not_pass_by_powering_off() {
        let console = "GUEST EXPECT CRASH bad\n(xeno) domain 0 vCPU 0 crashed: bad stack\n";
        assert!(matches!(judge(console, "bad", 0), Verdict::Failed(_)));
        assert!(matches!(judge(console, "bad", 1), Verdict::Failed(_)));
        assert!(matches!(judge(console, "bad", 3), Verdict::Passed(_)));
        let ring0 = "GUEST EXPECT CRASH bad\nring 0 crashed: x, domain 0 crashed\n";
        assert!(matches!(judge(ring0, "bad", 3), Verdict::Failed(_)));
    }
}
