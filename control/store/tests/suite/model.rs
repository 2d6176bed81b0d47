//! Random requests of several clients, compared with a model that is as plain as can be.
//!
//! The model keeps a map from paths to values and entries. A transaction keeps a copy of it and a list of what it
//! asked. Its commit is judged by what serializability means: if the store says `OK`, asking all of it again of the
//! tree of now must give the same answers; if it says `EAGAIN`, something near a path it named must have changed.

use std::collections::BTreeSet;

use guest_abi::xenstore::XsdMessage as Op;
use proptest::prelude::*;
use store::DomId;

use crate::harness::{Answer, Guest, World, error, ok};
use crate::plain::{Ask, Model, Watches, is_at_or_below, listed};

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
