//! `xeno ledger` on files that a test made, and `xeno usage`.

use std::path::{Path, PathBuf};

use ledger::files::{Known, SEGMENT_BYTES, Until, next_to_prune};
use ledger::record::{Domain, Hash, Head, Pruned, What};
use ledger::{Ledger, SecretKey};
use tempfile::TempDir;
use xeno_api::{
    Account, Answer, DomainUsage, Io, Life, MachineTime, Op, PartUsage, Reply, Summary, Target,
    Usage,
};

use crate::daemon::{Daemon, Run, xeno};

/// A state directory with a record of three uses of a guest, and the head before the last.
fn made() -> (TempDir, Head, Head) {
    let (dir, _, heads) = made_in(SEGMENT_BYTES);
    (dir, heads[1], heads[2])
}

/// As [`made`], in files of so many bytes, to be gone on with.
fn made_in(file_bytes: u64) -> (TempDir, Ledger, Vec<Head>) {
    let dir = tempfile::tempdir().unwrap();
    let key = SecretKey::from_bytes(&[3; 32]);
    let public = dir.path().join("ledger.pub");
    std::fs::write(public, format!("{}\n", key.public())).unwrap();
    let files = dir.path().join("ledger");
    let begun = (1_795_453_509_000, "a boot", 10_000);
    let started = Ledger::start(&files, key, file_bytes, &Known::default(), begun);
    let (mut ledger, _) = started.unwrap();
    let mut heads = Vec::new();
    for user in 1..4u64 {
        let used = Account {
            hz: 1_000_000_000,
            user: user * 1_000_000_000,
            frames: 25_600,
            ..Account::default()
        };
        let domain = Domain {
            machine: 0,
            id: 7,
            serial: 9,
            uuid: "a handle".to_owned(),
            name: Some("web".to_owned()),
            k: 0,
            prior: Hash::NONE,
            ended: None,
            used,
        };
        let what = What::Domain(Box::new(domain));
        heads.push(ledger.append(1_795_453_510_000, vec![what]).unwrap());
    }
    (dir, ledger, heads)
}

fn file(dir: &Path) -> PathBuf {
    dir.join("ledger/000000000001.ledger")
}

fn run(dir: &Path, verb: &str, more: &[&str]) -> Run {
    let state = dir.to_str().unwrap();
    let words = ["ledger", verb, "--state", state];
    Run::of(&mut xeno(&[&words[..], more].concat()))
}

fn noted(head: Head) -> String {
    format!("{}:{}", head.n, head.hash)
}

