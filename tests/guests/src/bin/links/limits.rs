//! What a domain was created with it may have, and no more.

use guest_runtime::abi::DOMID_SELF;
use guest_runtime::abi::domctl::Createdomain;
use guest_runtime::abi::errno;
use guest_runtime::abi::grant::*;
use guest_runtime::builder::{self, Plan};
use guest_runtime::{check, check_eq, control, frames};
use guests::lending;

use crate::steps;

pub fn held() {
    let wanted = Createdomain {
        max_evtchn_port: 40,
        max_grant_frames: 2,
        max_maptrack_frames: 1,
        ..control::ordinary(1)
    };
    let Ok(mut child) = builder::build_in(Plan::SMALL, control::create(&wanted)) else {
        check!(false, "a child with limits is built");
        return;
    };
    check_eq!("run", child.run(), 0);
    let size = |frames: i64| frames | 2 << 16;
    let of_itself = [DOMID_SELF, 0, 0, 0, 0];
    check_eq!("its table", child.call(steps::size, of_itself), size(1));
    let set_up = |frames| [DOMID_SELF, frames, 0, 0, 0];
    check_eq!("all", child.call(steps::set_up, set_up(2)), 0);
    let more = child.call(steps::set_up, set_up(3));
    check_eq!("one more", more, i64::from(GNTST_GENERAL_ERROR));
    check_eq!("its table", child.call(steps::size, of_itself), size(2));
    // One frame of storage is for 256 handles.
    let page = frames::allocate();
    for gref in [lending::FIRST, lending::FIRST + 1] {
        lending::lend(gref, child.id, page.mfn(), false);
    }
    let handles = child.call(steps::fill_handles, [0, u64::from(lending::FIRST), 0, 0, 0]);
    check_eq!(
        "handles have an end",
        handles >> 32,
        i64::from(-GNTST_NO_SPACE)
    );
    // Xen keeps a few for itself.
    let count = handles & 0xffff_ffff;
    check!((240..=256).contains(&count), "which is one frame's");
    for gref in [lending::FIRST, lending::FIRST + 1] {
        check_eq!("no bits", lending::take_back(gref), GTF_PERMIT_ACCESS);
    }
    frames::release(page);
    let ports = child.call(steps::fill_ports, [0; 5]);
    check_eq!("the highest port", ports & 0xffff_ffff, 40);
    check_eq!("and no more", ports >> 32, errno::ENOSPC);
    check!(child.destroy_and_wait(), "the child is gone");
}
