//! The machine: its interrupts, devices, console, ports, registers and power.

use guest_runtime::abi::{RemoteShutdown, ShutdownReason, errno, nr, sched};
use guest_runtime::hypercall::{call, sched_op};
use guest_runtime::{check, check_eq, frames, instructions, say, trap};

use crate::{either, ids};

/// Step: every operation on physical devices.
pub fn devices(_: [u64; 5]) -> i64 {
    let page = frames::allocate();
    for operation in 0..40 {
        if operation == 6 || operation == 7 {
            continue; // Every domain's: the virtual privilege level and the port map.
        }
        page.clear();
        page.write(0, u64::from(ids().own));
        let result = call(nr::PHYSDEV_OP, [operation, page.va(), 0, 0, 0]);
        // About its own numbers, of which it has none, Xen answers an ordinary domain too.
        if !ids().ours && matches!(operation, 4 | 5 | 23) {
            continue;
        }
        if !(-4095..0).contains(&result) {
            say!("  physdev_op {operation} answers {result:#x}");
        }
        check!((-4095..0).contains(&result), "a physdev_op is refused");
    }
    // Those that would reach hardware, with arguments that are right.
    for (operation, words) in [
        (
            13u64,
            [u64::from(ids().own) | 1 << 32, 4 | 4 << 32, 0, 0, 0],
        ),
        (21, [4, 1, 0, 0, 0]),
        (24, [0xb000_0000, 0, 0, 0, 0]),
        (25, [0x0800_0000, 0, 0, 0, 0]),
    ] {
        page.clear();
        for (at, word) in words.into_iter().enumerate() {
            page.write(at, word);
        }
        let result = call(nr::PHYSDEV_OP, [operation, page.va(), 0, 0, 0]);
        check_eq!("a device operation", result, -errno::EPERM);
    }
    frames::release(page);
    0
}

/// Step: the console, other domains' shutdown, ports and registers.
pub fn rest(_: [u64; 5]) -> i64 {
    let ids = ids();
    let mut byte = [0u8; 16];
    let result = call(nr::CONSOLE_IO, [1, 16, byte.as_mut_ptr() as u64, 0, 0]);
    check_eq!("console input", result, -errno::EPERM);
    check_eq!("what was read", byte, [0; 16]);
    for domain in [ids.own, ids.control, ids.other, ids.nobody] {
        let mut request = RemoteShutdown {
            domain_id: domain,
            reason: ShutdownReason::Crash.number(),
            ..RemoteShutdown::default()
        };
        let result = sched_op(sched::REMOTE_SHUTDOWN, &mut request);
        let wanted = if domain == ids.nobody {
            either(-errno::ESRCH, -errno::EPERM)
        } else {
            -errno::EPERM
        };
        check_eq!("remote_shutdown", result, wanted);
    }
    // Ports: without the privilege the instruction faults; with it nothing is behind it.
    check_eq!("in", trap::catch(|| input(0x60)).is_err(), true);
    let mut level = 3u64;
    check_eq!(
        "set_iopl",
        call(nr::PHYSDEV_OP, [6, &raw mut level as u64, 0, 0, 0]),
        0
    );
    for port in [0x60, 0x70, 0xcf8, 0xcfc, 0x3f8, 0x604] {
        // Ones, as a bus gives where nobody answers; Xen plays a clock and PCI's registers with nothing behind them.
        match trap::catch(|| input(port)) {
            Err(trap) => check_eq!("the fault", trap.vector, 13),
            Ok(value) => check!(!ids.ours || value == u32::MAX, "nothing is behind a port"),
        };
    }
    level = 0;
    check_eq!(
        "set_iopl",
        call(nr::PHYSDEV_OP, [6, &raw mut level as u64, 0, 0, 0]),
        0
    );
    // The interrupt controller's base, the microcode, a performance counter, a memory type.
    for register in [0x1b, 0x79, 0xc1, 0x200, 0xc000_0080, 0xc000_0082] {
        let written = trap::catch(|| instructions::wrmsr(register, 0x1234_5000));
        if let Ok(()) = written {
            let read = trap::catch(|| instructions::rdmsr(register));
            check_eq!(
                "a register that took a value",
                read.is_ok_and(|value| value == 0x1234_5000),
                false
            );
        } else {
            check!(true, "a register that faults");
        }
    }
    0
}

fn input(port: u16) -> u32 {
    let value;
    // SAFETY: reads a port, where nothing is for this domain; a fault comes back to `catch`.
    unsafe { core::arch::asm!("in eax, dx", in("dx") port, out("eax") value) };
    value
}