#[test]
fn a_whole_record_is_told_to_be_and_whose_word_is_missing() {
    let (dir, _, last) = made();
    let told = run(dir.path(), "verify", &["--offline", "--head", &noted(last)]);
    assert_eq!(
        (told.code, told.out.as_str(), told.err.as_str()),
        (
            0,
            "the usage record is whole: entries 1 to 5 in 1 file\n\
             ring 0 was not asked: whether the end was cut off is not known\n\
             nobody can vouch for what came after entry 5 (2026-11-23 17:05:10), if anything did\n",
            ""
        )
    );
    let json = run(dir.path(), "verify", &["--offline", "--json"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["whole"], &json["entries"]),
        (&true.into(), &5.into())
    );
    assert_eq!(json["unvouched"][0]["after"], 5);
    let head = run(dir.path(), "head", &[]).out;
    assert_eq!(head, noted(last) + "\n");
    let key = run(dir.path(), "key", &[]).out;
    assert_eq!(key.trim().len(), 64);
    let path = file(dir.path());
    let path = path.to_str().unwrap();
    let told = run(dir.path(), "verify", &["--file", path, "--key", key.trim()]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
}

#[test]
fn what_was_done_to_it_is_told_with_a_code_of_its_own() {
    let (dir, before, last) = made();
    let whole = std::fs::read_to_string(file(dir.path())).unwrap();
    let without = |n: usize| -> String {
        let lines = whole.split_inclusive('\n').enumerate();
        lines
            .filter(|(at, _)| at + 1 != n)
            .map(|(_, line)| line)
            .collect()
    };
    for (contents, told) in [
        (
            whole.replace("2000000000", "1000000000"),
            "altered: entry 4 (000000000001.ledger, line 4)",
        ),
        (without(4), "missing: entry 4\n"),
        (
            without(5),
            "cut: entry 5 was there, as the head that was noted says",
        ),
        (String::new(), "cut: entries 1 to 5 were there"),
    ] {
        std::fs::write(file(dir.path()), contents).unwrap();
        let said = run(dir.path(), "verify", &["--offline", "--head", &noted(last)]);
        assert!(said.out.contains(told), "{}", said.out);
        assert!(said.out.contains("the usage record is NOT WHOLE"));
        assert_eq!((said.code, said.err.as_str()), (11, ""));
    }
    std::fs::write(file(dir.path()), &whole).unwrap();
    let other = Head {
        hash: last.hash,
        ..before
    };
    let said = run(
        dir.path(),
        "verify",
        &["--offline", "--head", &noted(other)],
    );
    assert!(
        said.out.contains("another: entry 4 is not the one"),
        "{}",
        said.out
    );
}

#[test]
fn what_it_says_is_shown_and_wrong_options_are_told() {
    let (dir, ..) = made();
    let shown = run(dir.path(), "show", &["--domain", "web", "--last", "2"]).out;
    assert_eq!(
        shown,
        "ENTRY  TIME                 WHAT  NAME  ID  K   USER  KERNEL  HYPERVISOR  STOLEN  MEMORY  PEAK\n\
         4      2026-11-23 17:05:10  use   web    7  2  2.00s   0.00s       0.00s   0.00s    100M    0B\n\
         5      2026-11-23 17:05:10  use   web    7  3  3.00s   0.00s       0.00s   0.00s    100M    0B\n"
    );
    let objects = run(dir.path(), "show", &["--json"]).out;
    let said: Vec<serde_json::Value> = objects
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let is: Vec<_> = said
        .iter()
        .map(|said| said["is"].as_str().unwrap())
        .collect();
    assert_eq!(is, ["segment", "start", "domain", "domain", "domain"]);
    for (more, code) in [
        (&["--offline", "--head", "5"][..], 2),
        (&["--offline", "--key", &"x".repeat(64)], 2),
        (&["--offline", "--dir", "/nowhere"], 1),
        (&["--file", "/etc/passwd"], 2),
        // Not in a control domain.
        (&[], 1),
    ] {
        let told = run(dir.path(), "verify", more);
        assert_eq!(told.code, code, "{more:?}: {}{}", told.out, told.err);
        assert!(told.err.starts_with("xeno: ") || code == 2, "{}", told.err);
    }
}

#[test]
fn what_was_removed_on_purpose_is_told_and_by_others_is_missing() {
    let (dir, mut ledger, heads) = made_in(1);
    let first = file(dir.path());
    let bytes = std::fs::read(&first).unwrap();
    let until = Until {
        bytes: None,
        before: Some(heads[0].n),
    };
    let verified = || {
        run(
            dir.path(),
            "verify",
            &["--offline", "--head", &noted(heads[0])],
        )
    };
    std::fs::remove_file(&first).unwrap();
    let told = verified();
    assert!(
        told.out.starts_with("missing: entries 1 to 2\n"),
        "{}",
        told.out
    );
    assert_eq!(told.code, 11);
    std::fs::write(&first, bytes).unwrap();
    let files = dir.path().join("ledger");
    while let Some(pruned) = next_to_prune(
        &files,
        ledger.public_key(),
        ledger.chain().pruned(),
        &until,
        true,
    )
    .unwrap()
    {
        ledger.prune(1_795_453_511_000, pruned).unwrap().unwrap();
        ledger.remove_pruned().unwrap();
    }
    let told = verified();
    assert_eq!(
        (told.code, told.out.as_str()),
        (
            0,
            "the usage record is whole: entries 3 to 10 in 4 files\n\
             up to entry 2 it was removed on purpose, as somebody asked: entry 10 says so (2026-11-23 17:05:11); \
             it vouches from entry 3 on\n\
             ring 0 was not asked: whether the end was cut off is not known\n\
             nobody can vouch for what came after entry 10 (2026-11-23 17:05:11), if anything did\n"
        )
    );
    let last = noted(Head { n: 1, ..heads[0] });
    let told = run(dir.path(), "verify", &["--offline", "--head", &last]);
    assert!(
        told.out
            .contains("the head that was noted of entry 1 says nothing any more"),
        "{}",
        told.out
    );
    let shown = run(dir.path(), "show", &["--last", "1"]).out;
    assert!(shown.contains("pruned  up to entry 2"), "{shown}");
}

#[test]
fn the_daemon_is_asked_to_remove_what_is_old() {
    let pruned = |faults| Pruned {
        last: 7,
        hash: Hash::NONE,
        asked: true,
        faults,
    };
    for (answer, said) in [
        (None, "nothing is removed\n"),
        (Some(pruned(0)), "up to entry 7 it is removed\n"),
        (
            Some(pruned(2)),
            "up to entry 7 it is removed\n\
             not all was well with it: `xeno ledger verify` says so from now on (2)\n",
        ),
    ] {
        let daemon = Daemon::start(move |op| {
            let keep = Some("512M".parse().unwrap());
            let before = Some(8);
            assert_eq!(*op, Op::PruneLedger { before, keep });
            Some(vec![Reply::Ok(Answer::Pruned { pruned: answer })])
        });
        let words = ["ledger", "prune", "--before", "8", "--keep", "512M"];
        assert_eq!(daemon.run(&words).out, said);
        let json = daemon.run(&[&words[..], &["--json"]].concat()).out;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["pruned"].is_null(), answer.is_none());
    }
    for wrong in [&[][..], &["--before", "x"], &["--keep", "5"]] {
        let words = [&["ledger", "prune"], wrong].concat();
        assert_eq!(Run::of(&mut xeno(&words)).code, 2, "{wrong:?}");
    }
}

