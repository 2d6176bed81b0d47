//! The same terms for several vCPUs at once, those of a domain: all get them, or none.
//!
//! They are granted one after the other, as each alone would be; if one finds no room, those before it are taken back
//! to the unit, and nothing has changed. What would be granted to all is found by trying: [`Search`] says what to try
//! next, so that the caller can let others in between.

use crate::placement::{Change, Placement, Refusal};
use crate::rules::{Charge, Rules, Terms};

/// One of several.
#[derive(Debug)]
pub struct Member {
    /// Where it is admitted.
    pub cpu: usize,
    /// What it has.
    pub from: Terms,
    /// How it is granted what was asked for: set by [`Placement::amend_all`], for the caller to carry out.
    pub granted: Option<Change>,
}

impl Member {
    /// One that has `from` on `cpu`.
    #[must_use]
    pub const fn new(cpu: usize, from: Terms) -> Self {
        Self {
            cpu,
            from,
            granted: None,
        }
    }
}

impl Placement<'_> {
    /// Grants `to` to all of them, each as [`Placement::amend`] does, or to none. `allowed` is asked for a member by its
    /// place, and a CPU.
    ///
    /// # Errors
    /// The first that is refused, and why; the amounts are those of that one, after those before it. All keep what they
    /// have, and nothing is charged.
    pub fn amend_all(
        &mut self,
        now: u64,
        members: &mut [Member],
        to: &Terms,
        allowed: impl Fn(usize, usize) -> bool,
    ) -> Result<(), (usize, Refusal)> {
        for place in 0..members.len() {
            let Some(member) = members.get_mut(place) else {
                break;
            };
            let may = |cpu| allowed(place, cpu);
            match self.amend(now, member.cpu, &member.from, to, may) {
                Ok(change) => member.granted = Some(change),
                Err(refusal) => {
                    self.take_back(members, to);
                    return Err((place, refusal));
                }
            }
        }
        Ok(())
    }

    /// Whether [`Placement::amend_all`] would grant this; nothing is.
    pub fn would_amend_all(
        &mut self,
        now: u64,
        members: &mut [Member],
        to: &Terms,
        allowed: impl Fn(usize, usize) -> bool,
    ) -> bool {
        self.would_move(now, members, to, allowed).is_ok()
    }

    /// As [`Placement::would_amend_all`]: the first that would go to another CPU, by its place, and which; `None` if all
    /// would stay. Granted one by one, where each is then, they are granted all: one that has gone has left no less room.
    ///
    /// # Errors
    /// As [`Placement::amend_all`].
    pub fn would_move(
        &mut self,
        now: u64,
        members: &mut [Member],
        to: &Terms,
        allowed: impl Fn(usize, usize) -> bool,
    ) -> Result<Option<(usize, usize)>, (usize, Refusal)> {
        self.amend_all(now, members, to, allowed)?;
        let goes = |(place, member): (usize, &Member)| match member.granted {
            Some(Change::Elsewhere { to, .. }) => Some((place, to)),
            _ => None,
        };
        let first = members.iter().enumerate().find_map(goes);
        self.take_back(members, to);
        Ok(first)
    }

    /// Undoes what was granted, the last first, as nothing of it was carried out.
    fn take_back(&mut self, members: &mut [Member], to: &Terms) {
        for member in members.iter_mut().rev() {
            let Some(change) = member.granted.take() else {
                continue;
            };
            let (old, new) = (member.from.charge(self.rules()), to.charge(self.rules()));
            match change {
                Change::Here(_) => self.give(member.cpu, new.less(old), 0),
                Change::Elsewhere { to, .. } => {
                    self.give(to, new, 1);
                    self.take(member.cpu, Charge::NOTHING, 1);
                }
            }
        }
    }
}

/// Looks for the largest slice that all would be granted, with the same period.
///
/// What it answers was granted in a trial. Packing has its anomalies: where the vCPUs may run on different CPUs, a larger
/// slice than that may fit as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    /// The largest that fitted; 0 if none did.
    fits: u64,
    /// One that did not.
    does_not: u64,
    /// The shortest there is.
    shortest: u64,
}

impl Search {
    /// Begins below terms that were refused.
    #[must_use]
    pub const fn below(refused: &Terms, rules: &Rules) -> Self {
        Self {
            fits: 0,
            does_not: refused.slice(),
            shortest: rules.section(),
        }
    }

    /// Goes on where [`Self::parts`] were told. They may be anything: what makes no sense is brought to where it does.
    #[must_use]
    pub const fn resume(refused: &Terms, rules: &Rules, parts: (u64, u64)) -> Self {
        let mut search = Self::below(refused, rules);
        let (fits, does_not) = parts;
        if does_not >= search.shortest && does_not < search.does_not {
            search.does_not = does_not;
        }
        if fits >= search.shortest && fits < search.does_not {
            search.fits = fits;
        }
        search
    }

    /// What is known: the largest that fitted, and one that did not.
    #[must_use]
    pub const fn parts(&self) -> (u64, u64) {
        (self.fits, self.does_not)
    }

    /// The slice to try next; `None` when there is no doubt left. At most 41 times.
    #[must_use]
    pub const fn next(&self) -> Option<u64> {
        if self.fits == 0 {
            // Whether any at all fits comes first.
            return if self.does_not > self.shortest {
                Some(self.shortest)
            } else {
                None
            };
        }
        if self.does_not - self.fits > 1 {
            Some(self.fits + (self.does_not - self.fits) / 2)
        } else {
            None
        }
    }

    /// Notes whether that slice fitted.
    pub const fn note(&mut self, slice: u64, fits: bool) {
        if fits {
            self.fits = slice;
        } else {
            self.does_not = slice;
        }
    }

    /// The largest that fitted; 0 if none did.
    #[must_use]
    pub const fn largest(&self) -> u64 {
        self.fits
    }
}
