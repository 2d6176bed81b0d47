//! What is told when something is wrong, and the exit code.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use xeno_api::{Answer, Error, Kind, Reply};

use crate::daemon::{Daemon, Run, xeno};

fn refusing(error: Error) -> Daemon {
    Daemon::answering(Reply::Error(error))
}

#[test]
fn each_kind_of_refusal_is_one_sentence_and_its_code() {
    for (kind, code) in [
        (Kind::NotFound, 3),
        (Kind::Description, 4),
        (Kind::Busy, 5),
        (Kind::NoMemory, 6),
        (Kind::NoTime, 6),
        (Kind::Unsupported, 7),
        (Kind::TimedOut, 8),
        (Kind::Hypervisor, 1),
        (Kind::Version, 10),
    ] {
        let run = refusing(Error::new(kind, "no, because of this")).run(&["pause", "web"]);
        assert_eq!(
            (run.code, run.out.as_str(), run.err.as_str()),
            (code, "", "xeno: no, because of this\n"),
            "{kind:?}"
        );
    }
}

#[test]
fn a_guest_that_died_at_once_shows_its_last_lines_but_does_not_write_on_the_terminal() {
    let lines = vec!["Kernel panic".to_owned(), "\u{1b}[2J---[ end".to_owned()];
    let daemon = refusing(Error::new(Kind::Died, "web crashed at once").with_details(lines));
    let run = daemon.run(&[
        "create", "--name", "web", "--kernel", "/k", "--memory", "96M",
    ]);
    assert_eq!(run.code, 9);
    assert_eq!(
        run.err,
        "xeno: web crashed at once\n  | Kernel panic\n  | \\u{1b}[2J---[ end\n"
    );
}

#[test]
fn failures_in_json_have_the_kind_and_the_code() {
    let run = refusing(Error::new(Kind::NotFound, "none")).run(&["--json", "destroy", "web"]);
    let told: serde_json::Value = serde_json::from_str(&run.err).unwrap();
    assert_eq!(
        (run.code, &told["exit_code"], &told["error"]["kind"]),
        (3, &3.into(), &"not-found".into())
    );
}

#[test]
fn of_several_domains_the_others_are_still_done() {
    let mut first = true;
    let daemon = Daemon::start(move |_| {
        let reply = if std::mem::take(&mut first) {
            Reply::Error(Error::new(Kind::NotFound, "there is no domain \"a\""))
        } else {
            Reply::Ok(Answer::Destroyed { lingers: true })
        };
        Some(vec![reply])
    });
    let run = daemon.run(&["destroy", "a", "b", "c"]);
    assert_eq!((run.code, daemon.asked.lock().unwrap().len()), (3, 3));
    assert!(
        run.err.contains("no domain \"a\"") && run.err.contains("\"b\" stays listed as dying"),
        "{}",
        run.err
    );
}

#[test]
fn a_wrong_description_never_reaches_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.toml");
    std::fs::write(&file, "name = 'web'\nmemroy = '96M'\nvcpus = 0\n").unwrap();
    let shown = file.display();
    let mut command = xeno(&["create", file.to_str().unwrap()]);
    let run = Run::of(command.env("XENO_SOCKET", "/nowhere"));
    assert_eq!(run.code, 4);
    let expected = format!("xeno: {shown}:2: memroy: no such key: expected one of name, kernel,");
    assert!(run.err.starts_with(&expected), "{}", run.err);
    assert!(
        run.err.contains(&format!(
            "xeno: {shown}:3: vcpus: 0 is out of range: expected 1 to 64"
        )),
        "{}",
        run.err
    );
}

