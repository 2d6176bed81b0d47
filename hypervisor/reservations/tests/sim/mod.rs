//! A machine of a few CPUs whose vCPUs are watched from outside: who really ran, tick by tick, is compared with what was
//! promised. Nothing here knows deadlines or budgets: the checks are the formula of `docs/scheduling.md`.
//!
//! A CPU notices what it is to do (a timer, another's interrupt) up to B late, as if it were in a section that cannot be
//! preempted; how late is chosen anew each time.

#![allow(dead_code, unused_imports, reason = "each test uses a part of it")]

mod acts;
mod machine;
mod watched;

pub use machine::Machine;

use reservations::{Arrival, CpuBooks, Extra, Queue, Rules, Seat, Slot, Terms};

pub const SECTION: u64 = 3;
pub const QUANTUM: u64 = 10;

/// A million ticks a second, B of 3, and nothing kept back: the CPUs can be reserved to the brim.
pub fn rules() -> Rules {
    Rules::new(1_000_000, SECTION, QUANTUM, 0).unwrap()
}

pub fn terms(slice: u64, period: u64, extra: Extra) -> Terms {
    Terms::new(&rules(), slice, period, extra, Terms::USUAL_WEIGHT).unwrap()
}

/// Numbers that look random and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

pub fn storage(cpus: usize, vcpus: usize) -> (Vec<Vec<Slot>>, Vec<CpuBooks>) {
    (
        vec![vec![Slot::EMPTY; vcpus]; cpus],
        vec![CpuBooks::OFFLINE; cpus],
    )
}

/// One of a domain of its own comes and can run, at time 0.
pub fn arrive(queue: &mut Queue<'_>, tag: u64, terms: Terms) -> Seat {
    let arrival = Arrival {
        tag,
        domain: tag as u32,
        sibling: None,
        origin: 0,
        terms,
    };
    let seat = queue.arrive(0, arrival).unwrap();
    let _ = queue.up(0, seat).unwrap();
    seat
}
