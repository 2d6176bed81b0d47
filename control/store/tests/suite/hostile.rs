//! A domain that does to its ring what it must not harms only itself: each wrong way by itself.

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;
use store::{Fault, Pumped};

use crate::harness::{
    CONNECTION, ERROR, FEATURES, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, TempFile, World, error,
    ok, set_word, word,
};

#[test]
fn an_index_that_makes_no_sense_ends_the_connection_until_the_domain_asks_for_another() {
    for (offset, ahead) in [
        (REQ_PROD, 1_025),
        (REQ_PROD, u32::MAX),
        (RSP_CONS, 1),
        (RSP_CONS, u32::MAX - 1_024),
    ] {
        let mut world = World::new();
        let (mut bad, mut good) = (world.guest(1), world.guest(2));
        assert_eq!(word(&bad.memory, FEATURES), 7);
        assert_eq!(bad.ask(&mut world, Op::Watch, b"a\0t\0"), ok());
        bad.events(&mut world);
        let other = if offset == REQ_PROD {
            REQ_CONS
        } else {
            RSP_PROD
        };
        set_word(
            &bad.memory,
            offset,
            word(&bad.memory, other).wrapping_add(ahead),
        );
        assert_eq!(world.ask(Op::Write, b"/local/domain/1/a\0v"), ok());
        assert_eq!(
            world.service.pump(1, 4).unwrap(),
            Pumped::Faulty(Fault::Index)
        );
        assert_eq!(word(&bad.memory, ERROR), 2);
        assert_eq!(good.ask(&mut world, Op::Write, b"x\0v"), ok());

        set_word(&bad.memory, CONNECTION, 1);
        assert_eq!(world.service.pump(1, 4).unwrap(), Pumped::Idle);
        assert_eq!(
            (word(&bad.memory, CONNECTION), word(&bad.memory, ERROR)),
            (0, 0)
        );
        bad.inbox.clear();
        assert_eq!(bad.events(&mut world), [], "its watches are gone");
        assert_eq!(bad.ask(&mut world, Op::Read, b"a\0"), Ok(b"v".to_vec()));
        world.check();
    }
}

#[test]
fn a_message_that_announces_too_much_ends_the_connection() {
    let mut world = World::new();
    let mut bad = world.guest(1);
    let mut bytes = message(Op::Write.number(), 1, 0, b"a\0v");
    bytes.splice(12..16, 4_097u32.to_le_bytes());
    bad.write(&bytes);
    assert_eq!(
        world.service.pump(1, 4).unwrap(),
        Pumped::Faulty(Fault::Protocol)
    );
    assert_eq!(word(&bad.memory, ERROR), 3);
    assert_eq!(world.board.log.borrow().len(), 1);
    assert_eq!(
        world.service.pump(1, 4).unwrap(),
        Pumped::Faulty(Fault::Protocol)
    );
    assert_eq!(world.board.log.borrow().len(), 1, "told once");
}

#[test]
fn the_servers_own_indexes_are_not_believed_when_the_domain_changes_them() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    let (cons, prod) = (word(&guest.memory, REQ_CONS), word(&guest.memory, RSP_PROD));
    set_word(&guest.memory, REQ_CONS, cons.wrapping_sub(100));
    set_word(&guest.memory, RSP_PROD, prod.wrapping_add(5));
    let bytes = message(Op::Write.number(), 1, 0, b"a\0v");
    let req_prod = word(&guest.memory, REQ_PROD);
    set_word(&guest.memory, REQ_CONS, req_prod);
    guest.write(&bytes);
    assert_eq!(world.service.pump(1, 4).unwrap(), Pumped::Idle);
    assert_eq!(
        word(&guest.memory, REQ_CONS),
        req_prod.wrapping_add(bytes.len() as u32)
    );
    assert_eq!(word(&guest.memory, RSP_PROD), prod.wrapping_add(16 + 3));
    assert_eq!(
        world.ask(Op::Read, b"/local/domain/1/a\0"),
        Ok(b"v".to_vec())
    );
}

/// As Linux does it: a guest signals what it writes only if the store has read everything before it.
#[test]
fn a_guest_that_is_interrupted_within_a_message_is_answered() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    for pieces in [vec![16], vec![3, 16], vec![1; 20]] {
        let bytes = message(Op::Read.number(), 1, 0, b"/local/domain/1\0");
        let (mut sent, mut signals) = (0, 0);
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece;
            Some(*end)
        });
        for end in ends.chain([bytes.len()]) {
            let all_was_read = word(&guest.memory, REQ_PROD) == word(&guest.memory, REQ_CONS);
            sent += guest.write(&bytes[sent..end]);
            if all_was_read {
                signals += 1;
                while world.service.pump(1, 4).unwrap() == Pumped::More {}
            }
        }
        assert_eq!(signals, pieces.len() + 1);
        guest.read();
        assert_eq!(guest.answers().len(), 1, "{pieces:?}");
    }
}

