//! How a guest is taken down: everything it had is given back, in an order in which nobody is left with what is gone.
//!
//! Each step can be done again, so a daemon that was killed in the middle starts from the first.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use xen::DomId;
use xeno_api::{Error, Kind};

use crate::accounting::Which;
use crate::daemon::Daemon;
use crate::guest::Guest;
use crate::log;
use crate::make::virtual_device;
use crate::nodes::{self, end};

/// How long the kernel's back ends may take to let go of a guest.
const BACKEND_PATIENCE: Duration = Duration::from_secs(10);
/// How long a disk's last writes may take.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// Between two tries at something the hypervisor refused.
const RETRY: Duration = Duration::from_secs(1);

/// Takes a guest down. Answers whether its domain lingers: others still hold some of its memory.
pub async fn take_down(daemon: &Rc<Daemon>, guest: &Rc<Guest>) -> bool {
    let mut lingers = false;
    if let Some((domain, there)) = domain_of(daemon, guest) {
        if there {
            // So that it does nothing more while its devices go. It may have ended by itself.
            let _ended_already = daemon.hypervisor.pause(domain);
        }
        drain(daemon, guest);
        close_backends(daemon, guest, domain).await;
        leave_store(daemon, guest, domain);
        if there {
            // It does nothing more. Ring 0 tells the rest when it is gone, unless the power fails before that.
            daemon.record(Which::One(domain)).await;
            lingers = destroy(daemon, domain).await;
        }
    }
    drain(daemon, guest);
    release_disks(daemon, guest).await;
    lingers
}

/// The guest's domain, and whether it is there: the one in its record, or one that was created just when the daemon
/// was killed. None if there never was one, or its number is another domain's by now.
fn domain_of(daemon: &Daemon, guest: &Guest) -> Option<(DomId, bool)> {
    let ours = |info: &xen::DomainInfo| info.handle == guest.uuid.0;
    match guest.domain() {
        Some(domain) => match daemon.hypervisor.domain(domain) {
            Ok(Some(info)) => ours(&info).then_some((domain, true)),
            Ok(None) => Some((domain, false)),
            Err(error) => {
                log::line(error);
                Some((domain, true))
            }
        },
        None => {
            let infos = daemon.hypervisor.domains().ok()?;
            let found = infos.iter().find(|info| ours(info) && !info.dying);
            found.map(|info| (info.domain, true))
        }
    }
}

/// Takes the last of what the guest printed, and lets go of its console.
fn drain(daemon: &Daemon, guest: &Guest) {
    daemon.last_words(guest);
    if let Some(port) = guest.console_port.take() {
        daemon.ports.unbind(port);
    }
    guest.console.borrow_mut().detach();
}

/// Has the kernel's back ends let go of the guest's disks.
async fn close_backends(daemon: &Daemon, guest: &Guest, domain: DomId) {
    let disks: Vec<u32> = {
        let record = guest.record.borrow();
        record.guest.disks.iter().map(virtual_device).collect()
    };
    // Asked before they are told to end: while a driver lets go, it is no longer named as the device's.
    let serving: Vec<u32> = disks
        .iter()
        .copied()
        .filter(|disk| daemon.devices.backend_serves(domain, *disk))
        .collect();
    for disk in &disks {
        let back = nodes::back(domain, *disk);
        let mut store = daemon.store.borrow_mut();
        if store.read(&back).is_ok() {
            let _gone = store.write(&format!("{back}/online"), b"0");
            let closing = end::CLOSING.to_string();
            let _gone = store.write(&format!("{back}/state"), closing.as_bytes());
        }
        // A back end whose front end is gone ends.
        let _gone = store.remove(&nodes::front(domain, *disk));
    }
    let deadline = Instant::now() + BACKEND_PATIENCE;
    for disk in &serving {
        while daemon.devices.backend_present(domain, *disk) {
            if Instant::now() > deadline {
                log::line(format!(
                    "the back end of disk {disk} of {} (domain {domain}) does not let go: going on without it",
                    guest.name()
                ));
                break;
            }
            sleep(LOOK).await;
        }
    }
    let _had_no_disks = daemon.store.borrow_mut().remove(&nodes::backs(domain));
}

/// Removes the guest's nodes and ends its connection.
fn leave_store(daemon: &Daemon, guest: &Guest, domain: DomId) {
    let mut store = daemon.store.borrow_mut();
    let _the_daemon_ends = store.domain_gone(domain);
    let _had_none = store.remove(&nodes::home(domain));
    let _had_none = store.remove(&nodes::vm(guest.uuid));
}

/// Destroys the domain; whether it lingers.
async fn destroy(daemon: &Daemon, domain: DomId) -> bool {
    loop {
        let hypervisor = Arc::clone(&daemon.hypervisor);
        let outcome = spawn_blocking(move || hypervisor.destroy(domain)).await;
        match outcome {
            Ok(Ok(())) => break,
            Ok(Err(error)) if error.is_no_domain() => return false,
            Ok(Err(error)) => log::line(error),
            Err(error) => log::line(format!("the thread that destroys domain {domain}: {error}")),
        }
        sleep(RETRY).await;
    }
    daemon.record(Which::Ended).await;
    matches!(daemon.hypervisor.domain(domain), Ok(Some(_)))
}

/// Destroys a domain that is no guest of this daemon's, such as one that another tool built. Answers whether it lingers.
///
/// # Errors
/// When there is none, or it lingers already.
pub async fn destroy_foreign(daemon: &Daemon, domain: DomId) -> Result<bool, Error> {
    let refused = |error: xen::Error| Error::new(Kind::Hypervisor, error.to_string());
    let info = daemon.hypervisor.domain(domain).map_err(refused)?;
    match info {
        None => Err(Error::new(
            Kind::NotFound,
            format!("there is no domain {domain}: `xeno list` shows those there are"),
        )),
        Some(info) if info.dying => Err(Error::new(
            Kind::State,
            format!("domain {domain} is dying already: it ends when others let go of its memory"),
        )),
        Some(_) => {
            let _the_daemon_ends = daemon.store.borrow_mut().domain_gone(domain);
            Ok(destroy(daemon, domain).await)
        }
    }
}

/// Lets go of the loop devices under the guest's disks.
async fn release_disks(daemon: &Daemon, guest: &Guest) {
    let (deadline, uuid) = (Instant::now() + DISK_PATIENCE, guest.uuid);
    loop {
        let devices = Arc::clone(&daemon.devices);
        let left = spawn_blocking(move || devices.detach(uuid)).await;
        let why = match left {
            Ok(Ok(0)) => return,
            Ok(Ok(left)) => format!("{left} of its block devices are still open"),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if Instant::now() > deadline {
            log::line(format!("the disks of {}: {why}", guest.name()));
            return;
        }
        sleep(LOOK).await;
    }
}
