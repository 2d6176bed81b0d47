//! Accounts of the fake's domains: nothing runs in them, so a test says what they used. At the start none are kept, as on
//! Xen. No step counts: a test that lets steps fail means others.

use super::{Fake, FakeDomain};
use crate::{Accounts, DomId, Error, Part, Result};
use guest_abi::ledger::{LEDGER_HASH, LEDGER_OF_MACHINE, LedgerEnded, LedgerHead};
use guest_abi::usage::{Books, USAGE_NO_CPU, Usage};
use guest_abi::xeno::XENO_INTERFACE_VERSION;
use std::collections::BTreeMap;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    kept: bool,
    /// Cycles, by domain.
    used: BTreeMap<DomId, u64>,
    /// Chains, by domain; the machine's under its own number.
    chains: BTreeMap<DomId, (u64, [u8; LEDGER_HASH])>,
    ended: Vec<LedgerEnded>,
    /// Reads so far: time passes with each.
    now: u64,
}

impl Kept {
    /// A domain is gone.
    pub(super) fn end(&mut self, id: DomId, domain: &FakeDomain) {
        self.now += 1;
        self.ended.push(LedgerEnded {
            version: XENO_INTERFACE_VERSION,
            domid: id,
            index: self.ended.len() as u64,
            serial: serial(id),
            handle: domain.new.handle,
            tsc_hz: 1_000_000_000,
            at: self.now,
            user: self.used.remove(&id).unwrap_or(0),
            frames_peak: domain.max_pages,
            ..LedgerEnded::ZERO
        });
        self.chains.remove(&id);
    }
}

/// Numbers are not used again here.
fn serial(id: DomId) -> u64 {
    1000 + u64::from(id)
}

impl Fake {
    /// Keeps accounts from now on.
    pub fn keep_accounts(&self) {
        self.state().accounts.kept = true;
    }

    /// A domain uses so many cycles more. Plays the guest.
    pub fn uses(&self, domain: DomId, cycles: u64) {
        *self.state().accounts.used.entry(domain).or_default() += cycles;
    }

    /// Forgets all chains and domains that are gone, as the machine's start does.
    pub fn forget_accounts(&self) {
        let accounts = &mut self.state().accounts;
        accounts.chains.clear();
        accounts.ended.clear();
    }

    fn with<T>(
        &self,
        doing: &'static str,
        of: Option<DomId>,
        act: impl FnOnce(&mut Kept) -> std::result::Result<T, i32>,
    ) -> Result<T> {
        let mut state = self.state();
        let refused = |number| Error::refused(doing, of, number);
        if !state.accounts.kept {
            return Err(refused(libc::ENOSYS));
        }
        let there = |domain: &DomId| {
            *domain == 0 || state.domains.get(domain).is_some_and(|found| !found.dying)
        };
        if of.as_ref().is_some_and(|domain| !there(domain)) {
            return Err(refused(libc::ESRCH));
        }
        state.accounts.now += 1;
        act(&mut state.accounts).map_err(refused)
    }
}

impl Accounts for Fake {
    /// The first vCPU uses all that is used.
    fn usage(&self, domain: DomId, part: Part) -> Result<Usage> {
        let vcpus = match self.state().domains.get(&domain) {
            Some(domain) => domain.vcpus,
            None => 1,
        };
        self.with("read what it used", Some(domain), |kept| {
            let used = kept.used.get(&domain).copied().unwrap_or(0);
            let user = match part {
                Part::All | Part::Vcpu(0) => used,
                Part::Vcpu(vcpu) if vcpu >= vcpus => return Err(libc::EINVAL),
                Part::Vcpu(_) | Part::Besides => 0,
            };
            Ok(Usage {
                version: XENO_INTERFACE_VERSION,
                domid: domain,
                cpu: USAGE_NO_CPU,
                tsc_hz: 1_000_000_000,
                at: kept.now,
                user,
                ..Usage::ZERO
            })
        })
    }

    fn books(&self) -> Result<Books> {
        self.with("read the books of the CPUs", None, |kept| {
            Ok(Books {
                nr_cpus: 1,
                tsc_hz: 1_000_000_000,
                elapsed: kept.now,
                idle: kept.now,
                ..Books::ZERO
            })
        })
    }

    fn ledger_head(&self, of: Option<DomId>) -> Result<LedgerHead> {
        self.with("read what is remembered of the usage record", of, |kept| {
            let chain = kept.chains.get(&of.unwrap_or(LEDGER_OF_MACHINE));
            let (count, head) = chain.copied().unwrap_or_default();
            Ok(LedgerHead {
                serial: of.map_or(0, serial),
                count,
                head,
                ..LedgerHead::ZERO
            })
        })
    }

    fn ledger_append(
        &self,
        of: Option<DomId>,
        from: u64,
        count: u64,
        head: [u8; LEDGER_HASH],
    ) -> Result<()> {
        self.with("have the usage record's growth remembered", of, |kept| {
            let chain = kept.chains.entry(of.unwrap_or(LEDGER_OF_MACHINE));
            let chain = chain.or_default();
            if count <= chain.0 {
                return Err(libc::EEXIST);
            }
            if from != chain.0 {
                return Err(libc::EXDEV);
            }
            *chain = (count, head);
            Ok(())
        })
    }

    fn ended(&self, index: u64) -> Result<(u64, Option<LedgerEnded>)> {
        self.with("read what domains used that are gone", None, |kept| {
            let found = kept.ended.get(index as usize).copied();
            Ok((kept.ended.len() as u64, found))
        })
    }
}
