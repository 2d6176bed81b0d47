//! Ports and grants of others.

use guest_runtime::abi::event::{AllocUnbound, BindPirq, Reset, Status};
use guest_runtime::abi::grant::{GetVersion, MapGrantRef, QuerySize, SetupTable, UnmapGrantRef};
use guest_runtime::abi::{errno, evtchn, nr};
use guest_runtime::hypercall::{call, event_channel};
use guest_runtime::{check_eq, frames};
use guests::channels;

use crate::{either, ids};

/// Step: event channels on behalf of others, and ports of others.
pub fn ports(_: [u64; 5]) -> i64 {
    let ids = ids();
    for domain in [ids.control, ids.other, ids.nobody] {
        let known = if domain == ids.nobody {
            either(-errno::ESRCH, -errno::EPERM)
        } else {
            -errno::EPERM
        };
        for remote in [ids.own, ids.control, ids.other] {
            let mut open = AllocUnbound {
                dom: domain,
                remote_dom: remote,
                port: 0x5a5a,
            };
            let result = event_channel(evtchn::ALLOC_UNBOUND, &mut open);
            check_eq!("a port for another", result, known);
            check_eq!("its answer", open.port, 0x5a5a);
        }
        for port in 0..6 {
            let mut status = Status {
                dom: domain,
                port,
                ..Status::default()
            };
            let result = event_channel(evtchn::STATUS, &mut status);
            check_eq!("another's port", result, known);
        }
        let mut reset = Reset { dom: domain };
        let result = event_channel(evtchn::RESET, &mut reset);
        check_eq!("another's reset", result, known);
    }
    // No port of the others is meant for the caller but the three it was built with, which are bound.
    for domain in [u64::from(ids.control), u64::from(ids.other)] {
        for port in 0..64 {
            guests::refused(
                "binding to a port that is not for us",
                channels::bind_interdomain(domain, port).map_or_else(|error| error, i64::from),
            );
        }
    }
    for line in [0, 1, 9, 16, 300] {
        let mut bind = BindPirq {
            pirq: line,
            ..BindPirq::default()
        };
        guests::refused(
            "a physical interrupt",
            event_channel(evtchn::BIND_PIRQ, &mut bind),
        );
    }
    0
}

fn grant<T>(operation: u64, argument: &mut T) -> i64 {
    let address = &raw mut *argument as u64;
    call(nr::GRANT_TABLE_OP, [operation, address, 1, 0, 0])
}

/// Step: grant tables of others, and grants that nobody gave.
pub fn grants(_: [u64; 5]) -> i64 {
    let ids = ids();
    let page = frames::allocate();
    for domain in [ids.control, ids.other, ids.nobody] {
        let exists = domain != ids.nobody;
        // Permission denied; no such domain.
        let status = if exists || ids.ours { -8 } else { -2 };
        let mut setup = SetupTable {
            dom: domain,
            nr_frames: 1,
            frame_list: page.va(),
            ..SetupTable::ZERO
        };
        check_eq!("setup_table", grant(2, &mut setup), 0);
        check_eq!("its status", setup.status, status);
        check_eq!("the list", page.read(0), 0);
        let mut query = QuerySize {
            dom: domain,
            ..QuerySize::ZERO
        };
        check_eq!("query_size", grant(6, &mut query), 0);
        check_eq!("its status", query.status, status);
        let mut version = GetVersion {
            dom: domain,
            ..GetVersion::ZERO
        };
        let known = if exists || ids.ours {
            -errno::EPERM
        } else {
            -errno::ESRCH
        };
        check_eq!("get_version", grant(10, &mut version), known);
        for gref in [0, 1, 7, 8, 511, 512, u32::MAX] {
            let mut map = MapGrantRef {
                host_addr: page.va(),
                flags: 2,
                gref,
                dom: domain,
                ..MapGrantRef::ZERO
            };
            check_eq!("map_grant_ref", grant(0, &mut map), 0);
            check_eq!("a grant that nobody gave", map.status < 0, true);
        }
    }
    for handle in [0, 1, 100, u32::MAX] {
        let mut unmap = UnmapGrantRef {
            host_addr: page.va(),
            handle,
            ..UnmapGrantRef::ZERO
        };
        check_eq!("unmap_grant_ref", grant(1, &mut unmap), 0);
        check_eq!("a handle of nobody", unmap.status < 0, true);
    }
    frames::release(page);
    0
}
