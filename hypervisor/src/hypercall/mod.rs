//! Hypercalls: one table from number to handler, one file a family.
//!
//! A handler decodes (guest memory is copied once), checks, then commits: no refusal follows the first change. To
//! add a call: a row in [`handler`], a function in its family's file, a paragraph in `docs/abi.md`.

pub mod bitmap;
pub mod books;
pub mod console;
pub mod cpu_policy;
pub mod debug_registers;
pub mod descriptor;
pub mod domctl;
pub mod event;
pub mod grant;
pub mod ledger;
pub mod mca;
pub mod memory;
pub mod mmu;
pub mod multicall;
pub mod page;
pub mod physdev;
pub mod platform;
pub mod reserve;
pub mod sched;
pub mod sysctl;
pub mod trap;
pub mod usage;
pub mod vcpu;
pub mod version;
pub mod xeno;

use crate::arch::percpu;
use crate::debug::sections;
use crate::domain::{self, Domain, Guest, unfinished};
use crate::mmu::work;
use frames::DomId;
use guest_abi::{Errno, Hypercall};

/// Arguments in the order of the interface: RDI, RSI, RDX, R10, R8.
pub type Args = [u64; 5];

/// What a call that did not simply end leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The caller's mistake, told to the caller.
    Refused(Errno),
    /// Work remains: interrupts go first, then the same call is made again with these arguments.
    Again(Args),
    /// The registers were set by the call itself: there is no result.
    Gone,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Refused(errno)
    }
}

impl From<crate::arch::guest_memory::Fault> for Stop {
    fn from(_: crate::arch::guest_memory::Fault) -> Stop {
        Stop::Refused(Errno::Fault)
    }
}

/// What a call comes to.
pub type Outcome = Result<u64, Stop>;

