//! The daemon is killed at every step of what it does, and the next one finds its way.

use std::rc::Rc;
use std::time::Duration;

use xen::{DomId, Hypervisor, ShutdownReason};

use super::guests::{find, until};
use super::world::World;
use crate::daemon::Daemon;
use crate::guest::{Guest, Order};
use crate::make;
use crate::state::{Built, Phase};

/// Restarts the daemon as often as it takes, with no kill, and looks whether all is as it should be: what was never
/// touched lives on, and the other guest is there wholly or not at all. Whether it is there.
fn settle(world: &World, base: Built, printed: &mut String, kill: i64) -> bool {
    world.fuse.set(i64::MAX);
    let there = world.run(async |daemon: Rc<Daemon>| {
        let settled = || {
            let lives = |guest: &Rc<Guest>| {
                let domain = guest.domain().and_then(|domain| world.fake.look(domain));
                guest.record.borrow().phase == Phase::Alive
                    && domain.is_some_and(|domain| domain.shutdown.is_none())
            };
            daemon.guests().iter().all(lives)
        };
        until("everything half-done is done", settled).await;
        let guest = find(&daemon, "base");
        assert_eq!(guest.record.borrow().built, Some(base), "kill {kill}");
        let line = format!("after kill {kill}\n");
        world.print(base.domain, base.console.port, &line);
        printed.push_str(&line);
        let kept = || {
            guest
                .console
                .borrow()
                .screen()
                .kept()
                .read(0, usize::MAX)
                .bytes
        };
        until("its console goes on", || kept() == printed.as_bytes()).await;
        let name = format!("/local/domain/{}/name", base.domain);
        assert_eq!(
            daemon.store.borrow_mut().text(&name).as_deref(),
            Some("base")
        );
        assert!(
            daemon.store.borrow().introduced().contains(&base.domain),
            "kill {kill}"
        );
        let domains: Vec<DomId> = daemon
            .guests()
            .iter()
            .filter_map(|guest| guest.domain())
            .collect();
        let mut homes: Vec<DomId> = daemon
            .store
            .borrow_mut()
            .list("/local/domain")
            .unwrap()
            .iter()
            .map(|name| name.parse().unwrap())
            .filter(|domain| *domain != 0)
            .collect();
        homes.sort_unstable();
        let mut expected = domains.clone();
        expected.sort_unstable();
        assert_eq!(homes, expected, "kill {kill}: homes in the store");
        assert_eq!(
            daemon.store.borrow_mut().list("/vm").unwrap().len(),
            domains.len()
        );
        assert_eq!(
            world.loops.0.lock().unwrap().len(),
            domains.len(),
            "kill {kill}"
        );
        domains.len() == 2
    });
    there.unwrap()
}

/// Kills the daemon at each step of `story` in turn. `story` begins with the guest `base` only.
fn kill_at_every_step<F: Future<Output = ()>>(story: impl Fn(Rc<World>, Rc<Daemon>) -> F) -> i64 {
    let world = Rc::new(World::new());
    let description = world.guest("base", Some("b.img"));
    let base = world.run(async |daemon: Rc<Daemon>| {
        make::create(&daemon, description, false).await.unwrap();
        find(&daemon, "base").record.borrow().built.unwrap()
    });
    let (base, mut printed, mut kill) = (base.unwrap(), String::new(), 0);
    loop {
        world.fuse.set(kill);
        let told = world.run(|daemon| story(Rc::clone(&world), daemon));
        if settle(&world, base, &mut printed, kill) {
            world.run(async |daemon: Rc<Daemon>| {
                find(&daemon, "web").order(Order::Destroy).await.unwrap();
            });
        }
        if told.is_some() {
            break;
        }
        kill += 1;
    }
    world.run(async |daemon: Rc<Daemon>| {
        find(&daemon, "base").order(Order::Destroy).await.unwrap();
    });
    assert_eq!(world.leftovers(), [""; 0]);
    kill
}

#[test]
fn killed_at_any_step_of_building_and_destroying_a_guest_nothing_is_lost_and_nothing_left() {
    let kills = kill_at_every_step(async |world: Rc<World>, daemon: Rc<Daemon>| {
        let description = world.guest("web", Some("a.img"));
        make::create(&daemon, description, false).await.unwrap();
        find(&daemon, "web").order(Order::Destroy).await.unwrap();
    });
    assert!(kills > 35, "{kills}");
}

#[test]
fn killed_at_any_step_of_a_reboot_a_guest_is_built_again_or_gone() {
    let kills = kill_at_every_step(async |world: Rc<World>, daemon: Rc<Daemon>| {
        let description = world.guest("web", Some("a.img"));
        let id = make::create(&daemon, description, false).await.unwrap().id;
        let web = find(&daemon, "web");
        let order = Order::Stop {
            reboot: true,
            wait: Some(Duration::from_secs(5)),
        };
        let waiting = tokio::task::spawn_local(async move { web.order(order).await });
        let path = crate::nodes::shutdown(id);
        let asked = || daemon.store.borrow_mut().text(&path).as_deref() == Some("poweroff");
        until("it is asked to reboot", asked).await;
        world.fake.shut_down(id, ShutdownReason::Reboot).unwrap();
        assert_eq!(waiting.await.unwrap(), Ok(false));
    });
    assert!(kills > 60, "{kills}");
}
