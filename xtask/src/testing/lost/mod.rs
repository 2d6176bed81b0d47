//! The whole machine is lost while a guest writes: what the guest was told is on its disk is on its disk.
//!
//! The emulator is killed at a moment that nothing in it knows of. What it had given to the host would still be there, more than
//! a real disk promises: so the disks' contents are made anew from what they held at the start and from the log of all that they were
//! told, up to a flush and with any part of what came after it. At each such moment the file systems have to be whole,
//! and whoever is on the disk at all must have come after everything that was synced before it.

mod disks;
mod log;
mod record;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::testing::Context;
use crate::testing::domains;
use crate::testing::guided::Guided;
use crate::testing::lost::disks::{After, Disks, IMAGE};
use crate::testing::lost::log::Log;
use crate::testing::lost::record::Noted;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::Session;

/// The lines in a kept file.
const LINES: u32 = 1500;

/// For the guest to sync as much as is waited for.
const SYNCS_LIMIT: Duration = Duration::from_secs(300);

/// Between the last that counts and the end: a busy host may be late with noting in the log what the guest has been told of.
const NOTED: Duration = Duration::from_millis(500);

/// How a machine is lost.
#[derive(Clone, Copy)]
struct Row {
    tier: Tier,
    isolate: &'static str,
    /// How often, each time with what was left of it.
    rounds: u32,
    /// What the guest has to have synced each time.
    syncs: u32,
    /// At how many moments the disks are looked at.
    moments: usize,
}

const ROWS: &[Row] = &[
    Row {
        tier: Tier::Normal,
        isolate: "yes",
        rounds: 1,
        syncs: 12,
        moments: 6,
    },
    Row {
        tier: Tier::Full,
        isolate: "no",
        rounds: 3,
        syncs: 24,
        moments: 12,
    },
];

/// One case for each row.
pub fn cases() -> Vec<Case> {
    let case = |row: &'static Row| Case {
        name: row.name(),
        tier: row.tier,
        stage: Stage::Machine,
        needs: Needs::Guested,
        run: Box::new(move |context| row.judge(context)),
    };
    ROWS.iter().map(case).collect()
}

impl Row {
    fn name(&self) -> String {
        let times = match self.rounds {
            1 => String::new(),
            more => format!(" {more} times"),
        };
        format!(
            "the machine is lost while a guest writes{times} isolate={}",
            self.isolate
        )
    }

    fn judge(&self, context: &Context) -> Outcome {
        let mut session = None;
        match self.play(context, &mut session) {
            Ok(note) => Outcome::passed(note),
            Err(error) => {
                let report = session.map_or_else(
                    || "no machine was started".to_owned(),
                    |session| session.report(&context.tree),
                );
                Outcome::failed(format!("{error:#}"), report)
            }
        }
    }

    fn play(&self, context: &Context, slot: &mut Option<Session>) -> Result<String> {
        let dir = format!("disks/lost-{}", self.rounds);
        let disks = Disks::make(context.tree.out().join(dir))?;
        let (mut synced, mut notes) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let machine = domains::machine_with(context, self.isolate, 0, disks.list()?)?;
            let name = format!("{} {round}", self.name());
            drop(slot.take());
            let session = slot.insert(Session::start(&context.tree, &machine, &name)?);
            let (told, noted) = self.until_lost(session, &synced)?;
            synced.push(told);
            let seconds = session.seconds();
            let looked = self.look(&disks, &synced, &noted)?;
            notes.push(format!("lost after {seconds:.0} s, {looked}"));
        }
        disks.remove();
        Ok(notes.join("; "))
    }

    /// Runs a machine until it is lost: how much the guest had synced for certain, and how long the usage record was.
    fn until_lost(&self, session: &mut Session, earlier: &[u32]) -> Result<(u32, Noted)> {
        let mut guided = Guided::at_prompt(session, None)?;
        // What the kernel says would come between what the guest does.
        guided.done("dmesg -n 1; mkdir /disk; mount -t ext4 /dev/vdb /disk")?;
        guided.done(&format!(
            "story guest keeper --disk /dev/vda --disk /disk/{IMAGE}"
        ))?;
        guided.guest_is_up("keeper")?;
        guided.typed("keeper", "mkdir /within; mount -t ext4 /dev/xvdb /within")?;
        for (round, count) in earlier.iter().enumerate() {
            guided.at_guest(
                "keeper",
                &format!(
                    "w=0; for i in $(seq {count}); do for d in /mnt /within; do seq $i $((i+{LINES})) | \
                     cmp -s - $d/kept{round}-$i || w=$((w+1)); done; done; echo loo''ked {round} $w wrong"
                ),
                &format!("looked {round} 0 wrong"),
            )?;
        }
        let round = earlier.len();
        // The control domain's usage record is on its disk, too.
        guided.done(&format!("story ledger /disk/{}", record::dir(round)))?;
        // What nobody waits for, so that there is always something under way; and what is waited for.
        let noise = "while true; do for d in /mnt /within; do dd if=/dev/urandom of=$d/new bs=7k count=9; \
                     mv $d/new $d/busy; mkdir $d/dir; rmdir $d/dir; done; done > /dev/null 2>&1 &";
        let keep = format!(
            "keep() {{ seq $1 $(($1+{LINES})) | dd of=$2/kept{round}-$1 bs=4k conv=fsync 2> /dev/null; }}"
        );
        let count = "i=0; while true; do i=$((i+1)); keep $i /mnt && keep $i /within && echo sync''ed $i; done";
        guided.typed("keeper", &format!("{noise} {keep}; {count}"))?;
        let noted = Noted::ask(&mut guided, round)?;
        drop(guided);
        session.send("xeno console keeper\n")?;
        while self.syncs > told_synced(&session.text()) {
            session.expect(r"(?m)^synced \d+\n", SYNCS_LIMIT)?;
        }
        let told = told_synced(&session.text());
        // It goes on writing meanwhile.
        std::thread::sleep(NOTED);
        session.lose_power()?;
        Ok((told, noted))
    }

    /// Looks at what may be on the disks, at many moments and at the last, and leaves the last for the next machine.
    fn look(&self, disks: &Disks, synced: &[u32], noted: &Noted) -> Result<String> {
        let (before, [direct, within]) = disks.told()?;
        let direct = self.moments_of(before.direct, &direct, |image, all| {
            kept(&disks.files_of(image)?, synced, all)
        });
        let (direct, first) = direct.context("a disk of the machine's")?;
        let within = self.moments_of(before.within, &within, |image, all| {
            let inner = disks.within(image)?;
            noted.is_kept(disks, all)?;
            kept(&disks.files_of(&inner)?, synced, all)
        });
        let (within, second) = within.context("a file of the control domain's")?;
        disks.go_on_with(&After { direct, within })?;
        let count = synced.last().copied().unwrap_or(0);
        Ok(format!("{count} synced; {first}; {second}"))
    }

    /// Has `look` see what may be on a disk at moments of its life; it is told whether everything has to be there, and says
    /// how much is. The last of them, and how many there were.
    fn moments_of(
        &self,
        mut image: Vec<u8>,
        log: &Log,
        look: impl Fn(&[u8], All) -> Result<u32>,
    ) -> Result<(Vec<u8>, String)> {
        let flushes = log.flushes();
        let last = flushes
            .len()
            .checked_sub(1)
            .context("nothing was flushed")?;
        let step = flushes.len().div_ceil(self.moments);
        let (mut done, mut looked, mut most) = (0, 0, 0);
        for (number, flush) in flushes.iter().enumerate() {
            log.replay(&mut image, done..*flush)?;
            done = *flush;
            if number % step != 0 && number != last {
                continue;
            }
            let all = if number == last {
                All::Synced
            } else {
                All::Any
            };
            for chance in [Chance::None, Chance::Some(number as u64)] {
                let mut there = image.clone();
                chance.apply(log, &mut there, flush + 1)?;
                let found = look(&there, all).with_context(|| {
                    format!(
                        "after flush {} of {}, with {chance:?} of the {} writes that followed",
                        number + 1,
                        flushes.len(),
                        log.writes_from(flush + 1)
                    )
                })?;
                ensure!(
                    found >= most,
                    "after flush {} of {} {found} files are there, where {most} were before",
                    number + 1,
                    flushes.len()
                );
                looked += 1;
                if matches!(chance, Chance::None) {
                    most = found;
                } else if number == last {
                    image = there;
                }
            }
        }
        Ok((image, format!("{} flushes, {looked} looks", flushes.len())))
    }
}

