//! Many domains: built, given their shares, let run together, and looked at twice.
//!
//! A domain is looked at where the plan says, a little before one of its own periods ends: with shares that leave time over it
//! has used up what it has for the period by then, so that between two looks there are whole periods. Where periods begin is
//! told; who has just been let run is off that, and comes to lie there within eight periods. On Xen, and of those who take what
//! is left, all are looked at together.

use guest_runtime::abi::DOMID_SELF;
use guest_runtime::abi::usage::{BOOKS_OF_MACHINE, Books, USAGE_OF_DOMAIN};
use guest_runtime::builder::{self, Kept, Plan};
use guest_runtime::hypercall;
use guest_runtime::instructions::rdtsc;
use guest_runtime::{check, check_eq, child, control, events};
use guests::accounts::{books_of, usage_of, used};

use crate::deeds;
use crate::load::{self, Kind, Share};
use crate::terms::{self, Keeper};

/// Domains at most.
pub const MOST: usize = 130;
/// How long it is waited before all are let run: whoever does that has its own share unused then.
const REST_NS: u64 = 100_000_000;

/// When to look.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Nanoseconds of a period of all.
    pub period: u64,
    /// Periods before the first look, at least.
    pub settle: u64,
    /// Periods between the two.
    pub periods: u64,
    /// How long before a period's end.
    pub before: u64,
}

/// What a domain had at a look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Had {
    /// Nanoseconds of CPU time that it was charged.
    pub used_ns: u64,
    /// Instructions, or ticks, that it counted itself.
    pub own: u64,
    /// Of its kind.
    pub deeds: u64,
    /// Missed deadlines.
    pub missed: u64,
    /// Turns of others.
    pub gaps: u64,
    /// Times that it was given a CPU; ours alone tells.
    pub switches: u64,
}

/// A domain among many.
pub struct Member {
    kept: Kept,
    /// What it does.
    pub kind: Kind,
    /// What it was given.
    pub share: Share,
    /// When it is looked at first.
    first_at: u64,
    first: Had,
    /// What it had between the two looks.
    pub had: Had,
}

/// What became of the machine's time between the two looks, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// All of it.
    pub elapsed: u64,
    /// Nobody ran; ours alone tells this and what follows.
    pub idle: u64,
    /// The hypervisor's own.
    pub machine: u64,
    /// The control domain's.
    pub control: u64,
}

/// Who runs.
pub type Crowd = [Option<Member>; MOST];

/// Builds what the load says: paused, with their shares. `false` if it cannot be read or built.
pub fn build(load: &str, keeper: Keeper, crowd: &mut Crowd) -> bool {
    terms::settle(keeper);
    let mut places = crowd.iter_mut();
    for group in load::groups(load) {
        let Some(group) = group else {
            return check!(false, "the load can be read");
        };
        for _ in 0..group.count {
            let plan = Plan {
                entry: deeds::of(group.kind),
                ..Plan::SMALL
            };
            let (Some(place), Ok(child)) = (places.next(), builder::build(plan)) else {
                return check!(false, "there is room for another domain");
            };
            let kept = child.keep();
            terms::give(keeper, kept.id, group.share);
            *place = Some(Member {
                kept,
                kind: group.kind,
                share: group.share,
                first_at: 0,
                first: Had::default(),
                had: Had::default(),
            });
        }
    }
    true
}

/// Those that there are.
pub fn members(crowd: &Crowd) -> impl Iterator<Item = &Member> {
    crowd.iter().flatten()
}

fn sleep_until(deadline: u64) {
    while events::now_ns() < deadline {
        // Without ports: nobody's events end it.
        child::wait(&[], deadline);
    }
}

/// Lets them all run, and looks twice.
pub fn run(keeper: Keeper, when: When, crowd: &mut Crowd) -> Machine {
    sleep_until(events::now_ns() + REST_NS);
    let begun = events::now_ns();
    for member in members(crowd) {
        check_eq!("it is let run", member.kept.run(), 0);
    }
    let settled = begun + when.settle * when.period;
    for member in crowd.iter_mut().flatten() {
        let from = match member.share.extra {
            false => terms::periods_from(keeper, member.kept.id),
            true => 0,
        };
        let phase = from % when.period;
        let whole = (settled + when.period - phase).next_multiple_of(when.period);
        member.first_at = whole + phase - when.before;
    }
    let mut before = None;
    in_order(crowd, |member| {
        sleep_until(member.first_at);
        before.get_or_insert_with(|| Clocks::read(keeper));
        member.first = member.look(keeper);
        member.forget();
    });
    let mut after = None;
    in_order(crowd, |member| {
        sleep_until(member.first_at + when.periods * when.period);
        after.get_or_insert_with(|| Clocks::read(keeper));
        member.had = member.look(keeper).since(&member.first);
    });
    match (before, after) {
        (Some(before), Some(after)) => after.since(&before),
        _ => Machine::default(),
    }
}

