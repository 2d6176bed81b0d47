//! What a domain can use up is its own share, and no more.

use guest_abi::xenstore::XsdMessage as Op;
use store::Limits;

use crate::harness::{Answer, Guest, World, error, ok};

/// The first answer that is not `OK`, and how many came before it.
fn until_refused(mut ask: impl FnMut(usize) -> Answer) -> (usize, Answer) {
    for number in 0..10_000 {
        let answer = ask(number);
        if answer != ok() {
            return (number, answer);
        }
    }
    panic!("never refused");
}

fn make(guest: &mut Guest, world: &mut World, path: &str) -> Answer {
    guest.ask(world, Op::Mkdir, format!("{path}\0").as_bytes())
}

#[test]
fn nodes_watches_transactions_and_entries_end_at_their_limits() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    let limits = Limits::default();
    let refused = until_refused(|number| {
        guest.ask(&mut world, Op::Watch, format!("w{number}\0t\0").as_bytes())
    });
    assert_eq!(refused, (limits.watches as usize, error("E2BIG")));
    let refused = until_refused(|_| {
        guest
            .ask(&mut world, Op::TransactionStart, b"\0")
            .map(|_| b"OK\0".to_vec())
    });
    assert_eq!(refused, (limits.transactions as usize, error("ENOSPC")));
    // Its own node is one; each of ours is two.
    let refused = until_refused(|number| {
        make(
            &mut guest,
            &mut world,
            &format!("{}/{}/x", number / 100, number % 100),
        )
    });
    assert!(
        refused.0 > 400 && refused.1 == error("ENOSPC"),
        "{refused:?}"
    );
    assert_eq!(
        guest.ask(&mut world, Op::SetPerms, b"0\0n1\0r2\0r3\0r4\0r5\0"),
        ok()
    );
    assert_eq!(
        guest.ask(&mut world, Op::SetPerms, b"0\0n1\0r2\0r3\0r4\0r5\0r6\0"),
        error("ENOSPC")
    );
    // What it gives back it may use again.
    assert_eq!(guest.ask(&mut world, Op::Rm, b"0\0"), ok());
    assert_eq!(make(&mut guest, &mut world, "again/and/again"), ok());
    assert_eq!(guest.ask(&mut world, Op::ResetWatches, b"\0"), ok());
    assert_eq!(guest.ask(&mut world, Op::Watch, b"w\0t\0"), ok());
    world.check();
}

#[test]
fn a_node_and_a_path_have_a_greatest_size() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    let value = |bytes: usize| [b"val\0".as_slice(), &vec![b'v'; bytes]].concat();
    assert_eq!(guest.ask(&mut world, Op::Write, &value(2_000)), ok());
    assert_eq!(
        guest.ask(&mut world, Op::Write, &value(2_048)),
        error("ENOSPC")
    );
    assert_eq!(
        guest
            .ask(&mut world, Op::Read, b"val\0")
            .map(|value| value.len()),
        Ok(2_000)
    );
    let refused =
        until_refused(|number| make(&mut guest, &mut world, &format!("dir/child-{number:04}")));
    assert_eq!(
        refused.1,
        error("ENOSPC"),
        "the names of a node's children count"
    );
    assert!((150..200).contains(&refused.0), "{refused:?}");
    let deep = |components: usize| format!("/local/domain/1/{}", "a/".repeat(components - 1) + "a");
    assert_eq!(
        guest.ask(
            &mut world,
            Op::Read,
            format!("{}\0", deep(1_024)).as_bytes()
        ),
        error("ENOENT")
    );
    assert_eq!(
        guest.ask(
            &mut world,
            Op::Read,
            format!("{}\0", deep(1_025)).as_bytes()
        ),
        error("EINVAL")
    );
    assert_eq!(
        world.ask(Op::Write, &[b"/big\0".as_slice(), &[0; 4_091]].concat()),
        ok(),
        "control has no limit"
    );
}

#[test]
fn a_transaction_counts_what_it_would_add_and_is_checked_again_at_its_end() {
    let mut world = World::with_limits(Limits {
        nodes: 10,
        ..Limits::default()
    });
    let mut guest = world.guest(1);
    let tx = guest.begin(&mut world);
    let refused = until_refused(|number| {
        guest.ask_in(&mut world, Op::Mkdir, tx, format!("t{number}\0").as_bytes())
    });
    assert_eq!(refused, (9, error("ENOSPC")));
    assert_eq!(make(&mut guest, &mut world, "outside/one"), ok());
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
        error("ENOSPC")
    );
    assert_eq!(
        guest.ask(&mut world, Op::Directory, b"/local/domain/1\0"),
        Ok(b"outside\0".to_vec())
    );
    world.check();
}

