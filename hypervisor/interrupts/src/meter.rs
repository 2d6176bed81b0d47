//! When a source storms.

/// The window in which interrupts are counted.
pub const WINDOW_NS: u64 = 10_000_000;
/// Interrupts of one source in a window that are still believed: 200,000 a second, several times what a fast disk or
/// network card needs and a fraction of what a CPU can take.
pub const LIMIT: u32 = 2_000;

/// What is to be done about an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Tell whoever listens.
    Deliver,
    /// Tell whoever listens, and mask the source until this time: it interrupts too often.
    Storm {
        /// System time in nanoseconds.
        until_ns: u64,
    },
}

/// Counts one source's interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    since_ns: u64,
    count: u32,
}

impl Meter {
    /// Nothing counted yet.
    pub const NEW: Self = Self {
        since_ns: 0,
        count: 0,
    };

    /// An interrupt arrived.
    pub fn arrived(&mut self, now_ns: u64) -> Verdict {
        let end = self.since_ns.saturating_add(WINDOW_NS);
        // A clock that goes back starts a window as well.
        if now_ns >= end || now_ns < self.since_ns {
            *self = Self {
                since_ns: now_ns,
                count: 1,
            };
            return Verdict::Deliver;
        }
        self.count = self.count.saturating_add(1);
        if self.count < LIMIT {
            Verdict::Deliver
        } else {
            Verdict::Storm { until_ns: end }
        }
    }
}
