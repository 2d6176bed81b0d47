//! Requests about what domains used, and about the record of that.

use guest_abi::Errno;
use guest_abi::usage::USAGE_NO_CPU;
use ledger::files::Until;
use xen::{PAGE, Part};
use xeno_api::{Answer, DomainUsage, Error, Io, Kind, PartUsage, Size, Target, Usage};

use super::answers::{Listed, domains, hypervisor, listed};
use crate::accounting;
use crate::daemon::Daemon;
use crate::make::virtual_device;

/// What every domain has used.
///
/// # Errors
/// One sentence.
pub fn all(daemon: &Daemon) -> Result<Answer, Error> {
    let machine = daemon.hypervisor.machine().map_err(hypervisor)?;
    let one = |(info, guest): &Listed| {
        let disks = guest
            .as_ref()
            .map(|guest| guest.record.borrow().guest.disks.clone());
        let numbers = disks.iter().flatten().map(virtual_device);
        let each = numbers.map(|number| daemon.devices.io(info.domain, number));
        DomainUsage {
            summary: daemon.summary(info, guest.as_deref()),
            max_memory_bytes: info.max_pages.saturating_mul(PAGE as u64),
            disk: each.fold(Io::default(), |sum, io| Io {
                reads: sum.reads + io.reads,
                read_bytes: sum.read_bytes + io.read_bytes,
                writes: sum.writes + io.writes,
                write_bytes: sum.write_bytes + io.write_bytes,
            }),
            net: Io::default(),
            account: match info.dying {
                true => None,
                false => daemon.hypervisor.usage(info.domain, Part::All).ok(),
            }
            .map(|usage| accounting::account(&usage)),
        }
    };
    // None where no accounts are kept, or a CPU was busy.
    let books = daemon.hypervisor.books().ok();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Ok(Answer::Usage(Usage {
        time_ns: seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0),
        cpus: machine.cpus,
        memory_bytes: machine.total_pages * PAGE as u64,
        free_bytes: machine.free_pages * PAGE as u64,
        machine: books.map(|books| accounting::machine(&books)),
        domains: domains(daemon)?.iter().map(one).collect(),
    }))
}

/// What each vCPU of a domain has used.
///
/// # Errors
/// One sentence.
pub fn parts(daemon: &Daemon, target: &Target) -> Result<Answer, Error> {
    let (info, _) = listed(daemon, target)?;
    let vcpus = info.max_vcpu_id.map_or(0, |highest| highest + 1);
    let parts = (0..vcpus).map(Part::Vcpu).chain([Part::Besides]);
    let one = |part| match daemon.hypervisor.usage(info.domain, part) {
        Ok(used) => Ok(Some(part_usage(part, &used))),
        // Numbers may be left out.
        Err(error) if error.errno() == Some(Errno::Inval) => Ok(None),
        Err(error) => Err(hypervisor(error)),
    };
    let parts = parts.filter_map(|part| one(part).transpose());
    let parts = parts.collect::<Result<_, _>>()?;
    Ok(Answer::UsageOf { parts })
}

fn part_usage(part: Part, used: &guest_abi::usage::Usage) -> PartUsage {
    let vcpu = match part {
        Part::Vcpu(vcpu) => Some(vcpu),
        Part::All | Part::Besides => None,
    };
    PartUsage {
        vcpu,
        cpu: (vcpu.is_some() && used.cpu != USAGE_NO_CPU).then_some(used.cpu),
        hz: used.tsc_hz,
        user: used.user,
        kernel: used.kernel,
        hypervisor: used.hypervisor,
        guaranteed: used.guaranteed,
        extra: used.extra,
        elsewhere: used.elsewhere,
        stolen: used.stolen,
        switches: used.switches,
        events_sent: used.events_sent,
        events_received: used.events_received,
        grants_used: used.grants_used,
        grants_lent: used.grants_lent,
    }
}

/// Removes old files of the usage record.
///
/// # Errors
/// One sentence.
pub async fn prune(
    daemon: &Daemon,
    before: Option<u64>,
    keep: Option<Size>,
) -> Result<Answer, Error> {
    if before.is_none() && keep.is_none() {
        let what = "what of the usage record goes is not said: `before` or `keep`";
        return Err(Error::new(Kind::BadRequest, what));
    }
    let until = Until {
        bytes: keep.map(Size::bytes),
        before,
    };
    let pruned = daemon.prune(until).await?;
    Ok(Answer::Pruned { pruned })
}