/// Does something to each of them, in the order in which they are looked at.
fn in_order(crowd: &mut Crowd, mut act: impl FnMut(&mut Member)) {
    let mut at = 0;
    loop {
        let mut later = None;
        for member in crowd.iter_mut().flatten() {
            match member.first_at {
                time if time == at => act(member),
                time if time > at => later = Some(later.map_or(time, |sooner| time.min(sooner))),
                _ => {}
            }
        }
        match later {
            Some(next) => at = next,
            None => return,
        }
    }
}

/// Ends them all.
pub fn end(crowd: &mut Crowd) {
    for place in crowd {
        if let Some(member) = place.take() {
            check_eq!("destroy", member.kept.destroy(), 0);
        }
    }
}

impl Had {
    fn since(&self, first: &Self) -> Self {
        Self {
            used_ns: self.used_ns - first.used_ns,
            own: self.own - first.own,
            deeds: self.deeds - first.deeds,
            missed: self.missed - first.missed,
            gaps: self.gaps - first.gaps,
            switches: self.switches - first.switches,
        }
    }
}

impl Member {
    fn look(&self, keeper: Keeper) -> Had {
        let link = self.kept.link();
        let (used_ns, switches) = match keeper {
            Keeper::Caps => {
                let info = control::info(self.kept.id).unwrap_or_default();
                (info.cpu_time, 0)
            }
            Keeper::Ours | Keeper::OursInTurns => {
                let usage = usage_of(self.kept.id, USAGE_OF_DOMAIN);
                (nanoseconds(used(&usage), usage.tsc_hz), usage.switches)
            }
        };
        Had {
            used_ns,
            switches,
            own: link.get(deeds::OWN),
            deeds: link.get(deeds::DEEDS),
            missed: link.get(deeds::MISSED),
            gaps: link.get(deeds::GAPS),
        }
    }

    /// Forgets what was largest, and how late it woke.
    fn forget(&self) {
        let link = self.kept.link();
        for word in [deeds::LONGEST, deeds::LATEST] {
            link.set(word, 0);
        }
        for class in 0..deeds::LATE_WORDS {
            link.set(deeds::LATE + class, 0);
        }
    }

    /// Its number.
    pub fn id(&self) -> u16 {
        self.kept.id
    }

    /// The longest that work took, and the latest that it woke: nanoseconds, since the first look.
    pub fn longest(&self) -> (u64, u64) {
        let link = self.kept.link();
        (link.get(deeds::LONGEST), link.get(deeds::LATEST))
    }

    /// How often it woke so late: 2^n nanoseconds, and times.
    pub fn late(&self) -> impl Iterator<Item = (usize, u64)> {
        let link = self.kept.link();
        let classes = (0..deeds::LATE_WORDS).map(move |n| (n, link.get(deeds::LATE + n)));
        classes.filter(|(_, times)| *times > 0)
    }

    /// Sends it something and waits until it sends that back, so often: the least that this took, and all of it.
    pub fn echoes(&self, rounds: u64) -> (u64, u64) {
        let port = self.kept.port();
        let (mut least, mut all) = (u64::MAX, 0);
        for _ in 0..rounds {
            events::clear_port(port);
            let begun = rdtsc();
            hypercall::send(port);
            while !events::port_pending(port) {
                child::wait(&[port], 0);
            }
            let took = rdtsc() - begun;
            least = least.min(took);
            all += took;
        }
        (least, all)
    }
}

struct Clocks {
    ticks: u64,
    books: Books,
    control: u64,
}

impl Clocks {
    fn read(keeper: Keeper) -> Self {
        let is_ours = keeper != Keeper::Caps;
        Self {
            ticks: rdtsc(),
            books: if is_ours {
                books_of(BOOKS_OF_MACHINE)
            } else {
                Books::ZERO
            },
            control: if is_ours {
                used(&usage_of(DOMID_SELF as u16, USAGE_OF_DOMAIN))
            } else {
                0
            },
        }
    }

    fn since(&self, first: &Self) -> Machine {
        Machine {
            elapsed: self.ticks - first.ticks,
            idle: self.books.idle - first.books.idle,
            machine: self.books.machine - first.books.machine,
            control: self.control - first.control,
        }
    }
}

fn nanoseconds(ticks: u64, hz: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(hz.max(1))) as u64
}
