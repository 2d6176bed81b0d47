//! Random requests of several clients, compared with a model that is as plain as can be.
//!
//! The model keeps a map from paths to values and entries. A transaction keeps a copy of it and a list of what it
//! asked. Its commit is judged by what serializability means: if the store says `OK`, asking all of it again of the
//! tree of now must give the same answers; if it says `EAGAIN`, something near a path it named must have changed.

use std::collections::{BTreeMap, BTreeSet};

use guest_abi::xenstore::XsdMessage as Op;
use proptest::prelude::*;
use store::DomId;

use crate::harness::{Answer, Guest, World, error, ok};

type Entries = Vec<(char, DomId)>;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model(BTreeMap<String, (Vec<u8>, Entries)>);

fn parent(path: &str) -> Option<String> {
    let slash = path.rfind('/')?;
    match (path, slash) {
        ("/", _) => None,
        (_, 0) => Some("/".to_owned()),
        _ => Some(path[..slash].to_owned()),
    }
}

fn is_at_or_below(path: &str, above: &str) -> bool {
    path == above || above == "/" || path.starts_with(&format!("{above}/"))
}

fn may(entries: &Entries, who: DomId, letters: &str) -> bool {
    let named = entries[1..]
        .iter()
        .find(|entry| entry.1 == who)
        .unwrap_or(&entries[0]);
    who == 0 || entries[0].1 == who || letters.contains(named.0)
}

/// A request of the model: what it is, on which path, with what.
#[derive(Clone, Debug)]
enum Ask {
    Read(String),
    List(String),
    Perms(String),
    Write(String, Vec<u8>),
    Mkdir(String),
    Rm(String),
    SetPerms(String, Entries),
}

impl Ask {
    fn path(&self) -> &str {
        match self {
            Self::Read(path)
            | Self::List(path)
            | Self::Perms(path)
            | Self::Mkdir(path)
            | Self::Rm(path) => path,
            Self::Write(path, _) | Self::SetPerms(path, _) => path,
        }
    }

    fn wire(&self) -> (Op, Vec<u8>) {
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

fn listed(entries: &Entries) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|(letter, domid)| format!("{letter}{domid}\0").into_bytes())
        .collect()
}

