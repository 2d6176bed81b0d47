//! Graces (crate `cpus`) on the real machine: when no CPU is at work any more with what it found before.
//!
//! A CPU is between two pieces of work where it comes in from a guest or from idling, and where one on its way out lets
//! interrupts in; what it has in hand there is the vCPU that is loaded on it, and numbers. It is *not* where a hypercall
//! lets interrupts in on its way ([`unfinished::breathe`]), nor where it waits for a flush or an answer.
//!
//! [`unfinished::breathe`]: crate::domain::unfinished::breathe

use crate::arch::{percpu, smp};
pub use ::cpus::grace::Grace;
use ::cpus::grace::{Graces, Hardware};
use ::cpus::set::CpuSet;

static GRACES: Graces = Graces::new();

/// This machine.
struct Here;

impl Hardware for Here {
    fn interrupt(&self, cpu: u32) {
        smp::call_upon(cpu);
    }
}

/// All that may find records: those that run, of which this is one whatever firmware says.
fn cpus() -> CpuSet {
    smp::online().with(percpu::current().id)
}

/// Begins a grace, after what it is for was made unknown. Does not wait.
pub fn begin() -> Grace {
    let this = percpu::current();
    // This CPU passes it on its way out.
    this.reschedule.set(true);
    GRACES.begin(this.id, cpus(), &Here)
}

/// Whether no CPU is at work any more with what it found before a grace began.
pub fn is_over(grace: Grace) -> bool {
    GRACES.is_over(grace, cpus())
}

/// To be called where this CPU is between two pieces of work: nothing that it found is in hand.
#[inline]
pub fn pass() {
    GRACES.pass(percpu::current().id);
}

/// Another CPU began one, and its interrupt is taken.
pub fn interrupted() {
    let this = percpu::current();
    if this.holds.get() {
        // In the middle of something: on the way out.
        this.reschedule.set(true);
    } else {
        pass();
    }
}
