//! Reservations of CPU time on the fake's one CPU: charged slice / period each, and no more than there is.

use super::{FakeDomain, State};
use crate::reserve::{ALLOWING, GETTING, RULING, SETTING};
use crate::{CpuAnswer, CpuRefusal, CpuReserved, CpuRules, CpuTerms, DomId, Error, Result};

/// The machine's quantum at first, in nanoseconds.
pub(super) const QUANTUM: u64 = 10_000_000;
const SECOND: u64 = 1_000_000_000;
/// The longest section, in nanoseconds.
const SECTION: u64 = 20_000;

/// Terms in nanoseconds.
fn in_time(terms: CpuTerms, quantum: u64) -> CpuTerms {
    let unit = if terms.in_quanta { quantum } else { 1 };
    CpuTerms {
        slice: terms.slice.saturating_mul(unit),
        period: terms.period.saturating_mul(unit),
        in_quanta: false,
        ..terms
    }
}

/// Nanoseconds of each second.
fn charge(domain: &FakeDomain) -> u64 {
    domain.cpu_terms.map_or(0, |terms| {
        u64::from(domain.vcpus) * (terms.slice * SECOND).div_ceil(terms.period)
    })
}

impl State {
    fn capacity(&self, doing: &'static str, domain: Option<DomId>) -> Result<u64> {
        let none = || Error::refused(doing, domain, libc::EOPNOTSUPP);
        self.cpu_capacity.ok_or_else(none)
    }

    pub(super) fn set_cpu_terms(&mut self, domain: DomId, terms: CpuTerms) -> Result<CpuAnswer> {
        let capacity = self.capacity(SETTING, Some(domain))?;
        let asked = in_time(terms, self.quantum);
        if !(10 * SECTION..=SECOND).contains(&asked.period) {
            return Ok(CpuAnswer::Refused(CpuRefusal::Period));
        }
        if (1..SECTION).contains(&asked.slice) {
            return Ok(CpuAnswer::Refused(CpuRefusal::TooShort));
        }
        let unit = if terms.in_quanta { self.quantum } else { 1 };
        let others = self.domains.iter().filter(|(id, _)| **id != domain);
        let taken: u64 = others.map(|(_, domain)| charge(domain)).sum();
        let found = self.of(domain);
        if found.vcpus == 0 {
            return Err(Error::refused(SETTING, Some(domain), libc::EINVAL));
        }
        let room = capacity.saturating_sub(taken) / u64::from(found.vcpus);
        let largest = room * asked.period / SECOND;
        if asked.slice > largest {
            return Ok(CpuAnswer::Refused(CpuRefusal::NoRoom {
                largest_slice: largest / unit,
                largest_slice_soon: largest / unit,
                vcpu: 0,
            }));
        }
        found.cpu_terms = Some(asked);
        Ok(CpuAnswer::Granted { in_force_at: 0 })
    }

    pub(super) fn allow_cpu(&mut self, domain: DomId, rate: u64, weight: u16) -> Result<()> {
        self.capacity(ALLOWING, Some(domain))?;
        self.of(domain).cpu_allowed = (rate, weight);
        Ok(())
    }

    pub(super) fn cpu_rules(&mut self, quantum: Option<u64>) -> Result<CpuRules> {
        self.capacity(RULING, None)?;
        match quantum {
            Some(quantum) if !(SECTION..=SECOND).contains(&quantum) => {
                return Err(Error::refused(RULING, None, libc::ERANGE));
            }
            Some(quantum) => self.quantum = quantum,
            None => {}
        }
        Ok(CpuRules {
            quantum: self.quantum,
            section: SECTION,
            shortest_period: 10 * SECTION,
            longest_period: SECOND,
            reserve_ppm: 20_000,
            cpus: 1,
        })
    }

    pub(super) fn cpu_terms(&mut self, domain: DomId) -> Result<CpuReserved> {
        self.capacity(GETTING, Some(domain))?;
        let found = self.of(domain);
        let extra = CpuTerms {
            slice: 0,
            period: SECOND,
            in_quanta: false,
            extra: true,
            weight: 256,
        };
        Ok(CpuReserved {
            terms: found.cpu_terms.unwrap_or(extra),
            coming: None,
            vcpus: found.vcpus,
            alike: found.vcpus,
            cpu: Some(0),
            allowed: found.cpu_allowed.0,
            allowed_weight: found.cpu_allowed.1,
        })
    }
}
