//! Accounts that others may read while they are written. They are shown to guests as they lie here: their layout is that of
//! `guest_abi::usage_area`.

use super::usage::{CAUSES, Cause, Usage};
use core::mem::offset_of;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, fence};
use guest_abi::usage_area::{
    USAGE_AREA_EXTRA, USAGE_AREA_GUARANTEED, USAGE_AREA_NO_CPU, UsageBesides, UsageRow,
};

/// In `own_until`: no time is its end.
pub(super) const ALWAYS: u64 = u64::MAX;

/// The account of a vCPU.
///
/// One CPU writes it at a time: the one that the vCPU is loaded on. `waits` is for whoever has the lock of the queue that it
/// is in, `has_terms` for whoever decides on those, and `count_received` for anybody.
#[derive(Debug)]
#[repr(C)]
pub struct VcpuAccount {
    /// Odd while it is written.
    version: AtomicU32,
    /// The CPU that has the vCPU in hand.
    cpu: AtomicU16,
    flags: AtomicU16,
    /// Up to when the account is, while the vCPU is in hand.
    open_since: AtomicU64,
    user: AtomicU64,
    kernel: AtomicU64,
    hypervisor: [AtomicU64; CAUSES],
    guaranteed: AtomicU64,
    extra: AtomicU64,
    switches: AtomicU64,
    /// How long it waited; while it waits, that less the reading at which it began: negative.
    waited: AtomicU64,
    slice_ns: AtomicU32,
    period_ns: AtomicU32,
    weight: AtomicU32,
    terms: AtomicU32,
    events_sent: AtomicU64,
    events_received: AtomicU64,
    grants_used: AtomicU64,
    _reserved: u64,
}

macro_rules! same_layout {
    ($ours:ty, $theirs:ty: $($our:ident = $their:ident),*) => {
        const _: () = {
            assert!(size_of::<$ours>() == size_of::<$theirs>());
            $( assert!(offset_of!($ours, $our) == offset_of!($theirs, $their)); )*
        };
    };
}
pub(super) use same_layout;

same_layout!(VcpuAccount, UsageRow: version = seq, cpu = cpu, flags = flags, open_since = open_since, user = user,
    kernel = kernel, hypervisor = hypervisor, guaranteed = guaranteed, extra = extra, switches = switches,
    waited = stolen, slice_ns = slice, period_ns = period, weight = weight, terms = terms,
    events_sent = events_sent, events_received = events_received, grants_used = grants_used);

/// From when on an account is open, and on which CPU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    pub cpu: u16,
    pub since: u64,
}

/// What a vCPU can have of its CPU's time, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Nanoseconds in each period that are its own; 0 for none.
    pub slice_ns: u32,
    /// Nanoseconds.
    pub period_ns: u32,
    /// Its part in time that nobody reserved.
    pub weight: u32,
    /// Whether it takes part in that.
    pub extra: bool,
}

fn add(to: &AtomicU64, cycles: u64) {
    to.store(to.load(Relaxed).wrapping_add(cycles), Relaxed);
}

impl Default for VcpuAccount {
    fn default() -> Self {
        Self::new()
    }
}

