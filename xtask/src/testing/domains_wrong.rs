//! What people get wrong when they describe a guest: each is refused in one clear sentence, and nothing is left behind.

use anyhow::{Result, ensure};

use crate::testing::guided::Guided;

/// A command, its exit code, and what it has to say.
struct Wrong {
    command: &'static str,
    code: u8,
    told: &'static str,
}

const fn wrong(command: &'static str, code: u8, told: &'static str) -> Wrong {
    Wrong {
        command,
        code,
        told,
    }
}

/// More vCPUs than there is time for.
const MANY: &str = "xeno create --name a $K --vcpus 64 --cpu slice=10ms,period=20ms";

/// `$K` is a good kernel and memory, `$D` the running guest's disk.
const WRONG: &[Wrong] = &[
    wrong(
        "xeno create --name a --kernel /missing --memory 96M",
        4,
        "/missing",
    ),
    wrong("xeno create --name a --kernel /etc --memory 96M", 4, "/etc"),
    wrong(
        "xeno create --name a --kernel /etc/profile --memory 96M",
        4,
        "/etc/profile",
    ),
    wrong("xeno create --name a $K --initrd /missing", 4, "/missing"),
    wrong("xeno create --name a $K --initrd /etc", 4, "/etc"),
    wrong("xeno create --name a $K --disk /missing", 4, "/missing"),
    wrong("xeno create --name a $K --disk /etc", 4, "/etc"),
    wrong("xeno create --name a $K --disk $D", 5, "guest1"),
    wrong("xeno create --name a $K --disk $D,ro", 5, "guest1"),
    wrong("xeno create --name a $K --disk $D.hard", 5, "guest1"),
    wrong("xeno create --name a $K --disk /tmp/soft.img", 5, "guest1"),
    wrong(
        "xeno create --name a $K --disk /dev/loop0,ro",
        5,
        "/dev/loop0",
    ),
    wrong("xeno create --name a $K --disk /dev/null", 4, "/dev/null"),
    wrong(
        "xeno create --name a $K --disk /dev/loop5",
        4,
        "nothing behind it",
    ),
    wrong(
        "xeno create --name a $K --disk /dev/loop7",
        4,
        "cannot be written",
    ),
    wrong("xeno create --name a $K --disk /tmp/held", 5, "/dev/loop7"),
    wrong("xeno create --name a $K --disk /tmp/qcow2", 4, "qcow2"),
    wrong("xeno create --name a $K --disk /tmp/vmdk", 4, "vmdk"),
    wrong("xeno create --name a $K --disk /tmp/vpc", 4, "vpc"),
    wrong("xeno create --name a $K --disk /tmp/vdi", 4, "vdi"),
    wrong("xeno create --name guest1 $K", 5, "guest1"),
    wrong(
        "xeno create --name a --kernel /boot/vmlinuz --memory 64G",
        6,
        "free",
    ),
    wrong(
        "xeno create --name a --kernel /boot/vmlinuz --memory 4M",
        4,
        "memory",
    ),
    wrong("xeno create --name a $K --vcpus 65", 4, "1 to 64"),
    wrong(
        "xeno create /tmp/unknown.toml",
        4,
        "/tmp/unknown.toml:3: colour: no such key",
    ),
    wrong("xeno create /tmp/notoml.toml", 4, "/tmp/notoml.toml:1:"),
    wrong("xeno create /tmp", 4, "directory"),
    wrong(
        "xeno create --name a --kernel /boot/crash --memory 96M",
        9,
        "a",
    ),
    wrong("xeno pause nobody", 3, "nobody"),
    wrong("xeno destroy 30000", 3, "30000"),
    wrong("xeno console nobody", 3, "nobody"),
    wrong("xeno info nobody", 3, "nobody"),
    wrong("xeno store read /nowhere", 3, "/nowhere"),
    wrong("xeno set guest1 vcpus=2", 5, "1 vCPU"),
    wrong("xeno sched set nobody slice=1ms period=20ms", 3, "nobody"),
    wrong(
        "xeno sched set 0 slice=1ms period=20ms",
        5,
        "this is for guests only",
    ),
    wrong(
        "xeno sched set guest1 slice=30ms period=20ms",
        2,
        "slice: 30ms is longer than its period, 20ms",
    ),
    wrong(
        "xeno sched set guest1 slice=0ms period=20ms",
        2,
        "slice: it would never run",
    ),
    wrong(
        "xeno sched set guest1 slice=5ms period=2s",
        2,
        "period: 2s is out of range",
    ),
    wrong(
        "xeno sched set guest1 slice=99999999999s period=20ms",
        2,
        "slice: \"99999999999s\" is not a length of time",
    ),
    wrong(
        "xeno sched set guest1 quanta=4294967296 period=10",
        2,
        "quanta: \"4294967296\" is not a number",
    ),
    wrong(
        "xeno sched set guest1 quanta=4294967295 period=4294967295",
        4,
        "to 1s; a quantum is 10ms",
    ),
    wrong(
        "xeno sched set guest1 slice=20us period=100us",
        4,
        "choose one from 200us to 1s",
    ),
    wrong(
        "xeno sched set guest1 slice=19us period=20ms",
        4,
        "choose 20us or more",
    ),
    wrong(
        "xeno sched set guest1 slice=20ms period=20ms",
        6,
        "can be had",
    ),
    wrong(MANY, 6, "no processor has so much left"),
    wrong(
        "xeno sched rules --quantum 1us",
        4,
        "1us is no quantum for this machine: choose one from 20us to 1s",
    ),
];

