//! The process is killed, at any moment: nothing that was acknowledged is lost, nothing is done twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;
use store::{JournalError, Recovery};

use crate::harness::{Answer, Guest, KILLED, Message, TempFile, World, error, ok, strings};

/// What the guest does, in order. Long messages and answers go over the ring's end and in parts.
fn script() -> Vec<(Op, Vec<u8>)> {
    let long = [b"long\0".as_slice(), &[b'x'; 1_900]].concat();
    vec![
        (Op::Watch, b"a\0t\0".to_vec()),
        (Op::Write, b"a\x001".to_vec()),
        (Op::Write, long),
        (Op::Read, b"long\0".to_vec()),
        (Op::Write, b"a/b/c\x002".to_vec()),
        (Op::SetPerms, b"a/b\0n1\0r2\0".to_vec()),
        (Op::Rm, b"a\0".to_vec()),
        (Op::Write, b"a\x003".to_vec()),
        (Op::Directory, b"/local/domain/1\0".to_vec()),
        (Op::Unwatch, b"a\0t\0".to_vec()),
        (Op::Write, b"a\x004".to_vec()),
    ]
}

/// One run of the script, the service being killed at its `fuse`th write to a page (`None`: never). Answers, events,
/// and the tree at the end; and whether it was killed.
fn run(fuse: Option<u32>) -> (Outcome, bool) {
    let file = TempFile::new(&format!("kill-{fuse:?}"));
    let mut world = World::with_journal(file.0.clone());
    let mut guest = world.guest(1);
    world.board.fuse.set(fuse);
    let (mut answers, mut killed) = (Vec::new(), false);
    for (number, (op, payload)) in script().into_iter().enumerate() {
        let bytes = message(op.number(), number as u32, 0, &payload);
        let (mut sent, mut turns) = (0, 0);
        let answer = loop {
            turns += 1;
            assert!(turns < 100, "request {number} is lost");
            sent += guest.write(&bytes[sent..]);
            let pumped = catch_unwind(AssertUnwindSafe(|| world.service.pump(1, 2).unwrap()));
            if let Err(reason) = pumped {
                assert_eq!(reason.downcast_ref::<&str>(), Some(&KILLED));
                killed = true;
                world = world.restart().0;
            }
            guest.read();
            let mut fresh = guest.answers();
            assert!(fresh.len() <= 1, "more answers than requests");
            if let Some(answer) = fresh.pop() {
                break answer;
            }
        };
        assert_eq!(answer.req_id, number as u32);
        answers.push(answer.outcome(op));
    }
    let events = guest.events(&mut world);
    world.check();
    ((answers, events, world.dump()), killed)
}

type Tree = Vec<(String, Vec<u8>, Vec<u8>)>;
type Outcome = (Vec<Answer>, Vec<(String, String)>, Tree);

#[test]
fn killed_between_any_two_writes_to_a_ring_each_request_is_done_once_and_answered_once() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref::<&str>() != Some(&KILLED) {
            eprintln!("{info}");
        }
    }));
    let (expected, _) = run(None);
    assert!(expected.0.iter().all(Result::is_ok), "{:?}", expected.0);
    let mut points = 0;
    loop {
        let (found, killed) = run(Some(points));
        assert_eq!(found, expected, "killed at write {points}");
        if !killed {
            break;
        }
        points += 1;
    }
    assert!(points > 40, "{points} moments to die at");
}

#[test]
fn a_transaction_open_at_the_death_works_on_and_ends_with_eagain() {
    let file = TempFile::new("doomed");
    let mut world = World::with_journal(file.0.clone());
    let mut guest = world.guest(1);
    let (kept, dropped) = (guest.begin(&mut world), guest.begin(&mut world));
    assert_eq!(guest.ask_in(&mut world, Op::Write, kept, b"x\0lost"), ok());
    let (mut world, _) = world.restart();
    assert_eq!(
        guest.ask_in(&mut world, Op::Read, kept, b"x\0"),
        error("ENOENT")
    );
    assert_eq!(guest.ask_in(&mut world, Op::Write, kept, b"y\0v"), ok());
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, kept, b"T\0"),
        error("EAGAIN")
    );
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, dropped, b"F\0"),
        ok()
    );
    assert_eq!(
        guest.ask(&mut world, Op::Directory, b"/local/domain/1\0"),
        Ok(Vec::new())
    );
    let again = guest.begin(&mut world);
    assert_eq!(guest.ask_in(&mut world, Op::Write, again, b"x\0v"), ok());
    assert_eq!(
        guest.ask_in(&mut world, Op::TransactionEnd, again, b"T\0"),
        ok()
    );
    world.check();
}

