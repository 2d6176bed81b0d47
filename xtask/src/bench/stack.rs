//! A control domain with the tools of one tool stack, to measure them: Debian's `xl`, or ours.
//!
//! The scripts that measure are the same for both: they call what is defined here.
//!
//! | function | what it does |
//! |---|---|
//! | `now` | the time-stamp counter |
//! | `create NAME` | builds a guest and lets it run |
//! | `create_paused NAME` | builds a guest and leaves it so |
//! | `destroy NAME` | ends a guest |
//! | `console NAME` | what the guest has printed |
//! | `free` | the control domain's free memory in KiB, caches dropped |
//! | `hypervisor_free` | the machine's memory that is nobody's, in KiB |
//! | `number NAME` | the guest's number |
//! | `share NAME PERCENT` | so many percent of a CPU for it and no more, from ours in periods of 100 ms |
//! | `charged NAME` | `TABLES OTHERS`: KiB that the hypervisor has for a guest, in page tables and besides; ours alone tells |

use std::path::{Path, PathBuf};

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::bench::machines::{Files, Host, Setting, Subject};
use crate::bench::store::{self, Figures};
use crate::bench::{Common, xen_tools};
use crate::extras::read;
use crate::initrd::{self, Part};
use crate::shell::say;
use crate::tree::Tree;
use crate::{control, drivers, kernel};

/// A guest's memory in MiB: the least in which the stock kernel starts.
pub const GUEST_MEMORY: u64 = 96;

/// A guest's words: it says when it begins, and stays.
pub const WORDS: &str = "console=hvc0 nokaslr norandmaps panic=-1 rdinit=/bin/micro -- stay";

/// What both have.
const COMMON: &str = r#"#!/bin/sh
mount -t xenfs xenfs /proc/xen
now() { micro stamp | sed 's/[^0-9]//g'; }
free() { sync; echo 3 > /proc/sys/vm/drop_caches; sed -n 's/^MemFree: *\([0-9]*\).*/\1/p' /proc/meminfo; }
"#;

/// Starts the stock tools' daemons. What guests print goes to `/tmp/guest-NAME.log`.
const WITH_XL: &str = r#"
mkdir -p /var/lib/xen /var/lib/xenstored /var/log/xen /run/xen /run/xenstored /run/lock
ln -s /run/lock /var/lock
export PATH=/usr/lib/xen-4.17/bin:$PATH
xenstored --pid-file /run/xenstored.pid
xen-init-dom0 > /dev/null
xenconsoled --log=guest --log-dir=/tmp --pid-file=/run/xenconsoled.pid
create() { xl create /etc/guest.cfg "name=\"$1\"" > /dev/null; }
create_paused() { xl create -p /etc/guest.cfg "name=\"$1\"" > /dev/null; }
destroy() { xl destroy $1; }
console() { tr -d '\r' < /tmp/guest-$1.log; }
number() { xl domid $1; }
share() { xl sched-credit2 -d $1 -c $2; }
charged() { :; }
hypervisor_free() { echo $(($(xl info | sed -n 's/^free_memory *: *//p') * 1024)); }
"#;

/// Starts our daemon.
const WITH_XENO: &str = r#"
mkdir -p /run/xeno /var/lib/xeno /var/cache/xeno
xenod > /run/xenod.log 2>&1 &
while ! [ -S /run/xeno/xenod.sock ]; do sleep 0.1; done
create() { xeno create /etc/guest.toml --name $1 > /dev/null; }
create_paused() { xeno create /etc/guest.toml --name $1 --paused > /dev/null; }
destroy() { xeno destroy $1 > /dev/null; }
console() { xeno console $1 --past | tr -d '\r'; }
number() { xeno info $1 --json | tr ',{' '\n\n' | sed -n 's/.*"id": *\([0-9]*\).*/\1/p' | head -n 1; }
share() { xeno sched set $1 slice=$2ms period=100ms > /dev/null; }
charged() {
    audit "$(number $1)" > /tmp/audit || return
    all=$(sed -n 's/^overhead //p' /tmp/audit)
    tables=$(sed -n 's/^tables //p' /tmp/audit)
    echo $((tables * 4)) $(((all - tables) * 4))
}
hypervisor_free() { echo $(($(xeno info --json | sed -n 's/.*"free_bytes": *\([0-9]*\).*/\1/p') / 1024)); }
"#;

/// What is measured with each tool stack.
pub struct Bench<'a> {
    /// Its name: of the file system, the log and the kept figures.
    pub name: &'a str,
    /// What is done meanwhile, before the machine's name: `building two guests on`.
    pub doing: &'a str,
    /// The script that measures.
    pub script: &'a str,
    /// The line with which it ends.
    pub last: &'a str,
    /// Programs of ours that the script calls besides `micro`.
    pub programs: &'a [&'a str],
    /// The guests' kernel.
    pub guest_kernel: &'a Path,
    /// The words for it: [`WORDS`], or others.
    pub guest_words: &'a str,
    /// The machine's memory, as the emulator writes it.
    pub memory: &'a str,
    /// The most that one machine may take in real time.
    pub limit: Duration,
    /// The figures that a console tells.
    pub read: fn(&str) -> Result<Figures>,
}

