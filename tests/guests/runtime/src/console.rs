//! The console: lines by `console_io`, one hypercall a line.

use core::fmt::{self, Write};

use crate::hypercall;

/// A line being built. What does not fit is cut off; a line is never longer than its buffer.
pub struct Line {
    bytes: [u8; 240],
    used: usize,
}

impl Line {
    const fn new() -> Self {
        Self {
            bytes: [0; 240],
            used: 0,
        }
    }

    fn flush(&mut self) {
        hypercall::console_write(&self.bytes[..self.used]);
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

/// Prints the arguments and a newline.
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // Writing to a `Line` cannot fail.
    let _ = line.write_fmt(arguments);
    let _ = line.write_str("\n");
    line.flush();
}

/// Prints one line to the console.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => { $crate::console::print_line(format_args!($($argument)*)) };
}
