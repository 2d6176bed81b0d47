//! Clients of the API's socket, well-behaved and not.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use xeno_api::{
    Answer, Data, EndReason, Event, Kind, MAX_LINE, Message, Op, Reply, Request, Target, VERSION,
};

use super::client::Client;
use super::guests::{find, until};
use super::world::{RING_BYTES, World};
use crate::daemon::Daemon;
use crate::guest::Order;
use crate::{api, make};

fn with_socket<F: Future<Output = ()>>(world: &World, story: impl FnOnce(Rc<Daemon>) -> F) {
    world
        .run(async |daemon: Rc<Daemon>| {
            let listener = api::listen(&world.dir.join("api")).unwrap();
            tokio::task::spawn_local(api::serve(Rc::clone(&daemon), listener));
            story(daemon).await;
        })
        .unwrap();
}

fn web() -> Target {
    Target::Name("web".parse().unwrap())
}

fn console(only_past: bool) -> Op {
    Op::Console {
        domain: web(),
        scrollback_bytes: None,
        only_past,
    }
}

#[test]
fn what_is_no_conversation_is_refused_and_the_connection_closed() {
    let world = World::new();
    with_socket(&world, async |_| {
        let too_long = [b"{\"id\":1,".as_slice(), &vec![b' '; MAX_LINE]].concat();
        let older = Request {
            id: 1,
            op: Op::Hello {
                version: VERSION + 1,
                client: String::new(),
            },
        };
        let beginnings: [(&[u8], Kind); 5] = [
            (b"\x00\xff\xfe garbage\n", Kind::BadRequest),
            (b"[]\n", Kind::BadRequest),
            (b"{\"id\":1,\"op\":\"list\"}\n", Kind::Version),
            (&older.encode().unwrap(), Kind::Version),
            (&too_long, Kind::BadRequest),
        ];
        for (bytes, kind) in beginnings {
            let mut client = Client::silent(&world).await;
            client.say(bytes).await;
            let heard = client.hear().await;
            let Some(Message {
                reply: Reply::Error(error),
                ..
            }) = heard
            else {
                panic!("{heard:?}");
            };
            assert_eq!(error.kind, kind, "{error}");
            assert!(client.hear().await.is_none());
        }
        let mut client = Client::new(&world).await;
        client
            .say(b"{\"id\":7,\"op\":\"fly\"}\n{\"id\":8,\"op\":\"list\",\"x\":1}\n")
            .await;
        for id in [7, 8] {
            let heard = client.hear().await.unwrap();
            assert_eq!(heard.id, id);
            assert!(matches!(heard.reply, Reply::Error(error) if error.kind == Kind::BadRequest));
        }
        assert!(matches!(
            client.ask(Op::List {}).await,
            Ok(Answer::Domains { .. })
        ));
    });
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    let world = World::new();
    with_socket(&world, async |daemon: Rc<Daemon>| {
        let guest = world.guest("web", None);
        make::create(&daemon, guest, false).await.unwrap();
        let built = find(&daemon, "web").record.borrow().built.unwrap();
        let mut deaf = Vec::new();
        for _ in 0..5 {
            let mut client = Client::new(&world).await;
            client.send(console(false)).await;
            deaf.push(client);
        }
        let mut flooding = Client::new(&world).await;
        let asked = Request {
            id: 9,
            op: Op::Usage {},
        }
        .encode()
        .unwrap();
        let endless = asked.repeat(20_000);
        // It is not read any more at some point.
        let said = timeout(
            Duration::from_millis(300),
            flooding.stream.write_all(&endless),
        )
        .await;
        assert!(said.is_err());
        for _ in 0..300 {
            world.print(built.domain, built.console.port, &"y".repeat(1000));
            let web = find(&daemon, "web");
            daemon.serve_console(&web);
            tokio::task::yield_now().await;
        }
        let mut good = Client::new(&world).await;
        assert!(matches!(
            good.ask(Op::List {}).await,
            Ok(Answer::Domains { .. })
        ));
        // One of the deaf reads after all, and learns how much it missed.
        let (mut seen, mut lost, mut late) = (0, 0, deaf.remove(0));
        while seen + lost < 300_000 {
            match late.hear().await.unwrap().reply {
                Reply::Event(Event::Output { data }) => seen += data.0.len() as u64,
                Reply::Event(Event::Lost { bytes }) => lost += bytes,
                Reply::Ok(Answer::Attached { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen + lost, 300_000);
        find(&daemon, "web")
            .order(crate::guest::Order::Destroy)
            .await
            .unwrap();
    });
}

#[test]
fn a_console_shows_the_past_takes_input_and_ends_with_its_guest() {
    let world = World::new();
    with_socket(&world, async |daemon: Rc<Daemon>| {
        let guest = world.guest("web", None);
        make::create(&daemon, guest, false).await.unwrap();
        let built = find(&daemon, "web").record.borrow().built.unwrap();
        world.print(built.domain, built.console.port, "before\n");
        let guest = find(&daemon, "web");
        until("it is kept", || {
            guest.console.borrow().screen().kept().end() == 7
        })
        .await;
        let mut client = Client::new(&world).await;
        let past = client.send(console(true)).await;
        let heard = [
            client.hear().await,
            client.hear().await,
            client.hear().await,
        ];
        let replies: Vec<Reply> = heard
            .map(|heard| {
                let heard = heard.unwrap();
                assert_eq!(heard.id, past);
                heard.reply
            })
            .into();
        let data = Data::from("before\n");
        assert_eq!(replies[0], Reply::Ok(Answer::Attached { skipped_bytes: 0 }));
        assert_eq!(replies[1], Reply::Event(Event::Output { data }));
        assert!(matches!(&replies[2], Reply::End(end) if end.why == EndReason::Complete));

        let live = client.send(console(false)).await;
        client.hear().await;
        client.hear().await;
        let input = Op::Input {
            to: live,
            data: Data::from("ls\r"),
        };
        assert_eq!(client.ask(input).await, Ok(Answer::Done {}));
        let mut typed = [0; 3];
        world.fake.read(built.domain, 0, 0, &mut typed);
        assert_eq!(&typed, b"ls\r");
        let other = Op::Input {
            to: 99,
            data: Data::from("x"),
        };
        assert_eq!(client.ask(other).await.unwrap_err().kind, Kind::NotFound);
        let mut second = Client::new(&world).await;
        let lingers = second.ask(Op::Destroy { domain: web() }).await;
        assert_eq!(lingers, Ok(Answer::Destroyed { lingers: false }));
        loop {
            let heard = client.hear().await.unwrap();
            assert_eq!(heard.id, live);
            if let Reply::End(end) = heard.reply {
                assert_eq!(end.why, EndReason::Gone);
                break;
            }
        }
        assert_eq!(
            second.ask(console(false)).await.unwrap_err().kind,
            Kind::NotFound
        );
    });
}

#[test]
fn the_store_is_read_written_and_watched() {
    let world = World::new();
    with_socket(&world, async |_| {
        let mut client = Client::new(&world).await;
        let path = || "/test/a".to_owned();
        let watch = client
            .send(Op::StoreWatch {
                path: "/test".to_owned(),
            })
            .await;
        assert!(matches!(client.hear().await.unwrap().reply, Reply::Ok(_)));
        assert!(
            matches!(client.hear().await.unwrap().reply, Reply::Event(_)),
            "the first at once"
        );
        let mut other = Client::new(&world).await;
        let write = Op::StoreWrite {
            path: path(),
            value: Data::from("v"),
        };
        assert_eq!(other.ask(write).await, Ok(Answer::Done {}));
        let heard = client.hear().await.unwrap();
        assert_eq!(
            (heard.id, heard.reply),
            (watch, Reply::Event(Event::Changed { path: path() }))
        );
        let value = Answer::Value {
            value: Data::from("v"),
        };
        assert_eq!(other.ask(Op::StoreRead { path: path() }).await, Ok(value));
        let names = Answer::Names {
            names: vec!["a".to_owned()],
        };
        assert_eq!(
            other
                .ask(Op::StoreList {
                    path: "/test".to_owned()
                })
                .await,
            Ok(names)
        );
        assert_eq!(
            other.ask(Op::StoreRemove { path: path() }).await,
            Ok(Answer::Done {})
        );
        let gone = other.ask(Op::StoreRead { path: path() }).await.unwrap_err();
        assert_eq!(gone.kind, Kind::NotFound);
        let wrong = other
            .ask(Op::StoreRead {
                path: "a b".to_owned(),
            })
            .await
            .unwrap_err();
        assert_eq!(wrong.kind, Kind::BadRequest);
    });
}

#[test]
fn a_directory_is_listed_whole_however_long_its_list_is() {
    let world = World::new();
    with_socket(&world, async |daemon| {
        let wanted: Vec<String> = (0..600)
            .map(|n| format!("a-name-of-some-length-{n:04}"))
            .collect();
        for name in &wanted {
            let path = format!("/test/{name}");
            daemon.store.borrow_mut().write(&path, b"").unwrap();
        }
        let mut client = Client::new(&world).await;
        let mut list = async |path: &str| {
            client
                .ask(Op::StoreList {
                    path: path.to_owned(),
                })
                .await
        };
        assert_eq!(list("/test").await, Ok(Answer::Names { names: wanted }));
        assert_eq!(
            list("/test/a-name-of-some-length-0000").await,
            Ok(Answer::Names { names: Vec::new() })
        );
        assert_eq!(list("/none").await.unwrap_err().kind, Kind::NotFound);
    });
}

#[test]
fn the_hypervisors_log_is_read_and_emptied() {
    let world = World::new();
    with_socket(&world, async |_| {
        let mut client = Client::new(&world).await;
        let mut log = async |clear| match client.ask(Op::Dmesg { clear }).await {
            Ok(Answer::Log { text }) => text,
            other => panic!("{other:?}"),
        };
        assert!(log(false).await.contains("a fake"));
        assert!(
            log(true).await.contains("a fake"),
            "what is emptied is shown once more"
        );
        assert_eq!(log(false).await, "");
    });
}

#[test]
fn a_guest_that_floods_its_console_costs_others_a_ring_a_turn() {
    /// Turns that one request takes at most: it goes through a few tasks, each of which waits for its turn.
    const TURNS: u64 = 40;
    let world = World::new();
    with_socket(&world, async |daemon| {
        let mut built = Vec::new();
        for name in ["loud", "calm"] {
            let id = make::create(&daemon, world.guest(name, None), false)
                .await
                .unwrap()
                .id;
            let guest = find(&daemon, name);
            let port = guest.record.borrow().built.unwrap().console.port;
            built.push((id, port, guest));
        }
        let [(loud, loud_port, noise), (calm, calm_port, quiet)] = &built[..] else {
            panic!("two guests");
        };
        let flooded = || noise.console.borrow().screen().kept().end();
        let mut client = Client::new(&world).await;
        let flood = async {
            loop {
                world.flood(*loud, *loud_port);
                tokio::task::yield_now().await;
            }
        };
        let others = async {
            for round in 0..50 {
                let before = flooded();
                client.ask(Op::List {}).await.unwrap();
                let path = "/test/a".to_owned();
                client.ask(Op::StoreRead { path }).await.unwrap_err();
                let line = format!("line {round}\n");
                world.print(*calm, *calm_port, &line);
                let mut turns = 0;
                while !quiet
                    .console
                    .borrow()
                    .screen()
                    .kept()
                    .last_lines(1)
                    .contains(&line.trim().to_owned())
                {
                    turns += 1;
                    assert!(turns < TURNS, "the other console waits for {turns} turns");
                    tokio::task::yield_now().await;
                }
                let served = (flooded() - before) / u64::from(RING_BYTES);
                assert!(
                    served <= 3 * TURNS,
                    "{served} rings of the flood came first"
                );
            }
        };
        tokio::select! {
            () = flood => {}
            () = others => {}
        }
        assert!(
            flooded() > 50 * u64::from(RING_BYTES),
            "the flood was served too"
        );
        for (_, _, guest) in &built {
            guest.order(Order::Destroy).await.unwrap();
        }
    });
    assert_eq!(world.leftovers(), [""; 0]);
}
