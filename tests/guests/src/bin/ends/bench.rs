//! A ring that is lent to the echo end, the port to it, and what is asked and answered over them.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;

use guest_runtime::abi::ends::DOMID_ECHO;
use guest_runtime::abi::ends::echo_ring::{
    FIRST_REQUEST, FIRST_RESPONSE, REQUESTS, RESPONSES, SLOT_BYTES, SLOTS,
};
use guest_runtime::abi::grant::*;
use guest_runtime::abi::xeno::{
    AttachEnd, Audit, DetachEnd, MAX_END_PAGES, XENO_INTERFACE_VERSION, XenoCommand,
};
use guest_runtime::abi::{DOMID_SELF, nr};
use guest_runtime::frames::Page;
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, events};
use guests::channels::{kind, notify};
use guests::{accepted, lending};

pub const ECHO: u16 = DOMID_ECHO;
/// The entry that lends the ring.
pub const GREF: u32 = 8;
pub const BITS: u16 = GTF_READING | GTF_WRITING;
pub const LENT: u16 = GTF_PERMIT_ACCESS;

/// The ring and where the guest stands.
pub struct Bench {
    pub ring: Page,
    pub port: u32,
}

fn half(page: Page, offset: usize) -> &'static AtomicU32 {
    // SAFETY: a page of ours, mapped for good; callers give an aligned offset in it.
    unsafe { AtomicU32::from_ptr((page.va() as *mut u32).add(offset / 4)) }
}

/// A word of the question of this index.
fn question(index: u32, word: usize) -> u64 {
    u64::from(index) << 32 | (word as u64 + 7)
}

impl Bench {
    /// The ring's word at this offset.
    pub fn get(&self, offset: usize) -> u32 {
        half(self.ring, offset).load(SeqCst)
    }

    /// Sets it.
    pub fn put(&self, offset: usize, value: u32) {
        half(self.ring, offset).store(value, SeqCst);
    }

    fn word(at: usize, slot: u32, word: usize) -> usize {
        (at + (slot % SLOTS) as usize * SLOT_BYTES) / 8 + word
    }

    /// Asks `count` questions, each six words that name it; the index that answers will have.
    pub fn ask(&self, count: u32) -> u32 {
        let first = self.get(REQUESTS);
        for index in 0..count {
            let index = first.wrapping_add(index);
            for word in 0..SLOT_BYTES / 8 {
                let value = question(index, word);
                self.ring
                    .write(Self::word(FIRST_REQUEST, index, word), value);
            }
        }
        self.put(REQUESTS, first.wrapping_add(count));
        first.wrapping_add(count)
    }

    /// Whether the last `count` answers before this index are those to the questions.
    pub fn answered(&self, index: u32, count: u32) -> bool {
        self.get(RESPONSES) == index
            && (0..count).all(|back| {
                let index = index.wrapping_sub(back + 1);
                (0..SLOT_BYTES / 8).all(|word| {
                    let got = self.ring.read(Self::word(FIRST_RESPONSE, index, word));
                    got == question(index, word)
                })
            })
    }

    /// Asks, and has all answered with one event.
    pub fn round(&self, what: &str, count: u32) {
        let index = self.ask(count);
        accepted(what, notify(self.port));
        check!(self.answered(index, count), what);
        check!(events::clear_port(self.port), what);
    }

    /// What attaches the echo end to the ring and the port.
    pub fn wanted(&self) -> AttachEnd {
        let mut grefs = [0; MAX_END_PAGES];
        grefs[0] = GREF;
        AttachEnd {
            version: XENO_INTERFACE_VERSION,
            domid: DOMID_SELF as u16,
            end: ECHO,
            port: self.port,
            nr_grefs: 1,
            grefs,
            ..AttachEnd::ZERO
        }
    }

    pub fn attach(&self) -> i64 {
        attach(&mut self.wanted())
    }
}

pub fn attach(want: &mut AttachEnd) -> i64 {
    let command = u64::from(XenoCommand::AttachEnd.number());
    call(nr::XENO_OP, [command, &raw mut *want as u64, 0, 0, 0])
}

pub fn detach(domid: u16, port: u32) -> i64 {
    let mut want = DetachEnd {
        version: XENO_INTERFACE_VERSION,
        domid,
        port,
        ..DetachEnd::ZERO
    };
    let command = u64::from(XenoCommand::DetachEnd.number());
    call(nr::XENO_OP, [command, &raw mut want as u64, 0, 0, 0])
}

/// The audit of our own counts, none of which is wrong.
pub fn audit() -> Audit {
    let mut audit = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        ..Audit::ZERO
    };
    let at = &raw mut audit as u64;
    accepted("audit", call(nr::XENO_OP, [0, at, 0, 0, 0]));
    check_eq!("no count is wrong", audit.mismatches, 0);
    audit
}

/// That nothing was changed by a refusal.
pub fn untouched(bench: &Bench) {
    check_eq!("the port waits", kind(bench.port), 1);
    check_eq!("no bits", lending::flags(GREF) & BITS, 0);
}