/// A call's handler.
pub type Handler = fn(&mut Guest<'_>, Args) -> Outcome;

/// Units of work that are done before interrupts are let in (decision: no section longer than about 20 microseconds).
/// A unit is what it takes to check or drop one entry of a page table: 70 to 150 instructions.
pub const BUDGET: i32 = 120;

/// Units of one element of a batch, as long as nothing out of the ordinary happens.
const ELEMENT: i32 = 3;

/// The whole surface: which calls are served, and by whom.
fn handler(call: Hypercall) -> Option<Handler> {
    Some(match call {
        Hypercall::SetTrapTable => trap::set_trap_table,
        Hypercall::MmuUpdate => mmu::mmu_update,
        Hypercall::SetGdt => descriptor::set_gdt,
        Hypercall::StackSwitch => trap::stack_switch,
        Hypercall::FpuTaskswitch => trap::fpu_taskswitch,
        Hypercall::PlatformOp => platform::platform_op,
        Hypercall::SetDebugreg => debug_registers::set,
        Hypercall::GetDebugreg => debug_registers::get,
        Hypercall::UpdateDescriptor => descriptor::update_descriptor,
        Hypercall::MemoryOp => memory::memory_op,
        Hypercall::Multicall => multicall::multicall,
        Hypercall::UpdateVaMapping => mmu::update_va_mapping,
        Hypercall::UpdateVaMappingOtherdomain => mmu::update_va_mapping_otherdomain,
        Hypercall::SetTimerOp => vcpu::set_timer_op,
        Hypercall::XenVersion => version::xen_version,
        Hypercall::ConsoleIo => console::console_io,
        Hypercall::GrantTableOp => grant::grant_table_op,
        Hypercall::VmAssist => trap::vm_assist,
        Hypercall::Iret => trap::iret,
        Hypercall::VcpuOp => vcpu::vcpu_op,
        Hypercall::SetSegmentBase => trap::set_segment_base,
        Hypercall::MmuextOp => mmu::mmuext_op,
        Hypercall::SchedOp => sched::sched_op,
        Hypercall::CallbackOp => trap::callback_op,
        Hypercall::EventChannelOp => event::event_channel_op,
        Hypercall::PhysdevOp => physdev::physdev_op,
        Hypercall::Mca => mca::mca,
        Hypercall::Sysctl => sysctl::sysctl,
        Hypercall::Domctl => domctl::domctl,
        Hypercall::XenoOp => xeno::xeno_op,
        _ => return None,
    })
}

/// Makes one call.
#[inline]
pub fn call(g: &mut Guest<'_>, number: u64, args: Args) -> Outcome {
    match Hypercall::from_number(number).and_then(handler) {
        Some(handler) => handler(g, args),
        None => Err(Stop::Refused(Errno::NoSys)),
    }
}

/// A guest's hypercall: arguments from registers, result to RAX.
#[inline]
pub fn dispatch(g: &mut Guest<'_>) {
    let r = &*g.regs;
    let number = r.rax;
    let args = [r.rdi, r.rsi, r.rdx, r.r10, r.r8];
    percpu::current().call.set(number);
    match call(g, number, args) {
        Ok(value) => g.regs.rax = value,
        Err(Stop::Refused(errno)) => g.regs.rax = errno.as_register(),
        Err(Stop::Gone) => {}
        Err(Stop::Again(args)) => {
            // The guest makes the call again: RAX still holds its number, `syscall` has two bytes.
            [g.regs.rdi, g.regs.rsi, g.regs.rdx, g.regs.r10, g.regs.r8] = args;
            g.regs.rip = g.regs.rip.wrapping_sub(SYSCALL);
            g.local.repeat = true;
            percpu::current().unfinished.set(true);
        }
    }
}

/// Bytes of the instruction `syscall`.
const SYSCALL: u64 = 2;

/// Makes a call again that stopped: as if the guest had executed the instruction once more.
pub fn repeat(g: &mut Guest<'_>) {
    g.local.repeat = false;
    g.regs.rip = g.regs.rip.wrapping_add(SYSCALL);
    dispatch(g);
}

impl Guest<'_> {
    /// Counts one element of a batch; false when the call should stop and be continued. Called before each element: what
    /// the one before let go is undone first, so that each finds the machine as if the others had been calls of their own.
    #[inline]
    pub fn spend(&mut self) -> bool {
        let this = percpu::current();
        if this.unfinished.get() && !work::undo_some(self.dom) {
            return false;
        }
        let left = this.budget.get();
        this.budget.set(left.wrapping_sub(ELEMENT));
        left > 0
    }

    /// As [`Self::spend`], of an answer or a change that cannot be put off to another call: where a section ends,
    /// interrupts are let in, but no other vCPU. The caller holds no lock that an interrupt's handler takes.
    #[inline]
    pub fn spend_here(&mut self) {
        if !self.spend() {
            self.let_others_in();
        }
    }

    /// Ends a section in the middle of a call; as [`Self::spend_here`].
    pub fn let_others_in(&self) {
        self.note_section();
        unfinished::breathe();
    }

    /// Has what is measured know whose section the one in hand is, where one may end before the call does.
    pub fn note_section(&self) {
        if percpu::current().measuring.get() {
            sections::came_in(self);
        }
    }

    /// Counts work that was done in one piece, in units of [`BUDGET`].
    #[inline]
    pub fn charge(&mut self, units: u64) {
        work::charge(i32::try_from(units).unwrap_or(i32::MAX));
    }
}

/// Resolves a domain number of the interface to the caller, if it names it.
#[inline]
pub fn is_self(g: &Guest<'_>, domid: u16) -> bool {
    domid == guest_abi::domid::DOMID_SELF || domid == g.dom.id.0
}

/// The domain that an operation is about: the caller, or for the control domain any other.
///
/// The reference is good until the CPU is between two pieces of work (W1 in `domain::teardown`): through all of the call,
/// wherever it lets interrupts in, and no longer. A call that is made again looks again.
///
/// # Errors
/// `-EPERM` for another's number from an ordinary domain, whether or not there is such a domain; `-ESRCH` for a number
/// that is nobody's, or that of a domain that is being destroyed.
#[inline]
pub fn subject(g: &Guest<'_>, domid: u16) -> Result<&'static Domain, Errno> {
    if is_self(g, domid) {
        return Ok(g.dom);
    }
    another(g, domid)
}

#[inline(never)]
fn another(g: &Guest<'_>, domid: u16) -> Result<&'static Domain, Errno> {
    if !g.dom.privileged {
        return Err(Errno::Perm);
    }
    domain::living(DomId(domid)).ok_or(Errno::Srch)
}
