//! Traps: handlers for every vector and callback, which note the frame exactly as it was delivered.
//!
//! A trap is *expected* when [`run`] or [`catch`] started what raised it: it is noted whole and control goes back to
//! them. Any other trap ends the guest with its registers on the console (R4), except events and what a guest's own
//! hook takes.
//!
//! Entry stubs are numbered as vectors; callbacks follow from [`EVENT`] on.

use crate::abi::{CODE64, KERNEL_CODE64, TI_MASK_EVENTS, TrapInfo, callback};
use crate::context::{Context, flags};
use crate::{Global, check, events, hypercall, say};

mod stubs;

/// Stub number of the event callback.
pub const EVENT: u16 = 0x100;
/// Stub number of the failsafe callback.
pub const FAILSAFE: u16 = 0x101;
/// Stub number of the 64-bit system call callback.
pub const SYSCALL: u16 = 0x102;
/// Stub number of the sysenter callback.
pub const SYSENTER: u16 = 0x103;
/// Stub number of the 32-bit system call callback.
pub const SYSCALL32: u16 = 0x104;
const STUBS: u16 = 0x105;

/// A trap exactly as delivered.
#[derive(Clone, Copy, Debug)]
pub struct Trap {
    /// Which stub was entered: a vector, or [`EVENT`] and so on.
    pub vector: u16,
    /// The interrupted registers; `cs` is the whole word from the frame, saved mask included.
    pub context: Context,
    /// The error code, for vectors that push one.
    pub error: Option<u64>,
    /// RCX and R11 from the frame.
    pub frame_rcx_r11: [u64; 2],
    /// DS, ES, FS, GS from the failsafe callback's frame.
    pub failsafe: [u64; 4],
    /// Where the frame lay.
    pub frame: u64,
    /// Words in it.
    pub words: u64,
    /// vcpu_info's cr2.
    pub cr2: u64,
    /// The event mask in the handler.
    pub mask: u8,
    /// RFLAGS at the handler's first instruction.
    pub handler_flags: u64,
    /// CS and SS at the handler's first instruction.
    pub handler_cs_ss: [u16; 2],
}

impl Trap {
    const NONE: Self = Self {
        vector: u16::MAX,
        context: Context {
            r15: 0,
            r14: 0,
            r13: 0,
            r12: 0,
            rbp: 0,
            rbx: 0,
            r10: 0,
            r9: 0,
            r8: 0,
            rdi: 0,
            rsi: 0,
            rdx: 0,
            rax: 0,
            r11: 0,
            rcx: 0,
            iret_flags: 0,
            rip: 0,
            cs: 0,
            rflags: 0,
            rsp: 0,
            ss: 0,
        },
        error: None,
        frame_rcx_r11: [0; 2],
        failsafe: [0; 4],
        frame: 0,
        words: 0,
        cr2: 0,
        mask: 0,
        handler_flags: 0,
        handler_cs_ss: [0; 2],
    };

    /// Whether it interrupted user mode.
    pub fn from_user(&self) -> bool {
        self.context.cs & 3 == 3
    }
}

/// What the stub pushed, lowest address first; the hypervisor's frame follows.
#[repr(C)]
struct Saved {
    r15_to_rdx: [u64; 12],
    rax: u64,
    r11: u64,
    rcx: u64,
    cs_ss: [u16; 4],
    rflags: u64,
    vector: u64,
    frame: [u64; 12],
}

/// Where an expected trap returns to; armed while `rsp` is not 0.
#[repr(C)]
#[derive(Clone, Copy)]
struct Recovery {
    rsp: u64,
    mask: u64,
}

static RECOVERY: Global<Recovery> = Global::new(Recovery { rsp: 0, mask: 1 });
static LAST: Global<Trap> = Global::new(Trap::NONE);

/// A guest's own look at a trap before anything else: `true` resumes the (possibly changed) context.
pub type Hook = fn(&mut Trap) -> bool;
static HOOK: Global<Option<Hook>> = Global::new(None);

