//! The workers' assembly: one round with every register full, the way to user mode and back, and their handlers.
//!
//! Offsets are those of `block::Block`. A worker's GS base leads to its own page, in either mode, and its handlers run
//! with the kernel's.

#[cfg(target_os = "none")]
core::arch::global_asm!(
    // A round, in kernel or in user mode: loads everything, spins, stores everything.
    ".pushsection .guest_user, \"ax\", @progbits",
    ".global vcpus_round",
    "vcpus_round:",
    "test qword ptr gs:[0x20], 2",
    "jnz 1f",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movdqu xmm\\n, gs:[0x2d8 + 32 * \\n]",
    ".endr",
    "jmp 2f",
    "1:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovdqu ymm\\n, gs:[0x2d8 + 32 * \\n]",
    ".endr",
    "2:",
    "ldmxcsr gs:[0x48]",
    "fninit",
    "fldcw gs:[0x50]",
    "fild qword ptr gs:[0x58]",
    "push gs:[0x68]",
    "popfq",
    "mov rax, gs:[0x1d8 + 8 * 0]",
    "mov rcx, gs:[0x1d8 + 8 * 1]",
    "mov rdx, gs:[0x1d8 + 8 * 2]",
    "mov rbx, gs:[0x1d8 + 8 * 3]",
    "mov rbp, gs:[0x1d8 + 8 * 5]",
    "mov rsi, gs:[0x1d8 + 8 * 6]",
    "mov rdi, gs:[0x1d8 + 8 * 7]",
    "mov r8, gs:[0x1d8 + 8 * 8]",
    "mov r9, gs:[0x1d8 + 8 * 9]",
    "mov r10, gs:[0x1d8 + 8 * 10]",
    "mov r11, gs:[0x1d8 + 8 * 11]",
    "mov r12, gs:[0x1d8 + 8 * 12]",
    "mov r13, gs:[0x1d8 + 8 * 13]",
    "mov r14, gs:[0x1d8 + 8 * 14]",
    "mov r15, gs:[0x1d8 + 8 * 15]",
    "3: dec qword ptr gs:[0x8]",
    "jnz 3b",
    "mov gs:[0x258 + 8 * 0], rax",
    "mov gs:[0x258 + 8 * 1], rcx",
    "mov gs:[0x258 + 8 * 2], rdx",
    "mov gs:[0x258 + 8 * 3], rbx",
    "mov gs:[0x258 + 8 * 4], rsp",
    "mov gs:[0x258 + 8 * 5], rbp",
    "mov gs:[0x258 + 8 * 6], rsi",
    "mov gs:[0x258 + 8 * 7], rdi",
    "mov gs:[0x258 + 8 * 8], r8",
    "mov gs:[0x258 + 8 * 9], r9",
    "mov gs:[0x258 + 8 * 10], r10",
    "mov gs:[0x258 + 8 * 11], r11",
    "mov gs:[0x258 + 8 * 12], r12",
    "mov gs:[0x258 + 8 * 13], r13",
    "mov gs:[0x258 + 8 * 14], r14",
    "mov gs:[0x258 + 8 * 15], r15",
    "pushfq",
    "pop gs:[0x70]",
    "cld",
    "fistp qword ptr gs:[0x60]",
    "fnstcw gs:[0x54]",
    "stmxcsr gs:[0x4c]",
    "test qword ptr gs:[0x20], 2",
    "jnz 1f",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "movdqu gs:[0x4d8 + 32 * \\n], xmm\\n",
    ".endr",
    "jmp 2f",
    "1:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
    "vmovdqu gs:[0x4d8 + 32 * \\n], ymm\\n",
    ".endr",
    "2:",
    "mov gs:[0x40], ds",
    "mov gs:[0x42], es",
    "mov gs:[0x44], fs",
    "mov gs:[0x46], gs",
    "mov rax, fs:[0x28]",
    "mov gs:[0x30], rax",
    "test qword ptr gs:[0x20], 4",
    "jz 4f",
    "rdtscp",
    "mov gs:[0x38], rcx",
    "4:",
    "test qword ptr gs:[0x20], 1",
    "jnz 5f",
    "ret",
    "5:",
    "syscall",
    "ud2",
    ".popsection",
    // Called from Rust: the round uses every register.
    ".pushsection .text.vcpus, \"ax\", @progbits",
    ".global vcpus_kernel_round",
    "vcpus_kernel_round:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "call vcpus_round",
    "jmp 6f",
    // vcpus_user_round(rip, rsp): leaves by iret; the system call at the round's end comes back behind it.
    ".global vcpus_user_round",
    "vcpus_user_round:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov gs:[0x10], rsp",
    "push 0xe02b",
    "push rsi",
    "push 0x202",
    "push 0xe033",
    "push rdi",
    "push 0",
    "push 0",
    "push 0",
    "push 0",
    "mov eax, 23",
    "syscall",
    "ud2",
    ".global vcpus_syscall",
    "vcpus_syscall:",
    "mov rsp, gs:[0x10]",
    "mov rax, gs:[0x18]",
    "mov byte ptr [rax + 1], 0",
    "cmp byte ptr [rax], 0",
    "je 6f",
    "mov eax, 17",
    "xor edi, edi",
    "xor esi, esi",
    "syscall",
    "6:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // Handlers. Those that return have RCX and R11 in place and RSP at RIP.
    "vcpus_return:",
    "push 0",
    "push rcx",
    "push r11",
    "push rax",
    "mov eax, 23",
    "syscall",
    "ud2",
    "vcpus_stop:",
    "pop gs:[0xd0]",
    "7: mov eax, 24",
    "mov edi, 2",
    "mov rsi, gs:[0]",
    "syscall",
    "jmp 7b",
    ".balign 64",
    ".global vcpus_traps",
    "vcpus_traps:",
    ".set nr, 0",
    ".rept 32",
    ".balign 64",
    "pop rcx",
    "pop r11",
    ".if (nr == 8) || ((nr >= 10) && (nr <= 14)) || (nr == 17) || (nr == 21)",
    "lea rsp, [rsp + 8]",
    ".endif",
    "inc qword ptr gs:[0xd8 + 8 * nr]",
    ".if (nr == 1) || (nr == 2) || (nr == 7)",
    "jmp vcpus_return",
    ".elseif nr == 13",
    "jmp vcpus_protection",
    ".endif",
    "mov qword ptr gs:[0xc8], nr + 1",
    "jmp vcpus_stop",
    ".set nr, nr + 1",
    ".endr",
    // `cli` without the right to it is stepped over; nothing else here may fault so.
    "vcpus_protection:",
    "push rax",
    "mov rax, [rsp + 8]",
    "cmp byte ptr [rax], 0xfa",
    "pop rax",
    "jne 8f",
    "inc qword ptr [rsp]",
    "jmp vcpus_return",
    "8: mov qword ptr gs:[0xc8], 14",
    "jmp vcpus_stop",
    ".global vcpus_failsafe",
    "vcpus_failsafe:",
    "pop rcx",
    "pop r11",
    "pop gs:[0xa8]",
    "pop gs:[0xb0]",
    "pop gs:[0xb8]",
    "pop gs:[0xc0]",
    "inc qword ptr gs:[0xa0]",
    "jmp vcpus_return",
    ".global vcpus_event",
    "vcpus_event:",
    "pop rcx",
    "pop r11",
    "push rax",
    "push rdx",
    "mov rax, gs:[0x18]",
    "mov byte ptr [rax], 0",
    "xor edx, edx",
    "xchg [rax + 8], rdx",
    "mov rax, gs:[0x78]",
    "mov rdx, gs:[0x80]",
    "lock btr [rax], rdx",
    "jnc 9f",
    "inc qword ptr gs:[0x90]",
    "9: mov rdx, gs:[0x88]",
    "lock btr [rax], rdx",
    "jnc 9f",
    "inc qword ptr gs:[0x98]",
    "9: pop rdx",
    "pop rax",
    "jmp vcpus_return",
    ".popsection",
);

