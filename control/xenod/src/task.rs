//! The task that owns a guest's life: one a guest, from its being built to its end.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use xeno_api::{Created, Error, Kind, StopReason};

use crate::daemon::{Daemon, now_s};
use crate::guest::{Guest, Mail, Order, Outcome};
use crate::life::{self, Asked, Next};
use crate::state::{Phase, Then};
use crate::{ending, log, make, orders};

/// A guest that dies this soon after it was started dies in its first instant: whoever created it is told.
const INSTANT: Duration = if cfg!(test) {
    Duration::from_millis(100)
} else {
    Duration::from_millis(500)
};
/// A guest that did not live this long is not restarted by its description's rules: it would not the next time.
const TOO_SOON_S: u64 = 5;
/// Lines of a dead guest's console that are shown.
const LAST_LINES: usize = 20;

/// Where a guest's life is taken up.
pub enum Start {
    /// It is built.
    Build {
        /// It is left paused.
        paused: bool,
        /// Who asked for it.
        answer: oneshot::Sender<Result<Created, Error>>,
    },
    /// It was built by an earlier process.
    Alive,
    /// An earlier process did not finish with it.
    Ending(Then),
}

/// Somebody waits for a guest's end.
struct Waiting {
    answer: oneshot::Sender<Outcome>,
    /// Until then, if it is not for ever.
    deadline: Option<Instant>,
    /// Until its successor runs.
    reboot: bool,
    /// How long that is, to be told.
    wait: Duration,
}

/// Starts the task.
pub fn spawn(daemon: &Rc<Daemon>, guest: Rc<Guest>, mailbox: mpsc::Receiver<Mail>, start: Start) {
    let task = Task {
        daemon: Rc::clone(daemon),
        guest,
        mailbox,
        waiting: Vec::new(),
    };
    tokio::task::spawn_local(task.run(start));
}

struct Task {
    daemon: Rc<Daemon>,
    guest: Rc<Guest>,
    mailbox: mpsc::Receiver<Mail>,
    waiting: Vec<Waiting>,
}

impl Task {
    async fn run(mut self, start: Start) {
        let mut then = match start {
            Start::Build { paused, answer } => match self.create(paused).await {
                Ok(created) => {
                    let _gave_up_waiting = answer.send(Ok(created));
                    self.live().await
                }
                Err(error) => {
                    self.end(Then::Gone).await;
                    self.forget(false);
                    let _gave_up_waiting = answer.send(Err(error));
                    return;
                }
            },
            Start::Alive => {
                // An earlier process asked it, and it may have missed that.
                orders::remember(&self.guest, None);
                self.live().await
            }
            Start::Ending(then) => then,
        };
        loop {
            let lingers = self.end(then).await;
            if then == Then::Gone {
                return self.forget(lingers);
            }
            then = match self.build(false).await {
                Ok(()) => {
                    self.answer_waiting(|waiting| waiting.reboot, &Ok(false));
                    self.live().await
                }
                Err(error) => {
                    log::line(format!("{} is not built again: {error}", self.guest.name()));
                    self.answer_waiting(|_| true, &Err(error));
                    Then::Gone
                }
            };
        }
    }

    /// Builds the guest for somebody who asked for it, and sees it through its first instant.
    async fn create(&mut self, paused: bool) -> Result<Created, Error> {
        self.build(paused).await?;
        let created = Created {
            id: self.guest.domain().unwrap_or_default(),
            name: self.guest.name(),
        };
        let deadline = Instant::now() + INSTANT;
        while !paused && Instant::now() < deadline {
            let _no_news = timeout(
                deadline.saturating_duration_since(Instant::now()),
                self.guest.news.notified(),
            )
            .await;
            if let Next::End(reason, _) | Next::Stay(reason) = self.next() {
                return Err(self.died(reason));
            }
        }
        Ok(created)
    }

    fn died(&self, reason: StopReason) -> Error {
        self.daemon.last_words(&self.guest);
        let lines = self
            .guest
            .console
            .borrow()
            .screen()
            .kept()
            .last_lines(LAST_LINES);
        let last = if lines.is_empty() {
            "it printed nothing"
        } else {
            "its last lines follow"
        };
        let what = format!(
            "{} {} in its first instant and is gone: {last}",
            self.guest.name(),
            life::words(reason)
        );
        Error::new(Kind::Died, what).with_details(lines)
    }

    /// Builds the guest and lets it run.
    async fn build(&mut self, paused: bool) -> Result<(), Error> {
        make::build(&self.daemon, &self.guest).await?;
        if !paused && let Some(domain) = self.guest.domain() {
            let unpaused = self.daemon.hypervisor.unpause(domain);
            unpaused.map_err(|error| Error::new(Kind::Hypervisor, error.to_string()))?;
        }
        {
            let mut record = self.guest.record.borrow_mut();
            record.phase = Phase::Alive;
            record.asked = Asked::Nothing;
        }
        make::put(&self.daemon, &self.guest)?;
        self.guest.stopped.set(None);
        self.guest.again.set(None);
        self.daemon.tell(&self.guest, false);
        Ok(())
    }

    fn next(&self) -> Next {
        let record = self.guest.record.borrow();
        match self.daemon.info(&record) {
            Ok(info) => life::next(&record.guest, record.asked, info.as_ref()),
            Err(error) => {
                log::line(error);
                Next::Live
            }
        }
    }

