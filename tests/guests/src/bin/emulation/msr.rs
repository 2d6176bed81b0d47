//! Model-specific registers: those a kernel needs, and #GP(0) for all others.

use guest_runtime::context::Context;
use guest_runtime::instructions::{rdmsr, wrmsr};
use guest_runtime::trap::catch;
use guest_runtime::{abi, check, check_eq, hypercall, skip};
use guests::code;
use guests::expect::{Expected, Mode, run_and_compare};

code! {
    code_rdmsr: "rdmsr";
    code_wrmsr: "wrmsr";
    code_gs_load: "mov rbx, gs:[rax]";
}

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const EFER: u32 = 0xc000_0080;
const NON_CANONICAL: [u64; 3] = [0x8000_0000_0000, 1 << 63, 0xffff_7fff_ffff_ffff];

pub fn all() {
    bases();
    readable();
    efer();
    unknown();
    user_mode();
}

fn read(register: u32) -> Option<u64> {
    catch(|| rdmsr(register)).ok()
}

/// Whether a write was taken.
fn write(register: u32, value: u64) -> bool {
    catch(|| wrmsr(register, value)).is_ok()
}

/// The three bases: readable, writable with canonical addresses, and one with set_segment_base.
fn bases() {
    let pairs = [
        (FS_BASE, abi::segment_base::FS),
        (GS_BASE, abi::segment_base::GS_KERNEL),
        (KERNEL_GS_BASE, abi::segment_base::GS_USER),
    ];
    for (register, which) in pairs {
        let before = read(register);
        check!(before.is_some(), "a base can be read");
        for value in [
            0u64,
            0x1234_5678_9abc,
            0xffff_ffff_8010_0000,
            0xffff_8800_0000_0000,
        ] {
            check!(write(register, value), "a base can be written");
            check_eq!("a base as read", read(register), Some(value));
            check_eq!(
                "set_segment_base",
                hypercall::set_segment_base(which, value ^ 0x1000),
                0
            );
            check_eq!(
                "a base set by hypercall",
                read(register),
                Some(value ^ 0x1000)
            );
        }
        for value in NON_CANONICAL {
            check!(!write(register, value), "a base that is not canonical");
        }
        check_eq!(
            "the base after refusals",
            read(register),
            Some(0xffff_8800_0000_1000)
        );
        check!(write(register, before.unwrap_or(0)), "the base restored");
    }
    // The active base is used at once.
    let word = 0x600d_f00du64;
    check!(
        write(GS_BASE, &raw const word as u64 - 0x40),
        "a base for use"
    );
    let trap = guest_runtime::trap::run(&Context {
        rax: 0x40,
        ..Mode::Kernel.context(code_gs_load())
    });
    check_eq!(
        "a load by the base",
        (trap.vector, trap.context.rbx),
        (6, word)
    );
    check!(write(GS_BASE, 0), "the base at rest");
}

fn readable() {
    const APIC_BASE: u32 = 0x1b;
    match read(APIC_BASE) {
        Some(value) => check_eq!("APIC base", value & !0xff, 0xfee0_0900),
        None => check_eq!(
            "APIC base is hidden with the feature",
            guest_runtime::instructions::cpuid(1, 0).edx >> 9 & 1,
            0
        ),
    };
    check_eq!(
        "memory types are the interface's",
        read(0x277),
        Some(0x0000_0501_0007_0406)
    );
    check_eq!("no bank of machine checks", read(0x179).is_some(), true);
    let vendor = guest_runtime::instructions::cpuid(0, 0).ebx;
    if vendor == 0x756e_6547 {
        check!(read(0x1a0).is_some(), "MISC_ENABLE");
        check!(write(0x8b, 0), "microcode revision: zero can be written");
        check!(read(0x8b).is_some(), "microcode revision");
    } else {
        skip!("MISC_ENABLE and the microcode revision are another vendor's");
    }
    check_eq!(
        "TSC_AUX can be written if RDTSCP is there",
        write(0xc000_0103, 0),
        guest_runtime::instructions::cpuid(0x8000_0001, 0).edx >> 27 & 1 == 1
    );
}

/// EFER shows long mode with system calls and no-execute; it does not change.
fn efer() {
    let value = read(EFER);
    check_eq!("EFER", value.map(|value| value & 0xd01), Some(0xd01));
    let value = value.unwrap_or(0xd01);
    for bit in [0, 8, 11] {
        // A write that would change it is refused or ignored.
        write(EFER, value ^ 1 << bit);
        check_eq!("EFER after an attack", read(EFER), Some(value));
    }
}

fn unknown() {
    // Of the processor's own control, none may be written; several must not be read either.
    for register in [
        0x174u32,
        0x175,
        0x176,
        0xc000_0081,
        0xc000_0082,
        0xc000_0083,
        0xc000_0084,
        0x0bad_c0de,
        u32::MAX,
    ] {
        check!(
            !write(register, 0x1234),
            "a register that is the hypervisor's own is not written"
        );
    }
    for register in [0x0bad_c0deu32, u32::MAX, 0x4000_00ff, 0x34] {
        let trap = catch(|| rdmsr(register)).err();
        let got = trap.map(|trap| (trap.vector, trap.error));
        check_eq!("a register that does not exist", got, Some((13, Some(0))));
    }
}

/// User mode reads and writes none.
fn user_mode() {
    for register in [u64::from(GS_BASE), u64::from(EFER), 0x277, 0x10] {
        let context = Context {
            rcx: register,
            rax: 0,
            rdx: 0,
            ..Mode::User.context(code_rdmsr())
        };
        run_and_compare("rdmsr in user mode", &context, Expected::fault_code(13, 0));
        let context = Context {
            rip: Mode::User.context(code_wrmsr()).rip,
            ..context
        };
        run_and_compare("wrmsr in user mode", &context, Expected::fault_code(13, 0));
    }
}
