//! A guest's end of the store: one request at a time on the ring that the domain was built with.
//!
//! There are no watches: what a guest waits for it reads again and again.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_runtime::abi::Wire;
use guest_runtime::abi::xenstore::{
    XENSTORE_RING_SIZE, XenstoreDomainInterface, XsdMessage, XsdSockmsg,
};
use guest_runtime::entry::start_info;
use guest_runtime::frames::{Page, mfn_to_pfn};
use guest_runtime::{child, events, hypercall};

/// Bytes of an answer that are kept; what is longer is cut off.
const KEPT: usize = 256;

/// Bytes of a message's header.
const HEADER: usize = <XsdSockmsg as Wire>::SIZE;

/// What the store answered.
pub struct Answer {
    kind: u32,
    bytes: [u8; KEPT],
    length: usize,
}

impl Answer {
    /// The text; of an error its name, as `EACCES`.
    pub fn text(&self) -> &str {
        let text = self.bytes.get(..self.length).unwrap_or_default();
        let text = text.strip_suffix(b"\0").unwrap_or(text);
        core::str::from_utf8(text).unwrap_or("?")
    }

    /// Whether the request was refused.
    pub fn is_error(&self) -> bool {
        self.kind == XsdMessage::Error.number()
    }

    /// The number that the text is.
    pub fn number(&self) -> Option<u64> {
        (!self.is_error())
            .then(|| self.text().parse().ok())
            .flatten()
    }
}

/// Reads a node.
pub fn read(path: &str) -> Answer {
    request(XsdMessage::Read, &[path.as_bytes(), b"\0"])
}

/// Writes a node.
pub fn write(path: &str, value: &str) -> Answer {
    request(
        XsdMessage::Write,
        &[path.as_bytes(), b"\0", value.as_bytes()],
    )
}

/// Writes a node with a number.
pub fn write_number(path: &str, value: u32) -> Answer {
    let mut digits = [0; 10];
    write(path, decimal(value, &mut digits))
}

/// Removes a node.
pub fn remove(path: &str) -> Answer {
    request(XsdMessage::Rm, &[path.as_bytes(), b"\0"])
}

/// A number in digits.
fn decimal(mut value: u32, digits: &mut [u8; 10]) -> &str {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    core::str::from_utf8(&digits[start..]).unwrap_or("0")
}

fn request(kind: XsdMessage, pieces: &[&[u8]]) -> Answer {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let header = XsdSockmsg {
        kind: kind.number(),
        len: length as u32,
        ..XsdSockmsg::ZERO
    };
    let mut head = [0; HEADER];
    let fits = header.write_to(&mut head);
    assert!(fits.is_some(), "a header has its own size");
    send(&head);
    for piece in pieces {
        send(piece);
    }
    hypercall::send(start_info().store_evtchn);
    receive(&mut head);
    let header = XsdSockmsg::read_from(&head).unwrap_or_default();
    let mut answer = Answer {
        kind: header.kind,
        bytes: [0; KEPT],
        length: (header.len as usize).min(KEPT),
    };
    for at in 0..header.len as usize {
        let mut byte = [0];
        receive(&mut byte);
        if let Some(place) = answer.bytes.get_mut(at) {
            *place = byte[0];
        }
    }
    hypercall::send(start_info().store_evtchn);
    answer
}

/// Address of the store's page.
fn page() -> u64 {
    let pfn = mfn_to_pfn(start_info().store_mfn);
    Page { pfn }.va()
}

fn index(offset: usize) -> &'static AtomicU32 {
    // SAFETY: the domain was built with this page as its store's; the other end changes it like another thread would.
    unsafe { AtomicU32::from_ptr((page() as *mut u32).byte_add(offset)) }
}

/// Puts bytes on the ring, waiting where it is full.
fn send(bytes: &[u8]) {
    let (read, written) = (
        index(offset_of!(XenstoreDomainInterface, req_cons)),
        index(offset_of!(XenstoreDomainInterface, req_prod)),
    );
    for &byte in bytes {
        let at = written.load(Ordering::SeqCst);
        wait_until(|| at.wrapping_sub(read.load(Ordering::SeqCst)) < XENSTORE_RING_SIZE);
        let offset = offset_of!(XenstoreDomainInterface, req) + (at % XENSTORE_RING_SIZE) as usize;
        // SAFETY: in the ring's array.
        unsafe { (page() as *mut u8).add(offset).write_volatile(byte) };
        written.store(at.wrapping_add(1), Ordering::SeqCst);
    }
}

/// Takes bytes off the ring, waiting where it is empty.
fn receive(bytes: &mut [u8]) {
    let (read, written) = (
        index(offset_of!(XenstoreDomainInterface, rsp_cons)),
        index(offset_of!(XenstoreDomainInterface, rsp_prod)),
    );
    for byte in bytes {
        let at = read.load(Ordering::SeqCst);
        wait_until(|| written.load(Ordering::SeqCst) != at);
        let offset = offset_of!(XenstoreDomainInterface, rsp) + (at % XENSTORE_RING_SIZE) as usize;
        // SAFETY: in the ring's array.
        *byte = unsafe { (page() as *const u8).add(offset).read_volatile() };
        read.store(at.wrapping_add(1), Ordering::SeqCst);
    }
}

/// Sleeps until the store has moved.
fn wait_until(holds: impl Fn() -> bool) {
    let port = start_info().store_evtchn;
    while !holds() {
        hypercall::send(port);
        // Cleared before it is looked at again: what comes in between wakes the sleep.
        events::clear_port(port);
        if !holds() {
            child::wait(&[port], 0);
        }
    }
}
