//! Proves that a kernel's initial mapping may need more than one page table of an upper level: its pages lie on both sides
//! of a boundary of a gibibyte. The base is the last but a MiB below it, and 2 MiB do not divide it either.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::entry::start_info;
use guest_runtime::frames::virt_base;
use guest_runtime::{check, check_eq, guest};

guest!(placed_across, main, notes {
    1 => ".quad guest_entry",
    3 => ".quad 0xffffffffbff01000",
    4 => ".long 0",
    5 => ".asciz \"xen-3.0\"",
    6 => ".asciz \"guest-runtime\"",
    8 => ".asciz \"generic\"",
});

fn main() {
    check_eq!("page 0 is at", virt_base(), 0xffff_ffff_bff0_1000);
    check!(start_info().nr_pt_frames >= 6, "two tables of level 2");
    guests::start::all(None);
}
