//! From two readings of what was used to what is being used.

use serde::Serialize;
use xeno_api::{DomainUsage, Usage};

use super::columns::{Columns, Shares};
use crate::cli::Sort;
use crate::show::{bytes, table};

/// What was used between two looks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sample {
    /// The time between them.
    pub seconds: f64,
    /// Processors.
    pub cpus: u32,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Of it, free.
    pub free_bytes: u64,
    /// Each domain that is there now.
    pub domains: Vec<Row>,
}

/// What one domain used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What the daemon said last.
    #[serde(flatten)]
    pub usage: DomainUsage,
    /// Of one processor, in percent.
    pub cpu_percent: f64,
    /// Disk bytes read a second.
    pub disk_read_rate: f64,
    /// Disk bytes written a second.
    pub disk_write_rate: f64,
    /// Network bytes received a second.
    pub net_read_rate: f64,
    /// Network bytes sent a second.
    pub net_write_rate: f64,
    /// What its time went to; none where no accounts are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
}

impl Sample {
    /// What was used from `before` to `now`. A domain that was not there before used all it has used since.
    pub fn between(before: &Usage, now: &Usage) -> Self {
        let elapsed_ns = now.time_ns.saturating_sub(before.time_ns);
        // Two looks at the same instant have no rates.
        let seconds = if elapsed_ns == 0 {
            f64::INFINITY
        } else {
            elapsed_ns as f64 / 1e9
        };
        let row = |usage: &DomainUsage| {
            let old = before
                .domains
                .iter()
                .find(|old| old.summary.id == usage.summary.id);
            let old_cpu = old.map_or(0, |old| old.summary.cpu_ns);
            let rate = |counter: fn(&DomainUsage) -> u64| {
                let used = counter(usage).saturating_sub(old.map_or(0, counter));
                used as f64 / seconds
            };
            Row {
                cpu_percent: usage.summary.cpu_ns.saturating_sub(old_cpu) as f64 / 1e7 / seconds,
                disk_read_rate: rate(|usage| usage.disk.read_bytes),
                disk_write_rate: rate(|usage| usage.disk.write_bytes),
                net_read_rate: rate(|usage| usage.net.read_bytes),
                net_write_rate: rate(|usage| usage.net.write_bytes),
                shares: usage.account.as_ref().map(|now| {
                    let old = old.and_then(|old| old.account.as_ref());
                    Shares::between(old, now, elapsed_ns as f64 / 1e9)
                }),
                usage: usage.clone(),
            }
        };
        Self {
            seconds: elapsed_ns as f64 / 1e9,
            cpus: now.cpus,
            memory_bytes: now.memory_bytes,
            free_bytes: now.free_bytes,
            domains: now.domains.iter().map(row).collect(),
        }
    }

    /// Sorts the domains; equal ones by number.
    pub fn sort(&mut self, by: Sort) {
        self.domains.sort_by_key(|row| row.usage.summary.id);
        let most = |key: fn(&Row) -> f64| move |a: &Row, b: &Row| key(b).total_cmp(&key(a));
        match by {
            Sort::Id => {}
            Sort::Name => self
                .domains
                .sort_by(|a, b| a.usage.summary.name.cmp(&b.usage.summary.name)),
            Sort::Cpu => self.domains.sort_by(most(|row| row.cpu_percent)),
            Sort::Memory => self
                .domains
                .sort_by(most(|row| row.usage.summary.memory_bytes as f64)),
            Sort::Io => self.domains.sort_by(most(Row::io)),
        }
    }

    /// The machine in a line.
    pub fn head(&self) -> String {
        let used: f64 = self.domains.iter().map(|row| row.cpu_percent).sum();
        format!(
            "{} domain{}, {used:.0}% of {} processor{}, memory {} of {}",
            self.domains.len(),
            if self.domains.len() == 1 { "" } else { "s" },
            self.cpus,
            if self.cpus == 1 { "" } else { "s" },
            bytes(self.memory_bytes.saturating_sub(self.free_bytes)),
            bytes(self.memory_bytes),
        )
    }

