//! Tests of `tree`.

use std::collections::BTreeMap;

use super::*;

#[derive(Default)]
struct Sums(BTreeMap<DomId, (i64, i64)>);

impl Ledger for Sums {
    fn charge(&mut self, owner: DomId, nodes: i64, bytes: i64) {
        let sum = self.0.entry(owner).or_default();
        *sum = (sum.0 + nodes, sum.1 + bytes);
    }
}

fn path(text: &str) -> Path {
    Path::absolute(text.as_bytes()).unwrap()
}

fn create(text: &str, owner: DomId) -> Change {
    Change::Create {
        path: path(text),
        value: Arc::from(*b"v"),
        perms: Perms::owned_by(owner),
    }
}

#[test]
fn a_snapshot_keeps_what_it_saw() {
    let (mut tree, mut sums) = (Tree::new(), Sums::default());
    assert!(tree.apply(&create("/a", 1), 1, &mut sums));
    let snapshot = tree.clone();
    assert!(tree.apply(
        &Change::Write {
            path: path("/a"),
            value: Arc::from(*b"w")
        },
        2,
        &mut sums
    ));
    assert!(tree.apply(&create("/a/b", 1), 3, &mut sums));
    assert_eq!(snapshot.get(&path("/a")).unwrap().value().as_ref(), b"v");
    assert!(snapshot.get(&path("/a/b")).is_none());
    assert_eq!(snapshot.stamp(&path("/a"), Aspect::Value), Some(1));
    assert_eq!(tree.stamp(&path("/a"), Aspect::Value), Some(2));
    assert_eq!(tree.stamp(&path("/a"), Aspect::Children), Some(3));
    assert_eq!(tree.stamp(&path("/a"), Aspect::Perms), Some(1));
    assert_eq!(tree.stamp(&path("/"), Aspect::Subtree), Some(3));
    assert_eq!(tree.stamp(&path("/"), Aspect::Children), Some(1));
}

#[test]
fn what_a_change_needs_and_is_not_there_is_refused_without_a_trace() {
    let (mut tree, mut sums) = (Tree::new(), Sums::default());
    for change in [
        create("/a/b", 1),
        create("/", 1),
        Change::Write {
            path: path("/a"),
            value: Arc::from([]),
        },
        Change::Remove { path: path("/a") },
        Change::Remove { path: path("/") },
    ] {
        assert!(!tree.apply(&change, 1, &mut sums));
    }
    assert!(tree.apply(&create("/a", 1), 2, &mut sums));
    assert!(!tree.apply(&create("/a", 1), 3, &mut sums));
    assert_eq!(tree.stamp(&path("/"), Aspect::Subtree), Some(2));
}

#[test]
fn what_owners_are_charged_comes_back_when_all_is_removed() {
    let (mut tree, mut sums) = (Tree::new(), Sums::default());
    let perms = Perms::owned_by(3);
    for (now, change) in [
        create("/a", 1),
        create("/a/b", 2),
        create("/a/b/c", 2),
        Change::Write {
            path: path("/a/b"),
            value: Arc::from(*b"longer"),
        },
        Change::SetPerms {
            path: path("/a/b/c"),
            perms,
        },
    ]
    .iter()
    .enumerate()
    {
        assert!(tree.apply(change, now as u64 + 1, &mut sums));
    }
    assert_eq!(
        sums.0.values().map(|sum| sum.0).collect::<Vec<_>>(),
        [1, 1, 1]
    );
    assert!(tree.apply(&Change::Remove { path: path("/a") }, 9, &mut sums));
    assert!(sums.0.values().all(|sum| *sum == (0, 0)), "{:?}", sums.0);
}

#[test]
fn a_tree_as_deep_as_memory_allows_is_dropped_on_a_small_stack() {
    let deep = || {
        let (mut tree, mut sums) = (Tree::new(), Sums::default());
        let mut at = Path::root();
        for now in 1..1_500 {
            at = at.child("a");
            let change = Change::Create {
                path: at.clone(),
                value: Arc::from([]),
                perms: Perms::owned_by(1),
            };
            assert!(tree.apply(&change, now, &mut sums));
        }
        let snapshot = tree.clone();
        assert!(tree.apply(&Change::Remove { path: path("/a") }, 2_000, &mut sums));
        assert_eq!(snapshot.walk().count(), 1_500);
    };
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(deep)
        .unwrap()
        .join()
        .unwrap();
}
