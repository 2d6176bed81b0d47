//! What a child does: draws, on two vCPUs at once.

use guest_runtime::abi::{
    CODE64, DATA, ShutdownReason, TrapInfo, VGCF_IN_KERNEL, VcpuGuestContext, mmuext, nr, sched,
    vcpu,
};
use guest_runtime::builder::Child;
use guest_runtime::context::flags;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, call, sched_op, vcpu_op};
use guest_runtime::{Global, child, instructions, link, page_table, trap, user};

use crate::draw::Draw;
use crate::{calls, machine};

/// Words of the shared page: draws so far, and those of the second vCPU.
const DRAWS: usize = link::FREE;
const SECOND: usize = link::FREE + 1;

/// The answer of a child whose own page is not what it was.
pub const CHANGED: i64 = -1;

const STACK: usize = 16 * 1024;
#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Stack([u8; STACK]);

static STACK_OF_SECOND: Global<Stack> = Global::new(Stack([0; STACK]));
static DRAW_OF_SECOND: Global<Option<Draw>> = Global::new(None);
static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

/// How many draws a child has made.
pub fn draws(child: &Child) -> u64 {
    child.link().get(DRAWS)
}

/// How far a child has come, on either vCPU.
pub fn progress(child: &Child) -> u64 {
    child.link().get(DRAWS)
}

fn count(word: usize) {
    if let Some(link) = child::link() {
        link.add(word, 1);
    }
}

fn pattern(index: usize) -> u64 {
    0x7072_6976_6174_6500 ^ (index as u64) << 40
}

/// Step: seed, draws, the other child. 0, or [`CHANGED`].
pub fn fuzz([seed, draws, other, ..]: [u64; 5]) -> i64 {
    let own = frames::allocate();
    for index in 0..512 {
        own.write(index, pattern(index));
    }
    user::enable();
    trap::set_hook(Some(machine::takes_nmi));
    let mut draw = Draw::new(seed.wrapping_mul(0x1234_5678_9abc_def1));
    draw.neighbours = [other, other];
    draw.vcpus = 2;
    // QEMU 7.2 ends with a segmentation fault where debug registers change on the way from a hit to its exception.
    draw.watches = false;
    DRAW_OF_SECOND.set(Some(draw.beside(seed ^ 0x5ec0_4d00)));
    for done in 0..draws {
        match draw.below(1024) {
            0 => deadly(&mut draw),
            1..=8 => second(&mut draw),
            _ => machine::one(&mut draw),
        }
        if done % 64 == 0 {
            draw.mend();
            if !is_own(own) {
                return CHANGED;
            }
        }
        count(DRAWS);
    }
    if is_own(own) { 0 } else { CHANGED }
}

fn is_own(page: Page) -> bool {
    (0..512).all(|index| page.read(index) == pattern(index))
}

/// What may end this guest, rightly.
fn deadly(draw: &mut Draw) {
    match draw.below(8) {
        0 => {
            let mut reason = draw.below(6) as u32;
            sched_op(sched::SHUTDOWN, &mut reason);
        }
        1 => {
            // Asleep, unless something comes.
            call(nr::SCHED_OP, [sched::BLOCK, 0, 0, 0, 0]);
        }
        2 => {
            let table = [
                TrapInfo {
                    address: draw.value(),
                    ..trap::entry(draw.of(&[6, 13, 14]) as u8, 0)
                },
                TrapInfo::default(),
            ];
            hypercall::set_trap_table(&table);
        }
        3 => {
            let frame = draw.special();
            hypercall::mmuext(mmuext::NEW_BASEPTR, frame, 0);
        }
        4 => {
            let which = draw.below(2);
            vcpu_op(vcpu::DOWN, which, &mut 0u64);
        }
        5 => {
            let stack = draw.value();
            hypercall::stack_switch(stack);
            trap::run(&guests::expect::Mode::User.context(guests::code::code_ud2()));
        }
        6 => {
            let root = page_table::root().mfn();
            hypercall::mmuext(mmuext::UNPIN, root, 0);
        }
        _ => hypercall::shutdown(ShutdownReason::Crash),
    }
}

/// Something with the second vCPU: a state, a start, a stop.
fn second(draw: &mut Draw) {
    match draw.below(3) {
        0 => {
            vcpu_op(vcpu::UP, 1, &mut 0u64);
        }
        1 if draw.once_in(4) => {
            vcpu_op(vcpu::DOWN, 1, &mut 0u64);
        }
        _ => {
            CONTEXT.set(context(draw));
            // SAFETY: nobody else refers to it.
            let context = unsafe { &mut *CONTEXT.as_ptr() };
            vcpu_op(vcpu::INITIALISE, 1, context);
        }
    }
}

/// A state for the second vCPU, with something wrong in it half of the time.
fn context(draw: &mut Draw) -> VcpuGuestContext {
    let mut context = VcpuGuestContext::ZERO;
    context.flags = VGCF_IN_KERNEL;
    let registers = &mut context.user_regs;
    registers.rip = draw_for_ever as *const () as u64;
    registers.cs = CODE64;
    registers.ss = DATA;
    registers.rsp = STACK_OF_SECOND.as_ptr() as u64 + STACK as u64 - 8;
    registers.rflags = flags::IF;
    context.kernel_ss = u64::from(DATA);
    context.kernel_sp = registers.rsp;
    context.ctrlreg[3] = page_table::root().maddr();
    match draw.below(16) {
        0 => context.ctrlreg[3] = draw.special() << 12,
        1 => context.ctrlreg[1] = draw.special() << 12,
        2 => context.gdt_ents = draw.below(1024),
        3 => {
            context.gdt_ents = 512;
            context.gdt_frames[0] = draw.special();
        }
        4 => context.flags = draw.next(),
        5 => context.user_regs.rflags = draw.next(),
        6 => (context.ldt_base, context.ldt_ents) = (draw.window(), draw.below(9000)),
        7 => context.fs_base = draw.next(),
        _ => {}
    }
    context
}

/// The second vCPU: the memory calls, on the same playground as the first's, for ever. It takes no trap, prints nothing
/// and allocates nothing.
extern "C" fn draw_for_ever() -> ! {
    let Some(mut draw) = DRAW_OF_SECOND.get() else {
        loop {
            core::hint::spin_loop();
        }
    };
    loop {
        let (number, arguments) = calls::any(&mut draw);
        if matches!(
            number,
            nr::MMU_UPDATE
                | nr::MMUEXT_OP
                | nr::MEMORY_OP
                | nr::GRANT_TABLE_OP
                | nr::EVENT_CHANNEL_OP
                | nr::UPDATE_DESCRIPTOR
        ) {
            calls::make(&mut draw, number, arguments);
        }
        count(SECOND);
        // Not the sequence's own: it would repeat what interrupts did.
        if instructions::rdtsc() & 63 == 0 {
            call(nr::SCHED_OP, [sched::YIELD, 0, 0, 0, 0]);
        }
    }
}