/// A vCPU, and what is of none.
fn parts() -> Vec<PartUsage> {
    let vcpu = PartUsage {
        vcpu: Some(0),
        cpu: Some(1),
        hz: 1_000_000_000,
        user: 2_000_000_000,
        hypervisor: [0, 0, 0, 250_000_000, 0, 0],
        switches: 9,
        events_received: 7,
        grants_used: 3,
        ..PartUsage::default()
    };
    let none = PartUsage {
        hz: 1_000_000_000,
        kernel: 1_000_000_000,
        grants_lent: 4,
        ..PartUsage::default()
    };
    vec![vcpu, none]
}

fn used(account: Option<Account>) -> Daemon {
    Daemon::start(move |op| {
        if let Op::UsageOf { domain } = op {
            assert_eq!(*domain, Target::Id(1));
            let parts = parts();
            return Some(vec![Reply::Ok(Answer::UsageOf { parts })]);
        }
        assert!(matches!(op, Op::Usage {}));
        let summary = Summary {
            id: 1,
            name: Some("web".to_owned()),
            life: Life::Running,
            reason: None,
            memory_bytes: 0,
            vcpus: 1,
            cpu_ns: 0,
            age_s: None,
        };
        let machine = account.map(|_| MachineTime {
            cpus: 2,
            hz: 1_000_000_000,
            elapsed: 20_000_000_000,
            idle: 9_000_000_000,
            own: 1_000_000_000,
            sold: 10_000_000_000,
            held: 8_000_000_000,
            departed: 2_000_000_000,
        });
        Some(vec![Reply::Ok(Answer::Usage(Usage {
            time_ns: 0,
            cpus: 2,
            memory_bytes: 0,
            free_bytes: 0,
            machine,
            domains: vec![DomainUsage {
                summary,
                max_memory_bytes: 0,
                disk: Io::default(),
                net: Io::default(),
                account,
            }],
        }))])
    })
}

#[test]
fn usage_is_a_table_of_all_or_all_of_one() {
    let mut account = Account {
        hz: 1_000_000_000,
        user: 3_000_000_000,
        extra: 3_500_000_000,
        frames: 256,
        events_sent: 5,
        events_received: 7,
        grants_lent: 4,
        ..Account::default()
    };
    account.hypervisor[3] = 500_000_000;
    let daemon = used(Some(account));
    let all = daemon.run(&["usage"]).out;
    assert_eq!(
        all,
        "NAME  ID   USER  KERNEL  HYPERVISOR  GUARANTEED  EXTRA  STOLEN  SWITCHES  EVENTS  GRANTS  MEMORY  PEAK  MEM*TIME  OWN MEM\n\
         web    1  3.00s   0.00s       0.50s       0.00s  3.50s   0.00s         0     7/5     4/0      1M    0B      0B*s       0B\n\
         20.00s of 2 CPUs: 10.00s for domains (2.00s of them gone), 9.00s idle, 1.00s the hypervisor's own\n"
    );
    let one = daemon.run(&["usage", "web"]).out;
    assert!(
        [
            "hypervisor, timer",
            "together",
            "events sent",
            "grants lent"
        ]
        .iter()
        .all(|line| one.contains(line)),
        "{one}"
    );
    assert!(
        one.ends_with(
            "VCPU  CPU   USER  KERNEL  HYPERVISOR  GUARANTEED  EXTRA  STOLEN  SWITCHES  EVENTS  GRANTS\n\
             \x20  0    1  2.00s   0.00s       0.25s       0.00s  0.00s   0.00s         9     7/0     0/3\n\
             none    -  0.00s   1.00s       0.00s       0.00s  0.00s   0.00s         0     0/0     4/0\n"
        ),
        "{one}"
    );
    let told = |words: &[&str]| -> serde_json::Value {
        serde_json::from_str(&daemon.run(words).out).unwrap()
    };
    let json = told(&["usage", "web", "--json"]);
    assert_eq!(json["domains"][0]["parts"][0]["switches"], 9);
    assert!(json["domains"][0]["parts"][1]["vcpu"].is_null());
    let json = told(&["usage", "--json"]);
    assert!(json["domains"][0]["parts"].is_null());
    // Also what is 0.
    assert_eq!(json["domains"][0]["account"]["grants_used"], 0);
    assert_eq!(json["domains"][0]["account"]["grants_lent"], 4);
    assert_eq!(json["domains"][0]["account"]["user"], 3_000_000_000u64);
    assert_eq!(json["machine"]["sold"], 10_000_000_000u64);
    assert_eq!(daemon.run(&["usage", "nobody"]).code, 3);
    let top = daemon.run(&["top", "--usage", "-n", "1", "-d", "0.1"]).err;
    assert!(top.contains("top needs a terminal"), "{top}");
    let none = used(None).run(&["usage"]);
    assert_eq!(none.code, 7, "{}", none.err);
}
