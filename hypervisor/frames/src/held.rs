//! References as values: what was taken is given back when the value goes, so that no early return leaks one.
//!
//! A use is a Rust type ([`General`], [`Writable`], [`Table`], [`Descriptors`]), and a [`Held`] of one use cannot be
//! given back as another. What outlives the operation that took it - a page-table entry, a vCPU's root - keeps its
//! reference ([`Held::keep`]), and whoever ends that takes it over again ([`Held::kept`]).

use crate::frame::{DomId, Level, Mfn, Taken};
use crate::table::{Machine, Refused, Tables};

/// A way to hold a frame.
pub trait Use: Copy {
    /// Takes a reference for this use.
    ///
    /// # Errors
    /// Why the frame cannot be had for it; nothing has changed then.
    fn take<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) -> Result<(), Refused>;

    /// Gives one back.
    fn give<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn);
}

/// The frame exists and stays with its owner, whatever it is used for.
#[derive(Clone, Copy, Debug)]
pub struct General;

/// The frame is ordinary memory that may be written.
#[derive(Clone, Copy, Debug)]
pub struct Writable;

/// The frame is a validated page table of this level.
#[derive(Clone, Copy, Debug)]
pub struct Table(pub Level);

/// The frame is a checked page of descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors;

impl Use for General {
    fn take<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) -> Result<(), Refused> {
        Ok(tables.ram(mfn)?.get(Some(tables.dom))?)
    }

    fn give<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) {
        if let Ok(frame) = tables.ram(mfn) {
            tables.after(frame.put(tables.machine.flush_clock()), mfn);
        }
    }
}

impl Use for Writable {
    /// What translated the frame under another use is flushed before it is written (F5).
    fn take<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) -> Result<(), Refused> {
        let frame = tables.ram(mfn)?;
        if let Taken::Fresh { stamp, same: false } = frame.get_writable(Some(tables.dom))? {
            tables.machine.flush_since(stamp);
            frame.settle();
        }
        Ok(())
    }

    fn give<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) {
        if let Ok(frame) = tables.ram(mfn) {
            tables.after(frame.put_writable(tables.machine.flush_clock()), mfn);
        }
    }
}

impl Use for Table {
    fn take<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) -> Result<(), Refused> {
        tables.get_table(mfn, self.0)
    }

    fn give<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) {
        tables.put_table(mfn, self.0);
    }
}

impl Use for Descriptors {
    fn take<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) -> Result<(), Refused> {
        tables.get_descriptors(mfn)
    }

    fn give<M: Machine>(self, tables: &Tables<'_, M>, mfn: Mfn) {
        tables.put_descriptors(mfn);
    }
}

/// A reference on a frame, given back on drop.
#[must_use = "dropping it gives the reference back at once"]
pub struct Held<'m, M: Machine, U: Use> {
    tables: Tables<'m, M>,
    mfn: Mfn,
    how: U,
}

impl<'m, M: Machine, U: Use> Held<'m, M, U> {
    /// Takes over a reference that was kept: there must be one, and it is this value's from now on.
    pub fn kept(tables: Tables<'m, M>, mfn: Mfn, how: U) -> Self {
        Held { tables, mfn, how }
    }

    /// The frame.
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// The domain in whose name it is held.
    pub fn dom(&self) -> DomId {
        self.tables.dom
    }

    /// Leaves the reference standing, for something that lives on; [`Held::kept`] takes it over when that ends.
    pub fn keep(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl<M: Machine, U: Use> Drop for Held<'_, M, U> {
    fn drop(&mut self) {
        self.how.give(&self.tables, self.mfn);
    }
}

impl<'m, M: Machine> Tables<'m, M> {
    /// Takes a reference on one of the domain's frames for a use.
    ///
    /// # Errors
    /// As [`Use::take`].
    pub fn hold<U: Use>(&self, mfn: Mfn, how: U) -> Result<Held<'m, M, U>, Refused> {
        how.take(self, mfn)?;
        Ok(Held::kept(*self, mfn, how))
    }
}

impl<M: Machine> Held<'_, M, General> {
    /// Takes the frame from its owner's allotment: with the last reference it goes back to the allocator. Says
    /// whether the claim was still there.
    pub fn disown(&self) -> bool {
        let gone = self.tables.ram(self.mfn).is_ok_and(|frame| frame.disown());
        if gone {
            General.give(&self.tables, self.mfn);
        }
        gone
    }
}

/// A frame that is on its way from its owner to the allocator: nobody refers to it, and nobody can (W2 in `word`).
/// Dropped, it is its owner's as it was.
#[must_use = "dropping it gives the frame back to its owner"]
pub struct Sole<'m, M: Machine> {
    tables: Tables<'m, M>,
    mfn: Mfn,
}

impl<M: Machine> Sole<'_, M> {
    /// Takes the frame from its owner for good. The caller gives it to the allocator.
    pub fn give_up(self) -> Mfn {
        if let Ok(frame) = self.tables.ram(self.mfn) {
            frame.give_up(self.tables.machine.flush_clock());
        }
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl<M: Machine> Drop for Sole<'_, M> {
    fn drop(&mut self) {
        if let Ok(frame) = self.tables.ram(self.mfn) {
            frame.put_back();
        }
    }
}

impl<'m, M: Machine> Tables<'m, M> {
    /// Takes a frame away from the domain, which is its owner, if nothing refers to it but the domain's claim.
    ///
    /// # Errors
    /// For a frame that is another's, or that anybody refers to; nothing has changed then.
    pub fn take_sole(&self, mfn: Mfn) -> Result<Sole<'m, M>, Refused> {
        self.ram(mfn)?.take_sole(self.dom)?;
        let tables = *self;
        Ok(Sole { tables, mfn })
    }
}
