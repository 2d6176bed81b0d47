//! `shares`: lets domains run and looks at what CPU time each had, at two moments so many whole periods apart.
//!
//! | words | what it does |
//! |---|---|
//! | `shares pause DOMAIN...` | stops them |
//! | `shares watch PERIOD PERIODS DOMAIN...` | lets them run, looks at each twice, stops them |
//!
//! A period is in ticks of the time-stamp counter. Of a domain that always has something to do and has used up its share, the
//! account stands still until its next period begins. So each domain's own longest rest is looked for first, in a few periods; it is
//! looked at in the middle of such a rest, and again so many periods later to the tick, wherever its periods begin. A line for
//! each: `SHARES DOMAIN TICK NANOSECONDS TICK NANOSECONDS MOVED`, the last 1 if the account did not stand still at a look.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code, unused))]

use guest_abi::Hypercall;
use guest_abi::domctl::{Domctl, DomctlCommand, Getdomaininfo};
use programs::privcmd::Privcmd;
use programs::sys::Errno;
use programs::{Arguments, calls, complain, now, program, say};

program!(run);

/// Domains at most.
const MOST: usize = 8;
/// Periods that pass first: who has just been let run comes to lie on the grid of its periods within eight.
const SETTLE: u64 = 10;
/// Periods in which rests are looked for.
const SOUGHT: u64 = 3;
/// Readings in each of those.
const READINGS: u64 = 100;

/// Why it ends.
enum Failure {
    Words,
    Call(&'static str, Errno),
}

impl From<Errno> for Failure {
    fn from(why: Errno) -> Self {
        Self::Call("sleep", why)
    }
}

fn run(arguments: Arguments) -> i32 {
    match verb(&arguments) {
        Ok(()) => 0,
        Err(Failure::Words) => {
            complain!("usage: shares pause DOMAIN... | shares watch PERIOD PERIODS DOMAIN...");
            1
        }
        Err(Failure::Call(what, why)) => {
            complain!("shares: {what}: {why:?}");
            1
        }
    }
}

fn verb(arguments: &Arguments) -> Result<(), Failure> {
    let device = Privcmd::open().map_err(|why| Failure::Call("open /dev/xen/privcmd", why))?;
    let device = &device;
    match arguments.get(1) {
        Some("pause") => domains(arguments, 2)?.each(|watched| watched.pause(device)),
        Some("watch") => {
            let period = number(arguments, 2)?;
            let periods = number(arguments, 3)?;
            watch(device, period, periods, domains(arguments, 4)?)
        }
        _ => Err(Failure::Words),
    }
}

fn number(arguments: &Arguments, index: usize) -> Result<u64, Failure> {
    let word = arguments.get(index).ok_or(Failure::Words)?;
    let number = word.parse().map_err(|_| Failure::Words)?;
    if number == 0 {
        Err(Failure::Words)
    } else {
        Ok(number)
    }
}

/// Those that are named by the words from `first` on.
fn domains(arguments: &Arguments, first: usize) -> Result<All, Failure> {
    let mut all = All::default();
    let count = arguments.len().saturating_sub(first);
    if count == 0 || count > MOST {
        return Err(Failure::Words);
    }
    all.count = count;
    for (n, watched) in all.domains[..count].iter_mut().enumerate() {
        let domain = number(arguments, first + n)?;
        watched.domain = domain.try_into().map_err(|_| Failure::Words)?;
    }
    Ok(all)
}

/// A domain's account at a moment.
#[derive(Clone, Copy, Default)]
struct Look {
    tick: u64,
    used_ns: u64,
}

/// A domain that is looked at.
#[derive(Clone, Copy, Default)]
struct Watched {
    domain: u16,
    /// The last reading that differed from the one before.
    grew: Look,
    /// The longest rest so far: its beginning, and how long it was.
    rest: (u64, u64),
    first: Look,
    second: Look,
    moved: bool,
}

#[derive(Default)]
struct All {
    domains: [Watched; MOST],
    count: usize,
}

impl All {
    fn each(
        &mut self,
        mut what: impl FnMut(&mut Watched) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.domains[..self.count]
            .iter_mut()
            .try_for_each(&mut what)
    }
}

fn watch(device: &Privcmd, period: u64, periods: u64, mut all: All) -> Result<(), Failure> {
    all.each(|watched| watched.unpause(device))?;
    let begun = now() + SETTLE * period;
    for reading in 0..SOUGHT * READINGS {
        sleep_until(begun + reading * period / READINGS)?;
        all.each(|watched| watched.seek(device))?;
    }
    // The first looks lie in one period, in the order of their places in it; the second ones in the same order.
    let from = now().max(begun + SOUGHT * period) + period / READINGS;
    all.each(|watched| {
        let (rested, long) = watched.rest;
        let phase = (rested + long / 2) % period;
        let beyond = from % period;
        watched.first.tick = from - beyond + phase + if phase < beyond { period } else { 0 };
        Ok(())
    })?;
    let count = all.count;
    all.domains[..count].sort_unstable_by_key(|watched| watched.first.tick);
    let still = period / READINGS;
    all.each(|watched| {
        (watched.first, watched.moved) = watched.look(device, watched.first.tick, still)?;
        Ok(())
    })?;
    all.each(|watched| {
        let tick = watched.first.tick + periods * period;
        let (second, moved) = watched.look(device, tick, still)?;
        watched.second = second;
        watched.moved |= moved;
        Ok(())
    })?;
    // What was done between the two looks is told at the next request after the second.
    sleep_until(now() + 2 * period)?;
    all.each(|watched| watched.pause(device))?;
    all.each(|watched| {
        let Watched {
            domain,
            first,
            second,
            moved,
            ..
        } = *watched;
        say!(
            "SHARES {domain} {} {} {} {} {}",
            first.tick,
            first.used_ns,
            second.tick,
            second.used_ns,
            u8::from(moved)
        );
        Ok(())
    })
}

/// Ticks are nanoseconds there; where they are not it is asked again.
fn sleep_until(tick: u64) -> Result<(), Errno> {
    loop {
        let left = tick.saturating_sub(now());
        if left == 0 {
            return Ok(());
        }
        calls::sleep(left)?;
    }
}

impl Watched {
    fn domctl(&self, device: &Privcmd, command: DomctlCommand) -> Result<Domctl, Errno> {
        let mut call = Domctl::new(command, self.domain);
        let arguments = [&raw mut call as u64, 0, 0, 0, 0];
        // SAFETY: the commands that are asked for here read and write the structure alone, which is ours.
        unsafe { device.call(Hypercall::Domctl.number(), arguments) }?;
        Ok(call)
    }

