//! Paths: the only way from bytes a client sent to a name in the tree.
//!
//! # Invariants
//! - P1: a [`Path`] is `/`, or begins with `/`, has no empty component and does not end in `/`; every byte is a
//!   letter, a digit or one of `-/_@`; it is at most [`XENSTORE_ABS_PATH_MAX`] bytes long.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use guest_abi::xenstore::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};

use crate::{DomId, Errno};

/// The name of a node, absolute and valid (P1). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

impl Path {
    /// The root.
    pub fn root() -> Self {
        Self(Arc::from("/"))
    }

    /// An absolute path out of a client's bytes.
    pub fn absolute(raw: &[u8]) -> Result<Self, Errno> {
        if raw.len() > XENSTORE_ABS_PATH_MAX as usize {
            return Err(Errno::Einval);
        }
        let text = std::str::from_utf8(raw).map_err(|_| Errno::Einval)?;
        let rest = text.strip_prefix('/').ok_or(Errno::Einval)?;
        let good = |part: &str| !part.is_empty() && part.bytes().all(is_path_byte);
        if rest.is_empty() || rest.split('/').all(good) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(Errno::Einval)
        }
    }

    /// A path as `domid` wrote it: absolute, or relative to `/local/domain/<domid>`.
    pub fn of_client(raw: &[u8], domid: DomId) -> Result<Self, Errno> {
        if raw.first() == Some(&b'/') {
            return Self::absolute(raw);
        }
        // `@` begins the name of a special event, which is no node.
        if raw.is_empty()
            || raw.first() == Some(&b'@')
            || raw.len() > XENSTORE_REL_PATH_MAX as usize
        {
            return Err(Errno::Einval);
        }
        let mut whole = Self::of_domain(domid).0.as_bytes().to_vec();
        whole.push(b'/');
        whole.extend_from_slice(raw);
        Self::absolute(&whole)
    }

    /// `/local/domain/<domid>`: what that domain's relative paths start from.
    pub fn of_domain(domid: DomId) -> Self {
        Self(Arc::from(format!("/local/domain/{domid}").as_str()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The names on the way down from the root; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The path above; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        match self.0.rfind('/') {
            Some(0) | None => Some(Self::root()),
            Some(slash) => Some(Self(Arc::from(self.0.get(..slash)?))),
        }
    }

    /// The last name; empty for the root.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// This path with `name`, one of a node's children, below it.
    pub(crate) fn child(&self, name: &str) -> Self {
        if self.is_root() {
            Self(Arc::from(format!("/{name}").as_str()))
        } else {
            Self(Arc::from(format!("{}/{name}", self.0).as_str()))
        }
    }

    /// Every path from the root to this one, both included.
    pub fn prefixes(&self) -> impl Iterator<Item = &str> {
        let text: &str = &self.0;
        let inner = text.match_indices('/').filter_map(move |(at, _)| match at {
            0 => None,
            at => text.get(..at),
        });
        let last = (!self.is_root()).then_some(text);
        std::iter::once("/").chain(inner).chain(last)
    }

    /// How many levels below `above` this path lies; `None` where it is not at or below it.
    pub fn levels_below(&self, above: &Self) -> Option<usize> {
        if above.is_root() {
            return Some(self.components().count());
        }
        let rest = self.0.strip_prefix(above.as_str())?;
        match rest.as_bytes().first() {
            None => Some(0),
            Some(b'/') => Some(rest.matches('/').count()),
            Some(_) => None,
        }
    }

    /// The length that a domain's limit on path lengths counts: what follows `/local/domain/<n>/`, or all.
    pub fn charged_length(&self) -> usize {
        let text = self.as_str();
        let own = text.strip_prefix("/local/domain/").and_then(|rest| {
            let (number, below) = rest.split_once('/')?;
            number
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then_some(below)
        });
        own.unwrap_or(text).len()
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::absolute(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_the_forms_of_the_protocol_are_paths() {
        for good in ["/", "/a", "/a/b", "/A-z_0@/9"] {
            assert_eq!(Path::absolute(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in [
            "", "a", "//", "/a/", "/a//b", "/a b", "/a.b", "/a+b", "/\u{e9}", "/a\n", "@x",
        ] {
            assert_eq!(
                Path::absolute(bad.as_bytes()),
                Err(Errno::Einval),
                "{bad:?}"
            );
        }
        assert_eq!(Path::absolute(b"/\xff"), Err(Errno::Einval));
    }

    #[test]
    fn lengths_are_limited_at_the_documented_bytes() {
        let long = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert!(Path::absolute(long(3072).as_bytes()).is_ok());
        assert_eq!(Path::absolute(long(3073).as_bytes()), Err(Errno::Einval));
        assert!(Path::of_client("a".repeat(2048).as_bytes(), 5).is_ok());
        assert_eq!(
            Path::of_client("a".repeat(2049).as_bytes(), 5),
            Err(Errno::Einval)
        );
    }

    #[test]
    fn a_relative_path_starts_from_the_callers_own_node() {
        assert_eq!(
            Path::of_client(b"x/y", 3).unwrap().as_str(),
            "/local/domain/3/x/y"
        );
        assert_eq!(Path::of_client(b"", 3), Err(Errno::Einval));
        assert_eq!(Path::of_client(b"@releaseDomain", 3), Err(Errno::Einval));
        assert_eq!(Path::of_client(b"x/", 3), Err(Errno::Einval));
    }

    #[test]
    fn parents_prefixes_and_levels_agree() {
        assert_eq!(path("/").parent(), None);
        assert_eq!(path("/a").parent(), Some(path("/")));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(
            path("/a/bc/d").prefixes().collect::<Vec<_>>(),
            ["/", "/a", "/a/bc", "/a/bc/d"]
        );
        assert_eq!(path("/").prefixes().collect::<Vec<_>>(), ["/"]);
        assert_eq!(path("/a/b/c").levels_below(&path("/a")), Some(2));
        assert_eq!(path("/a").levels_below(&path("/a")), Some(0));
        assert_eq!(path("/ab").levels_below(&path("/a")), None);
        assert_eq!(path("/ab/c").levels_below(&path("/")), Some(2));
        assert_eq!(path("/").levels_below(&path("/")), Some(0));
        assert_eq!(path("/local/domain/12/abc").charged_length(), 3);
        assert_eq!(path("/local/domain/x/abc").charged_length(), 19);
    }
}
