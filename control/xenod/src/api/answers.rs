//! Requests that are answered once.

use std::rc::Rc;
use std::time::Duration;

use store::Errno;
use xen::{DomId, DomainInfo, PAGE};
use xeno_api::{
    Answer, Data, DiskInfo, DomainInfo as Described, Error, Kind, MachineInfo, Op, Summary, Target,
    VcpuInfo,
};

use super::used;
use crate::cpu;
use crate::daemon::Daemon;
use crate::ending;
use crate::guest::{Guest, Order};
use crate::make::{self, virtual_device};
use crate::nodes::{self, end};
use crate::uuid::Uuid;

/// The daemon's name and version.
pub fn daemon_version() -> String {
    concat!("xenod ", env!("CARGO_PKG_VERSION")).to_owned()
}

pub(super) fn hypervisor(error: xen::Error) -> Error {
    Error::new(Kind::Hypervisor, error.to_string())
}

/// What to say when the store refused something about `path`.
pub fn store_refused(path: &str, error: Errno) -> Error {
    let (kind, why) = match error {
        Errno::Enoent => (Kind::NotFound, "there is no such path"),
        Errno::Einval => (
            Kind::BadRequest,
            "this is no path: expected names of letters, digits and -_@ behind slashes",
        ),
        Errno::E2big => (Kind::Busy, "it is too long for a message"),
        Errno::Eio => (
            Kind::Io,
            "the store's journal failed, and the daemon starts anew",
        ),
        _ => (Kind::BadRequest, error.name()),
    };
    Error::new(kind, format!("store path {path}: {why}"))
}

/// Carries out a request.
///
/// # Errors
/// One sentence.
pub async fn answer(daemon: &Rc<Daemon>, op: Op) -> Result<Answer, Error> {
    match op {
        Op::Hello { .. } => Err(Error::new(Kind::BadRequest, "`hello` comes once, first")),
        Op::Version {} => machine(daemon),
        Op::Create { guest, paused } => make::create(daemon, guest, paused)
            .await
            .map(Answer::Created),
        Op::List {} => list(daemon),
        Op::Info { domain } => describe(daemon, &domain),
        Op::Pause { domain } => order(daemon, &domain, Order::Pause).await,
        Op::Unpause { domain } => order(daemon, &domain, Order::Unpause).await,
        Op::Shutdown { domain, wait_s } => stop(daemon, &domain, false, wait_s).await,
        Op::Reboot { domain, wait_s } => stop(daemon, &domain, true, wait_s).await,
        Op::Destroy { domain } => destroy(daemon, &domain).await,
        Op::Dmesg { clear } => dmesg(daemon, clear),
        Op::Usage {} => used::all(daemon),
        Op::UsageOf { domain } => used::parts(daemon, &domain),
        Op::SetMemory { domain, memory } => order(daemon, &domain, Order::SetMemory(memory)).await,
        Op::SetVcpus { domain, vcpus } => order(daemon, &domain, Order::SetVcpus(vcpus)).await,
        Op::SchedSet { domain, cpu } => order(daemon, &domain, Order::SetCpu(cpu)).await,
        Op::SchedAllow { domain, allowance } => {
            order(daemon, &domain, Order::AllowCpu(allowance)).await
        }
        Op::SchedShow { domain } => cpu_time(daemon, &domain),
        Op::SchedRules { quantum } => {
            cpu::all_rules(daemon.hypervisor.as_ref(), quantum).map(Answer::CpuRules)
        }
        Op::PruneLedger { before, keep } => used::prune(daemon, before, keep).await,
        op => store(daemon, op),
    }
}

async fn order(daemon: &Daemon, target: &Target, order: Order) -> Result<Answer, Error> {
    daemon.find(target)?.order(order).await?;
    Ok(Answer::Done {})
}

async fn destroy(daemon: &Rc<Daemon>, target: &Target) -> Result<Answer, Error> {
    let (guest, id) = match (daemon.find(target), target) {
        (Ok(guest), _) => (Some(guest), 0),
        (Err(_), Target::Id(id @ 1..)) => (None, *id),
        (Err(error), _) => return Err(error),
    };
    let lingers = match guest {
        Some(guest) => guest.order(Order::Destroy).await?,
        None => ending::destroy_foreign(daemon, id).await?,
    };
    Ok(Answer::Destroyed { lingers })
}

async fn stop(
    daemon: &Daemon,
    target: &Target,
    reboot: bool,
    wait_s: Option<u32>,
) -> Result<Answer, Error> {
    let wait = wait_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
    order(daemon, target, Order::Stop { reboot, wait }).await
}

fn machine(daemon: &Daemon) -> Result<Answer, Error> {
    let machine = daemon.hypervisor.machine().map_err(hypervisor)?;
    let said = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/hypervisor/{name}"));
        text.unwrap_or_default().trim().to_owned()
    };
    let version = [
        said("version/major"),
        ".".to_owned(),
        said("version/minor"),
        said("version/extra"),
    ];
    Ok(Answer::Machine(MachineInfo {
        daemon: daemon_version(),
        hypervisor: format!("{} {}", said("type"), version.concat()),
        cpus: machine.cpus,
        cpu_khz: u64::from(machine.cpu_khz),
        memory_bytes: machine.total_pages * PAGE as u64,
        free_bytes: machine.free_pages * PAGE as u64,
        daemon_started_s: daemon.started_s,
    }))
}

/// A domain, and the guest it is, if it is one of ours.
pub(super) type Listed = (DomainInfo, Option<Rc<Guest>>);

