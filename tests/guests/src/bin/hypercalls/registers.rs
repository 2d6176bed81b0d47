//! Registers across a hypercall: all but RAX, RCX, R11 and the arguments keep their value, XMM registers and flags
//! too; nothing of the hypervisor shows in RCX and R11.

use guest_runtime::abi::nr;
use guest_runtime::context::{Context, flags};
use guest_runtime::trap::{self, Trap};
use guest_runtime::{check, check_eq, hypercall};
use guests::code;
use guests::code::code_syscall;
use guests::expect::Mode;

code! {
    code_stub_17: "mov eax, 17", "call r15";
    code_simd: "movq xmm3, rbx", "movq xmm15, r12", "xor eax, eax", "mov al, 17", "syscall",
        "movq rbp, xmm3", "movq r13, xmm15";
    code_selectors: "mov eax, 17", "syscall", "mov r12d, ds", "mov r13d, es", "mov r14d, fs", "mov r15d, gs";
}

pub fn all() {
    for number in [
        nr::XEN_VERSION,
        99,
        nr::CONSOLE_IO,
        nr::SCHED_OP,
        nr::MMU_UPDATE,
        nr::MULTICALL,
    ] {
        for set in [
            0,
            flags::CF | flags::ZF | flags::OF,
            flags::DF,
            flags::ID,
            flags::AC,
            flags::IF,
        ] {
            let mut context = Mode::Kernel.context(code_syscall());
            context.rflags |= set;
            (context.rax, context.rdi, context.rsi, context.rdx) = (number, 0, 0, 0);
            compare(&context, &trap::run(&context), 2);
        }
    }
    page_stub();
    simd();
    selectors();
}

fn compare(context: &Context, after: &Trap, length: u64) {
    check_eq!(
        "it returns behind the instruction",
        (after.vector, after.context.rip),
        (6, context.rip + length)
    );
    let kept = ["rbx", "rbp", "r9", "r12", "r13", "r14", "r15"];
    for ((name, got), (_, wanted)) in after.context.general().into_iter().zip(context.general()) {
        if kept.contains(&name) {
            check_eq!(name, got, wanted);
        }
    }
    check_eq!("rsp", after.context.rsp, context.rsp);
    check_eq!("rflags", after.context.rflags & !flags::RF, context.rflags);
    let rcx = after.context.rcx;
    check!(
        rcx == 0 || rcx == context.rcx || rcx == after.context.rip,
        "RCX holds nothing of the hypervisor's"
    );
    let r11 = after.context.r11;
    let quiet = r11 == 0
        || r11 == context.r11
        || r11 & !flags::RF & !flags::IF == context.rflags & !flags::IF;
    check!(quiet, "R11 holds nothing of the hypervisor's");
}

/// Through the page RCX and R11 survive as well.
fn page_stub() {
    let stub = hypercall::page() + 32 * nr::XEN_VERSION;
    let context = Context {
        r15: stub,
        rdi: 0,
        rsi: 0,
        ..Mode::Kernel.context(code_stub_17())
    };
    let after = trap::run(&context);
    check_eq!(
        "the stub returns",
        (after.vector, after.context.rip),
        (6, context.rip + 8)
    );
    check_eq!(
        "its result",
        after.context.rax as i64,
        hypercall::by_syscall(nr::XEN_VERSION, [0; 5])
    );
    check_eq!("RCX by the page", after.context.rcx, context.rcx);
    check_eq!("R11 by the page", after.context.r11, context.r11);
    check_eq!("RSP by the page", after.context.rsp, context.rsp);
    for number in 0..128u64 {
        // Every stub but iret's starts alike: it saves RCX and R11.
        // SAFETY: reads the page the hypervisor filled.
        let bytes =
            unsafe { ((hypercall::page() + 32 * number) as *const [u8; 3]).read_volatile() };
        check_eq!("a stub saves RCX and R11", bytes, [0x51, 0x41, 0x53]);
    }
}

fn simd() {
    let context = Context {
        rdi: 0,
        rsi: 0,
        ..Mode::Kernel.context(code_simd())
    };
    let after = trap::run(&context);
    check_eq!("a low XMM register", after.context.rbp, context.rbx);
    check_eq!("a high XMM register", after.context.r13, context.r12);
}

fn selectors() {
    let context = Context {
        rdi: 0,
        rsi: 0,
        ..Mode::Kernel.context(code_selectors())
    };
    let after = trap::run(&context);
    let got = [
        after.context.r12,
        after.context.r13,
        after.context.r14,
        after.context.r15,
    ];
    check_eq!("data selectors", got, [0; 4]);
}
