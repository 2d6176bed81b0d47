//! Proves that a domain's accounts can be read without a call, by it and by the control domain and nobody else: what lies
//! in the usage area is what the call tells, rows are never seen half written, nothing of it can be written or become
//! anything else, and what is mapped stays when its domain goes. And that the machine's books add up while domains run.
//!
//! xtask: memory=512M
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

mod books;
mod ours;
mod theirs;

use core::sync::atomic::AtomicU64;

use guest_runtime::abi::usage::Usage;
use guest_runtime::abi::usage_area::{UsageArea, UsageRow};
use guest_runtime::abi::xeno::XenoCommand;
use guest_runtime::abi::{DOMID_SELF, errno};
use guest_runtime::control::xeno_op;
use guest_runtime::page_table::bits;
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, guest, skip};
use guests::{accepted, accounts, balance, refused};

guest!(usage_area, main);

const RW: u64 = bits::KERNEL_RW | bits::NX;
const RO: u64 = bits::KERNEL_RO | bits::NX;
/// The caller, as a domain's number.
const SELF: u16 = DOMID_SELF as u16;

fn main() {
    if !accounts::are_kept(SELF) {
        skip!("another hypervisor, which keeps no such accounts");
        return;
    }
    ours::agrees_with_the_call();
    ours::counts_on();
    ours::cannot_be_written();
    ours::wrong_questions();
    balance::kept("a child that reads its own", theirs::reads_its_own);
    balance::kept("a child's, read by its parent", theirs::read_by_the_parent);
    balance::kept("a child's that goes meanwhile", theirs::outlives_its_domain);
    balance::kept("of many vCPUs", theirs::of_many_vcpus);
    balance::kept("books", books::add_up);
}

/// The first frame of a domain's area.
fn frame_of(domain: u16) -> u64 {
    let mut question = accounts::frame_question(domain, 0);
    accepted(
        "a question for the frame",
        xeno_op(XenoCommand::UsageFrame, &mut question),
    );
    check_eq!("frames of a small domain", question.nr_frames, 1);
    question.mfn
}

/// What a window shows, as words.
fn words(window: &Window) -> &'static [AtomicU64] {
    // SAFETY: a page that stays mapped while the words are used; all of it is read as atomic words.
    unsafe { core::slice::from_raw_parts(window.va() as *const AtomicU64, 512) }
}

/// The area that a window shows.
fn area(window: &Window) -> UsageArea<'static> {
    UsageArea::new(words(window)).expect("the frame is a usage area")
}

/// A window that shows an area, by the domain's name; read-only.
fn shown(domain: u16) -> Window {
    let window = Window::new();
    accepted("map", window.show_as(domain, frame_of(domain), RO));
    window
}

/// What the call told of a vCPU is what the row has.
fn is_same(row: &UsageRow, told: &Usage) {
    check_eq!("user", row.user, told.user);
    check_eq!("kernel", row.kernel, told.kernel);
    check_eq!("hypervisor", row.hypervisor, told.hypervisor);
    check_eq!("guaranteed", row.guaranteed, told.guaranteed);
    check_eq!("extra", row.extra, told.extra);
    check_eq!("switches", row.switches, told.switches);
    check_eq!(
        "events",
        (row.events_sent, row.events_received),
        (told.events_sent, told.events_received)
    );
    check_eq!("grants", row.grants_used, told.grants_used);
    check_eq!("stolen", row.stolen_at(told.at), told.stolen);
}

/// Nothing of what is not ours to map is mapped.
fn refuses(what: &str, window: &Window, domain: u16, mfn: u64) {
    for flags in [RO, RW] {
        refused(what, window.show_as(domain, mfn, flags));
    }
}

/// A question that is refused, and answered nothing.
fn is_refused(what: &str, domain: u16, index: u32, error: i64) {
    let mut question = accounts::frame_question(domain, index);
    check_eq!(
        what,
        xeno_op(XenoCommand::UsageFrame, &mut question),
        -error
    );
    check!(question.mfn == 0, "and nothing is told");
}

/// Numbers of errors that the parts ask for.
const NO_SUCH: i64 = errno::EINVAL;
