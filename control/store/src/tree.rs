//! The tree of nodes, of which a snapshot is free.
//!
//! A [`Tree`] is a shared pointer to its root; cloning it is a snapshot. A change copies the nodes on its path
//! that a snapshot still sees, so a snapshot never changes and costs only what changes after it.
//!
//! # Invariants
//! - T1: what a clone shows never changes.
//! - T2: a stamp is the moment of the last change of what it stands for, and no two changes of one tree have the
//!   same moment: equal stamps mean that nothing changed between.
//! - T3: dropping a tree of any depth takes a constant amount of stack.

use std::sync::Arc;

use crate::map::Map;
use crate::{DomId, Path, Perms};

/// Bytes a node is charged for beyond its name, value and entries: what our structures take.
const NODE_BYTES: usize = 160;
/// Bytes an entry of a permission list is charged for, here and in a node's size.
pub(crate) const PERM_BYTES: usize = 4;

/// What may be known, and so change, about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aspect {
    /// Whether it is there, and its value.
    Value,
    /// Whether it is there, and who may do what.
    Perms,
    /// Whether it is there, and the names of its children.
    Children,
    /// It and all that is below it.
    Subtree,
}

/// One node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    value: Arc<[u8]>,
    perms: Perms,
    children: Map<Arc<Node>>,
    child_bytes: usize,
    stamps: [u64; 4],
}

impl Node {
    fn new(value: Arc<[u8]>, perms: Perms, now: u64) -> Self {
        Self {
            value,
            perms,
            children: Map::default(),
            child_bytes: 0,
            stamps: [now; 4],
        }
    }

    pub fn value(&self) -> &Arc<[u8]> {
        &self.value
    }

    pub fn perms(&self) -> &Perms {
        &self.perms
    }

    pub fn stamp(&self, aspect: Aspect) -> u64 {
        self.stamps.get(aspect as usize).copied().unwrap_or(0)
    }

    /// The children's names, ascending.
    pub fn child_names(&self) -> impl Iterator<Item = &str> {
        self.children.iter().map(|(name, _)| name.as_ref())
    }

    /// Bytes the children's names take with a NUL each.
    pub fn child_bytes(&self) -> usize {
        self.child_bytes
    }

    /// What the limit on a node's size counts.
    pub fn size(&self) -> usize {
        self.value.len() + self.child_bytes + self.perms.entries().len() * PERM_BYTES
    }

    fn touch(&mut self, aspect: Aspect, now: u64) {
        for aspect in [aspect, Aspect::Subtree] {
            if let Some(stamp) = self.stamps.get_mut(aspect as usize) {
                *stamp = now;
            }
        }
    }
}

/// Takes the tree below apart link by link, so that its depth is not the stack's (T3).
impl Drop for Node {
    fn drop(&mut self) {
        let mut maps = vec![std::mem::take(&mut self.children)];
        while let Some(map) = maps.pop() {
            map.into_unshared_values(|child| {
                if let Some(mut child) = Arc::into_inner(child) {
                    maps.push(std::mem::take(&mut child.children));
                }
            });
        }
    }
}

/// Bytes a node is charged for.
pub(crate) fn charge_of(name: &str, value: &[u8], perms: &Perms) -> usize {
    NODE_BYTES + name.len() + value.len() + perms.entries().len() * PERM_BYTES
}

/// One change of the tree. It is what a transaction remembers and the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A node that was not there, under a parent that is.
    Create {
        path: Path,
        value: Arc<[u8]>,
        perms: Perms,
    },
    /// Another value.
    Write { path: Path, value: Arc<[u8]> },
    /// Other entries.
    SetPerms { path: Path, perms: Perms },
    /// The node and all below it are gone.
    Remove { path: Path },
}

/// Who owns how much: told of each node that comes and goes.
pub(crate) trait Ledger {
    /// `nodes` and `bytes` more (or fewer) are `owner`'s.
    fn charge(&mut self, owner: DomId, nodes: i64, bytes: i64);
}

/// All nodes. The root is always there.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    root: Arc<Node>,
}

impl Tree {
    /// A root alone, the control domain's.
    pub fn new() -> Self {
        Self {
            root: Arc::new(Node::new(Arc::from([]), Perms::owned_by(0), 0)),
        }
    }

    /// The node at `path`.
    pub fn get(&self, path: &Path) -> Option<&Node> {
        path.components().try_fold(&*self.root, |node, name| {
            node.children.get(name).map(|child| &**child)
        })
    }

    /// The last change of this aspect; `None` while there is no such node.
    pub fn stamp(&self, path: &Path, aspect: Aspect) -> Option<u64> {
        self.get(path).map(|node| node.stamp(aspect))
    }

