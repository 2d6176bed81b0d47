//! The area of the domain itself.

use guest_runtime::abi::usage::{USAGE_BESIDES, USAGE_OF_DOMAIN, Usage};
use guest_runtime::abi::usage_area::UsageHeld;
use guest_runtime::abi::xeno::XenoCommand;
use guest_runtime::abi::{errno, mmu, mmuext, nr};
use guest_runtime::control::xeno_op;
use guest_runtime::frames;
use guest_runtime::hypercall::{self, call, mmu_update_for, mmuext};
use guest_runtime::instructions::rdtsc;
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq};
use guests::accounts::{self, usage_of};
use guests::{lending, refused};

use crate::{NO_SUCH, RW, SELF, area, frame_of, is_refused, is_same, shown};

/// What a call tells is what lies there, to the cycle.
pub fn agrees_with_the_call() {
    let window = shown(SELF);
    let area = area(&window);
    let head = area.head();
    check_eq!("rows", head.nr_vcpus, 1);
    for _ in 0..20 {
        let told = usage_of(SELF, 0);
        let row = area.row(0).expect("vCPU 0 has a row");
        is_same(&row, &told);
        check_eq!("where it runs", row.on_cpu(), Some(told.cpu as u16));
        check_eq!("up to when", row.open_since, told.open_since);
        check_eq!("cycles a second", head.tsc_hz, told.tsc_hz);
        check!(row.slice <= row.period, "what it has reserved");
        check!(
            row.terms == 1 && row.weight != 0,
            "it takes part in what is left"
        );
    }
    let besides = usage_of(SELF, USAGE_BESIDES);
    let shown = area.head().besides;
    check_eq!("besides", shown.hypervisor, besides.hypervisor);
    check_eq!("elsewhere", shown.elsewhere, besides.elsewhere);
    let told = usage_of(SELF, USAGE_OF_DOMAIN);
    let (frames, overhead) = (area.frames(), area.overhead());
    let halves = |sum: u128| [sum as u64, (sum >> 64) as u64];
    let held = |what, shown: UsageHeld, now_and_peak, over_time| {
        check_eq!(what, (shown.now, shown.peak), now_and_peak);
        check_eq!("over time", halves(shown.over_time_at(told.at)), over_time);
    };
    let now_and_peak = (told.frames, told.frames_peak);
    held("frames", frames, now_and_peak, told.frame_cycles);
    let now_and_peak = (told.overhead, told.overhead_peak);
    held("overhead", overhead, now_and_peak, told.overhead_cycles);
    window.close();
}

/// Without a call nothing stands still: what is entered only grows, and since then the clock counts.
pub fn counts_on() {
    let window = shown(SELF);
    let area = area(&window);
    let mut before = area.row(0).expect("a row");
    let mut at_most = before.used_at(rdtsc());
    for turn in 0..2000 {
        if turn % 8 == 0 {
            // Has what is open entered.
            usage_of(SELF, 0);
        }
        let row = area.row(0).expect("a row");
        let now = row.used_at(rdtsc());
        check!(
            row.used() >= before.used() && row.used() <= now,
            "it only grows"
        );
        check!(now > at_most || turn % 8 == 0, "and with the clock");
        check_eq!(
            "both ways to cut it up",
            row.guaranteed + row.extra,
            row.used()
        );
        (before, at_most) = (row, now);
    }
    window.close();
}

/// It is read, and nothing else, whatever it is to be used as.
pub fn cannot_be_written() {
    let mfn = frame_of(SELF);
    let window = Window::new();
    refused("writable", window.show_as(SELF, mfn, RW));
    refused(
        "writable",
        hypercall::update_va_mapping(window.va(), mfn << 12 | RW),
    );
    for table in [
        mmuext::PIN_L1,
        mmuext::PIN_L2,
        mmuext::PIN_L3,
        mmuext::PIN_L4,
    ] {
        refused("a table", mmuext(table, mfn, 0));
    }
    refused("a root", mmuext(mmuext::NEW_BASEPTR, mfn, 0));
    let number = [guest_runtime::abi::MmuUpdate {
        ptr: mfn << 12 | mmu::MACHPHYS,
        val: 1,
    }];
    refused("its number", mmu_update_for(&number, u64::from(SELF)).0);
    let store = [guest_runtime::abi::MmuUpdate {
        ptr: mfn << 12 | 0x200,
        val: 0,
    }];
    refused("a store", mmu_update_for(&store, u64::from(SELF)).0);
    let list = [mfn];
    refused(
        "descriptors",
        call(nr::SET_GDT, [list.as_ptr() as u64, 8, 0, 0, 0]),
    );
    // Lent, it is nobody's: neither read nor written.
    for read_only in [true, false] {
        lending::lend(lending::FIRST, 0, mfn, read_only);
        let mapped = lending::map_at(window.va(), SELF, lending::FIRST, read_only);
        check!(mapped.is_err(), "a grant of it");
        lending::take_back(lending::FIRST);
    }
    window.close();
    // Shown, it is no place for an answer.
    let window = shown(SELF);
    let before = area(&window).row(0).expect("a row");
    let usage = [XenoCommand::Usage as u64, window.va(), 0, 0, 0];
    refused("an answer into it", call(nr::XENO_OP, usage));
    let page = frames::allocate();
    let question = accounts::question(SELF, 0);
    // SAFETY: a page of ours, which nothing else uses.
    unsafe { (page.va() as *mut Usage).write(question) };
    check_eq!(
        "as into any page",
        call(nr::XENO_OP, [XenoCommand::Usage as u64, page.va(), 0, 0, 0]),
        0
    );
    frames::release(page);
    refused(
        "writable when it is mapped",
        hypercall::update_va_mapping(window.va(), mfn << 12 | RW),
    );
    let after = area(&window).row(0).expect("a row");
    check!(after.used() >= before.used(), "it is what it was");
    window.close();
}

/// Wrong questions are refused and change nothing.
pub fn wrong_questions() {
    is_refused("a frame it has not", SELF, 1, NO_SUCH);
    is_refused("a frame nobody has", SELF, u32::MAX, NO_SUCH);
    is_refused("nobody's", 0x7000, 0, errno::ESRCH);
    let mut question = accounts::frame_question(SELF, 0);
    question.version += 1;
    check_eq!(
        "another version",
        xeno_op(XenoCommand::UsageFrame, &mut question),
        -NO_SUCH
    );
    let nowhere = [XenoCommand::UsageFrame as u64, 0, 0, 0, 0];
    check_eq!("no memory", call(nr::XENO_OP, nowhere), -errno::EFAULT);
}
