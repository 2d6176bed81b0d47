//! Answers about CPU time: what is reserved, and what was used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::{Account, CAUSE_NAMES, Io, MachineTime, Rate, Reservation, Span, Summary};

/// What holds for all reservations of CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuRules {
    /// A turn in time that nobody reserved, and the unit of reservations in quanta.
    pub quantum: Span,
    /// The hypervisor's longest section, as admission charges it; also the shortest slice.
    pub section: Span,
    /// The shortest period.
    pub shortest_period: Span,
    /// The longest.
    pub longest_period: Span,
    /// The part of each processor that nobody can reserve, in millionths.
    pub reserve_ppm: u32,
    /// Processors that domains run on.
    pub cpus: u32,
}

/// The CPU time that a domain has reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuTime {
    /// What was asked for each of its vCPUs; none if nothing was, or it is not a guest of the daemon's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Reservation>,
    /// What the hypervisor keeps; none if it keeps no reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Reservation>,
    /// What it keeps from the next period on, if that is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming: Option<Reservation>,
    /// What the domain may reserve for itself; none if the hypervisor keeps no reservations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Rate>,
    /// vCPUs.
    pub vcpus: u32,
    /// Those of them that have, and will have, the same as the first.
    pub alike: u32,
    /// The processor where they run, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
}

/// What every domain has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// When this was taken, on a clock that never runs backwards. Rates are differences of two of these.
    pub time_ns: u64,
    /// Processors.
    pub cpus: u32,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Of it, free for new domains.
    pub free_bytes: u64,
    /// What became of all CPUs' time; none where no accounts are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineTime>,
    /// Each domain, by number.
    pub domains: Vec<DomainUsage>,
}

/// What one domain has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainUsage {
    /// As in the list.
    #[serde(flatten)]
    pub summary: Summary,
    /// The most memory it can have.
    pub max_memory_bytes: u64,
    /// All its disks together.
    pub disk: Io,
    /// All its network cards together.
    pub net: Io,
    /// What it used, in full; none where no accounts are kept.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "in_full"
    )]
    pub account: Option<Account>,
}

/// Writes all counters. The record leaves out those of an account that are 0 and came later.
fn in_full<S: Serializer>(account: &Option<Account>, to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Full<'a> {
        #[serde(flatten)]
        account: &'a Account,
        #[serde(flatten)]
        later: BTreeMap<&'a str, u64>,
    }
    let full = account.as_ref().map(|account| {
        let later = account.counters_left_out().collect();
        Full { account, later }
    });
    full.serialize(to)
}

/// What a vCPU of a domain has used, or what is in the account of none: cycles (`docs/accounting.md`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartUsage {
    /// Which; none for what was done while none of them was in hand, and for those that there are no more.
    pub vcpu: Option<u32>,
    /// The processor that it is on; none if it is on none.
    pub cpu: Option<u32>,
    /// Cycles a second.
    pub hz: u64,
    /// In applications.
    pub user: u64,
    /// In its kernel.
    pub kernel: u64,
    /// In the hypervisor, by cause: [`CAUSE_NAMES`](crate::CAUSE_NAMES).
    pub hypervisor: [u64; CAUSE_NAMES.len()],
    /// Of all those: in reserved time.
    pub guaranteed: u64,
    /// Of all those: in time nobody had reserved.
    pub extra: u64,
    /// Of all those: while none of the domain's vCPUs was in hand.
    pub elsewhere: u64,
    /// It could run, and did not.
    pub stolen: u64,
    /// How often a CPU was given to it.
    pub switches: u64,
    /// Events that it sent.
    pub events_sent: u64,
    /// Events that became pending on its ports.
    pub events_received: u64,
    /// Uses of grants that it began.
    pub grants_used: u64,
    /// Uses of the domain's grants that anybody began: they are of no vCPU.
    pub grants_lent: u64,
}
