//! Domains that come, go, and act for each other.

use guest_abi::xenstore::XsdMessage as Op;

use crate::harness::{World, error, ok};

#[test]
fn domains_come_and_go() {
    let mut world = World::new();
    let _one = world.guest(1);
    assert_eq!(
        world.ask(Op::IsDomainIntroduced, b"1\0"),
        Ok(b"T\0".to_vec())
    );
    assert_eq!(
        world.ask(Op::IsDomainIntroduced, b"0\0"),
        Ok(b"T\0".to_vec())
    );
    assert_eq!(
        world.ask(Op::IsDomainIntroduced, b"2\0"),
        Ok(b"F\0".to_vec())
    );
    assert_eq!(
        world.ask(Op::Introduce, b"2\x001\x001\0"),
        error("EINVAL"),
        "its page cannot be mapped"
    );
    assert_eq!(
        world.ask(Op::IsDomainIntroduced, b"2\0"),
        Ok(b"F\0".to_vec())
    );
    assert_eq!(
        world.ask(Op::Introduce, b"1\x00100\x009\0"),
        ok(),
        "another event channel"
    );
    assert_eq!(world.ask(Op::Resume, b"1\0"), ok());
    assert_eq!(world.ask(Op::Resume, b"2\0"), error("ENOENT"));
    assert_eq!(world.ask(Op::Release, b"1\0"), ok());
    assert_eq!(world.ask(Op::Release, b"1\0"), error("ENOENT"));
    assert_eq!(
        world.ask(Op::Read, b"/local/domain/1\0"),
        Ok(Vec::new()),
        "nodes stay until the domain is gone"
    );
}

#[test]
fn a_domain_that_is_gone_leaves_nothing_to_the_next_of_its_number() {
    let mut world = World::new();
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    assert_eq!(one.ask(&mut world, Op::Write, b"a/b\0v"), ok());
    assert_eq!(world.ask(Op::Write, b"/local/domain/1/a/control\0v"), ok());
    assert_eq!(
        two.ask(&mut world, Op::SetPerms, b"/local/domain/2\0n2\0r1\0"),
        ok()
    );
    assert_eq!(world.ask(Op::SetPerms, b"@releaseDomain\0n0\0r1\0"), ok());
    world.service.domain_gone(1).unwrap();
    assert_eq!(world.ask(Op::Read, b"/local/domain/1\0"), error("ENOENT"));
    assert_eq!(
        world.ask(Op::GetPerms, b"/local/domain/2\0"),
        Ok(b"n2\0".to_vec())
    );
    let mut heir = world.bare_guest(1);
    assert_eq!(
        heir.ask(&mut world, Op::Read, b"/local/domain/2\0"),
        error("EACCES")
    );
    assert_eq!(
        heir.ask(&mut world, Op::Watch, b"@releaseDomain\0t\0"),
        ok()
    );
    assert_eq!(heir.events(&mut world).len(), 1, "the first event");
    world.service.domain_shutdown(2).unwrap();
    assert!(heir.events(&mut world).is_empty());
    world.check();
}
