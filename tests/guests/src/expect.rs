//! Running pieces of code in either mode and comparing the frame of the trap that ends them, bit by bit.

use guest_runtime::abi::{CODE64, DATA, KERNEL_CODE64};
use guest_runtime::context::{Context, flags};
use guest_runtime::trap::{self, Trap};
use guest_runtime::{check, user};

/// Which of the guest's two modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kernel's root table; frames say privilege level 0.
    Kernel,
    /// The user root table.
    User,
}

impl Mode {
    /// Both, for loops.
    pub const BOTH: [Self; 2] = [Self::Kernel, Self::User];

    /// A context that runs `code`, with a pattern in each register; events are masked in kernel mode only.
    pub fn context(self, code: u64) -> Context {
        match self {
            Self::Kernel => Context::kernel(code, trap::run_stack()),
            Self::User => Context::user(user::address(code), user::STACK_TOP - 64),
        }
    }
}

/// What a trap must look like beyond the context it interrupted.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Which handler.
    pub vector: u16,
    /// Error code, for vectors that have one.
    pub error: Option<u64>,
    /// Bytes from the context's RIP to the one in the frame.
    pub advance: u64,
}

impl Expected {
    /// A fault without error code.
    pub const fn fault(vector: u16) -> Self {
        Self {
            vector,
            error: None,
            advance: 0,
        }
    }

    /// A fault with this error code.
    pub const fn fault_code(vector: u16, error: u64) -> Self {
        Self {
            vector,
            error: Some(error),
            advance: 0,
        }
    }

    /// A trap reported after `advance` bytes.
    pub const fn after(vector: u16, advance: u64) -> Self {
        Self {
            vector,
            error: None,
            advance,
        }
    }
}

/// Runs a context and compares everything about the trap. Returns the trap.
pub fn run_and_compare(what: &str, context: &Context, expected: Expected) -> Trap {
    let trap = trap::run(context);
    compare(what, context, &trap, expected);
    trap
}

/// Compares a trap with the context that was running and what was expected of it.
pub fn compare(what: &str, context: &Context, trap: &Trap, expected: Expected) {
    let named = |part: &str, got: u64, wanted: u64| compare_part(what, part, got, wanted);
    if !named("vector", u64::from(trap.vector), u64::from(expected.vector)) {
        // The rest would only repeat it.
        let (rip, cr2) = (trap.context.rip, trap.cr2);
        guest_runtime::say!(
            "  error {:x?}, rip {rip:#x} (code at {:#x}), cr2 {cr2:#x}",
            trap.error,
            context.rip
        );
        return;
    }
    named(
        "error code",
        trap.error.unwrap_or(u64::MAX),
        expected.error.unwrap_or(u64::MAX),
    );
    named("rip", trap.context.rip, context.rip + expected.advance);
    compare_state(what, context, trap);
    for ((register, got), (_, wanted)) in
        trap.context.general().iter().zip(context.general().iter())
    {
        named(register, *got, *wanted);
    }
}

/// Compares what every frame says: stack, selectors, flags, where it lies, and the state of the handler.
pub fn compare_state(what: &str, context: &Context, trap: &Trap) {
    let named = |part: &str, got: u64, wanted: u64| compare_part(what, part, got, wanted);
    let user = context.cs & 3 == 3;
    let mask = if context.rflags & flags::IF == 0 {
        1
    } else {
        0
    };
    let code = if user {
        context.cs & 0xffff
    } else {
        u64::from(KERNEL_CODE64)
    };
    named("cs", trap.context.cs, code | mask << 32);
    named("ss", trap.context.ss, context.ss | 3);
    named("rsp", trap.context.rsp, context.rsp);
    // Processors set RF in the image of faults, and emulators do not all.
    named(
        "rflags",
        trap.context.rflags & !flags::RF,
        context.rflags & !(flags::RF | flags::IOPL),
    );
    let base = if user {
        trap::trap_stack_top()
    } else {
        context.rsp
    };
    named(
        "address of the frame",
        trap.frame,
        (base & !15) - 8 * trap.words,
    );
    named("event mask in the handler", u64::from(trap.mask), 1);
    named(
        "cs of the handler",
        u64::from(trap.handler_cs_ss[0]),
        u64::from(CODE64),
    );
    named(
        "ss of the handler",
        u64::from(trap.handler_cs_ss[1]),
        u64::from(DATA),
    );
    let cleared = flags::AC | flags::NT | flags::RF | flags::TF | flags::VM | flags::IOPL;
    named(
        "flags cleared in the handler",
        trap.handler_flags & cleared,
        0,
    );
    named(
        "IF in the handler",
        trap.handler_flags & flags::IF,
        flags::IF,
    );
}

fn compare_part(what: &str, part: &str, got: u64, wanted: u64) -> bool {
    if got == wanted {
        return check::condition(part, true);
    }
    check::fail(format_args!(
        "{what}: {part}, wanted {wanted:#x}, got {got:#x}"
    ));
    false
}
