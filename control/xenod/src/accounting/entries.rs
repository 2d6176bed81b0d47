//! What the hypervisor tells, as the record has it.

use guest_abi::ledger::LedgerEnded;
use guest_abi::usage::{Books, Usage};
use ledger::record::{Account, Domain, Hash, Machine, What, Wide};
use xen::DomId;
use xeno_api::CONTROL_DOMAIN;

use super::Names;
use crate::uuid::Uuid;

/// Ring 0's halves of what is wider than 64 bits.
fn wide([low, high]: [u64; 2]) -> Wide {
    Wide(u128::from(high) << 64 | u128::from(low))
}

/// What a domain used, as the record has it.
pub fn account(usage: &Usage) -> Account {
    Account {
        at: usage.at,
        hz: usage.tsc_hz,
        user: usage.user,
        kernel: usage.kernel,
        hypervisor: usage.hypervisor,
        guaranteed: usage.guaranteed,
        extra: usage.extra,
        elsewhere: usage.elsewhere,
        stolen: usage.stolen,
        switches: usage.switches,
        frames: usage.frames,
        frames_peak: usage.frames_peak,
        frame_cycles: wide(usage.frame_cycles),
        overhead: usage.overhead,
        overhead_peak: usage.overhead_peak,
        overhead_cycles: wide(usage.overhead_cycles),
        events_sent: usage.events_sent,
        events_received: usage.events_received,
        grants_used: usage.grants_used,
        grants_lent: usage.grants_lent,
    }
}

/// What a domain used that is gone.
pub(super) fn last_account(ended: &LedgerEnded) -> Account {
    Account {
        at: ended.at,
        hz: ended.tsc_hz,
        user: ended.user,
        kernel: ended.kernel,
        hypervisor: ended.hypervisor,
        guaranteed: ended.guaranteed,
        extra: ended.extra,
        elsewhere: ended.elsewhere,
        stolen: ended.stolen,
        switches: ended.switches,
        frames: 0,
        frames_peak: ended.frames_peak,
        frame_cycles: wide(ended.frame_cycles),
        overhead: 0,
        overhead_peak: ended.overhead_peak,
        overhead_cycles: wide(ended.overhead_cycles),
        events_sent: ended.events_sent,
        events_received: ended.events_received,
        grants_used: ended.grants_used,
        grants_lent: ended.grants_lent,
    }
}

/// What became of the CPUs' time, as the record has it.
pub fn machine(books: &Books) -> Machine {
    Machine {
        cpus: books.nr_cpus,
        hz: books.tsc_hz,
        elapsed: books.elapsed,
        idle: books.idle,
        own: books.machine,
        sold: books.sold,
        held: books.held,
        departed: books.departed,
    }
}

/// An entry about a domain. Its places in chains are filled in when it is appended.
pub(super) fn entry(
    (id, serial, handle): (DomId, u64, [u8; 16]),
    names: &Names,
    ended: Option<u64>,
    used: Account,
) -> What {
    let name = match id {
        0 => Some(CONTROL_DOMAIN.to_owned()),
        _ => names.get(&handle).cloned(),
    };
    What::Domain(Box::new(Domain {
        machine: 0,
        id,
        serial,
        uuid: Uuid(handle).to_string(),
        name,
        k: 0,
        prior: Hash::NONE,
        ended,
        used,
    }))
}
