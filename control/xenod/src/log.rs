//! The daemon's own log: lines on standard error, where whoever starts it wants them.

use std::fmt::Display;
use std::io::Write;

/// Writes a line. A log that cannot be written is no reason to stop.
pub fn line(words: impl Display) {
    let _nowhere_to_write = writeln!(std::io::stderr(), "xenod: {words}");
}
