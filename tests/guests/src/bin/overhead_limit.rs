//! Proves that ring 0's memory which a domain causes to be used is limited: event channels beyond the limit are -ENOMEM
//! for every call that opens one, nothing changes by that, and what is given back can be taken again.
//! xtask: hv=dom0_overhead=8K
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{DOMID_SELF, errno};
use guest_runtime::{check, check_eq, guest};
use guests::accepted;
use guests::channels::{
    VIRQ_TIMER, alloc_unbound, bind_interdomain, bind_ipi, bind_virq, close, kind, take_all,
};

guest!(overhead_limit, main);

/// More than there are in the 2-level form.
const MORE_THAN_ALL: usize = 4200;
const CLOSED: i64 = 0;
const UNBOUND: i64 = 1;

fn main() {
    let mut ports = [0u32; MORE_THAN_ALL];
    let (taken, error) = take_all(&mut ports);
    check_eq!("the first port beyond the limit", error, -errno::ENOMEM);
    check!(
        (16..2048).contains(&taken),
        "two frames hold some ports, and far fewer than all"
    );
    let ports = &ports[..taken];
    for _ in 0..3 {
        check_eq!(
            "another port",
            alloc_unbound(DOMID_SELF),
            Err(-errno::ENOMEM)
        );
        check_eq!("a port for an IPI", bind_ipi(0), Err(-errno::ENOMEM));
        check_eq!(
            "a port for an interrupt",
            bind_virq(VIRQ_TIMER, 0),
            Err(-errno::ENOMEM)
        );
        check_eq!(
            "a port to another",
            bind_interdomain(DOMID_SELF, ports[0]),
            Err(-errno::ENOMEM)
        );
    }
    let unbound = ports.iter().filter(|&&port| kind(port) == UNBOUND).count();
    check_eq!("ports that are what they were", unbound, taken);
    accepted("close", close(ports[taken / 2]));
    check_eq!("its kind", kind(ports[taken / 2]), CLOSED);
    check_eq!(
        "the port that is free now",
        bind_virq(VIRQ_TIMER, 0),
        Ok(ports[taken / 2])
    );
    check_eq!(
        "and no other",
        alloc_unbound(DOMID_SELF),
        Err(-errno::ENOMEM)
    );
    let closed = ports.iter().filter(|&&port| close(port) == 0).count();
    check_eq!("ports closed", closed, taken);
    check!(alloc_unbound(DOMID_SELF).is_ok(), "there are ports again");
}
