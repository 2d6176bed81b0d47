//! `cargo xtask stats`: how large ring 0 is, against its limits: image, memory it keeps, code, `unsafe`, dependencies.
//!
//! `docs/size.md` has the figures' history; the last line here is its next row.

mod crates;
mod memory;
mod source;

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::build;
use crate::provision::{self, Need};
use crate::shell::{self, say};
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crates::Crates;
use memory::{MACHINE_BYTES, Uses};
use source::Lines;

const PAGE: u64 = 4096;
/// The image's file, stripped.
const IMAGE_LIMIT: u64 = 1 << 20;
/// Bytes a frame of the machine's memory.
const FRAME_TABLE_LIMIT: u64 = 32;
const M2P_LIMIT: u64 = 8;
/// All else that ring 0 keeps on a machine of 4 GiB and one CPU; modules are not ring 0's.
const REST_LIMIT: u64 = 8 << 20;

/// Options of `cargo xtask stats`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// One JSON object on standard output
    #[arg(long)]
    json: bool,
    /// Fail if a limit is passed
    #[arg(long)]
    check: bool,
}

/// What was found.
pub struct Stats {
    image_file: u64,
    memory: Uses,
    crates: BTreeMap<String, Lines>,
    others: Vec<String>,
    at_build: Vec<String>,
}

