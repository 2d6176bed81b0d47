//! Running cases and telling about them: one line each, as they end, and one line of counts at the very end.
//!
//! # Invariants
//! - R1: the last line on standard output is `N passed, N failed, N skipped`, alone.
//! - R2: a case that could not be tried is skipped with a reason, or failed; it never counts as passed.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Instant;

use crate::testing::Context;

/// How much is run. Each tier holds the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// At most five minutes: what a person runs before each commit.
    Quick,
    /// At most twenty minutes: everything once, in its short form.
    Normal,
    /// The long forms and the whole matrix.
    Full,
}

/// What cases may run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Compilers, which use every processor themselves: one at a time.
    Alone,
    /// Emulated machines: as many at a time as the machine has processors.
    Machine,
}

/// What a case needs to have been made before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Only the source tree.
    Tree,
    /// The hypervisor.
    Hypervisor,
    /// The hypervisor and the test guests.
    Guests,
    /// The test guests and the hypervisor that checks itself.
    Checked,
    /// The hypervisor, the stock kernel and the initial file system.
    System,
    /// All that, and what guests and their disks are made with.
    Guested,
    /// The stock system and the tools that pack kernels.
    Kernels,
    /// The hypervisor, the stock system and the tools that make a CD image.
    Image,
    /// And UEFI firmware to start it with.
    Uefi,
}

/// One test.
pub struct Case {
    /// Unique; what `--only` is matched against.
    pub name: String,
    /// The smallest tier that runs it.
    pub tier: Tier,
    /// What may run beside it.
    pub stage: Stage,
    /// What must have been made.
    pub needs: Needs,
    /// The test itself.
    pub run: Box<dyn Fn(&Context) -> Outcome + Send + Sync>,
}

/// How a case ended; one case may stand for many counted tests.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Tests that held.
    pub passed: u64,
    /// Tests that did not.
    pub failed: u64,
    /// Tests that could not be tried.
    pub skipped: u64,
    /// A few words for the case's line.
    pub note: String,
    /// What a person needs to see of a failure.
    pub report: String,
}

impl Outcome {
    /// It held.
    pub fn passed(note: impl Into<String>) -> Self {
        Self {
            passed: 1,
            note: note.into(),
            ..Self::default()
        }
    }

    /// It did not; the report shows why.
    pub fn failed(note: impl Into<String>, report: impl Into<String>) -> Self {
        Self {
            failed: 1,
            note: note.into(),
            report: report.into(),
            ..Self::default()
        }
    }

    /// It could not be tried.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self {
            skipped: 1,
            note: reason.into(),
            ..Self::default()
        }
    }

    fn word(&self) -> &'static str {
        match (self.failed, self.passed) {
            (1.., _) => "FAIL",
            (0, 1..) => "ok",
            (0, 0) => "skip",
        }
    }
}

/// Runs the cases and tells about each as it ends.
pub struct Reporter {
    total: usize,
    json: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    done: usize,
    sum: Outcome,
    failures: Vec<String>,
}

impl Reporter {
    /// For so many cases; `json` turns each line into an object.
    pub fn new(total: usize, json: bool) -> Self {
        Self {
            total,
            json,
            state: Mutex::new(State::default()),
        }
    }

    /// Runs the cases: first those that run alone, in order, then the machines, several at a time.
    pub fn run(&self, context: &Context, cases: Vec<Case>) {
        let (alone, machines): (Vec<Case>, Vec<Case>) =
            cases.into_iter().partition(|c| c.stage == Stage::Alone);
        for case in &alone {
            self.run_one(context, case);
        }
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(machines.len());
        let queue = Mutex::new(VecDeque::from(machines));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().ok().and_then(|mut q| q.pop_front());
                        let Some(case) = next else { break };
                        self.run_one(context, &case);
                    }
                });
            }
        });
    }

    fn run_one(&self, context: &Context, case: &Case) {
        let started = Instant::now();
        let outcome = match context.missing(case.needs) {
            Some(reason) => Outcome::skipped(reason),
            None => (case.run)(context),
        };
        self.tell(&case.name, &outcome, started.elapsed().as_secs_f64());
    }

    /// One line for one case that has ended.
    pub fn tell(&self, name: &str, outcome: &Outcome, seconds: f64) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        state.done += 1;
        state.sum.passed += outcome.passed;
        state.sum.failed += outcome.failed;
        state.sum.skipped += outcome.skipped;
        let width = self.total.to_string().len();
        let count = format!("[{:>width$}/{}]", state.done, self.total);
        let note = if outcome.note.is_empty() {
            String::new()
        } else {
            format!(": {}", outcome.note)
        };
        let line = format!(
            "{count} {:<4} {seconds:6.1} s  {name}{note}",
            outcome.word()
        );
        if self.json {
            eprintln!("{line}");
            println!(
                "{}",
                serde_json::json!({
                    "name": name,
                    "outcome": outcome.word().to_lowercase(),
                    "passed": outcome.passed,
                    "failed": outcome.failed,
                    "skipped": outcome.skipped,
                    "seconds": (seconds * 1000.0).round() / 1000.0,
                    "note": outcome.note,
                    "report": outcome.report,
                })
            );
        } else {
            println!("{line}");
        }
        if outcome.failed != 0 {
            state.failures.push(name.to_owned());
            if !outcome.report.is_empty() {
                let indented: Vec<String> = outcome
                    .report
                    .lines()
                    .map(|l| format!("    | {l}"))
                    .collect();
                if self.json {
                    eprintln!("{}", indented.join("\n"))
                } else {
                    println!("{}", indented.join("\n"))
                }
            }
        }
    }

    /// The closing line (R1). Returns whether nothing failed.
    pub fn close(self) -> bool {
        let state = self.state.into_inner().unwrap_or_default();
        let Outcome {
            passed,
            failed,
            skipped,
            ..
        } = state.sum;
        let closing = format!("{passed} passed, {failed} failed, {skipped} skipped");
        if self.json {
            eprintln!("{closing}");
            println!(
                "{}",
                serde_json::json!({ "passed": passed, "failed": failed, "skipped": skipped })
            );
        } else {
            if !state.failures.is_empty() {
                println!("failed: {}", state.failures.join(", "));
            }
            println!("{closing}");
        }
        failed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_with_one_failure_among_passes_has_failed() {
        let outcome = Outcome {
            passed: 9,
            failed: 1,
            ..Outcome::default()
        };
        assert_eq!(outcome.word(), "FAIL");
        assert_eq!(Outcome::skipped("no kernel").word(), "skip");
        assert_eq!(Outcome::passed("").word(), "ok");
    }
}
