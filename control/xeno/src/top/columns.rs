//! What `xeno top` says of each domain, column by column: what goes over its devices, or what its time went to.

use serde::Serialize;
use xeno_api::{Account, CAUSE_NAMES};

use super::rates::Row;
use crate::show::{self, bytes, cpu_time, memory_time};

/// Which columns are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// CPU, memory, disks, network.
    #[default]
    Devices,
    /// CPU by cause, memory over time.
    Usage,
}

/// Of the domain's devices; from the fourth on they are numbers.
const DEVICES: [&str; 10] = [
    "NAME", "ID", "STATE", "CPU%", "CPU TIME", "MEMORY", "VCPUS", "DISK R/s", "DISK W/s", "NET/s",
];

/// Of its time, in percent of a CPU; likewise.
const USAGE: [&str; 22] = [
    "NAME", "ID", "STATE", "CPU%", "USER", "KERNEL", "CALL", "FAULT", "INTR", "TIMER", "DEVICE",
    "SWITCH", "GUAR", "EXTRA", "STOLEN", "SW/s", "EV/s", "GR/s", "MEMORY", "PEAK", "MEM*TIME",
    "OWN MEM",
];

impl Columns {
    /// The others.
    pub fn other(self) -> Self {
        match self {
            Self::Devices => Self::Usage,
            Self::Usage => Self::Devices,
        }
    }

    /// Their heads.
    pub fn heads(self) -> &'static [&'static str] {
        match self {
            Self::Devices => &DEVICES,
            Self::Usage => &USAGE,
        }
    }

    /// A domain, one text for each column.
    pub fn cells(self, row: &Row) -> Vec<String> {
        let summary = &row.usage.summary;
        let mut cells = vec![
            show::name(summary),
            summary.id.to_string(),
            show::state(summary),
            format!("{:.1}", row.cpu_percent),
        ];
        match self {
            Self::Devices => {
                let per_second = |rate: f64| bytes(rate.max(0.0).round() as u64);
                cells.extend([
                    cpu_time(summary.cpu_ns),
                    bytes(summary.memory_bytes),
                    summary.vcpus.to_string(),
                    per_second(row.disk_read_rate),
                    per_second(row.disk_write_rate),
                    per_second(row.net_read_rate + row.net_write_rate),
                ]);
            }
            Self::Usage => match (&row.shares, &row.usage.account) {
                (Some(shares), Some(account)) => cells.extend(shares.cells(account)),
                _ => cells.resize(USAGE.len(), "-".to_owned()),
            },
        }
        cells
    }
}

/// What a domain's time went to between two looks, in percent of a CPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// In applications.
    pub user: f64,
    /// In its kernel.
    pub kernel: f64,
    /// In the hypervisor, by cause.
    pub hypervisor: [f64; CAUSE_NAMES.len()],
    /// In reserved time.
    pub guaranteed: f64,
    /// In time that nobody had reserved.
    pub extra: f64,
    /// It could run, and did not.
    pub stolen: f64,
    /// How often a second a CPU was given to it.
    pub switch_rate: f64,
    /// Events a second, sent and received.
    pub event_rate: f64,
    /// Uses of grants a second: its own, and others' of its grants.
    pub grant_rate: f64,
}

impl Shares {
    /// From one reading to another; from its beginning on without the first. `seconds` is the time between two looks.
    pub fn between(old: Option<&Account>, now: &Account, seconds: f64) -> Self {
        let none = Account::default();
        // Another domain of the same number begins anew.
        let old = old.filter(|old| old.at < now.at && old.cycles() <= now.cycles());
        let cycles = match old {
            Some(old) => (now.at - old.at) as f64,
            None => seconds * now.hz as f64,
        };
        let old = old.unwrap_or(&none);
        let per = |whole: f64, old: u64, now: u64| match cycles > 0.0 {
            true => now.saturating_sub(old) as f64 * whole / cycles,
            false => 0.0,
        };
        let percent = |counter: fn(&Account) -> u64| per(100.0, counter(old), counter(now));
        let rate = |counter: fn(&Account) -> u64| per(now.hz as f64, counter(old), counter(now));
        let mut hypervisor = [0.0; CAUSE_NAMES.len()];
        let causes = old.hypervisor.iter().zip(now.hypervisor);
        for (share, (old, now)) in hypervisor.iter_mut().zip(causes) {
            *share = per(100.0, *old, now);
        }
        Self {
            user: percent(|account| account.user),
            kernel: percent(|account| account.kernel),
            hypervisor,
            guaranteed: percent(|account| account.guaranteed),
            extra: percent(|account| account.extra),
            stolen: percent(|account| account.stolen),
            switch_rate: rate(|account| account.switches),
            event_rate: rate(|used| used.events_sent.wrapping_add(used.events_received)),
            grant_rate: rate(|used| used.grants_used.wrapping_add(used.grants_lent)),
        }
    }

    fn cells(&self, account: &Account) -> Vec<String> {
        let percent = |share: f64| format!("{share:.1}");
        let own = [self.user, self.kernel];
        let after = [self.guaranteed, self.extra, self.stolen];
        let shares = own.into_iter().chain(self.hypervisor).chain(after);
        let mut cells: Vec<String> = shares.map(percent).collect();
        let rates = [self.switch_rate, self.event_rate, self.grant_rate];
        cells.extend(rates.map(|rate| format!("{rate:.0}")));
        cells.extend([
            bytes(account.frames << 12),
            bytes(account.frames_peak << 12),
            memory_time(account.frame_cycles.0, account.hz),
            bytes(account.overhead << 12),
        ]);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_cycles_between_two_readings() {
        let old = Account {
            at: 1000,
            hz: 100,
            user: 10,
            switches: 3,
            events_sent: 1,
            grants_lent: 4,
            ..Account::default()
        };
        let mut now = Account {
            at: 1200,
            user: 60,
            switches: 7,
            events_received: 5,
            grants_used: 1,
            ..old
        };
        now.hypervisor[2] = 20;
        let shares = Shares::between(Some(&old), &now, 99.0);
        assert_eq!((shares.user, shares.hypervisor[2]), (25.0, 10.0));
        assert_eq!((shares.kernel, shares.switch_rate), (0.0, 2.0));
        assert_eq!((shares.event_rate, shares.grant_rate), (2.5, 0.5));
        // Nothing before: all of it in the time between two looks.
        let shares = Shares::between(None, &now, 1.0);
        assert_eq!(shares.user, 60.0);
        // Two readings at once, and another domain's.
        assert_eq!(Shares::between(None, &now, 0.0).user, 0.0);
        let other = Account { user: 999, ..old };
        assert_eq!(Shares::between(Some(&other), &now, 1.0).user, 60.0);
    }
}
