//! How long a vCPU ran, waited, slept and was off (invariant S1).

/// What a vCPU is doing, by the numbers of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It runs.
    Running = 0,
    /// It could run and waits for a CPU: stolen time. Also while its budget is used up.
    Runnable = 1,
    /// It has nothing to do.
    Blocked = 2,
    /// It is down, or paused.
    Offline = 3,
}

/// A vCPU's state, since when, and the time it has spent in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runstate {
    /// The state it is in.
    pub state: State,
    /// When it entered it, on the system clock.
    pub entry_time_ns: u64,
    /// Completed time in each state, by its number.
    pub time_ns: [u64; 4],
}

impl Runstate {
    /// Set in the entry time that a guest sees while the record is being written, if it asked for that.
    pub const UPDATE_FLAG: u64 = 1 << 63;

    /// A record that begins now.
    #[must_use]
    pub const fn new(state: State, now_ns: u64) -> Self {
        Self {
            state,
            entry_time_ns: now_ns,
            time_ns: [0; 4],
        }
    }

    /// Closes the open interval and enters `to`. A clock that went backwards closes it with no time; the
    /// record then goes on from where it was.
    pub fn transition(&mut self, to: State, now_ns: u64) {
        let elapsed_ns = now_ns.saturating_sub(self.entry_time_ns);
        if let Some(total) = self.time_ns.get_mut(self.state as usize) {
            // Cannot wrap: all four together are the entry time less where it began.
            *total = total.wrapping_add(elapsed_ns);
        }
        self.entry_time_ns = self.entry_time_ns.max(now_ns);
        self.state = to;
    }

    /// As [`Self::transition`], but the open interval goes on where the state stays the same.
    pub fn enter(&mut self, to: State, now_ns: u64) {
        if self.state != to {
            self.transition(to, now_ns);
        }
    }

    /// The record with the open interval counted, as the guest's call for it answers. State and entry
    /// time stay those of the record.
    #[must_use]
    pub fn snapshot(&self, now_ns: u64) -> Self {
        let mut counted = *self;
        counted.transition(self.state, now_ns);
        Self {
            entry_time_ns: self.entry_time_ns,
            ..counted
        }
    }

    /// The guest's record as little-endian words: state, entry time, the four times.
    #[must_use]
    pub const fn words(&self) -> [u64; 6] {
        let [running, runnable, blocked, offline] = self.time_ns;
        [
            self.state as u64,
            self.entry_time_ns,
            running,
            runnable,
            blocked,
            offline,
        ]
    }
}
