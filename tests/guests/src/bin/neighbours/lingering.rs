//! Domains that are destroyed while the control domain still holds a frame of theirs.

use guest_runtime::abi::DomctlCommand;
use guest_runtime::abi::domctl::XEN_DOMINF_DYING;
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, child, control, events, frames, page_table};
use guests::channels::{self, VIRQ_DOM_EXC};
use guests::lending;

use crate::steps;

/// Destroys a child that is held, looks at what stays, lets it go, and sees it end.
fn destroyed(child: Child, word: impl Fn() -> u64, wanted: u64, let_go: impl FnOnce()) {
    let id = child.id;
    let port = channels::bind_virq(VIRQ_DOM_EXC, 0).unwrap_or(0);
    check!(port > 0, "VIRQ_DOM_EXC is bound");
    check_eq!("destroy", child.destroy(), 0);
    let info = control::info(id).unwrap_or_default();
    check_eq!(
        "it is dying",
        info.flags & XEN_DOMINF_DYING,
        XEN_DOMINF_DYING
    );
    check!(
        (1..=8).contains(&info.tot_pages),
        "of its frames the one that is held stays, and few more"
    );
    check_eq!("the page", word(), wanted);
    // Nothing can be made of it any more.
    for command in [DomctlCommand::Unpausedomain, DomctlCommand::Pausedomain] {
        control::simple(command, id);
    }
    let mut list = [7u64];
    check_eq!(
        "no memory comes",
        control::populate(id, &mut list) <= 0,
        true
    );
    check_eq!("destroy again", control::destroy(id), 0);
    check_eq!("the page", word(), wanted);
    events::clear_port(port);
    let_go();
    check!(builder::is_gone_soon(id), "it is gone");
    // Xen takes it off the list first, and tells later.
    child::wait(&[port], events::now_ns() + 1_000_000_000);
    check_eq!("told that it is gone", events::clear_port(port), true);
    check_eq!("the port is closed", channels::close(port), 0);
}

/// Held by a foreign mapping, writable or not, or by two.
pub fn mapped_by_parent() {
    for (writable, twice) in [(true, false), (false, false), (true, true)] {
        let Some(mut child) = builder::running(Plan::SMALL) else {
            return;
        };
        check_eq!("a step", child.call(|_| 3, [0; 5]), 3);
        let frame = child.mfn(child.unused_page());
        let window = Window::new();
        check_eq!("a mapping", window.show(child.id, frame), 0);
        window.write(4, 0xabcd);
        if !writable {
            let flags = page_table::bits::KERNEL_RO | page_table::bits::NX;
            check_eq!("to read", window.show_as(child.id, frame, flags), 0);
        }
        let second = twice.then(|| {
            let window = Window::new();
            check_eq!("a second one", window.show(child.id, frame), 0);
            window
        });
        destroyed(
            child,
            || window.read(4),
            0xabcd,
            || {
                if let Some(second) = second {
                    second.close();
                }
                window.close();
            },
        );
    }
}

/// Held by a mapping of a grant.
pub fn lent_to_parent() {
    for read_only in [false, true] {
        let Some(mut child) = builder::running(Plan::SMALL) else {
            return;
        };
        child.call(steps::lend, [8, 0, 0x5151, 0, 0]);
        let page = frames::allocate();
        let handle = match lending::map_at(page.va(), child.id, 8, read_only) {
            Ok(handle) => handle,
            Err(status) => {
                check_eq!("map", status, 0);
                return;
            }
        };
        destroyed(
            child,
            || page.read(0),
            0x5151,
            || {
                check_eq!("unmap", lending::unmap(page.va(), handle), 0);
                page_table::unprotect(page);
                frames::release(page);
            },
        );
    }
}