/// How much the guest has said that it synced, in whole lines.
fn told_synced(console: &str) -> u32 {
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let counts = whole
        .lines()
        .filter_map(|line| line.strip_prefix("synced ")?.parse().ok());
    counts.max().unwrap_or(0)
}

/// What has to be on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum All {
    /// Everything that was said to be synced.
    Synced,
    /// It was not synced at that time, or not yet.
    Any,
}

/// What a disk kept of what it was not made to keep.
#[derive(Clone, Copy, Debug)]
enum Chance {
    /// Nothing.
    None,
    /// Some, chosen by this number.
    Some(u64),
}

impl Chance {
    fn apply(self, log: &Log, image: &mut [u8], first: usize) -> Result<()> {
        let Self::Some(seed) = self else {
            return Ok(());
        };
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        log.replay_some(image, first, || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state >> 63 == 1
        })
    }
}

/// How many files of the last round are whole. Those of earlier rounds have to be, and so have all that were synced before
/// one that is there.
fn kept(files: &Path, synced: &[u32], all: All) -> Result<u32> {
    let (last, earlier) = synced.split_last().context("there was no round")?;
    for (round, count) in earlier.iter().enumerate() {
        let whole = whole(files, round)?;
        ensure!(
            whole >= *count,
            "of {count} files of an earlier machine the first {whole} are whole"
        );
    }
    let round = earlier.len();
    let whole = whole(files, round)?;
    let there = there(files, round)?;
    // The last one may be under way.
    ensure!(
        there <= whole + 1,
        "file {there} is there, where only the first {whole} are whole"
    );
    ensure!(
        all == All::Any || whole >= *last,
        "the guest was told that {last} files are synced, and the first {whole} are whole"
    );
    Ok(whole)
}

/// How many files of a round are whole, from the first on.
fn whole(files: &Path, round: usize) -> Result<u32> {
    let mut count = 0;
    loop {
        let next = count + 1;
        let file = files.join(format!("kept{round}-{next}"));
        let wanted: String = (next..=next + LINES)
            .map(|line| format!("{line}\n"))
            .collect();
        match std::fs::read(&file) {
            Ok(bytes) if bytes == wanted.as_bytes() => count = next,
            Ok(_) => return Ok(count),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(count),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", file.display()));
            }
        }
    }
}

/// The number of a round's last file, whole or not.
fn there(files: &Path, round: usize) -> Result<u32> {
    let mut last = 0;
    for entry in std::fs::read_dir(files)? {
        let name = entry?.file_name();
        let prefix = format!("kept{round}-");
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_cut_off_says_nothing() {
        assert_eq!(told_synced("synced 9\nsynced 10\nsynced 1"), 10);
        assert_eq!(told_synced("x synced 9\nsynced 9x\n"), 0);
    }
}
