//! A control domain that crashed is built anew from the boot modules, as the command line says, and not for ever.
//!
//! All other domains are destroyed first: who looked after their disks, consoles and store is gone with all it knew of
//! them, so they could neither go on nor be found again by the one that is built anew. It begins with a clean machine.
//!
//! # Invariants
//! - R1: at most [`RESTARTS`] times within a minute; after that the machine ends as without the word.
//! - R2: all domains are taken apart before it is built again, on a stack that nothing of one is on; every frame that was
//!   free before it was first built is free again then, and if not, that is told.
//! - R3: devices are quiet before the first frame of any domain is given back: those of the control domain may write into
//!   what others lent it.
//! - R4: no record is ended before all domains are taken apart: until then each may hold frames of the others. It is not
//!   built anew beside a record that stayed.

use crate::arch::smp;
use crate::boot::{self, give_up};
use crate::debug::sections;
use crate::device::{self, timer};
use crate::domain::{self, Domain, life, park, switch, teardown, unfinished};
use crate::hypercall::descriptor;
use crate::memory::{alloc, heap};
use crate::mmu::{audit, work};
use crate::sync::{Lock, rank};
use crate::{error, info, schedule};
use ::clock::{AtMost, NS_PER_SECOND};
use boot_info::params::LogLevel;
use core::sync::atomic::{AtomicU64, Ordering};

/// How often within a minute.
const RESTARTS: usize = 3;

static LIMIT: Lock<AtMost<RESTARTS>, rank::Restarts> =
    Lock::new(AtMost::within(60 * NS_PER_SECOND));
/// Frames that were free before the control domain was built, or were made tables of devices that it made known, of
/// domains' numbers or of vCPUs, which stay; and bytes of the heap in use.
static BEFORE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Notes what is free. Before the control domain is first built.
pub fn note_before() {
    // The one page that the first descriptor table makes for all.
    descriptor::empty_page();
    // And what names the first domains.
    domain::table::prepare();
    BEFORE[0].store(free_or_kept(), Ordering::Relaxed);
    BEFORE[1].store(heap::usage().0 as u64, Ordering::Relaxed);
}

fn free_or_kept() -> u64 {
    let kept = domain::table::leaves() + schedule::kept_frames();
    alloc::free_frames() + boot::memory::device_tables() + kept
}

/// Builds the control domain anew, if it was not done too often already.
pub fn try_again() {
    // Released before the stack is left.
    let may = LIMIT.lock().take(timer::now_ns());
    if may {
        switch::on_fresh_stack(build_anew);
    }
    error!(
        "the control domain crashed {} times within a minute and is not built again; look at its kernel, its command \
         line and its initial file system",
        RESTARTS + 1
    );
}

extern "C" fn build_anew() -> ! {
    switch::vacate();
    // Unpacking a kernel takes as long as it takes; `switch::begin` ends this.
    smp::watch::rests();
    sections::is_for(sections::Kind::TakingApart);
    device::quiesce::all();
    sections::begin();
    take_others_apart();
    if let Some(dom) = domain::control() {
        take_apart(dom);
    }
    if let Some(dom) = domain::all().next() {
        give_up(format_args!(
            "domain {} cannot be taken apart whole, so the control domain is not built anew; restart the machine",
            dom.id.0
        ));
    }
    park::end();
    info!("the control domain is built anew");
    match domain::initial::build(boot::boot_info(), boot::params()) {
        Ok(vcpu) => switch::begin(vcpu),
        Err(why) => give_up(format_args!("{why}")),
    }
}

/// Destroys all domains but the control domain. Their records stay until that is taken apart, too (R4).
fn take_others_apart() {
    // None that still runs, or could be told anything, sees another go.
    domain::all().for_each(life::begin_to_die);
    schedule::choose_nobody();
    for dom in domain::all().filter(|dom| !dom.privileged) {
        let frames = dom.pages.load(Ordering::Acquire);
        teardown::give_all_in_parts(dom);
        info!(
            "domain {} is destroyed with the control domain that looked after it: it had {frames} frames",
            dom.id.0
        );
    }
}

fn take_apart(dom: &'static Domain) {
    let frames_before = dom.pages.load(Ordering::Acquire);
    teardown::give_all_in_parts(dom);
    let left = teardown::end(dom, unfinished::let_others_in);
    // Building is not done in parts: nobody is there who could wait.
    work::extend_section();
    let [frames, bytes] = BEFORE.each_ref().map(|b| b.load(Ordering::Relaxed));
    let free = free_or_kept();
    let used = heap::usage().0 as u64;
    if left == 0 && free == frames && used == bytes {
        info!(
            "the crashed control domain is taken apart: {frames_before} frames given back, {free} free as before it was built"
        );
    } else {
        error!(
            "the crashed control domain is taken apart, but not all is back: {left} of its frames are referred to, {free} \
             frames are free of {frames}, {used} bytes of the heap in use instead of {bytes}"
        );
    }
    if boot::params().loglvl == LogLevel::Debug && audit::run_and_say(None).is_none() {
        info!("audit: not enough memory for its counters");
    }
}
