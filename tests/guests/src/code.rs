//! Pieces of code that tests run in kernel and in user mode: position-independent, in the `.guest_user` section,
//! so that each exists at its address in the image and at `guest_runtime::user::address` of that.
//!
//! Registers come from the context that enters a piece; every piece ends in `ud2`, for when it should have
//! trapped and did not.

/// Defines functions that give the address of pieces of code.
#[macro_export]
macro_rules! code {
    ($($(#[$attribute:meta])* $name:ident: $($line:literal),+;)+) => {
        $(
            $(#[$attribute])*
            #[allow(missing_docs)] // The piece is what it says.
            pub fn $name() -> u64 {
                unsafe extern "C" {
                    static $name: u8;
                }
                &raw const $name as u64
            }
            #[cfg(target_os = "none")]
            core::arch::global_asm!(
                ".pushsection .guest_user, \"ax\", @progbits",
                concat!(".global ", stringify!($name)),
                concat!(stringify!($name), ":"),
                $($line,)+
                "ud2",
                ".popsection",
            );
        )+
    };
}

code! {
    /// `ud2`.
    code_ud2: "ud2";
    /// One byte of nothing.
    code_nop: "nop";
    /// `syscall`: a hypercall from kernel mode, a system call from user mode.
    code_syscall: "syscall";
    /// Waits for an event for ever.
    code_spin: "2:", "pause", "jmp 2b";
}
