//! Who hears of what, and by which name.

use guest_abi::xenstore::XsdMessage as Op;

use crate::harness::{Guest, World, error, ok};

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(path, token)| ((*path).to_owned(), (*token).to_owned()))
        .collect()
}

fn watching() -> (World, Guest) {
    let mut world = World::new();
    let mut guest = world.guest(1);
    for watch in [
        &b"a\0rel\0"[..],
        b"/local/domain/1/a\0abs\0",
        b"a/b/c\0deep\0",
        b"a\0zero\x000\0",
        b"a\0one\x001\0",
    ] {
        assert_eq!(guest.ask(&mut world, Op::Watch, watch), ok());
    }
    let first = guest.events(&mut world);
    let expected = [
        ("a", "rel"),
        ("/local/domain/1/a", "abs"),
        ("a/b/c", "deep"),
        ("a", "zero"),
        ("a", "one"),
    ];
    assert_eq!(first, pairs(&expected), "each fires once when it is set");
    (world, guest)
}

#[test]
fn an_event_names_the_path_as_the_watch_did() {
    let (mut world, mut guest) = watching();
    assert_eq!(guest.ask(&mut world, Op::Write, b"a/b/c/d\x001"), ok());
    let expected = [
        ("a/b/c/d", "rel"),
        ("/local/domain/1/a/b/c/d", "abs"),
        ("a/b/c/d", "deep"),
    ];
    assert_eq!(
        guest.events(&mut world),
        pairs(&expected),
        "one event, of the node asked for"
    );
    assert_eq!(guest.ask(&mut world, Op::Mkdir, b"a/b/c/d\0"), ok());
    assert_eq!(guest.events(&mut world), [], "it was there");
    assert_eq!(guest.ask(&mut world, Op::SetPerms, b"a/b\0n1\0r2\0"), ok());
    assert_eq!(
        guest.events(&mut world),
        pairs(&[
            ("a/b", "rel"),
            ("/local/domain/1/a/b", "abs"),
            ("a/b", "one")
        ])
    );
}

#[test]
fn a_removal_is_told_to_watches_inside_it_by_their_own_path() {
    let (mut world, mut guest) = watching();
    assert_eq!(guest.ask(&mut world, Op::Rm, b"a\0"), ok());
    assert_eq!(guest.events(&mut world), [], "there was nothing");
    assert_eq!(guest.ask(&mut world, Op::Write, b"a/b/c/d\x001"), ok());
    guest.events(&mut world);
    assert_eq!(guest.ask(&mut world, Op::Rm, b"a\0"), ok());
    let expected = [
        ("a/b/c", "deep"),
        ("a", "rel"),
        ("/local/domain/1/a", "abs"),
        ("a", "zero"),
        ("a", "one"),
    ];
    assert_eq!(guest.events(&mut world), pairs(&expected));
}

#[test]
fn a_watch_is_known_by_path_and_token() {
    let (mut world, mut guest) = watching();
    assert_eq!(
        guest.ask(&mut world, Op::Watch, b"a\0rel\0"),
        error("EEXIST")
    );
    assert_eq!(
        guest.ask(&mut world, Op::Watch, b"/local/domain/1/a\0rel\0"),
        error("EEXIST")
    );
    assert_eq!(
        guest.ask(&mut world, Op::Unwatch, b"a\0nope\0"),
        error("ENOENT")
    );
    assert_eq!(guest.ask(&mut world, Op::Unwatch, b"a\0rel\0"), ok());
    assert_eq!(
        guest.ask(&mut world, Op::Unwatch, b"a\0rel\0"),
        error("ENOENT")
    );
    assert_eq!(guest.ask(&mut world, Op::Write, b"a\x001"), ok());
    assert_eq!(
        guest.events(&mut world),
        pairs(&[("/local/domain/1/a", "abs"), ("a", "zero"), ("a", "one")])
    );
    assert_eq!(guest.ask(&mut world, Op::ResetWatches, b"\0"), ok());
    assert_eq!(guest.ask(&mut world, Op::Write, b"a\x002"), ok());
    assert_eq!(guest.events(&mut world), []);
    world.check();
}

