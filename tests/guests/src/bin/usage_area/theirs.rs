//! Areas of other domains, and what others may do with ours.

use guest_runtime::abi::errno;
use guest_runtime::abi::usage_area::USAGE_AREA_MAGIC;
use guest_runtime::abi::xeno::XenoCommand;
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::control::xeno_op;
use guest_runtime::instructions::rdtsc;
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, child, control, events};
use guests::accounts::{self, usage_of};
use guests::{accepted, refused};

use crate::{NO_SUCH, RO, RW, SELF, area, frame_of, is_refused, is_same, refuses, shown};

/// The name of ring 0's own frames.
const DOMID_XEN: u16 = 0x7ff2;

fn with_child(part: impl FnOnce(&mut Child)) {
    if let Some(mut child) = builder::running(Plan::SMALL) {
        part(&mut child);
        check!(child.destroy_and_wait(), "the child is gone");
    }
}

/// Step: an ordinary domain reads its own, and not its parent's, whose frame this is.
fn reads([parents, ..]: [u64; 5]) -> i64 {
    let window = shown(SELF);
    let own = area(&window);
    for _ in 0..20 {
        let told = usage_of(SELF, 0);
        is_same(&own.row(0).expect("a row"), &told);
    }
    refused("writable", window.show_as(SELF, frame_of(SELF), RW));
    window.close();
    let window = Window::new();
    is_refused("another's frame", 0, 0, errno::EPERM);
    for name in [SELF, 0, DOMID_XEN] {
        refuses("another's, by that name", &window, name, parents);
    }
    window.close();
    0
}

/// Step: reads its row so often, while others make it come and go; how many were not whole.
fn reads_often([turns, ..]: [u64; 5]) -> i64 {
    let window = shown(SELF);
    let own = area(&window);
    let (mut torn, mut last) = (0, 0);
    for _ in 0..turns {
        let row = own.row(0).expect("a row");
        let whole = row.guaranteed + row.extra == row.used() && row.used() >= last;
        torn += i64::from(!whole);
        last = row.used();
    }
    window.close();
    torn
}

/// A child reads its own area, undisturbed and with its parent cutting its turns.
pub fn reads_its_own() {
    with_child(|child| {
        child.check("the child's own", reads, [frame_of(SELF), 0, 0, 0, 0]);
        let before = usage_of(child.id, 0).switches;
        child.start(reads_often, [40_000, 0, 0, 0, 0]);
        let answer = loop {
            // Each wake-up takes the CPU from the child, whatever it is reading.
            child::wait(&[], events::now_ns() + 130_000);
            if let Some(answer) = child.answer() {
                break answer;
            }
        };
        check_eq!("rows that were not whole", answer, 0);
        let switches = usage_of(child.id, 0).switches - before;
        check!(switches >= 2, "it was interrupted");
    });
}

/// The control domain reads any.
pub fn read_by_the_parent() {
    with_child(|child| {
        let mfn = frame_of(child.id);
        let window = Window::new();
        refused("writable", window.show(child.id, mfn));
        for name in [SELF, 0, DOMID_XEN] {
            refuses("by another's name", &window, name, mfn);
        }
        refuses(
            "ours by the child's name",
            &window,
            child.id,
            frame_of(SELF),
        );
        accepted("read-only", window.show_as(child.id, mfn, RO));
        let theirs = area(&window);
        let (head, info) = (theirs.head(), child.info().expect("the child is there"));
        check_eq!("whose it is", (head.domid, head.nr_vcpus), (child.id, 1));
        // It sleeps: nothing changes between the two.
        let told = usage_of(child.id, 0);
        let row = theirs.row(0).expect("a row");
        is_same(&row, &told);
        check_eq!("it is on no CPU", row.on_cpu(), None);
        check!(
            theirs.frames().now > info.tot_pages,
            "its pages, and those it shares with us"
        );
        // It can run now, and does not while we do.
        child.start(reads_often, [10, 0, 0, 0, 0]);
        let row = theirs.row(0).expect("a row");
        let (first, later) = (row.stolen_at(rdtsc()), usage_of(child.id, 0));
        check!(row.waits() && later.stolen >= first, "it waits for us");
        check!(
            child.wait_until(|child| child.link().is_done()),
            "it is done"
        );
        window.close();
    });
}

/// A mapped area stays readable when its domain goes, which it does at once all the same.
pub fn outlives_its_domain() {
    let Some(child) = builder::running(Plan::SMALL) else {
        return;
    };
    let (id, mfn) = (child.id, frame_of(child.id));
    let window = shown(id);
    let before = area(&window).head();
    check!(child.destroy_and_wait(), "the child is gone");
    is_refused("its frame is told no more", id, 0, errno::ESRCH);
    let after = area(&window).head();
    check_eq!(
        "whose it was",
        (after.serial, after.domid),
        (before.serial, id)
    );
    check!(after.besides.kernel > 0, "what it used lies there still");
    let second = Window::new();
    refuses("it is not mapped again", &second, id, mfn);
    refuses("by our name neither", &second, SELF, mfn);
    second.close();
    // A domain of the same number has another.
    with_child(|child| {
        check!(frame_of(child.id) != mfn, "the frame is not free");
    });
    window.close();
}

/// Domains with many vCPUs have longer areas.
pub fn of_many_vcpus() {
    for (vcpus, frames) in [(22, 1), (23, 2), (48, 2), (49, 3), (64, 3)] {
        let id = match control::create(&control::ordinary(vcpus)) {
            Ok(id) => id,
            Err(error) => {
                check_eq!("a domain", error, 0);
                return;
            }
        };
        let window = Window::new();
        for index in 0..frames {
            let mut question = accounts::frame_question(id, index);
            accepted(
                "a question",
                xeno_op(XenoCommand::UsageFrame, &mut question),
            );
            check_eq!("how many there are", question.nr_frames, frames);
            accepted("map", window.show_as(id, question.mfn, RO));
            let begins = window.read(0) == USAGE_AREA_MAGIC;
            check_eq!("what begins it", begins, index == 0);
        }
        is_refused("one more", id, frames, NO_SUCH);
        window.close();
        accepted("destroy", control::destroy(id));
        check!(builder::is_gone_soon(id), "it is gone");
    }
}
