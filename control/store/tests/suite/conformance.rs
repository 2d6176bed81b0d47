//! Each operation's forms and errors, as the protocol's text says and Xen 4.17's daemon answers.

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;

use crate::harness::{World, error, ok, split, strings};

#[test]
fn payloads_of_the_wrong_form_are_refused_by_every_operation() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    let one_string = [
        Op::Read,
        Op::Mkdir,
        Op::Rm,
        Op::Directory,
        Op::GetPerms,
        Op::GetDomainPath,
    ];
    for op in one_string {
        for bad in [&b""[..], b"/a", b"/a\0b", b"/a\0b\0"] {
            assert_eq!(world.ask(op, bad), error("EINVAL"), "{op:?} {bad:?}");
            assert_eq!(
                guest.ask(&mut world, op, bad),
                error("EINVAL"),
                "{op:?} {bad:?}"
            );
        }
    }
    for op in [
        Op::Read,
        Op::Mkdir,
        Op::Rm,
        Op::Directory,
        Op::GetPerms,
        Op::Write,
    ] {
        for bad in [
            &b"\0"[..],
            b"//\0",
            b"/a/\0",
            b"/a b\0",
            b"/a//b\0",
            b"@foo\0",
            b"/\xff\0",
        ] {
            assert_eq!(world.ask(op, bad), error("EINVAL"), "{op:?} {bad:?}");
        }
    }
    for (op, bad) in [
        (Op::Write, &b""[..]),
        (Op::Write, b"/a"),
        (Op::SetPerms, b"/tool\0"),
        (Op::SetPerms, b"/tool\0x1\0"),
        (Op::SetPerms, b"@foo\0n0\0"),
        (Op::Watch, b"/a\0"),
        (Op::Watch, b"/a\0t"),
        (Op::Watch, b"/a\0t\0x\0"),
        (Op::Watch, b"/a\0t\0-1\0"),
        (Op::Watch, b"@releaseDomain\0t\x002\0"),
        (Op::Unwatch, b"/a\0"),
        (Op::DirectoryPart, b"/\0"),
        (Op::DirectoryPart, b"/\0x\0"),
        (Op::TransactionEnd, b"X\0"),
        (Op::TransactionEnd, b"T"),
        (Op::Introduce, b"5\x001\0"),
        (Op::Introduce, b"5x\x001\x001\0"),
        (Op::Introduce, b"0\x001\x001\0"),
        (Op::Introduce, b"32752\x001\x001\0"),
        (Op::Release, b"0\0"),
        (Op::Resume, b"0\0"),
        (Op::SetTarget, b"1\0"),
        (Op::Control, b"bogus\0"),
        (Op::Control, b""),
    ] {
        assert_eq!(world.ask(op, bad), error("EINVAL"), "{op:?} {bad:?}");
    }
    world.check();
}

#[test]
fn what_only_the_control_domain_may_is_refused_to_others_and_changes_nothing() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    let before = world.dump();
    for (op, payload) in [
        (Op::Introduce, &b"2\x001\x001\0"[..]),
        (Op::Release, b"1\0"),
        (Op::IsDomainIntroduced, b"1\0"),
        (Op::Resume, b"1\0"),
        (Op::SetTarget, b"1\x000\0"),
        (Op::Control, b"quota\0set\0nodes\x000\0"),
        (Op::SetPerms, b"@releaseDomain\0n0\0r1\0"),
        (Op::Write, b"/a\0x"),
        (Op::Mkdir, b"/local/domain/2\0"),
        (Op::Rm, b"/tool\0"),
        (Op::Rm, b"/\0"),
        (Op::Read, b"/tool\0"),
        (Op::Directory, b"/\0"),
        (Op::GetPerms, b"/\0"),
        (Op::SetPerms, b"/tool\0n1\0"),
    ] {
        assert_eq!(
            guest.ask(&mut world, op, payload),
            error("EACCES"),
            "{op:?} {payload:?}"
        );
    }
    assert_eq!(world.dump(), before);
}

#[test]
fn unknown_operations_are_answered_enosys() {
    let mut world = World::new();
    for kind in [15, 16, 20, 23, 99, 0xffff, u32::MAX] {
        let mut input = message(kind, 5, 0, b"a\0");
        world
            .service
            .feed(world.control, &mut input, 1)
            .unwrap()
            .unwrap();
        let answers = split(&mut world.service.take_output(world.control, usize::MAX));
        assert_eq!(
            (answers[0].kind, &answers[0].payload[..]),
            (16, &b"ENOSYS\0"[..])
        );
    }
}

