//! How a guest comes to be: from a request to a domain that runs.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use xen::Access;
use xeno_api::{Created, Disk, Error, Guest as Description, Kind};

use crate::accounting::Which;
use crate::builders::check_file;
use crate::console::Console;
use crate::daemon::{Daemon, now_s};
use crate::devices::Over;
use crate::disk::{self, Opened, Use};
use crate::guest::Guest;
use crate::life::Asked;
use crate::page::MappedPage;
use crate::ports::Purpose;
use crate::state::{Built, Phase, Record};
use crate::uuid::Uuid;
use crate::{cpu, log, nodes, task};

/// How long what a killed guest had under way on a disk may take to end.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// Builds a guest and, unless `paused`, lets it run.
///
/// # Errors
/// One sentence; nothing is left behind then.
pub async fn create(
    daemon: &Rc<Daemon>,
    description: Description,
    paused: bool,
) -> Result<Created, Error> {
    description.check()?;
    let name = description.name.to_string();
    let taken = |guest: &Rc<Guest>| guest.record.borrow().guest.name == description.name;
    if daemon.guests().iter().any(taken) {
        return Err(Error::new(
            Kind::Exists,
            format!("there is a domain {name} already: end it first, or choose another name"),
        ));
    }
    check_file("kernel", &description.kernel)?;
    if let Some(initrd) = &description.initrd {
        check_file("initrd", initrd)?;
    }
    let opened = open_disks(daemon, &description, None)?;
    let io =
        |error: std::io::Error| Error::new(Kind::Io, format!("{name} cannot be kept: {error}"));
    let uuid = Uuid::random().map_err(io)?;
    let record = Record {
        uuid,
        guest: description,
        phase: Phase::Building,
        disks: opened.iter().map(|disk| disk.identity).collect(),
        built: None,
        asked: Asked::Nothing,
    };
    drop(opened);
    daemon
        .state
        .put(&record)
        .map_err(|error| Error::new(Kind::Io, error.to_string()))?;
    let console = match Console::open(&daemon.state.console(uuid)) {
        Ok(console) => console,
        Err(error) => {
            let _told_below = daemon.state.forget(uuid);
            return Err(io(error));
        }
    };
    let (guest, mailbox) = Guest::new(record, console);
    daemon.guests.borrow_mut().insert(uuid, Rc::clone(&guest));
    let (answer, outcome) = oneshot::channel();
    let start = task::Start::Build { paused, answer };
    task::spawn(daemon, guest, mailbox, start);
    outcome
        .await
        .map_err(|_| Error::new(Kind::Internal, format!("the task that builds {name} ended")))?
}

/// Opens the disks of a guest and looks whether it may have them. `own` is the guest itself, if it has them already.
fn open_disks(
    daemon: &Daemon,
    description: &Description,
    own: Option<Uuid>,
) -> Result<Vec<Opened>, Error> {
    let mut opened: Vec<Opened> = Vec::new();
    let guests = daemon.guests();
    let others: Vec<_> = guests
        .iter()
        .filter(|guest| Some(guest.uuid) != own)
        .collect();
    for (place, disk) in description.disks.iter().enumerate() {
        let this = disk::open(disk)?;
        for other in &others {
            let (record, name) = (other.record.borrow(), other.name());
            let disks = record.guest.disks.iter().zip(&record.disks);
            let uses = disks.map(|(disk, identity)| Use {
                identity: *identity,
                mode: disk.mode,
                guest: &name,
            });
            disk::check_free(&disk.file, this.identity, disk.mode, uses)?;
        }
        let before = description.disks.iter().zip(&opened).take(place);
        let itself = before.map(|(disk, opened)| Use {
            identity: opened.identity,
            mode: disk.mode,
            guest: "another disk of the same guest",
        });
        disk::check_free(&disk.file, this.identity, disk.mode, itself)?;
        opened.push(this);
    }
    Ok(opened)
}

