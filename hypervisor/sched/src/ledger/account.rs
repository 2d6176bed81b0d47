//! Accounts that others may read while they are written.

use super::usage::{CAUSES, Cause, Kind, Usage};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};

/// The account of a vCPU, part of its record.
///
/// One CPU writes it at a time: the one that the vCPU is loaded on. `waits` is for whoever has the lock of the queue that it is in.
#[derive(Debug, Default)]
pub struct VcpuAccount {
    /// Odd while it is written.
    version: AtomicU32,
    guaranteed_now: AtomicBool,
    user: AtomicU64,
    kernel: AtomicU64,
    hypervisor: [AtomicU64; CAUSES],
    guaranteed: AtomicU64,
    extra: AtomicU64,
    switches: AtomicU64,
    /// Up to when the account is, while the vCPU is in hand; 0 while it is not.
    open_since: AtomicU64,
    waited: AtomicU64,
    /// Since when it waits, or 0.
    waits_since: AtomicU64,
}

fn add(to: &AtomicU64, cycles: u64) {
    to.store(to.load(Relaxed).wrapping_add(cycles), Relaxed);
}

impl VcpuAccount {
    /// Nothing used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            guaranteed_now: AtomicBool::new(false),
            user: AtomicU64::new(0),
            kernel: AtomicU64::new(0),
            hypervisor: [const { AtomicU64::new(0) }; CAUSES],
            guaranteed: AtomicU64::new(0),
            extra: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            open_since: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            waits_since: AtomicU64::new(0),
        }
    }

    fn write(&self, change: impl FnOnce()) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        change();
        self.version.store(version.wrapping_add(2), Release);
    }

    fn read<T>(&self, look: impl Fn() -> T) -> T {
        loop {
            let version = self.version.load(Acquire);
            let seen = look();
            fence(Acquire);
            if version & 1 == 0 && self.version.load(Relaxed) == version {
                return seen;
            }
            core::hint::spin_loop();
        }
    }

    /// Says whose time the vCPU runs in from now on.
    pub(super) fn runs_in(&self, kind: Kind) {
        self.guaranteed_now.store(kind == Kind::Guaranteed, Relaxed);
    }

    /// Adds what was used up to `now`; the vCPU is in hand from there on, or not any more. Answers how much it was.
    pub(super) fn enter(
        &self,
        user: u64,
        kernel: u64,
        hypervisor: &[u64; CAUSES],
        open_since: Option<u64>,
    ) -> u64 {
        let mut all = user.wrapping_add(kernel);
        self.write(|| {
            add(&self.user, user);
            add(&self.kernel, kernel);
            for (to, cycles) in self.hypervisor.iter().zip(hypervisor) {
                add(to, *cycles);
                all = all.wrapping_add(*cycles);
            }
            let kind = match self.guaranteed_now.load(Relaxed) {
                true => &self.guaranteed,
                false => &self.extra,
            };
            add(kind, all);
            self.open_since.store(open_since.unwrap_or(0), Relaxed);
        });
        all
    }

    /// A CPU is given to it.
    pub(super) fn count_switch(&self) {
        add(&self.switches, 1);
    }

    /// Whether it could run and does not, from now on.
    pub fn waits(&self, waits: bool, now: impl FnOnce() -> u64) {
        let since = self.waits_since.load(Relaxed);
        if waits == (since != 0) {
            return;
        }
        let now = now();
        if waits {
            self.waits_since.store(now.max(1), Relaxed);
        } else {
            // CPUs' counters may differ by a little.
            add(&self.waited, now.saturating_sub(since));
            self.waits_since.store(0, Relaxed);
        }
    }

    /// What was used up to the last boundary that the account was written at.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.read(|| self.look())
    }

    /// All that was used up to `now`, what is not entered yet included.
    #[must_use]
    pub fn used_until(&self, now: u64) -> u64 {
        let (usage, since) = self.read(|| (self.look(), self.open_since.load(Relaxed)));
        let open = match since {
            0 => 0,
            since => now.saturating_sub(since),
        };
        usage.used().wrapping_add(open)
    }

    /// Up to when the account is, if the vCPU is in hand.
    #[must_use]
    pub fn open_since(&self) -> Option<u64> {
        Some(self.open_since.load(Relaxed)).filter(|since| *since != 0)
    }

    /// How long it has waited until `now`.
    #[must_use]
    pub fn stolen_until(&self, now: u64) -> u64 {
        let open = match self.waits_since.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        self.waited.load(Relaxed).wrapping_add(open)
    }

    fn look(&self) -> Usage {
        let get = |place: &AtomicU64| place.load(Relaxed);
        Usage {
            user: get(&self.user),
            kernel: get(&self.kernel),
            hypervisor: self.hypervisor.each_ref().map(get),
            guaranteed: get(&self.guaranteed),
            extra: get(&self.extra),
            elsewhere: 0,
            stolen: get(&self.waited),
            switches: get(&self.switches),
        }
    }
}

/// An account that any CPU adds to: of a domain, for what was done for it elsewhere and by vCPUs that it has no more; of
/// the machine, for domains that are gone. Reading it is no snapshot while others add.
#[derive(Debug, Default)]
pub struct SharedAccount {
    user: AtomicU64,
    kernel: AtomicU64,
    hypervisor: [AtomicU64; CAUSES],
    guaranteed: AtomicU64,
    extra: AtomicU64,
    elsewhere: AtomicU64,
    stolen: AtomicU64,
    switches: AtomicU64,
}

impl SharedAccount {
    /// Nothing used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            user: AtomicU64::new(0),
            kernel: AtomicU64::new(0),
            hypervisor: [const { AtomicU64::new(0) }; CAUSES],
            guaranteed: AtomicU64::new(0),
            extra: AtomicU64::new(0),
            elsewhere: AtomicU64::new(0),
            stolen: AtomicU64::new(0),
            switches: AtomicU64::new(0),
        }
    }

    /// Adds what was done for it while none of its vCPUs was in hand.
    pub fn add_elsewhere(&self, cause: Cause, cycles: u64) {
        if let Some(to) = self.hypervisor.get(cause as usize) {
            to.fetch_add(cycles, Relaxed);
            self.elsewhere.fetch_add(cycles, Relaxed);
        }
    }

    /// Adds what an account had that is closed.
    pub fn add(&self, closed: &Usage) {
        let more = |to: &AtomicU64, cycles: u64| {
            to.fetch_add(cycles, Relaxed);
        };
        more(&self.user, closed.user);
        more(&self.kernel, closed.kernel);
        for (to, cycles) in self.hypervisor.iter().zip(closed.hypervisor) {
            more(to, cycles);
        }
        more(&self.guaranteed, closed.guaranteed);
        more(&self.extra, closed.extra);
        more(&self.elsewhere, closed.elsewhere);
        more(&self.stolen, closed.stolen);
        more(&self.switches, closed.switches);
    }

    /// What it has.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let get = |place: &AtomicU64| place.load(Relaxed);
        Usage {
            user: get(&self.user),
            kernel: get(&self.kernel),
            hypervisor: self.hypervisor.each_ref().map(get),
            guaranteed: get(&self.guaranteed),
            extra: get(&self.extra),
            elsewhere: get(&self.elsewhere),
            stolen: get(&self.stolen),
            switches: get(&self.switches),
        }
    }
}
