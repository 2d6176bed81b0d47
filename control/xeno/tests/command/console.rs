//! The console: what is shown, what is typed, and how it is left.

use std::io::Write;
use std::process::Stdio;

use xeno_api::{Answer, Data, End, EndReason, Event, Op, Reply};

use crate::daemon::{Daemon, Run};
use crate::terminal::Terminal;

fn output(bytes: &[u8]) -> Reply {
    Reply::Event(Event::Output {
        data: Data::from(bytes),
    })
}

fn attached() -> Reply {
    Reply::Ok(Answer::Attached { skipped_bytes: 0 })
}

/// Echoes what is typed; `x` makes the guest end; keys after `s` are never taken.
fn echoing() -> Daemon {
    let mut stuck = false;
    Daemon::start(move |op| {
        Some(match op {
            Op::Console { .. } => vec![attached(), output(b"past\r\n")],
            Op::Input { data, .. } => {
                if stuck || data.0.contains(&b's') {
                    stuck = true;
                    return Some(Vec::new());
                }
                let mut replies = vec![Reply::Ok(Answer::Done {}), output(&data.0)];
                if data.0.contains(&b'x') {
                    replies.push(Reply::End(End {
                        why: EndReason::Gone,
                    }));
                }
                replies
            }
            _ => panic!("{op:?}"),
        })
    })
}

#[test]
fn keys_go_to_the_guest_and_ctrl_bracket_leaves() {
    let daemon = echoing();
    let mut terminal = Terminal::start(&daemon, &["console", "web"]);
    terminal.wait_for("past");
    assert!(terminal.is_raw());
    // Ctrl-C and Ctrl-D are the guest's.
    terminal.type_in(b"hello\x03\x04");
    terminal.wait_for("hello\x03\x04");
    terminal.type_in(b"\x1d");
    terminal.wait_for("[left web]");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_guest_that_does_not_read_does_not_keep_anybody() {
    let daemon = echoing();
    let mut terminal = Terminal::start(&daemon, &["console", "web"]);
    terminal.wait_for("past");
    terminal.type_in(b"s");
    for _ in 0..30 {
        terminal.type_in(&[b'a'; 4096]);
    }
    terminal.type_in(b"\x1d");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_guest_that_ends_ends_the_console() {
    let daemon = echoing();
    let mut terminal = Terminal::start(&daemon, &["console", "web"]);
    terminal.wait_for("past");
    terminal.type_in(b"x");
    terminal.wait_for("[web is gone]");
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let daemon = echoing();
    let mut terminal = Terminal::start(&daemon, &["console", "web"]);
    terminal.wait_for("past");
    terminal.signal(rustix::process::Signal::TERM);
    assert_eq!(terminal.ended(), Some(0));
}

#[test]
fn a_daemon_that_dies_gives_the_terminal_back() {
    let daemon = Daemon::start(|op| match op {
        Op::Console { .. } => Some(vec![attached(), output(b"past\r\n")]),
        _ => None,
    });
    let mut terminal = Terminal::start(&daemon, &["console", "web"]);
    terminal.wait_for("past");
    terminal.type_in(b"a");
    terminal.wait_for("the daemon went away");
    assert_eq!(terminal.ended(), Some(10));
}

#[test]
fn a_pipe_is_typed_in_whole_and_the_output_is_exact() {
    let daemon = echoing();
    let mut child = daemon
        .xeno(&["console", "web"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // More than one input takes. Ctrl-] is a key like any other here.
    let keys = [&[b'a'; 200_000][..], b"\x1d\xffx"].concat();
    let mut stdin = child.stdin.take().unwrap();
    let typed = keys.clone();
    let typist = std::thread::spawn(move || stdin.write_all(&typed));
    let output = child.wait_with_output().unwrap();
    typist.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, [b"past\r\n", &keys[..]].concat());
}

#[test]
fn the_past_can_be_had_alone_and_a_time_limit_ends_the_rest() {
    let daemon = Daemon::start(|op| {
        Some(match op {
            Op::Console {
                only_past: true,
                scrollback_bytes: Some(100),
                ..
            } => {
                vec![
                    attached(),
                    output(b"past\r\n"),
                    Reply::End(End {
                        why: EndReason::Complete,
                    }),
                ]
            }
            _ => vec![
                attached(),
                output(b"now\r\n"),
                Reply::Event(Event::Lost { bytes: 7 }),
            ],
        })
    });
    let run = daemon.run(&["console", "web", "--past", "--last", "100"]);
    assert_eq!(
        (run.code, run.out.as_str(), run.err.as_str()),
        (0, "past\r\n", "")
    );
    let Run { code, out, err } = daemon.run(&["console", "web", "--timeout", "1"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (0, "now\r\n\r\n[7 bytes went by too fast]\r\n", "")
    );
    let json = daemon.run(&["console", "web", "--past", "--last", "100", "--json"]);
    assert_eq!(json.out, "{\"is\":\"output\",\"data\":\"past\\r\\n\"}\n");
}
