//! Wrong ends, wrong grants, wrong ports: each has its error, and nothing is changed.

use crate::bench::{Bench, ECHO, GREF, LENT, attach, detach, untouched};
use guest_runtime::abi::ends::echo_ring::RESPONSES;
use guest_runtime::abi::grant::*;
use guest_runtime::abi::xeno::AttachEnd;
use guest_runtime::abi::{DOMID_SELF, HOLE_START, errno, nr};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, page_table};
use guests::channels::{alloc_unbound, bind_interdomain, bind_ipi, close, notify};
use guests::{accepted, lending};

/// No end.
const NO_END: [u16; 6] = [0, 1, 0x7fdf, ECHO + 1, 0x7fef, DOMID_SELF as u16];

pub fn all(bench: &Bench) {
    wrong_ends(bench);
    wrong_grants(bench);
    wrong_ports(bench);
    by_other_means(bench);
}

fn wrong_ends(bench: &Bench) {
    for end in NO_END {
        let mut want = AttachEnd {
            end,
            ..bench.wanted()
        };
        check_eq!("no end of this number", attach(&mut want), -errno::ENODEV);
    }
    for version in [0, 2, u32::MAX] {
        let mut want = AttachEnd {
            version,
            ..bench.wanted()
        };
        check_eq!("no such version", attach(&mut want), -errno::EINVAL);
    }
    for nr_grefs in [0, 2, 4, 5, u32::MAX] {
        let mut want = AttachEnd {
            nr_grefs,
            ..bench.wanted()
        };
        check_eq!("not one frame", attach(&mut want), -errno::EINVAL);
    }
    for domid in [1, 0x7fdf, ECHO, 0x7ff1, 0x7ff4, 0xffff] {
        let mut want = AttachEnd {
            domid,
            ..bench.wanted()
        };
        check_eq!("no such domain", attach(&mut want), -errno::ESRCH);
        let gone = detach(domid, bench.port);
        check_eq!("no such domain to detach", gone, -errno::ESRCH);
    }
    for address in [0, HOLE_START, u64::MAX - 7] {
        for command in [8, 9] {
            let result = call(nr::XENO_OP, [command, address, 0, 0, 0]);
            check_eq!("an argument nowhere", result, -errno::EFAULT);
        }
    }
    check_eq!("none is attached", detach(0, bench.port), -errno::EINVAL);
    untouched(bench);
}

fn wrong_grants(bench: &Bench) {
    let data = bench.ring.mfn();
    let root = page_table::root().mfn();
    let cases = [
        (0, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT | GTF_READONLY, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT, 0, data, GNTST_GENERAL_ERROR),
        (LENT, ECHO + 1, data, GNTST_GENERAL_ERROR),
        (LENT, DOMID_SELF as u16, data, GNTST_GENERAL_ERROR),
        (GTF_ACCEPT_TRANSFER, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT | GTF_SUB_PAGE, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT, ECHO, root, GNTST_GENERAL_ERROR),
        (LENT, ECHO, 0xfff_ffff, GNTST_BAD_PAGE),
        (LENT, ECHO, 0xfee00, GNTST_BAD_PAGE),
    ];
    for (flags, domain, frame, status) in cases {
        lending::set(GREF, flags, domain, frame);
        let mut want = bench.wanted();
        check_eq!("a grant not for it", attach(&mut want), -errno::EACCES);
        check_eq!("why", (want.refused, want.status), (0, status));
        untouched(bench);
    }
    lending::set(GREF, LENT, ECHO, data);
    for gref in [512, 100_000, u32::MAX] {
        let mut want = bench.wanted();
        want.grefs[0] = gref;
        check_eq!("beyond the table", attach(&mut want), -errno::EACCES);
        check_eq!("why", want.status, GNTST_BAD_GNTREF);
    }
    untouched(bench);
}

fn wrong_ports(bench: &Bench) {
    let (Ok(ipi), Ok(other)) = (bind_ipi(0), alloc_unbound(0)) else {
        check!(false, "two ports");
        return;
    };
    for port in [0, ipi, other, 300, 4095, 4096, u32::MAX] {
        let mut want = AttachEnd {
            port,
            ..bench.wanted()
        };
        check_eq!("not a port for it", attach(&mut want), -errno::EINVAL);
        check_eq!("nor attached", detach(0, port), -errno::EINVAL);
        untouched(bench);
    }
    accepted("close", close(ipi));
    accepted("close", close(other));
}

/// An end is a domain for ports and grants only.
fn by_other_means(bench: &Bench) {
    let bound = bind_interdomain(u64::from(ECHO), 1);
    check_eq!("bind to an end's port", bound, Err(-errno::ESRCH));
    accepted("unheard", notify(bench.port));
    check_eq!("nobody answers", bench.get(RESPONSES), 0);
    untouched(bench);
}
