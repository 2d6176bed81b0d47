//! Proves that a kernel may have page 0 at virtual address 0 and begin on it: notes of four bytes, none that say what is
//! usual anyway, an entry point at address 0.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::frames::virt_base;
use guest_runtime::{check_eq, guest};

guest!(placed_at_zero, main, notes {
    1 => ".long guest_entry",
    3 => ".long 0",
    5 => ".asciz \"xen-3.0\"",
    6 => ".asciz \"guest-runtime\"",
    8 => ".asciz \"generic\"",
    10 => ".asciz \"!writable_page_tables|dom0\"",
    17 => ".long 0x800",
});

fn main() {
    check_eq!("page 0 is at", virt_base(), 0);
    guests::start::all(None);
}