#[test]
fn watches_entries_domains_targets_and_limits_come_back() {
    let file = TempFile::new("back");
    let mut world = World::with_journal(file.0.clone());
    let (mut one, mut two) = (world.guest(1), world.guest(2));
    for watch in [
        &b"a\0rel\0"[..],
        b"/local/domain/1/a\0abs\0",
        b"a\0deep\x001\0",
        b"@releaseDomain\0r\x001\0",
    ] {
        assert_eq!(one.ask(&mut world, Op::Watch, watch), ok());
    }
    one.events(&mut world);
    assert_eq!(world.ask(Op::SetPerms, b"@releaseDomain\0n0\0r1\0"), ok());
    assert_eq!(world.ask(Op::SetTarget, b"2\x001\0"), ok());
    assert_eq!(world.ask(Op::Control, b"quota\0set\0nodes\x0077\0"), ok());
    assert_eq!(world.ask(Op::SetPerms, b"/\0r0\0"), ok());
    assert_eq!(one.ask(&mut world, Op::Write, b"a\0v"), ok());
    one.events(&mut world);
    let before = world.dump();
    for _ in 0..3 {
        (world, _) = world.restart();
        assert_eq!(world.dump(), before);
    }
    assert_eq!(world.service.store().limits().nodes, 77);
    assert_eq!(
        two.ask(&mut world, Op::Write, b"/local/domain/1/a/b\0v"),
        ok(),
        "it acts for its target"
    );
    world.service.domain_shutdown(2).unwrap();
    let names: Vec<_> = one
        .events(&mut world)
        .into_iter()
        .map(|(path, token)| format!("{path} {token}"))
        .collect();
    assert_eq!(
        names,
        [
            "a/b rel",
            "/local/domain/1/a/b abs",
            "a/b deep",
            "@releaseDomain/2 r"
        ]
    );
    (world, _) = world.restart();
    world.service.domain_shutdown(2).unwrap();
    assert!(one.events(&mut world).is_empty(), "told before the death");
    world.check();
}

#[test]
fn a_domain_that_died_with_the_daemon_is_released() {
    let file = TempFile::new("died");
    let mut world = World::with_journal(file.0.clone());
    let _guest = world.guest(1);
    world.board.pages.borrow_mut().clear();
    let (mut world, _) = world.restart();
    assert_eq!(
        world.ask(Op::IsDomainIntroduced, b"1\0"),
        Ok(b"F\0".to_vec())
    );
    assert!(world.board.log.borrow()[0].contains("domain 1: its ring cannot be mapped"));
}

#[test]
fn a_ring_whose_answers_index_was_changed_meanwhile_is_faulty_alone() {
    let file = TempFile::new("scribbled");
    let mut world = World::with_journal(file.0.clone());
    let (one, mut two) = (world.guest(1), world.guest(2));
    crate::harness::set_word(&one.memory, crate::harness::RSP_PROD, 0x1234_5678);
    let (mut world, _) = world.restart();
    assert!(matches!(
        world.service.pump(1, 1).unwrap(),
        store::Pumped::Faulty(_)
    ));
    assert_eq!(two.ask(&mut world, Op::Write, b"x\0v"), ok());
}

/// A journal of a busy session, and after each request how long it was and what the tree was.
fn session(path: &Path) -> (Vec<(u64, Tree)>, Guest) {
    let mut world = World::with_journal(path.to_owned());
    let mut states = vec![(std::fs::metadata(path).unwrap().len(), world.dump())];
    let mut guest = world.guest(1);
    for (op, payload) in script() {
        guest.ask(&mut world, op, &payload).unwrap();
        states.push((std::fs::metadata(path).unwrap().len(), world.dump()));
    }
    let tx = guest.begin(&mut world);
    for name in ["x", "y", "z"] {
        guest
            .ask_in(&mut world, Op::Write, tx, format!("{name}\0v").as_bytes())
            .unwrap();
    }
    guest
        .ask_in(&mut world, Op::TransactionEnd, tx, b"T\0")
        .unwrap();
    states.push((std::fs::metadata(path).unwrap().len(), world.dump()));
    (states, guest)
}

fn open(path: &Path) -> Result<(Tree, Recovery), JournalError> {
    let board = crate::harness::Board::default();
    let (service, recovery) =
        store::Service::start(store::Limits::default(), Some(path), board.clone())?;
    drop(service);
    let (mut world, _) = World::with_journal(path.to_owned()).restart();
    world.check();
    Ok((world.dump(), recovery))
}