    /// Lives with the guest until it is to be taken down.
    async fn live(&mut self) -> Then {
        loop {
            match self.next() {
                Next::Live => {}
                Next::Stay(reason) => self.stay(reason),
                Next::End(reason, then) => return self.ended(reason, then),
            }
            let soonest = self
                .waiting
                .iter()
                .filter_map(|waiting| waiting.deadline)
                .chain(self.guest.again.get().map(|again| again.next))
                .min();
            let patience = async {
                match soonest {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.guest.news.notified() => {}
                mail = self.mailbox.recv() => {
                    // The guest itself holds a sender, so there is always one.
                    if let Some(mail) = mail && self.carry_out(mail) {
                        self.guest.console.borrow_mut().note("destroyed").unwrap_or_else(log::line);
                        return Then::Gone;
                    }
                }
                () = patience => {
                    self.give_up_waiting();
                    orders::ask_again(&self.daemon, &self.guest);
                }
            }
        }
    }

    /// It stopped and is kept.
    fn stay(&mut self, reason: StopReason) {
        self.guest.again.set(None);
        if self.guest.stopped.replace(Some(reason)).is_none() {
            log::line(format!(
                "{} {} and is kept",
                self.guest.name(),
                life::words(reason)
            ));
            self.daemon.tell(&self.guest, false);
        }
        self.answer_waiting(|_| true, &Ok(false));
    }

    /// It stopped, or is gone.
    fn ended(&mut self, reason: StopReason, then: Then) -> Then {
        let (name, words) = (self.guest.name(), life::words(reason));
        let since_s = self
            .guest
            .record
            .borrow()
            .built
            .map_or(0, |built| built.since_s);
        let lived_s = now_s().saturating_sub(since_s);
        let asked = self.guest.record.borrow().asked;
        let too_soon = lived_s < TOO_SOON_S && asked != Asked::Reboot;
        let (then, more) = match then {
            Then::Restart if too_soon => (Then::Gone, " too soon to be built again"),
            Then::Restart => (Then::Restart, "; it is built again"),
            Then::Gone => (Then::Gone, ""),
        };
        log::line(format!("{name} {words}{more}"));
        self.daemon.last_words(&self.guest);
        let words = format!("{name} {words}{more}");
        self.guest
            .console
            .borrow_mut()
            .note(&words)
            .unwrap_or_else(log::line);
        then
    }

    /// Takes the guest down. Answers whether its domain lingers.
    async fn end(&mut self, then: Then) -> bool {
        self.guest.record.borrow_mut().phase = Phase::Ending { then };
        // Not written, it is taken for alive after a restart, and found stopped or gone.
        let _told = make::put(&self.daemon, &self.guest);
        self.daemon.tell(&self.guest, then == Then::Gone);
        let lingers = ending::take_down(&self.daemon, &self.guest).await;
        self.guest.again.set(None);
        if then == Then::Restart {
            // Written before there is another domain with this handle: it is found by the handle then.
            self.guest.record.borrow_mut().built = None;
            let _told = make::put(&self.daemon, &self.guest);
        }
        lingers
    }

    /// Nothing is left of the guest.
    fn forget(mut self, lingers: bool) {
        self.guest.console.borrow_mut().close();
        if let Err(error) = self.daemon.state.forget(self.guest.uuid) {
            log::line(error);
        }
        self.daemon.guests.borrow_mut().remove(&self.guest.uuid);
        self.answer_waiting(|_| true, &Ok(lingers));
        self.mailbox.close();
        while let Ok(mail) = self.mailbox.try_recv() {
            if let Order::Destroy | Order::Stop { reboot: false, .. } = mail.order {
                let _gave_up_waiting = mail.answer.send(Ok(lingers));
            }
        }
    }

    /// Carries out an order, or notes who waits for its end. Whether the guest is to be taken down.
    fn carry_out(&mut self, mail: Mail) -> bool {
        let (outcome, wait) = match mail.order {
            Order::Destroy => {
                self.waiting.push(Waiting {
                    answer: mail.answer,
                    deadline: None,
                    reboot: false,
                    wait: Duration::ZERO,
                });
                return true;
            }
            Order::Stop { reboot, wait } => (
                orders::stop(&self.daemon, &self.guest, reboot, wait),
                wait.map(|wait| (wait, reboot)),
            ),
            order => (orders::now(&self.daemon, &self.guest, order), None),
        };
        match (outcome, wait) {
            (Ok(()), Some((wait, reboot))) => self.waiting.push(Waiting {
                answer: mail.answer,
                deadline: Some(Instant::now() + wait),
                reboot,
                wait,
            }),
            (outcome, _) => {
                let _gave_up_waiting = mail.answer.send(outcome.map(|()| false));
            }
        }
        false
    }

    /// Tells those whose time is up.
    fn give_up_waiting(&mut self) {
        let now = Instant::now();
        let late = |waiting: &Waiting| waiting.deadline.is_some_and(|deadline| deadline <= now);
        for index in (0..self.waiting.len()).rev() {
            if self.waiting.get(index).is_some_and(late) {
                let waiting = self.waiting.swap_remove(index);
                let error = orders::late(&self.daemon, &self.guest, waiting.reboot, waiting.wait);
                let _gave_up_waiting = waiting.answer.send(Err(error));
            }
        }
    }

    fn answer_waiting(&mut self, which: impl Fn(&Waiting) -> bool, outcome: &Outcome) {
        for index in (0..self.waiting.len()).rev() {
            if self.waiting.get(index).is_some_and(&which) {
                let waiting = self.waiting.swap_remove(index);
                let _gave_up_waiting = waiting.answer.send(outcome.clone());
            }
        }
    }
}
