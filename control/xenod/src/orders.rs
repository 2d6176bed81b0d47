//! What can be done with a guest that lives.

use std::time::Duration;

use tokio::time::Instant;
use xeno_api::{Error, Guest as Description, Kind, Rate, Reservation, Size};

use crate::daemon::{Daemon, now_s};
use crate::guest::{Again, Guest, Order};
use crate::life::Asked;
use crate::{cpu, life, log, make, nodes};

/// A domain is paused at most so many times.
const PAUSES: u32 = 255;
/// From one time a guest is asked to stop to the next.
const ASK_AGAIN: Duration = if cfg!(test) {
    Duration::from_millis(20)
} else {
    Duration::from_secs(5)
};
/// How long it is asked again and again, if nobody waits longer.
const ASK_FOR: Duration = Duration::from_secs(60);
/// How long after that a guest may take to go down as it was asked.
const GO_DOWN: Duration = Duration::from_secs(600);

fn hypervisor(error: xen::Error) -> Error {
    Error::new(Kind::Hypervisor, error.to_string())
}

fn wrong_state(what: String) -> Error {
    Error::new(Kind::State, what)
}

/// The guest's domain, if it has not stopped.
fn running(daemon: &Daemon, guest: &Guest) -> Result<xen::DomainInfo, Error> {
    let info = daemon.info(&guest.record.borrow()).map_err(hypervisor)?;
    let name = guest.name();
    match info {
        Some(info) if info.shutdown.is_none() && !info.dying => Ok(info),
        _ => Err(wrong_state(format!(
            "{name} has stopped: `xeno destroy {name}` removes it"
        ))),
    }
}

/// Carries out an order that takes no time.
///
/// # Errors
/// One sentence.
pub fn now(daemon: &Daemon, guest: &Guest, order: Order) -> Result<(), Error> {
    let info = running(daemon, guest)?;
    let outcome = match order {
        Order::Pause if info.paused => Ok(()),
        Order::Pause => daemon.hypervisor.pause(info.domain).map_err(hypervisor),
        Order::Unpause => unpause(daemon, &info),
        Order::SetMemory(memory) => set_memory(daemon, guest, &info, memory),
        Order::SetVcpus(vcpus) => set_vcpus(daemon, guest, &info, vcpus),
        Order::SetCpu(reservation) => set_cpu(daemon, guest, &info, reservation),
        Order::AllowCpu(rate) => allow_cpu(daemon, guest, &info, rate),
        Order::Stop { .. } | Order::Destroy => Ok(()),
    };
    if outcome.is_ok() {
        daemon.tell(guest, false);
    }
    outcome
}

fn unpause(daemon: &Daemon, info: &xen::DomainInfo) -> Result<(), Error> {
    // Each pause wants its own, and another tool may have paused it too.
    for _ in 0..PAUSES {
        match daemon.hypervisor.domain(info.domain).map_err(hypervisor)? {
            Some(info) if info.paused => {
                daemon.hypervisor.unpause(info.domain).map_err(hypervisor)?;
            }
            _ => break,
        }
    }
    Ok(())
}

/// Asks the guest's kernel to power off or reboot. A kernel that has just started takes notice and has nobody yet to
/// carry it out, or gives it to a first process that does not listen yet: it is asked again ([`ask_again`]).
///
/// # Errors
/// When it cannot hear.
pub fn stop(
    daemon: &Daemon,
    guest: &Guest,
    reboot: bool,
    wait: Option<Duration>,
) -> Result<(), Error> {
    let info = running(daemon, guest)?;
    let name = guest.name();
    if info.paused {
        return Err(wrong_state(format!(
            "{name} is paused and cannot hear: `xeno unpause {name}` first"
        )));
    }
    let asked = if reboot {
        Asked::Reboot
    } else {
        Asked::Shutdown
    };
    // Remembered first: what it does then is taken as this wants it, also by another process.
    let before = std::mem::replace(&mut guest.record.borrow_mut().asked, asked);
    if let Err(error) = make::put(daemon, guest).and_then(|()| ask(daemon, guest, info.domain)) {
        guest.record.borrow_mut().asked = before;
        return Err(error);
    }
    remember(guest, wait);
    Ok(())
}

/// Sees to it that a guest is asked again for what it was asked for, if anything; somebody may wait for it.
pub fn remember(guest: &Guest, wait: Option<Duration>) {
    let now = Instant::now();
    let asked = guest.record.borrow().asked != Asked::Nothing;
    let end = now + wait.unwrap_or_default().max(ASK_FOR);
    guest.again.set(asked.then(|| Again {
        next: now + ASK_AGAIN,
        end,
        forget: end + GO_DOWN,
    }));
}

fn ask(daemon: &Daemon, guest: &Guest, domain: xen::DomId) -> Result<(), Error> {
    let (asked, since_s) = {
        let record = guest.record.borrow();
        (record.asked, record.built.map_or(0, |built| built.since_s))
    };
    let Some(word) = life::request(asked, now_s().saturating_sub(since_s)) else {
        return Ok(());
    };
    let path = nodes::shutdown(domain);
    let written = daemon.store.borrow_mut().write(&path, word.as_bytes());
    written.map_err(|error| Error::new(Kind::Internal, format!("{path}: {error}")))
}

