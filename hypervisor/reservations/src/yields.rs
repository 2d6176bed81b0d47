//! Yielding: the vCPUs of one domain on one CPU take turns within what they are promised.
//!
//! They form a ring, so that one can be found from another. Nothing is given to anybody: whoever yields keeps its
//! budget, and nobody of another domain comes later for it.

use crate::decide::{Kind, Next};
use crate::heap::NONE;
use crate::queue::{Gone, Queue, Seat};
use crate::server::{Server, Stage};

/// Siblings that one call looks at: a guest has 64 vCPUs.
const SIBLINGS: u32 = 64;

impl Queue<'_> {
    /// Lets others of its domain go first, if it runs and they wait in its class; gives up nothing it is promised. In
    /// reserved time it goes behind the one of them that is next by deadline: among equal deadlines that is all; else
    /// its own is put off to that one's, and its budget grows by what its rate gives until then. In left-over time its
    /// turn is over, and it goes behind the one with the least virtual time.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn yield_now(&mut self, now: u64, seat: Seat) -> Result<Next, Gone> {
        let now = self.advance(now);
        let who = self.find(seat)?;
        if self.running == Some(who) && self.get(who).is_some_and(Server::can_run) {
            match self.kind {
                Kind::Guaranteed => self.go_behind_by_deadline(who, now),
                Kind::Extra => self.go_behind_by_weight(who, now),
                Kind::Idle => {}
            }
        }
        Ok(self.what_follows(now))
    }

    fn go_behind_by_deadline(&mut self, who: u32, now: u64) {
        let Some(&server) = self.get(who) else {
            return;
        };
        // A change waits for the end of this very period.
        if server.next_terms.is_some() || server.stage != Stage::Here || server.budget == 0 {
            return;
        }
        let latest = now.saturating_add(server.terms.map_or(0, |terms| terms.period()));
        let behind = self
            .siblings(who)
            .filter(|&other| self.ready.contains(&self.slots, other))
            .filter_map(|other| self.get(other))
            .map(|other| (other.deadline, other.turn))
            .filter(|&(deadline, _)| deadline <= latest.max(server.deadline))
            .min();
        if let Some((deadline, _)) = behind {
            let turn = self.next_turn();
            if let Some(server) = self.get_mut(who) {
                server.turn = turn;
                server.put_off(deadline);
            }
            self.refile(who);
        }
    }

    fn go_behind_by_weight(&mut self, who: u32, now: u64) {
        self.turn_ends = self.turn_ends.min(now);
        let behind = self
            .siblings(who)
            .filter(|&other| self.extra.contains(&self.slots, other))
            .filter_map(|other| self.get(other))
            .map(|other| other.virtual_time)
            .min();
        if let Some(virtual_time) = behind {
            let turn = self.next_turn();
            if let Some(server) = self.get_mut(who) {
                server.turn = turn;
                server.virtual_time = server.virtual_time.max(virtual_time);
            }
            self.refile(who);
        }
    }

    /// The others of its domain on this CPU.
    pub(crate) fn siblings(&self, who: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = who;
        let mut looked = 0;
        core::iter::from_fn(move || {
            at = self.get(at)?.ring_next;
            looked += 1;
            (at != who && at != NONE && looked < SIBLINGS).then_some(at)
        })
    }

    pub(crate) fn enter_ring(&mut self, who: u32, sibling: Option<u32>) {
        let next = sibling
            .and_then(|other| self.get(other))
            .map(|other| other.ring_next);
        let (previous, next) = match (sibling, next) {
            (Some(previous), Some(next)) => (previous, next),
            _ => (who, who),
        };
        if let Some(server) = self.get_mut(who) {
            (server.ring_previous, server.ring_next) = (previous, next);
        }
        if let Some(server) = self.get_mut(previous) {
            server.ring_next = who;
        }
        if let Some(server) = self.get_mut(next) {
            server.ring_previous = who;
        }
    }

    pub(crate) fn leave_ring(&mut self, who: u32) {
        let Some((previous, next)) = self.get(who).map(|s| (s.ring_previous, s.ring_next)) else {
            return;
        };
        if let Some(server) = self.get_mut(previous) {
            server.ring_next = next;
        }
        if let Some(server) = self.get_mut(next) {
            server.ring_previous = previous;
        }
    }
}
