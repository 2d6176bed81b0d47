//! What conflicts, and what does not.

use guest_abi::xenstore::XsdMessage as Op;

use crate::harness::{Answer, World, error, ok};

/// What one domain does in a transaction, what another client does meanwhile, and how the transaction ends.
type Case = (
    &'static [(Op, &'static [u8])],
    &'static [(Op, &'static [u8])],
    &'static str,
);

const CASES: &[Case] = &[
    (&[(Op::Read, b"a\0")], &[], "OK"),
    (&[(Op::Read, b"a\0")], &[(Op::Write, b"b\0x")], "OK"),
    (&[(Op::Read, b"a\0")], &[(Op::Write, b"a\x001")], "EAGAIN"),
    (&[(Op::Read, b"a\0")], &[(Op::Write, b"a/child\x001")], "OK"),
    (
        &[(Op::Read, b"a\0")],
        &[(Op::SetPerms, b"a\0n1\0r2\0")],
        "EAGAIN",
    ),
    (
        &[(Op::Read, b"a\0")],
        &[(Op::Rm, b"a\0"), (Op::Write, b"a\x001")],
        "EAGAIN",
    ),
    (&[(Op::GetPerms, b"a\0")], &[(Op::Write, b"a\0x")], "OK"),
    (
        &[(Op::Directory, b"dir\0")],
        &[(Op::Write, b"dir/one\0x")],
        "OK",
    ),
    (
        &[(Op::Directory, b"dir\0")],
        &[(Op::Write, b"dir/two\0x")],
        "EAGAIN",
    ),
    (
        &[(Op::Directory, b"dir\0")],
        &[(Op::Rm, b"dir/one\0")],
        "EAGAIN",
    ),
    (
        &[(Op::Read, b"missing\0")],
        &[(Op::Write, b"missing\0x")],
        "EAGAIN",
    ),
    (
        &[(Op::Read, b"missing/below\0")],
        &[(Op::Write, b"missing\0x")],
        "EAGAIN",
    ),
    (
        &[(Op::Read, b"missing\0")],
        &[(Op::Write, b"other\0x")],
        "OK",
    ),
    (
        &[(Op::Write, b"a\0mine")],
        &[(Op::Write, b"a\0theirs")],
        "EAGAIN",
    ),
    (
        &[(Op::Write, b"a\0mine")],
        &[(Op::Write, b"b\0theirs")],
        "OK",
    ),
    (
        &[(Op::Write, b"new\0mine")],
        &[(Op::Write, b"other\0theirs")],
        "OK",
    ),
    (
        &[(Op::Write, b"new\0mine")],
        &[(Op::Write, b"new\0theirs")],
        "EAGAIN",
    ),
    (
        &[(Op::Write, b"new/below\0mine")],
        &[(Op::Mkdir, b"new\0")],
        "EAGAIN",
    ),
    (
        &[(Op::Write, b"dir/two\0mine")],
        &[(Op::Rm, b"dir\0")],
        "EAGAIN",
    ),
    (
        &[(Op::Write, b"dir/two\0mine")],
        &[(Op::SetPerms, b"dir\0n1\0r2\0")],
        "EAGAIN",
    ),
    (
        &[(Op::Rm, b"dir\0")],
        &[(Op::Write, b"dir/one\0x")],
        "EAGAIN",
    ),
    (
        &[(Op::Rm, b"dir\0")],
        &[(Op::Write, b"dir/two/three\0x")],
        "EAGAIN",
    ),
    (&[(Op::Rm, b"dir\0")], &[(Op::Write, b"a\0x")], "OK"),
    (
        &[(Op::Rm, b"dir\0"), (Op::Write, b"dir/new\0x")],
        &[(Op::Write, b"a\0x")],
        "OK",
    ),
    (
        &[(Op::SetPerms, b"a\0n1\0r2\0")],
        &[(Op::SetPerms, b"a\0n1\0r3\0")],
        "EAGAIN",
    ),
    (&[(Op::Write, b"/tool/x\0x")], &[], "OK"),
];

#[test]
fn a_commit_fails_exactly_when_something_it_rested_on_changed() {
    for (inside, outside, end) in CASES {
        let mut world = World::new();
        let mut guest = world.guest(1);
        for write in [&b"a\0v"[..], b"b\0v", b"dir/one\0v"] {
            assert_eq!(guest.ask(&mut world, Op::Write, write), ok());
        }
        let tx = guest.begin(&mut world);
        let mut planned = Vec::new();
        for (op, payload) in *inside {
            planned.push(guest.ask_in(&mut world, *op, tx, payload));
        }
        for (op, payload) in *outside {
            assert_eq!(guest.ask(&mut world, *op, payload), ok());
        }
        let before = world.dump();
        let expected: Answer = if *end == "OK" { ok() } else { error(end) };
        assert_eq!(
            guest.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
            expected,
            "{inside:?} | {outside:?}"
        );
        if *end != "OK" {
            assert_eq!(world.dump(), before, "nothing of it is there");
        }
        world.check();
    }
}

#[test]
fn what_a_transaction_does_is_seen_inside_it_alone() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    let tx = guest.begin(&mut world);
    assert_eq!(guest.ask_in(&mut world, Op::Write, tx, b"x\x001"), ok());
    assert_eq!(
        guest.ask_in(&mut world, Op::Read, tx, b"x\0"),
        Ok(b"1".to_vec())
    );
    assert_eq!(guest.ask(&mut world, Op::Read, b"x\0"), error("ENOENT"));
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
        ok()
    );
    assert_eq!(guest.ask(&mut world, Op::Read, b"x\0"), Ok(b"1".to_vec()));
    world.check();
}

#[test]
fn a_transaction_sees_one_moment() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    assert_eq!(guest.ask(&mut world, Op::Write, b"x\x001"), ok());
    let tx = guest.begin(&mut world);
    assert_eq!(guest.ask(&mut world, Op::Write, b"x\x002"), ok());
    assert_eq!(
        guest.ask_in(&mut world, Op::Read, tx, b"x\0"),
        Ok(b"1".to_vec())
    );
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
        error("EAGAIN")
    );
}

#[test]
fn numbers_of_transactions_that_are_not_open_are_refused() {
    let mut world = World::new();
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    let tx = one.begin(&mut world);
    assert_eq!(
        one.ask_in(&mut world, Op::TransactionStart, tx, b"\0"),
        error("EBUSY")
    );
    assert_eq!(
        two.ask_in(&mut world, Op::Read, tx, b"x\0"),
        error("ENOENT"),
        "another's"
    );
    assert_eq!(one.ask_in(&mut world, Op::TransactionEnd, tx, b"F\0"), ok());
    for op in [Op::Read, Op::TransactionStart, Op::Write] {
        assert_eq!(one.ask_in(&mut world, op, tx, b"x\0"), error("ENOENT"));
    }
    assert_eq!(
        one.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
        error("ENOENT")
    );
    assert_eq!(
        one.ask(&mut world, Op::TransactionEnd, b"T\0"),
        error("ENOENT")
    );
    let tx = one.begin(&mut world);
    assert_eq!(one.ask(&mut world, Op::ResetWatches, b"\0"), ok());
    assert_eq!(
        one.ask_in(&mut world, Op::TransactionEnd, tx, b"T\0"),
        error("ENOENT")
    );
}
