//! The console: lines by `console_io`, one hypercall a line; in an ordinary domain through the ring that the domain was
//! built with.

use core::fmt::{self, Write};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::abi::{XenconsInterface, nr, sched};
use crate::entry::start_info;
use crate::frames::{Page, mfn_to_pfn};
use crate::{child, events, hypercall};

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

/// Bytes of the ring towards the console, and from it.
const RING: u32 = 2048;
const INPUT: u32 = 1024;

/// Address of the domain's console ring.
fn ring() -> u64 {
    Page {
        pfn: mfn_to_pfn(start_info().console_mfn),
    }
    .va()
}

/// An index of the ring at this address.
fn ring_word(ring: u64, offset: usize) -> &'static AtomicU32 {
    // SAFETY: the domain was built with this page as its console's; the other end changes it like another thread would.
    unsafe { AtomicU32::from_ptr((ring as *mut u32).byte_add(offset)) }
}

/// Writes into the domain's console ring. A full one is waited for: nobody else would say what was lost.
pub(crate) fn write_ring(bytes: &[u8]) {
    let info = start_info();
    let ring = ring();
    let (consumer, producer) = (
        ring_word(ring, offset_of!(XenconsInterface, out_cons)),
        ring_word(ring, offset_of!(XenconsInterface, out_prod)),
    );
    for &byte in bytes {
        let at = producer.load(Ordering::SeqCst);
        while at.wrapping_sub(consumer.load(Ordering::SeqCst)) >= RING {
            hypercall::send(info.console_evtchn);
            hypercall::call(nr::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]);
        }
        let offset = offset_of!(XenconsInterface, out) + (at % RING) as usize;
        // SAFETY: in the ring's array.
        unsafe { (ring as *mut u8).add(offset).write_volatile(byte) };
        producer.store(at.wrapping_add(1), Ordering::SeqCst);
    }
    hypercall::send(info.console_evtchn);
}

/// Reads a line from an ordinary domain's console, sleeping until it is there: up to carriage return or newline, which is
/// not part of it. What does not fit is lost. What was typed is shown.
pub fn read_line(line: &mut [u8]) -> &[u8] {
    let mut used = 0usize;
    loop {
        match read_byte() {
            b'\r' | b'\n' => break,
            // Backspace, as terminals send it.
            0x7f | 0x08 => used = used.saturating_sub(1),
            byte => {
                if let Some(place) = line.get_mut(used) {
                    *place = byte;
                    used += 1;
                    write_ring(&[byte]);
                }
            }
        }
    }
    write_ring(b"\n");
    &line[..used]
}

fn read_byte() -> u8 {
    let info = start_info();
    let ring = ring();
    let (consumer, producer) = (
        ring_word(ring, offset_of!(XenconsInterface, in_cons)),
        ring_word(ring, offset_of!(XenconsInterface, in_prod)),
    );
    let at = consumer.load(Ordering::SeqCst);
    while producer.load(Ordering::SeqCst) == at {
        // Cleared before it is looked at again: what comes in between wakes the sleep.
        events::clear_port(info.console_evtchn);
        if producer.load(Ordering::SeqCst) == at {
            child::wait(&[info.console_evtchn], 0);
        }
    }
    let offset = offset_of!(XenconsInterface, input) + (at % INPUT) as usize;
    // SAFETY: in the ring's array.
    let byte = unsafe { (ring as *const u8).add(offset).read_volatile() };
    consumer.store(at.wrapping_add(1), Ordering::SeqCst);
    hypercall::send(info.console_evtchn);
    byte
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
