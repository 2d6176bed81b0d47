//! Hypercalls: the raw instruction and thin typed wrappers.
//!
//! Results are what the hypervisor returned, errors as negative numbers: a check compares them.

use core::arch::asm;

pub use crate::abi::ShutdownReason;

use crate::Global;
use crate::abi::{
    CallbackRegister, DOMID_SELF, MmuUpdate, MmuextOp, MulticallEntry, TrapInfo, callback, evtchn,
    mmuext, nr, sched,
};

static PAGE: Global<u64> = Global::new(0);

/// Lets [`call`] go through a hypercall page; 0 means by `syscall`.
pub fn use_page(address: u64) {
    PAGE.set(address);
}

/// The hypercall page's address, 0 if there is none.
pub fn page() -> u64 {
    PAGE.get()
}

/// One hypercall, by the way this guest has chosen.
pub fn call(number: u64, arguments: [u64; 5]) -> i64 {
    match PAGE.get() {
        0 => by_syscall(number, arguments),
        page => by_page(page, number, arguments),
    }
}

/// One hypercall by the `syscall` instruction.
pub fn by_syscall(number: u64, [a1, a2, a3, a4, a5]: [u64; 5]) -> i64 {
    let result;
    // SAFETY: the interface leaves every register alone but RAX, RCX, R11 and the arguments', which a call
    // that is made again finds changed; what the call does to memory is
    // its caller's to answer for (see the crate's text).
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            inlateout("rdi") a1 => _, inlateout("rsi") a2 => _, inlateout("rdx") a3 => _,
            inlateout("r10") a4 => _, inlateout("r8") a5 => _,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// One hypercall through the page at `page`: 32 bytes a stub.
pub fn by_page(page: u64, number: u64, [a1, a2, a3, a4, a5]: [u64; 5]) -> i64 {
    let result;
    // SAFETY: as `by_syscall`; the stub saves RCX and R11 itself, and target code keeps no red zone.
    unsafe {
        asm!(
            "call {stub}",
            stub = in(reg) page + 32 * number,
            lateout("rax") result,
            inlateout("rdi") a1 => _, inlateout("rsi") a2 => _, inlateout("rdx") a3 => _,
            inlateout("r10") a4 => _, inlateout("r8") a5 => _,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Writes bytes to the console; what is refused is lost. An ordinary domain's console is its ring.
pub fn console_write(bytes: &[u8]) {
    if crate::child::is_ordinary() {
        return crate::console::write_ring(bytes);
    }
    call(
        nr::CONSOLE_IO,
        [0, bytes.len() as u64, bytes.as_ptr() as u64, 0, 0],
    );
}

/// Shuts the domain down.
pub fn shutdown(reason: ShutdownReason) -> ! {
    let argument = reason.number();
    loop {
        call(
            nr::SCHED_OP,
            [sched::SHUTDOWN, &raw const argument as u64, 0, 0, 0],
        );
    }
}

/// mmu_update of one entry of this domain.
pub fn mmu_update(ptr: u64, val: u64) -> i64 {
    mmu_update_batch(&[MmuUpdate { ptr, val }]).0
}

/// A call that takes a list; also how many of it were done.
fn batch<T>(number: u64, requests: &[T], domains: u64) -> (i64, u32) {
    let mut done = u32::MAX;
    let (list, count) = (requests.as_ptr() as u64, requests.len() as u64);
    let result = call(number, [list, count, &raw mut done as u64, domains, 0]);
    (result, done)
}

/// mmu_update of several entries; also how many were done.
pub fn mmu_update_batch(requests: &[MmuUpdate]) -> (i64, u32) {
    mmu_update_for(requests, DOMID_SELF)
}

/// mmu_update on behalf of the domains encoded in `domains`.
pub fn mmu_update_for(requests: &[MmuUpdate], domains: u64) -> (i64, u32) {
    batch(nr::MMU_UPDATE, requests, domains)
}

/// mmuext_op of one command.
pub fn mmuext(cmd: u32, arg1: u64, arg2: u64) -> i64 {
    mmuext_batch(&[MmuextOp {
        cmd,
        arg1,
        arg2,
        ..MmuextOp::ZERO
    }])
    .0
}

/// mmuext_op of several commands; also how many were done.
pub fn mmuext_batch(requests: &[MmuextOp]) -> (i64, u32) {
    batch(nr::MMUEXT_OP, requests, DOMID_SELF)
}

/// Sets the entry that maps `address`, and invalidates the translation here.
pub fn update_va_mapping(address: u64, entry: u64) -> i64 {
    call(nr::UPDATE_VA_MAPPING, [address, entry, 2, 0, 0])
}

/// Flushes this vCPU's translations.
pub fn flush() -> i64 {
    mmuext(mmuext::TLB_FLUSH_LOCAL, 0, 0)
}

/// Several calls in one.
pub fn multicall(calls: &mut [MulticallEntry]) -> i64 {
    call(
        nr::MULTICALL,
        [calls.as_mut_ptr() as u64, calls.len() as u64, 0, 0, 0],
    )
}

/// Merges entries into the trap table; the slice must end with an all-zero entry.
pub fn set_trap_table(entries: &[TrapInfo]) -> i64 {
    call(nr::SET_TRAP_TABLE, [entries.as_ptr() as u64, 0, 0, 0, 0])
}

/// Registers a callback that masks events.
pub fn register_callback(kind: u16, address: u64) -> i64 {
    let request = CallbackRegister {
        kind,
        flags: 1,
        address,
        ..CallbackRegister::ZERO
    };
    call(nr::CALLBACK_OP, [0, &raw const request as u64, 0, 0, 0])
}

/// Removes a callback.
pub fn unregister_callback(kind: u16) -> i64 {
    let request = CallbackRegister {
        kind,
        ..CallbackRegister::ZERO
    };
    call(nr::CALLBACK_OP, [1, &raw const request as u64, 0, 0, 0])
}

/// Registers the event callback.
pub fn register_event_callback(address: u64) -> i64 {
    register_callback(callback::EVENT, address)
}

/// Sets the stack on which user mode's traps are taken.
pub fn stack_switch(rsp: u64) -> i64 {
    call(
        nr::STACK_SWITCH,
        [u64::from(crate::abi::DATA), rsp, 0, 0, 0],
    )
}

/// Sets a segment base.
pub fn set_segment_base(which: u64, base: u64) -> i64 {
    call(nr::SET_SEGMENT_BASE, [which, base, 0, 0, 0])
}

/// An event channel operation on `argument`.
pub fn event_channel<T>(operation: u64, argument: &mut T) -> i64 {
    call(
        nr::EVENT_CHANNEL_OP,
        [operation, &raw mut *argument as u64, 0, 0, 0],
    )
}

/// Sends on a port.
pub fn send(port: u32) -> i64 {
    event_channel(evtchn::SEND, &mut { port })
}

/// A vcpu_op on vCPU `id` with an argument.
pub fn vcpu_op<T>(operation: u64, id: u64, argument: &mut T) -> i64 {
    call(
        nr::VCPU_OP,
        [operation, id, &raw mut *argument as u64, 0, 0],
    )
}

/// A sched_op with an argument.
pub fn sched_op<T>(operation: u64, argument: &mut T) -> i64 {
    call(
        nr::SCHED_OP,
        [operation, &raw mut *argument as u64, 0, 0, 0],
    )
}

/// The version, by a call that has no effect: also delivers what is pending.
pub fn version() -> i64 {
    call(nr::XEN_VERSION, [0; 5])
}
