//! The usage record: what every domain used, interval by interval, so that nobody can change it afterwards unnoticed.
//!
//! ```text
//!   record ── one entry as a line of text, its hash            key ── who signs it
//!   chain  ── which entry may follow                            verify ── what is wrong with files, and which tail
//!   files  ── the same in a directory that survives power cuts             nobody can vouch for
//! ```
//! `docs/ledger.md` has the format, for strangers. `record`, `chain` and `verify` are values and bytes; `files` and `key`
//! have to do with the disk.
//!
//! # Invariants
//! - L1: an entry names the hash of the one before it, of the machine's chain and of its domain's; its number is one
//!   more. The only jump is a segment's first entry that says what was lost.
//! - L2: each entry is signed; so each is a head that vouches for all before it.
//! - L3: an entry has one form: bytes that read as it but are not what it is written as are no entry.
//! - L4: what [`files::Ledger::append`] answered for is on the disk, whole; what it did not is not there, or is a torn
//!   tail that the next start cuts off and tells.

#![forbid(unsafe_code)]

pub mod chain;
pub mod files;
pub mod hash;
pub mod key;
pub mod record;
pub mod verify;

pub use chain::Chain;
pub use files::{Ledger, LedgerError};
pub use key::{PublicKey, SecretKey};
pub use record::{Account, Hash, Head, Record, What};
