//! A crash of ring 0 is reported once, with what a person needs to find its cause, and fails the run.
//!
//! The hypervisor crashes on purpose (`crash_test=` on its command line) just before its first guest would run. A
//! case is a row of [`CASES`]: the way to crash, and what the report must say.

use std::time::Duration;

use anyhow::{Result, ensure};
use regex_lite::Regex;

use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial;
use crate::testing::{Context, EXIT_BY_PORT_AT_LEAST, RING0_CRASHED};
use crate::{iso, run};

struct Crash {
    name: &'static str,
    /// Words for the hypervisor.
    arguments: &'static str,
    /// Processors of the machine.
    smp: u32,
    /// On the hypervisor that checks itself.
    checked: bool,
    /// Lines of the report, in this order.
    wanted: &'static [&'static str],
}

/// What ends every whole report: whom ring 0 served, and the end.
const SERVING: &str = r"^serving domain 0, vCPU 0$";
const END: &str = r"end of report$";

const CASES: &[Crash] = &[
    Crash {
        name: "a panic",
        arguments: "crash_test=panic",
        smp: 1,
        checked: false,
        wanted: &[
            r"ring 0 crashed: crash_test=panic \(.*crash_test\.rs:\d+:\d+\)$",
            r"^cr2 [0-9a-f]{16}  cr3 [0-9a-f]{16}  cr4 [0-9a-f]{8}  rsp ffff[0-9a-f]{12}",
            r"^called from:$",
            r"^  0xffff[0-9a-f]{12}  .*crash_test::crash\+0x",
            r"^  0xffff[0-9a-f]{12}  .*switch::start\+0x",
            SERVING,
            END,
        ],
    },
    Crash {
        name: "an access to nothing",
        arguments: "crash_test=fault",
        smp: 1,
        checked: false,
        wanted: &[
            r"ring 0 crashed: page fault \(vector 0xe\), error code 0x0$",
            r"^at 0xffff[0-9a-f]{12}  .*touch_unmapped\+0x",
            r"^rax ffff87fffffff000 ",
            r"^r12 5eed0fca5cade001 ",
            r"cr2 ffff87fffffff000 ",
            r"^called from:$",
            r"^  0xffff[0-9a-f]{12}  .*crash_test::crash\+0x",
            r"^  0xffff[0-9a-f]{12}  .*switch::start\+0x",
            SERVING,
            END,
        ],
    },
    Crash {
        name: "a stack that runs over",
        arguments: "crash_test=stack",
        smp: 1,
        checked: false,
        wanted: &[
            r"ring 0 crashed: double fault \(vector 0x8\), error code 0x0$",
            r"^at 0xffff[0-9a-f]{12}  .*overflow_stack\+0x",
            r"^called from:$",
            r"^  0xffff[0-9a-f]{12}  .*overflow_stack\+0x",
            r"^  and more$",
            SERVING,
            END,
        ],
    },
    Crash {
        name: "the boot stack runs over",
        arguments: "crash_test=early",
        smp: 1,
        checked: false,
        wanted: &[
            // The fault is told of on another stack; what cannot be pushed is a page fault or, pushed by the CPU, a
            // double fault. Symbols come with a module that is not read yet.
            r"ring 0 crashed: (page|double) fault \(vector 0x[8e]\)",
            r"^at 0xffff[0-9a-f]{12}",
            r"^called from:$",
            r"^  0xffff[0-9a-f]{12}",
            r"^  and more$",
            r"^serving no domain$",
            END,
        ],
    },
    Crash {
        name: "a panic in a panic",
        arguments: "crash_test=nested",
        smp: 1,
        checked: false,
        wanted: &[
            r"ring 0 crashed: crash_test=nested ",
            r"another fault while the first was reported; the report ends here$",
        ],
    },
    Crash {
        name: "a panic of a quiet hypervisor",
        arguments: "crash_test=panic loglvl=error",
        smp: 1,
        checked: false,
        wanted: &[
            r"ring 0 crashed: crash_test=panic ",
            SERVING,
            // What the level kept from the console comes with the report.
            r"xenoserver hypervisor \d",
            r"domain 0: ",
            END,
        ],
    },
    Crash {
        name: "a panic among four processors",
        arguments: "crash_test=panic",
        smp: 4,
        checked: false,
        wanted: &[
            r"ring 0 crashed: crash_test=panic ",
            r"^on CPU 0$",
            SERVING,
            r"^CPU 1: idle, at 0xffff[0-9a-f]{12}  .*idle::wait\+0x",
            r"^CPU 2: idle, at 0xffff[0-9a-f]{12}  .*idle::wait\+0x",
            r"^CPU 3: idle, at 0xffff[0-9a-f]{12}  .*idle::wait\+0x",
            END,
        ],
    },
    Crash {
        name: "a panic on another processor",
        // Without a reservation nothing interrupts domain 0, which is in the guest whenever the other crashes.
        arguments: "crash_test=other dom0_cpu=none",
        smp: 4,
        checked: false,
        wanted: &[
            r"ring 0 crashed: crash_test=other \(",
            r"^called from:$",
            r"^  0xffff[0-9a-f]{12}  .*panic_as_asked\+0x",
            r"^on CPU 3$",
            r"^serving no domain$",
            r"^CPU 0: serving domain 0, vCPU 0, in the guest, at 0xffffffff80[0-9a-f]{6}$",
            r"^CPU 1: idle, at 0xffff[0-9a-f]{12}  .*idle::wait\+0x",
            r"^CPU 2: idle, at 0xffff[0-9a-f]{12}  .*idle::wait\+0x",
            END,
        ],
    },
    Crash {
        name: "a panic while a processor hears nobody",
        arguments: "crash_test=deaf",
        smp: 3,
        checked: false,
        wanted: &[
            r"ring 0 crashed: crash_test=panic ",
            r"^on CPU 0$",
            SERVING,
            r"^CPU 1: idle, at 0xffff[0-9a-f]{12}  .*idle::wait\+0x",
            r"^CPU 2 does not answer$",
            END,
        ],
    },
    Crash {
        name: "a processor that is stuck",
        arguments: "crash_test=stuck dom0_cpu=none",
        smp: 3,
        checked: false,
        wanted: &[
            r"ring 0 crashed: CPU 2 is stuck in ring 0: it has taken no interrupt for 10 s$",
            r"^at 0xffff[0-9a-f]{12}  .*turn_for_ever\+0x",
            r"^called from:$",
            r"^  0xffff[0-9a-f]{12}  .*idle\+0x",
            r"^on CPU 2$",
            r"^serving no domain$",
            r"^CPU 0: serving domain 0, vCPU 0, in the guest, at 0xffffffff80[0-9a-f]{6}$",
            r"^CPU 1: idle, at 0xffff[0-9a-f]{12}  ",
            END,
        ],
    },
    Crash {
        name: "locks in the wrong order",
        arguments: "crash_test=locks",
        smp: 1,
        checked: true,
        wanted: &[
            r"ring 0 crashed: locks: Events is taken at .*crash_test\.rs:\d+:\d+ while Free is held, taken at .*crash_test\.rs:\d+:\d+ \(",
            r"^  0xffff[0-9a-f]{12}  .*crash_test::lock_outwards\+0x",
            SERVING,
            END,
        ],
    },
    Crash {
        name: "a wait with a lock held",
        arguments: "crash_test=wait",
        smp: 1,
        checked: true,
        wanted: &[
            r"ring 0 crashed: locks: interrupts are waited for at .*crash_test\.rs:\d+:\d+ while Events is held, taken at .*crash_test\.rs:\d+:\d+ \(",
            r"^  0xffff[0-9a-f]{12}  .*crash_test::wait_with_lock\+0x",
            SERVING,
            END,
        ],
    },
];