/// What was found on each host that has domains.
pub type Columns = Vec<(Host, Figures)>;

/// Measures on each host that was asked for and has a tool stack.
///
/// # Errors
/// When something is missing or a machine does not do what it should.
pub fn measure(tree: &Tree, common: &Common, files: &Files, bench: &Bench<'_>) -> Result<Columns> {
    let mut columns = Vec::new();
    let hosts = common.hosts().into_iter();
    for host in hosts.filter(|host| *host != Host::Bare) {
        let files = Files {
            initrd: initrd(tree, host, files, bench)?,
            kernel: kernel::unpacked(&files.kernel)?,
            ..files.clone()
        };
        let subject = Subject {
            tree,
            host,
            setting: common.setting.unwrap_or(Setting::Isolated),
            files: &files,
            words: "",
            memory: bench.memory,
            hypervisor_words: "",
        };
        let figures = store::figures(bench.name, &subject, common.fresh, || {
            say(format!("{} {}", bench.doing, subject.name()));
            (bench.read)(&subject.run(bench.name, bench.last, bench.limit)?)
        })?;
        columns.push((host, figures));
    }
    Ok(columns)
}

/// One host's figures.
pub fn column(columns: &[(Host, Figures)], host: Host) -> Option<&Figures> {
    let mut all = columns.iter();
    all.find(|(other, _)| *other == host)
        .map(|(_, figures)| figures)
}

/// What a console says behind a prefix, on a line of its own.
pub fn told<'c>(console: &'c str, prefix: &str) -> Option<&'c str> {
    console
        .lines()
        .find_map(|line| line.trim_end().strip_prefix(prefix))
}

/// Prints all figures for scripts.
pub fn print_json(bench: &str, columns: &[(Host, Figures)]) {
    let hosts: serde_json::Map<_, _> = columns
        .iter()
        .map(|(host, figures)| {
            let figures: serde_json::Map<_, _> = figures
                .iter()
                .map(|(name, value)| (name.clone(), json!(value)))
                .collect();
            (host.name().to_owned(), json!(figures))
        })
        .collect();
    println!("{}", json!({ "bench": bench, "hosts": hosts }));
}

/// The control domain's file system: starts the stack of this host and runs the script. The guests' file system is the
/// one in `files`, which holds the program that tells the time.
///
/// # Errors
/// When something does not build or cannot be downloaded.
fn initrd(tree: &Tree, host: Host, files: &Files, bench: &Bench<'_>) -> Result<PathBuf> {
    let text = |path: &str, permissions, contents: String| Part {
        path: path.to_owned(),
        permissions,
        contents: contents.into(),
    };
    let program = |name: &str| {
        let file = tree.out().join("programs").join(name);
        read(format!("usr/bin/{name}"), 0o755, &file)
    };
    let mut parts = drivers::parts(&files.kernel, drivers::SERVING)?;
    parts.push(read("boot/guest.img", 0o644, &files.initrd)?);
    parts.push(read("boot/vmlinuz", 0o644, bench.guest_kernel)?);
    parts.push(program("micro")?);
    for name in bench.programs {
        parts.push(program(name)?);
    }
    let with = match host {
        Host::Ours => {
            for (name, file) in control::build(tree)? {
                parts.push(read(format!("usr/bin/{name}"), 0o755, &file)?);
            }
            parts.push(program("audit")?);
            parts.push(text("etc/guest.toml", 0o644, toml(bench.guest_words)));
            WITH_XENO
        }
        Host::Bare | Host::Xen => {
            parts.extend(xen_tools::parts(tree)?);
            parts.push(text("etc/guest.cfg", 0o644, config(bench.guest_words)));
            WITH_XL
        }
    };
    parts.push(text(
        "etc/start.d/90-bench",
        0o755,
        format!("{COMMON}{with}{}", bench.script),
    ));
    initrd::build_with(
        tree,
        &format!("{}-{host:?}", bench.name).to_lowercase(),
        &parts,
    )
}

/// The guest's description, as ours reads it.
fn toml(words: &str) -> String {
    format!(
        "name = \"guest\"\nkernel = \"/boot/vmlinuz\"\ninitrd = \"/boot/guest.img\"\nmemory = \"{GUEST_MEMORY}M\"\n\
         cmdline = \"{words}\"\n"
    )
}

/// The same, as `xl` reads it. Its time-stamp counter is the machine's.
fn config(words: &str) -> String {
    format!(
        "name = \"guest\"\ntype = \"pv\"\nkernel = \"/boot/vmlinuz\"\nramdisk = \"/boot/guest.img\"\n\
         memory = {GUEST_MEMORY}\nvcpus = 1\ntsc_mode = \"native\"\nextra = \"{words}\"\n"
    )
}
