//! Guests' disks: what was synced outlives everything, and what befalls one guest's disk befalls no other guest.

use anyhow::{Context as _, Result, ensure};

use crate::testing::guided::Guided;

/// What a guest writes to the machine's own disk, and the host finds in the file behind it.
const MARK: &str = "written through";

/// What ring 0 keeps of what the control domain maps grows with the most it ever had mapped, and stays: a frame for 256
/// mappings, of which the back end of each of the three disks may have 1056.
const MAPPINGS_BYTES: u64 = (3 * 1056 / 256 + 1) * 4096;

/// What was synced is there after the guest was destroyed in the middle of writing, and the file system is whole.
pub fn outlive(guided: &mut Guided<'_>, rounds: u32) -> Result<String> {
    for round in 0..rounds {
        guided.guest_is_up("guest1")?;
        guided.at_guest(
            "guest1",
            &format!("echo kept{round} > /mnt/file{round}; sync; echo syn''ced{round}"),
            &format!("synced{round}"),
        )?;
        guided.typed(
            "guest1",
            "while true; do dd if=/dev/zero of=/mnt/busy bs=64k count=20 conv=fsync; done",
        )?;
        guided.done("xeno destroy guest1")?;
        guided.alone()?;
        // The journal is replayed, and then nothing is wrong.
        guided.done("story fsck")?;
        guided.done("xeno create /etc/xeno/guest1.toml")?;
        guided.guest_is_up("guest1")?;
        for old in 0..=round {
            guided.at_guest(
                "guest1",
                &format!("cat /mnt/file{old}"),
                &format!("kept{old}"),
            )?;
        }
    }
    guided.done("xeno destroy guest1")?;
    guided.alone()?;
    shared(guided)?;
    Ok(String::new())
}

/// Two read one disk, neither can write it, and it stays as it is.
fn shared(guided: &mut Guided<'_>) -> Result<()> {
    const DISK: &str = "/var/lib/guests/guest1.img,ro";
    const READERS: [&str; 2] = ["reader", "second"];
    let before = guided.done("story disk")?;
    let sum = before.split_whitespace().next().unwrap_or_default();
    for name in READERS {
        guided.done(&format!("story guest {name} --disk {DISK}"))?;
    }
    for name in READERS {
        guided.guest_is_up(name)?;
        guided.at_guest(name, "echo x > /dev/xvda || echo can''not", "cannot")?;
        // Its journal is to be replayed, so it cannot be mounted: all of it is read instead.
        guided.at_guest(name, "sha256sum /dev/xvda", &format!("{sum}  /dev/xvda"))?;
    }
    let refused = guided.output("story guest writer --disk /var/lib/guests/guest1.img")?;
    ensure!(
        refused.contains("is read by"),
        "a disk that others read: {refused}"
    );
    for name in READERS {
        guided.done(&format!("xeno destroy {name}"))?;
    }
    let after = guided.done("story disk")?;
    ensure!(before == after, "a disk that may only be read was written");
    Ok(())
}

/// A guest whose disks are a block device, a file on a full file system, and a removed file; two of its back ends are
/// taken away while it writes. Nobody else minds, and everything is given back.
pub fn fail(guided: &mut Guided<'_>) -> Result<String> {
    guided.guest_is_up("guest1")?;
    guided.done("mkdir /small; mount -t tmpfs -o size=2M small /small")?;
    guided.done("truncate -s 8M /small/full.img /tmp/gone.img")?;
    guided.done("mke2fs /dev/vda > /dev/null; mkdir /mounted; mount -r /dev/vda /mounted")?;
    let refused = guided.output("story guest victim --disk /dev/vda")?;
    ensure!(
        refused.contains("unmount it first"),
        "a mounted disk: {refused}"
    );
    guided.done("umount /mounted")?;
    let loops = guided.done("losetup -a | wc -l")?;
    let free = guided.free()?;
    guided.done(
        "story guest victim --disk /dev/vda --disk /small/full.img --disk /tmp/gone.img; rm /tmp/gone.img",
    )?;
    guided.guest_is_up("victim")?;
    for disk in ["/dev/vda", "/dev/vda,ro", "/small/full.img"] {
        let said = guided.output(&format!("story guest other --disk {disk}"))?;
        ensure!(said.contains("is written by victim"), "{disk}: {said}");
    }
    synced(guided)?;
    guided.at_guest(
        "victim",
        "dd if=/dev/zero of=/dev/xvdb bs=64k count=128 conv=fsync 2> /dev/null; echo fu''ll $?",
        "full 1",
    )?;
    unharmed(guided, 0)?;
    guided.at_guest(
        "victim",
        "dd if=/dev/xvdc of=/dev/null bs=64k && echo re''ad",
        "read",
    )?;
    for disk in ["xvda", "xvdb"] {
        guided.typed(
            "victim",
            &format!("while true; do dd if=/dev/zero of=/dev/{disk} bs=64k count=16 conv=fsync; done > /dev/null 2>&1 &"),
        )?;
    }
    guided.done("story unbind victim 51712")?;
    guided.done("story unback victim 51728")?;
    unharmed(guided, 1)?;
    guided.done("xeno destroy victim")?;
    guided.until("[ $(xeno list | wc -l) = 3 ]")?;
    guided.until(&format!("[ $(losetup -a | wc -l) = {loops} ]"))?;
    let after = guided.free()?;
    ensure!(
        free.saturating_sub(after) <= MAPPINGS_BYTES,
        "of {free} free bytes {after} are left"
    );
    // The device is as good as before for the next one.
    guided.done("story guest heir --disk /dev/vda; xeno destroy heir; umount /small")?;
    unharmed(guided, 2)?;
    Ok(String::new())
}

/// What the guest synced was flushed to the machine's disk, and is in the file behind it.
fn synced(guided: &mut Guided<'_>) -> Result<()> {
    let flushes = |guided: &mut Guided<'_>| -> Result<u64> {
        let said = guided.done("story flushes vda")?;
        said.parse()
            .with_context(|| format!("the flushes of vda are {said:?}"))
    };
    let before = flushes(guided)?;
    guided.at_guest(
        "victim",
        &format!("echo {MARK} | dd of=/dev/xvda conv=fsync && echo syn''ced"),
        "synced",
    )?;
    let file = guided.disk().context("the machine has no disk")?;
    let contents = std::fs::read(file)?;
    ensure!(
        contents.starts_with(MARK.as_bytes()),
        "what the guest synced is not on the machine's disk"
    );
    let after = flushes(guided)?;
    ensure!(
        after > before,
        "the guest synced, and nothing was flushed: {before} flushes, then {after}"
    );
    Ok(())
}

/// The other guest's disk works.
fn unharmed(guided: &mut Guided<'_>, time: u32) -> Result<()> {
    guided.at_guest(
        "guest1",
        &format!("date > /mnt/x && sync && echo un''harmed {time}"),
        &format!("unharmed {time}"),
    )
}
