//! The machine is switched off as a kernel with an ACPI interpreter does it, by register values, while the guest's other
//! vCPUs keep their processors busy with calls, timers and sleep, and one of them wants to switch it off, too. Proves that what the
//! hypervisor says last, the books and the count of every frame, is said of a machine that stands still.
//!
//! xtask: hv=dom0_max_vcpus=4
//! xtask: parallel=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicBool, Ordering};

use guest_runtime::abi::{
    EnterAcpiSleep, PlatformCommand, PlatformOp, Wire, XENPF_INTERFACE_VERSION, errno, nr, sched,
};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, control, events, guest, skip};
use guests::racers::{self, Racer, give_way};

guest!(switched_off, main);

/// What starts a sleep. The emulator's machine is off with type 0; others find it in their firmware's tables.
const ENABLE: u16 = 1 << 13;
const OFF: u32 = 5;
/// Nanoseconds to a racer's next timer.
const SOON: u64 = 20_000;

static LAST: AtomicBool = AtomicBool::new(false);

fn main() {
    if !control::is_ours() {
        skip!("what a hypervisor says last is ours");
        return;
    }
    for (value, state) in [(ENABLE, 4), (0, OFF), (ENABLE | 1 << 14, OFF)] {
        check_eq!("a sleep that is none", sleep(value, state), -errno::EINVAL);
    }
    racers::start(3, keep_busy);
    racers::begin();
    let end = events::now_ns() + 20_000_000;
    while events::now_ns() < end {
        give_way();
    }
    check::finish_by(|| {
        LAST.store(true, Ordering::Release);
        sleep(ENABLE, OFF);
    });
}

fn sleep(value: u16, state: u32) -> i64 {
    let mut op = PlatformOp {
        cmd: PlatformCommand::EnterAcpiSleep as u32,
        interface_version: XENPF_INTERFACE_VERSION,
        ..PlatformOp::ZERO
    };
    let sleep = EnterAcpiSleep {
        val_a: value,
        sleep_state: state,
        ..EnterAcpiSleep::ZERO
    };
    let _ = sleep.write_to(&mut op.u);
    call(nr::PLATFORM_OP, [&raw mut op as u64, 0, 0, 0, 0])
}

fn keep_busy(racer: &mut Racer) {
    loop {
        call(nr::SET_TIMER_OP, [events::now_ns() + SOON, 0, 0, 0, 0]);
        match racer.below(4) {
            0 => give_way(),
            1 => {
                call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]);
            }
            _ => {
                for _ in 0..racer.below(2000) {
                    core::hint::spin_loop();
                }
            }
        }
        if racer.number == 0 && LAST.load(Ordering::Acquire) {
            sleep(ENABLE, OFF);
        }
    }
}
