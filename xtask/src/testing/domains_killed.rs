//! The daemon is killed while guests run, come and go, print, and the store is written.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::testing::guided::Guided;

/// Guests go on, what was acknowledged is there, and nothing is left of guests that came and went meanwhile.
pub fn all(guided: &mut Guided<'_>, rounds: u32) -> Result<String> {
    guided.guest_is_up("guest1")?;
    let before = (guided.done("story ids")?, guided.free()?);
    let loops = guided.done("losetup -a | wc -l")?;
    guided.typed(
        "guest1",
        "i=0; while true; do i=$((i+1)); echo tick $i; usleep 50000; done",
    )?;
    let limit = Duration::from_secs(60 + 8 * u64::from(rounds));
    let said = guided.output_within(&format!("story kill {rounds}"), limit)?;
    ensure!(
        said.ends_with("lost 0") && said.contains(" 0 wrong"),
        "after {rounds} deaths: {said}"
    );
    let count = guided.done("xeno store list /test | wc -l")?;
    ensure!(
        count == rounds.to_string(),
        "of {rounds} values {count} are in the store"
    );
    guided.done("story interrupt guest1")?;
    guided.at_guest("guest1", "echo al''ive", "alive")?;
    let ticks = guided.done("story ticks guest1")?;
    ensure!(ticks == "many ticks, 0 wrong", "guest1 printed {ticks}");
    guided.until(&format!("[ $(losetup -a | wc -l) = {loops} ]"))?;
    let after = (guided.done("story ids")?, guided.free()?);
    ensure!(before == after, "before: {before:?}; after: {after:?}");
    guided.done("! grep panicked /run/xeno/xenod.log")?;
    guided.at_guest(
        "guest1",
        "echo on''disk > /mnt/x; sync; cat /mnt/x",
        "ondisk",
    )?;
    guided.done("xeno shutdown --wait --timeout 120 guest1")?;
    let traffic = said.lines().rev().nth(1).unwrap_or_default();
    Ok(format!("{rounds} deaths; {traffic}"))
}
