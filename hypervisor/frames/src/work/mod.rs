//! Table work in parts: a validation that stops where its share of time ends, and tables that wait to be undone.
//!
//! Ring 0 lets nobody in while it works, and a tree of tables is as large as its owner likes. So both directions stop
//! between two entries and go on later:
//!
//! - A **validation** goes down: at most one table a level is in progress, each with the entries it has taken so far
//!   ([`Validation`]). Who stops keeps that value ([`crate::Machine::keep`]) and makes the call again; or another goes on
//!   with it ([`crate::table::Tables::advance`]) or gives it up ([`crate::table::Tables::abandon`]).
//! - Tables whose last reference went wait in an [`UndoList`], chained through their own records: no memory is needed,
//!   however many there are. Who let them go works the list off ([`crate::table::Tables::undo_some`]) before it goes on.
//!
//! Each direction has its file, `validate` and `undo`.
//!
//! A table in progress has one type reference, which is the work's, and is not valid: nobody else gets one (F6). Its
//! record says which of its entries hold references ([`Part`]), so that the audit can count them.
//!
//! # Invariants
//! - P1: of a table in progress exactly the entries of its [`Part`] hold references. Written whenever work stops.
//! - P2: who waits for a table in progress waits for one of a lower level than all that it has in progress itself: so
//!   no two wait for each other.
//! - P3: each call does some of the work, whatever the budget: repeated calls end.

mod undo;
mod validate;

pub use undo::UndoList;
pub use validate::Validation;

use crate::entry::ENTRIES_PER_TABLE;

/// What looking through a table costs beside its entries, in units of one entry.
const TABLE: u32 = 20;

/// The entries of a table in progress that hold references.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first.
    pub from: usize,
    /// One past the last.
    pub to: usize,
}

impl Part {
    /// A whole table.
    pub const WHOLE: Part = Part {
        from: 0,
        to: ENTRIES_PER_TABLE,
    };
}

/// Counts one more unit of those left, of which there is one (P3); says whether it was the last.
#[inline(always)]
fn spent(left: &mut u32) -> bool {
    *left = left.wrapping_sub(1);
    *left == 0
}
