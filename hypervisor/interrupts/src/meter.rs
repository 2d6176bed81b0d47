//! When a source storms.

/// The window in which interrupts are counted.
pub const WINDOW_NS: u64 = 10_000_000;
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

    /// An interrupt arrived; in one window `limit` are believed.
    pub fn arrived(&mut self, now_ns: u64, limit: u32) -> Verdict {
        let end = self.since_ns.saturating_add(WINDOW_NS);
        // A clock that goes back starts a window as well.
        if now_ns >= end || now_ns < self.since_ns {
            *self = Self {
                since_ns: now_ns,
                count: 1,
            };
        } else {
            self.count = self.count.saturating_add(1);
        }
        if self.count < limit {
            Verdict::Deliver
        } else {
            let until_ns = self.since_ns.saturating_add(WINDOW_NS);
            Verdict::Storm { until_ns }
        }
    }
}
