//! Areas that the guest registers: its runstate, and a place of its own for vcpu_info.

use guest_runtime::abi::{HOLE_START, VcpuRunstateInfo, errno, mmuext, nr, sched, vcpu};
use guest_runtime::frames;
use guest_runtime::hypercall::{call, mmuext as op, vcpu_op};
use guest_runtime::page_table;
use guest_runtime::{Global, check, check_eq, events};
use guests::channels::{VIRQ_TIMER, bind_virq, close};
use guests::{accepted, refused};

static AREA: Global<VcpuRunstateInfo> = Global::new(VcpuRunstateInfo {
    state: 9,
    ..VcpuRunstateInfo::ZERO
});
const RUNNING: usize = 0;
const BLOCKED: usize = 2;
const MILLISECOND: u64 = 1_000_000;

pub fn all() {
    runstate();
    vcpu_info();
}

fn runstate() {
    let bad = vcpu_op(vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut {
        HOLE_START + (1 << 39)
    });
    refused("a runstate area in the hypervisor", bad);
    let registered = vcpu_op(vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut {
        AREA.as_ptr() as u64
    });
    accepted("a runstate area", registered);
    let Ok(port) = bind_virq(VIRQ_TIMER, 0) else {
        return;
    };
    events::set_port_mask(port, false);
    let mut last = sample();
    check_eq!("the state is running", last.state as usize, RUNNING);
    for _ in 0..5 {
        let mut at = [events::now_ns() + 5 * MILLISECOND, 0];
        accepted("set", vcpu_op(vcpu::SET_SINGLESHOT_TIMER, 0, &mut at));
        accepted("block", call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]));
        let now = sample();
        check_eq!("the state is running", now.state as usize, RUNNING);
        let slept = now.time[BLOCKED] - last.time[BLOCKED];
        check!(
            (3 * MILLISECOND..3000 * MILLISECOND).contains(&slept),
            "time spent blocked"
        );
        let sum = |area: &VcpuRunstateInfo| area.time.iter().sum::<u64>();
        check_eq!(
            "times add up to the time between",
            sum(&now) - sum(&last),
            now.state_entry_time - last.state_entry_time
        );
        check!(
            now.state_entry_time <= events::now_ns(),
            "it has run since a time that has passed"
        );
        check!(
            now.time
                .iter()
                .zip(last.time)
                .all(|(now, last)| *now >= last),
            "no time goes back"
        );
        last = now;
    }
    events::disable();
    accepted("close", close(port));
    events::set_port_mask(port, true);
}

fn sample() -> VcpuRunstateInfo {
    let area = AREA.get();
    VcpuRunstateInfo {
        state_entry_time: area.state_entry_time & !(1 << 63),
        ..area
    }
}

/// It moves once, to memory that stays writable; pending events and the mask move with it.
fn vcpu_info() {
    let page = frames::allocate();
    let register = |mfn: u64, offset: u64| vcpu_op(vcpu::REGISTER_VCPU_INFO, 0, &mut [mfn, offset]);
    for (mfn, offset) in [
        (page.mfn(), 4096 - 63),
        (page.mfn(), 4096),
        (page.mfn(), 0xffff_ffc0),
        (1 << 40, 0),
        (u64::MAX, 0),
        (0xfee00, 0),
        (page_table::root().mfn(), 0),
    ] {
        refused("a bad place for vcpu_info", register(mfn, offset));
    }
    let old = events::vcpu_address();
    let time = events::time_of(old);
    accepted("a new place for vcpu_info", register(page.mfn(), 192));
    let new = page.va() + 192;
    events::vcpu_moved(new);
    check_eq!("the mask came along", events::mask(), 1);
    let moved = events::time_of(new);
    check!(
        moved.tsc_to_system_mul != 0 && moved.tsc_timestamp >= time.tsc_timestamp,
        "the time came along"
    );
    check_eq!("a second move", register(page.mfn(), 256), -errno::EINVAL);
    check!(
        page.read(0) == 0 && page.read(32) == 0,
        "nothing beside it was written"
    );
    // It is written by the hypervisor from now on, so it can never be a table.
    accepted("read-only for us", page_table::protect(page));
    refused(
        "pin of the frame with vcpu_info",
        op(mmuext::PIN_L1, page.mfn(), 0),
    );
    accepted("writable for us", page_table::unprotect(page));
    events::clear_all();
}
