//! The control domain of `cargo xtask run` and its guests: what goes into its initial file system.
//!
//! ```text
//!   /usr/bin/{xeno,xenod}            the command and the daemon, kept running
//!   /etc/xeno/guestN.toml            a description each
//!   /boot/vmlinuz, guest-initrd.img  the stock kernel and a small file system, the same for all
//!   /boot/talk                       a kernel of our own of one page, to try with `xeno create --kernel`
//!   /var/lib/guests/guestN.img       a small ext4 disk each, made when the control domain starts
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::extras::read;
use crate::initrd::{self, Part};
use crate::toolchain::BareMetal;
use crate::tree::Tree;
use crate::{build, control, drivers, linux_module, shell};

/// The guests of a control domain.
#[derive(Clone, Copy, Debug)]
pub struct Guests<'a> {
    /// How many are started.
    pub count: u32,
    /// The kernel they all have: the stock one, as the distribution ships it or unpacked.
    pub kernel: &'a Path,
}

/// The memory of each guest: the least in which the stock kernel starts with our file system.
pub const GUEST_MEMORY: &str = "96M";

/// The same in MiB, with what the hypervisor and the daemon need for it.
pub const GUEST_COST_MB: u64 = 100;

/// Where the guests' initial file system is in the control domain's.
pub const GUEST_INITRD: &str = "boot/guest-initrd.img";

/// A test guest that is also an example of a kernel of one's own.
const OWN_KERNEL: &str = "talk";

/// The size of a guest's disk.
const DISK: &str = "16M";

/// When a disk was made, so that it is the same each time.
const DISK_TIME: &str = "1704067200";

/// Starts the daemon, keeps it, and makes the guests' disks. Where this kernel is not the control domain, or there is
/// no hypervisor, there is nothing to do.
const START: &str = r#"#!/bin/sh
[ -e /sys/hypervisor/type ] || exit 0
mount -t xenfs xenfs /proc/xen
grep -q control_d /proc/xen/capabilities || exit 0
mkdir -p /run/xeno /var/lib/xeno /var/cache/xeno
for description in /etc/xeno/*.toml; do
    [ -e "$description" ] || break
    name=${description##*/}
    gunzip -c /var/lib/guests/disk.img.gz > "/var/lib/guests/${name%.toml}.img"
done
/usr/bin/keep-xenod &
echo '::wait:/usr/bin/start-guests' >> /etc/inittab
"#;

/// Guests do not mind when the daemon dies; it is back at once.
const KEEP: &str = "#!/bin/sh
while true; do
    xenod $(cat /run/xeno/options 2> /dev/null) >> /run/xeno/xenod.log 2>&1
    echo \"xenod ended with status $?\" >> /run/xeno/xenod.log
    sleep 0.2
done
";

/// Starts each guest that is described, before the shell comes up.
const START_GUESTS: &str = "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
for try in $(seq 100); do
    [ -S /run/xeno/xenod.sock ] && break
    sleep 0.1