#[test]
fn a_description_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("binary");
    std::fs::write(&binary, [0xff; 10]).unwrap();
    let large = dir.path().join("large");
    std::fs::write(&large, "#".repeat(70_000)).unwrap();
    let missing = dir.path().join("missing");
    for (file, told) in [
        (dir.path(), "directory"),
        (missing.as_path(), "No such file"),
        (binary.as_path(), "UTF-8"),
        (large.as_path(), "longer than 64 KiB"),
    ] {
        let name = file.to_str().unwrap();
        let run = Run::of(&mut xeno(&["create", name]));
        assert_eq!(run.code, 4, "{}", run.err);
        assert!(
            run.err
                .starts_with(&format!("xeno: the description {name} cannot be read")),
            "{}",
            run.err
        );
        assert!(
            run.err.contains(told) && run.err.lines().count() == 1,
            "{}",
            run.err
        );
    }
}

#[test]
fn a_wrong_command_line_is_told_with_code_2() {
    for (words, told) in [
        (&["create"][..], "required"),
        (&["create", "--memory", "96"], "\"96\" is not a size"),
        (&["create", "--name", "7"], "\"7\" is not a name"),
        (
            &["create", "a.toml", "--disk", "x,rx"],
            "\"rx\" is not known",
        ),
        (&["pause"], "required"),
        (&["pause", "a b"], "\"a b\" is not a name"),
        (&["set", "web", "cpus=2"], "memory=SIZE or vcpus=N"),
        (&["sched", "set", "web"], "KEY=VALUE"),
        (
            &["sched", "set", "web", "slice=5ms"],
            "period: it is missing",
        ),
        (&["create", "--cpu", "slice=5"], "not a length of time"),
        (&["top", "--delay", "0"], "0.1 to 3600"),
        (&["explode"], "explode"),
    ] {
        let run = Run::of(&mut xeno(words));
        assert_eq!(run.code, 2, "{words:?}");
        assert!(
            run.err.contains(told) && run.out.is_empty(),
            "{words:?}: {}",
            run.err
        );
    }
}

#[test]
fn top_without_a_terminal_says_what_to_use() {
    let run = Daemon::answering(Reply::Ok(Answer::Done {})).run(&["top"]);
    assert_eq!(
        (run.code, run.err.as_str()),
        (
            2,
            "xeno: top needs a terminal; `--batch` and `--json` do not\n"
        )
    );
}

#[test]
fn without_a_daemon_it_says_where_it_looked() {
    let run = Run::of(xeno(&["list"]).args(["--socket", "/nowhere/socket"]));
    assert_eq!(run.code, 10);
    assert!(
        run.err
            .starts_with("xeno: the daemon cannot be reached at /nowhere/socket: No such file"),
        "{}",
        run.err
    );
}

#[test]
fn a_daemon_that_is_being_restarted_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    // What one that was killed leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut waiting = xeno(&["list"]);
    waiting
        .env("XENO_SOCKET", &path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let waiting = waiting.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let daemon = Daemon::answering(Reply::Ok(Answer::Domains {
        domains: Vec::new(),
    }));
    std::fs::rename(daemon.socket(), &path).unwrap();
    let output = waiting.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_daemon_that_dies_or_talks_nonsense_is_told_apart_from_a_refusal() {
    let run = Daemon::start(|_| None).run(&["list"]);
    assert_eq!(run.code, 10);
    assert!(
        run.err.contains("went away before it answered"),
        "{}",
        run.err
    );
    let run = Daemon::answering(Reply::Ok(Answer::Done {})).run(&["list"]);
    assert_eq!(run.code, 10);
    assert!(run.err.contains("cannot be understood"), "{}", run.err);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let talker =
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"220 mail ready\n"));
    let run = Run::of(xeno(&["list"]).env("XENO_SOCKET", &path));
    let _ = talker.join().unwrap();
    assert_eq!(run.code, 10);
    assert!(run.err.contains("not JSON"), "{}", run.err);
}

#[test]
fn output_that_nobody_reads_is_no_failure() {
    let daemon = Daemon::answering(Reply::Ok(Answer::Log {
        text: "line\n".repeat(50_000),
    }));
    let mut command = daemon.xeno(&["dmesg"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}
