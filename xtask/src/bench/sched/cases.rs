//! What is run: loads of many domains, as the guest `rates` takes them.

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Quanta of a period, as in the experiments that this is compared with.
const QUANTA: u64 = 50;
/// How long is looked, in whole periods.
const WINDOW: u64 = 10 * SECOND;

/// The quanta, in nanoseconds.
pub const QUANTUMS: [u64; 2] = [MS, 20 * MS];
/// Attackers, by the name that the guest knows them by, and what they do.
pub const ATTACKS: [(&str, &str); 8] = [
    ("yields", "yields before its turn ends"),
    ("naps", "sleeps where a tick would be"),
    ("wakes", "wakes often and works little"),
    ("timers", "timers that fall into others' turns"),
    ("calls", "tiny calls"),
    ("storm", "events to the control domain"),
    ("copies", "copies"),
    ("flushes", "flushes"),
];

/// What a case is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// That shares are what was asked for.
    Shares,
    /// How much work is lost with so many domains that have equal shares of a part of the CPU.
    Parts(u64),
    /// How much work is lost with so many domains that have no share and compute.
    Busy(u64),
    /// That shares are kept beside an attacker.
    Attack,
    /// That a periodic task is in time.
    Task,
    /// How late sleepers wake.
    Waking,
    /// What the end of a turn takes.
    Turns,
    /// What it takes until another domain that slept has a message.
    Message,
}

/// So many domains alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    kind: &'static str,
    count: u64,
    slice: u64,
    period: u64,
    extra: bool,
}

/// A run of the guest.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is, as a person reads it.
    pub name: String,
    /// What it shows.
    pub about: About,
    /// Nanoseconds.
    pub quantum: u64,
    /// Nanoseconds.
    period: u64,
    periods: u64,
    groups: Vec<Group>,
    /// The same for Xen's scheduler, which has weights and caps of whole percents; nothing where that says nothing.
    elsewhere: Option<Vec<Group>>,
}

fn hogs(count: u64, slice: u64, period: u64) -> Group {
    Group {
        kind: "hog",
        count,
        slice,
        period,
        extra: false,
    }
}

impl Group {
    fn of(self, kind: &'static str) -> Self {
        Self { kind, ..self }
    }

    fn with_extra(self) -> Self {
        Self {
            extra: true,
            ..self
        }
    }

    /// With nothing of its own.
    fn without_share(self) -> Self {
        Self {
            slice: 0,
            period: SECOND,
            extra: true,
            ..self
        }
    }

    fn word(&self) -> String {
        format!(
            "{}*{}:{}/{}{}",
            self.kind,
            self.count,
            self.slice,
            self.period,
            if self.extra { "x" } else { "" }
        )
    }

    /// Whether credit2 has such a cap.
    fn is_cap(&self) -> bool {
        self.extra || (self.slice * 100).is_multiple_of(self.period)
    }
}

fn words(groups: &[Group]) -> String {
    let words: Vec<_> = groups.iter().map(Group::word).collect();
    words.join("+")
}

impl Case {
    fn new(name: impl Into<String>, about: About, quantum: u64, groups: Vec<Group>) -> Self {
        // A cap is the same whatever the quantum: once is enough.
        let caps = quantum == QUANTUMS[0] && groups.iter().all(Group::is_cap);
        let elsewhere = caps.then(|| groups.clone());
        let period = QUANTA * quantum;
        Self {
            name: name.into(),
            about,
            quantum,
            period,
            periods: WINDOW / period,
            groups,
            elsewhere,
        }
    }

    /// Whether it can be run on Xen.
    pub fn is_for_xen(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// Periods between the two looks.
    pub fn window(&self) -> u64 {
        self.periods * self.period
    }

    /// How long before the end of a period is looked: in the middle of what the shares leave over.
    fn before(&self) -> u64 {
        let reserved: u64 = self
            .groups
            .iter()
            .map(|group| group.count * group.slice * self.period / group.period)
            .sum();
        self.period.saturating_sub(reserved) / 2
    }

    /// The guest's command line.
    pub fn words(&self, on_xen: bool) -> String {
        let groups = match &self.elsewhere {
            Some(groups) if on_xen => groups,
            _ => &self.groups,
        };
        format!(
            "load={} quantum={} period={} periods={} before={}",
            words(groups),
            self.quantum,
            self.period,
            self.periods,
            self.before()
        )
    }

    /// A name for files.
    pub fn file(&self) -> String {
        let quantum = self.quantum / 1000;
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = self.name.chars().map(letter).collect();
        format!("sched-{name}-{quantum}us").to_lowercase()
    }
}

/// All of them.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for quantum in QUANTUMS {
        cases.extend(shares(quantum));
        cases.extend(lost(quantum));
    }
    cases.extend(attacks());
    cases.extend(waking());
    cases.extend(switches());
    cases
}

