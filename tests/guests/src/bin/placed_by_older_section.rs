//! Proves that a kernel of before the ELF notes is placed by its section `__xen_guest`: no notes at all, the virtual
//! address for the physical one in its program headers, a hypercall page by number, and the file's own entry point.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::{check, check_eq, guest, hypercall};

guest!(placed_by_older_section, main, older_section
    "GUEST_OS=guest-runtime,GUEST_VER=0.1,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,HYPERCALL_PAGE=0x100,\
     FEATURES=!writable_page_tables|pae_pgdir_above_4gb,PAE=yes,LOADER=generic");

fn main() {
    check!(hypercall::page() != 0, "there is a hypercall page");
    check_eq!(
        "a call through it",
        hypercall::call(17, [0; 5]),
        hypercall::by_syscall(17, [0; 5])
    );
    guests::start::all(None);
}
