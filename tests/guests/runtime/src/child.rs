//! The inside of a child: a domain that a test guest built of its own image (see [`crate::builder`]).
//!
//! It starts like any guest of this runtime, with its data as the linker made it, and then serves its parent's steps:
//! `GUEST FAIL` lines it prints reach the machine's console through its parent, and end the test.

use crate::abi::{DOMID_SELF, Poll, ShutdownReason, StartInfo, sched};
use crate::entry::start_info;
use crate::link::{self, Link};
use crate::{Global, check, events, hypercall};

static LINK: Global<Option<Link>> = Global::new(None);

/// The page shared with the parent; `None` in a guest that has no parent of this runtime.
pub fn link() -> Option<Link> {
    LINK.get()
}

/// Our end of the port to the parent.
pub fn port() -> u32 {
    LINK.get().map_or(0, |link| link.get(link::PORT) as u32)
}

/// The parent's domain id.
pub fn parent() -> u64 {
    LINK.get().map_or(DOMID_SELF, |link| link.get(link::PARENT))
}

/// Whether this guest was built by [`crate::builder`]: its parent gives the shared page where others have a module.
pub(crate) fn find(info: &StartInfo) -> Option<Link> {
    if info.mod_start == 0 || info.mod_len != 4096 {
        return None;
    }
    let found = Link {
        address: info.mod_start,
    };
    (found.get(link::MAGIC) == link::MAGIC_VALUE).then_some(found)
}

/// Runs what the parent chose, and ends.
pub(crate) fn main(found: Link) -> ! {
    LINK.set(Some(found));
    let (address, length) = (found.get(link::NAME), found.get(link::NAME + 1));
    // SAFETY: the parent wrote where a string of the image lies that both run.
    let name = unsafe {
        core::str::from_utf8_unchecked(core::slice::from_raw_parts(
            address as *const u8,
            length as usize,
        ))
    };
    check::set_name(name);
    let entry = found.get(link::ENTRY) as usize;
    // SAFETY: the parent wrote the address of such a function of the image that both run.
    let entry = unsafe { core::mem::transmute::<usize, fn()>(entry) };
    entry();
    let reason = match check::failures() {
        0 => ShutdownReason::Poweroff,
        _ => ShutdownReason::Crash,
    };
    hypercall::shutdown(reason)
}

/// Does the parent's steps, one after the other, for ever.
pub fn serve() {
    let link = link().expect("only children serve");
    loop {
        events::clear_port(port());
        match link.asked() {
            Some((step, arguments)) => {
                link.done(step(arguments));
                hypercall::send(port());
            }
            None => {
                wait(&[port()], 0);
            }
        }
    }
}

/// Sleeps until one of the ports is pending, or until `deadline` (system time; 0 is never).
pub fn wait(ports: &[u32], deadline: u64) -> i64 {
    let mut poll = Poll {
        ports: ports.as_ptr() as u64,
        nr_ports: ports.len() as u32,
        timeout: deadline,
        ..Poll::default()
    };
    hypercall::sched_op(sched::POLL, &mut poll)
}

/// Whether this guest is an ordinary domain: its console is a ring, and much is refused to it.
pub fn is_ordinary() -> bool {
    start_info().flags & crate::abi::SIF_INITDOMAIN == 0
}
