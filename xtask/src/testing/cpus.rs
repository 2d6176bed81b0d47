//! Machines with several processors: who is started, who is left out and what is said of it, and that processors make one
//! another forget translations.
//!
//! A case is a row of [`CASES`]: the machine, words for the hypervisor, and what its log must say. A small guest runs on
//! each, so that the boot is seen to go on.

use std::time::Duration;

use anyhow::{Result, ensure};
use regex_lite::Regex;

use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial;
use crate::testing::{Context, RING0_CRASHED, check_cpus_started, check_last_words};
use crate::{iso, run};

struct Row {
    name: &'static str,
    tier: Tier,
    model: &'static str,
    smp: u32,
    /// Words for the hypervisor.
    arguments: &'static str,
    /// How many must run.
    started: u32,
    /// More words for the emulator.
    extra: &'static [&'static str],
    /// The guest that runs.
    guest: &'static str,
    /// Lines of the log, in this order.
    wanted: &'static [&'static str],
}

const fn row(name: &'static str, smp: u32, arguments: &'static str, started: u32) -> Row {
    Row {
        name,
        tier: Tier::Quick,
        model: "pc",
        smp,
        arguments,
        started,
        extra: &[],
        guest: "hello",
        wanted: &[],
    }
}

/// The line about a processor that was started.
macro_rules! runs {
    ($number:literal) => {
        concat!(
            r"^\(xeno\) CPU ",
            $number,
            r" \(APIC id ",
            $number,
            r"\) runs; its time-stamp counter is \d+ ticks (behind|ahead of) CPU 0's, give or take \d+$"
        )
    };
}

const STORM: Row = Row {
    wanted: &[
        r"^\(xeno\) smp_test=storm: [1-9]\d* times all CPUs flushed for one that runs no guest$",
    ],
    ..row("one makes the others flush all the time", 2, "", 2)
};

const CASES: &[Row] = &[
    Row {
        wanted: &[runs!(1), runs!(2), runs!(3)],
        ..row("four are started", 4, "", 4)
    },
    Row {
        tier: Tier::Normal,
        model: "q35",
        wanted: &[runs!(1), runs!(7)],
        ..row("eight are started", 8, "", 8)
    },
    Row {
        wanted: &[
            r"^\(xeno\) smp_test=flush: 4 CPUs asked all others 101 times each, by [1-9]\d* interrupts; no stale translation was used$",
        ],
        ..row("four make one another flush", 4, "smp_test=flush", 4)
    },
    Row {
        guest: "pagetables",
        arguments: "smp_test=storm isolate=yes",
        ..STORM
    },
    Row {
        tier: Tier::Normal,
        guest: "traps",
        arguments: "smp_test=storm isolate=no",
        ..STORM
    },
    Row {
        tier: Tier::Normal,
        guest: "pagetables",
        arguments: "smp_test=storm isolate=no",
        ..STORM
    },
    Row {
        wanted: &[
            runs!(1),
            r"^\(xeno\) warning: CPU 1's clock is corrected, and guests do not read time without us;",
            r"^\(xeno\) warning: CPU 2's clock is corrected, and guests do not read time without us;",
            r"^\(xeno\) guests are told that counters may differ \(tsc=unstable\)$",
            r"^\(xeno\) smp_test=skew: the clocks of 2 CPUs are ahead by [1-9]\d* ns, as they should$",
        ],
        ..row(
            "time-stamp counters that differ",
            3,
            "smp_test=skew tsc=unstable",
            3,
        )
    },
    Row {
        wanted: &[
            runs!(1),
            r"^\(xeno\) error: CPU 1 was not found to have CPU 0's time-stamp counter, though `tsc=stable` says so",
            r"^\(xeno\) guests are told that they read time without us \(tsc=stable\)$",
            r"^\(xeno\) smp_test=skew: the clocks of 1 CPUs are ahead by 0 ns, as they should$",
        ],
        ..row(
            "time-stamp counters that differ and are vouched for",
            2,
            "smp_test=skew tsc=stable",
            2,
        )
    },
    Row {
        wanted: &[
            runs!(1),
            r"^\(xeno\) warning: the CPU with APIC id 2 does not answer; it is left out$",
        ],
        ..row("one that never answers", 3, "smp_test=absent", 2)
    },
    Row {
        extra: &[
            "-smp",
            "1,maxcpus=3,sockets=3,cores=1,threads=1",
            "-device",
            "Haswell-noTSX-x86_64-cpu,socket-id=1,core-id=0,thread-id=0,smep=off",
            "-device",
            "Haswell-noTSX-x86_64-cpu,socket-id=2,core-id=0,thread-id=0,nx=off",
        ],
        wanted: &[
            r"^\(xeno\) warning: the CPU with APIC id 1 lacks SMEP, which CPU 0 has; it is left out$",
            r"^\(xeno\) warning: the CPU with APIC id 2 has no 64-bit mode or no NX; it is left out$",
        ],
        ..row("two that lack what the first has", 1, "", 1)
    },
    Row {
        wanted: &[r"^\(xeno\) 2 CPUs are left out, as `maxcpus=`"],
        ..row("no more than asked for", 4, "maxcpus=2", 2)
    },
    Row {
        wanted: &[r"^\(xeno\) 3 CPUs are left out, as `maxcpus=` or `nosmp` says"],
        ..row("none but the first", 4, "nosmp", 1)
    },
];