    /// The domains as a table.
    pub fn table(&self, columns: Columns) -> String {
        let rows: Vec<Vec<String>> = self.domains.iter().map(|row| columns.cells(row)).collect();
        let heads = columns.heads();
        let right = [&heads[1..2], &heads[3..]].concat();
        table(heads, &right, &rows)
    }
}

impl Row {
    fn io(&self) -> f64 {
        self.disk_read_rate + self.disk_write_rate + self.net_read_rate + self.net_write_rate
    }
}

#[cfg(test)]
mod tests {
    use xeno_api::{Io, Life, Summary};

    use super::*;

    fn domain(id: u16, name: &str, cpu_ns: u64, written: u64) -> DomainUsage {
        DomainUsage {
            summary: Summary {
                id,
                name: Some(name.to_owned()),
                life: Life::Running,
                reason: None,
                memory_bytes: u64::from(10 - id) << 20,
                vcpus: 1,
                cpu_ns,
                age_s: None,
            },
            max_memory_bytes: 0,
            disk: Io {
                write_bytes: written,
                ..Io::default()
            },
            net: Io::default(),
            account: None,
        }
    }

    fn usage(time_ns: u64, domains: Vec<DomainUsage>) -> Usage {
        Usage {
            time_ns,
            cpus: 1,
            memory_bytes: 1 << 30,
            free_bytes: 1 << 29,
            machine: None,
            domains,
        }
    }

    #[test]
    fn rates_are_differences_over_time() {
        let before = usage(1_000_000_000, vec![domain(0, "z", 500_000_000, 0)]);
        let now = usage(
            3_000_000_000,
            vec![
                domain(0, "z", 1_500_000_000, 4096),
                domain(2, "new", 200_000_000, 0),
            ],
        );
        let sample = Sample::between(&before, &now);
        assert_eq!(sample.seconds, 2.0);
        assert_eq!(sample.domains[0].cpu_percent, 50.0);
        assert_eq!(sample.domains[0].disk_write_rate, 2048.0);
        assert_eq!(sample.domains[1].cpu_percent, 10.0);
        assert_eq!(
            sample.head(),
            "2 domains, 60% of 1 processor, memory 512M of 1G"
        );
    }

    #[test]
    fn two_looks_at_once_and_counters_that_start_over_give_no_rate() {
        let before = usage(5, vec![domain(0, "a", 100, 100)]);
        let sample = Sample::between(&before, &usage(5, vec![domain(0, "a", 200, 200)]));
        assert_eq!(
            (
                sample.domains[0].cpu_percent,
                sample.domains[0].disk_write_rate
            ),
            (0.0, 0.0)
        );
        let sample = Sample::between(&before, &usage(1_000_000_005, vec![domain(0, "a", 0, 0)]));
        assert_eq!(
            (
                sample.domains[0].cpu_percent,
                sample.domains[0].disk_write_rate
            ),
            (0.0, 0.0)
        );
    }

    #[test]
    fn sorted_by_each_of_its_ways() {
        let before = usage(0, Vec::new());
        let all = vec![
            domain(3, "b", 10, 5),
            domain(1, "c", 30, 0),
            domain(2, "a", 20, 9),
        ];
        let sample = Sample::between(&before, &usage(1_000_000_000, all));
        let sorted = |by| {
            let mut sample = sample.clone();
            sample.sort(by);
            sample
                .domains
                .iter()
                .map(|row| row.usage.summary.id)
                .collect::<Vec<_>>()
        };
        assert_eq!(sorted(Sort::Id), [1, 2, 3]);
        assert_eq!(sorted(Sort::Name), [2, 3, 1]);
        assert_eq!(sorted(Sort::Cpu), [1, 2, 3]);
        assert_eq!(sorted(Sort::Memory), [1, 2, 3]);
        assert_eq!(sorted(Sort::Io), [2, 3, 1]);
    }
}
