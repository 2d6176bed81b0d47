//! Versions, sizes, the list of the table's frames, and counts and lists that no kernel would use.

use crate::bench::{NOBODY, SELF, many};
use guest_runtime::abi::grant::*;
use guest_runtime::abi::{HOLE_START, errno, nr};
use guest_runtime::{check, check_eq, hypercall};
use guests::accepted;
use guests::lending::op;

/// Answers with the table's first frame.
pub fn all() -> u64 {
    versions();
    let frame = set_up();
    arguments();
    frame
}

fn versions() {
    let mut version = GetVersion {
        dom: SELF,
        ..GetVersion::ZERO
    };
    accepted("get_version", op(10, &mut version));
    check_eq!("version", version.version, 1);
    version.dom = NOBODY;
    check_eq!("get_version of nobody", op(10, &mut version), -errno::ESRCH);
    for (wanted, result) in [(1u32, 0), (0, -errno::EINVAL), (3, -errno::EINVAL)] {
        let mut version = wanted;
        check_eq!("set_version", op(8, &mut version), result);
        check_eq!("the version in force", version, 1);
    }
}

fn query(domain: u16) -> QuerySize {
    let mut size = QuerySize {
        dom: domain,
        ..QuerySize::ZERO
    };
    accepted("query_size", op(6, &mut size));
    size
}

fn list(domain: u16, frames: u32, list: u64) -> (i64, i16) {
    let mut setup = SetupTable {
        dom: domain,
        nr_frames: frames,
        frame_list: list,
        status: 99,
        ..SetupTable::ZERO
    };
    (op(2, &mut setup), setup.status)
}

fn set_up() -> u64 {
    let size = query(SELF);
    check_eq!(
        "size at the start",
        (size.status, size.nr_frames, size.max_nr_frames),
        (GNTST_OKAY, 1, 64)
    );
    for domain in [NOBODY, 0x7ff1, 0x7ff4] {
        check_eq!("size of nobody's", query(domain).status, GNTST_BAD_DOMAIN);
    }
    let mut frames = [0u64; 66];
    let at = frames.as_mut_ptr() as u64;
    check_eq!("no frames", list(SELF, 0, at), (0, GNTST_OKAY));
    check_eq!("three frames", list(0, 3, at), (0, GNTST_OKAY));
    check_eq!("size now", query(SELF).nr_frames, 3);
    let three = frames;
    check!(
        three[..3].iter().all(|frame| *frame != 0) && three[3] == 0,
        "three are listed"
    );
    frames[1] = 7;
    check_eq!("two of them", list(SELF, 2, at), (0, GNTST_OKAY));
    check_eq!("the same ones", frames[..2] == three[..2], true);
    check_eq!("the table does not shrink", query(SELF).nr_frames, 3);
    for (domain, count, status) in [
        (NOBODY, 1, GNTST_BAD_DOMAIN),
        (SELF, 65, GNTST_GENERAL_ERROR),
        (SELF, u32::MAX, GNTST_GENERAL_ERROR),
    ] {
        check_eq!(
            "set-up that is refused",
            list(domain, count, at),
            (0, status)
        );
    }
    check_eq!("a list nowhere", list(SELF, 1, 0), (0, GNTST_BAD_VIRT_ADDR));
    check_eq!(
        "a list of ours",
        list(SELF, 1, HOLE_START),
        (-errno::EFAULT, 99)
    );
    three[0]
}

/// Counts and lists that no kernel would use.
fn arguments() {
    let mut query = QuerySize::ZERO;
    for (operation, result) in [
        (2, -errno::EINVAL),
        (6, -errno::EINVAL),
        (0, 0),
        (1, 0),
        (5, 0),
    ] {
        check_eq!("nothing", many(operation, &mut query, 0), result);
    }
    check_eq!("two sizes", many(6, &mut query, 2), -errno::EINVAL);
    for operation in [0, 1, 2, 5, 6, 11] {
        check_eq!(
            "2^31 of it",
            many(operation, &mut query, 1 << 31),
            -errno::EINVAL
        );
        let call = |list| hypercall::call(nr::GRANT_TABLE_OP, [operation, list, 1, 0, 0]);
        check_eq!("a list that is nowhere", call(0), -errno::EFAULT);
        check_eq!(
            "a list of the hypervisor's",
            call(HOLE_START),
            -errno::EFAULT
        );
    }
    check_eq!("no such operation", many(13, &mut query, 1), -errno::ENOSYS);
}