impl VcpuAccount {
    /// Nothing used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            version: AtomicU32::new(0),
            cpu: AtomicU16::new(USAGE_AREA_NO_CPU),
            flags: AtomicU16::new(0),
            open_since: AtomicU64::new(0),
            user: AtomicU64::new(0),
            kernel: AtomicU64::new(0),
            hypervisor: [const { AtomicU64::new(0) }; CAUSES],
            guaranteed: AtomicU64::new(0),
            extra: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            slice_ns: AtomicU32::new(0),
            period_ns: AtomicU32::new(0),
            weight: AtomicU32::new(0),
            terms: AtomicU32::new(0),
            events_sent: AtomicU64::new(0),
            events_received: AtomicU64::new(0),
            grants_used: AtomicU64::new(0),
            _reserved: 0,
        }
    }

    /// Closes the account of a vCPU that is in nobody's hand and waits for nothing: it is as new. Answers what it had.
    pub fn close(&self) -> Usage {
        let mut closed = self.usage(0);
        // Others still count these: nothing is lost between reading and clearing.
        closed.events_sent = self.events_sent.swap(0, Relaxed);
        closed.events_received = self.events_received.swap(0, Relaxed);
        closed.grants_used = self.grants_used.swap(0, Relaxed);
        self.write(|| {
            self.cpu.store(USAGE_AREA_NO_CPU, Relaxed);
            self.flags.store(0, Relaxed);
            self.open_since.store(0, Relaxed);
            for place in [&self.user, &self.kernel, &self.guaranteed, &self.extra] {
                place.store(0, Relaxed);
            }
            self.hypervisor
                .iter()
                .for_each(|place| place.store(0, Relaxed));
            self.switches.store(0, Relaxed);
            self.waited.store(0, Relaxed);
        });
        for place in [&self.slice_ns, &self.period_ns, &self.weight, &self.terms] {
            place.store(0, Relaxed);
        }
        closed
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

    /// Adds what was used up to `now`; the vCPU is in hand from there on, or not any more. Until `own_until` ([`ALWAYS`], or
    /// 0) it ran in its own time. Answers how much it was.
    pub(super) fn enter(
        &self,
        user: u64,
        kernel: u64,
        hypervisor: &[u64; CAUSES],
        open: Option<Open>,
        own_until: u64,
    ) -> u64 {
        let mut all = user.wrapping_add(kernel);
        self.write(|| {
            add(&self.user, user);
            add(&self.kernel, kernel);
            for (to, cycles) in self.hypervisor.iter().zip(hypervisor) {
                add(to, *cycles);
                all = all.wrapping_add(*cycles);
            }
            let own = match own_until {
                ALWAYS => all,
                // From where the account was last written up to there, of what was its in between.
                until => until.saturating_sub(self.open_since.load(Relaxed)).min(all),
            };
            add(&self.guaranteed, own);
            add(&self.extra, all - own);
            self.cpu
                .store(open.map_or(USAGE_AREA_NO_CPU, |open| open.cpu), Relaxed);
            if let Some(open) = open {
                self.open_since.store(open.since, Relaxed);
                let flags = if own_until > open.since {
                    USAGE_AREA_GUARANTEED
                } else {
                    0
                };
                self.flags.store(flags, Relaxed);
            }
        });
        all
    }

    /// As [`Self::enter`], of so much for a switch alone, when the vCPU comes in hand.
    #[inline]
    pub(super) fn opens(&self, switch: u64, open: Open, own: bool) {
        let of_kind = if own { &self.guaranteed } else { &self.extra };
        let flags = if own { USAGE_AREA_GUARANTEED } else { 0 };
        self.write(|| {
            if let Some(to) = self.hypervisor.get(Cause::Switch as usize) {
                add(to, switch);
            }
            add(of_kind, switch);
            self.cpu.store(open.cpu, Relaxed);
            self.open_since.store(open.since, Relaxed);
            self.flags.store(flags, Relaxed);
        });
    }

    /// A CPU is given to it.
    pub(super) fn count_switch(&self) {
        add(&self.switches, 1);
    }

    /// It sent an event. On its CPU.
    pub fn count_sent(&self) {
        add(&self.events_sent, 1);
    }

    /// A port that notifies it became pending, on whichever CPU.
    pub fn count_received(&self) {
        self.events_received.fetch_add(1, Relaxed);
    }

    /// It began to use a grant. On its CPU.
    pub fn count_used(&self) {
        add(&self.grants_used, 1);
    }

    /// Whether it could run and does not, from now on.
    pub fn waits(&self, waits: bool, now: impl FnOnce() -> u64) {
        let waited = self.waited.load(Relaxed);
        if waits == is_negative(waited) {
            return;
        }
        let now = now();
        let then = match waits {
            // A clock that has counted less than was waited is no clock.
            true => waited.wrapping_sub(now.max(waited.wrapping_add(1))),
            // CPUs' counters may differ by a little.
            false => Some(waited.wrapping_add(now))
                .filter(|sum| !is_negative(*sum))
                .unwrap_or(0),
        };
        self.waited.store(then, Relaxed);
    }

    /// Shows what it can have.
    pub fn has_terms(&self, terms: &Shown) {
        self.slice_ns.store(terms.slice_ns, Relaxed);
        self.period_ns.store(terms.period_ns, Relaxed);
        self.weight.store(terms.weight, Relaxed);
        let extra = if terms.extra { USAGE_AREA_EXTRA } else { 0 };
        self.terms.store(extra, Relaxed);
    }

    /// What was used up to the last boundary that the account was written at; what it waited, until `now`.
    #[must_use]
    pub fn usage(&self, now: u64) -> Usage {
        Usage {
            stolen: self.stolen_until(now),
            switches: self.switches.load(Relaxed),
            events_sent: self.events_sent.load(Relaxed),
            events_received: self.events_received.load(Relaxed),
            grants_used: self.grants_used.load(Relaxed),
            ..self.read(|| self.look())
        }
    }

    /// All that was used until now, what is not entered yet included. The reading is to be of the counter of the CPU that
    /// has the vCPU in hand: its account is open since one of that.
    #[must_use]
    pub fn used_until(&self, now_on: impl FnOnce(u16) -> u64) -> u64 {
        let (usage, open) = self.read(|| (self.look(), self.on_cpu().zip(self.open_since())));
        let open = open.map_or(0, |(cpu, since)| now_on(cpu).saturating_sub(since));
        usage.used().wrapping_add(open)
    }

    /// The CPU that has the vCPU in hand.
    #[must_use]
    pub fn on_cpu(&self) -> Option<u16> {
        Some(self.cpu.load(Relaxed)).filter(|cpu| *cpu != USAGE_AREA_NO_CPU)
    }

    /// Up to when the account is, if the vCPU is in hand.
    #[must_use]
    pub fn open_since(&self) -> Option<u64> {
        self.on_cpu().map(|_| self.open_since.load(Relaxed))
    }

    /// How long it has waited until `now`.
    #[must_use]
    pub fn stolen_until(&self, now: u64) -> u64 {
        match self.waited.load(Relaxed) {
            waits if is_negative(waits) => waits.wrapping_add(now),
            waited => waited,
        }
    }

    fn look(&self) -> Usage {
        let get = |place: &AtomicU64| place.load(Relaxed);
        Usage {
            user: get(&self.user),
            kernel: get(&self.kernel),
            hypervisor: self.hypervisor.each_ref().map(get),
            guaranteed: get(&self.guaranteed),
            extra: get(&self.extra),
            ..Usage::ZERO
        }
    }
}

