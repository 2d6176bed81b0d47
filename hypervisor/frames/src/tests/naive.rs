//! A naive model: what every frame must be, worked out from scratch from memory, pins and held references.

use super::machine::Toy;
use crate::{DomId, ENTRIES_PER_TABLE, Entry, FrameType, L4_RESERVED, Level, Mfn};
use std::collections::BTreeMap;
use std::vec::Vec;

/// A reference somebody holds besides the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    General(Mfn),
    Writable(Mfn),
    Table(Mfn, Level),
    Descriptors(Mfn),
}

/// What a test has done that memory does not show.
#[derive(Default)]
pub struct Ledger {
    pub owners: BTreeMap<u64, DomId>,
    /// Frames their owners still claim.
    pub claims: BTreeMap<u64, DomId>,
    pub pins: BTreeMap<u64, Level>,
    pub held: Vec<Held>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Uses {
    general: u64,
    /// Uses as writable, L1 to L4, descriptors: by number of the type.
    types: [u64; 7],
}

struct Count<'a> {
    toy: &'a Toy,
    uses: Vec<Uses>,
    walked: BTreeMap<u64, Level>,
}

impl Count<'_> {
    fn general(&mut self, mfn: Mfn) {
        self.uses[mfn.0 as usize].general += 1;
    }

    fn typed(&mut self, mfn: Mfn, of: FrameType) {
        self.uses[mfn.0 as usize].types[of as usize] += 1;
        if let Some(level) = of.level()
            && self.walked.insert(mfn.0, level).is_none()
        {
            self.walk(mfn, level);
        }
    }

    fn walk(&mut self, table: Mfn, level: Level) {
        for index in 0..ENTRIES_PER_TABLE {
            let entry = self.toy.peek(table.0, index);
            let reserved = level == Level::L4 && L4_RESERVED.contains(&index);
            if entry.0 & Entry::PRESENT == 0 || reserved {
                continue;
            }
            match level.below() {
                Some(below) => self.typed(entry.mfn(), below.frame_type()),
                None if entry.mfn().0 >= self.toy.nr_frames() => {}
                None if entry.0 & Entry::WRITABLE != 0 => {
                    self.typed(entry.mfn(), FrameType::Writable)
                }
                None => self.general(entry.mfn()),
            }
        }
    }
}

impl Ledger {
    /// Of [`super::two_domains`].
    pub fn of_two_domains() -> Ledger {
        let owner = |mfn| if mfn < 16 { super::A } else { super::B };
        let owners: BTreeMap<_, _> = (0..20).map(|mfn| (mfn, owner(mfn))).collect();
        Ledger {
            claims: owners.clone(),
            owners,
            ..Ledger::default()
        }
    }

    /// Of [`super::pinned_tree`].
    pub fn of_pinned_tree() -> Ledger {
        Ledger {
            pins: [(3, Level::L4)].into(),
            ..Self::of_two_domains()
        }
    }

    /// Checks every frame word against memory, pins and held references, and F2, F3 and F5 with them. Frames that
    /// died are forgotten.
    pub fn check(&mut self, toy: &Toy) {
        let uses = (0..toy.nr_frames()).map(|_| Uses::default()).collect();
        let mut count = Count {
            toy,
            uses,
            walked: BTreeMap::new(),
        };
        self.claims.keys().for_each(|&mfn| count.general(Mfn(mfn)));
        self.pins
            .iter()
            .for_each(|(&mfn, level)| count.typed(Mfn(mfn), level.frame_type()));
        for held in &self.held {
            match *held {
                Held::General(mfn) => count.general(mfn),
                Held::Writable(mfn) => count.typed(mfn, FrameType::Writable),
                Held::Table(mfn, level) => count.typed(mfn, level.frame_type()),
                Held::Descriptors(mfn) => count.typed(mfn, FrameType::Descriptors),
            }
        }
        for (mfn, uses) in (0..).zip(count.uses) {
            self.check_frame(toy, mfn, uses);
        }
        assert_eq!(toy.stale(), [], "F5");
        toy.touch();
    }

    fn check_frame(&mut self, toy: &Toy, mfn: u64, uses: Uses) {
        let snap = toy.at(mfn);
        let in_use: Vec<usize> = (0..7).filter(|&of| uses.types[of] > 0).collect();
        assert!(
            in_use.len() <= 1,
            "F1, F2: frame {mfn} is used as types {in_use:?}"
        );
        let types = in_use.first().map_or(0, |&of| uses.types[of]);
        assert_eq!(
            toy.counts(mfn),
            (types, uses.general),
            "F4: counts of frame {mfn}"
        );
        if let Some(&of) = in_use.first() {
            assert_eq!(snap.frame_type() as usize, of, "type of frame {mfn}");
            assert_eq!(
                snap.is_validated(),
                snap.frame_type().needs_validation(),
                "frame {mfn}"
            );
        }
        assert_eq!(
            snap.is_pinned(),
            self.pins.contains_key(&mfn),
            "pin of frame {mfn}"
        );
        assert_eq!(
            snap.is_allocated(),
            self.claims.contains_key(&mfn),
            "claim of frame {mfn}"
        );
        if types == 0 && uses.general == 0 {
            self.owners.remove(&mfn);
        }
        let owner = self.owners.get(&mfn).copied().unwrap_or(DomId::NOBODY);
        assert_eq!(snap.owner(), owner, "F3: owner of frame {mfn}");
    }
}
