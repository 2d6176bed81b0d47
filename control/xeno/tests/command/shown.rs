//! What is asked for a command line, and how the answer looks.

use xeno_api::{
    Access, Answer, Created, Data, DiskInfo, DomainInfo, DomainUsage, Event, Guest, Io, Life,
    MachineInfo, Op, Reply, StopReason, Summary, Usage, VcpuInfo,
};

use crate::daemon::{Daemon, Run, xeno};
use crate::snapshot;

fn summary(id: u16, name: Option<&str>, life: Life) -> Summary {
    Summary {
        id,
        name: name.map(str::to_owned),
        life,
        reason: None,
        memory_bytes: 96 << 20,
        vcpus: 1,
        cpu_ns: 1_250_000_000,
        age_s: Some(754),
    }
}

fn summaries() -> Vec<Summary> {
    vec![
        Summary {
            memory_bytes: 512 << 20,
            ..summary(0, Some("Domain-0"), Life::Running)
        },
        summary(1, Some("web"), Life::Idle),
        Summary {
            reason: Some(StopReason::Reboot),
            ..summary(2, Some("a-rather-long-name"), Life::ShutDown)
        },
        Summary {
            reason: Some(StopReason::Crash),
            ..summary(3, Some("db"), Life::Crashed)
        },
        // Not of our making: no name, and one that tries to write on the terminal.
        Summary {
            age_s: None,
            ..summary(4, None, Life::Paused)
        },
        summary(5, Some("\u{1b}[31mred"), Life::Dying),
    ]
}

fn guest() -> Guest {
    let text = "name='web'\nkernel='/boot/vmlinuz'\ninitrd='/boot/initrd'\nmemory='96M'";
    Guest::from_toml(text, "web.toml", "/".as_ref()).unwrap()
}

#[test]
fn help_texts_are_as_they_were() {
    let mut all = String::new();
    for verb in [
        &[][..],
        &["create"],
        &["list"],
        &["info"],
        &["console"],
        &["pause"],
        &["unpause"],
        &["shutdown"],
        &["reboot"],
        &["destroy"],
        &["dmesg"],
        &["top"],
        &["store"],
        &["store", "list"],
        &["store", "watch"],
        &["set"],
        &["sched", "set"],
        &["sched", "allow"],
        &["sched", "show"],
        &["sched", "rules"],
        &["ledger", "prune"],
        &["events"],
        &["completions"],
    ] {
        let mut words = verb.to_vec();
        words.push("--help");
        let run = Run::of(&mut xeno(&words));
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        all += &format!("$ xeno {}\n{}\n", words.join(" "), run.out);
    }
    snapshot::check("help.txt", &all);
}