/// Tries them all; the guest that runs meanwhile does not mind.
pub fn all(guided: &mut Guided<'_>) -> Result<String> {
    guided.guest_is_up("guest1")?;
    guided.done("K='--kernel /boot/vmlinuz --memory 96M'; D=/var/lib/guests/guest1.img")?;
    guided.done("printf 'QFI\\373\\0\\0\\0\\003' > /tmp/qcow2; printf 'KDMV\\001' > /tmp/vmdk; printf conectix > /tmp/vpc")?;
    guided.done(
        "dd if=/dev/zero bs=64 count=1 of=/tmp/vdi; printf '\\177\\020\\332\\276' >> /tmp/vdi",
    )?;
    guided.done("truncate -s 64k /tmp/qcow2 /tmp/vmdk /tmp/vpc /tmp/vdi /tmp/held")?;
    guided.done("ln $D $D.hard && ln -s $D /tmp/soft.img && losetup -r /dev/loop7 /tmp/held")?;
    guided.done("printf 'name=\"a\"\\nmemory=\"96M\"\\ncolour=\"red\"\\n' > /tmp/unknown.toml")?;
    guided.done("echo 'name =' > /tmp/notoml.toml")?;
    // Tables of the hypervisor's grow with the most vCPUs that there ever were, and stay.
    guided.output(MANY)?;
    let free = guided.free()?;
    let reserved = "xeno sched show guest1; xeno sched rules";
    let before = guided.done(reserved)?;
    let mut failures = Vec::new();
    for Wrong {
        command,
        code,
        told,
    } in WRONG
    {
        let said = guided.output(&format!("{command}; echo code=$?"))?;
        let (sentence, status) = said.rsplit_once("code=").unwrap_or((&said, ""));
        let sentences = sentence
            .lines()
            .filter(|line| line.starts_with("xeno: "))
            .count();
        if status != code.to_string() || !sentence.contains(told) || sentences != 1 {
            failures.push(format!(
                "`{command}` gives {status}, not {code} with {told:?}: {}",
                sentence.trim()
            ));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    let after = guided.done(reserved)?;
    ensure!(before == after, "of {before} there is {after}");
    guided.until("[ $(xeno list | wc -l) = 3 ]")?;
    let after = guided.free()?;
    ensure!(free == after, "of {free} free bytes {after} are left");
    guided.at_guest("guest1", "echo al''ive", "alive")?;
    guided.done("losetup -d /dev/loop7")?;
    // The running guest's own disk.
    let loops = guided.output("losetup -a")?;
    ensure!(
        loops.lines().count() == 1,
        "there is not one loop device: {loops}"
    );
    Ok(format!("{} wrong commands", WRONG.len()))
}
