//! The first instructions, and what a guest finds when it starts.

use crate::Global;
use crate::abi::StartInfo;
use crate::{builder, child, events, frames, hypercall, page_table, trap};

/// Selectors and flags as the vCPU was started with, noted before anything changed them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EntryState {
    /// RFLAGS.
    pub rflags: u64,
    /// RSP.
    pub rsp: u64,
    /// CS, SS, DS, ES, FS and GS selectors.
    pub selectors: [u16; 6],
    /// Bitwise OR of the general registers that must be zero (all but RSI and RSP).
    pub other_registers: u64,
    /// RSI: the virtual address of start_info.
    pub start_info: u64,
}

static ENTRY: Global<EntryState> = Global::new(EntryState {
    rflags: 0,
    rsp: 0,
    selectors: [0; 6],
    other_registers: 0,
    start_info: 0,
});

/// What the vCPU was started with.
pub fn entry_state() -> EntryState {
    ENTRY.get()
}

/// The start_info page.
pub fn start_info() -> &'static StartInfo {
    // SAFETY: the entry ABI gives RSI as the address of a mapped start_info page that nobody writes meanwhile.
    unsafe { &*(ENTRY.get().start_info as *const StartInfo) }
}

/// The command line, up to its NUL; `None` if it is not terminated or not UTF-8.
pub fn command_line() -> Option<&'static str> {
    let bytes = &start_info().cmd_line;
    let end = bytes.iter().position(|&byte| byte == 0)?;
    core::str::from_utf8(&bytes[..end]).ok()
}

/// Whether the command line has this word.
pub fn has_argument(word: &str) -> bool {
    command_line().is_some_and(|line| {
        line.split_ascii_whitespace()
            .any(|candidate| candidate == word)
    })
}

/// The number that a word of the command line has behind `name` (`count=`), or another.
pub fn number(name: &str, default: u64) -> u64 {
    command_line()
        .and_then(|line| {
            line.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(name)?.parse().ok())
        })
        .unwrap_or(default)
}

unsafe extern "C" {
    fn guest_main() -> !;
    fn guest_hypercall_page_address() -> u64;
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".pushsection .text.guest_entry, \"ax\", @progbits",
    ".global guest_entry",
    "guest_entry:",
    // `entry` is filled in before the first push; RSP becomes our own stack at once.
    "mov [{entry} + 8], rsp",
    "lea rsp, [{stack} + {stack_size}]",
    "pushfq",
    "pop qword ptr [{entry}]",
    "mov [{entry} + 16], cs",
    "mov [{entry} + 18], ss",
    "mov [{entry} + 20], ds",
    "mov [{entry} + 22], es",
    "mov [{entry} + 24], fs",
    "mov [{entry} + 26], gs",
    "or rax, rbx",
    "or rax, rcx",
    "or rax, rdx",
    "or rax, rdi",
    "or rax, rbp",
    "or rax, r8",
    "or rax, r9",
    "or rax, r10",
    "or rax, r11",
    "or rax, r12",
    "or rax, r13",
    "or rax, r14",
    "or rax, r15",
    "mov [{entry} + 32], rax",
    "mov [{entry} + 40], rsi",
    "cld",
    "xor ebp, ebp",
    "call {start}",
    "ud2",
    ".popsection",
    entry = sym ENTRY,
    stack = sym STACK,
    stack_size = const STACK_SIZE,
    start = sym start,
);

const STACK_SIZE: usize = 64 * 1024;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Stack([u8; STACK_SIZE]);

static STACK: Global<Stack> = Global::new(Stack([0; STACK_SIZE]));

extern "C" fn start() -> ! {
    builder::keep_data();
    // SAFETY: the guest! macro defines it, and it only tells an address.
    hypercall::use_page(unsafe { guest_hypercall_page_address() });
    frames::init();
    page_table::init();
    trap::init();
    events::init();
    if let Some(link) = child::find(start_info()) {
        child::main(link);
    }
    // SAFETY: the guest! macro defines it.
    unsafe { guest_main() }
}
