//! Frame types and counts, and the rules by which guest page tables may change: the heart of isolation.
//!
//! Pure logic: no hardware, no `unsafe`. The machine is reached through the trait [`Machine`], so the same
//! code runs under host tests against a simple model and in ring 0 on real memory.
//!
//! - [`frame`] - one 64-bit word a frame: owner, type, type count, general count; every change is one atomic.
//! - [`entry`] - page-table entries: what a guest may ask for and what is stored.
//! - [`table`] - references on tables, pins, updates of entries.
//! - [`work`] - validating and undoing tables, in parts.
//! - [`lent`] - work that its owner keeps and that helpers take away for a while.
//! - [`held`] - a reference as a value that gives itself back.
//! - [`audit`] - recounts everything from the tables themselves; [`totals`] is the sum of what it saw.
//!
//! # Invariants
//! - F1: a frame changes type only while its type count is zero. Held by `word::with_type` (W1).
//! - F2: a frame with a table type (L1-L4) or descriptor type is writable by no guest: a writable mapping is
//!   a reference of type `Writable`, and a frame has one type at a time. Follows from F1 and F4.
//! - F3: a frame returns to the allocator only when both counts are zero, and once. Held by the drops of
//!   [`Frame`]: exactly one of them sees zero, and nothing is taken from zero (W2).
//! - F4: every present entry of a validated table holds exactly one reference: a lower-level table entry a
//!   type reference of that level, a writable leaf a `Writable` reference, a read-only leaf a general one,
//!   a leaf that names no RAM none. Held by [`table`], checked by [`audit`].
//! - F5: between the last reference of a type (or the last of all) and the next use of the frame as anything
//!   else, every CPU that may hold a translation made under the old use has flushed it. Held by the stamp (see
//!   [`frame`]) and by whoever is told [`frame::Taken::Fresh`]; for upper-level entries by [`table::Tables::update`].
//! - F6: a table is validated by exactly one party; until it is, and while it is undone, nobody else can take a
//!   reference of that type. Held by `word::with_type` and [`Frame::put_type`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod atomic;
pub mod audit;
pub mod entry;
pub mod frame;
pub mod held;
pub mod lent;
mod machine;
mod name;
pub mod table;
#[cfg(test)]
mod tests;
pub mod totals;
mod update;
mod word;
pub mod work;

pub use entry::{ENTRIES_PER_TABLE, Entry, L4_RESERVED};
pub use frame::{DomId, Frame, FrameType, Level, Mfn};
pub use table::{Class, Machine, Refused};
