//! When entries are made, and how old ones go.

use std::rc::Rc;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::Duration;

use ledger::Ledger;
use ledger::files::{Until, next_to_prune};
use ledger::record::Pruned;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval, timeout};
use xeno_api::{Error, Kind};

use super::{Keeper, Names, Which, now_ms, words};
use crate::daemon::Daemon;
use crate::log;

/// How long a guest waits for the disk of the record (A3).
const PATIENCE: Duration = Duration::from_secs(5);
/// Files that go at most from one entry to the next: more than ever come.
const FILES_AT_ONCE: usize = 4;

impl Keeper {
    /// Removes the oldest file of the record, if it goes, and answers what went. Waits for the disk.
    ///
    /// # Errors
    /// One sentence.
    pub fn prune(&self, until: &Until) -> Result<Option<Pruned>, String> {
        let _alone = self.pruning.lock().unwrap_or_else(PoisonError::into_inner);
        self.prune_alone(until, true)
    }

    fn prune_alone(&self, until: &Until, asked: bool) -> Result<Option<Pruned>, String> {
        let none = || "there is no usage record".to_owned();
        let (key, before) = {
            let mut state = self.state().ok_or_else(none)?;
            let state = &mut *state;
            let ledger = state.ledger.as_ref().ok_or_else(none)?;
            self.remove(ledger, &mut state.told)?;
            (ledger.public_key(), ledger.chain().pruned().copied())
        };
        // It takes its time, and entries are made meanwhile.
        let dir = &self.place.dir;
        let found = next_to_prune(dir, key, before.as_ref(), until, asked).map_err(words)?;
        let Some(pruned) = found else {
            return Ok(None);
        };
        let mut state = self.state().ok_or_else(none)?;
        let state = &mut *state;
        let ledger = state.ledger.as_mut().ok_or_else(none)?;
        if ledger.prune(now_ms(), pruned).map_err(words)?.is_none() {
            return Ok(None);
        }
        self.remove(ledger, &mut state.told)?;
        Ok(Some(pruned))
    }

    /// Removes what the record says that goes, when ring 0 knows of all there is: it must not remember less than was
    /// there.
    fn remove(&self, ledger: &Ledger, told: &mut u64) -> Result<(), String> {
        self.tell(ledger, told, &[]);
        if *told != ledger.chain().last().n {
            return Err("ring 0 does not know how long the usage record is".to_owned());
        }
        ledger.remove_pruned().map(drop).map_err(words)
    }

    /// Removes the oldest files while the record is longer than is kept, some at a time; and what was left of what went
    /// before.
    pub fn keep_to_limit(&self) {
        let mut said = match self.pruning.try_lock() {
            Ok(said) => said,
            Err(TryLockError::Poisoned(said)) => said.into_inner(),
            // Somebody is at it.
            Err(TryLockError::WouldBlock) => return,
        };
        if self.state().is_none_or(|state| state.ledger.is_none()) {
            return;
        }
        let until = Until {
            bytes: self.place.keep,
            before: None,
        };
        for _ in 0..FILES_AT_ONCE {
            match self.prune_alone(&until, false) {
                Ok(Some(pruned)) => log::line(format!(
                    "the usage record is longer than is kept: entries up to {} are removed{}",
                    pruned.last,
                    wrong(&pruned)
                )),
                Ok(None) => return said.clear(),
                Err(why) if *said == why => return,
                Err(why) => {
                    log::line(&why);
                    *said = why;
                    return;
                }
            }
        }
    }
}

/// What to say of what was wrong with what is removed.
fn wrong(pruned: &Pruned) -> String {
    match pruned.faults {
        0 => String::new(),
        faults => format!("; {faults} things were wrong with all that was removed so far"),
    }
}

impl Daemon {
    /// Makes entries in the usage record; answers when they are on the disk, or cannot be.
    pub async fn record(&self, which: Which) {
        if !self.accounting.keeps() {
            return;
        }
        let guests = self.guests();
        let named = guests.iter().map(|guest| (guest.uuid.0, guest.name()));
        let names: Names = named.collect();
        let keeper = Arc::clone(&self.accounting);
        let done = spawn_blocking(move || keeper.record(which, &names));
        match timeout(PATIENCE, done).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::line(format!("the thread that records usage: {error}")),
            Err(_) => log::line("the disk of the usage record takes its time: going on without it"),
        }
    }

    /// Removes old files of the usage record, as far as is asked for; answers what went.
    ///
    /// # Errors
    /// One sentence.
    pub async fn prune(&self, until: Until) -> Result<Option<Pruned>, Error> {
        if !self.accounting.keeps() {
            let what = "the hypervisor keeps no accounts: there is no usage record";
            return Err(Error::new(Kind::Unsupported, what));
        }
        let failed = |what: String| Error::new(Kind::Io, what);
        let mut gone = None;
        loop {
            let keeper = Arc::clone(&self.accounting);
            let one = spawn_blocking(move || keeper.prune(&until)).await;
            match one.map_err(|error| failed(words(error)))?.map_err(failed)? {
                Some(pruned) => gone = Some(pruned),
                None => return Ok(gone),
            }
        }
    }
}

/// Makes an entry of everything in every interval, and of domains that go when they do.
pub async fn serve(daemon: Rc<Daemon>) {
    let mut ticks = interval(daemon.accounting.place.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let keeper = Arc::clone(&daemon.accounting);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                daemon.record(Which::All).await;
                let keeper = Arc::clone(&keeper);
                let kept = spawn_blocking(move || keeper.keep_to_limit());
                // If it takes longer it goes on meanwhile.
                let _late = timeout(PATIENCE, kept).await;
            }
            () = keeper.nudged.notified() => daemon.record(Which::Ended).await,
        }
    }
}