/// Builds ring 0, measures it and shows the figures.
///
/// # Errors
/// When it does not build or cannot be measured.
pub fn command(tree: &Tree, options: &Options) -> Result<ExitCode> {
    provision::ensure(&[Need::BareMetal, Need::Qemu])?;
    let bare = BareMetal::find(tree)?;
    build::hypervisor(tree, &bare)?;
    build::guests(tree, &bare)?;
    let stats = collect(tree)?;
    if options.json {
        println!("{}", stats.json());
    } else {
        stats.show(tree);
    }
    let passed = stats.complaints();
    for line in &passed {
        say(line);
    }
    Ok(if options.check && !passed.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Measures what is built.
///
/// # Errors
/// When a file is missing, or the machine does not say what it keeps.
pub fn collect(tree: &Tree) -> Result<Stats> {
    let file = tree.hypervisor();
    let image =
        std::fs::metadata(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let Crates {
        own,
        others,
        at_build,
    } = crates::find(tree)?;
    let mut crates = BTreeMap::new();
    for (name, sources) in own {
        crates.insert(name, source::count(&sources)?);
    }
    Ok(Stats {
        image_file: image.len(),
        memory: memory::measure(tree)?,
        crates,
        others: others.into_iter().collect(),
        at_build: at_build.into_iter().collect(),
    })
}

impl Stats {
    fn of(&self, name: &str) -> u64 {
        self.memory.get(name).copied().unwrap_or(u64::MAX)
    }

    /// What is neither frame table nor M2P.
    fn rest(&self) -> u64 {
        let is_rest = |name: &str| name != "frame table" && name != "M2P";
        let rest = self.memory.iter().filter(|(name, _)| is_rest(name));
        rest.map(|(_, bytes)| bytes).sum()
    }

    fn lines(&self) -> Lines {
        let mut sum = Lines::default();
        for lines in self.crates.values() {
            sum.add(*lines);
        }
        sum
    }

    /// Each limit that is passed, in a sentence.
    pub fn complaints(&self) -> Vec<String> {
        let frames = MACHINE_BYTES / PAGE;
        let limits = [
            ("the image's file", self.image_file, IMAGE_LIMIT),
            (
                "the frame table",
                self.of("frame table"),
                FRAME_TABLE_LIMIT * frames,
            ),
            ("the M2P", self.of("M2P"), M2P_LIMIT * frames),
            ("what else ring 0 keeps at 4 GiB", self.rest(), REST_LIMIT),
        ];
        limits
            .iter()
            .filter(|(_, bytes, limit)| bytes > limit)
            .map(|(what, bytes, limit)| {
                format!("{what} takes {bytes} bytes, more than its limit of {limit}")
            })
            .collect()
    }

    /// The figures in a few words.
    pub fn note(&self) -> String {
        format!(
            "image {} KiB, memory {} KiB beside the tables, {} lines, {} unsafe blocks, {} dependencies",
            self.image_file.div_ceil(1024),
            self.rest() >> 10,
            self.lines().rust,
            self.lines().unsafe_blocks,
            self.others.len()
        )
    }

    fn json(&self) -> serde_json::Value {
        let crates: BTreeMap<_, _> = self
            .crates
            .iter()
            .map(|(name, l)| (name, l.json()))
            .collect();
        json!({
            "image": { "file_bytes": self.image_file, "limit": IMAGE_LIMIT },
            "memory": {
                "machine_bytes": MACHINE_BYTES,
                "bytes": self.memory,
                "rest_bytes": self.rest(),
                "rest_limit": REST_LIMIT,
            },
            "crates": crates,
            "total": self.lines().json(),
            "dependencies": self.others,
            "build_dependencies": self.at_build,
            "complaints": self.complaints(),
        })
    }

    fn show(&self, tree: &Tree) {
        println!("image");
        println!(
            "  file {} KiB (limit {})",
            self.image_file.div_ceil(1024),
            IMAGE_LIMIT >> 10
        );
        println!("memory that ring 0 keeps of 4 GiB, one CPU, in KiB");
        for (name, bytes) in &self.memory {
            println!("  {name:<20} {:>7}", bytes >> 10);
        }
        println!(
            "  frame table {} and M2P {} bytes a frame (limits {FRAME_TABLE_LIMIT} and {M2P_LIMIT}); the rest {} KiB (limit {})",
            self.of("frame table") / (MACHINE_BYTES / PAGE),
            self.of("M2P") / (MACHINE_BYTES / PAGE),
            self.rest() >> 10,
            REST_LIMIT >> 10
        );
        println!("code without comments, blank lines and tests");
        println!(
            "  {:<12} {:>6} {:>9} {:>13} {:>12} {:>12}",
            "crate", "lines", "assembly", "unsafe blocks", "their lines", "unsafe items"
        );
        let total = ("all".to_owned(), self.lines());
        let rows = self
            .crates
            .iter()
            .map(|(name, lines)| (name.clone(), *lines));
        for (name, lines) in rows.chain([total]) {
            println!(
                "  {name:<12} {:>6} {:>9} {:>13} {:>12} {:>12}",
                lines.rust,
                lines.assembly,
                lines.unsafe_blocks,
                lines.unsafe_lines,
                lines.unsafe_items
            );
        }
        println!("dependencies in ring 0 ({})", self.others.len());
        println!("  {}", self.others.join(", "));
        println!(
            "and of their macros, in the compiler ({})",
            self.at_build.len()
        );
        println!("  {}", self.at_build.join(", "));
        println!("\na row for docs/size.md:\n{}", self.row(tree));
    }

    /// The next row of the history.
    fn row(&self, tree: &Tree) -> String {
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            shell::read(command.current_dir(tree.root()).args(arguments))
                .map_or_else(|_| "-".to_owned(), |said| said.trim().to_owned())
        };
        let lines = self.lines();
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            git(&["log", "-1", "--format=%cs"]),
            git(&["log", "-1", "--format=%h"]),
            self.image_file.div_ceil(1024),
            self.rest() >> 10,
            lines.rust,
            lines.assembly,
            lines.unsafe_blocks,
            lines.unsafe_lines,
            self.others.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(image_file: u64, heap: u64) -> Stats {
        let uses = [("frame table", 32 << 20), ("M2P", 8 << 20), ("heap", heap)];
        Stats {
            image_file,
            memory: uses.map(|(name, bytes)| (name.to_owned(), bytes)).into(),
            crates: BTreeMap::new(),
            others: Vec::new(),
            at_build: Vec::new(),
        }
    }

    #[test]
    fn limits_hold_up_to_themselves() {
        assert!(stats(1 << 20, 8 << 20).complaints().is_empty());
        assert_eq!(stats((1 << 20) + 1, 8 << 20).complaints().len(), 1);
        assert_eq!(stats(1 << 20, (8 << 20) + 1).complaints().len(), 1);
    }

    #[test]
    fn an_account_that_is_missing_is_no_zero() {
        let mut stats = stats(0, 0);
        stats.memory.remove("M2P");
        assert_eq!(stats.complaints().len(), 1);
    }
}
