//! The first instructions, the command line, and the end of a program that panicked.

use core::ffi::CStr;

/// The words of the command line, the program's own name first.
///
/// The kernel put them on the stack, where they stay as long as the program lives.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    words: &'static [*const u8],
    environment: *const *const u8,
}

impl Arguments {
    /// What lies on a new program's stack: the number of words, a pointer to each, a null pointer; then the
    /// environment in the same form.
    ///
    /// # Safety
    /// `stack` is the stack pointer with which the kernel started the program, and nothing was written there since.
    pub unsafe fn from_stack(stack: *const u64) -> Self {
        // SAFETY: the caller's contract: the count lies at the stack pointer.
        let count = unsafe { stack.read() } as usize;
        // SAFETY: `count` pointers follow it, and a null pointer; all of it outlives the program.
        unsafe {
            let words = stack.add(1).cast();
            Arguments {
                words: core::slice::from_raw_parts(words, count),
                environment: words.add(count + 1),
            }
        }
    }

    /// Word number `index`; `None` if there is none, or it is not UTF-8.
    pub fn get(&self, index: usize) -> Option<&'static str> {
        let &word = self.words.get(index)?;
        // SAFETY: each pointer names a word ended by a zero byte, which lives as long as the program.
        let word = unsafe { CStr::from_ptr(word.cast()) };
        word.to_str().ok()
    }

    /// How many words there are.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there is none, not even the program's name.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words as `execve` takes them: ended by a null pointer.
    pub fn as_ptr(&self) -> *const *const u8 {
        self.words.as_ptr()
    }

    /// The environment as `execve` takes it.
    pub fn environment(&self) -> *const *const u8 {
        self.environment
    }
}

unsafe extern "C" {
    fn program_main(stack: *const u64) -> !;
}

#[cfg(target_os = "none")]
core::arch::global_asm!(
    ".pushsection .text.program_entry, \"ax\", @progbits",
    ".global program_entry",
    "program_entry:",
    "mov rdi, rsp",
    "xor ebp, ebp",
    // The kernel aligns it already; a call is what pushes the eight bytes that functions expect.
    "and rsp, -16",
    "call {main}",
    "ud2",
    ".popsection",
    main = sym program_main,
);

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::complain!("{info}");
    crate::sys::exit(crate::PANICKED)
}
