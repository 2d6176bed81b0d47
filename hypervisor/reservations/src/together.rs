//! The same terms for several vCPUs at once, those of a domain: all get them, or none.
//!
//! They are granted one after the other, as each alone would be; if one finds no room, those before it are taken back
//! to the unit, and nothing has changed. What would be granted to all is found by trying: [`Search`] says what to try
//! next, so that the caller can let others in between.

use crate::placement::{Placement, Refusal};
use crate::rules::{Charge, Rules, Terms};
use cpus::set::CpuSet;

/// One of several.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Where it is admitted.
    cpu: u32,
    /// Where it would be, from its decision on.
    then: u32,
    /// What it is charged.
    had: Charge,
}

impl Member {
    /// One that is charged `had` on `cpu`.
    #[must_use]
    pub const fn new(cpu: u32, had: Charge) -> Self {
        Self {
            cpu,
            then: cpu,
            had,
        }
    }
}

/// What is charged for terms, one after the other: mostly many have the same, and it takes a long division.
#[derive(Clone, Copy, Debug, Default)]
pub struct Charges {
    /// The last ones' slice and period, which is all that it depends on.
    last: (u64, u64),
    charge: Charge,
}

impl Charges {
    /// As [`Terms::charge`], under the same rules always.
    pub const fn of(&mut self, terms: &Terms, rules: &Rules) -> Charge {
        if terms.slice() != self.last.0 || terms.period() != self.last.1 {
            self.last = (terms.slice(), terms.period());
            self.charge = terms.charge(rules);
        }
        self.charge
    }
}

/// The first member that has to go to another CPU, by its place, and which CPU.
pub type Goes = Option<(usize, u32)>;

impl Placement<'_> {
    /// Grants `to` to all of them where they are, or to none. From then on each is charged the more of both, until what it
    /// had more is given back ([`Placement::given_back`]). If there is room for all, but not where they are, nothing is
    /// granted, and the first that has to go is told: granted one by one, where each is then, they are granted all, for one
    /// that has gone has left no less room.
    ///
    /// Each is granted it as by [`Placement::amend`], one after the other: where it is, where each may stay, or else on the
    /// first CPU with room of those that `allowed` answers for its place. The steps that takes are the sum of members and
    /// CPUs, not their product.
    ///
    /// # Errors
    /// The first that is refused, and why; the amounts are those of that one, after those before it. All keep what they
    /// have, and nothing is charged.
    pub fn amend_in_place(
        &mut self,
        now: u64,
        members: &mut [Member],
        to: &Terms,
        allowed: impl Fn(usize) -> CpuSet,
    ) -> Result<Goes, (usize, Refusal)> {
        let first = self.take_all(now, members, to, allowed)?;
        if first.is_some() {
            self.take_back(members, to.charge(self.rules()));
        }
        Ok(first)
    }

    /// As [`Placement::amend_in_place`], but nothing is granted in any case.
    ///
    /// # Errors
    /// As that.
    pub fn would_amend(
        &mut self,
        now: u64,
        members: &mut [Member],
        to: &Terms,
        allowed: impl Fn(usize) -> CpuSet,
    ) -> Result<Goes, (usize, Refusal)> {
        let first = self.take_all(now, members, to, allowed)?;
        self.take_back(members, to.charge(self.rules()));
        Ok(first)
    }

    fn take_all(
        &mut self,
        now: u64,
        members: &mut [Member],
        to: &Terms,
        allowed: impl Fn(usize) -> CpuSet,
    ) -> Result<Goes, (usize, Refusal)> {
        self.turn(now);
        let new = to.charge(self.rules());
        // A CPU leaves it as it fills: what members give up is not given back yet.
        let mut roomy = self.with_room(new);
        let mut first = None;
        for place in 0..members.len() {
            let Some(member) = members.get_mut(place) else {
                break;
            };
            let Member { cpu, had, .. } = *member;
            member.then = cpu;
            if !self.take_if_room(cpu as usize, new.less(had)) {
                let others = roomy.and(&allowed(place)).without(cpu);
                let Some(other) = others.first() else {
                    let may = allowed(place).with(cpu);
                    let may = |cpu: usize| may.contains(cpu as u32);
                    let refusal = self.refusal(to, &may, Some((cpu as usize, had)));
                    self.take_back(members.get(..place).unwrap_or_default(), new);
                    return Err((place, refusal));
                };
                member.then = other;
                self.take(other as usize, new, 1);
                self.give(cpu as usize, Charge::NOTHING, 1);
                first = first.or(Some((place, other)));
            }
            let fuller = member.then;
            if self.room(fuller as usize) < new {
                roomy = roomy.without(fuller);
            }
        }
        Ok(first)
    }

    /// Undoes what was taken, the last first, as nothing of it was carried out.
    fn take_back(&mut self, members: &[Member], new: Charge) {
        for &Member { cpu, then, had } in members.iter().rev() {
            if then == cpu {
                self.give(cpu as usize, new.less(had), 0);
            } else {
                self.give(then as usize, new, 1);
                self.take(cpu as usize, Charge::NOTHING, 1);
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