#[test]
fn messages_arrive_whole_whatever_the_pieces() {
    let mut world = World::new();
    let mut guest = world.guest(1);
    for length in [0, 1, 900, 1_000, 1_004, 1_005, 1_500, 2_000, 4_088] {
        let payload = [b"v\0".as_slice(), &vec![b'x'; length]].concat();
        let expected = if length > 2_040 {
            error("ENOSPC")
        } else {
            ok()
        };
        assert_eq!(guest.ask(&mut world, Op::Write, &payload), expected);
    }
    // One byte at a time.
    let bytes = message(Op::Write.number(), 99, 0, b"one\0byte");
    for byte in &bytes {
        assert_eq!(guest.write(&[*byte]), 1);
        world.service.pump(1, 4).unwrap();
    }
    guest.read();
    assert_eq!(guest.answers().len(), 1);
    assert_eq!(
        world.ask(Op::Read, b"/local/domain/1/one\0"),
        Ok(b"byte".to_vec())
    );
}

#[test]
fn a_domain_that_never_reads_is_not_served_further_and_nobody_waits_for_it() {
    let mut world = World::new();
    let (mut lazy, mut good) = (world.guest(1), world.guest(2));
    assert_eq!(world.ask(Op::Mkdir, b"/shared\0"), ok());
    assert_eq!(world.ask(Op::SetPerms, b"/shared\0n0\0r1\0"), ok());
    assert_eq!(lazy.ask(&mut world, Op::Watch, b"/shared\0t\0"), ok());
    lazy.events(&mut world);
    let mut served = 0;
    for number in 0..2_000 {
        let bytes = message(
            Op::Write.number(),
            number,
            0,
            format!("n{}\0{}", number % 50, "v".repeat(60)).as_bytes(),
        );
        let mut sent = 0;
        while sent < bytes.len() {
            let count = lazy.write(&bytes[sent..]);
            sent += count;
            let pumped = world.service.pump(1, 4).unwrap();
            assert!(!matches!(pumped, Pumped::Faulty(_)));
            if count == 0 && pumped == Pumped::Idle {
                break;
            }
        }
        if sent < bytes.len() {
            served = number;
            break;
        }
    }
    assert!(
        (20..120).contains(&served),
        "{served} requests taken from one that reads no answers"
    );
    // Others write where it watches: what waits for it stays bounded.
    for number in 0..20_000 {
        assert_eq!(
            world.ask(
                Op::Write,
                format!("/shared/x{}\0v", number % 5_000).as_bytes()
            ),
            ok()
        );
    }
    assert_eq!(good.ask(&mut world, Op::Write, b"x\0v"), ok());
    let usage = String::from_utf8(world.ask(Op::Control, b"quota\x001\0").unwrap()).unwrap();
    let memory: u32 = usage
        .trim_end_matches(['\n', '\0'])
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(memory < 100_000, "{usage}");
    // When it reads at last, it finds out that there was more than it was told.
    let mut events = Vec::new();
    loop {
        world.service.pump(1, 8).unwrap();
        if lazy.read() == 0 {
            break;
        }
        lazy.answers();
        events.append(&mut lazy.events);
    }
    assert!(events.contains(&("/shared".to_owned(), "t".to_owned())));
    assert!(events.len() < 4_000, "{}", events.len());
    world.check();
}

#[test]
fn a_dead_ring_stays_dead_over_a_restart_until_the_domain_asks_for_another() {
    let file = TempFile::new("dead-ring");
    let mut world = World::with_journal(file.0.clone());
    let mut bad = world.guest(1);
    set_word(&bad.memory, REQ_PROD, 0x4000_0000);
    assert_eq!(
        world.service.pump(1, 4).unwrap(),
        Pumped::Faulty(Fault::Index)
    );
    let (mut world, _) = world.restart();
    assert_eq!(
        world.service.pump(1, 4).unwrap(),
        Pumped::Faulty(Fault::Index)
    );
    set_word(&bad.memory, CONNECTION, 1);
    assert_eq!(world.service.pump(1, 4).unwrap(), Pumped::Idle);
    assert_eq!(bad.ask(&mut world, Op::Write, b"a\0v"), ok());
    let (mut world, _) = world.restart();
    assert_eq!(bad.ask(&mut world, Op::Read, b"a\0"), Ok(b"v".to_vec()));
}
