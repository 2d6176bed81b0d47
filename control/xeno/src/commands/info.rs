//! `xeno info`: a domain, or the machine, in full.

use std::fmt::Write;

use xeno_api::{Access, Answer, DomainInfo, MachineInfo, Op, Target};

use crate::client::{Client, unexpected};
use crate::failure::Failure;
use crate::show::{self, age, bytes, cpu_time, printable};

/// Shows a domain.
///
/// # Errors
/// As [`Client::call`].
pub fn domain(client: &mut Client, domain: Target, json: bool) -> Result<(), Failure> {
    match client.call(Op::Info { domain })? {
        Answer::Domain(info) if json => show::out_json(&info),
        Answer::Domain(info) => show::out(domain_text(&info)),
        other => Err(unexpected(&other)),
    }
}

/// Shows the machine.
///
/// # Errors
/// As [`Client::call`].
pub fn machine(client: &mut Client, json: bool) -> Result<(), Failure> {
    match client.call(Op::Version {})? {
        Answer::Machine(info) if json => show::out_json(&info),
        Answer::Machine(info) => show::out(machine_text(&info)),
        other => Err(unexpected(&other)),
    }
}

/// Lines of `key  value`.
struct Lines(String);

impl Lines {
    fn add(&mut self, key: &str, value: impl AsRef<str>) {
        let _ = writeln!(self.0, "{key:<12} {}", value.as_ref());
    }
}

fn machine_text(info: &MachineInfo) -> String {
    let mut lines = Lines(String::new());
    lines.add("hypervisor", printable(&info.hypervisor));
    lines.add("daemon", printable(&info.daemon));
    lines.add(
        "processors",
        format!("{} at {} MHz", info.cpus, info.cpu_khz / 1000),
    );
    lines.add(
        "memory",
        format!(
            "{}, {} free",
            bytes(info.memory_bytes),
            bytes(info.free_bytes)
        ),
    );
    lines.0
}

fn domain_text(info: &DomainInfo) -> String {
    let mut lines = Lines(String::new());
    let summary = &info.summary;
    lines.add("name", show::name(summary));
    lines.add("id", summary.id.to_string());
    lines.add("uuid", &info.uuid);
    lines.add("state", show::state(summary));
    if let Some(seconds) = summary.age_s {
        lines.add("age", age(seconds));
    }
    lines.add(
        "memory",
        format!(
            "{} of at most {}",
            bytes(summary.memory_bytes),
            bytes(info.max_memory_bytes)
        ),
    );
    lines.add(
        "vcpus",
        format!("{} of at most {}", summary.vcpus, info.max_vcpus),
    );
    lines.add("cpu time", cpu_time(summary.cpu_ns));
    for vcpu in &info.vcpu {
        let state = match (vcpu.online, vcpu.blocked) {
            (false, _) => "off line",
            (true, true) => "waits",
            (true, false) => "runs",
        };
        lines.add(
            &format!("vcpu {}", vcpu.id),
            format!(
                "{state}, {} on processor {}",
                cpu_time(vcpu.cpu_ns),
                vcpu.cpu
            ),
        );
    }
    if let Some(guest) = &info.guest {
        lines.add("kernel", printable(&guest.kernel.display().to_string()));
        if let Some(initrd) = &guest.initrd {
            lines.add("initrd", printable(&initrd.display().to_string()));
        }
        lines.add("cmdline", printable(&guest.cmdline));
    }
    for disk in &info.disk {
        let access = if disk.mode == Access::ReadOnly {
            "read-only"
        } else {
            "read-write"
        };
        let connected = if disk.connected {
            ""
        } else {
            ", not connected"
        };
        let io = format!(
            "{} read, {} written",
            bytes(disk.io.read_bytes),
            bytes(disk.io.write_bytes)
        );
        lines.add(
            &disk.device,
            format!("{}, {access}{connected}, {io}", printable(&disk.file)),
        );
    }
    lines.add(
        "console",
        format!(
            "{} printed, {} watching",
            bytes(info.console_bytes),
            info.console_watchers
        ),
    );
    lines.0
}