#[allow(missing_docs)]
mod symbols {
    unsafe extern "C" {
        pub static vcpus_round: u8;
        pub static vcpus_syscall: u8;
        pub static vcpus_traps: u8;
        pub static vcpus_failsafe: u8;
        pub static vcpus_event: u8;
        pub fn vcpus_kernel_round();
        pub fn vcpus_user_round(rip: u64, rsp: u64);
    }
}

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident $symbol:ident;)+) => {
        $($(#[$doc])* pub fn $name() -> u64 { &raw const symbols::$symbol as u64 })+
    };
}

addresses! {
    /// The round, at its address in the kernel's image.
    round vcpus_round;
    /// The system-call callback.
    syscall vcpus_syscall;
    /// The failsafe callback.
    failsafe vcpus_failsafe;
    /// The event callback.
    event vcpus_event;
}

/// The handler of an exception.
pub fn handler(vector: u64) -> u64 {
    &raw const symbols::vcpus_traps as u64 + 64 * vector
}

/// One round in kernel mode.
pub fn kernel_round() {
    // SAFETY: it keeps what a call must keep; GS leads to this vCPU's page, where it stores the rest.
    unsafe { symbols::vcpus_kernel_round() };
}

/// One round in user mode.
pub fn user_round(rsp: u64) {
    // SAFETY: as `kernel_round`; the user's page and stack are this vCPU's alone.
    unsafe { symbols::vcpus_user_round(guest_runtime::user::address(round()), rsp) };
}
