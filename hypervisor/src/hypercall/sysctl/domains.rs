//! The domains there are.

use crate::domain::{Guest, table};
use crate::hypercall::Outcome;
use crate::hypercall::domctl::describe;
use frames::DomId;
use guest_abi::domctl::Getdomaininfo;
use guest_abi::sysctl::{Getdomaininfolist, Sysctl};
use guest_abi::{Errno, Wire};

/// `getdomaininfolist`: from a number on, as many as there is room for.
pub fn list(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: Getdomaininfolist = call.payload();
    let mut next = Some(asked.first_domain);
    let mut written = 0u32;
    while written < asked.max_domains
        && let Some(dom) = next.and_then(|id| table::next_from(DomId(id)))
    {
        let place = u64::from(written) * Getdomaininfo::SIZE as u64;
        // A list is one answer.
        g.spend_here();
        g.charge(4 + 2 * u64::from(dom.max_vcpus));
        g.memory()
            .put(asked.buffer.wrapping_add(place), &describe(dom))
            .map_err(|_| Errno::Fault)?;
        written += 1;
        next = dom.id.0.checked_add(1);
    }
    asked.num_domains = written;
    call.set_payload(&asked);
    Ok(0)
}
