//! Lives of guests, from their creation to their end.

use std::rc::Rc;
use std::time::Duration;

use xen::{Hypervisor, ShutdownReason};
use xeno_api::{Kind, Target};

use super::world::World;
use crate::daemon::Daemon;
use crate::guest::{Guest, Order};
use crate::make;

/// Waits until `true` is what is asked.
pub async fn until(what: &str, ask: impl Fn() -> bool) {
    for _ in 0..2000 {
        if ask() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to this: {what}");
}

pub fn find(daemon: &Rc<Daemon>, name: &str) -> Rc<Guest> {
    daemon.find(&Target::Name(name.parse().unwrap())).unwrap()
}

fn printed(guest: &Guest) -> String {
    let bytes = guest
        .console
        .borrow()
        .screen()
        .kept()
        .read(0, usize::MAX)
        .bytes;
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_guest_is_built_prints_and_is_destroyed_and_nothing_is_left() {
    let world = World::new();
    let description = world.guest("web", Some("a.img"));
    world
        .run(async |daemon: Rc<Daemon>| {
            let created = make::create(&daemon, description, false).await.unwrap();
            let web = find(&daemon, "web");
            assert_eq!(web.domain(), Some(created.id));
            let home = format!("/local/domain/{}", created.id);
            assert_eq!(
                daemon
                    .store
                    .borrow_mut()
                    .text(&format!("{home}/name"))
                    .unwrap(),
                "web"
            );
            let port = web.record.borrow().built.unwrap().console.port;
            world.print(created.id, port, "hello\n");
            until("the console is kept", || printed(&web) == "hello\n").await;
            assert!(world.fake.take_notified(created.id, port) > 0);
            assert_eq!(world.loops.0.lock().unwrap().len(), 1);
            assert!(!web.order(Order::Destroy).await.unwrap());
            assert!(daemon.store.borrow_mut().read(&home).is_err());
            assert!(daemon.store.borrow_mut().list("/vm").unwrap().is_empty());
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn a_guest_that_powers_off_is_gone_and_one_that_reboots_is_built_again() {
    let world = World::new();
    let (web, db) = (
        world.guest("web", Some("a.img")),
        world.guest("db", Some("b.img")),
    );
    world
        .run(async |daemon: Rc<Daemon>| {
            let (web, db) = (
                make::create(&daemon, web, false).await.unwrap().id,
                make::create(&daemon, db, false).await.unwrap().id,
            );
            let guest = find(&daemon, "db");
            let path = crate::nodes::shutdown(db);
            let waiting = tokio::task::spawn_local({
                let guest = Rc::clone(&guest);
                let order = Order::Stop {
                    reboot: true,
                    wait: Some(Duration::from_secs(5)),
                };
                async move { guest.order(order).await }
            });
            let asked = || daemon.store.borrow_mut().text(&path).as_deref() == Some("poweroff");
            until("it is asked to reboot", asked).await;
            world.fake.shut_down(db, ShutdownReason::Reboot).unwrap();
            world.fake.shut_down(web, ShutdownReason::Poweroff).unwrap();
            assert_eq!(waiting.await.unwrap(), Ok(false));
            assert_ne!(guest.domain(), Some(db));
            assert!(printed(&guest).contains("db rebooted; it is built again"));
            until("web is gone", || daemon.guests().len() == 1).await;
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn a_guest_that_does_not_hear_is_told_of_after_the_time_given() {
    let world = World::new();
    let web = world.guest("web", None);
    world
        .run(async |daemon: Rc<Daemon>| {
            let id = make::create(&daemon, web, false).await.unwrap().id;
            let web = find(&daemon, "web");
            let order = Order::Stop {
                reboot: false,
                wait: Some(Duration::ZERO),
            };
            let error = web.order(order).await.unwrap_err();
            assert_eq!(error.kind, Kind::TimedOut);
            assert!(error.message.contains("took no notice"), "{error}");
            daemon
                .store
                .borrow_mut()
                .write(&crate::nodes::shutdown(id), b"")
                .unwrap();
            web.order(Order::Pause).await.unwrap();
            let error = web.order(order).await.unwrap_err();
            assert!(error.message.contains("xeno unpause web"), "{error}");
            web.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn a_guest_that_took_notice_and_did_nothing_is_asked_again() {
    let world = World::new();
    let web = world.guest("web", None);
    world
        .run(async |daemon: Rc<Daemon>| {
            let id = make::create(&daemon, web, false).await.unwrap().id;
            let (web, path) = (find(&daemon, "web"), crate::nodes::shutdown(id));
            let asked = |word: &str| daemon.store.borrow_mut().text(&path).as_deref() == Some(word);
            for reboot in [true, false] {
                let order = Order::Stop { reboot, wait: None };
                web.order(order).await.unwrap();
                for _ in 0..3 {
                    until("it is asked", || asked("poweroff")).await;
                    daemon.store.borrow_mut().write(&path, b"").unwrap();
                }
            }
            // While it is paused it cannot hear.
            web.order(Order::Pause).await.unwrap();
            daemon.store.borrow_mut().write(&path, b"").unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert!(asked(""));
            web.order(Order::Unpause).await.unwrap();
            until("it is asked", || asked("poweroff")).await;
            world.fake.shut_down(id, ShutdownReason::Poweroff).unwrap();
            until("web is gone", || daemon.guests().is_empty()).await;
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn what_cannot_be_built_is_refused_and_leaves_nothing() {
    let world = World::new();
    let steps = world.run(async |daemon: Rc<Daemon>| {
        make::create(&daemon, world.guest("base", Some("b.img")), false)
            .await
            .unwrap();
        let refused = async |guest| make::create(&daemon, guest, false).await.unwrap_err();
        assert_eq!(refused(world.guest("base", None)).await.kind, Kind::Exists);
        let taken = refused(world.guest("web", Some("b.img"))).await;
        assert_eq!(taken.kind, Kind::Busy);
        assert!(taken.message.contains("written by base"), "{taken}");
        let missing = refused(world.guest("web", Some("none.img"))).await;
        assert!(
            missing.message.contains("none.img does not exist"),
            "{missing}"
        );
        world.fake.fail_at(u64::MAX, 0);
        make::create(&daemon, world.guest("web", Some("a.img")), false)
            .await
            .unwrap();
        let steps = world.fake.fail_no_more();
        find(&daemon, "web").order(Order::Destroy).await.unwrap();
        steps
    });
    // Whichever step the hypervisor refuses.
    for step in 0..steps.unwrap() {
        world.run(async |daemon: Rc<Daemon>| {
            world.fake.fail_at(step, 12);
            let created = make::create(&daemon, world.guest("web", Some("a.img")), false).await;
            world.fake.fail_no_more();
            if created.is_ok() {
                // Some steps may fail: signalling nobody, looking again.
                find(&daemon, "web").order(Order::Destroy).await.unwrap();
            }
            assert_eq!(daemon.guests().len(), 1, "step {step}");
        });
    }
    world.run(async |daemon: Rc<Daemon>| {
        find(&daemon, "base").order(Order::Destroy).await.unwrap();
    });
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn a_guest_that_dies_at_once_is_told_with_its_last_lines() {
    let world = World::new();
    let web = world.guest("web", None);
    world
        .run(async |daemon: Rc<Daemon>| {
            let creating = tokio::task::spawn_local({
                let daemon = Rc::clone(&daemon);
                async move { make::create(&daemon, web, false).await }
            });
            let built = || {
                daemon
                    .guests()
                    .first()
                    .and_then(|guest| guest.record.borrow().built)
            };
            until("it is built", || built().is_some()).await;
            let built = built().unwrap();
            let runs = || {
                world
                    .fake
                    .look(built.domain)
                    .is_some_and(|domain| domain.pauses == 0)
            };
            until("it runs", runs).await;
            world.print(
                built.domain,
                built.console.port,
                "Kernel panic - not syncing\n",
            );
            world
                .fake
                .shut_down(built.domain, ShutdownReason::Crash)
                .unwrap();
            let error = creating.await.unwrap().unwrap_err();
            assert_eq!(error.kind, Kind::Died);
            assert!(
                error.message.contains("web crashed in its first instant"),
                "{error}"
            );
            assert_eq!(error.details, ["Kernel panic - not syncing"]);
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}