/// What CPU time a domain has reserved: also the control domain, which is no guest.
fn cpu_time(daemon: &Daemon, target: &Target) -> Result<Answer, Error> {
    let (info, guest) = listed(daemon, target)?;
    let asked = guest.and_then(|guest| guest.record.borrow().guest.cpu);
    cpu::show(daemon.hypervisor.as_ref(), info.domain, asked).map(Answer::CpuTime)
}

/// All domains.
pub(super) fn domains(daemon: &Daemon) -> Result<Vec<Listed>, Error> {
    let infos = daemon.hypervisor.domains().map_err(hypervisor)?;
    let guests = daemon.guests();
    let guest_of = |info: &DomainInfo| {
        // A dying predecessor of a guest that was built again has the same handle.
        let guest = guests.iter().find(|guest| guest.uuid.0 == info.handle)?;
        (guest.domain().is_none_or(|domain| domain == info.domain)).then(|| Rc::clone(guest))
    };
    Ok(infos
        .into_iter()
        .map(|info| (info, guest_of(&info)))
        .collect())
}

fn list(daemon: &Daemon) -> Result<Answer, Error> {
    let summary = |(info, guest): &Listed| -> Summary { daemon.summary(info, guest.as_deref()) };
    let domains = domains(daemon)?.iter().map(summary).collect();
    Ok(Answer::Domains { domains })
}

/// One of them.
pub(super) fn listed(daemon: &Daemon, target: &Target) -> Result<Listed, Error> {
    let guest = match target {
        Target::Id(id) => {
            let mut all = domains(daemon)?.into_iter();
            return all.find(|(info, _)| info.domain == *id).ok_or_else(|| {
                let what = format!("there is no domain {id}: `xeno list` shows those there are");
                Error::new(Kind::NotFound, what)
            });
        }
        Target::Name(_) => daemon.find(target)?,
    };
    let info = daemon.info(&guest.record.borrow()).map_err(hypervisor)?;
    let name = guest.name();
    let info = info.ok_or_else(|| {
        let what = format!("{name} is being built: ask again when it is there");
        Error::new(Kind::State, what)
    })?;
    Ok((info, Some(guest)))
}

fn describe(daemon: &Daemon, target: &Target) -> Result<Answer, Error> {
    let (info, guest) = listed(daemon, target)?;
    let highest = info.max_vcpu_id.unwrap_or(0);
    let mut vcpu = Vec::new();
    for id in 0..=highest {
        if let Some(state) = daemon
            .hypervisor
            .vcpu(info.domain, id)
            .map_err(hypervisor)?
        {
            vcpu.push(VcpuInfo {
                id,
                online: state.online,
                blocked: state.blocked,
                cpu_ns: state.cpu_time_ns,
                cpu: state.cpu,
            });
        }
    }
    let screen = guest.as_ref().map(|guest| guest.console.borrow().screen());
    let (console_bytes, console_watchers) = screen.map_or((0, 0), |screen| screen.measure());
    Ok(Answer::Domain(Box::new(Described {
        summary: daemon.summary(&info, guest.as_deref()),
        uuid: Uuid(info.handle).to_string(),
        max_memory_bytes: info.max_pages.saturating_mul(PAGE as u64),
        max_vcpus: info.max_vcpu_id.map_or(0, |highest| highest + 1),
        vcpu,
        disk: guest
            .as_ref()
            .map_or_else(Vec::new, |guest| disks(daemon, guest, info.domain)),
        guest: guest.map(|guest| guest.record.borrow().guest.clone()),
        console_bytes,
        console_watchers,
    })))
}

fn disks(daemon: &Daemon, guest: &Guest, domain: DomId) -> Vec<DiskInfo> {
    let disks = guest.record.borrow().guest.disks.clone();
    let connected = end::CONNECTED.to_string();
    let mut store = daemon.store.borrow_mut();
    let mut is_connected =
        |path: String| store.text(&format!("{path}/state")).as_ref() == Some(&connected);
    disks
        .into_iter()
        .map(|disk| {
            let number = virtual_device(&disk);
            DiskInfo {
                connected: is_connected(nodes::back(domain, number))
                    && is_connected(nodes::front(domain, number)),
                io: daemon.devices.io(domain, number),
                device: disk.device,
                file: disk.file.display().to_string(),
                mode: disk.mode,
            }
        })
        .collect()
}

fn dmesg(daemon: &Daemon, clear: bool) -> Result<Answer, Error> {
    let text = daemon.hypervisor.messages(clear).map_err(hypervisor)?;
    // A line of the conversation holds so much, with every byte written in six.
    let most = xeno_api::MAX_LINE / 8;
    let last = text
        .get(text.len().saturating_sub(most)..)
        .unwrap_or_default();
    Ok(Answer::Log {
        text: String::from_utf8_lossy(last).into_owned(),
    })
}

fn store(daemon: &Daemon, op: Op) -> Result<Answer, Error> {
    let mut store = daemon.store.borrow_mut();
    let (path, outcome) = match op {
        Op::StoreRead { path } => {
            let value = store
                .read(&path)
                .map(|value| Answer::Value { value: Data(value) });
            (path, value)
        }
        Op::StoreWrite { path, value } => {
            let written = store.write(&path, &value.0).map(|()| Answer::Done {});
            (path, written)
        }
        Op::StoreList { path } => {
            let names = store.list(&path).map(|mut names| {
                names.sort_unstable();
                Answer::Names { names }
            });
            (path, names)
        }
        Op::StoreRemove { path } => {
            let removed = store.remove(&path).map(|()| Answer::Done {});
            (path, removed)
        }
        _ => {
            return Err(Error::new(
                Kind::Unsupported,
                "this daemon does not do that",
            ));
        }
    };
    outcome.map_err(|error| store_refused(&path, error))
}
