//! Proves accounts by witnesses that owe them nothing: code whose instructions are known by number, on a machine whose
//! clock counts instructions, and the machine's clock chip. What a loop of the kernel's or an application's executes more
//! is in its account, to the instruction, and in no other; what all accounts have gained after a second is a second.
//!
//! Nothing is reserved for anybody: where a call falls on the end of somebody's own time, its account is cut in two there,
//! which takes instructions that another run's calls would not.
//!
//! xtask: hv=dom0_cpu=none
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::usage::{BOOKS_OF_MACHINE, Usage};
use guest_runtime::abi::{DOMID_SELF, nr};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, child, events, guest, say, trap, user};
use guests::accounts::{self, SPIN};
use guests::clock_chip;
use guests::code;
use guests::expect::Mode;

guest!(counted, main);

code! {
    // R12 times SPIN instructions.
    code_countdown: "2:", "dec r12", "jnz 2b";
    // R12 system calls that the kernel answers at once.
    code_short_calls: "2:", "syscall", "dec r12", "jnz 2b";
    code_short_call_back: "sub rsp, 16", "mov [rsp], rax", "mov [rsp + 8], r11", "mov qword ptr [rsp + 24], 0",
        "mov eax, 23", "syscall";
}

/// An interrupt may fall into a run, and is paid as what it is: the least of so many has none.
const RUNS: usize = 8;
const FEW: u64 = 1_000;
const MANY: u64 = 201_000;
const SECOND_NS: u64 = 1_000_000_000;

fn main() {
    if !accounts::can_be_witnessed() {
        return;
    }
    user::enable();
    in_the_kernel();
    in_an_application();
    in_calls();
    the_clock_chip();
    in_system_calls();
}

/// From one beginning of a second to the next, as the chip has them, the books of all CPUs have gained a second each.
fn the_clock_chip() {
    /// Reading the chip takes two emulated instructions, and the answer comes after them.
    const LATE_NS: u64 = 50_000;
    clock_chip::open();
    let edge = || {
        let before = clock_chip::second();
        while clock_chip::second() == before {}
        accounts::books_of(BOOKS_OF_MACHINE)
    };
    let first = edge();
    // Most of it asleep: that is in the books, too.
    child::wait(&[], events::now_ns() + SECOND_NS - 2_000_000);
    let last = edge();
    let elapsed = last.elapsed - first.elapsed;
    let nanoseconds = u128::from(elapsed) * u128::from(SECOND_NS) / u128::from(last.tsc_hz);
    let cpus = u64::from(last.nr_cpus);
    let off = (nanoseconds as u64).abs_diff(cpus * SECOND_NS);
    let parts = [
        last.idle - first.idle,
        last.machine - first.machine,
        last.sold - first.sold,
    ];
    say!(
        "counted: in a second of the clock chip the CPUs had {elapsed} cycles, {off} ns off: {} idle, {} the machine's, \
         {} for domains",
        parts[0],
        parts[1],
        parts[2]
    );
    check!(off <= cpus * LATE_NS, "a second is a second");
    check_eq!("and all of it is somebody's", parts.iter().sum(), elapsed);
    check!(parts[0] > 0 && parts[2] > 0, "some slept, some worked");
}

/// What a run put into the accounts: user, kernel, and the hypervisor's by cause.
fn charged(mut run: impl FnMut()) -> Usage {
    let me = || accounts::usage_of(DOMID_SELF as u16, 0);
    let mut least: Option<Usage> = None;
    for _ in 0..RUNS {
        let before = me();
        run();
        let after = me();
        let mut spent = Usage {
            user: after.user - before.user,
            kernel: after.kernel - before.kernel,
            ..Usage::ZERO
        };
        for (at, spent) in spent.hypervisor.iter_mut().enumerate() {
            *spent = after.hypervisor[at] - before.hypervisor[at];
        }
        if least.is_none_or(|least| accounts::used(&spent) < accounts::used(&least)) {
            least = Some(spent);
        }
    }
    least.unwrap_or(Usage::ZERO)
}

/// The difference that `MANY` turns make to `FEW`, by account: user, kernel, the hypervisor's.
fn more(run: impl Fn(u64)) -> [u64; 3] {
    let (few, many) = (charged(|| run(FEW)), charged(|| run(MANY)));
    let hypervisor = |usage: &Usage| usage.hypervisor.iter().sum::<u64>();
    [
        many.user.wrapping_sub(few.user),
        many.kernel.wrapping_sub(few.kernel),
        hypervisor(&many).wrapping_sub(hypervisor(&few)),
    ]
}

fn in_the_kernel() {
    let [user, kernel, hypervisor] = more(accounts::spin);
    check_eq!("what the kernel executed", kernel, (MANY - FEW) * SPIN);
    check_eq!("is nobody else's", [user, hypervisor], [0, 0]);
}

fn in_application(code: u64, turns: u64) {
    let mut context = Mode::User.context(code);
    context.r12 = turns;
    check_eq!("the application's end", trap::run(&context).vector, 6);
}

fn in_an_application() {
    let [user, kernel, hypervisor] = more(|turns| in_application(code_countdown(), turns));
    check_eq!("what the application executed", user, (MANY - FEW) * SPIN);
    check_eq!("is nobody else's", [kernel, hypervisor], [0, 0]);
}

/// Of a call, what runs outside the hypervisor's two readings is the guest's: it is told here, and that it is no more.
fn in_calls() {
    const CALLS: u64 = 2_000;
    let calls = |number: u64| {
        for _ in 0..number {
            call(nr::XEN_VERSION, [0; 5]);
        }
    };
    let (few, many) = (charged(|| calls(CALLS)), charged(|| calls(2 * CALLS)));
    let each = |more: u64| more / CALLS;
    let kernel = each(many.kernel - few.kernel);
    let hypervisor = each(many.hypervisor[0] - few.hypervisor[0]);
    say!("counted: a call: {hypervisor} instructions the hypervisor's, {kernel} the kernel's");
    check!(hypervisor > 0, "a call is paid");
    check!(kernel < 100, "most of it as what it is");
    check_eq!("and nothing else", many.hypervisor[1], few.hypervisor[1]);
}

/// System calls do not come to the hypervisor but for their return: user and kernel each have their part.
fn in_system_calls() {
    use guest_runtime::abi::callback;
    use guest_runtime::hypercall::register_callback;
    let registered = register_callback(callback::SYSCALL, code_short_call_back());
    check_eq!("a short callback", registered, 0);
    let [user, kernel, hypervisor] = more(|turns| in_application(code_short_calls(), turns));
    let each = |more: u64| more / (MANY - FEW);
    say!(
        "counted: a system call: {} instructions the application's, {} the kernel's, {} the hypervisor's",
        each(user),
        each(kernel),
        each(hypervisor)
    );
    check!(user >= 3 * (MANY - FEW), "the application's part");
    // Its callback's six, and the way there and back on top of them.
    check!(kernel >= 6 * (MANY - FEW), "the kernel's part");
}
