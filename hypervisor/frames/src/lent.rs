//! Work that its owner keeps until he goes on with it, and that another may go on with meanwhile.
//!
//! Who keeps it does so under a lock, which cannot be held while the work is done: it waits for other CPUs. So the helper
//! takes it away, does some of it, and brings it back.
//!
//! # Invariants
//! - Q1: a piece of work is in one place: here, with its owner, or with one helper.
//! - Q2: none is lost: each that is taken away is brought back, and each that nobody wants any more is handed to
//!   whoever learns so last, who gives it up.

use crate::DomId;

/// A piece of work, if there is one.
#[derive(Debug)]
pub struct Lent<W> {
    here: Option<W>,
    away: Option<Away>,
}

/// One that a helper has.
#[derive(Clone, Copy, Debug)]
struct Away {
    /// Whose tables it is on.
    dom: DomId,
    /// Nobody waits for it any more.
    unwanted: bool,
}

impl<W> Default for Lent<W> {
    fn default() -> Self {
        Lent {
            here: None,
            away: None,
        }
    }
}

impl<W> Lent<W> {
    /// What is here.
    pub fn here(&self) -> Option<&W> {
        self.here.as_ref()
    }

    /// Whether the owner has anything that is still wanted.
    pub fn is_any(&self) -> bool {
        self.here.is_some() || self.away.is_some_and(|away| !away.unwanted)
    }

    /// Whether a helper has work on a domain's tables.
    pub fn is_away(&self, dom: DomId) -> bool {
        self.away.is_some_and(|away| away.dom == dom)
    }

    /// The owner keeps a piece, in place of any other: that is the answer if it is here, to be given up.
    pub fn keep(&mut self, work: W) -> Option<W> {
        self.disown(|_| true);
        self.here.replace(work)
    }

    /// The owner goes on with what is here.
    pub fn take(&mut self) -> Option<W> {
        self.here.take()
    }

    /// What is here and is on tables of one whose they may be no more, to be given up; a helper does so with what he has.
    pub fn give_up(
        &mut self,
        dom_of: impl Fn(&W) -> DomId,
        whose: impl Fn(DomId) -> bool,
    ) -> Option<W> {
        self.disown(&whose);
        self.here.take_if(|work| whose(dom_of(work)))
    }

    fn disown(&mut self, whose: impl Fn(DomId) -> bool) {
        if let Some(away) = self.away.as_mut().filter(|away| whose(away.dom)) {
            away.unwanted = true;
        }
    }

    /// A helper takes what is here, if he wants it, on tables of `dom`'s. One at a time.
    pub fn lend(&mut self, dom: DomId, wants: impl Fn(&W) -> bool) -> Option<W> {
        if self.away.is_some() {
            return None;
        }
        let work = self.here.take_if(|work| wants(work))?;
        self.away = Some(Away {
            dom,
            unwanted: false,
        });
        Some(work)
    }

    /// He brings it back, or nothing if it came to nothing. The answer is for him to give up.
    pub fn bring_back(&mut self, work: Option<W>) -> Option<W> {
        let wanted = self.away.take().is_some_and(|away| !away.unwanted);
        if wanted && self.here.is_none() {
            self.here = work;
            return None;
        }
        work
    }
}
