//! Tests: a simple machine, a naive model to compare with, claims one by one, random sequences, interleavings.

mod counts;
mod entries;
mod foreign;
mod held;
mod interleavings;
mod lent;
mod machine;
mod naive;
mod parts;
mod random;
mod recount;
mod refusals;
mod tables;

use interleave as schedule;

use crate::{DomId, Entry, Mfn};
use machine::Toy;

const A: DomId = DomId(1);
const B: DomId = DomId(2);

/// A writable leaf or an entry naming a table, in stored form.
fn rw(mfn: u64) -> Entry {
    Entry(mfn << 12 | Entry::PRESENT | Entry::WRITABLE | Entry::USER)
}

/// A read-only leaf, in stored form.
fn ro(mfn: u64) -> Entry {
    Entry(mfn << 12 | Entry::PRESENT | Entry::USER)
}

/// A machine of 24 frames: 0 to 15 are A's, 16 to 19 B's, the rest free.
fn two_domains() -> Toy {
    let toy = Toy::new(24);
    for mfn in 0..16 {
        assert!(toy.assign(Mfn(mfn), A));
    }
    for mfn in 16..20 {
        assert!(toy.assign(Mfn(mfn), B));
    }
    toy
}

/// As [`two_domains`], with A's tables 3 (L4) -> 2 (L3) -> 1 (L2) -> 0 (L1), the root pinned. The L1 maps frame 4
/// writable (entry 0) and frame 5 read-only (entry 1).
fn pinned_tree() -> Toy {
    let toy = two_domains();
    toy.poke(0, 0, rw(4));
    toy.poke(0, 1, ro(5));
    for level in 1..4 {
        toy.poke(level, 0, rw(level - 1));
    }
    assert_eq!(toy.tables(A).pin(Mfn(3), crate::Level::L4), Ok(()));
    toy
}
