//! What is still taken of a CPU for a while: charges by the time at which they become free, in coarse steps.

use crate::rules::Charge;

const STEPS: usize = 32;

/// Charges to be given back. Each is held until its time and an eighth of the longest period at most beyond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    held: [Charge; STEPS],
    /// The step that `now` is in: those before it have been given back.
    step: u64,
}

impl Wheel {
    pub(crate) const EMPTY: Self = Self {
        held: [Charge::NOTHING; STEPS],
        step: 0,
    };

    /// Holds a charge until `at`. The wheel spans almost four of the longest periods; no deadline lies further ahead
    /// than nine eighths of one (a period, and what a stretch or a yield adds to it), so none is given back early.
    pub(crate) fn hold(&mut self, charge: Charge, at: u64, width: u64) {
        let last = self.step.saturating_add(STEPS as u64 - 1);
        let step = (at / width.max(1)).clamp(self.step, last);
        if let Some(held) = self.held.get_mut((step % STEPS as u64) as usize) {
            *held = held.and(charge);
        }
    }

    /// Gives back what is free at `now`. At most as many steps as the wheel has.
    pub(crate) fn turn(&mut self, now: u64, width: u64) -> Charge {
        let to = now / width.max(1);
        let mut free = Charge::NOTHING;
        for _ in 0..STEPS {
            if self.step >= to {
                return free;
            }
            if let Some(held) = self.held.get_mut((self.step % STEPS as u64) as usize) {
                free = free.and(core::mem::take(held));
            }
            self.step += 1;
        }
        self.step = self.step.max(to);
        free
    }

    /// All that is held.
    pub(crate) fn collect_held(&self) -> Charge {
        self.held
            .iter()
            .fold(Charge::NOTHING, |sum, &held| sum.and(held))
    }
}
