//! Completion scripts and manual pages, from the same source as the help texts.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Arguments;
use crate::failure::Failure;
use crate::show::out;

/// Prints the script.
///
/// # Errors
/// When nobody reads it.
pub fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "xeno", &mut script);
    out(script)
}

/// Writes `xeno.1`, and a page for each verb.
///
/// # Errors
/// When a page cannot be written.
pub fn manual(directory: &Path) -> Result<(), Failure> {
    let write = |error| Failure::io(format!("{} cannot be written", directory.display()))(error);
    std::fs::create_dir_all(directory).map_err(write)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(write)
}
