//! Who may do what to a node.
//!
//! A node has a list of entries, each an access and a domain. The first entry is special: its domain owns the
//! node, and its access is what every domain has that no other entry names. Among the others the first that names
//! the caller counts. The control domain may do everything.

use std::sync::Arc;

use crate::{DomId, Errno, FIRST_RESERVED_DOMID};

/// What an entry lets a domain do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// See the value, the children and the entries.
    Read,
    /// Change the value, make and remove children.
    Write,
    /// Both.
    Both,
}

impl Access {
    const fn letter(self) -> u8 {
        match self {
            Self::None => b'n',
            Self::Read => b'r',
            Self::Write => b'w',
            Self::Both => b'b',
        }
    }

    const fn of_letter(letter: u8) -> Option<Self> {
        Some(match letter {
            b'n' => Self::None,
            b'r' => Self::Read,
            b'w' => Self::Write,
            b'b' => Self::Both,
            _ => return None,
        })
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Perm {
    /// What it grants.
    pub access: Access,
    /// To whom.
    pub domid: DomId,
}

/// What a caller needs to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To see.
    Read,
    /// To change.
    Write,
    /// To change who may do what.
    Own,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The domain; sockets speak as the control domain.
    pub domid: DomId,
    /// The domain it may act for, given by `SET_TARGET`.
    pub target: Option<DomId>,
    /// Whether every node is open to it and no quota binds it.
    pub privileged: bool,
}

impl Caller {
    /// The control domain.
    pub const CONTROL: Self = Self {
        domid: 0,
        target: None,
        privileged: true,
    };

    fn is(&self, domid: DomId) -> bool {
        self.domid == domid || self.target == Some(domid)
    }
}

/// A node's entries, of which there is at least one. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Perms(Arc<[Perm]>);

impl Perms {
    /// Entries that say only that `domid` owns the node.
    pub fn owned_by(domid: DomId) -> Self {
        Self(Arc::from([Perm {
            access: Access::None,
            domid,
        }]))
    }

    /// These entries; `None` if there are none.
    pub fn new(entries: &[Perm]) -> Option<Self> {
        (!entries.is_empty()).then(|| Self(Arc::from(entries)))
    }

    /// The entries in order.
    pub fn entries(&self) -> &[Perm] {
        &self.0
    }

    /// The owner.
    pub fn owner(&self) -> DomId {
        self.0.first().map_or(0, |first| first.domid)
    }

    /// The same entries with another owner.
    pub fn with_owner(&self, domid: DomId) -> Self {
        let mut entries = self.0.to_vec();
        if let Some(first) = entries.first_mut() {
            first.domid = domid;
        }
        Self(Arc::from(entries))
    }

    /// The entries without those that name `domid` behind the first; `None` if there is no such entry.
    pub fn without(&self, domid: DomId) -> Option<Self> {
        let others = |(at, perm): &(usize, &Perm)| *at == 0 || perm.domid != domid;
        let kept: Vec<Perm> = self
            .0
            .iter()
            .enumerate()
            .filter(others)
            .map(|(_, perm)| *perm)
            .collect();
        (kept.len() < self.0.len()).then(|| Self(Arc::from(kept)))
    }

    /// Whether `caller` may do what needs `need`.
    pub fn allow(&self, caller: &Caller, need: Need) -> bool {
        if caller.privileged || caller.is(self.owner()) {
            return true;
        }
        let named = self.0.iter().skip(1).find(|perm| caller.is(perm.domid));
        let access = named
            .or(self.0.first())
            .map_or(Access::None, |perm| perm.access);
        match need {
            Need::Read => matches!(access, Access::Read | Access::Both),
            Need::Write => matches!(access, Access::Write | Access::Both),
            Need::Own => false,
        }
    }

    /// The entries of strings such as `r12`.
    pub fn parse(strings: &[&[u8]]) -> Result<Self, Errno> {
        let entry = |text: &&[u8]| {
            let (letter, number) = text.split_first().ok_or(Errno::Einval)?;
            let access = Access::of_letter(*letter).ok_or(Errno::Einval)?;
            let domid = crate::wire::decimal(number).ok_or(Errno::Einval)?;
            let domid = DomId::try_from(domid).map_err(|_| Errno::Enoent)?;
            if domid >= FIRST_RESERVED_DOMID {
                Err(Errno::Enoent)
            } else {
                Ok(Perm { access, domid })
            }
        };
        let entries = strings.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        Self::new(&entries).ok_or(Errno::Einval)
    }

    /// The strings, each with its terminating NUL, as `GET_PERMS` answers.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.0.len() * 4);
        for perm in self.0.iter() {
            wire.push(perm.access.letter());
            wire.extend_from_slice(perm.domid.to_string().as_bytes());
            wire.push(0);
        }
        wire
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(domid: DomId) -> Caller {
        Caller {
            domid,
            target: None,
            privileged: false,
        }
    }

    fn perms(strings: &[&str]) -> Perms {
        Perms::parse(
            &strings
                .iter()
                .map(|text| text.as_bytes())
                .collect::<Vec<_>>(),
        )
        .unwrap()
    }

    #[test]
    fn the_first_entry_names_the_owner_and_what_all_others_may() {
        let perms = perms(&["r1", "n2", "b3", "w3"]);
        assert!(perms.allow(&domain(1), Need::Own));
        assert!(perms.allow(&domain(9), Need::Read));
        assert!(!perms.allow(&domain(9), Need::Write));
        assert!(!perms.allow(&domain(2), Need::Read));
        assert!(perms.allow(&domain(3), Need::Read) && perms.allow(&domain(3), Need::Write));
        assert!(!perms.allow(&domain(3), Need::Own));
        assert!(perms.allow(&Caller::CONTROL, Need::Own));
    }

    #[test]
    fn a_domain_acts_for_its_target() {
        let device_model = Caller {
            target: Some(1),
            ..domain(7)
        };
        assert!(perms(&["n1"]).allow(&device_model, Need::Own));
        assert!(perms(&["n4", "b1"]).allow(&device_model, Need::Write));
    }

    #[test]
    fn strings_are_taken_strictly_and_given_back_alike() {
        assert_eq!(
            perms(&["n0", "r12", "w3", "b32751"]).to_wire(),
            b"n0\0r12\0w3\0b32751\0"
        );
        for bad in ["", "x1", "r", "rx", "r1x", "r-1", "R1", " r1", "r 1", "r+1"] {
            assert_eq!(
                Perms::parse(&[bad.as_bytes()]),
                Err(Errno::Einval),
                "{bad:?}"
            );
        }
        for unknown in ["r32752", "r65535", "r99999"] {
            assert_eq!(
                Perms::parse(&[unknown.as_bytes()]),
                Err(Errno::Enoent),
                "{unknown:?}"
            );
        }
        assert_eq!(Perms::parse(&[]), Err(Errno::Einval));
    }

    #[test]
    fn forgetting_a_domain_leaves_the_owner_and_the_others() {
        assert_eq!(
            perms(&["n1", "r2", "b1", "w2"]).without(2),
            Some(perms(&["n1", "b1"]))
        );
        assert_eq!(perms(&["n1", "r2"]).without(1), None);
    }
}