#[test]
fn only_those_who_may_see_hear() {
    let mut world = World::new();
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    assert_eq!(
        two.ask(&mut world, Op::Watch, b"/local/domain/1\0t\0"),
        ok()
    );
    assert_eq!(two.events(&mut world).len(), 1);
    assert_eq!(one.ask(&mut world, Op::Write, b"secret\x001"), ok());
    assert_eq!(two.events(&mut world), []);
    assert_eq!(
        one.ask(&mut world, Op::SetPerms, b"/local/domain/1\0n1\0r2\0"),
        ok()
    );
    assert_eq!(
        two.events(&mut world),
        pairs(&[("/local/domain/1", "t")]),
        "it may see now"
    );
    assert_eq!(
        one.ask(&mut world, Op::SetPerms, b"/local/domain/1\0n1\0"),
        ok()
    );
    assert_eq!(
        two.events(&mut world),
        pairs(&[("/local/domain/1", "t")]),
        "it might see until now"
    );
    assert_eq!(one.ask(&mut world, Op::Write, b"/local/domain/1\0v"), ok());
    assert_eq!(two.events(&mut world), []);
}

#[test]
fn a_transaction_is_told_of_when_it_commits_and_once_for_each_path() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    assert_eq!(guest.ask(&mut world, Op::Watch, b"tx\0t\0"), ok());
    guest.events(&mut world);
    let tx = guest.begin(&mut world);
    for write in [&b"tx/q/r\x001"[..], b"tx/q/r\x002", b"tx/gone\x001"] {
        assert_eq!(guest.ask_in(&mut world, Op::Write, tx, write), ok());
    }
    assert_eq!(guest.ask_in(&mut world, Op::Rm, tx, b"tx/gone\0"), ok());
    assert_eq!(guest.events(&mut world), []);
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
        ok()
    );
    assert_eq!(guest.events(&mut world), pairs(&[("tx/q/r", "t")]));
    let tx = guest.begin(&mut world);
    assert_eq!(guest.ask_in(&mut world, Op::Rm, tx, b"tx\0"), ok());
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, tx, b"F\0"),
        ok()
    );
    assert_eq!(guest.events(&mut world), []);
}

#[test]
fn comings_and_goings_of_domains_are_told_to_those_who_may_hear() {
    let mut world = World::new();
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    for watch in [
        &b"@introduceDomain\0i\0"[..],
        b"@releaseDomain\0r\0",
        b"@releaseDomain\0which\x001\0",
        b"@releaseDomain/3\0three\0",
    ] {
        for guest in [&mut one, &mut two] {
            assert_eq!(guest.ask(&mut world, Op::Watch, watch), ok());
        }
    }
    one.events(&mut world);
    two.events(&mut world);
    assert_eq!(world.ask(Op::SetPerms, b"@introduceDomain\0n0\0r1\0"), ok());
    assert_eq!(world.ask(Op::SetPerms, b"@releaseDomain\0n0\0r1\0"), ok());
    let _three = world.guest(3);
    assert_eq!(one.events(&mut world), pairs(&[("@introduceDomain", "i")]));
    world.service.domain_shutdown(3).unwrap();
    let told = [
        ("@releaseDomain", "r"),
        ("@releaseDomain/3", "which"),
        ("@releaseDomain/3", "three"),
    ];
    assert_eq!(one.events(&mut world), pairs(&told));
    world.service.domain_shutdown(3).unwrap();
    assert_eq!(one.events(&mut world), [], "told once");
    assert_eq!(world.ask(Op::Resume, b"3\0"), ok());
    world.service.domain_shutdown(3).unwrap();
    assert_eq!(
        one.events(&mut world),
        pairs(&told),
        "told again after it was resumed"
    );
    world.service.domain_gone(3).unwrap();
    assert_eq!(one.events(&mut world), pairs(&told));
    assert_eq!(two.events(&mut world), []);
}
