//! The usage record of a daemon: whole whatever happens to the daemon, and complete for guests that are gone.

use std::path::PathBuf;
use std::rc::Rc;

use ledger::PublicKey;
use ledger::files::segments;
use ledger::record::{Domain, Hash, Head, What, read_line};
use ledger::verify::{Against, Fault, Report, verify};
use xen::{Accounts, Hypervisor};
use xeno_api::{Answer, Kind, Op, Size, Target};

use super::guests::{find, until};
use super::world::World;
use crate::accounting::Which;
use crate::api::answers::answer;
use crate::daemon::Daemon;
use crate::guest::Order;
use crate::make;

fn key(world: &World) -> PublicKey {
    let text = std::fs::read_to_string(world.dir.join("ledger.pub")).unwrap();
    text.parse().unwrap()
}

fn files(world: &World) -> Vec<(u64, PathBuf, Vec<u8>)> {
    let found = segments(&world.ledger().dir).unwrap().into_iter();
    found
        .map(|(n, path)| (n, path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// Held against what ring 0 remembers.
fn look(world: &World) -> Report {
    let told = world.fake.ledger_head(None).unwrap();
    let against = Against {
        ring0: (told.count > 0).then_some(Head {
            n: told.count,
            hash: Hash(told.head),
        }),
        ..Against::default()
    };
    let files = files(world);
    let files = files
        .iter()
        .map(|(n, path, bytes)| (*n, path.to_str().unwrap(), bytes.as_slice()));
    verify(key(world), &against, files)
}

/// All that is recorded, in order.
fn said(world: &World) -> Vec<What> {
    let key = key(world);
    let files = files(world);
    let lines = files
        .iter()
        .flat_map(|(_, _, bytes)| bytes.split(|byte| *byte == b'\n'));
    let entries = lines.filter(|line| !line.is_empty());
    entries
        .map(|line| read_line(line, &key).unwrap().record.what)
        .collect()
}

fn of(world: &World, name: &str) -> Vec<Domain> {
    let about = |what| match what {
        What::Domain(domain) if domain.name.as_deref() == Some(name) => Some(*domain),
        _ => None,
    };
    said(world).into_iter().filter_map(about).collect()
}

fn accounted() -> World {
    let world = World::new();
    world.fake.keep_accounts();
    world
}

#[test]
fn a_guests_life_is_recorded_from_its_building_to_its_last_cycle() {
    let world = accounted();
    let description = world.guest("web", None);
    world
        .run(async |daemon: Rc<Daemon>| {
            let created = make::create(&daemon, description, false).await.unwrap();
            world.fake.uses(created.id, 100);
            daemon.record(Which::All).await;
            let told = world.fake.ledger_head(Some(created.id)).unwrap();
            assert_eq!(told.count, 2, "the domain's own chain");
            world.fake.uses(created.id, 11);
            let web = find(&daemon, "web");
            assert!(!web.order(Order::Destroy).await.unwrap());
            daemon.record(Which::Stop).await;
        })
        .unwrap();
    let web = of(&world, "web");
    let used: Vec<_> = web
        .iter()
        .map(|domain| (domain.k, domain.used.user, domain.ended.is_some()))
        .collect();
    assert_eq!(
        used,
        [
            (1, 0, false),
            (2, 100, false),
            (3, 111, false),
            (4, 111, true)
        ]
    );
    let report = look(&world);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.anchored, report.last.map(|last| last.n));
    assert!(matches!(said(&world).last(), Some(What::Stop {})));
}

#[test]
fn a_guest_that_another_destroys_is_recorded_as_it_was_at_its_end() {
    let world = accounted();
    let description = world.guest("web", None);
    world
        .run(async |daemon: Rc<Daemon>| {
            let created = make::create(&daemon, description, false).await.unwrap();
            world.fake.uses(created.id, 5);
            world.fake.destroy(created.id).unwrap();
            until("the daemon has noticed", || daemon.guests().is_empty()).await;
            daemon.record(Which::Ended).await;
        })
        .unwrap();
    let gone = of(&world, "web")
        .into_iter()
        .filter(|domain| domain.ended.is_some());
    let gone: Vec<_> = gone.map(|domain| domain.used.user).collect();
    // It lingered until the daemon let go of its rings.
    assert_eq!(gone, [5]);
    assert!(look(&world).is_whole());
}

#[test]
fn a_daemon_killed_at_any_step_leaves_a_record_that_the_next_goes_on_with() {
    let world = accounted();
    let mut kills = 0;
    loop {
        world.fuse.set(i64::MAX);
        let description = world.guest(&format!("g{kills}"), None);
        let left = world.run(async |daemon: Rc<Daemon>| {
            for guest in daemon.guests() {
                let _may_be_going_already = guest.order(Order::Destroy).await;
            }
            until("what was half-done is done", || daemon.guests().is_empty()).await;
            daemon.record(Which::All).await;
            let report = look(&world);
            assert!(report.is_whole(), "kill {kills}: {:?}", report.faults);
            assert_eq!(
                report.anchored,
                report.last.map(|last| last.n),
                "kill {kills}"
            );
            assert_eq!((report.torn, report.missed), (0, 0));
            world.fuse.set(kills);
            let created = make::create(&daemon, description, false).await.unwrap();
            world.fake.uses(created.id, 7);
            daemon.record(Which::All).await;
            let web = daemon.guests().pop().unwrap();
            assert!(!web.order(Order::Destroy).await.unwrap());
        });
        if left.is_some() {
            break;
        }
        kills += 3;
    }
    assert!(kills > 30, "{kills} steps");
    // Each that was there is told to be gone, once.
    let ended = |what: &What| match what {
        What::Domain(domain) => domain.ended,
        _ => None,
    };
    let ended: Vec<u64> = said(&world).iter().filter_map(ended).collect();
    let (total, _) = world.fake.ended(u64::MAX).unwrap();
    assert_eq!(ended, (0..total).collect::<Vec<_>>());
}

#[test]
fn an_older_copy_of_the_record_is_told_by_the_daemon_and_found_by_who_verifies() {
    let world = accounted();
    let dir = world.ledger().dir;
    let copy = world.dir.join("copy");
    let used = async |daemon: Rc<Daemon>, entries: u64| {
        for _ in 0..entries {
            daemon.record(Which::All).await;
        }
    };
    world.run(|daemon| used(daemon, 2)).unwrap();
    copy_files(&dir, &copy);
    let before = look(&world).last.unwrap().n;
    world.run(|daemon| used(daemon, 3)).unwrap();
    let there = look(&world).last.unwrap().n;
    std::fs::remove_dir_all(&dir).unwrap();
    copy_files(&copy, &dir);
    let cut = look(&world).faults;
    assert!(
        matches!(cut.as_slice(), [Fault::Cut { first, last, .. }] if (*first, *last) == (before + 1, there)),
        "{cut:?}"
    );
    world.run(|daemon| used(daemon, 1)).unwrap();
    let missing = look(&world).faults;
    assert!(
        matches!(missing.as_slice(), [Fault::Missing { first, last, told: true }]
            if (*first, *last) == (before + 1, there)),
        "{missing:?}"
    );
    assert_eq!(look(&world).anchored, look(&world).last.map(|last| last.n));
}

#[test]
fn after_the_machine_started_again_the_end_of_what_was_before_is_in_doubt() {
    let world = accounted();
    let all = async |daemon: Rc<Daemon>| daemon.record(Which::All).await;
    world.run(all).unwrap();
    let before = look(&world).last.unwrap().n;
    world.fake.forget_accounts();
    world.run(all).unwrap();
    let report = look(&world);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.unvouched.len(), 1);
    assert_eq!(report.unvouched[0].after, before);
}

#[test]
fn guests_live_without_a_record_and_it_says_since_when_there_was_none() {
    let world = accounted();
    // Something is in its way.
    std::fs::write(world.ledger().dir, b"").unwrap();
    let description = world.guest("web", None);
    world
        .run(async |daemon: Rc<Daemon>| {
            make::create(&daemon, description, false).await.unwrap();
            daemon.record(Which::All).await;
            assert_eq!(world.fake.ledger_head(None).unwrap().count, 0);
            std::fs::remove_file(world.ledger().dir).unwrap();
            daemon.record(Which::All).await;
        })
        .unwrap();
    assert_eq!(look(&world).pauses.len(), 1);
    assert!(look(&world).is_whole());
}

#[test]
fn without_accounts_there_is_no_record() {
    let world = World::new();
    world
        .run(async |daemon: Rc<Daemon>| daemon.record(Which::All).await)
        .unwrap();
    assert!(!world.ledger().dir.exists());
}

/// Bytes of which a handful of entries is more.
const FEW: u64 = 24 << 10;

#[test]
fn the_record_is_kept_as_long_as_it_is_to_be_and_says_what_went() {
    let world = accounted();
    world.keep.set(Some(FEW));
    world
        .run(async |daemon: Rc<Daemon>| {
            for _ in 0..100 {
                daemon.record(Which::All).await;
                daemon.accounting.keep_to_limit();
                let kept: usize = files(&world).iter().map(|(_, _, bytes)| bytes.len()).sum();
                assert!(kept as u64 <= FEW, "{kept} bytes");
            }
        })
        .unwrap();
    let report = look(&world);
    assert!(report.is_whole(), "{:?}", report.faults);
    assert_eq!(report.anchored, report.last.map(|last| last.n));
    let removed = report.removed.unwrap().pruned;
    assert_eq!((removed.last + 1, removed.asked), (report.first, false));
    assert!(report.files > 4, "{} files", report.files);
}

#[test]
fn a_daemon_killed_while_it_removes_leaves_a_record_that_is_whole() {
    let world = accounted();
    world.keep.set(Some(FEW));
    let mut removed = 0;
    for kill in 0..60 {
        world.fuse.set(i64::MAX);
        world.run(async |daemon: Rc<Daemon>| {
            daemon.record(Which::All).await;
            daemon.record(Which::All).await;
            // At most as many steps as it makes: readings, what ring 0 is told.
            world.fuse.set(kill % 12);
            for _ in 0..4 {
                daemon.record(Which::All).await;
                let keeper = std::sync::Arc::clone(&daemon.accounting);
                let kept = tokio::task::spawn_blocking(move || keeper.keep_to_limit());
                let _killed = kept.await;
            }
        });
        world.fuse.set(i64::MAX);
        let report = look(&world);
        assert!(report.is_whole(), "kill {kill}: {:?}", report.faults);
        removed = report.removed.map_or(0, |removed| removed.pruned.last);
    }
    assert!(removed > 0, "nothing was removed");
}

#[test]
fn what_is_asked_to_go_goes_and_nothing_else() {
    let world = accounted();
    world.keep.set(Some(FEW));
    world
        .run(async |daemon: Rc<Daemon>| {
            for _ in 0..20 {
                daemon.record(Which::All).await;
            }
            let prune = async |before, keep| {
                let op = Op::PruneLedger { before, keep };
                match answer(&daemon, op).await {
                    Ok(Answer::Pruned { pruned }) => Ok(pruned),
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => Err(error.kind),
                }
            };
            let begins: Vec<u64> = files(&world).iter().map(|(n, ..)| *n).collect();
            assert_eq!(prune(None, None).await, Err(Kind::BadRequest));
            assert_eq!(prune(Some(begins[1] - 1), None).await, Ok(None));
            assert_eq!(files(&world).len(), begins.len());
            let pruned = prune(Some(begins[2] + 1), None).await.unwrap().unwrap();
            assert_eq!((pruned.last + 1, pruned.asked), (begins[2], true));
            assert_eq!(files(&world)[0].0, begins[2]);
            let report = look(&world);
            assert!(report.is_whole(), "{:?}", report.faults);
            let none = Size::from_bytes(0);
            assert!(prune(None, none).await.unwrap().is_some());
            assert_eq!(files(&world).len(), 1);
            assert!(look(&world).is_whole());
        })
        .unwrap();
    let without = World::new();
    let refused = without.run(async |daemon: Rc<Daemon>| {
        let op = Op::PruneLedger {
            before: Some(1),
            keep: None,
        };
        answer(&daemon, op).await.unwrap_err().kind
    });
    assert_eq!(refused, Some(Kind::Unsupported));
}

#[test]
fn each_vcpus_account_is_told_and_what_is_of_none() {
    let world = accounted();
    let description = xeno_api::Guest {
        vcpus: 2,
        ..world.guest("web", None)
    };
    world
        .run(async |daemon: Rc<Daemon>| {
            let created = make::create(&daemon, description, false).await.unwrap();
            world.fake.uses(created.id, 100);
            for domain in [Target::Id(created.id), Target::Name("web".parse().unwrap())] {
                let told = answer(&daemon, Op::UsageOf { domain }).await.unwrap();
                let Answer::UsageOf { parts } = told else {
                    panic!("{told:?}");
                };
                let users: Vec<_> = parts.iter().map(|part| (part.vcpu, part.user)).collect();
                assert_eq!(users, [(Some(0), 100), (Some(1), 0), (None, 0)]);
            }
            for domain in [Target::Id(30_000), Target::Name("nobody".parse().unwrap())] {
                let error = answer(&daemon, Op::UsageOf { domain }).await.unwrap_err();
                assert_eq!(error.kind, Kind::NotFound);
            }
        })
        .unwrap();
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for (_, path) in segments(from).unwrap() {
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}
