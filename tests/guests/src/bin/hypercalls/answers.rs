//! Each family rightly used, as far as no other guest does: what it must answer.

use guest_runtime::abi::{DOMID_SELF, HOLE_START, errno, nr, sched, vcpu};
use guest_runtime::frames;
use guest_runtime::hypercall::{self, call, vcpu_op};
use guest_runtime::{check, check_eq};
use guests::{accepted, refused};

fn version<T>(operation: u64, argument: &mut T) -> i64 {
    call(
        nr::XEN_VERSION,
        [operation, &raw mut *argument as u64, 0, 0, 0],
    )
}

fn assist(command: u64, kind: u64) {
    accepted("vm_assist", call(nr::VM_ASSIST, [command, kind, 0, 0, 0]));
}

pub fn all() {
    versions();
    consoles();
    vcpus();
    memory();
    debug_registers();
    little_ones();
}

fn versions() {
    let mut text = [0xffu8; 64];
    accepted("extraversion", version(1, &mut text));
    check!(text[..16].contains(&0), "extraversion is terminated");
    check_eq!(
        "extraversion is 16 bytes",
        text[16..].iter().all(|&byte| byte == 0xff),
        true
    );
    let mut capabilities = [0u8; 1024];
    accepted("capabilities", version(3, &mut capabilities));
    check!(
        capabilities
            .windows(14)
            .any(|word| word == b"xen-3.0-x86_64"),
        "capabilities name xen-3.0-x86_64"
    );
    let mut start = 0u64;
    accepted("platform parameters", version(5, &mut start));
    check_eq!("the hypervisor's range starts there", start, HOLE_START);
    let mut features = [0u32, 0];
    accepted("features", version(6, &mut features));
    // Preserved A/D bits, highmem assist, available bits of grants, initial domain, virtual nodes, direct mapping.
    check_eq!("features", features[1], 0x2_28e0);
    assist(0, 3);
    let mut features = [0u32, 0];
    accepted("features", version(6, &mut features));
    check_eq!("with extended CR3 asked for", features[1], 0x2_28f0);
    assist(1, 3);
    for submap in [1u32, 2, 77] {
        let mut features = [submap, 7];
        check_eq!("another submap", version(6, &mut features), -errno::EINVAL);
        check_eq!("is not written", features[1], 7);
    }
    check_eq!("page size", call(nr::XEN_VERSION, [7, 0, 0, 0, 0]), 4096);
    check_eq!("with an argument", version(7, &mut 0u64), -errno::EINVAL);
    let mut handle = [1u64; 2];
    accepted("handle", version(8, &mut handle));
    check_eq!("the initial domain's handle", handle, [0, 0]);
    let mut line = [0xffu8; 1025];
    accepted("command line", version(9, &mut line));
    check!(line[..1024].contains(&0), "the command line is terminated");
    check_eq!("and has 1024 bytes", line[1024], 0xff);
}

fn consoles() {
    let text = b"hypercalls: written at an odd address\n";
    let mut buffer = [0u8; 64];
    buffer[1..=text.len()].copy_from_slice(text);
    let written = call(
        nr::CONSOLE_IO,
        [0, text.len() as u64, buffer.as_ptr() as u64 + 1, 0, 0],
    );
    check!(written >= 0, "console write");
    check_eq!(
        "write of nothing",
        call(nr::CONSOLE_IO, [0, 0, buffer.as_ptr() as u64, 0, 0]),
        0
    );
    let read = call(nr::CONSOLE_IO, [1, 16, buffer.as_mut_ptr() as u64, 0, 0]);
    check_eq!("read without input", read, 0);
}

fn vcpus() {
    check_eq!("vCPU 0 is up", vcpu_op(vcpu::IS_UP, 0, &mut 0u64), 1);
    for id in [
        32u64,
        64,
        511,
        4096,
        8191,
        1 << 16,
        (1 << 31) - 1,
        0xffff_ffff,
    ] {
        refused(
            "is_up of a vCPU that does not exist",
            vcpu_op(vcpu::IS_UP, id, &mut 0u64),
        );
        refused(
            "up of a vCPU that does not exist",
            vcpu_op(vcpu::UP, id, &mut 0u64),
        );
        refused(
            "its singleshot timer",
            vcpu_op(vcpu::SET_SINGLESHOT_TIMER, id, &mut [0u64; 2]),
        );
        refused(
            "its vcpu_info",
            vcpu_op(vcpu::REGISTER_VCPU_INFO, id, &mut [0u64; 2]),
        );
    }
    refused(
        "initialise of a running vCPU",
        vcpu_op(vcpu::INITIALISE, 0, &mut [0u64; 646]),
    );
    accepted("up of a running vCPU", vcpu_op(vcpu::UP, 0, &mut 0u64));
    let mut state = [0u64; 6];
    let result = vcpu_op(vcpu::GET_RUNSTATE_INFO, 0, &mut state);
    check!(
        result == -errno::ENOSYS || (result == 0 && state[0] as u32 == 0),
        "this vCPU is running"
    );
}