/// From power-on to the end of the report: a CPU that is stuck is given ten seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Both forms of the address space: the report is made on the domain's root or on ring 0's own.
const FORMS: &[&str] = &["yes", "no"];

/// One case for each row and each form.
pub fn cases() -> Vec<Case> {
    let one = |crash: &'static Crash, isolate: &'static str| Case {
        name: format!("crash report: {} (isolate={isolate})", crash.name),
        tier: if crash.checked {
            Tier::Normal
        } else {
            Tier::Quick
        },
        stage: Stage::Machine,
        needs: if crash.checked {
            Needs::Checked
        } else {
            Needs::Guests
        },
        run: Box::new(move |context: &Context| crash.run(context, isolate)),
    };
    CASES
        .iter()
        .flat_map(|crash| FORMS.iter().map(move |isolate| one(crash, isolate)))
        .collect()
}

impl Crash {
    fn run(&self, context: &Context, isolate: &str) -> Outcome {
        let tree = &context.tree;
        let defaults = format!("{} isolate={isolate}", run::hypervisor_arguments("64M"));
        let contents = iso::Contents {
            hypervisor_arguments: merge_words(&defaults, self.arguments),
            // Where it is this CPU that crashes, it never runs.
            kernel: Module::new(tree.guests().join("hello"), "stay"),
            initrd: None,
        };
        let modules = if self.checked {
            run::direct_checked(tree, &contents)
        } else {
            run::direct(tree, &contents, None)
        };
        let machine = Machine {
            memory: "256M".to_owned(),
            smp: self.smp,
            ..Machine::new(Boot::Direct(modules))
        };
        let log = format!("crash report {} isolate={isolate}", self.name);
        serial::judged(tree, &machine, &log, LIMIT, |console, status| {
            self.judge(console, status)?;
            Ok("reported once".to_owned())
        })
    }

    fn judge(&self, console: &str, status: i32) -> Result<()> {
        let reports = console.matches(RING0_CRASHED).count();
        ensure!(
            reports == 1,
            "{reports} reports of a crash, where one should be (status {status})"
        );
        let start = console.find(RING0_CRASHED).unwrap_or_default();
        let mut lines = console.get(start..).unwrap_or_default().lines();
        for wanted in self.wanted {
            let pattern = Regex::new(wanted)?;
            ensure!(
                lines.any(|line| pattern.is_match(line.trim_end_matches('\r'))),
                "the report has no line `{wanted}` where one should be"
            );
        }
        let more = lines.filter(|line| !line.trim().is_empty()).count();
        ensure!(more == 0, "{more} lines follow the end of the report");
        ensure!(
            status >= EXIT_BY_PORT_AT_LEAST,
            "the emulator ended with status {status}, where the exit device should have said that it failed"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CRASH: Crash = Crash {
        name: "x",
        arguments: "",
        smp: 1,
        checked: false,
        wanted: &[r"crashed: x$", END],
    };

    #[test]
    fn one_whole_report_and_a_failing_status_are_asked_for() {
        let whole = "before\n(xeno) ring 0 crashed: x\nrax\n(xeno) end of report\n";
        assert!(CRASH.judge(whole, 67).is_ok());
        assert!(CRASH.judge(whole, 0).is_err());
        assert!(CRASH.judge(&whole.repeat(2), 67).is_err());
        assert!(CRASH.judge(&format!("{whole}more\n"), 67).is_err());
        assert!(CRASH.judge("(xeno) ring 0 crashed: x\n", 67).is_err());
        assert!(CRASH.judge("nothing\n", 67).is_err());
    }

    #[test]
    fn every_row_has_patterns_that_are_some() {
        for pattern in CASES.iter().flat_map(|case| case.wanted) {
            Regex::new(pattern).unwrap();
        }
    }
}
