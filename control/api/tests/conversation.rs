//! The conversation as both ends see it: what one writes the other reads, and nothing else is taken.

use proptest::prelude::*;
use xeno_api::{
    Answer, Created, Data, DomainInfo, End, EndReason, Error, Event, Guest, Kind, Life, Lines,
    MAX_LINE, Message, Op, Reply, Request, Summary, Target,
};

fn guest() -> Guest {
    let text = "name='web'\nkernel='/vmlinuz'\nmemory='96M'\ndisks=[{file='/a.img',mode='ro'}]";
    Guest::from_toml(text, "web.toml", "/".as_ref()).unwrap()
}

/// One of each operation.
fn operations() -> Vec<Op> {
    let domain = || "web".parse::<Target>().unwrap();
    let path = || "/local/domain/1".to_owned();
    vec![
        Op::Hello {
            version: 1,
            client: "test".to_owned(),
        },
        Op::Version {},
        Op::Create {
            guest: guest(),
            paused: true,
        },
        Op::List {},
        Op::Info {
            domain: Target::Id(3),
        },
        Op::Console {
            domain: domain(),
            scrollback_bytes: Some(0),
            only_past: false,
        },
        Op::Input {
            to: 5,
            data: Data::from([0u8, 255]),
        },
        Op::Cancel { of: 5 },
        Op::Pause { domain: domain() },
        Op::Unpause { domain: domain() },
        Op::Shutdown {
            domain: domain(),
            wait_s: Some(30),
        },
        Op::Reboot {
            domain: domain(),
            wait_s: None,
        },
        Op::Destroy { domain: domain() },
        Op::Dmesg { clear: false },
        Op::Usage {},
        Op::SetMemory {
            domain: domain(),
            memory: "64M".parse().unwrap(),
        },
        Op::SchedSet {
            domain: domain(),
            cpu: "slice=5ms,period=20ms,extra=true".parse().unwrap(),
        },
        Op::SchedShow {
            domain: Target::Id(0),
        },
        Op::SetVcpus {
            domain: domain(),
            vcpus: 2,
        },
        Op::StoreRead { path: path() },
        Op::StoreWrite {
            path: path(),
            value: Data::from("x"),
        },
        Op::StoreList { path: path() },
        Op::StoreRemove { path: path() },
        Op::StoreWatch { path: path() },
        Op::Events {},
    ]
}

fn summary() -> Summary {
    Summary {
        id: 1,
        name: Some("web".to_owned()),
        life: Life::Running,
        reason: None,
        memory_bytes: 96 << 20,
        vcpus: 1,
        cpu_ns: u64::MAX,
        age_s: Some(1),
    }
}

#[test]
fn every_request_reads_back_the_same() {
    for (id, op) in operations().into_iter().enumerate() {
        let request = Request { id: id as u64, op };
        let line = request.encode().unwrap();
        assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1, "one line");
        assert_eq!(
            Request::decode(&line),
            Ok(request),
            "{}",
            String::from_utf8_lossy(&line)
        );
    }
}

