//! Ports and frames of a device that a child is let reach: they work for it from then on, and no longer than that.

use guest_runtime::abi::domctl::{DomctlCommand, IomemPermission, IoportPermission};
use guest_runtime::abi::{errno, nr};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, control, frames, hypercall};
use guests::{accepted, balance};

use crate::calls::about;

/// The keyboard controller's state, in which some bit is always clear. Where nobody answers all are set.
const KEYBOARD: u64 = 0x64;
/// The frame of the firmware at the end of 4 GiB, and the word in it where a CPU starts: a far jump.
const FIRMWARE: u64 = 0xf_ffff;
const FIRST_INSTRUCTION: usize = 0xff0 / 8;
const FAR_JUMP: u64 = 0xea;
const SET_IOPL: u64 = 6;

/// Step: the byte that a port gives.
fn port([port, ..]: [u64; 5]) -> i64 {
    let level = 1u32;
    let set = hypercall::call(nr::PHYSDEV_OP, [SET_IOPL, &raw const level as u64, 0, 0, 0]);
    if set != 0 {
        return set;
    }
    let value: u8;
    // SAFETY: a read of the port, which changes nothing here.
    unsafe { core::arch::asm!("in al, dx", out("al") value, in("dx") port as u16) };
    i64::from(value)
}

/// Step: the byte of the firmware's first instruction, or why its frame cannot be mapped.
fn firmware(_: [u64; 5]) -> i64 {
    let page = frames::allocate();
    accepted("hide", page_table::hide(page));
    let entry = FIRMWARE << 12 | bits::KERNEL_RO | bits::NX | bits::PCD | bits::PWT;
    let mapped = hypercall::update_va_mapping(page.va(), entry);
    let result = match mapped {
        0 => page.read(FIRST_INSTRUCTION) as i64 & 0xff,
        error => error,
    };
    accepted("a page again", page_table::unprotect(page));
    frames::release(page);
    result
}

fn let_use(child: &Child, allow_access: u8) {
    let ports = IoportPermission {
        first_port: KEYBOARD as u32,
        nr_ports: 1,
        allow_access,
        ..IoportPermission::ZERO
    };
    let result = about(DomctlCommand::IoportPermission, child.id, &ports);
    accepted("the port", result);
    let frames = IomemPermission {
        first_mfn: FIRMWARE,
        nr_mfns: 1,
        allow_access,
        ..IomemPermission::ZERO
    };
    let result = about(DomctlCommand::IomemPermission, child.id, &frames);
    accepted("the frame", result);
}

fn has_nothing(child: &mut Child) {
    let read = child.call(port, [KEYBOARD, 0, 0, 0, 0]);
    check_eq!("a port that is not its", read, 0xff);
    let read = child.call(firmware, [0; 5]);
    let wanted = match control::is_ours() {
        true => -errno::EPERM,
        false => -errno::EINVAL,
    };
    check_eq!("a frame that is not its", read, wanted);
}

/// Before, while and after; and once it is destroyed with them, nothing is left.
pub fn all() {
    balance::kept("a device's ports and frames", || {
        for taken_back in [true, false] {
            let Some(mut child) = builder::running(Plan::SMALL) else {
                return;
            };
            has_nothing(&mut child);
            let_use(&child, 1);
            let read = child.call(port, [KEYBOARD, 0, 0, 0, 0]);
            check!((0..0xff).contains(&read), "its port");
            let read = child.call(firmware, [0; 5]);
            check_eq!("its frame", read as u64, FAR_JUMP);
            if taken_back {
                let_use(&child, 0);
                has_nothing(&mut child);
            }
            check!(child.destroy_and_wait(), "the child is gone");
        }
    });
}
