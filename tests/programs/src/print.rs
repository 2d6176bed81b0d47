//! Lines on standard output and standard error.
//!
//! Each line is put together in a buffer and written by one system call, so that lines of several processes do not
//! mix; what does not fit is written in pieces.

use crate::sys;
use core::fmt::{self, Write};

/// Standard output.
pub const OUTPUT: i32 = 1;
/// Standard error.
pub const ERROR: i32 = 2;

struct Line {
    file: i32,
    bytes: [u8; 512],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        let mut rest = &self.bytes[..self.used];
        while !rest.is_empty() {
            // Nobody is left to hear that a line could not be written.
            let Ok(written) = sys::write(self.file, rest) else {
                break;
            };
            rest = rest.get(written..).unwrap_or_default();
        }
        self.used = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Writes one line; `say!` and `complain!` call it.
pub fn line(file: i32, arguments: fmt::Arguments<'_>) {
    let mut line = Line {
        file,
        bytes: [0; 512],
        used: 0,
    };
    // A line never fails to take text.
    let _ = line.write_fmt(arguments);
    let _ = line.write_str("\n");
    line.flush();
}

/// Prints a line on standard output.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::print::line($crate::print::OUTPUT, format_args!($($argument)*)) };
}

/// Prints a line on standard error.
#[macro_export]
macro_rules! complain {
    ($($argument:tt)*) => { $crate::print::line($crate::print::ERROR, format_args!($($argument)*)) };
}
