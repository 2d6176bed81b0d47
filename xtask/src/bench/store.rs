//! Figures of earlier runs, kept under `target/cache/bench` by everything they depend on: a run with the same inputs
//! would give the same figures (M2), so it need not be made again.

use std::path::PathBuf;

use anyhow::Result;

use crate::bench::machines::Subject;
use crate::shell;
use crate::tree::Tree;

/// Counts by name, in the order in which they were told.
pub type Figures = Vec<(String, u64)>;

/// The count of a name.
pub fn find(figures: &Figures, name: &str) -> Option<u64> {
    let mut all = figures.iter();
    all.find(|(other, _)| other == name)
        .map(|(_, count)| *count)
}

/// What one kind of run found on one machine; `make` is called when there is nothing kept or `fresh` asks for it.
///
/// # Errors
/// As `make`, and when the tree cannot be read or written.
pub fn figures(
    what: &str,
    subject: &Subject<'_>,
    fresh: bool,
    make: impl FnOnce() -> Result<Figures>,
) -> Result<Figures> {
    let file = file(subject.tree, what, subject.fingerprint()?);
    if !fresh
        && let Ok(kept) = std::fs::read(&file)
        && let Ok(figures) = serde_json::from_slice(&kept)
    {
        return Ok(figures);
    }
    let figures = make()?;
    shell::write_if_changed(&file, &serde_json::to_vec_pretty(&figures)?)?;
    Ok(figures)
}

fn file(tree: &Tree, what: &str, fingerprint: u64) -> PathBuf {
    tree.cache()
        .join("bench")
        .join(format!("{what}-{fingerprint:016x}.json"))
}
