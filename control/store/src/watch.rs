//! Watches: who wants to hear of which path.
//!
//! # Invariants
//! - W1: `lengths` counts exactly the paths in `by_path`, by their length; `by_client` names exactly them too.
//!
//! A change looks up only those of its path's prefixes whose length some watch has, so what it costs depends on
//! the watches that could match, not on those there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::{ClientId, Errno, Path};

/// Bytes a watch is charged for beyond its path and token.
const WATCH_BYTES: usize = 128;

/// One watch of a client on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    /// The client's name for it.
    pub token: Arc<[u8]>,
    /// Whether the client named the path relative to its own node, and hears of it so.
    pub relative: bool,
    /// How many levels below the path still count; `None`: all.
    pub depth: Option<u32>,
}

/// All watches. Paths are those of nodes, or begin with `@`.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    by_path: BTreeMap<Arc<str>, BTreeMap<ClientId, Vec<Watch>>>,
    by_client: BTreeMap<ClientId, BTreeSet<Arc<str>>>,
    lengths: BTreeMap<usize, usize>,
}

impl Watches {
    /// Bytes the client is charged for this watch.
    pub fn charge(path: &str, token: &[u8]) -> usize {
        WATCH_BYTES + path.len() + token.len()
    }

    /// `EEXIST` if the client has this token on this path already.
    pub fn add(&mut self, client: ClientId, path: &str, watch: Watch) -> Result<(), Errno> {
        if self.get(client, path, &watch.token).is_some() {
            return Err(Errno::Eexist);
        }
        let path: Arc<str> = Arc::from(path);
        let clients = self.by_path.entry(Arc::clone(&path)).or_insert_with(|| {
            *self.lengths.entry(path.len()).or_default() += 1;
            BTreeMap::new()
        });
        clients.entry(client).or_default().push(watch);
        self.by_client.entry(client).or_default().insert(path);
        Ok(())
    }

    fn get(&self, client: ClientId, path: &str, token: &[u8]) -> Option<&Watch> {
        let watches = self.by_path.get(path)?.get(&client)?;
        watches.iter().find(|watch| *watch.token == *token)
    }

    /// `ENOENT` if there is no such watch.
    pub fn remove(&mut self, client: ClientId, path: &str, token: &[u8]) -> Result<(), Errno> {
        let watches = self
            .by_path
            .get_mut(path)
            .and_then(|clients| clients.get_mut(&client));
        let watches = watches.ok_or(Errno::Enoent)?;
        let at = watches
            .iter()
            .position(|watch| *watch.token == *token)
            .ok_or(Errno::Enoent)?;
        watches.remove(at);
        if watches.is_empty() {
            self.forget(client, path);
            if let Some(paths) = self.by_client.get_mut(&client) {
                paths.remove(path);
            }
        }
        Ok(())
    }

    /// Takes all watches of the client away.
    pub fn remove_all(&mut self, client: ClientId) {
        for path in self.by_client.remove(&client).unwrap_or_default() {
            self.forget(client, &path);
        }
    }

    fn forget(&mut self, client: ClientId, path: &str) {
        let Some(clients) = self.by_path.get_mut(path) else {
            return;
        };
        clients.remove(&client);
        if !clients.is_empty() {
            return;
        }
        self.by_path.remove(path);
        if let Some(count) = self.lengths.get_mut(&path.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&path.len());
            }
        }
    }

    /// The client's watches, path by path.
    pub fn of(&self, client: ClientId) -> impl Iterator<Item = (&Arc<str>, &Watch)> {
        let paths = self.by_client.get(&client).into_iter().flatten();
        paths.flat_map(move |path| {
            let clients = self
                .by_path
                .get(path)
                .and_then(|clients| clients.get(&client));
            clients
                .into_iter()
                .flatten()
                .map(move |watch| (path, watch))
        })
    }

    /// The watches that a change of `path` concerns, by client.
    pub fn matching<'a>(
        &'a self,
        path: &'a Path,
    ) -> BTreeMap<ClientId, Vec<(&'a Arc<str>, &'a Watch)>> {
        let mut found: BTreeMap<ClientId, Vec<_>> = BTreeMap::new();
        let levels = path.components().count();
        for (level, prefix) in path.prefixes().enumerate() {
            if !self.lengths.contains_key(&prefix.len()) {
                continue;
            }
            let Some((key, clients)) = self.by_path.get_key_value(prefix) else {
                continue;
            };
            for (client, watches) in clients {
                let near = |watch: &&Watch| {
                    watch
                        .depth
                        .is_none_or(|depth| levels - level <= depth as usize)
                };
                let hits = watches.iter().filter(near).map(|watch| (key, watch));
                found.entry(*client).or_default().extend(hits);
            }
        }
        found
    }

    /// The watched paths below `path`, deepest first, with who watches them.
    pub fn below<'a>(
        &'a self,
        path: &Path,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a BTreeMap<ClientId, Vec<Watch>>)> + use<'a> {
        let (from, to) = match path.is_root() {
            true => ("/".to_owned(), "0".to_owned()),
            false => (format!("{path}/"), format!("{path}0")),
        };
        // '0' is the byte behind '/': the range is all paths that begin with `from`. A longer path sorts behind
        // its prefixes, so the other way round children come before their parents.
        let range = (Bound::Excluded(from.as_str()), Bound::Excluded(to.as_str()));
        self.by_path.range::<str, _>(range).rev()
    }

    /// Who watches exactly this name.
    pub fn exactly(&self, name: &str) -> impl Iterator<Item = (ClientId, &Watch)> {
        let clients = self.by_path.get(name).into_iter().flatten();
        clients.flat_map(|(client, watches)| watches.iter().map(|watch| (*client, watch)))
    }
}
