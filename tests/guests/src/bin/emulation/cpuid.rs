//! CPUID by the forced-emulation prefix: what is shown and what must be hidden.

use guest_runtime::context::{Context, flags};
use guest_runtime::instructions::cpuid;
use guest_runtime::{check, check_eq, trap};
use guests::code;
use guests::expect::{Expected, Mode, run_and_compare};

code! {
    code_forced_cpuid: ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid";
    code_forced_nop: ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "nop";
    code_forced_rdmsr: ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "rdmsr";
    code_half_prefix: ".byte 0x0f, 0x0b, 0x78, 0x65", "nop";
    code_other_prefix: ".byte 0x0f, 0x0b, 0x6b, 0x76, 0x6d", "cpuid";
}

pub fn all() {
    signature();
    hidden_features();
    shown_features();
    prefix();
}

fn signature() {
    let leaf = cpuid(0x4000_0000, 0);
    check_eq!(
        "the hypervisor's signature",
        [leaf.ebx, leaf.ecx, leaf.edx],
        [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e]
    );
    check!(
        (0x4000_0004..=0x4000_0010).contains(&leaf.eax),
        "its last leaf"
    );
    let version = cpuid(0x4000_0001, 0).eax;
    check_eq!(
        "its version",
        i64::from(version),
        guest_runtime::hypercall::version()
    );
    check!(cpuid(0, 0).eax >= 1, "there are basic leaves");
    check!(
        cpuid(0x8000_0000, 0).eax >= 0x8000_0008,
        "there are extended leaves"
    );
}

/// Bits that would make a kernel execute what ring 3 cannot, or use what page tables here do not have.
fn hidden_features() {
    let one = cpuid(1, 0);
    for (what, bit) in [("VME", 1), ("PSE", 3), ("PGE", 13), ("PSE36", 17)] {
        check_eq!(what, one.edx >> bit & 1, 0);
    }
    for (what, bit) in [
        ("MONITOR", 3),
        ("VMX", 5),
        ("PCID", 17),
        ("X2APIC", 21),
        ("TSC_DEADLINE", 24),
    ] {
        check_eq!(what, one.ecx >> bit & 1, 0);
    }
    let seven = cpuid(7, 0);
    for (what, bit) in [("SMEP", 7), ("INVPCID", 10), ("SMAP", 20)] {
        check_eq!(what, seven.ebx >> bit & 1, 0);
    }
    for (what, bit) in [("UMIP", 2), ("PKU", 3), ("LA57", 16)] {
        check_eq!(what, seven.ecx >> bit & 1, 0);
    }
    check_eq!("1 GiB pages", cpuid(0x8000_0001, 0).edx >> 26 & 1, 0);
    check_eq!("XSAVES", cpuid(0xd, 1).eax >> 3 & 1, 0);
}

fn shown_features() {
    let one = cpuid(1, 0);
    for (what, bit) in [
        ("FPU", 0),
        ("TSC", 4),
        ("MSR", 5),
        ("PAE", 6),
        ("MCE", 7),
        ("CX8", 8),
        ("MCA", 14),
        ("CMOV", 15),
        ("PAT", 16),
        ("FXSR", 24),
        ("SSE2", 26),
    ] {
        check_eq!(what, one.edx >> bit & 1, 1);
    }
    check_eq!("HYPERVISOR", one.ecx >> 31, 1);
    let (xsave, osxsave) = (one.ecx >> 26 & 1, one.ecx >> 27 & 1);
    check_eq!("OSXSAVE goes with XSAVE from the start", osxsave, xsave);
    let extended = cpuid(0x8000_0001, 0);
    for (what, bit) in [("SYSCALL", 11), ("NX", 20), ("LM", 29)] {
        check_eq!(what, extended.edx >> bit & 1, 1);
    }
    check_eq!("the same answer twice", cpuid(1, 0), one);
}

/// The prefix is five exact bytes and only CPUID may follow.
fn prefix() {
    let context = Context {
        rax: 0x4000_0000,
        rcx: 0,
        ..Mode::Kernel.context(code_forced_cpuid())
    };
    let trap = trap::run(&context);
    check_eq!(
        "it advances over prefix and instruction",
        trap.context.rip,
        context.rip + 7
    );
    let high = |value: u64| value >> 32;
    let c = &trap.context;
    check_eq!(
        "upper halves are cleared",
        [high(c.rax), high(c.rbx), high(c.rcx), high(c.rdx)],
        [0; 4]
    );
    check_eq!("flags are kept", c.rflags & !flags::RF, context.rflags);
    let mut step = Context {
        rax: 0,
        rcx: 0,
        ..Mode::Kernel.context(code_forced_cpuid())
    };
    step.rflags |= flags::TF;
    let trap = trap::run(&step);
    check_eq!(
        "a single step over it",
        (trap.vector, trap.context.rip),
        (1, step.rip + 7)
    );
    for mode in Mode::BOTH {
        for code in [
            code_forced_nop(),
            code_forced_rdmsr(),
            code_half_prefix(),
            code_other_prefix(),
        ] {
            run_and_compare("no forced CPUID", &mode.context(code), Expected::fault(6));
        }
    }
}
