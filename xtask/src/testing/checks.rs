//! Cases that need no machine: formatting, lints, and the host's own tests.

use std::process::{Command, Stdio};

use crate::build;
use crate::programs;
use crate::testing::Context;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::toolchain::BareMetal;

/// The cases, in the order in which they are worth knowing.
pub fn cases() -> Vec<Case> {
    let case = |name: &str, run: fn(&Context) -> Outcome| Case {
        name: name.to_owned(),
        tier: Tier::Quick,
        stage: Stage::Alone,
        needs: Needs::Tree,
        run: Box::new(run),
    };
    vec![
        case("format", format),
        case("lints on the host", host_lints),
        case("lints on the bare machine", bare_lints),
        case("host tests", host_tests),
    ]
}

/// The host's cargo: the one that built us.
fn host_cargo(context: &Context) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(context.tree.root());
    command
}

fn format(context: &Context) -> Outcome {
    judge(
        host_cargo(context).args(["fmt", "--all", "--check"]),
        "run `cargo fmt --all`",
    )
}

/// Ring 0 and the test guests have no business on the host; the bare machine's lints see them.
fn host_lints(context: &Context) -> Outcome {
    judge(
        host_cargo(context).args(["clippy", "--quiet", "--all-targets", "--", "-D", "warnings"]),
        "fix what clippy found",
    )
}

fn bare_lints(context: &Context) -> Outcome {
    let bare = match BareMetal::find(&context.tree) {
        Ok(bare) => bare,
        Err(error) => return Outcome::failed("no compiler", format!("{error:#}")),
    };
    let Some(clippy_dir) = bare.clippy_dir() else {
        return Outcome::skipped(
            "the compiler for bare metal has no clippy (on Debian: apt-get install rust-web-clippy)",
        );
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Ok(path) =
        std::env::join_paths(std::iter::once(clippy_dir).chain(std::env::split_paths(&path)))
    else {
        return Outcome::failed("a directory in PATH has a colon in its name", "");
    };
    let tree = &context.tree;
    let runs = [
        (
            "hypervisor",
            build::ring0_target_dir(tree),
            build::RING0_FLAGS,
        ),
        ("guests", tree.target().join("guests"), build::GUEST_FLAGS),
        ("programs", programs::target_dir(tree), programs::FLAGS),
    ];
    for (package, target_dir, flags) in runs {
        let mut command = bare.cargo(tree, "clippy", &target_dir, flags);
        command
            .env("PATH", &path)
            .args(["--quiet", "--package", package, "--", "-D", "warnings"]);
        let outcome = judge(&mut command, "fix what clippy found");
        if outcome.failed != 0 {
            return outcome;
        }
    }
    Outcome::passed("")
}

/// Runs a check that says nothing when all is well.
fn judge(command: &mut Command, remedy: &str) -> Outcome {
    match command.stdin(Stdio::null()).output() {
        Err(error) => Outcome::failed("cannot be started", error.to_string()),
        Ok(output) if output.status.success() => Outcome::passed(""),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Outcome::failed(remedy, head(&String::from_utf8_lossy(&said), 80))
        }
    }
}

fn head(text: &str, lines: usize) -> String {
    text.lines().take(lines).collect::<Vec<_>>().join("\n")
}

fn host_tests(context: &Context) -> Outcome {
    // Debug information of dependencies is a third of the build and nobody reads it here.
    let output = host_cargo(context)
        .args(["test", "--quiet", "--no-fail-fast"])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(error) => return Outcome::failed("cannot be started", error.to_string()),
        Ok(output) => output,
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr).into_owned();
    let mut outcome = count(&said);
    if !output.status.success() {
        // A crate that does not compile reports no test at all.
        outcome.failed = outcome.failed.max(1);
        let shown: Vec<&str> = said
            .lines()
            .filter(|l| !l.starts_with("running ") && !is_dots(l))
            .collect();
        outcome.report = format!(
            "{}\n{}",
            head(&shown.join("\n"), 100),
            crate::shell::tail(&complained, 40)
        );
    }
    outcome.note = format!(
        "{} passed, {} failed, {} ignored",
        outcome.passed, outcome.failed, outcome.skipped
    );
    outcome
}

fn is_dots(line: &str) -> bool {
    !line.is_empty() && line.chars().all(|c| matches!(c, '.' | 'i' | 'F'))
}

/// Adds up the lines `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
fn count(said: &str) -> Outcome {
    let mut sum = Outcome::default();
    for line in said
        .lines()
        .filter_map(|l| l.trim().strip_prefix("test result: "))
    {
        for part in line.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(kind)) = (
                words.next().and_then(|n| n.parse::<u64>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match kind {
                "passed" => sum.passed += number,
                "failed" => sum.failed += number,
                "ignored" => sum.skipped += number,
                _ => {}
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn test_results_of_all_crates_are_added_up() {
        let said = "running 3 tests\n...\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
                    finished in 0.00s\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        let sum = count(said);
        assert_eq!((sum.passed, sum.failed, sum.skipped), (4, 2, 1));
    }

    #[test]
    fn the_page_on_locks_has_ring_0s_ranks_in_their_order() {
        let tree = Tree::find().unwrap();
        let read = |file: &str| std::fs::read_to_string(tree.root().join(file)).unwrap();
        let source = read("hypervisor/src/sync.rs");
        let (_, ranks) = source.split_once("\nranks! {\n").unwrap();
        let (ranks, _) = ranks.split_once("\n}\n").unwrap();
        let ranks: Vec<&str> = ranks
            .lines()
            .filter_map(|line| line.trim().strip_suffix(','))
            .filter(|name| name.chars().all(char::is_alphanumeric))
            .collect();
        let page = read("docs/locks.md");
        let rows: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        assert!(ranks.len() > 20);
        assert_eq!(ranks, rows);
    }
}
