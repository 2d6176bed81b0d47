//! Validation of page tables by the fake hypervisor: the rules that a builder can break.

use super::{Fake, FakeDomain};
use std::collections::{BTreeMap, BTreeSet};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Entries of the root that are the hypervisor's.
const RESERVED: std::ops::Range<usize> = 256..272;

/// What hangs off a root.
#[derive(Default)]
struct Tree {
    /// Frames of tables, by level.
    tables: BTreeMap<u64, u32>,
    /// Frames that are mapped to be written.
    writable: BTreeSet<u64>,
}

impl Fake {
    /// Whether a tree is the domain's own, each table of one level, and none of them mapped to be written.
    pub(super) fn is_valid_tree(&self, domain: &FakeDomain, root: u64) -> bool {
        let owned: BTreeSet<u64> = domain
            .frames
            .values()
            .copied()
            .chain([domain.shared_info])
            .collect();
        let mut tree = Tree::default();
        self.visit(&owned, &mut tree, root, 4)
            && tree
                .tables
                .keys()
                .all(|table| !tree.writable.contains(table))
    }

    fn visit(&self, owned: &BTreeSet<u64>, tree: &mut Tree, frame: u64, level: u32) -> bool {
        if !owned.contains(&frame) {
            return false;
        }
        match tree.tables.insert(frame, level) {
            None => {}
            Some(before) => return before == level,
        }
        let mut bytes = vec![0; crate::PAGE];
        self.read_frame(frame, 0, &mut bytes);
        bytes.chunks_exact(8).enumerate().all(|(index, entry)| {
            let entry = entry
                .iter()
                .rev()
                .fold(0, |n, byte| n << 8 | u64::from(*byte));
            if entry & PRESENT == 0 {
                return true;
            }
            let to = (entry & FRAME) >> 12;
            match level {
                4 if RESERVED.contains(&index) => false,
                1 => {
                    if entry & WRITABLE != 0 {
                        tree.writable.insert(to);
                    }
                    owned.contains(&to)
                }
                _ => self.visit(owned, tree, to, level - 1),
            }
        })
    }
}