    fn pause(&mut self, device: &Privcmd) -> Result<(), Failure> {
        let answer = self.domctl(device, DomctlCommand::Pausedomain);
        answer
            .map(|_| ())
            .map_err(|why| Failure::Call("pause", why))
    }

    fn unpause(&mut self, device: &Privcmd) -> Result<(), Failure> {
        let answer = self.domctl(device, DomctlCommand::Unpausedomain);
        answer
            .map(|_| ())
            .map_err(|why| Failure::Call("unpause", why))
    }

    fn read(&self, device: &Privcmd) -> Result<Look, Failure> {
        let answer = self.domctl(device, DomctlCommand::Getdomaininfo);
        let answer = answer.map_err(|why| Failure::Call("what a domain used", why))?;
        Ok(Look {
            tick: now(),
            used_ns: answer.payload::<Getdomaininfo>().cpu_time,
        })
    }

    /// A reading: has the account grown since the last?
    fn seek(&mut self, device: &Privcmd) -> Result<(), Failure> {
        let read = self.read(device)?;
        if read.used_ns != self.grew.used_ns {
            self.grew = read;
        }
        let long = read.tick - self.grew.tick;
        if long > self.rest.1 {
            self.rest = (self.grew.tick, long);
        }
        Ok(())
    }

    /// What it has had at that tick, and whether that moved until `still` ticks later.
    fn look(&self, device: &Privcmd, tick: u64, still: u64) -> Result<(Look, bool), Failure> {
        sleep_until(tick)?;
        let read = self.read(device)?;
        sleep_until(now() + still)?;
        let again = self.read(device)?;
        let look = Look {
            tick,
            used_ns: read.used_ns,
        };
        Ok((look, again.used_ns != read.used_ns))
    }
}
