//! Guests that have reserved CPU time.

use std::rc::Rc;
use std::time::Duration;

use xen::{CpuTerms, Hypervisor, ShutdownReason};
use xeno_api::{Answer, Guest, Kind, Op, Reservation, Target};

use super::guests::{find, until};
use super::world::World;
use crate::api::answers::answer;
use crate::daemon::Daemon;
use crate::guest::Order;
use crate::make;

const MS: u64 = 1_000_000;
/// Most of a CPU, in nanoseconds of each second.
const CAPACITY: u64 = 900 * MS;

fn reservation(text: &str) -> Reservation {
    text.parse().unwrap()
}

fn with_cpu(world: &World, name: &str, text: &str) -> Guest {
    Guest {
        cpu: Some(reservation(text)),
        ..world.guest(name, None)
    }
}

/// Of a quarter, unless it is said otherwise.
fn terms(slice: u64, period: u64) -> CpuTerms {
    CpuTerms {
        slice,
        period,
        in_quanta: false,
        extra: false,
        weight: 256,
    }
}

#[test]
fn what_a_description_reserves_is_in_force_before_the_guest_runs_and_after_it_is_built_again() {
    let world = World::new();
    world.fake.keep_reservations(CAPACITY);
    let web = with_cpu(&world, "web", "slice=5ms,period=20ms");
    world
        .run(async |daemon: Rc<Daemon>| {
            let first = make::create(&daemon, web, true).await.unwrap().id;
            let has = |id| world.fake.look(id).and_then(|domain| domain.cpu_terms);
            assert_eq!(has(first), Some(terms(5 * MS, 20 * MS)));
            let guest = find(&daemon, "web");
            let changed = reservation("quanta=2,period=10");
            assert_eq!(guest.order(Order::SetCpu(changed)).await, Ok(false));
            assert_eq!(has(first), Some(terms(20 * MS, 100 * MS)));
            let records = daemon.state.records().unwrap();
            assert_eq!(records[0].guest.cpu, Some(changed));
            guest.order(Order::Unpause).await.unwrap();
            let reboot = Order::Stop {
                reboot: true,
                wait: None,
            };
            guest.order(reboot).await.unwrap();
            world.fake.shut_down(first, ShutdownReason::Reboot).unwrap();
            let again = || {
                guest
                    .domain()
                    .is_some_and(|id| id != first && has(id).is_some())
            };
            until("it is built again", again).await;
            assert_eq!(has(guest.domain().unwrap()), Some(terms(20 * MS, 100 * MS)));
            tokio::time::sleep(Duration::from_millis(5)).await;
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn what_there_is_no_room_for_is_refused_with_the_largest_amount_and_nothing_changes() {
    let world = World::new();
    world.fake.keep_reservations(CAPACITY);
    let (web, db) = (
        with_cpu(&world, "web", "slice=10ms,period=20ms"),
        with_cpu(&world, "db", "slice=10ms,period=20ms"),
    );
    world
        .run(async |daemon: Rc<Daemon>| {
            let id = make::create(&daemon, web, false).await.unwrap().id;
            let error = make::create(&daemon, db, false).await.unwrap_err();
            assert_eq!(error.kind, Kind::NoTime);
            assert!(error.message.contains("at most 8ms can be had"), "{error}");
            assert_eq!(daemon.guests().len(), 1);
            let guest = find(&daemon, "web");
            let more = reservation("slice=19ms,period=20ms");
            let error = guest.order(Order::SetCpu(more)).await.unwrap_err();
            assert!(error.message.contains("at most 18ms can be had"), "{error}");
            let has = world.fake.look(id).and_then(|domain| domain.cpu_terms);
            assert_eq!(has, Some(terms(10 * MS, 20 * MS)));
            let kept = guest.record.borrow().guest.cpu;
            assert_eq!(kept, Some(reservation("slice=10ms,period=20ms")));
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn what_a_guest_may_reserve_for_itself_is_told_the_hypervisor_kept_and_told_again() {
    let world = World::new();
    world.fake.keep_reservations(CAPACITY);
    let web = Guest {
        cpu_allowance: Some("40%".parse().unwrap()),
        ..with_cpu(&world, "web", "slice=5ms,period=20ms,extra=true,weight=7")
    };
    world
        .run(async |daemon: Rc<Daemon>| {
            let id = make::create(&daemon, web, false).await.unwrap().id;
            let may = || world.fake.look(id).map(|domain| domain.cpu_allowed);
            assert_eq!(may(), Some((400 * MS, 7)));
            let guest = find(&daemon, "web");
            // Without a part in what nobody reserved it may not take one.
            let all = Order::SetCpu(reservation("slice=5ms,period=20ms"));
            guest.order(all).await.unwrap();
            assert_eq!(may(), Some((400 * MS, 0)));
            let less = Order::AllowCpu("12.5%".parse().unwrap());
            guest.order(less).await.unwrap();
            assert_eq!(may(), Some((125 * MS, 0)));
            let records = daemon.state.records().unwrap();
            assert_eq!(records[0].guest.cpu_allowance, "12.5%".parse().ok());
            let domain = Target::Name("web".parse().unwrap());
            let told = answer(&daemon, Op::SchedShow { domain }).await.unwrap();
            let Answer::CpuTime(time) = told else {
                panic!("{told:?}");
            };
            assert_eq!(time.allowed, "12.5%".parse().ok());
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn what_cannot_be_written_down_is_taken_back() {
    let world = World::new();
    world.fake.keep_reservations(CAPACITY);
    let web = Guest {
        cpu_allowance: Some("40%".parse().unwrap()),
        ..with_cpu(&world, "web", "slice=5ms,period=20ms,extra=true,weight=7")
    };
    world
        .run(async |daemon: Rc<Daemon>| {
            let id = make::create(&daemon, web.clone(), false).await.unwrap().id;
            let guest = find(&daemon, "web");
            let has = || {
                let domain = world.fake.look(id).unwrap();
                let described = guest.record.borrow().guest.clone();
                (domain.cpu_terms, domain.cpu_allowed, described)
            };
            let before = has();
            assert_eq!(before.1, (400 * MS, 7));
            let (records, away) = (world.dir.join("state/guests"), world.dir.join("away"));
            std::fs::rename(&records, &away).unwrap();
            for order in [
                Order::SetCpu(reservation("slice=2ms,period=20ms")),
                Order::AllowCpu("10%".parse().unwrap()),
            ] {
                let error = guest.order(order).await.unwrap_err();
                assert_eq!(error.kind, Kind::Io, "{error}");
                assert_eq!(has(), before);
            }
            std::fs::rename(&away, &records).unwrap();
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}

#[test]
fn what_the_machine_cannot_keep_is_refused_with_what_it_can_and_nothing_changes() {
    let world = World::new();
    world.fake.keep_reservations(CAPACITY);
    let web = with_cpu(&world, "web", "slice=5ms,period=20ms");
    world
        .run(async |daemon: Rc<Daemon>| {
            let id = make::create(&daemon, web, false).await.unwrap().id;
            let guest = find(&daemon, "web");
            for (text, kind, told) in [
                (
                    "slice=20us,period=199us",
                    Kind::Description,
                    "choose one from 200us to 1s",
                ),
                (
                    "quanta=1,period=101",
                    Kind::Description,
                    "choose one from 200us to 1s; a quantum is 10ms",
                ),
                (
                    "slice=19us,period=20ms",
                    Kind::Description,
                    "choose 20us or more",
                ),
                (
                    "quanta=2,period=2",
                    Kind::NoTime,
                    "at most 1 quantum can be had",
                ),
            ] {
                let error = guest
                    .order(Order::SetCpu(reservation(text)))
                    .await
                    .unwrap_err();
                assert!(error.message.ends_with(told), "{error}");
                assert_eq!(error.kind, kind, "{error}");
                let has = world.fake.look(id).and_then(|domain| domain.cpu_terms);
                assert_eq!(has, Some(terms(5 * MS, 20 * MS)));
                let kept = guest.record.borrow().guest.cpu;
                assert_eq!(kept, Some(reservation("slice=5ms,period=20ms")));
            }
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
}

#[test]
fn the_quantum_is_told_and_set_and_a_reservation_in_quanta_follows_it() {
    let world = World::new();
    let rules = async |daemon: &Rc<Daemon>, quantum: Option<&str>| {
        let quantum = quantum.map(|text| text.parse().unwrap());
        match answer(daemon, Op::SchedRules { quantum }).await {
            Ok(Answer::CpuRules(rules)) => Ok(rules),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    world.run(async |daemon: Rc<Daemon>| {
        let error = rules(&daemon, None).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unsupported);
    });
    world.fake.keep_reservations(CAPACITY);
    world
        .run(async |daemon: Rc<Daemon>| {
            let told = rules(&daemon, None).await.unwrap();
            assert_eq!(told.quantum.to_string(), "10ms");
            let web = with_cpu(&world, "web", "quanta=2,period=10");
            let id = make::create(&daemon, web, false).await.unwrap().id;
            let has = || world.fake.look(id).and_then(|domain| domain.cpu_terms);
            assert_eq!(has(), Some(terms(20 * MS, 100 * MS)));
            for wrong in ["19us", "2s", "0s"] {
                let error = rules(&daemon, Some(wrong)).await.unwrap_err();
                assert_eq!(error.kind, Kind::BadRequest, "{error}");
                assert!(
                    error.message.ends_with("choose one from 20us to 1s"),
                    "{error}"
                );
                assert_eq!(rules(&daemon, None).await, Ok(told));
            }
            let told = rules(&daemon, Some("1ms")).await.unwrap();
            assert_eq!(told.quantum.to_string(), "1ms");
            // What was made stays.
            assert_eq!(has(), Some(terms(20 * MS, 100 * MS)));
            let guest = find(&daemon, "web");
            let again = Order::SetCpu(reservation("quanta=2,period=10"));
            guest.order(again).await.unwrap();
            assert_eq!(has(), Some(terms(2 * MS, 10 * MS)));
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
}

#[test]
fn where_no_time_can_be_reserved_none_is_pretended_to_be() {
    let world = World::new();
    let (web, plain) = (
        with_cpu(&world, "web", "slice=5ms,period=20ms"),
        world.guest("plain", None),
    );
    world
        .run(async |daemon: Rc<Daemon>| {
            let error = make::create(&daemon, web, false).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
            assert!(daemon.guests().is_empty());
            make::create(&daemon, plain, false).await.unwrap();
            let guest = find(&daemon, "plain");
            let wish = Order::SetCpu(reservation("slice=5ms,period=20ms"));
            let error = guest.order(wish).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
            assert_eq!(guest.record.borrow().guest.cpu, None);
            let wish = Order::AllowCpu("40%".parse().unwrap());
            let error = guest.order(wish).await.unwrap_err();
            assert_eq!(error.kind, Kind::Unsupported);
            assert_eq!(guest.record.borrow().guest.cpu_allowance, None);
            let domain = Target::Name("plain".parse().unwrap());
            let told = answer(&daemon, Op::SchedShow { domain }).await.unwrap();
            let Answer::CpuTime(time) = told else {
                panic!("{told:?}");
            };
            assert_eq!((time.asked, time.in_force), (None, None));
            guest.order(Order::Destroy).await.unwrap();
        })
        .unwrap();
    assert_eq!(world.leftovers(), [""; 0]);
}