/// Builds a guest whose record says so, up to the moment before it runs.
///
/// # Errors
/// One sentence. What was made so far is for the caller to take down.
pub async fn build(daemon: &Rc<Daemon>, guest: &Rc<Guest>) -> Result<(), Error> {
    let (description, uuid) = {
        let record = guest.record.borrow();
        (record.guest.clone(), record.uuid)
    };
    let opened = open_disks(daemon, &description, Some(uuid))?;
    guest.record.borrow_mut().disks = opened.iter().map(|disk| disk.identity).collect();
    let devices = attach(daemon, &description, uuid, opened).await?;
    let (builder, wanted) = (Arc::clone(&daemon.builder), description.clone());
    let built = spawn_blocking(move || builder.build(&wanted, uuid))
        .await
        .map_err(|error| Error::new(Kind::Internal, format!("the builder: {error}")))??;
    let built = Built {
        domain: built.domain,
        console: built.console.into(),
        store: built.store.into(),
        since_s: now_s(),
    };
    guest.record.borrow_mut().built = Some(built);
    put(daemon, guest)?;
    daemon.record(Which::One(built.domain)).await;
    if let Some(asked) = description.cpu {
        let (hypervisor, name) = (daemon.hypervisor.as_ref(), description.name.as_str());
        cpu::reserve_soon(hypervisor, name, built.domain, asked).await?;
    }
    cpu::allow(daemon.hypervisor.as_ref(), built.domain, &description)?;
    let refused = |what: &str, error: String| {
        Error::new(
            Kind::Hypervisor,
            format!("{}: {what}: {error}", description.name),
        )
    };
    connect_console(daemon, guest, Console::attach_fresh)
        .map_err(|error| refused("its console cannot be connected", error))?;
    let mut store = daemon.store.borrow_mut();
    let put_nodes = |nodes: &[nodes::Node], store: &mut crate::store_host::StoreHost| {
        store
            .put(nodes)
            .map_err(|error| refused("its nodes in the store cannot be made", error.to_string()))
    };
    put_nodes(&nodes::guest(&description, uuid, &built), &mut store)?;
    for (disk, device) in description.disks.iter().zip(devices) {
        let number = virtual_device(disk);
        put_nodes(&nodes::disk(built.domain, disk, number, device), &mut store)?;
    }
    store
        .introduce(built.domain, built.store.frame, built.store.port)
        .map_err(|error| {
            refused(
                "its ring to the store cannot be connected",
                error.to_string(),
            )
        })
}

/// The number of a disk for both its ends. A checked description has no disk without one.
pub fn virtual_device(disk: &Disk) -> u32 {
    disk.virtual_device().unwrap_or(0)
}

/// Makes block devices of a guest's disks; answers their numbers.
async fn attach(
    daemon: &Rc<Daemon>,
    description: &Description,
    uuid: Uuid,
    opened: Vec<Opened>,
) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for (disk, opened) in description.disks.iter().zip(opened) {
        wait_until_free(daemon, uuid, disk, &opened).await?;
        if let Some(number) = opened.block {
            numbers.push(number);
            continue;
        }
        let (devices, wanted) = (Arc::clone(&daemon.devices), disk.clone());
        let attached =
            spawn_blocking(move || devices.attach(&opened.file, wanted.mode, uuid, &wanted.device));
        let number = attached
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)))
            .map_err(|error| {
                let what = format!(
                    "the disk {} cannot be made a block device: {error}; is the kernel's module `loop` loaded?",
                    disk.file.display()
                );
                Error::new(Kind::Io, what)
            })?;
        numbers.push(number);
    }
    Ok(numbers)
}

/// Waits until nobody has the disk's file or device under a loop device in a way that would hurt.
async fn wait_until_free(
    daemon: &Daemon,
    own: Uuid,
    disk: &Disk,
    opened: &Opened,
) -> Result<(), Error> {
    let deadline = Instant::now() + DISK_PATIENCE;
    loop {
        let over = daemon.devices.over(opened.identity).unwrap_or_default();
        // Other guests were asked before: they share it, all to read only. What this guest itself still has is from
        // before it was built again.
        let known = |guest: &Option<Uuid>| {
            guest.is_some_and(|guest| guest != own && daemon.guests.borrow().contains_key(&guest))
        };
        let itself = |over: &Over| opened.block == Some(over.number);
        let other = over
            .into_iter()
            .find(|over| !known(&over.guest) && !itself(over));
        let Some(Over { path, guest, .. }) = other else {
            return Ok(());
        };
        let shown = disk.file.display();
        let what = match guest {
            None => format!(
                "the disk {shown} is in use by the control domain, as {}: let go of it first (`losetup -d {0}`)",
                path.display()
            ),
            Some(_) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Some(_) => format!(
                "the disk {shown} is still being written for a guest that has ended ({}): try again later",
                path.display()
            ),
        };
        return Err(Error::new(Kind::Busy, what));
    }
}

/// Maps a guest's console and binds its port; `attach` tells what is with the ring.
pub fn connect_console(
    daemon: &Daemon,
    guest: &Guest,
    attach: impl FnOnce(&mut Console, Box<dyn store::Page + Send>) -> std::io::Result<()>,
) -> Result<(), String> {
    let Some(built) = guest.record.borrow().built else {
        return Ok(());
    };
    let mapping = daemon
        .hypervisor
        .map_grants(built.domain, &[built.console.reference], Access::Write)
        .map_err(|error| error.to_string())?;
    attach(
        &mut guest.console.borrow_mut(),
        Box::new(MappedPage::new(mapping)),
    )
    .map_err(|error| error.to_string())?;
    let purpose = Purpose::Console(guest.uuid);
    let port = daemon
        .ports
        .bind(built.domain, built.console.port, purpose)
        .map_err(|error| error.to_string())?;
    guest.console_port.set(Some(port));
    Ok(())
}

/// Writes a guest's record.
///
/// # Errors
/// When it cannot be written.
pub fn put(daemon: &Daemon, guest: &Guest) -> Result<(), Error> {
    daemon.state.put(&guest.record.borrow()).map_err(|error| {
        log::line(&error);
        Error::new(Kind::Io, error.to_string())
    })
}
