//! A front end that asks of its disks what no kernel would: the file that it may only read stays as it is.

use anyhow::{Result, ensure};

use crate::testing::guided::Guided;

/// What it reads, what it writes, and the bytes of either.
const READ: &str = "/tmp/read.img";
const WRITTEN: &str = "/tmp/written.img";
const BYTES: u32 = 1 << 20;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// When the file was last written: long ago, and also afterwards.
const LONG_AGO: &str = "978307200";

/// The guest tries everything on a disk to be read and on one to be written, and only the second is ever written, where
/// and with what the guest said. Another guest's disk works while the rings are broken, and all goes when it is destroyed.
pub fn front_end(guided: &mut Guided<'_>) -> Result<()> {
    guided.guest_is_up("guest1")?;
    let loops = guided.done("losetup -a | wc -l")?;
    guided.done(&format!(
        "head -c {BYTES} /dev/zero | tr '\\0' R > {READ}; truncate -s {BYTES} {WRITTEN}; touch -d @{LONG_AGO} {READ}"
    ))?;
    // What the back end complains of would come between what is asked here and answered.
    guided.done("dmesg -n 1")?;
    let before = unwritten(guided)?;
    guided.done(&format!(
        "xeno create --name hostile --kernel /boot/hostile_disk --memory 16M --disk {READ},ro --disk {WRITTEN} \
         --on-poweroff preserve --on-crash preserve"
    ))?;
    guided.until("xeno console hostile --past | grep -qE 'everything was tried|GUEST FAIL'")?;
    let said = guided.done("xeno console hostile --past")?;
    ensure!(
        said.contains("everything was tried: 0 wrong"),
        "not all went as it should: {said}"
    );
    guided.at_guest(
        "guest1",
        "echo x > /mnt/x && sync && echo un''harmed",
        "unharmed",
    )?;
    ensure!(
        unwritten(guided)? == before,
        "the file of a disk that may only be read was written"
    );
    written(guided, &said)?;
    guided.done("xeno destroy hostile")?;
    guided.until("[ $(xeno list | wc -l) = 3 ]")?;
    guided.until(&format!("[ $(losetup -a | wc -l) = {loops} ]"))?;
    guided
        .done(&format!("dmesg -n 7; rm {READ} {WRITTEN}"))
        .map(|_| ())
}

/// What the file to be read has in it, and when it was last written: long ago.
fn unwritten(guided: &mut Guided<'_>) -> Result<String> {
    let said = guided.done(&format!("stat -c %Y {READ}; sha256sum {READ}"))?;
    ensure!(
        said.starts_with(LONG_AGO),
        "the file was last written at {said}"
    );
    Ok(said)
}

/// The other file has in it what the guest says that it wrote, and as much.
fn written(guided: &mut Guided<'_>, said: &str) -> Result<()> {
    let sectors: u64 = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("sectors written: "))
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    ensure!(sectors > 0, "the guest wrote nothing: {said}");
    for (what, command) in [
        ("letters", format!("tr -d '\\0' < {WRITTEN} | wc -c")),
        (
            "letters that are the guest's",
            format!("tr -cd W < {WRITTEN} | wc -c"),
        ),
    ] {
        let count = guided.done(&command)?;
        ensure!(
            count.trim() == (sectors * SECTOR).to_string(),
            "of {sectors} sectors that were written there are {count} {what} in the file"
        );
    }
    Ok(())
}
