//! A descriptor is taken away while a vCPU with its selector is not on a processor, or soon is not any more: a processor
//! keeps what it has loaded. When the vCPU comes back the selector is null and the failsafe callback is told which were
//! wanted, once, in whatever mode it was.

use core::sync::atomic::Ordering;

use guest_runtime::abi::nr;
use guest_runtime::frames::Page;
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq};
use guests::accepted;

use crate::commands::{ask, is_done};
use crate::spinning::{nothing_wrong, pause, until};
use crate::start::{self, DATA_DESCRIPTOR};
use crate::worker::command;
use crate::{WORKERS, block};

const TIMES: u64 = 2;

pub fn all() {
    for worker in 0..WORKERS.len() {
        for _ in 0..TIMES {
            taken(worker, start::table(worker));
            taken(worker, start::local_table(worker));
        }
        nothing_wrong(worker);
    }
}

fn set(table: Page, index: u64, descriptor: u64) -> i64 {
    let address = table.maddr() + 8 * index;
    call(nr::UPDATE_DESCRIPTOR, [address, descriptor, 0, 0, 0])
}

fn taken(worker: usize, table: Page) {
    let b = block::kernel(worker);
    let index = start::data_index(worker);
    let failsafes = || b.failsafes.load(Ordering::Relaxed);
    let before = failsafes();
    accepted("the descriptor is taken", set(table, index, 0));
    check!(until(|| failsafes() > before), "the callback was called");
    let rounds = b.rounds.load(Ordering::Relaxed);
    check!(
        until(|| b.rounds.load(Ordering::Relaxed) > rounds + 1),
        "it goes on without"
    );
    pause(3_000_000);
    check_eq!("it was called once", failsafes(), before + 1);
    let wanted = [0, 1, 2, 3].map(|i| b.wanted[i].load(Ordering::Relaxed) as u16);
    check_eq!("what it was told", wanted, start::selectors(worker));
    accepted("the descriptor is back", set(table, index, DATA_DESCRIPTOR));
    ask(b, command::RELOAD);
    check!(until(|| is_done(b, command::RELOAD)), "it has it again");
}