#[test]
fn values_are_bytes_and_parents_come_by_themselves() {
    let mut world = World::new();
    assert_eq!(world.ask(Op::Write, b"/a/b/c\0x\0y\0"), ok());
    assert_eq!(world.ask(Op::Read, b"/a/b/c\0"), Ok(b"x\0y\0".to_vec()));
    assert_eq!(world.ask(Op::Read, b"/a/b\0"), Ok(Vec::new()));
    assert_eq!(world.ask(Op::Mkdir, b"/a/b/c\0"), ok());
    assert_eq!(
        world.ask(Op::Read, b"/a/b/c\0"),
        Ok(b"x\0y\0".to_vec()),
        "mkdir leaves the value"
    );
    assert_eq!(world.ask(Op::Directory, b"/a\0"), Ok(b"b\0".to_vec()));
    assert_eq!(world.ask(Op::Directory, b"/a/b/c\0"), Ok(Vec::new()));
    assert_eq!(world.ask(Op::Rm, b"/a/b\0"), ok());
    assert_eq!(world.ask(Op::Read, b"/a/b/c\0"), error("ENOENT"));
    assert_eq!(
        world.ask(Op::Rm, b"/a/b\0"),
        ok(),
        "gone already, and the parent is there"
    );
    assert_eq!(
        world.ask(Op::Rm, b"/a/b/c\0"),
        error("ENOENT"),
        "the parent is not there"
    );
    assert_eq!(world.ask(Op::Rm, b"/\0"), error("EINVAL"));
    world.check();
}

#[test]
fn a_relative_path_is_the_domains_own() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    assert_eq!(guest.ask(&mut world, Op::Write, b"data/x\0hello"), ok());
    assert_eq!(
        world.ask(Op::Read, b"/local/domain/1/data/x\0"),
        Ok(b"hello".to_vec())
    );
    assert_eq!(
        world.ask(Op::GetPerms, b"/local/domain/1/data/x\0"),
        Ok(b"n1\0".to_vec())
    );
    assert_eq!(
        world.ask(Op::GetDomainPath, b"007\0"),
        Ok(b"/local/domain/7\0".to_vec())
    );
}

#[test]
fn who_may_not_see_is_not_told_whether_there_is_something() {
    let mut world = World::new();
    let (mut one, mut two, mut three) = (world.guest(1), world.guest(2), world.guest(3));
    assert_eq!(world.ask(Op::SetPerms, b"/local/domain/1\0n1\0r2\0"), ok());
    assert_eq!(one.ask(&mut world, Op::Write, b"data/x\0hello"), ok());
    assert_eq!(
        one.ask(&mut world, Op::GetPerms, b"data/x\0"),
        Ok(b"n1\0r2\0".to_vec()),
        "inherited"
    );
    assert_eq!(
        two.ask(&mut world, Op::Read, b"/local/domain/1/data/x\0"),
        Ok(b"hello".to_vec())
    );
    assert_eq!(
        two.ask(&mut world, Op::Write, b"/local/domain/1/data/x\0z"),
        error("EACCES")
    );
    assert_eq!(
        two.ask(&mut world, Op::Read, b"/local/domain/1/nope/nope\0"),
        error("ENOENT")
    );
    assert_eq!(
        two.ask(&mut world, Op::Rm, b"/local/domain/1/data/nope\0"),
        error("EACCES")
    );
    for path in [
        &b"/local/domain/1/data/x\0"[..],
        b"/local/domain/1/data/nope\0",
    ] {
        assert_eq!(three.ask(&mut world, Op::Read, path), error("EACCES"));
    }
}

#[test]
fn a_domain_owns_what_it_creates_and_only_the_control_domain_gives_it_away() {
    let mut world = World::new();
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    assert_eq!(
        one.ask(&mut world, Op::SetPerms, b"/local/domain/1\0b1\0w2\0r3\0"),
        ok()
    );
    assert_eq!(
        two.ask(&mut world, Op::Mkdir, b"/local/domain/1/p/q\0"),
        ok()
    );
    assert_eq!(
        world.ask(Op::GetPerms, b"/local/domain/1/p\0"),
        Ok(b"b2\0w2\0r3\0".to_vec())
    );
    assert_eq!(
        one.ask(&mut world, Op::SetPerms, b"/local/domain/1\0n2\0"),
        error("EPERM")
    );
    assert_eq!(
        two.ask(&mut world, Op::SetPerms, b"/local/domain/1\0n2\0"),
        error("EACCES")
    );
    assert_eq!(
        two.ask(&mut world, Op::Directory, b"/local/domain/1\0"),
        error("EACCES"),
        "may write, not read"
    );
    assert_eq!(two.ask(&mut world, Op::Write, b"/local/domain/1\0v"), ok());
    assert_eq!(
        one.ask(&mut world, Op::Rm, b"p\0"),
        ok(),
        "its own list lets all change it"
    );
    assert_eq!(world.ask(Op::SetPerms, b"/local/domain/1\0n2\0"), ok());
    assert_eq!(
        one.ask(&mut world, Op::Read, b"/local/domain/1\0"),
        error("EACCES")
    );
    world.check();
}

