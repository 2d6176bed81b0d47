//! What the guest `rates` told, and what follows from it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::bench::store::{self, Figures};

/// A domain between the two looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Domain {
    /// What it does.
    pub kind: String,
    /// Its share: nanoseconds.
    pub slice: u64,
    /// In each such period.
    pub period: u64,
    /// It has a part in what is left over.
    pub extra: bool,
    /// Nanoseconds that it was charged.
    pub used: u64,
    /// Instructions that it counted itself.
    pub own: u64,
    /// Of its kind.
    pub deeds: u64,
    /// Deadlines that it missed.
    pub missed: u64,
    /// The longest that a cycle's work took, in nanoseconds.
    pub longest: u64,
    /// The latest that it woke, in nanoseconds.
    pub latest: u64,
    /// Turns of others that it saw.
    pub gaps: u64,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Shares are kept there.
    pub kept: bool,
    /// Ticks between the two looks.
    pub elapsed: u64,
    /// Of those, the hypervisor's own; ours alone tells.
    pub machine: u64,
    /// Of those, the control domain's; ours alone tells.
    pub control: u64,
    /// All domains.
    pub domains: Vec<Domain>,
    /// How often somebody woke 2^n nanoseconds late.
    pub late: BTreeMap<u32, u64>,
    /// The least ticks that a message took there and back.
    pub echo: Option<u64>,
}

/// The guest's lines `RATES SUBJECT NAME=NUMBER ...` as figures `SUBJECT.NAME`.
pub fn parse(console: &str) -> Figures {
    let mut figures = Figures::new();
    for line in console.lines() {
        let Some((_, told)) = line.split_once("RATES ") else {
            continue;
        };
        let mut words = told.split_whitespace();
        let Some(subject) = words.next() else {
            continue;
        };
        for word in words {
            if let Some((name, number)) = word.split_once('=')
                && let Ok(number) = number.parse()
            {
                figures.push((format!("{subject}.{name}"), number));
            }
        }
    }
    figures
}

impl Seen {
    /// Reads figures.
    ///
    /// # Errors
    /// When one that every run has is missing.
    pub fn from(figures: &Figures) -> Result<Self> {
        let need = |name: &str| {
            store::find(figures, name).with_context(|| format!("the guest told no `{name}`"))
        };
        let mut seen = Self {
            kept: need("run.kept")? != 0,
            elapsed: need("run.elapsed")?,
            machine: need("run.machine")?,
            control: need("run.control")?,
            echo: store::find(figures, "echo.least"),
            ..Self::default()
        };
        for (name, number) in figures {
            let Some((subject, what)) = name.rsplit_once('.') else {
                continue;
            };
            if subject.starts_with("late:") {
                *seen.late.entry(what.parse()?).or_default() += number;
            } else if let Some((_, kind)) = subject.split_once(':')
                && what == "slice"
            {
                let of = |what: &str| need(&format!("{subject}.{what}"));
                seen.domains.push(Domain {
                    kind: kind.to_owned(),
                    slice: *number,
                    period: of("period")?,
                    extra: of("extra")? != 0,
                    used: of("used")?,
                    own: of("own")?,
                    deeds: of("deeds")?,
                    missed: of("missed")?,
                    longest: of("longest")?,
                    latest: of("latest")?,
                    gaps: of("gaps")?,
                });
            }
        }
        Ok(seen)
    }

    /// The largest error of what was charged to somebody who has a share and nothing else, as a part of what he asked
    /// for in this window; with its sign.
    pub fn worst_charged(&self, window: u64) -> Option<f64> {
        self.worst(window, |domain| domain.used)
    }

    /// The same of what was counted: what the hypervisor does for somebody is missing from it.
    pub fn worst_counted(&self, window: u64) -> Option<f64> {
        self.worst(window, |domain| domain.own)
    }

    fn worst(&self, window: u64, had: impl Fn(&Domain) -> u64) -> Option<f64> {
        let hogs = self
            .domains
            .iter()
            .filter(|domain| domain.kind == "hog" && !domain.extra && domain.slice > 0);
        largest(hogs.map(|domain| error(had(domain), domain.asked(window))))
    }

    /// Instructions that all hogs counted, for each tick.
    pub fn work(&self) -> f64 {
        let own: u64 = self.domains.iter().map(|domain| domain.own).sum();
        own as f64 / self.elapsed.max(1) as f64
    }

    /// Ticks of a switch at the end of a turn, by domains that watched the clock: what passed while none of them was on
    /// the CPU, for each turn that ended.
    pub fn switch(&self) -> Option<f64> {
        let gaps: u64 = self.domains.iter().map(|domain| domain.gaps).sum();
        let own: u64 = self.domains.iter().map(|domain| domain.own).sum();
        let others = self.elapsed.checked_sub(own + self.control)?;
        (gaps > 0).then(|| others as f64 / gaps as f64)
    }
}