/// Sets or clears the hook.
pub fn set_hook(hook: Option<Hook>) {
    HOOK.set(hook);
}

const KERNEL_STACK_SIZE: usize = 32 * 1024;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct KernelStack([u8; KERNEL_STACK_SIZE]);

/// The stack on which traps from user mode are taken, and one to run kernel contexts on.
static TRAP_STACK: Global<KernelStack> = Global::new(KernelStack([0; KERNEL_STACK_SIZE]));
static RUN_STACK: Global<KernelStack> = Global::new(KernelStack([0; KERNEL_STACK_SIZE]));

/// Top of the stack for user mode's traps.
pub fn trap_stack_top() -> u64 {
    TRAP_STACK.as_ptr() as u64 + KERNEL_STACK_SIZE as u64
}

/// A stack for kernel contexts given to [`run`], with room above and below.
pub fn run_stack() -> u64 {
    RUN_STACK.as_ptr() as u64 + KERNEL_STACK_SIZE as u64 - 4096
}

/// Address of a stub.
pub fn stub(number: u16) -> u64 {
    stubs::address(number)
}

/// Whether the hypervisor pushes an error code for a vector.
pub fn has_error_code(vector: u16) -> bool {
    matches!(vector, 8 | 10..=14 | 17 | 21)
}

/// The trap table entry that leads a vector to its stub, masking events.
pub fn entry(vector: u8, dpl: u8) -> TrapInfo {
    TrapInfo {
        vector,
        flags: dpl | TI_MASK_EVENTS,
        cs: CODE64,
        address: stub(u16::from(vector)),
        ..TrapInfo::ZERO
    }
}

/// Registers all vectors below 32 and 0x80, and every callback.
pub(crate) fn init() {
    install();
    hypercall::register_event_callback(stub(EVENT));
    hypercall::register_callback(callback::FAILSAFE, stub(FAILSAFE));
    hypercall::register_callback(callback::SYSCALL, stub(SYSCALL));
    // Either may be refused: they are there on processors that have the instruction.
    hypercall::register_callback(callback::SYSENTER, stub(SYSENTER));
    hypercall::register_callback(callback::SYSCALL32, stub(SYSCALL32));
    hypercall::stack_switch(trap_stack_top());
}

/// Registers the trap table that the runtime starts with; returns what the hypervisor said.
pub fn install() -> i64 {
    let mut table = [TrapInfo::default(); 34];
    for vector in 0..32u8 {
        let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
        table[usize::from(vector)] = entry(vector, dpl);
    }
    table[32] = entry(0x80, 3);
    hypercall::set_trap_table(&table)
}

extern "C" fn dispatch(saved: *const Saved, out: *mut Context) {
    // SAFETY: the stub passes the words it just pushed; what is above them on the stack is readable, as every
    // stack here has room above (run_stack) or is a static with others behind it.
    let mut trap = unsafe { decode(&*saved) };
    let next = resume_point(&mut trap);
    // SAFETY: the stub reserved room for it.
    unsafe { out.write(next) };
}

fn decode(saved: &Saved) -> Trap {
    let vector = saved.vector as u16;
    let frame = &saved.frame;
    let mut trap = Trap {
        vector,
        frame: frame.as_ptr() as u64,
        ..Trap::NONE
    };
    trap.frame_rcx_r11 = [frame[0], frame[1]];
    let mut at = 2;
    if has_error_code(vector) {
        trap.error = Some(frame[2]);
        at = 3;
    } else if vector == FAILSAFE {
        trap.failsafe = [frame[2], frame[3], frame[4], frame[5]];
        at = 6;
    }
    trap.words = at as u64 + 5;
    let [r15, r14, r13, r12, rbp, rbx, r10, r9, r8, rdi, rsi, rdx] = saved.r15_to_rdx;
    trap.context = Context {
        r15,
        r14,
        r13,
        r12,
        rbp,
        rbx,
        r10,
        r9,
        r8,
        rdi,
        rsi,
        rdx,
        rax: saved.rax,
        r11: frame[1],
        rcx: frame[0],
        iret_flags: 0,
        rip: frame[at],
        cs: frame[at + 1],
        rflags: frame[at + 2],
        rsp: frame[at + 3],
        ss: frame[at + 4],
    };
    trap.cr2 = events::cr2();
    trap.mask = events::mask();
    trap.handler_flags = saved.rflags;
    trap.handler_cs_ss = [saved.cs_ss[0], saved.cs_ss[1]];
    trap
}

