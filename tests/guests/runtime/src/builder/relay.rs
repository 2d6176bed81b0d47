//! What a child prints, on the machine's console: whole lines, the child's number before each.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::abi::XenconsInterface;
use crate::say;
use crate::window::Window;

/// Bytes of a line that are kept; a longer one is printed in parts.
const LINE: usize = 200;

/// The control domain's end of a child's console ring.
pub struct Relay {
    child: u16,
    window: Window,
    line: [u8; LINE],
    used: usize,
    /// Lines are taken and not printed.
    pub quiet: bool,
}

impl Relay {
    /// The ring shown by a window.
    pub fn new(child: u16, window: Window) -> Self {
        Self {
            child,
            window,
            line: [0; LINE],
            used: 0,
            quiet: false,
        }
    }

    fn index(&self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: a word of the page that the window shows; the child changes it like another thread would.
        unsafe { AtomicU32::from_ptr((self.window.va() as *mut u32).byte_add(offset)) }
    }

    fn byte(&self, index: u32) -> u8 {
        let size = size_of::<[u8; 2048]>() as u32;
        let offset = offset_of!(XenconsInterface, out) + (index % size) as usize;
        // SAFETY: as `index`.
        unsafe { AtomicU8::from_ptr((self.window.va() as *mut u8).add(offset)) }
            .load(Ordering::Relaxed)
    }

    /// Prints what has come; whether anything had.
    pub fn drain(&mut self) -> bool {
        let consumer = self.index(offset_of!(XenconsInterface, out_cons));
        let from = consumer.load(Ordering::SeqCst);
        let end = self
            .index(offset_of!(XenconsInterface, out_prod))
            .load(Ordering::SeqCst);
        // A child may write anything there: at most one ring full is read.
        for at in 0..end.wrapping_sub(from).min(2048) {
            match self.byte(from.wrapping_add(at)) {
                b'\n' => self.print(),
                byte => {
                    if self.used == LINE {
                        self.print();
                    }
                    self.line[self.used] = byte;
                    self.used += 1;
                }
            }
        }
        consumer.store(end, Ordering::SeqCst);
        end != from
    }

    /// Types what fits into the child's ring.
    pub fn type_in(&mut self, text: &[u8]) {
        let producer = self.index(offset_of!(XenconsInterface, in_prod));
        let consumer = self.index(offset_of!(XenconsInterface, in_cons));
        for byte in text {
            let at = producer.load(Ordering::SeqCst);
            if at.wrapping_sub(consumer.load(Ordering::SeqCst)) >= 1024 {
                return;
            }
            let offset = offset_of!(XenconsInterface, input) + (at % 1024) as usize;
            // SAFETY: as `index`.
            unsafe { AtomicU8::from_ptr((self.window.va() as *mut u8).add(offset)) }
                .store(*byte, Ordering::SeqCst);
            producer.store(at.wrapping_add(1), Ordering::SeqCst);
        }
    }

    fn print(&mut self) {
        if self.quiet {
            self.used = 0;
            return;
        }
        let text = core::str::from_utf8(&self.line[..self.used]).unwrap_or("(not text)");
        say!("[{}] {text}", self.child);
        self.used = 0;
    }

    /// Gives the window back.
    pub fn close(mut self) {
        if self.used > 0 {
            self.print();
        }
        self.window.close();
    }
}
