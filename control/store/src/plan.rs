//! What a request would change: decided against a tree, before anything changes.
//!
//! Every operation on nodes is a question to a [`View`] and answers with the changes to make, or with the error.
//! The same questions serve a request on its own and one inside a transaction; there the view also notes what the
//! answer rested on, and that is what can conflict.

use std::sync::Arc;

use crate::perms::{Caller, Need};
use crate::quota::{Limits, Usage};
use crate::tree::{Aspect, Change, Node, PERM_BYTES, Tree, charge_of};
use crate::{Errno, Path, Perms};

/// What an answer rested on.
pub(crate) type Noted = Vec<(Path, Aspect)>;

/// A tree as one caller sees it.
pub(crate) struct View<'a> {
    tree: &'a Tree,
    caller: &'a Caller,
    limits: &'a Limits,
    used: Usage,
    noted: Noted,
}

impl<'a> View<'a> {
    /// `used` is what the caller's domain uses already, beside nodes too.
    pub fn new(tree: &'a Tree, caller: &'a Caller, limits: &'a Limits, used: Usage) -> Self {
        Self {
            tree,
            caller,
            limits,
            used,
            noted: Vec::new(),
        }
    }

    /// What the answers so far rested on.
    pub fn into_noted(self) -> Noted {
        self.noted
    }

    fn note(&mut self, path: &Path, aspect: Aspect) {
        self.noted.push((path.clone(), aspect));
    }

    /// The node, if the caller may do with it what needs `need`. Whoever may not see the node above is not told
    /// whether there is one.
    fn node(&mut self, path: &Path, need: Need) -> Result<&'a Node, Errno> {
        let tree = self.tree;
        let (node, at, missing) = tree.nearest(path);
        self.note(&at, Aspect::Perms);
        match missing {
            None if node.perms().allow(self.caller, need) => Ok(node),
            None => Err(Errno::Eacces),
            Some(missing) => {
                self.note(&missing, Aspect::Value);
                let need = if need == Need::Own { Need::Write } else { need };
                if node.perms().allow(self.caller, need) {
                    Err(Errno::Enoent)
                } else {
                    Err(Errno::Eacces)
                }
            }
        }
    }

    pub fn read(&mut self, path: &Path) -> Result<&'a Node, Errno> {
        let node = self.node(path, Need::Read)?;
        self.note(path, Aspect::Value);
        Ok(node)
    }

    pub fn list(&mut self, path: &Path) -> Result<&'a Node, Errno> {
        let node = self.node(path, Need::Read)?;
        self.note(path, Aspect::Children);
        Ok(node)
    }

    pub fn perms(&mut self, path: &Path) -> Result<&'a Perms, Errno> {
        Ok(self.node(path, Need::Read)?.perms())
    }

    pub fn write(&mut self, path: &Path, value: &[u8]) -> Result<Vec<Change>, Errno> {
        let node = match self.node(path, Need::Write) {
            Ok(node) => node,
            Err(Errno::Enoent) => return self.create(path, value),
            Err(error) => return Err(error),
        };
        self.note(path, Aspect::Value);
        if !self.caller.privileged {
            self.check_size(node.size() - node.value().len() + value.len())?;
            if node.perms().owner() == self.caller.domid {
                self.check_memory(value.len().saturating_sub(node.value().len()))?;
            }
        }
        Ok(vec![Change::Write {
            path: path.clone(),
            value: Arc::from(value),
        }])
    }

    pub fn mkdir(&mut self, path: &Path) -> Result<Vec<Change>, Errno> {
        match self.node(path, Need::Write) {
            Ok(_) => Ok(Vec::new()),
            Err(Errno::Enoent) => self.create(path, &[]),
            Err(error) => Err(error),
        }
    }

    /// The node and all missing ones above it, with the entries of the nearest that is there. A domain owns what
    /// it creates.
    fn create(&mut self, path: &Path, value: &[u8]) -> Result<Vec<Change>, Errno> {
        let (above, mut at, _) = self.tree.nearest(path);
        let depth = at.components().count();
        let mut perms = above.perms().clone();
        let names: Vec<&str> = path.components().skip(depth).collect();
        if !self.caller.privileged {
            perms = perms.with_owner(self.caller.domid);
            let first = names.first().map_or(0, |name| name.len() + 1);
            self.check_size(above.size() + first)?;
            let below = names
                .iter()
                .skip(1)
                .map(|name| name.len() + 1)
                .chain([value.len()]);
            self.check_size(below.max().unwrap_or(0) + perms.entries().len() * PERM_BYTES)?;
            if self.used.nodes + names.len() as i64 > i64::from(self.limits.nodes) {
                return Err(Errno::Enospc);
            }
            let bytes = names
                .iter()
                .map(|name| charge_of(name, &[], &perms))
                .sum::<usize>();
            self.check_memory(bytes + value.len())?;
        }
        let mut changes = Vec::with_capacity(names.len());
        for (level, name) in names.iter().enumerate() {
            at = at.child(name);
            let value = if level + 1 == names.len() { value } else { &[] };
            changes.push(Change::Create {
                path: at.clone(),
                value: Arc::from(value),
                perms: perms.clone(),
            });
        }
        Ok(changes)
    }

    pub fn remove(&mut self, path: &Path) -> Result<Vec<Change>, Errno> {
        match self.node(path, Need::Write) {
            Ok(_) if path.is_root() => Err(Errno::Einval),
            Ok(_) => {
                self.note(path, Aspect::Subtree);
                Ok(vec![Change::Remove { path: path.clone() }])
            }
            // Gone already is as good, if it could have been there.
            Err(Errno::Enoent)
                if path
                    .parent()
                    .is_some_and(|above| self.tree.get(&above).is_some()) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    pub fn set_perms(&mut self, path: &Path, perms: Perms) -> Result<Vec<Change>, Errno> {
        if !self.caller.privileged && perms.entries().len() > self.limits.permissions as usize {
            return Err(Errno::Enospc);
        }
        let node = self.node(path, Need::Own)?;
        if !self.caller.privileged && perms.owner() != node.perms().owner() {
            return Err(Errno::Eperm);
        }
        Ok(vec![Change::SetPerms {
            path: path.clone(),
            perms,
        }])
    }

    fn check_size(&self, bytes: usize) -> Result<(), Errno> {
        if bytes > self.limits.node_size as usize {
            Err(Errno::Enospc)
        } else {
            Ok(())
        }
    }

    fn check_memory(&self, more: usize) -> Result<(), Errno> {
        let after = self
            .used
            .bytes
            .saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
        if more > 0 && after > i64::from(self.limits.memory) {
            Err(Errno::Enomem)
        } else {
            Ok(())
        }
    }
}