fn memory() {
    let mut list = [0u64; 3];
    accepted(
        "machphys_mapping",
        call(nr::MEMORY_OP, [12, &raw mut list as u64, 0, 0, 0]),
    );
    check_eq!("the list starts there", list[0], HOLE_START);
    check!(
        list[1] > list[0] && list[1] <= HOLE_START + (1 << 39),
        "and ends in its slot"
    );
    let highest = (0..512).map(frames::pfn_to_mfn).max().unwrap_or(0);
    check!(
        list[2] > highest && list[2] <= (list[1] - list[0]) / 8,
        "it reaches beyond our frames"
    );
    let pages = guest_runtime::entry::start_info().nr_pages as i64;
    let mut domain = DOMID_SELF as u16;
    check!(
        call(nr::MEMORY_OP, [4, &raw mut domain as u64, 0, 0, 0]) >= pages,
        "maximum_reservation"
    );
    let mut map = [[0u32; 5]; 128];
    let mut argument = [128u64, map.as_mut_ptr() as u64];
    accepted(
        "machine_memory_map",
        call(nr::MEMORY_OP, [10, argument.as_mut_ptr() as u64, 0, 0, 0]),
    );
    let entries = argument[0] as u32 as usize;
    check!((1..=128).contains(&entries), "the map has entries");
    let ram = map.iter().take(entries).filter(|entry| entry[4] == 1);
    let bytes: u64 = ram
        .map(|entry| u64::from(entry[3]) << 32 | u64::from(entry[2]))
        .sum();
    check!(bytes >= pages as u64 * 4096, "it has at least our memory");
    let mut argument = [1u64, map.as_mut_ptr() as u64];
    let short = call(nr::MEMORY_OP, [10, argument.as_mut_ptr() as u64, 0, 0, 0]);
    check!(
        short < 0 || argument[0] as u32 <= 1,
        "a short buffer is respected"
    );
}

/// Breakpoints may not be set in the hypervisor, nor general detect.
fn debug_registers() {
    let set = |register: u64, value: u64| call(nr::SET_DEBUGREG, [register, value, 0, 0, 0]);
    let get = |register: u64| call(nr::GET_DEBUGREG, [register, 0, 0, 0, 0]);
    for register in 0..4 {
        accepted(
            "a breakpoint address",
            set(register, 0xffff_ffff_8000_1000 + register),
        );
        check_eq!(
            "as read",
            get(register),
            0xffff_ffff_8000_1000u64.wrapping_add(register) as i64
        );
        for bad in [
            HOLE_START,
            HOLE_START + (7 << 39),
            0x8000_0000_0000,
            1 << 63,
        ] {
            check_eq!(
                "a breakpoint in the hypervisor",
                set(register, bad),
                -errno::EPERM
            );
        }
        check_eq!(
            "unchanged",
            get(register),
            0xffff_ffff_8000_1000u64.wrapping_add(register) as i64
        );
        accepted("cleared", set(register, 0));
    }
    // What is set, and what it then reads as; a refusal leaves what was there.
    for (value, wanted) in [
        (0, 0xffff_0ff0),
        (0xffff, 0xffff_efff),
        (0x4005, 0xffff_4ff5),
    ] {
        for register in [6, 4] {
            accepted("DR6", set(register, value));
            check_eq!("DR6 as read", get(6), wanted);
            check_eq!("DR6 with high bits", set(register, 1 << 32), -errno::EINVAL);
            check_eq!("DR6 as it was", get(4), wanted);
        }
    }
    accepted("DR6", set(6, 0xffff_0ff0));
    for (value, wanted) in [
        (0, 0x400),
        (0xd800, 0x400),
        (0x300, 0x700),
        (0x355, 0x755),
        (0x1_0001, 0x1_0401),
        (0x3_0002, 0x3_0402),
        (0x2_0000, 0x2_0400),
        (0x4_0001, 0x4_0401),
        (0xffff_0300, 0xffff_0700),
    ] {
        for register in [7, 5] {
            accepted("DR7", set(register, value));
            check_eq!("DR7 as read", get(7), wanted);
            check_eq!("general detect", set(register, 1 << 13), -errno::EPERM);
            for slot in 0..4 {
                for enable in [1, 2] {
                    let ports = enable << (2 * slot) | 2 << (16 + 4 * slot);
                    check_eq!("a breakpoint on ports", set(register, ports), -errno::EPERM);
                }
            }
            check_eq!("DR7 with high bits", set(register, 1 << 32), -errno::EINVAL);
            check_eq!("DR7 as it was", get(5), wanted);
        }
    }
    accepted("DR7", set(7, 0));
    for register in [8, 16, 31, 0x7fff_ffff] {
        check_eq!("no such register", set(register, 0), -errno::ENODEV);
        check_eq!("reading it", get(register), -errno::ENODEV);
    }
    accepted("register numbers have 32 bits", set(1 << 32, 0));
}

fn little_ones() {
    accepted("yield", call(nr::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]));
    accepted("timer off", call(nr::SET_TIMER_OP, [0; 5]));
    accepted(
        "stack_switch",
        hypercall::stack_switch(guest_runtime::trap::trap_stack_top()),
    );
    for kind in [0, 2, 3, 5] {
        let result = call(nr::VM_ASSIST, [0, kind, 0, 0, 0]);
        check!(
            result == 0 || result == -errno::ENOSYS || result == -errno::EINVAL,
            "vm_assist answers"
        );
    }
    refused(
        "an assist that does not exist",
        call(nr::VM_ASSIST, [0, 63, 0, 0, 0]),
    );
}
