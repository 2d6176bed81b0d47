//! What the control domain does with another's table and ports, and nobody else.

use guest_runtime::abi::event::Reset;
use guest_runtime::abi::grant::*;
use guest_runtime::abi::{DOMID_SELF, errno, evtchn};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::hypercall::event_channel;
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, control, frames};
use guests::{accepted, lending};

use crate::{GREF, id, steps, with_two};

pub fn all() {
    with_two(|a, b| {
        refused(a, b);
        table(a);
    });
    ports();
}

/// An ordinary domain asks its neighbour's table, and nobody's.
fn refused(a: &mut Child, b: &Child) {
    let denied = i64::from(-GNTST_PERMISSION_DENIED) << 32;
    // Xen tells anybody whether there is such a domain.
    let nobody = match control::is_ours() {
        true => denied,
        false => i64::from(-GNTST_BAD_DOMAIN) << 32,
    };
    for (domain, wanted) in [
        (id(b), denied),
        (0, denied),
        (4711, nobody),
        (0x7fe0, nobody),
        (0x7ff4, nobody),
    ] {
        let one = [domain, 1, 0, 0, 0];
        check_eq!("another's size", a.call(steps::size, one), wanted);
        let status = a.call(steps::set_up, one);
        check_eq!("another's frames", -status << 32, wanted);
    }
    check_eq!(
        "its own size",
        a.call(steps::size, [id(a), 0, 0, 0, 0]) & 0xffff,
        1
    );
}

/// The control domain has a child's table listed, maps it, and lends in the child's name what it then borrows.
fn table(child: &mut Child) {
    check_eq!("size", steps::size([id(child), 0, 0, 0, 0]) & 0xffff, 1);
    check_eq!("grow", steps::set_up([id(child), 2, 0, 0, 0]), 0);
    check_eq!(
        "seen by itself",
        child.call(steps::size, [DOMID_SELF, 0, 0, 0, 0]) & 0xffff,
        2
    );
    let mut version = GetVersion {
        dom: child.id,
        ..GetVersion::ZERO
    };
    accepted("version", lending::op(10, &mut version));
    check_eq!("version", version.version, 1);
    let mut list = [0u64; 2];
    let mut setup = SetupTable {
        dom: child.id,
        nr_frames: 1,
        frame_list: list.as_mut_ptr() as u64,
        ..SetupTable::ZERO
    };
    accepted("list", lending::op(2, &mut setup));
    let window = Window::new();
    check_eq!("its table is mapped", window.show(child.id, list[0]), 0);
    let frame = child.call(steps::frame, [0; 5]) as u64;
    child.call(steps::write, [0, 0, 4242, 0, 0]);
    window.write(GREF as usize, u64::from(GTF_PERMIT_ACCESS) | frame << 32);
    let borrowed = frames::allocate();
    let handle = lending::map_at(borrowed.va(), child.id, GREF as u32, false);
    check!(handle.is_ok(), "what was lent in its name");
    check_eq!("its word", borrowed.read(0), 4242);
    check!(window.read(GREF as usize) & 0x18 == 0x18, "the bits");
    check_eq!(
        "unmap",
        lending::unmap(borrowed.va(), handle.unwrap_or(0)),
        0
    );
    check_eq!("no bits", window.read(GREF as usize) & 0x18, 0);
    guest_runtime::page_table::unprotect(borrowed);
    frames::release(borrowed);
    window.close();
}

/// A paused child's ports are all closed; a running one's not.
fn ports() {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    let port = child.call(steps::open, [0; 5]) as u64;
    let mut reset = Reset { dom: child.id };
    let result = event_channel(evtchn::RESET, &mut reset);
    check_eq!("while it runs", result, -errno::EINVAL);
    check_eq!("its port", child.call(steps::kind, [port, 0, 0, 0, 0]), 1);
    check_eq!("pause", child.pause(), 0);
    accepted(
        "while it is paused",
        event_channel(evtchn::RESET, &mut reset),
    );
    let mut status = guest_runtime::abi::event::Status {
        dom: child.id,
        port: port as u32,
        ..Default::default()
    };
    accepted("status", event_channel(evtchn::STATUS, &mut status));
    check_eq!("its port is closed", status.status, 0);
    check_eq!("ours waits for it", guests::channels::kind(child.port()), 1);
    for domain in [4711, 0x7fe0, 0x7ff4] {
        let mut nobody = Reset { dom: domain };
        let result = event_channel(evtchn::RESET, &mut nobody);
        check_eq!("nobody's", result, -errno::ESRCH);
    }
    check!(child.destroy_and_wait(), "the child is gone");
}
