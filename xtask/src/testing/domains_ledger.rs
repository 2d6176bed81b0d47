//! The usage record of a control domain with guests: whole while the daemon is killed, and each thing that is done to it is
//! found and named.

use anyhow::{Result, ensure};
use regex_lite::Regex;

use crate::testing::guided::Guided;

/// Where it is.
const DIR: &str = "/var/lib/xeno/ledger";

/// Kept, killed, tampered with, shortened, rolled back; and a guest's last entry.
pub fn all(guided: &mut Guided<'_>) -> Result<String> {
    guided.guest_is_up("guest1")?;
    // Often, so that nobody waits. The daemon that was there is killed.
    guided.done("echo --interval 1 > /run/xeno/options; story again")?;
    guided.until("[ $(xeno ledger show --domain guest1 --json | wc -l) -ge 4 ]")?;
    guided.done(&format!("cp -a {DIR} /tmp/older"))?;
    let note = told(&guided.done("story amid 6")?)?;
    is_whole(guided)?;
    attacks(guided)?;
    shown(guided)?;
    last_entry(guided)?;
    pruned(guided)?;
    rolled_back(guided)?;
    guided.done("! grep panicked /run/xeno/xenod.log")?;
    Ok(note)
}

/// What the story says of how often the daemon died amid how many guests, whatever the kernel writes to the console meanwhile;
/// all of it where that is in the middle of this.
fn told(said: &str) -> Result<String> {
    let told = Regex::new(r"\d+ deaths amid \d+ guests")?.find(said);
    Ok(told.map_or(said, |told| told.as_str()).to_owned())
}

fn is_whole(guided: &mut Guided<'_>) -> Result<()> {
    let said = guided.done("xeno ledger verify")?;
    for part in ["the usage record is whole", "ring 0 vouches for it"] {
        ensure!(said.contains(part), "`xeno ledger verify` says {said}");
    }
    Ok(())
}

/// Each on a copy of its own, held against what ring 0 remembers.
fn attacks(guided: &mut Guided<'_>) -> Result<()> {
    let copied = guided.output("story tamper true")?;
    ensure!(
        copied.contains("is whole") && copied.ends_with("code 0"),
        "of a copy `xeno ledger verify` says {copied}"
    );
    for (done, told) in [
        // Entry 5 says another number.
        (
            "sed -i '5s/\"t\":1/\"t\":2/' 000000000001.ledger",
            "altered: entry 5 (000000000001.ledger, line 5): its signature is not by this key",
        ),
        ("sed -i 5d 000000000001.ledger", "missing: entry 5"),
        (
            "sed -i '2,4d' 000000000001.ledger",
            "missing: entries 2 to 4",
        ),
        // The tail is gone, more of it than ring 0 may not have been told of yet; all is; an older copy is there.
        ("sed -i \"$((lines-11)),\\$d\" $file", "cut: entries"),
        (
            "truncate -s $(($(stat -c %s $file) - 12000)) $file",
            "cut: entries",
        ),
        ("rm *", "cut: entries 1 to"),
        ("rm *; cp /tmp/older/* .", "cut: entries"),
    ] {
        let said = guided.output(&format!("story tamper '{}'", done.replace('\'', "'\\''")))?;
        ensure!(
            said.contains(told) && said.contains("NOT WHOLE") && said.ends_with("code 11"),
            "after `{done}` `xeno ledger verify` says {said}"
        );
    }
    // What was not touched is as it was.
    is_whole(guided)
}

fn shown(guided: &mut Guided<'_>) -> Result<()> {
    let usage = guided.done("xeno usage")?;
    for part in ["Domain-0", "guest1", "GUARANTEED", "the hypervisor's own"] {
        ensure!(
            usage.contains(part),
            "`xeno usage` does not say {part}: {usage}"
        );
    }
    let usage = guided.done(
        "xeno usage guest1; xeno usage --json guest1; xeno top --usage --batch --count 1 | cat",
    )?;
    for part in [
        "hypervisor, fault",
        "VCPU",
        "\"frame_cycles\"",
        "\"vcpu\": 0",
        "MEM*TIME",
        "EV/s",
    ] {
        ensure!(
            usage.contains(part),
            "`xeno usage guest1` does not say {part}: {usage}"
        );
    }
    Ok(())
}

/// What a guest used is recorded when it is gone.
fn last_entry(guided: &mut Guided<'_>) -> Result<()> {
    guided.done("xeno destroy guest1")?;
    let last = guided.done("xeno ledger show --domain guest1 --last 1")?;
    ensure!(
        last.contains(" last "),
        "the last entry of guest1 is {last}"
    );
    is_whole(guided)
}

/// A daemon that keeps little removes what is old, and more of it when it is asked: that is said, and what somebody else
/// removed besides is missing.
fn pruned(guided: &mut Guided<'_>) -> Result<()> {
    guided.done("echo --interval 1 --keep 64K > /run/xeno/options; story again")?;
    guided.until(&format!("[ ! -e {DIR}/000000000001.ledger ]"))?;
    is_removed(guided, "as the record was longer than is kept")?;
    let two_files = format!("[ $(ls {DIR} | wc -l) -ge 2 ]");
    guided.until(&two_files)?;
    let said = guided.done("xeno ledger prune --keep 0K")?;
    ensure!(
        said.contains("it is removed"),
        "`xeno ledger prune` says {said}"
    );
    is_removed(guided, "as somebody asked")?;
    guided.until(&two_files)?;
    let said = guided.output("story tamper 'rm $(ls | head -n 1)'")?;
    ensure!(
        said.contains("missing: entries") && said.ends_with("code 11"),
        "after more of it was removed `xeno ledger verify` says {said}"
    );
    is_whole(guided)
}

/// It is whole, and begins behind what it says was removed.
fn is_removed(guided: &mut Guided<'_>, why: &str) -> Result<()> {
    is_whole(guided)?;
    let said = guided.done("xeno ledger verify")?;
    let told = format!("it was removed on purpose, {why}");
    ensure!(
        said.contains(&told),
        "after some of it was removed `xeno ledger verify` says {said}"
    );
    Ok(())
}

/// An older copy in the place of all of it, and the daemon killed: the next one says what is lost, and goes on.
fn rolled_back(guided: &mut Guided<'_>) -> Result<()> {
    guided.done(&format!(
        "story frozen 'rm -r {DIR}; cp -a /tmp/older {DIR}'"
    ))?;
    guided.done("grep 'the usage record has lost entries' /run/xeno/xenod.log")?;
    let said = guided.output("xeno ledger verify; echo code $?")?;
    ensure!(
        said.contains("missing: entries")
            && said.contains("the daemon found out")
            && said.ends_with("code 11"),
        "after an older copy was put in its place `xeno ledger verify` says {said}"
    );
    ensure!(
        said.contains("ring 0 vouches for it"),
        "the record does not go on: {said}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_what_the_story_says_and_not_the_kernel() {
        let loops = "[   41.094215] loop1: detected capacity change from 0 to 16384";
        for said in [
            format!("{loops}\r\n6 deaths amid 11 guests"),
            format!("6 deaths amid 11 guests\r\n{loops}"),
            format!("{loops}\r\n6 deaths amid 11 guests{loops}"),
        ] {
            assert_eq!(told(&said).unwrap(), "6 deaths amid 11 guests");
        }
        assert_eq!(told(loops).unwrap(), loops);
    }
}