/// From power-on to the guest's end.
const LIMIT: Duration = Duration::from_secs(90);

/// One case for each row.
pub fn cases() -> Vec<Case> {
    CASES
        .iter()
        .map(|row| Case {
            name: format!("processors: {} ({})", row.name, row.guest_and_words()),
            tier: row.tier,
            stage: Stage::Machine,
            needs: Needs::Guests,
            run: Box::new(move |context| row.run(context)),
        })
        .collect()
}

impl Row {
    fn guest_and_words(&self) -> String {
        format!("{} {}", self.guest, self.arguments)
            .trim()
            .to_owned()
    }

    fn run(&self, context: &Context) -> Outcome {
        let tree = &context.tree;
        let contents = iso::Contents {
            hypervisor_arguments: merge_words(&run::hypervisor_arguments("128M"), self.arguments),
            kernel: Module::new(tree.guests().join(self.guest), ""),
            initrd: None,
        };
        let machine = Machine {
            memory: "512M".to_owned(),
            smp: self.smp,
            model: self.model.to_owned(),
            extra: self.extra.iter().map(|&word| word.to_owned()).collect(),
            ..Machine::new(Boot::Direct(run::direct(tree, &contents, None)))
        };
        let log = format!("processors {} {}", self.name, self.guest_and_words());
        serial::judged(tree, &machine, &log, LIMIT, |console, status| {
            self.judge(console, status)?;
            Ok(format!("{} of {} run", self.started, self.smp))
        })
    }

    fn judge(&self, console: &str, status: i32) -> Result<()> {
        ensure!(!console.contains(RING0_CRASHED), "the hypervisor crashed");
        let mut lines = console.lines();
        for wanted in self.wanted {
            let pattern = Regex::new(wanted)?;
            ensure!(
                lines.any(|line| pattern.is_match(line.trim_end_matches('\r'))),
                "no line `{wanted}` where one should be (status {status})"
            );
        }
        check_cpus_started(console, self.started).map_err(anyhow::Error::msg)?;
        ensure!(
            console.contains(&format!("GUEST PASS {}", self.guest)),
            "the guest did not pass (status {status})"
        );
        ensure!(status == 0, "the emulator ended with status {status}");
        check_last_words(console).map_err(anyhow::Error::msg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Row = Row {
        wanted: &[runs!(1)],
        ..row("x", 2, "", 2)
    };

    #[test]
    fn a_processor_that_is_missing_or_keeps_no_books_is_a_failure() {
        let runs = "(xeno) CPU 1 (APIC id 1) runs; its time-stamp counter is 3 ticks behind CPU 0's, give or take 4\n";
        let rest = "(xeno) 2 CPUs run\nGUEST PASS hello\n(xeno) audit: all counts of 7 frames are right\n\
             (xeno) accounts: 1 given; the accounts add up\n";
        let books = "(xeno) CPU 0: 1 in all; the books balance\n";
        let good = format!("{runs}{rest}{books}{books}");
        assert!(TWO.judge(&good, 0).is_ok());
        assert!(TWO.judge(&good, 67).is_err());
        assert!(TWO.judge(&format!("{runs}{rest}{books}"), 0).is_err());
        assert!(TWO.judge(&format!("{rest}{books}{books}"), 0).is_err());
        assert!(TWO.judge(&good.replace("2 CPUs", "3 CPUs"), 0).is_err());
    }

    #[test]
    fn every_row_has_patterns_that_are_some() {
        for pattern in CASES.iter().flat_map(|case| case.wanted) {
            Regex::new(pattern).unwrap();
        }
    }
}