/// Decides where control goes after a trap.
fn resume_point(trap: &mut Trap) -> Context {
    if let Some(hook) = HOOK.get()
        && hook(trap)
    {
        return trap.context;
    }
    if trap.vector == EVENT {
        events::handle();
        return trap.context;
    }
    let recovery = RECOVERY.get();
    if recovery.rsp == 0 {
        report_unexpected(trap);
        hypercall::shutdown(hypercall::ShutdownReason::Crash);
    }
    LAST.set(*trap);
    RECOVERY.set(Recovery { rsp: 0, mask: 1 });
    let interrupts = if recovery.mask & 0xff == 0 {
        flags::IF
    } else {
        0
    };
    Context {
        rip: stubs::recovery_address(),
        rsp: recovery.rsp,
        cs: u64::from(KERNEL_CODE64),
        ss: u64::from(crate::abi::DATA),
        rflags: flags::ALWAYS | interrupts,
        ..Context::default()
    }
}

fn report_unexpected(trap: &Trap) {
    say!(
        "GUEST FAIL {}: unexpected trap {:#x}, error {:x?}, cr2 {:#x}",
        check::name(),
        trap.vector,
        trap.error,
        trap.cr2
    );
    let c = &trap.context;
    say!(
        "  rip {:016x} cs {:x} rflags {:x} rsp {:016x} ss {:x}",
        c.rip,
        c.cs,
        c.rflags,
        c.rsp,
        c.ss
    );
    for group in c.general().chunks(3) {
        for (name, value) in group {
            say!("  {name} {value:016x}");
        }
    }
}

fn arm() {
    assert!(RECOVERY.get().rsp == 0, "run and catch do not nest");
    RECOVERY.set(Recovery {
        rsp: 0,
        mask: u64::from(events::mask()),
    });
}

/// Enters a context by the iret hypercall and returns the trap that ends it.
pub fn run(context: &Context) -> Trap {
    arm();
    // SAFETY: the stub saves what a call must keep, and fills in the recovery point before it leaves; whatever
    // runs is ended by a trap, which returns here (or ends the guest).
    unsafe { stubs::guest_run(context, RECOVERY.as_ptr()) };
    LAST.get()
}

/// Calls a function that may trap: its result, or the trap that ended it.
///
/// Destructors of what the function held are not run when a trap ends it.
#[allow(clippy::result_large_err)] // There is no heap to put it in.
pub fn catch<R>(function: impl FnOnce() -> R) -> Result<R, Trap> {
    struct Call<F, R> {
        function: Option<F>,
        result: Option<R>,
    }
    extern "C" fn enter<F: FnOnce() -> R, R>(call: *mut u8) {
        // SAFETY: `catch` passes its own `Call<F, R>`, alive until it returns.
        let call = unsafe { &mut *call.cast::<Call<F, R>>() };
        if let Some(function) = call.function.take() {
            call.result = Some(function());
        }
    }
    fn enter_for<F: FnOnce() -> R, R>(_: &Call<F, R>) -> extern "C" fn(*mut u8) {
        enter::<F, R>
    }
    let mut call = Call {
        function: Some(function),
        result: None,
    };
    let entry = enter_for(&call);
    arm();
    // SAFETY: as `run`; the argument outlives the call.
    let trapped =
        unsafe { stubs::guest_catch(entry, (&raw mut call).cast(), RECOVERY.as_ptr()) } != 0;
    RECOVERY.set(Recovery { rsp: 0, mask: 1 });
    match call.result.take() {
        Some(result) if !trapped => Ok(result),
        _ => Err(LAST.get()),
    }
}
