//! Time is reserved, not shared out: who runs on a CPU, so that each vCPU gets what it reserved, no more and no less.
//!
//! A vCPU has [`Terms`]: ⟨slice, period, extra, weight⟩. It gets at least its slice of CPU time in every period while
//! it can run; without `extra` it gets no more than that; with `extra` it shares what nobody reserved, by weight.
//!
//! - [`Queue`]: the vCPUs of one CPU and the decision which of them runs, until when. Earliest deadline first among
//!   constant-bandwidth servers, then weighted fair sharing of what is left.
//! - [`Placement`]: which CPU has room for a reservation, and what the most is that could be granted.
//! - [`Member`], [`Search`]: the same terms for several vCPUs at once, and the most that all would get.
//! - [`InParts`]: what was granted to several, given to a few of them at a time.
//! - [`Dues`]: what a vCPU is charged, for those who decide about many.
//! - [`Allowance`]: what a domain may reserve for itself.
//! - [`Rules`]: what the machine advertises: B, the longest section that cannot be preempted, the quantum, the reserve.
//! - [`request`]: what callers ask for in the interface's words, as checked terms.
//!
//! All times are ticks of one clock of the caller's, the same on all CPUs (to within B). Storage is the caller's;
//! nothing allocates. A `Queue` belongs to one CPU and one lock: to wake a vCPU from another CPU is to lock its queue,
//! call [`Queue::wake`], and send an interrupt if the answer is [`Next::Decide`]. A `Placement` is called where domains
//! are made, changed and ended, under a lock outside all queues'.
//!
//! How ring 0 is to call it, the guarantee as a formula, and why it holds: `docs/scheduling.md`.
//!
//! # Invariants
//! - T1: the charges of the reservations on a CPU, and of those that have left it until the time they took is paid for
//!   at their rate, are at most the CPU less the reserve. A charge is (slice + B) / period, rounded up.
//! - T2: within a CPU's admitted reservations, a vCPU that can run from the beginning of a period to its end gets the
//!   period's budget before the end.
//! - T3: of guaranteed time a vCPU takes at most the period's budget and B; what it overran is taken off the budgets
//!   that follow.
//! - T4: a vCPU that slept goes on with its budget and deadline only if that is no more than its rate until the deadline;
//!   otherwise a whole period begins when it wakes.
//! - T5: nobody runs in left-over time while somebody who can run has budget left; no CPU idles while somebody on it
//!   who can run has budget left or is entitled to `extra`.
//! - T6: left-over time that two vCPUs take while both can run differs, per weight, by a turn and B at most for each.
//! - T7: no vCPU is lost: one that can run is the running one, waits by its deadline, or waits for its next period.
//! - T8: a queue's accounts add up to its last boundary less its first, to the tick.
//! - T9: each call takes O(log n) steps in a queue of n, whatever was done to the queue before.

#![no_std]
#![forbid(unsafe_code)]

mod accounts;
mod allowance;
mod decide;
mod dues;
mod events;
mod excused;
mod heap;
mod look;
mod moves;
mod parts;
mod placement;
mod queue;
mod renewals;
pub mod request;
mod rules;
mod server;
#[cfg(test)]
mod steps;
mod together;
mod wheel;
mod yields;

pub use accounts::{Account, Books};
pub use allowance::{Allowance, Exceeded};
pub use decide::{Decision, Kind, Next};
pub use dues::Dues;
pub use moves::{Arrival, Carried, Full};
pub use parts::{InParts, New, Part, Standing};
pub use placement::{Change, CpuBooks, Placement, Refusal, Release};
pub use queue::{Gone, Queue, Seat, State};
pub use rules::{Charge, Extra, Rules, RulesError, Terms, TermsError};
pub use server::Slot;
pub use together::{Charges, Goes, Member, Search};
