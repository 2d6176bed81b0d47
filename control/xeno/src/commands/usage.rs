//! `xeno usage`: what domains used since they began.

use serde::Serialize;
use xeno_api::{Account, Answer, DomainUsage, Error, Kind, MachineTime, Op, PartUsage, Target};

use crate::client::{Client, unexpected};
use crate::failure::Failure;
use crate::show::{self, bytes, cpu_time, in_ns, memory_time, out, out_json, table};

/// Asks and shows.
///
/// # Errors
/// As [`Client::call`], and for a domain that there is not.
pub fn run(client: &mut Client, names: &[Target], json: bool) -> Result<(), Failure> {
    let answer = match client.call(Op::Usage {})? {
        Answer::Usage(usage) => usage,
        other => return Err(unexpected(&other)),
    };
    let is = |domain: &DomainUsage, name: &Target| match name {
        Target::Id(id) => domain.summary.id == *id,
        Target::Name(name) => domain.summary.name.as_deref() == Some(name.as_str()),
    };
    for name in names {
        if !answer.domains.iter().any(|domain| is(domain, name)) {
            let what = format!("there is no domain {name}: `xeno list` shows those there are");
            return Err(Error::new(Kind::NotFound, what).into());
        }
    }
    let asked =
        |domain: &&DomainUsage| names.is_empty() || names.iter().any(|name| is(domain, name));
    let domains: Vec<&DomainUsage> = answer.domains.iter().filter(asked).collect();
    let all = names.is_empty();
    let one = |usage| {
        let parts = if all {
            Vec::new()
        } else {
            parts(client, usage)?
        };
        Ok(Told { usage, parts })
    };
    let domains: Vec<Told<'_>> = domains
        .into_iter()
        .map(one)
        .collect::<Result<_, Failure>>()?;
    if json {
        let machine = answer.machine.filter(|_| all);
        return out_json(&serde_json::json!({ "domains": domains, "machine": machine }));
    }
    if domains.iter().all(|domain| domain.usage.account.is_none()) {
        let what = "the hypervisor keeps no accounts: `xeno top` shows what is known";
        return Err(Error::new(Kind::Unsupported, what).into());
    }
    if !all {
        let text = domains.iter().filter_map(in_full);
        return out(text.collect::<Vec<_>>().join("\n"));
    }
    let rows: Vec<Vec<String>> = domains
        .iter()
        .filter_map(|domain| row(domain.usage))
        .collect();
    out(table(&HEAD, &HEAD[1..], &rows))?;
    answer
        .machine
        .map_or(Ok(()), |machine| out(machine_words(&machine)))
}

/// A domain, and its vCPUs if it was asked for by name.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    usage: &'a DomainUsage,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartUsage>,
}

/// What each of its vCPUs used, where accounts are kept.
fn parts(client: &mut Client, usage: &DomainUsage) -> Result<Vec<PartUsage>, Failure> {
    if usage.account.is_none() {
        return Ok(Vec::new());
    }
    let domain = Target::Id(usage.summary.id);
    match client.call(Op::UsageOf { domain })? {
        Answer::UsageOf { parts } => Ok(parts),
        other => Err(unexpected(&other)),
    }
}

const HEAD: [&str; 15] = [
    "NAME",
    "ID",
    "USER",
    "KERNEL",
    "HYPERVISOR",
    "GUARANTEED",
    "EXTRA",
    "STOLEN",
    "SWITCHES",
    "EVENTS",
    "GRANTS",
    "MEMORY",
    "PEAK",
    "MEM*TIME",
    "OWN MEM",
];

fn row(domain: &DomainUsage) -> Option<Vec<String>> {
    let used = domain.account.as_ref()?;
    let time = |cycles: u64| cpu_time(in_ns(cycles, used.hz));
    Some(vec![
        show::name(&domain.summary),
        domain.summary.id.to_string(),
        time(used.user),
        time(used.kernel),
        time(used.hypervisor.iter().sum()),
        time(used.guaranteed),
        time(used.extra),
        time(used.stolen),
        used.switches.to_string(),
        both_ways(used.events_received, used.events_sent),
        both_ways(used.grants_lent, used.grants_used),
        bytes(used.frames << 12),
        bytes(used.frames_peak << 12),
        memory_time(used.frame_cycles.0, used.hz),
        bytes(used.overhead << 12),
    ])
}

