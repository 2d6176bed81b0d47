//! `xeno top` on a terminal.

use xeno_api::{Answer, DomainUsage, Io, Life, Op, Reply, Summary, Usage};

use crate::daemon::Daemon;
use crate::terminal::Terminal;

/// Where a terminal is asked for its size, and how one of 12 lines of 60 columns answers.
const ASKED: &str = "\x1b[6n";
const ANSWER: &[u8] = b"\x1b[12;60R";

/// A machine with one domain; every look but the first is told of `later` instead of `first`.
fn machine(first: &'static str, later: &'static str) -> Daemon {
    let mut looks = 0;
    Daemon::start(move |op| {
        assert!(matches!(op, Op::Usage {}), "{op:?}");
        looks += 1;
        Some(vec![told(if looks == 1 { first } else { later })])
    })
}

fn told(name: &str) -> Reply {
    let summary = Summary {
        id: 1,
        name: Some(name.to_owned()),
        life: Life::Running,
        reason: None,
        memory_bytes: 96 << 20,
        vcpus: 1,
        cpu_ns: 0,
        age_s: None,
    };
    Reply::Ok(Answer::Usage(Usage {
        time_ns: 1_000_000_000,
        cpus: 1,
        memory_bytes: 1 << 30,
        free_bytes: 1 << 29,
        machine: None,
        domains: vec![DomainUsage {
            summary,
            max_memory_bytes: 0,
            disk: Io::default(),
            net: Io::default(),
            account: None,
        }],
    }))
}

#[test]
fn a_console_is_asked_its_size_and_has_none_afterwards() {
    let daemon = machine("first", "later");
    let mut terminal = Terminal::start(&daemon, &["top", "--delay", "0.1"]);
    for name in ["first", "later"] {
        terminal.wait_for(ASKED);
        terminal.take();
        terminal.type_in(ANSWER);
        terminal.wait_for(name);
        // The keys are in its last line.
        terminal.wait_for("\x1b[12;1H");
    }
    assert_eq!(terminal.size(), (12, 60));
    // Others print on a console: all of it is written again at each look.
    for _ in 0..2 {
        terminal.wait_for(ASKED);
        terminal.take();
        terminal.type_in(ANSWER);
        terminal.wait_for("later");
        terminal.wait_for("q quit");
    }
    terminal.type_in(b"q");
    // A last question may be under way.
    terminal.type_in(ANSWER);
    terminal.wait_for("\x1b[?1049l");
    assert_eq!(terminal.ended(), Some(0));
    assert_eq!(terminal.size(), (0, 0));
}

#[test]
fn a_terminal_that_has_a_size_is_not_asked_and_may_change_it() {
    let daemon = machine("web", "web");
    let mut terminal = Terminal::started(&daemon, &["top", "--delay", "3600"], Some((24, 80)));
    terminal.wait_for("\x1b[24;1H");
    assert!(!terminal.take().contains(ASKED));
    terminal.resize((10, 40));
    terminal.signal(rustix::process::Signal::WINCH);
    terminal.wait_for("\x1b[10;1H");
    assert!(!terminal.take().contains(ASKED));
    terminal.type_in(b"\x03");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_daemon_that_is_started_again_is_asked_again() {
    let mut looks = 0;
    let daemon = Daemon::start(move |_| {
        looks += 1;
        (looks != 2).then(|| vec![told("web")])
    });
    let run = daemon.run(&["top", "--batch", "-n", "1", "-d", "0.1"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(run.out.contains("web"));
    let gone = Daemon::start(|_| None).run(&["top", "--batch"]);
    assert_eq!(gone.code, 10);
}

#[test]
fn a_signal_gives_the_screen_back() {
    let daemon = machine("web", "web");
    let mut terminal = Terminal::started(&daemon, &["top", "--delay", "3600"], Some((24, 80)));
    terminal.wait_for("\x1b[24;1H");
    terminal.signal(rustix::process::Signal::TERM);
    terminal.wait_for("\x1b[?1049l");
    assert_eq!(terminal.ended(), Some(0));
}