done
for description in /etc/xeno/*.toml; do
    [ -e \"$description\" ] || break
    xeno create \"$description\"
done
";

/// What a guest does with its disk.
const MOUNT: &str = "#!/bin/sh
mkdir -p /mnt
mount -t ext4 /dev/xvda /mnt || echo 'there is no disk'
";

/// What the control domain needs beside its kernel's modules.
///
/// # Errors
/// When a program does not build or a file cannot be made.
pub fn parts(tree: &Tree, guests: &Guests<'_>) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for (name, file) in control::build(tree)? {
        parts.push(read(format!("usr/bin/{name}"), 0o755, &file)?);
    }
    for entry in std::fs::read_dir(control::manual(tree))? {
        let page = entry?.path();
        let name = page
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        parts.push(read(format!("usr/share/man/man1/{name}"), 0o644, &page)?);
    }
    parts.push(text("etc/start.d/50-control", 0o755, START));
    parts.push(text("usr/bin/keep-xenod", 0o755, KEEP));
    parts.push(text("usr/bin/start-guests", 0o755, START_GUESTS));
    parts.push(text("etc/profile", 0o644, &profile(guests.count)));
    parts.push(read("boot/vmlinuz", 0o644, guests.kernel)?);
    let own = build::guest(tree, &BareMetal::find(tree)?, OWN_KERNEL)?;
    parts.push(read(format!("boot/{OWN_KERNEL}"), 0o644, &own)?);
    parts.push(read(
        GUEST_INITRD,
        0o644,
        &guest_initrd(tree, guests.kernel, Vec::new())?,
    )?);
    parts.push(read("var/lib/guests/disk.img.gz", 0o644, &disk(tree)?)?);
    for number in 1..=guests.count {
        let path = format!("etc/xeno/guest{number}.toml");
        parts.push(text(path, 0o644, &description(number)));
    }
    // The archive's order is the order in which they are read from a directory: not the same everywhere.
    parts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(parts)
}

fn text(path: impl Into<String>, permissions: u32, contents: &str) -> Part {
    Part {
        path: path.into(),
        permissions,
        contents: contents.into(),
    }
}

fn description(number: u32) -> String {
    format!(
        r#"# One of the guests that `cargo xtask run` starts. Only name, kernel and memory are necessary.
name = "guest{number}"
kernel = "/boot/vmlinuz"
initrd = "/boot/guest-initrd.img"
cmdline = "console=hvc0 quiet hostname=guest{number}"
memory = "{GUEST_MEMORY}"
vcpus = 1
disks = [{{ file = "/var/lib/guests/guest{number}.img", mode = "rw" }}]
on_crash = "preserve"
"#
    )
}

/// The control domain's greeting: five lines that say what to try.
fn profile(guests: u32) -> String {
    let running = match guests {
        0 => "No guest runs yet".to_owned(),
        1 => "One guest runs".to_owned(),
        _ => format!("{guests} guests run"),
    };
    format!(
        r#"export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=${{TERM:-linux}}
PS1='xeno:\w# '
cd /root
echo
echo "{running} beside this control domain (Linux $(uname -r) on $(cat /sys/hypervisor/type 2>/dev/null || echo 'the bare machine')). Try:"
echo "  xeno list; xeno top               what there is, and what it uses (q leaves)"
echo "  xeno console guest1               talk to a guest; Ctrl-] leaves, /mnt is its disk"
echo "  xeno destroy guest1; xeno create /etc/xeno/guest1.toml     end it, and have it again"
echo "  xeno --help; poweroff             all there is; leave"
"#
    )
}

/// A guest's login shell says which guest it is.
const GUEST_PROFILE: &str = r#"export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
PS1='\h:\w# '
cd /root
echo
echo "$(hostname): Linux $(uname -r), a guest. Its disk is /mnt. Leave with poweroff."
"#;

/// Takes the name from the command line: `hostname=guest1`.
const GUEST_NAME: &str = "#!/bin/sh
for word in $(cat /proc/cmdline); do
    case $word in hostname=*) hostname ${word#hostname=};; esac
done
";

/// Puts a vCPU that is added to the running guest on line. The kernel only shows it and leaves this to a rule of udev's.
const PUT_ON_LINE: &str = r#"#!/bin/sh
[ "$ACTION $SUBSYSTEM" = "add cpu" ] || exit 0
echo 1 > "/sys$DEVPATH/online"
"#;

/// Has it told of each device that comes.
const WATCH_DEVICES: &str = "#!/bin/sh
uevent /usr/bin/put-on-line &
";

/// The guests' initial file system: ours, with the modules that a guest's disk needs and what notices further vCPUs; `more` goes in
/// as well.
///
/// # Errors
/// When a module cannot be had or a file cannot be made.
pub fn guest_initrd(tree: &Tree, vmlinuz: &Path, more: Vec<Part>) -> Result<PathBuf> {
    let mut parts = drivers::parts(vmlinuz, drivers::GUESTS)?;
    parts.extend(linux_module::parts_if_possible(tree, vmlinuz));
    parts.push(text("etc/start.d/20-name", 0o755, GUEST_NAME));
    parts.push(text("etc/start.d/30-disk", 0o755, MOUNT));
    parts.push(text("usr/bin/put-on-line", 0o755, PUT_ON_LINE));
    parts.push(text("etc/start.d/40-devices", 0o755, WATCH_DEVICES));
    parts.push(text("etc/profile", 0o644, GUEST_PROFILE));
    let name = if more.is_empty() {
        "guest"
    } else {
        "guest-more"
    };
    parts.extend(more);
    initrd::build_with(tree, name, &parts)
}

/// A small ext4 file system with a word of welcome, packed; made once.
fn disk(tree: &Tree) -> Result<PathBuf> {
    let packed = tree.out().join("guest-disk.img.gz");
    if packed.is_file() {
        return Ok(packed);
    }
    let staged = tree
        .out()
        .join(format!("guest-disk-{}", std::process::id()));
    let files = staged.join("files");
    std::fs::create_dir_all(&files)
        .with_context(|| format!("{} cannot be made", files.display()))?;
    std::fs::write(
        files.join("README"),
        "What is written here stays while the control domain runs, whatever becomes of the guest.\n",
    )?;
    let image = staged.join("disk.img");
    let mke2fs = shell::which("mke2fs").context("there is no mke2fs: install e2fsprogs")?;
    shell::run(
        Command::new(mke2fs)
            .env("E2FSPROGS_FAKE_TIME", DISK_TIME)
            .args(["-q", "-F", "-t", "ext4", "-L", "guest", "-m", "0"])
            .args(["-U", "6e2f43a2-7c56-4a8e-9a53-5f1d1b9a2c01"])
            .args(["-E", "root_owner=0:0,hash_seed=6e2f43a2-7c56-4a8e-9a53-5f1d1b9a2c01,lazy_itable_init=0,lazy_journal_init=0"])
            .arg("-d")
            .arg(&files)
            .arg(&image)
            .arg(DISK),
    )?;
    shell::run(Command::new("gzip").args(["-9n"]).arg(&image))?;
    shell::write_if_changed(&packed, &std::fs::read(staged.join("disk.img.gz"))?)?;
    std::fs::remove_dir_all(&staged)?;
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_five_lines() {
        let greeting = profile(2);
        let lines = greeting.lines().filter(|line| line.starts_with("echo \""));
        assert_eq!(lines.count(), 5);
    }

    #[test]
    fn a_guest_costs_a_little_more_than_its_memory() {
        let memory: u64 = GUEST_MEMORY.trim_end_matches('M').parse().unwrap();
        assert!(memory < GUEST_COST_MB);
        assert!(description(3).contains("guest3.img"));
    }
}