impl Domain {
    /// Nanoseconds that it asked for in a window.
    fn asked(&self, window: u64) -> u64 {
        (u128::from(self.slice) * u128::from(window) / u128::from(self.period.max(1))) as u64
    }
}

/// By what part more was had than asked for.
pub fn error(had: u64, asked: u64) -> f64 {
    (had as f64 - asked as f64) / asked.max(1) as f64
}

/// The one that is farthest from nothing.
pub fn largest(errors: impl Iterator<Item = f64>) -> Option<f64> {
    errors.max_by(|a, b| a.abs().total_cmp(&b.abs()))
}

/// What part of the work is lost, against the work of one.
pub fn lost(many: f64, one: f64) -> f64 {
    1.0 - many / one
}

/// The class that so large a part of all times lies in or below.
pub fn quantile(late: &BTreeMap<u32, u64>, part: f64) -> Option<u32> {
    let all: u64 = late.values().sum();
    let mut below = 0;
    late.iter()
        .find(|(_, times)| {
            below += **times;
            below as f64 >= part * all as f64
        })
        .map(|(class, _)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn hog(slice: u64, used: u64, own: u64) -> Domain {
        Domain {
            kind: "hog".to_owned(),
            slice,
            period: 50_000_000,
            used,
            own,
            ..Domain::default()
        }
    }

    #[test]
    fn the_guests_lines_become_figures_and_figures_become_domains() {
        let console = "x\r\nRATES run kept=1 elapsed=1000 idle=3 machine=2 control=1\r\n\
            RATES 1:hog slice=5 period=10 extra=0 used=7 own=6 deeds=0 missed=0 longest=0 latest=0 gaps=2 switches=9\r\n\
            (d1) RATES late:2 14=3\r\nRATES late:3 14=1\r\nRATES late:3 20=2\r\n\
            RATES echo least=900 all=3000 rounds=3\r\n";
        let seen = Seen::from(&parse(console)).unwrap();
        assert!(seen.kept);
        assert_eq!((seen.elapsed, seen.machine, seen.control), (1000, 2, 1));
        assert_eq!(seen.domains.len(), 1);
        assert_eq!((seen.domains[0].used, seen.domains[0].gaps), (7, 2));
        assert_eq!(seen.domains[0].kind, "hog");
        assert_eq!(seen.late, BTreeMap::from([(14, 4), (20, 2)]));
        assert_eq!(seen.echo, Some(900));
        assert!(Seen::from(&parse("RATES run kept=1\n")).is_err());
    }

    #[test]
    fn the_worst_error_is_the_farthest_and_keeps_its_sign() {
        // 10 % and 20 % of a second.
        let seen = Seen {
            domains: vec![
                hog(5_000_000, 100_010_000, 99_000_000),
                hog(10_000_000, 199_900_000, 199_000_000),
                Domain {
                    extra: true,
                    ..hog(10_000_000, SECOND, SECOND)
                },
            ],
            ..Seen::default()
        };
        let near = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-12;
        assert!(near(seen.worst_charged(SECOND), -0.0005));
        assert!(near(seen.worst_counted(SECOND), -0.01));
        assert_eq!(Seen::default().worst_charged(SECOND), None);
    }

    #[test]
    fn work_is_lost_against_one() {
        assert!((lost(0.995, 1.0) - 0.005).abs() < 1e-12);
        assert!(lost(1.0, 0.9) < 0.0);
    }

    #[test]
    fn a_switch_is_what_nobody_had_for_each_turn() {
        let watcher = |own, gaps| Domain {
            kind: "watcher".to_owned(),
            own,
            gaps,
            ..Domain::default()
        };
        let seen = Seen {
            elapsed: 10_000,
            control: 1000,
            domains: vec![watcher(4000, 2), watcher(4500, 3)],
            ..Seen::default()
        };
        assert_eq!(seen.switch(), Some(100.0));
        assert_eq!(Seen::default().switch(), None);
    }

    #[test]
    fn a_quantile_is_the_class_that_the_part_is_reached_in() {
        let late = BTreeMap::from([(10, 90), (14, 9), (20, 1)]);
        assert_eq!(quantile(&late, 0.5), Some(10));
        assert_eq!(quantile(&late, 0.9), Some(10));
        assert_eq!(quantile(&late, 0.99), Some(14));
        assert_eq!(quantile(&late, 1.0), Some(20));
        assert_eq!(quantile(&BTreeMap::new(), 0.5), None);
    }
}