#[test]
fn requests_look_as_the_documentation_has_them() {
    let hello = Request {
        id: 0,
        op: Op::Hello {
            version: 1,
            client: "xeno 0.1.0".to_owned(),
        },
    };
    assert_eq!(
        hello.encode().unwrap(),
        b"{\"id\":0,\"op\":\"hello\",\"version\":1,\"client\":\"xeno 0.1.0\"}\n"
    );
    let error = Message {
        id: 1,
        reply: Reply::Error(Error::new(Kind::NotFound, "there is no domain \"web\"")),
    };
    let expected: &[u8] =
        b"{\"id\":1,\"error\":{\"kind\":\"not-found\",\"message\":\"there is no domain \\\"web\\\"\"}}\n";
    assert_eq!(error.encode().unwrap(), expected);
    let end = Message {
        id: 2,
        reply: Reply::End(End {
            why: EndReason::Gone,
        }),
    };
    assert_eq!(
        end.encode().unwrap(),
        b"{\"id\":2,\"end\":{\"why\":\"gone\"}}\n"
    );
    assert!(Request::decode(b"{\"id\":1,\"op\":\"list\"}").is_ok());
    assert!(Request::decode(br#"{"id":2,"op":"console","domain":3}"#).is_ok());
}

#[test]
fn every_answer_reads_back_the_same() {
    let info = DomainInfo {
        summary: summary(),
        uuid: "0".to_owned(),
        max_memory_bytes: 1,
        max_vcpus: 1,
        vcpu: Vec::new(),
        guest: Some(guest()),
        disk: Vec::new(),
        console_bytes: 0,
        console_watchers: 0,
    };
    for reply in [
        Reply::Ok(Answer::Done {}),
        Reply::Ok(Answer::Created(Created {
            id: 1,
            name: "web".to_owned(),
        })),
        Reply::Ok(Answer::Domains {
            domains: vec![summary()],
        }),
        Reply::Ok(Answer::Domain(Box::new(info))),
        Reply::Error(Error::new(Kind::Died, "x").with_details(vec!["panic".to_owned()])),
        Reply::Event(Event::Output {
            data: Data::from([255u8]),
        }),
        Reply::Event(Event::Domain {
            domain: summary(),
            gone: false,
        }),
        Reply::End(End {
            why: EndReason::Complete,
        }),
    ] {
        let message = Message { id: 7, reply };
        assert_eq!(Message::decode(&message.encode().unwrap()), Ok(message));
    }
}

#[test]
fn a_wrong_request_is_refused_and_its_id_is_known() {
    for (line, id, told) in [
        ("", None, "not JSON"),
        ("[]", None, "not an object"),
        ("{}", None, "no \"id\""),
        (r#"{"id":-1}"#, None, "the id -1"),
        (r#"{"id":1}"#, Some(1), "op"),
        (r#"{"id":1,"op":"explode"}"#, Some(1), "explode"),
        (r#"{"id":1,"op":"list","x":1}"#, Some(1), "`x`"),
        (r#"{"id":1,"op":"pause"}"#, Some(1), "domain"),
        (
            r#"{"id":1,"op":"pause","domain":70000}"#,
            Some(1),
            "a domain",
        ),
        (
            r#"{"id":1,"op":"pause","domain":"a b"}"#,
            Some(1),
            "a domain",
        ),
        (
            r#"{"id":1,"op":"set-memory","domain":1,"memory":96}"#,
            Some(1),
            "96",
        ),
        (
            r#"{"id":1,"op":"set-memory","domain":1,"memory":"1"}"#,
            Some(1),
            "not a size",
        ),
        (
            r#"{"id":1,"op":"create","guest":{"name":"a"}}"#,
            Some(1),
            "kernel",
        ),
        (
            r#"{"id":1,"op":"create","guest":{"name":"a","kernel":"k","memory":"1M"}}"#,
            Some(1),
            "absolute",
        ),
        (
            r#"{"id":1,"op":"create","guest":{"name":"a","kernel":"/k","memory":"1M","x":1}}"#,
            Some(1),
            "`x`",
        ),
    ] {
        let refused = Request::decode(line.as_bytes()).unwrap_err();
        assert_eq!(refused.id, id, "{line}");
        assert!(
            refused.error.message.contains(told),
            "{line}: {}",
            refused.error.message
        );
    }
}

#[test]
fn nothing_longer_than_a_line_is_read_or_written() {
    let long = Op::Input {
        to: 1,
        data: Data(vec![b'a'; Op::MAX_INPUT + 1]),
    };
    let line = Request { id: 1, op: long }.encode().unwrap();
    assert!(
        Request::decode(&line)
            .unwrap_err()
            .error
            .message
            .contains("65536")
    );
    let request = Request {
        id: 1,
        op: Op::StoreRead {
            path: "a".repeat(MAX_LINE),
        },
    };
    assert!(request.encode().is_err());

    let mut lines = Lines::default();
    lines.push(&vec![b'a'; MAX_LINE - 1]);
    assert_eq!(lines.next_line(), Ok(None));
    lines.push(b"\n");
    assert_eq!(lines.next_line().unwrap().unwrap().len(), MAX_LINE - 1);
    lines.push(&vec![b'a'; MAX_LINE]);
    assert!(lines.next_line().is_err());
}

proptest! {
    #[test]
    fn no_bytes_do_more_than_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Request::decode(&bytes);
        let _ = Message::decode(&bytes);
    }

    #[test]
    fn a_changed_request_is_refused_or_means_something(which in 0usize..23, at in any::<usize>(), byte in any::<u8>()) {
        let op = operations().swap_remove(which % operations().len());
        let mut line = Request { id: 9, op }.encode().unwrap();
        let at = at % line.len();
        line[at] = byte;
        if let Ok(request) = Request::decode(&line) {
            prop_assert_eq!(Request::decode(&request.encode().unwrap()), Ok(request));
        }
    }

    #[test]
    fn lines_come_out_as_they_went_in_however_they_arrive(
        sent in prop::collection::vec("[a-z]{0,20}", 0..10),
        cuts in prop::collection::vec(1usize..8, 1..50),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let (mut lines, mut got, mut rest) = (Lines::default(), Vec::new(), bytes.as_slice());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            lines.push(now);
            while let Some(line) = lines.next_line().unwrap() {
                got.push(String::from_utf8(line).unwrap());
            }
        }
        prop_assert_eq!(got, sent);
    }

    #[test]
    fn no_text_does_more_than_be_refused_as_a_description(text in "(name|memory|disks|\\[|\\]|=|'|\"|\n|[0-9]|[ -~]){0,40}") {
        let _ = Guest::from_toml(&text, "x", "/".as_ref());
    }
}