impl Model {
    fn new() -> Self {
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
    fn refusal(&self, path: &str, who: DomId, letters: &str, own: bool) -> Option<&'static str> {
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

    fn children(&self, path: &str) -> Vec<u8> {
        let names = self
            .0
            .keys()
            .filter(|child| parent(child).as_deref() == Some(path));
        names
            .flat_map(|child| [child.rsplit('/').next().unwrap().as_bytes(), b"\0"].concat())
            .collect()
    }

    fn create(&mut self, path: &str, who: DomId, value: &[u8]) {
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
    fn carry_out(&mut self, ask: &Ask, who: DomId) -> (Answer, bool) {
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
    fn told(
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

type Watches = BTreeSet<(DomId, String)>;

/// A transaction of the model.
struct Open {
    number: u32,
    who: DomId,
    tree: Model,
    asked: Vec<(Ask, Answer)>,
    /// What others changed since it began.
    meanwhile: BTreeSet<String>,
}

/// The clients: the control domain's socket and two rings.
struct Clients {
    world: World,
    guests: [Guest; 2],
    model: Model,
    watches: Watches,
    open: Vec<Open>,
}

impl Clients {
    fn new() -> Self {
        let mut world = World::new();
        let guests = [world.guest(1), world.guest(2)];
        Self {
            world,
            guests,
            model: Model::new(),
            watches: Watches::new(),
            open: Vec::new(),
        }
    }

    fn send(&mut self, who: DomId, op: Op, tx: u32, payload: &[u8]) -> Answer {
        match who {
            0 => self.world.ask_in(op, tx, payload),
            _ => self.guests[who as usize - 1].ask_in(&mut self.world, op, tx, payload),
        }
    }

    /// The events of both domains, by client, watch and path. A watch's token is its path.
    fn events(&mut self) -> BTreeSet<(DomId, String, String)> {
        let mut events = BTreeSet::new();
        for guest in &mut self.guests {
            let found = guest.events(&mut self.world);
            let count = found.len();
            let before = events.len();
            events.extend(
                found
                    .into_iter()
                    .map(|(path, token)| (guest.domid, token, path)),
            );
            assert_eq!(events.len(), before + count, "an event came twice");
        }
        events
    }

    fn ask(&mut self, who: DomId, ask: &Ask) {
        let before = self.model.clone();
        let (expected, changed) = self.model.carry_out(ask, who);
        let (op, payload) = ask.wire();
        assert_eq!(self.send(who, op, 0, &payload), expected, "{who}: {ask:?}");
        let mut told = BTreeSet::new();
        if changed {
            let removed = matches!(ask, Ask::Rm(_));
            told = before.told(&self.model, ask.path(), removed, &self.watches);
            self.note_changes(&before, [ask.path()]);
        }
        assert_eq!(self.events(), told, "{who}: {ask:?}");
    }

    /// Tells the open transactions what changed; writing what was there already counts too.
    fn note_changes<'a>(&mut self, before: &Model, written: impl IntoIterator<Item = &'a str>) {
        let paths: BTreeSet<&String> = before.0.keys().chain(self.model.0.keys()).collect();
        let differs = |path: &&String| before.0.get(*path) != self.model.0.get(*path);
        let changed: Vec<String> = paths.into_iter().filter(differs).cloned().collect();
        let changed: Vec<String> = written
            .into_iter()
            .map(str::to_owned)
            .chain(changed)
            .collect();
        for open in &mut self.open {
            open.meanwhile.extend(changed.iter().cloned());
        }
    }

    fn begin(&mut self, who: DomId) {
        if self.open.len() < 4 {
            let number = self.send(who, Op::TransactionStart, 0, b"\0").unwrap();
            let number = std::str::from_utf8(&number[..number.len() - 1])
                .unwrap()
                .parse()
                .unwrap();
            let (tree, asked, meanwhile) = (self.model.clone(), Vec::new(), BTreeSet::new());
            self.open.push(Open {
                number,
                who,
                tree,
                asked,
                meanwhile,
            });
        }
    }

    fn ask_inside(&mut self, which: usize, ask: &Ask) {
        let Some(which) = which.checked_rem(self.open.len()) else {
            return;
        };
        let open = &mut self.open[which];
        let (expected, _) = open.tree.carry_out(ask, open.who);
        open.asked.push((ask.clone(), expected.clone()));
        let (who, number) = (open.who, open.number);
        let (op, payload) = ask.wire();
        assert_eq!(
            self.send(who, op, number, &payload),
            expected,
            "{who} inside {number}: {ask:?}"
        );
    }

    fn end(&mut self, which: usize, commits: bool) {
        let Some(which) = which.checked_rem(self.open.len()) else {
            return;
        };
        let open = self.open.remove(which);
        let answer = self.send(
            open.who,
            Op::TransactionEnd,
            open.number,
            if commits { b"T\0" } else { b"F\0" },
        );
        let before = self.model.clone();
        let (mut told, mut events) = (BTreeSet::new(), BTreeSet::new());
        if commits && answer == ok() {
            for (ask, expected) in &open.asked {
                let (answer, changed) = self.model.carry_out(ask, open.who);
                assert_eq!(
                    &answer, expected,
                    "not as if it had run now: {ask:?} of {:?}",
                    open.asked
                );
                if changed {
                    events.insert((ask.path().to_owned(), matches!(ask, Ask::Rm(_))));
                }
            }
            for (path, removed) in &events {
                told.extend(before.told(&self.model, path, *removed, &self.watches));
            }
        } else if commits {
            assert_eq!(answer, error("EAGAIN"));
            let near = |(ask, _): &(Ask, Answer)| {
                let touches = |path: &String| {
                    is_at_or_below(path, ask.path()) || is_at_or_below(ask.path(), path)
                };
                open.meanwhile.iter().any(touches)
            };
            assert!(
                open.asked.iter().any(near),
                "nothing it asked for changed: {:?}",
                open.meanwhile
            );
        } else {
            assert_eq!(answer, ok());
        }
        self.note_changes(&before, events.iter().map(|(path, _)| path.as_str()));
        assert_eq!(self.events(), told);
    }

    fn watch(&mut self, who: DomId, path: &str) {
        let expected = if self.watches.insert((who, path.to_owned())) {
            ok()
        } else {
            error("EEXIST")
        };
        let fresh = expected == ok();
        assert_eq!(
            self.send(who, Op::Watch, 0, format!("{path}\0{path}\0").as_bytes()),
            expected
        );
        let first = (who, path.to_owned(), path.to_owned());
        assert_eq!(
            self.events(),
            if fresh {
                BTreeSet::from([first])
            } else {
                BTreeSet::new()
            }
        );
    }

    fn unwatch(&mut self, who: DomId, path: &str) {
        let expected = if self.watches.remove(&(who, path.to_owned())) {
            ok()
        } else {
            error("ENOENT")
        };
        assert_eq!(
            self.send(who, Op::Unwatch, 0, format!("{path}\0{path}\0").as_bytes()),
            expected
        );
    }

    fn finish(mut self) {
        let expected: Vec<_> = self
            .model
            .0
            .iter()
            .map(|(path, (value, entries))| (path.clone(), value.clone(), listed(entries)))
            .collect();
        assert_eq!(self.world.dump(), expected);
        self.world.check();
    }
}

/// What one client does.
#[derive(Clone, Debug)]
enum Act {
    Ask(DomId, Ask),
    Begin(DomId),
    Inside(usize, Ask),
    End(usize, bool),
    Watch(DomId, String),
    Unwatch(DomId, String),
}

fn paths() -> impl Strategy<Value = String> {
    let base = prop::sample::select(vec![
        "/",
        "/local/domain",
        "/local/domain/1",
        "/local/domain/2",
        "/tool",
    ]);
    let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 0..3);
    (base, names).prop_map(|(base, names)| {
        let names: String = names.iter().map(|name| format!("/{name}")).collect();
        if base == "/" && !names.is_empty() {
            names
        } else {
            format!("{base}{names}")
        }
    })
}

fn asks() -> impl Strategy<Value = Ask> {
    let entry = (prop::sample::select(vec!['n', 'r', 'w', 'b']), 0u16..4);
    let entries = prop::collection::vec(entry, 1..4);
    prop_oneof![
        2 => paths().prop_map(Ask::Read),
        1 => paths().prop_map(Ask::List),
        1 => paths().prop_map(Ask::Perms),
        4 => (paths(), prop::collection::vec(any::<u8>(), 0..3)).prop_map(|(path, value)| Ask::Write(path, value)),
        2 => paths().prop_map(Ask::Mkdir),
        2 => paths().prop_map(Ask::Rm),
        2 => (paths(), entries).prop_map(|(path, entries)| Ask::SetPerms(path, entries)),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0u16..3, asks()).prop_map(|(who, ask)| Act::Ask(who, ask)),
        2 => (0u16..3).prop_map(Act::Begin),
        6 => (any::<usize>(), asks()).prop_map(|(which, ask)| Act::Inside(which, ask)),
        2 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, commits)| Act::End(which, commits)),
        2 => (1u16..3, paths()).prop_map(|(who, path)| Act::Watch(who, path)),
        1 => (1u16..3, paths()).prop_map(|(who, path)| Act::Unwatch(who, path)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_a_plain_model_does(acts in prop::collection::vec(acts(), 1..120)) {
        let mut clients = Clients::new();
        for act in acts {
            match act {
                Act::Ask(who, ask) => clients.ask(who, &ask),
                Act::Begin(who) => clients.begin(who),
                Act::Inside(which, ask) => clients.ask_inside(which, &ask),
                Act::End(which, commits) => clients.end(which, commits),
                Act::Watch(who, path) => clients.watch(who, &path),
                Act::Unwatch(who, path) => clients.unwatch(who, &path),
            }
        }
        clients.finish();
    }
}