    /// The deepest node on the way to `path`, and the first path on that way that is not there.
    pub fn nearest(&self, path: &Path) -> (&Node, Path, Option<Path>) {
        let (mut node, mut at) = (&*self.root, Path::root());
        for name in path.components() {
            let below = at.child(name);
            match node.children.get(name) {
                Some(child) => (node, at) = (child, below),
                None => return (node, at, Some(below)),
            }
        }
        (node, at, None)
    }

    /// Carries out `change` at the moment `now`. `false`, and nothing changed, where the tree does not have what
    /// the change needs; plans made of this tree never meet that.
    pub fn apply(&mut self, change: &Change, now: u64, ledger: &mut dyn Ledger) -> bool {
        match change {
            Change::Create { path, value, perms } => self.create(path, value, perms, now, ledger),
            Change::Write { path, value } => self.write(path, value, now, ledger),
            Change::SetPerms { path, perms } => self.set_perms(path, perms, now, ledger),
            Change::Remove { path } => self.remove(path, now, ledger),
        }
    }

    fn create(
        &mut self,
        path: &Path,
        value: &Arc<[u8]>,
        perms: &Perms,
        now: u64,
        ledger: &mut dyn Ledger,
    ) -> bool {
        let Some(parent) = path.parent() else {
            return false;
        };
        if self.get(path).is_some() {
            return false;
        }
        let name = path.name();
        let done = self.edit(&parent, Aspect::Children, now, |node| {
            node.child_bytes += name.len() + 1;
            node.children.insert(
                name,
                Arc::new(Node::new(Arc::clone(value), perms.clone(), now)),
            );
        });
        if done {
            ledger.charge(perms.owner(), 1, signed(charge_of(name, value, perms)));
        }
        done
    }

    fn write(&mut self, path: &Path, value: &Arc<[u8]>, now: u64, ledger: &mut dyn Ledger) -> bool {
        self.edit(path, Aspect::Value, now, |node| {
            let more = signed(value.len()) - signed(node.value.len());
            // The root is nobody's use of anything: it was never created.
            if !path.is_root() {
                ledger.charge(node.perms.owner(), 0, more);
            }
            node.value = Arc::clone(value);
        })
    }

    fn set_perms(&mut self, path: &Path, perms: &Perms, now: u64, ledger: &mut dyn Ledger) -> bool {
        self.edit(path, Aspect::Perms, now, |node| {
            if !path.is_root() {
                let (name, value) = (path.name(), &node.value);
                ledger.charge(
                    node.perms.owner(),
                    -1,
                    -signed(charge_of(name, value, &node.perms)),
                );
                ledger.charge(perms.owner(), 1, signed(charge_of(name, value, perms)));
            }
            node.perms = perms.clone();
        })
    }

    fn remove(&mut self, path: &Path, now: u64, ledger: &mut dyn Ledger) -> bool {
        let (Some(parent), true) = (path.parent(), self.get(path).is_some()) else {
            return false;
        };
        let name = path.name();
        let mut removed = None;
        self.edit(&parent, Aspect::Children, now, |node| {
            removed = node.children.remove(name);
            node.child_bytes = node.child_bytes.saturating_sub(name.len() + 1);
        });
        let Some(top) = removed else { return false };
        let mut below = vec![(name, &*top)];
        while let Some((name, node)) = below.pop() {
            ledger.charge(
                node.perms.owner(),
                -1,
                -signed(charge_of(name, &node.value, &node.perms)),
            );
            below.extend(
                node.children
                    .iter()
                    .map(|(name, child)| (name.as_ref(), &**child)),
            );
        }
        true
    }

    /// Lets `edit` change the node at `path`, and stamps it and all above it.
    fn edit(
        &mut self,
        path: &Path,
        aspect: Aspect,
        now: u64,
        edit: impl FnOnce(&mut Node),
    ) -> bool {
        if self.get(path).is_none() {
            return false;
        }
        let mut node = Arc::make_mut(&mut self.root);
        for name in path.components() {
            node.touch(Aspect::Subtree, now);
            match node.children.get_mut(name) {
                Some(child) => node = Arc::make_mut(child),
                None => return false,
            }
        }
        node.touch(aspect, now);
        edit(node);
        true
    }

    /// Every node, parents before their children. The paths are made as they are asked for.
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            below: vec![(Path::root(), &self.root)],
        }
    }
}

/// Every node with its path.
pub(crate) struct Walk<'a> {
    below: Vec<(Path, &'a Node)>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = (Path, &'a Node);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, node) = self.below.pop()?;
        self.below.extend(
            node.children
                .iter()
                .map(|(name, child)| (path.child(name), &**child)),
        );
        Some((path, node))
    }
}

/// Sizes of things in memory fit.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
