//! The entry stubs and the two ways back, in assembly.
//!
//! A stub pushes its number and jumps to the common part, which pushes every register and lets [`super::dispatch`]
//! decide where to go on: a [`Context`] that it leaves through the iret hypercall.

use super::Recovery;
#[cfg(target_os = "none")]
use super::{STUBS, dispatch};
use crate::context::Context;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    // One stub a vector, 16 bytes each: its number, then the common part.
    ".balign 16",
    ".global guest_trap_stubs",
    "guest_trap_stubs:",
    ".set number, 0",
    ".rept {stubs}",
    "push number",
    "jmp guest_trap_common",
    ".balign 16",
    ".set number, number + 1",
    ".endr",
    "guest_trap_common:",
    "pushfq",
    "sub rsp, 8",
    "mov [rsp], cs",
    "mov [rsp + 2], ss",
    "push rcx",
    "push r11",
    "push rax",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "sub rsp, 21 * 8",
    "and rsp, -16",
    "mov rsi, rsp",
    "mov rbx, rsp",
    "xor ebp, ebp",
    "call {dispatch}",
    "mov rsp, rbx",
    // RSP points at a Context: all registers, then the frame of the iret hypercall.
    "guest_resume:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "mov eax, 23",
    "syscall",
    "ud2",
    // guest_run(context, recovery): enters the context; returns when a trap comes back to guest_recovered.
    ".global guest_run",
    "guest_run:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rsi], rsp",
    "mov rsi, rdi",
    "sub rsp, 21 * 8",
    "mov rdi, rsp",
    "mov ecx, 21",
    "cld",
    "rep movsq",
    "jmp guest_resume",
    // guest_catch(function, argument, recovery) -> 0 if it returned, 1 if a trap ended it.
    ".global guest_catch",
    "guest_catch:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdx], rsp",
    "sub rsp, 8",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    "xor eax, eax",
    "jmp 3f",
    ".global guest_recovered",
    "guest_recovered:",
    "mov eax, 1",
    "3:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "cld",
    "ret",
    stubs = const STUBS,
    dispatch = sym dispatch,
);

unsafe extern "C" {
    static guest_trap_stubs: u8;
    static guest_recovered: u8;
    /// Enters the context; returns when a trap comes back here. Fills in the recovery point first.
    pub fn guest_run(context: *const Context, recovery: *mut Recovery);
    /// Calls the function; 0 if it returned, 1 if a trap ended it. Fills in the recovery point first.
    pub fn guest_catch(
        function: extern "C" fn(*mut u8),
        argument: *mut u8,
        recovery: *mut Recovery,
    ) -> u64;
}

/// Address of a stub.
pub fn address(number: u16) -> u64 {
    &raw const guest_trap_stubs as u64 + 16 * u64::from(number)
}

/// Where an expected trap continues, on the stack the recovery point names.
pub fn recovery_address() -> u64 {
    &raw const guest_recovered as u64
}
