//! Who pays for an interval, which may be found out while it goes on.

use super::{CpuLedger, Due, Payer, Place};
use crate::ledger::usage::Cause;

/// Who pays for the open interval: for [`CpuLedger::pays_again`].
#[must_use]
#[derive(Clone, Copy, Debug)]
pub struct Paying {
    place: Place,
    elsewhere: Option<(Payer, Cause)>,
}

impl CpuLedger {
    /// Who pays.
    pub fn paying(&self) -> Paying {
        Paying {
            place: self.open.get(),
            elsewhere: self.elsewhere.get(),
        }
    }

    /// Whoever paid before does so again from now on, if another has claimed what goes on meanwhile. What nobody had
    /// claimed stays with whom claimed it.
    #[must_use]
    pub fn pays_again(&self, before: Paying, now: impl FnOnce() -> u64) -> Option<Due> {
        let open = self.open.get();
        let same = open == before.place
            && (open != Place::Elsewhere || self.elsewhere.get() == before.elsewhere);
        if same || matches!(before.place, Place::Fresh | Place::Unassigned) {
            return None;
        }
        self.restore(before, now())
    }

    fn restore(&self, before: Paying, now: u64) -> Option<Due> {
        self.close(now);
        let due = match before.elsewhere {
            Some((payer, cause)) if before.place == Place::Elsewhere => self.name(payer, cause),
            _ => None,
        };
        self.open(now, before.place);
        due
    }

    /// An interrupt in ring 0, where interrupts are let in, or while the CPU sleeps.
    pub fn interrupted(&self, now: u64) -> Paying {
        self.handled();
        let before = self.paying();
        let to = match before.place {
            place if place.is_in_hand() => Place::Fresh,
            // Whoever is worked for elsewhere has nobody in hand to pay.
            _ => Place::Unassigned,
        };
        self.boundary(now, to);
        before
    }

    /// The interrupt's handler is done. What was interrupted goes on, but for sleep: that is over.
    #[must_use]
    pub fn resumed(&self, now: u64, before: Paying) -> Option<Due> {
        if before.place == Place::Idle {
            return None;
        }
        self.handled();
        self.restore(before, now)
    }

    /// An interrupt that came with a guest is dealt with: if nobody claimed it the vCPU in hand pays.
    pub fn handled(&self) {
        if self.open.get() == Place::Fresh {
            self.rename(Place::Interrupt);
        }
    }

    /// Who is worked for elsewhere, if anybody is now.
    #[must_use]
    pub fn payer(&self) -> Option<(Payer, Cause)> {
        let elsewhere = self.elsewhere.get();
        elsewhere.filter(|_| self.open.get() == Place::Elsewhere)
    }

    /// Whether the vCPU in hand pays for a change of vCPUs.
    #[must_use]
    pub fn is_switching(&self) -> bool {
        self.open.get() == Place::Switch
    }

    /// The vCPU in hand was let run and has more to do before it can: that is its own, as for a call, whoever pays for
    /// letting it run.
    pub fn goes_on(&self, now: impl FnOnce() -> u64) {
        if matches!(self.open.get(), Place::Switch | Place::Elsewhere) {
            self.boundary(now(), Place::Call);
        }
    }

    /// The open interval is another's from its beginning.
    fn rename(&self, to: Place) {
        let last = self.last.get();
        self.close(last);
        self.open(last, to);
    }

    /// Whether nobody has claimed the open interval that could be claimed from its beginning.
    fn is_unclaimed(&self) -> bool {
        matches!(self.open.get(), Place::Fresh | Place::Unassigned)
    }

    /// What goes on is for the vCPU in hand or its siblings: from its beginning if it is an interrupt that nobody has
    /// claimed, or else from now on.
    pub fn claim(&self, cause: Cause, now: impl FnOnce() -> u64) {
        let to = Place::of(cause);
        if self.is_unclaimed() {
            self.rename(to);
        } else if self.open.get() != to {
            self.boundary(now(), to);
        }
    }

    /// As [`Self::claim`], but nothing if somebody has claimed what goes on.
    pub fn claim_fresh(&self, cause: Cause) {
        if self.open.get() == Place::Fresh {
            self.rename(Place::of(cause));
        }
    }

    /// As [`Self::claim`], for a domain of which no vCPU is in hand. Answers what is due from whoever was the last such.
    #[must_use]
    pub fn claim_elsewhere(
        &self,
        payer: Payer,
        cause: Cause,
        now: impl FnOnce() -> u64,
    ) -> Option<Due> {
        let open = self.open.get();
        if open == Place::Elsewhere && self.elsewhere.get() == Some((payer, cause)) {
            return None;
        }
        let at = match self.is_unclaimed() {
            true => self.last.get(),
            false => now(),
        };
        self.close(at);
        let due = self.name(payer, cause);
        self.open(at, Place::Elsewhere);
        due
    }

    /// As [`Self::claim`], for nobody: the machine's own.
    pub fn claim_machine(&self, now: impl FnOnce() -> u64) {
        match self.open.get() {
            Place::Machine => {}
            _ if self.is_unclaimed() => self.rename(Place::Machine),
            _ => self.boundary(now(), Place::Machine),
        }
    }

    /// Names who is worked for elsewhere. No interval is open there.
    fn name(&self, payer: Payer, cause: Cause) -> Option<Due> {
        let due = self.take_due();
        self.elsewhere.set(Some((payer, cause)));
        due
    }

    pub(super) fn take_due(&self) -> Option<Due> {
        let (payer, cause) = self.elsewhere.take()?;
        let cycles = self.take(Place::Elsewhere);
        Self::grow(&self.sold, cycles);
        Self::grow(&self.sold_aside, cycles);
        Some(Due {
            payer,
            cause,
            cycles,
        })
    }
}
