//! Events, timers, sleep, NMIs, and going down and up, with everybody else spinning.

use core::sync::atomic::Ordering;

use guest_runtime::abi::vcpu;
use guest_runtime::{check, check_eq, events};
use guests::accepted;
use guests::channels::{bind_ipi, notify};

use crate::block::{self, Block};
use crate::spinning::{nothing_wrong, pause, until};
use crate::start::plain;
use crate::worker::command;
use crate::{WORKERS, worker::command::ANSWER};

const TIMES: u64 = 3;

pub fn all() {
    for (worker, &id) in WORKERS.iter().enumerate() {
        let b = block::kernel(worker);
        round_trips(b);
        sleep(b);
        timers(b);
        interrupts(id, b);
        down_and_up(id, b);
        down_by_itself(id, b);
        nothing_wrong(worker);
    }
}

/// Asks for something.
pub fn ask(b: &Block, what: u64) {
    b.done.store(0, Ordering::Relaxed);
    b.command.store(what, Ordering::Release);
}

/// Whether it was done.
pub fn is_done(b: &Block, what: u64) -> bool {
    b.done.load(Ordering::Acquire) == what
}

/// An event to a vCPU that spins, and one back.
fn round_trips(b: &Block) {
    let Ok(back) = bind_ipi(0) else {
        return check!(false, "a port to answer on")
            .then_some(())
            .unwrap_or(());
    };
    let port = b.ipi_port.load(Ordering::Relaxed) as u32;
    for _ in 0..TIMES {
        let before = b.ipis.load(Ordering::Relaxed);
        accepted("send", notify(port));
        check!(
            until(|| b.ipis.load(Ordering::Relaxed) == before + 1),
            "the event came, once"
        );
        ask(b, ANSWER | u64::from(back) << 8);
        check!(until(|| events::port_pending(back)), "the answer came");
        events::clear_port(back);
    }
    accepted("close", guests::channels::close(back));
}

/// A vCPU that sleeps until it is sent to.
fn sleep(b: &Block) {
    let port = b.ipi_port.load(Ordering::Relaxed) as u32;
    for _ in 0..TIMES {
        ask(b, command::BLOCK);
        check!(
            until(|| b.command.load(Ordering::Relaxed) == command::NONE),
            "it heard"
        );
        pause(2_000_000);
        check!(!is_done(b, command::BLOCK), "it sleeps");
        accepted("send", notify(port));
        check!(until(|| is_done(b, command::BLOCK)), "it woke");
    }
}

/// Each has a timer of its own.
fn timers(b: &Block) {
    for _ in 0..TIMES {
        ask(b, command::TIMER);
        check!(until(|| is_done(b, command::TIMER)), "its timer fired");
    }
}

fn interrupts(id: u64, b: &Block) {
    let nmis = || b.traps[2].load(Ordering::Relaxed);
    let before = nmis();
    for sent in 1..=TIMES {
        accepted("send_nmi", plain(vcpu::SEND_NMI, id));
        check!(until(|| nmis() == before + sent), "the NMI came, once");
    }
}

/// It stands still while it is down, and goes on where it was.
fn down_and_up(id: u64, b: &Block) {
    for _ in 0..TIMES {
        accepted("down", plain(vcpu::DOWN, id));
        check_eq!("it is down", plain(vcpu::IS_UP, id), 0);
        let rounds = b.rounds.load(Ordering::Relaxed);
        pause(1_000_000);
        check_eq!("it stands still", b.rounds.load(Ordering::Relaxed), rounds);
        accepted("down again", plain(vcpu::DOWN, id));
        accepted("up", plain(vcpu::UP, id));
        check!(
            until(|| b.rounds.load(Ordering::Relaxed) > rounds + 1),
            "it goes on"
        );
    }
}

fn down_by_itself(id: u64, b: &Block) {
    for _ in 0..TIMES {
        ask(b, command::GO_DOWN);
        check!(until(|| plain(vcpu::IS_UP, id) == 0), "it went down");
        let rounds = b.rounds.load(Ordering::Relaxed);
        pause(1_000_000);
        check!(
            !is_done(b, command::GO_DOWN) && b.rounds.load(Ordering::Relaxed) == rounds,
            "its call has not returned"
        );
        accepted("up", plain(vcpu::UP, id));
        check!(until(|| is_done(b, command::GO_DOWN)), "its call returned");
    }
}