#[test]
fn a_domain_with_a_target_acts_for_it() {
    let mut world = World::new();
    let (_one, mut two) = (world.guest(1), world.guest(2));
    assert_eq!(
        two.ask(&mut world, Op::Write, b"/local/domain/1/x\0v"),
        error("EACCES")
    );
    assert_eq!(world.ask(Op::SetTarget, b"2\x0077\0"), error("ENOENT"));
    assert_eq!(world.ask(Op::SetTarget, b"77\x001\0"), error("ENOENT"));
    assert_eq!(world.ask(Op::SetTarget, b"2\x001\0"), ok());
    assert_eq!(
        two.ask(&mut world, Op::Write, b"/local/domain/1/x\0v"),
        ok()
    );
    assert_eq!(world.ask(Op::Release, b"1\0"), ok());
    assert_eq!(
        two.ask(&mut world, Op::Write, b"/local/domain/1/y\0v"),
        error("EACCES"),
        "its target is gone"
    );
}

#[test]
fn a_long_list_of_children_comes_in_parts() {
    let mut world = World::new();
    let names: Vec<String> = (0..700)
        .map(|number| format!("child-{number:04}"))
        .collect();
    for name in &names {
        assert_eq!(
            world.ask(Op::Mkdir, format!("/many/{name}\0").as_bytes()),
            ok()
        );
    }
    assert_eq!(world.ask(Op::Directory, b"/many\0"), error("E2BIG"));
    let (mut list, mut generation) = (Vec::new(), None);
    loop {
        let payload = format!("/many\0{}\0", list.len());
        let part = world.ask(Op::DirectoryPart, payload.as_bytes()).unwrap();
        let nul = part.iter().position(|byte| *byte == 0).unwrap();
        assert_eq!(*generation.get_or_insert(part[..nul].to_vec()), part[..nul]);
        let names = &part[nul + 1..];
        if names.ends_with(b"\0\0") {
            list.extend_from_slice(&names[..names.len() - 1]);
            break;
        }
        assert!(!names.is_empty() && names.ends_with(b"\0"), "whole names");
        list.extend_from_slice(names);
    }
    assert_eq!(strings(&list), names);
    let end = world.ask(Op::DirectoryPart, b"/many\x0099999\0").unwrap();
    assert!(end.ends_with(b"\0\0"), "behind the list: an empty name");
    assert_eq!(world.ask(Op::Mkdir, b"/many/one-more\0"), ok());
    let after = world.ask(Op::DirectoryPart, b"/many\x000\0").unwrap();
    assert!(
        !after.starts_with(&generation.unwrap()),
        "another generation"
    );
}

#[test]
fn control_answers_as_the_tools_expect() {
    let mut world = World::new();
    let _guest = world.guest(1);
    assert_eq!(world.ask(Op::Control, b"print\0hello\nthere\0"), ok());
    assert_eq!(*world.board.log.borrow(), ["hello there"]);
    assert_eq!(world.ask(Op::Control, b"log\0on\0"), ok());
    assert_eq!(world.ask(Op::Control, b"quota\0set\0nodes\x007\0"), ok());
    let table = String::from_utf8(world.ask(Op::Control, b"quota\0").unwrap()).unwrap();
    assert!(table.contains("nodes            :        7 "), "{table}");
    let usage = String::from_utf8(world.ask(Op::Control, b"quota\x001\0").unwrap()).unwrap();
    assert!(
        usage.starts_with("Domain 1:\nnodes           :        1\n"),
        "{usage}"
    );
    assert_eq!(world.ask(Op::Control, b"quota\x0077\0"), error("ENOENT"));
    assert_eq!(
        world.ask(Op::Control, b"quota\0set\0bogus\x007\0"),
        error("EINVAL")
    );
    assert_eq!(
        world.ask(Op::Control, b"live-update\0-s\0"),
        error("EINVAL")
    );
}