#[test]
fn a_transaction_may_look_at_so_many_paths() {
    let mut world = World::with_limits(Limits {
        transaction_nodes: 20,
        ..Limits::default()
    });
    let mut guest = world.guest(1);
    let tx = guest.begin(&mut world);
    let asked = |answer: Answer| {
        if answer == error("ENOENT") {
            ok()
        } else {
            answer
        }
    };
    let refused = until_refused(|number| {
        asked(guest.ask_in(&mut world, Op::Read, tx, format!("n{number}\0").as_bytes()))
    });
    // Each names its parent too, which is one path for all.
    assert_eq!(refused, (19, error("ENOSPC")));
    for _ in 0..100 {
        assert_eq!(
            guest.ask_in(&mut world, Op::Read, tx, b"n0\0"),
            error("ENOENT"),
            "known already"
        );
    }
}

#[test]
fn memory_is_counted_over_everything() {
    let mut world = World::with_limits(Limits {
        memory: 20_000,
        ..Limits::default()
    });
    let mut guest = world.guest(1);
    let value = vec![b'v'; 1_000];
    let refused = until_refused(|number| {
        guest.ask(
            &mut world,
            Op::Write,
            &[format!("n{number}\0").as_bytes(), &value].concat(),
        )
    });
    assert!(
        (10..20).contains(&refused.0) && refused.1 == error("ENOMEM"),
        "{refused:?}"
    );
    assert_eq!(
        guest.ask(&mut world, Op::Write, b"n0\0less"),
        ok(),
        "less is always possible"
    );
    let long = "t".repeat(1_500);
    assert_eq!(
        guest.ask(&mut world, Op::Watch, format!("a\0{long}\0").as_bytes()),
        error("ENOMEM")
    );
    assert_eq!(guest.ask(&mut world, Op::Rm, b"n1\0"), ok());
    assert_eq!(guest.ask(&mut world, Op::Rm, b"n2\0"), ok());
    assert_eq!(
        guest.ask(&mut world, Op::Watch, format!("a\0{long}\0").as_bytes()),
        ok()
    );
    world.check();
}

#[test]
fn no_domain_is_charged_for_what_another_stores_in_its_node() {
    let mut world = World::with_limits(Limits {
        nodes: 5,
        ..Limits::default()
    });
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    assert_eq!(
        one.ask(&mut world, Op::SetPerms, b"/local/domain/1\0b1\0"),
        ok()
    );
    let refused = until_refused(|number| {
        make(
            &mut two,
            &mut world,
            &format!("/local/domain/1/two-{number}"),
        )
    });
    assert_eq!(refused, (4, error("ENOSPC")));
    assert_eq!(make(&mut one, &mut world, "mine/is/free"), ok());
    world.check();
}

#[test]
fn a_transaction_that_is_open_for_too_many_changes_ends_with_eagain() {
    let mut world = World::new();
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    let (old, idle) = (one.begin(&mut world), one.begin(&mut world));
    assert_eq!(one.ask_in(&mut world, Op::Write, old, b"x\0v"), ok());
    let value = [b"v\0".as_slice(), &[b'v'; 1_900]].concat();
    for _ in 0..2_000 {
        assert_eq!(two.ask(&mut world, Op::Write, &value), ok());
    }
    assert_eq!(
        one.ask_in(&mut world, Op::Read, old, b"x\0"),
        error("ENOENT"),
        "what it had done is let go"
    );
    assert_eq!(
        one.ask_in(&mut world, Op::TransactionEnd, old, b"T\0"),
        error("EAGAIN")
    );
    assert_eq!(
        one.ask_in(&mut world, Op::TransactionEnd, idle, b"F\0"),
        ok()
    );
    let fresh = one.begin(&mut world);
    assert_eq!(one.ask_in(&mut world, Op::Write, fresh, b"x\0v"), ok());
    for _ in 0..100 {
        assert_eq!(two.ask(&mut world, Op::Write, &value), ok());
    }
    assert_eq!(
        one.ask_in(&mut world, Op::TransactionEnd, fresh, b"T\0"),
        ok()
    );
    world.check();
}