fn shares(quantum: u64) -> Vec<Case> {
    let period = QUANTA * quantum;
    let part = |percent: u64| hogs(1, period * percent / 100, period);
    let four = vec![part(5), part(10), part(20), part(40)];
    let mut beside = four.clone();
    beside.push(hogs(1, 0, SECOND).without_share());
    let unequal = (0..32).map(|n| hogs(1, period * (10 + n) / 1000, period));
    let new = |name: &str, groups| Case::new(name, About::Shares, quantum, groups);
    vec![
        new("5/10/20/40 %", four),
        new("5/10/20/40 % beside a hog", beside),
        new("32 of 1 to 4.1 %", unequal.collect()),
        new("128 of 0.6 %", vec![hogs(128, period * 6 / 1000, period)]),
    ]
}

/// As much of the CPU for one as for many, and all of it.
fn lost(quantum: u64) -> Vec<Case> {
    let period = QUANTA * quantum;
    let mut cases = Vec::new();
    for count in [1, 2, 4, 8, 16, 32] {
        let groups = vec![hogs(count, 32 / count * quantum, period)];
        let name = format!("{count} of {} in 50 quanta", 32 / count);
        cases.push(Case::new(name, About::Parts(count), quantum, groups));
        let groups = vec![hogs(count, 0, SECOND).without_share()];
        let name = format!("{count} that compute");
        cases.push(Case::new(name, About::Busy(count), quantum, groups));
    }
    cases
}

/// Three victims with shares of their own, an attacker that takes what is left besides.
fn attacks() -> Vec<Case> {
    let period = QUANTA * MS;
    let case = |(kind, what): (&'static str, &str)| {
        let attacker = hogs(1, 5 * MS, period).of(kind).with_extra();
        let groups = vec![hogs(3, 10 * MS, period), attacker];
        Case::new(what, About::Attack, MS, groups)
    };
    ATTACKS.into_iter().map(case).collect()
}

/// Somebody who sleeps among those who never do.
fn waking() -> Vec<Case> {
    let beside = hogs(31, MS, QUANTA * MS).with_extra();
    let case = |name: &str, about, who: Group| Case {
        // Nobody there has a cap: whoever sleeps is to be ahead by himself.
        elsewhere: Some(vec![who.without_share(), beside.without_share()]),
        ..Case::new(name, about, MS, vec![who, beside])
    };
    // It asks for a little more than the two milliseconds it works: its own sleeps and timers are paid from it.
    let task = hogs(1, 2_040_000, 10 * MS).of("cyclic");
    let sleeper = hogs(1, MS / 2, 10 * MS).of("sleeper");
    let no_share = Case {
        elsewhere: None,
        ..case(
            "a sleeper without a share",
            About::Waking,
            sleeper.without_share(),
        )
    };
    vec![
        case("2 ms in 10 ms beside 31 hogs", About::Task, task),
        case("a sleeper with 0.5 ms in 10 ms", About::Waking, sleeper),
        no_share,
    ]
}

fn switches() -> Vec<Case> {
    let two = hogs(2, 0, SECOND).without_share().of("watcher");
    let echo = hogs(1, 0, SECOND).without_share().of("echo");
    vec![
        Case::new("turns of two", About::Turns, MS, vec![two]),
        Case::new("a message and back", About::Message, MS, vec![echo]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_load_is_written_as_the_guest_reads_it() {
        let cases = all();
        let four = &cases[0];
        assert_eq!(
            four.words(false),
            "load=hog*1:2500000/50000000+hog*1:5000000/50000000+hog*1:10000000/50000000+hog*1:20000000/50000000 \
             quantum=1000000 period=50000000 periods=200 before=6250000"
        );
        assert!(cases[1].words(true).contains("+hog*1:0/1000000000x "));
    }

    #[test]
    fn no_load_asks_for_more_than_there_is() {
        for case in all() {
            let reserved: f64 = case
                .groups
                .iter()
                .map(|g| (g.count * (g.slice + 20_000)) as f64 / g.period as f64)
                .sum();
            assert!(reserved < 0.87, "{}: {reserved}", case.name);
        }
    }

    #[test]
    fn xen_is_asked_only_for_caps_of_whole_percents() {
        let has = |name: &str| all().iter().any(|c| c.name == name && c.is_for_xen());
        assert!(has("5/10/20/40 %"));
        assert!(has("32 of 1 in 50 quanta"));
        assert!(!has("128 of 0.6 %"));
        assert!(!has("32 of 1 to 4.1 %"));
    }

    #[test]
    fn each_case_has_a_file_of_its_own_and_a_command_line_that_fits() {
        let cases = all();
        let files: BTreeSet<_> = cases.iter().map(Case::file).collect();
        assert_eq!(files.len(), cases.len());
        for case in &cases {
            // Of 1,024 bytes, which the kernel's usual words share.
            assert!(case.words(false).len() < 900, "{}", case.words(false).len());
        }
    }
}
