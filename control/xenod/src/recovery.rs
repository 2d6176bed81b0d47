//! Taking up what an earlier process left: it may have been killed at any moment.
//!
//! What is true is what the hypervisor says; records and journal say what it was meant to be. A guest that was alive
//! and is there goes on; one that was being built is taken down again; one that was being taken down is gone on with.

use std::rc::Rc;
use std::sync::Arc;

use xen::DomId;
use xeno_api::Kind;

use crate::console::Console;
use crate::daemon::{Daemon, Fatal};
use crate::guest::Guest;
use crate::state::{Phase, Record, Then};
use crate::task::{self, Start};
use crate::{cpu, log, make};

/// Takes everything up.
///
/// # Errors
/// When the state or the hypervisor cannot be read.
pub fn recover(daemon: &Rc<Daemon>) -> Result<(), Fatal> {
    let records = daemon.state.records()?;
    daemon.state.sweep(&records)?;
    let infos = daemon.hypervisor.domains()?;
    name_control_domain(daemon);
    let there = |domain: DomId| {
        infos
            .iter()
            .any(|info| info.domain == domain && !info.dying)
    };
    let introduced = daemon.store.borrow().introduced();
    for domain in introduced.into_iter().filter(|domain| *domain != 0) {
        let ours = records
            .iter()
            .any(|record| record.built.is_some_and(|built| built.domain == domain));
        if !there(domain) && !ours {
            // What is ours is taken down by its task, in the right order.
            daemon
                .store
                .borrow_mut()
                .domain_gone(domain)
                .unwrap_or_else(log::line);
        }
    }
    release_devices_of_nobody(daemon, &records);
    for record in records {
        take_up(daemon, record)?;
    }
    // What happened while nobody listened. Ports are served once anyway when they are bound.
    let exceptions = daemon.hypervisor.domains()?;
    for info in exceptions.iter().filter(|info| info.shutdown.is_some()) {
        let told = daemon.store.borrow_mut().domain_shutdown(info.domain);
        told.unwrap_or_else(log::line);
    }
    Ok(())
}

/// Nodes that tools look for.
fn name_control_domain(daemon: &Daemon) {
    let mut store = daemon.store.borrow_mut();
    for (path, value) in [
        ("/local/domain/0/name", xeno_api::CONTROL_DOMAIN),
        ("/local/domain/0/domid", "0"),
    ] {
        if store.read(path).is_err() {
            store
                .write(path, value.as_bytes())
                .unwrap_or_else(log::line);
        }
    }
}

fn release_devices_of_nobody(daemon: &Daemon, records: &[Record]) {
    let guests = match daemon.devices.guests() {
        Ok(guests) => guests,
        Err(error) => return log::line(format!("loop devices cannot be listed: {error}")),
    };
    for uuid in guests {
        if !records.iter().any(|record| record.uuid == uuid)
            && let Err(error) = Arc::clone(&daemon.devices).detach(uuid)
        {
            log::line(format!("a loop device of a guest that is gone: {error}"));
        }
    }
}

fn take_up(daemon: &Rc<Daemon>, record: Record) -> Result<(), Fatal> {
    let (uuid, phase) = (record.uuid, record.phase);
    let console = Console::open(&daemon.state.console(uuid)).map_err(|source| Fatal::System {
        what: "what a guest's console printed cannot be read",
        source,
    })?;
    let (guest, mailbox) = Guest::new(record, console);
    let name = guest.name();
    let start = match phase {
        Phase::Alive => {
            reconnect(daemon, &guest);
            log::line(format!("{name} goes on"));
            Start::Alive
        }
        Phase::Building => {
            log::line(format!("{name} was only half built: it is taken down"));
            Start::Ending(Then::Gone)
        }
        Phase::Ending { then } => {
            log::line(format!("{name} was being taken down: going on with that"));
            Start::Ending(then)
        }
    };
    daemon.guests.borrow_mut().insert(uuid, Rc::clone(&guest));
    task::spawn(daemon, guest, mailbox, start);
    Ok(())
}

/// Connects a living guest's console, and its way to the store if that was lost.
fn reconnect(daemon: &Daemon, guest: &Guest) {
    let Some(built) = guest.record.borrow().built else {
        return;
    };
    if !matches!(daemon.info(&guest.record.borrow()), Ok(Some(info)) if !info.dying) {
        return;
    }
    // An earlier process may have been killed between the hypervisor's word and the record: the record holds. Who may
    // reserve for itself may have done so since.
    let hypervisor = daemon.hypervisor.as_ref();
    let description = guest.record.borrow().guest.clone();
    let reserved = match description.cpu_allowance {
        Some(_) => Ok(()),
        None => cpu::reserve(hypervisor, &guest.name(), built.domain, description.cpu),
    };
    let allowed = cpu::allow(hypervisor, built.domain, &description);
    for outcome in [reserved, allowed] {
        match outcome {
            Err(error) if error.kind != Kind::Unsupported => log::line(error),
            _ => {}
        }
    }
    if let Err(error) = make::connect_console(daemon, guest, Console::attach) {
        log::line(format!("the console of {}: {error}", guest.name()));
    }
    let mut store = daemon.store.borrow_mut();
    if !store.introduced().contains(&built.domain) {
        store
            .introduce(built.domain, built.store.frame, built.store.port)
            .unwrap_or_else(|error| {
                log::line(format!("the store ring of {}: {error}", guest.name()))
            });
    }
}