/// Asks a guest once more for what it was asked for and did not do. A kernel on its way down does not listen any more,
/// and one that did not hear the first time hears this.
pub fn ask_again(daemon: &Daemon, guest: &Guest) {
    let (now, Some(again)) = (Instant::now(), guest.again.get()) else {
        return;
    };
    if now < again.next {
        return;
    }
    if now >= again.forget {
        guest.again.set(None);
        guest.record.borrow_mut().asked = Asked::Nothing;
        let _told = make::put(daemon, guest);
        return;
    }
    if now >= again.end {
        let next = again.forget;
        guest.again.set(Some(Again { next, ..again }));
        let name = guest.name();
        return log::line(format!(
            "{name} was asked to stop again and again and did not: `xeno destroy {name}` ends it"
        ));
    }
    let next = now + ASK_AGAIN;
    guest.again.set(Some(Again { next, ..again }));
    if let Ok(info) = running(daemon, guest)
        && !info.paused
    {
        let _next_time = ask(daemon, guest, info.domain);
    }
}

/// What to say when a guest did not stop in time.
pub fn late(daemon: &Daemon, guest: &Guest, reboot: bool, wait: Duration) -> Error {
    let (name, word) = (
        guest.name(),
        if reboot { "rebooted" } else { "powered off" },
    );
    let mut store = daemon.store.borrow_mut();
    let heard = guest
        .domain()
        .and_then(|domain| store.text(&nodes::shutdown(domain)));
    let why = match heard.as_deref() {
        Some("") => "it took notice and is still at it: wait longer",
        _ => "it took no notice, so its kernel may still be starting, or hang: wait longer",
    };
    let seconds = wait.as_secs();
    Error::new(
        Kind::TimedOut,
        format!("{name} has not {word} within {seconds} s; {why}, or `xeno destroy {name}`"),
    )
}

fn set_memory(
    daemon: &Daemon,
    guest: &Guest,
    info: &xen::DomainInfo,
    memory: Size,
) -> Result<(), Error> {
    let (name, most) = (guest.name(), guest.record.borrow().guest.most_memory());
    if memory > most {
        return Err(Error::new(
            Kind::State,
            format!(
                "{name} was made for at most {most}, so it cannot have {memory}: \
                 create it anew with a larger max_memory"
            ),
        ));
    }
    let more = memory.pages().saturating_sub(info.pages);
    let machine = daemon.hypervisor.machine().map_err(hypervisor)?;
    if more > machine.free_pages {
        let (need, free) = (more.div_ceil(256), machine.free_pages >> 8);
        return Err(Error::new(
            Kind::NoMemory,
            format!(
                "{name} would need {need} MiB more and the machine has {free} MiB free: \
                 give it less, or end or shrink another guest"
            ),
        ));
    }
    daemon
        .hypervisor
        .set_max_pages(info.domain, memory.pages())
        .map_err(hypervisor)?;
    let path = nodes::memory_target(info.domain);
    let kib = (memory.bytes() >> 10).to_string();
    let told = daemon.store.borrow_mut().write(&path, kib.as_bytes());
    told.map_err(|error| Error::new(Kind::Internal, format!("{path}: {error}")))
}

fn set_cpu(
    daemon: &Daemon,
    guest: &Guest,
    info: &xen::DomainInfo,
    reservation: Reservation,
) -> Result<(), Error> {
    let (name, hypervisor) = (guest.name(), daemon.hypervisor.as_ref());
    cpu::reserve(hypervisor, &name, info.domain, Some(reservation))?;
    let change = |description: &mut Description| description.cpu = Some(reservation);
    describe_cpu(daemon, guest, info, change).inspect_err(|_| {
        // There was room for it a moment ago; what is given up may not be free yet.
        let before = guest.record.borrow().guest.cpu;
        if let Err(error) = cpu::reserve(hypervisor, &name, info.domain, before) {
            log::line(error);
        }
    })
}

fn allow_cpu(
    daemon: &Daemon,
    guest: &Guest,
    info: &xen::DomainInfo,
    rate: Rate,
) -> Result<(), Error> {
    let change = |description: &mut Description| description.cpu_allowance = Some(rate);
    describe_cpu(daemon, guest, info, change)
}

/// Changes what a guest's description says of CPU time, and with it what the guest may reserve for itself: its part in
/// time that nobody reserved may be another. If the hypervisor refuses that, or the record cannot be written, all is as it was.
fn describe_cpu(
    daemon: &Daemon,
    guest: &Guest,
    info: &xen::DomainInfo,
    change: impl FnOnce(&mut Description),
) -> Result<(), Error> {
    let hypervisor = daemon.hypervisor.as_ref();
    let before = guest.record.borrow().guest.clone();
    let mut after = before.clone();
    change(&mut after);
    cpu::allow(hypervisor, info.domain, &after)?;
    guest.record.borrow_mut().guest = after;
    make::put(daemon, guest).inspect_err(|_| {
        if let Err(error) = cpu::allow(hypervisor, info.domain, &before) {
            log::line(error);
        }
        guest.record.borrow_mut().guest = before;
    })
}

fn set_vcpus(
    daemon: &Daemon,
    guest: &Guest,
    info: &xen::DomainInfo,
    vcpus: u32,
) -> Result<(), Error> {
    let (name, most) = (guest.name(), guest.record.borrow().guest.vcpus);
    if !(1..=most).contains(&vcpus) {
        return Err(Error::new(
            Kind::State,
            if most == 1 {
                format!(
                    "{name} was made with 1 vCPU, which stays on line: create it anew with more"
                )
            } else {
                format!(
                    "{name} was made with {most} vCPUs: it can have 1 to {most} on line, not {vcpus}"
                )
            },
        ));
    }
    let mut store = daemon.store.borrow_mut();
    for vcpu in 0..most {
        let path = nodes::availability(info.domain, vcpu);
        let word = if vcpu < vcpus { "online" } else { "offline" };
        if store.text(&path).as_deref() != Some(word) {
            let told = store.write(&path, word.as_bytes());
            told.map_err(|error| Error::new(Kind::Internal, format!("{path}: {error}")))?;
        }
    }
    Ok(())
}
