//! What is to run: groups of domains, as the command line writes them.
//!
//! `load=hog*3:2500000/50000000+cyclic*1:2040000/10000000+hog*1:0/50000000x` is three domains that compute and have
//! 2.5 ms of 50 ms each, one that works periodically, and one that computes in what is left over. Times are nanoseconds.

/// What a domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Computes, and counts its instructions.
    Hog,
    /// Computes, and watches the clock for gaps.
    Watcher,
    /// Works for two milliseconds in every ten.
    Cyclic,
    /// Sleeps, and looks how late it wakes.
    Sleeper,
    /// Sends back what it is sent.
    Echo,
    /// Attacks: yields before its turn ends.
    Yields,
    /// Sleeps where a tick would be.
    Naps,
    /// Wakes often and works little.
    Wakes,
    /// Has timers fire in others' turns.
    Timers,
    /// Makes many calls that do nothing.
    Calls,
    /// Notifies the control domain without end.
    Storm,
    /// Has frames copied.
    Copies,
    /// Has translations dropped, the others' too.
    Flushes,
}

impl Kind {
    /// All, with their names on the command line.
    const NAMES: [(&str, Self); 13] = [
        ("hog", Self::Hog),
        ("watcher", Self::Watcher),
        ("cyclic", Self::Cyclic),
        ("sleeper", Self::Sleeper),
        ("echo", Self::Echo),
        ("yields", Self::Yields),
        ("naps", Self::Naps),
        ("wakes", Self::Wakes),
        ("timers", Self::Timers),
        ("calls", Self::Calls),
        ("storm", Self::Storm),
        ("copies", Self::Copies),
        ("flushes", Self::Flushes),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let mut all = Self::NAMES.iter();
        all.find(|(_, kind)| *kind == self).map_or("", |(n, _)| n)
    }
}

/// What a domain is to have: nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// At least so much,
    pub slice: u64,
    /// in each such period,
    pub period: u64,
    /// and a part of what is left over.
    pub extra: bool,
}

/// So many domains alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// What each does.
    pub kind: Kind,
    /// How many.
    pub count: usize,
    /// What each has.
    pub share: Share,
}

/// `hog*3:2500000/50000000x`.
fn group(text: &str) -> Option<Group> {
    let (kind, rest) = text.split_once('*')?;
    let (count, rest) = rest.split_once(':')?;
    let (slice, rest) = rest.split_once('/')?;
    let (period, extra) = match rest.strip_suffix('x') {
        Some(period) => (period, true),
        None => (rest, false),
    };
    let (_, kind) = Kind::NAMES.iter().find(|(name, _)| *name == kind)?;
    Some(Group {
        kind: *kind,
        count: count.parse().ok()?,
        share: Share {
            slice: slice.parse().ok()?,
            period: period.parse().ok()?,
            extra,
        },
    })
}

/// The groups of a load; one that cannot be read is `None`.
pub fn groups(load: &str) -> impl Iterator<Item = Option<Group>> {
    load.split('+').map(group)
}