/// From others, and of its own accord.
fn both_ways(there: u64, own: u64) -> String {
    format!("{there}/{own}")
}

const PART_HEAD: [&str; 11] = [
    "VCPU",
    "CPU",
    "USER",
    "KERNEL",
    "HYPERVISOR",
    "GUARANTEED",
    "EXTRA",
    "STOLEN",
    "SWITCHES",
    "EVENTS",
    "GRANTS",
];

fn part_row(part: &PartUsage) -> Vec<String> {
    let time = |cycles: u64| cpu_time(in_ns(cycles, part.hz));
    let number = |number: Option<u32>, none: &str| match number {
        Some(number) => number.to_string(),
        None => none.to_owned(),
    };
    vec![
        number(part.vcpu, "none"),
        number(part.cpu, "-"),
        time(part.user),
        time(part.kernel),
        time(part.hypervisor.iter().sum()),
        time(part.guaranteed),
        time(part.extra),
        time(part.stolen),
        part.switches.to_string(),
        both_ways(part.events_received, part.events_sent),
        both_ways(part.grants_lent, part.grants_used),
    ]
}

/// One domain, each counter on a line, and its vCPUs; none where no accounts are kept.
fn in_full(told: &Told<'_>) -> Option<String> {
    let used = told.usage.account.as_ref()?;
    let rows: Vec<Vec<String>> = told.parts.iter().map(part_row).collect();
    Some(counters(told.usage, used) + &table(&PART_HEAD, &PART_HEAD, &rows))
}

fn counters(domain: &DomainUsage, used: &Account) -> String {
    let time = |cycles: u64| cpu_time(in_ns(cycles, used.hz));
    let mut rows = vec![
        ("user".to_owned(), time(used.user)),
        ("kernel".to_owned(), time(used.kernel)),
    ];
    let causes = xeno_api::CAUSE_NAMES.iter().zip(used.hypervisor);
    rows.extend(causes.map(|(name, cycles)| (format!("hypervisor, {name}"), time(cycles))));
    rows.extend(
        [
            ("together", time(used.cycles())),
            ("of that guaranteed", time(used.guaranteed)),
            ("of that extra", time(used.extra)),
            ("of that elsewhere", time(used.elsewhere)),
            ("stolen", time(used.stolen)),
            ("switches", used.switches.to_string()),
            ("events sent", used.events_sent.to_string()),
            ("events received", used.events_received.to_string()),
            ("grants used", used.grants_used.to_string()),
            ("grants lent", used.grants_lent.to_string()),
            ("memory", bytes(used.frames << 12)),
            ("memory, peak", bytes(used.frames_peak << 12)),
            (
                "memory over time",
                memory_time(used.frame_cycles.0, used.hz),
            ),
            ("hypervisor's memory", bytes(used.overhead << 12)),
            ("hypervisor's, peak", bytes(used.overhead_peak << 12)),
            (
                "hypervisor's over time",
                memory_time(used.overhead_cycles.0, used.hz),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let head = format!(
        "{} (domain {})\n",
        show::name(&domain.summary),
        domain.summary.id
    );
    let lines = rows
        .iter()
        .map(|(name, value)| format!("  {name:<22}  {value:>12}\n"));
    lines.fold(head, |text, line| text + &line)
}

fn machine_words(machine: &MachineTime) -> String {
    let time = |cycles: u64| cpu_time(in_ns(cycles, machine.hz));
    format!(
        "{} of {} CPU{}: {} for domains ({} of them gone), {} idle, {} the hypervisor's own\n",
        time(machine.elapsed),
        machine.cpus,
        if machine.cpus == 1 { "" } else { "s" },
        time(machine.sold),
        time(machine.departed),
        time(machine.idle),
        time(machine.own),
    )
}
