//! The store as plain as can be: a map from paths to values and entries.

use std::collections::{BTreeMap, BTreeSet};

use guest_abi::xenstore::XsdMessage as Op;
use store::DomId;

use crate::harness::{Answer, error, ok};

pub type Entries = Vec<(char, DomId)>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model(pub BTreeMap<String, (Vec<u8>, Entries)>);

pub fn parent(path: &str) -> Option<String> {
    let slash = path.rfind('/')?;
    match (path, slash) {
        ("/", _) => None,
        (_, 0) => Some("/".to_owned()),
        _ => Some(path[..slash].to_owned()),
    }
}

pub fn is_at_or_below(path: &str, above: &str) -> bool {
    path == above || above == "/" || path.starts_with(&format!("{above}/"))
}

pub fn may(entries: &Entries, who: DomId, letters: &str) -> bool {
    let named = entries[1..]
        .iter()
        .find(|entry| entry.1 == who)
        .unwrap_or(&entries[0]);
    who == 0 || entries[0].1 == who || letters.contains(named.0)
}

/// A request of the model: what it is, on which path, with what.
#[derive(Clone, Debug)]
pub enum Ask {
    Read(String),
    List(String),
    Perms(String),
    Write(String, Vec<u8>),
    Mkdir(String),
    Rm(String),
    SetPerms(String, Entries),
}

impl Ask {
    pub fn path(&self) -> &str {
        match self {
            Self::Read(path)
            | Self::List(path)
            | Self::Perms(path)
            | Self::Mkdir(path)
            | Self::Rm(path) => path,
            Self::Write(path, _) | Self::SetPerms(path, _) => path,
        }
    }

    pub fn wire(&self) -> (Op, Vec<u8>) {
        let plain = |path: &str| format!("{path}\0").into_bytes();
        match self {
            Self::Read(path) => (Op::Read, plain(path)),
            Self::List(path) => (Op::Directory, plain(path)),
            Self::Perms(path) => (Op::GetPerms, plain(path)),
            Self::Mkdir(path) => (Op::Mkdir, plain(path)),
            Self::Rm(path) => (Op::Rm, plain(path)),
            Self::Write(path, value) => (Op::Write, [plain(path), value.clone()].concat()),
            Self::SetPerms(path, entries) => {
                (Op::SetPerms, [plain(path), listed(entries)].concat())
            }
        }
    }
}

pub fn listed(entries: &Entries) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|(letter, domid)| format!("{letter}{domid}\0").into_bytes())
        .collect()
}

impl Model {
    pub fn new() -> Self {
        let node = |owner| (Vec::new(), vec![('n', owner)]);
        let own = [
            ("/", 0),
            ("/tool", 0),
            ("/tool/xenstored", 0),
            ("/local", 0),
            ("/local/domain", 0),
        ];
        let homes = [("/local/domain/1", 1), ("/local/domain/2", 2)];
        Self(
            own.into_iter()
                .chain(homes)
                .map(|(path, owner)| (path.to_owned(), node(owner)))
                .collect(),
        )
    }

    /// The refusal of what needs one of `letters`, if it is refused.
    pub fn refusal(
        &self,
        path: &str,
        who: DomId,
        letters: &str,
        own: bool,
    ) -> Option<&'static str> {
        match self.0.get(path) {
            Some((_, entries)) if own => (who != 0 && entries[0].1 != who).then_some("EACCES"),
            Some((_, entries)) => (!may(entries, who, letters)).then_some("EACCES"),
            None => {
                let mut above = parent(path).unwrap();
                while !self.0.contains_key(&above) {
                    above = parent(&above).unwrap();
                }
                Some(if may(&self.0[&above].1, who, letters) {
                    "ENOENT"
                } else {
                    "EACCES"
                })
            }
        }
    }

    pub fn children(&self, path: &str) -> Vec<u8> {
        let names = self
            .0
            .keys()
            .filter(|child| parent(child).as_deref() == Some(path));
        names
            .flat_map(|child| [child.rsplit('/').next().unwrap().as_bytes(), b"\0"].concat())
            .collect()
    }

    pub fn create(&mut self, path: &str, who: DomId, value: &[u8]) {
        if !self.0.contains_key(path) {
            let above = parent(path).unwrap();
            self.create(&above, who, &[]);
            let mut entries = self.0[&above].1.clone();
            if who != 0 {
                entries[0].1 = who;
            }
            self.0.insert(path.to_owned(), (value.to_vec(), entries));
        }
    }

    /// Carries the request out; `true` if it changed something.
    pub fn carry_out(&mut self, ask: &Ask, who: DomId) -> (Answer, bool) {
        let path = ask.path();
        let (letters, own) = match ask {
            Ask::Read(_) | Ask::List(_) | Ask::Perms(_) => ("rb", false),
            Ask::SetPerms(..) => ("wb", true),
            _ => ("wb", false),
        };
        let refusal = self.refusal(path, who, letters, own);
        match (ask, refusal) {
            (Ask::Write(_, value), Some("ENOENT")) => self.create(path, who, value),
            (Ask::Mkdir(_), Some("ENOENT")) => self.create(path, who, &[]),
            (Ask::Rm(_), Some("ENOENT")) if self.0.contains_key(&parent(path).unwrap()) => {
                return (ok(), false);
            }
            (_, Some(refusal)) => return (error(refusal), false),
            (Ask::Read(_), None) => return (Ok(self.0[path].0.clone()), false),
            (Ask::List(_), None) => return (Ok(self.children(path)), false),
            (Ask::Perms(_), None) => return (Ok(listed(&self.0[path].1)), false),
            (Ask::Mkdir(_), None) => return (ok(), false),
            (Ask::Write(_, value), None) => self.0.get_mut(path).unwrap().0 = value.clone(),
            (Ask::Rm(_), None) if path == "/" => return (error("EINVAL"), false),
            (Ask::Rm(_), None) => self.0.retain(|other, _| !is_at_or_below(other, path)),
            (Ask::SetPerms(_, entries), None) => {
                if who != 0 && entries[0].1 != self.0[path].1[0].1 {
                    return (error("EPERM"), false);
                }
                self.0.get_mut(path).unwrap().1 = entries.clone();
            }
        }
        (ok(), true)
    }

    /// Who of the watchers is told of a change of `path` from `self` to `after`, by client and watched path.
    pub fn told(
        &self,
        after: &Self,
        path: &str,
        removed: bool,
        watches: &Watches,
    ) -> BTreeSet<(DomId, String, String)> {
        let mut told = BTreeSet::new();
        if !self.0.contains_key(path) && !after.0.contains_key(path) {
            return told;
        }
        let sees = |who, path: &str| {
            let node = |tree: &Self, path: &str| {
                tree.0
                    .get(path)
                    .is_some_and(|(_, entries)| may(entries, who, "rb"))
            };
            let near = [Some(path.to_owned()), parent(path)];
            who == 0
                || near
                    .iter()
                    .flatten()
                    .any(|path| node(self, path) || node(after, path))
        };
        for (who, watched) in watches {
            if is_at_or_below(path, watched) && sees(*who, path) {
                told.insert((*who, watched.clone(), path.to_owned()));
            } else if removed
                && is_at_or_below(watched, path)
                && self.0.contains_key(watched)
                && sees(*who, watched)
            {
                told.insert((*who, watched.clone(), watched.clone()));
            }
        }
        told
    }
}

pub type Watches = BTreeSet<(DomId, String)>;