#[test]
fn lists_are_tables_and_json() {
    let daemon = Daemon::answering(Reply::Ok(Answer::Domains {
        domains: summaries(),
    }));
    let run = daemon.run(&["list"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    snapshot::check("list.txt", &run.out);
    let json: Vec<Summary> = serde_json::from_str(&daemon.run(&["list", "--json"]).out).unwrap();
    assert_eq!(json, summaries());
}

#[test]
fn a_domain_and_the_machine_are_shown_in_full() {
    let io = Io {
        reads: 10,
        read_bytes: 1 << 20,
        writes: 1,
        write_bytes: 4096,
    };
    let vcpu = |id, online| VcpuInfo {
        id,
        online,
        blocked: true,
        cpu_ns: 1_250_000_000,
        cpu: 0,
    };
    let info = DomainInfo {
        summary: summary(1, Some("web"), Life::Idle),
        uuid: "4f7a1f2e-0000-4000-8000-000000000001".to_owned(),
        max_memory_bytes: 128 << 20,
        max_vcpus: 2,
        vcpu: vec![vcpu(0, true), vcpu(1, false)],
        guest: Some(guest()),
        disk: vec![DiskInfo {
            device: "xvda".to_owned(),
            file: "/var/lib/xeno/web.img".to_owned(),
            mode: Access::ReadWrite,
            connected: true,
            io,
        }],
        console_bytes: 12_345,
        console_watchers: 1,
    };
    let machine = MachineInfo {
        daemon: "xenod 0.1.0".to_owned(),
        hypervisor: "Xen 4.17 (xeno)".to_owned(),
        cpus: 2,
        cpu_khz: 2_400_000,
        memory_bytes: 4 << 30,
        free_bytes: 3 << 30,
        daemon_started_s: 0,
    };
    let whole = info.clone();
    let daemon = Daemon::start(move |op| {
        let answer = match op {
            Op::Info { .. } => Answer::Domain(Box::new(info.clone())),
            _ => Answer::Machine(machine.clone()),
        };
        Some(vec![Reply::Ok(answer)])
    });
    snapshot::check(
        "info.txt",
        &(daemon.run(&["info", "web"]).out + "\n" + &daemon.run(&["info"]).out),
    );
    let json: DomainInfo =
        serde_json::from_str(&daemon.run(&["--json", "info", "web"]).out).unwrap();
    assert_eq!(json, whole);
}

#[test]
fn top_shows_rates_and_ends_after_so_many_looks() {
    let mut looks = 0u64;
    let daemon = Daemon::start(move |_| {
        looks += 1;
        let busy = Summary {
            cpu_ns: looks * 500_000_000,
            ..summary(1, Some("web"), Life::Running)
        };
        let disk = Io {
            write_bytes: looks * 4096,
            ..Io::default()
        };
        let usage = Usage {
            time_ns: looks * 1_000_000_000,
            cpus: 1,
            memory_bytes: 1 << 30,
            free_bytes: 1 << 29,
            machine: None,
            domains: vec![DomainUsage {
                summary: busy,
                max_memory_bytes: 0,
                disk,
                net: Io::default(),
                account: None,
            }],
        };
        Some(vec![Reply::Ok(Answer::Usage(usage))])
    });
    let run = daemon.run(&["top", "--batch", "-n", "2", "-d", "0.1"]);
    snapshot::check("top.txt", &run.out);
    let lines = daemon.run(&["top", "--json", "-n", "2", "-d", "0.1"]).out;
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(sample["domains"][0]["cpu_percent"], 50.0);
        assert_eq!(sample["domains"][0]["disk_write_rate"], 4096.0);
    }
}

#[test]
fn a_file_and_options_become_one_request() {
    let daemon = Daemon::answering(Reply::Ok(Answer::Created(Created {
        id: 7,
        name: "two".to_owned(),
    })));
    let file = daemon.dir().join("one.toml");
    let text = "name = 'one'\nkernel = 'vmlinuz'\nmemory = '96M'\n[[disks]]\nfile = 'a.img'\n";
    std::fs::write(&file, text).unwrap();
    let file_name = file.to_str().unwrap();
    let run = daemon.run(&[
        "create",
        file_name,
        "--name",
        "two",
        "--disk",
        "/b.img,ro",
        "--cmdline=-x",
        "--paused",
    ]);
    assert_eq!(
        (run.code, run.out.as_str(), run.err.as_str()),
        (0, "two is domain 7\n", "")
    );
    let asked = daemon.asked.lock().unwrap();
    let [
        Op::Create {
            guest,
            paused: true,
        },
    ] = asked.as_slice()
    else {
        panic!("{asked:?}")
    };
    assert_eq!((guest.name.as_str(), guest.cmdline.as_str()), ("two", "-x"));
    assert_eq!(guest.kernel, daemon.dir().join("vmlinuz"));
    let disks: Vec<_> = guest
        .disks
        .iter()
        .map(|disk| (disk.device.as_str(), disk.mode))
        .collect();
    assert_eq!(
        disks,
        [("xvda", Access::ReadWrite), ("xvdb", Access::ReadOnly)]
    );
    assert_eq!(guest.disks[0].file, daemon.dir().join("a.img"));
}

#[test]
fn each_verb_asks_for_what_it_says() {
    for (words, expected) in [
        (
            &["pause", "web", "3"][..],
            r#"[{"op":"pause","domain":"web"},{"op":"pause","domain":3}]"#,
        ),
        (&["unpause", "web"], r#"[{"op":"unpause","domain":"web"}]"#),
        (
            &["shutdown", "web"],
            r#"[{"op":"shutdown","domain":"web"}]"#,
        ),
        (
            &["shutdown", "-w", "web"],
            r#"[{"op":"shutdown","domain":"web","wait_s":60}]"#,
        ),
        (
            &["reboot", "web", "--wait", "--timeout", "5"],
            r#"[{"op":"reboot","domain":"web","wait_s":5}]"#,
        ),
        (&["destroy", "Domain-0"], r#"[{"op":"destroy","domain":0}]"#),
        (
            &["set", "web", "memory=64M", "vcpus=2"],
            r#"[{"op":"set-memory","domain":"web","memory":"64M"},{"op":"set-vcpus","domain":"web","vcpus":2}]"#,
        ),
        (
            &["store", "write", "/a", "b c"],
            r#"[{"op":"store-write","path":"/a","value":"b c"}]"#,
        ),
        (
            &["store", "rm", "/a"],
            r#"[{"op":"store-remove","path":"/a"}]"#,
        ),
    ] {
        let daemon = Daemon::answering(Reply::Ok(Answer::Done {}));
        let run = daemon.run(words);
        assert_eq!(
            (run.code, run.out.as_str(), run.err.as_str()),
            (0, "", ""),
            "{words:?}"
        );
        let asked = serde_json::to_value(&*daemon.asked.lock().unwrap()).unwrap();
        assert_eq!(
            asked,
            serde_json::from_str::<serde_json::Value>(expected).unwrap(),
            "{words:?}"
        );
    }
}

#[test]
fn the_store_is_read_listed_and_watched() {
    let daemon = Daemon::start(|op| {
        let names = |names: &[&str]| Answer::Names {
            names: names.iter().map(|&n| n.to_owned()).collect(),
        };
        let changed = |path: &str| {
            Reply::Event(Event::Changed {
                path: path.to_owned(),
            })
        };
        let value = |text: &str| Answer::Value {
            value: Data::from(text),
        };
        Some(match op {
            Op::StoreWatch { .. } => vec![
                Reply::Ok(Answer::Done {}),
                changed("/a"),
                changed("/a/b"),
                changed("/a/c"),
            ],
            Op::StoreList { path } if path == "/a" => vec![Reply::Ok(names(&["b", "c"]))],
            Op::StoreList { .. } => vec![Reply::Ok(names(&[]))],
            Op::StoreRead { path } if path == "/a" => vec![Reply::Ok(value(""))],
            _ => vec![Reply::Ok(value("x\u{1b}y"))],
        })
    });
    assert_eq!(
        daemon.run(&["store", "read", "/a/b"]).out,
        "x\u{1b}y\n",
        "a pipe gets what is there"
    );
    assert_eq!(daemon.run(&["store", "list", "/a"]).out, "b\nc\n");
    let tree = "/a = \"\"\n/a/b = \"x\\x1by\"\n/a/c = \"x\\x1by\"\n";
    assert_eq!(daemon.run(&["store", "ls", "-r", "/a"]).out, tree);
    assert_eq!(
        daemon.run(&["store", "watch", "/a", "-n", "2"]).out,
        "/a\n/a/b\n"
    );
}

#[test]
fn the_log_and_events_are_shown_without_what_a_terminal_acts_on() {
    let daemon = Daemon::start(|op| {
        Some(match op {
            Op::Events {} => vec![
                Reply::Ok(Answer::Done {}),
                Reply::Event(Event::Domain {
                    domain: summary(1, Some("web"), Life::Running),
                    gone: false,
                }),
                Reply::Event(Event::Domain {
                    domain: summary(1, Some("web"), Life::Dying),
                    gone: true,
                }),
                Reply::End(xeno_api::End {
                    why: xeno_api::EndReason::Complete,
                }),
            ],
            _ => vec![Reply::Ok(Answer::Log {
                text: "(xeno) one\r\n(d1) \u{1b}c\n".to_owned(),
            })],
        })
    });
    assert_eq!(daemon.run(&["dmesg"]).out, "(xeno) one\n(d1) \\u{1b}c\n");
    assert_eq!(daemon.run(&["events"]).out, "1 web running\n1 web gone\n");
}

#[test]
fn completions_and_manual_pages_come_from_the_same_source() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Run::of(&mut xeno(&["completions", shell])).out;
        assert!(
            script.contains("unpause") && script.contains("on-crash"),
            "{shell}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        Run::of(&mut xeno(&["man", dir.path().to_str().unwrap()])).code,
        0
    );
    let page = std::fs::read_to_string(dir.path().join("xeno.1")).unwrap();
    assert!(page.contains("died in its first instant"), "{page}");
    assert!(
        dir.path().join("xeno-create.1").exists() && dir.path().join("xeno-store-watch.1").exists()
    );
}