#[test]
fn a_journal_cut_at_any_byte_gives_the_state_of_its_last_whole_batch() {
    let file = TempFile::new("whole");
    let (states, _guest) = session(&file.0);
    let whole = std::fs::read(&file.0).unwrap();
    let cut_file = TempFile::new("cut");
    let mut torn = 0;
    for cut in states[0].0 as usize..=whole.len() {
        std::fs::write(&cut_file.0, &whole[..cut]).unwrap();
        let (tree, recovery) = open(&cut_file.0).unwrap();
        torn += u32::from(recovery.torn_bytes > 0);
        // The introduction and the guest's own node come between the first two states.
        let at_least = states
            .iter()
            .rev()
            .find(|(length, _)| *length <= cut as u64)
            .unwrap();
        let exact = states.iter().any(|(length, _)| *length == cut as u64);
        let next = states
            .iter()
            .find(|(length, _)| *length >= cut as u64)
            .unwrap();
        let known = tree == at_least.1 || tree == next.1 || cut < states[1].0 as usize;
        assert!(known, "cut at {cut} of {}", whole.len());
        assert!(
            !exact || tree == at_least.1,
            "cut at {cut}: a whole batch is lost"
        );
    }
    assert!(torn > 1_000, "{torn} cuts within a batch");
}

#[test]
fn a_damaged_journal_is_refused_with_its_place_and_nothing_panics() {
    let file = TempFile::new("sound");
    session(&file.0);
    let whole = std::fs::read(&file.0).unwrap();
    let damaged_file = TempFile::new("damaged");
    let mut refused = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&damaged_file.0, &bytes).unwrap();
        match open(&damaged_file.0) {
            Err(JournalError::Damaged { offset, .. }) => {
                refused += 1;
                assert!(offset <= at as u64);
            }
            Err(JournalError::Foreign(_)) => assert!(at < 8),
            // A length that leads behind the end looks like a batch that was cut.
            Ok((_, recovery)) => assert!(recovery.torn_bytes > 0, "byte {at} makes no difference"),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > whole.len() / 2);
    let text = JournalError::Foreign("x".into()).to_string();
    assert!(text.contains("move it away"), "{text}");
}

#[test]
fn a_journal_is_written_anew_when_it_is_much_longer_than_the_store() {
    let file = TempFile::new("compact");
    let mut world = World::with_journal(file.0.clone());
    let mut guest = world.guest(1);
    assert_eq!(guest.ask(&mut world, Op::Watch, b"v\0t\0"), ok());
    let value = vec![b'v'; 1_500];
    let mut longest = 0;
    for round in 0..3_000u32 {
        let payload = [format!("v\0{round}").as_bytes(), &value].concat();
        assert_eq!(guest.ask(&mut world, Op::Write, &payload), ok());
        guest.events.clear();
        longest = longest.max(std::fs::metadata(&file.0).unwrap().len());
    }
    assert!(longest < (1 << 20) + 8_192, "{longest}");
    let before = world.dump();
    let (mut world, recovery) = world.restart();
    assert_eq!(recovery.torn_bytes, 0);
    assert_eq!(world.dump(), before);
    assert_eq!(guest.ask(&mut world, Op::Write, b"v\0last"), ok());
    assert_eq!(guest.events(&mut world).len(), 1);
}

#[test]
fn two_daemons_do_not_share_a_journal() {
    let file = TempFile::new("shared");
    let _world = World::with_journal(file.0.clone());
    let second = store::Service::start(
        store::Limits::default(),
        Some(&file.0),
        crate::harness::Board::default(),
    );
    assert!(matches!(second, Err(JournalError::InUse(_))));
}

#[test]
fn what_waits_for_a_domain_survives_a_compaction_in_the_middle_of_a_message() {
    let file = TempFile::new("middle");
    let mut world = World::with_journal(file.0.clone());
    let mut guest = world.guest(1);
    let value = vec![b'v'; 2_000];
    assert_eq!(
        guest.ask(&mut world, Op::Write, &[b"v\0".as_slice(), &value].concat()),
        ok()
    );
    // The answer is longer than the ring: part of it is there, part waits.
    guest.write(&message(Op::Read.number(), 500, 0, b"v\0"));
    world.service.pump(1, 1).unwrap();
    let filler = vec![b'f'; 4_000];
    for _ in 0..400 {
        assert_eq!(
            world.ask(Op::Write, &[b"/filler\0".as_slice(), &filler].concat()),
            ok()
        );
    }
    for _ in 0..2 {
        (world, _) = world.restart();
    }
    let mut answers: Vec<Message> = Vec::new();
    for _ in 0..10 {
        guest.read();
        answers.append(&mut guest.answers());
        world.service.pump(1, 1).unwrap();
    }
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].payload, value);
    assert_eq!(
        strings(
            &guest
                .ask(&mut world, Op::Directory, b"/local/domain/1\0")
                .unwrap()
        ),
        ["v"]
    );
}