fn is_negative(word: u64) -> bool {
    (word as i64) < 0
}

/// An account that any CPU adds to: of a domain, for what was done for it elsewhere and by vCPUs that it has no more; of
/// the machine, for domains that are gone. Reading it is no snapshot while others add.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SharedAccount {
    user: AtomicU64,
    kernel: AtomicU64,
    hypervisor: [AtomicU64; CAUSES],
    guaranteed: AtomicU64,
    extra: AtomicU64,
    elsewhere: AtomicU64,
    stolen: AtomicU64,
    switches: AtomicU64,
    events_sent: AtomicU64,
    events_received: AtomicU64,
    grants_used: AtomicU64,
    grants_lent: AtomicU64,
}

same_layout!(SharedAccount, UsageBesides: user = user, kernel = kernel, hypervisor = hypervisor, guaranteed = guaranteed,
    extra = extra, elsewhere = elsewhere, stolen = stolen, switches = switches,
    events_sent = events_sent, events_received = events_received, grants_used = grants_used, grants_lent = grants_lent);

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
            events_sent: AtomicU64::new(0),
            events_received: AtomicU64::new(0),
            grants_used: AtomicU64::new(0),
            grants_lent: AtomicU64::new(0),
        }
    }

    /// A port became pending that notifies a vCPU which is not there.
    pub fn count_received(&self) {
        self.events_received.fetch_add(1, Relaxed);
    }

    /// Somebody began to use a grant of its.
    pub fn count_lent(&self) {
        self.grants_lent.fetch_add(1, Relaxed);
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
        more(&self.events_sent, closed.events_sent);
        more(&self.events_received, closed.events_received);
        more(&self.grants_used, closed.grants_used);
        more(&self.grants_lent, closed.grants_lent);
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
            events_sent: get(&self.events_sent),
            events_received: get(&self.events_received),
            grants_used: get(&self.grants_used),
            grants_lent: get(&self.grants_lent),
        }
    }
}
