//! The ELF notes by which a loader recognises a paravirtualized kernel, and the macro that makes a guest.

/// Makes a guest: its notes, its name, and `main` as what runs after set-up.
///
/// `guest!(hello, main)` issues hypercalls by `syscall`; `guest!(hello, main, hypercall_page)` asks for a hypercall
/// page and goes through it; `guest!(hello, main, p2m_at 0x80_0000_0000)` wants the p2m list at that address.
/// `guest!(hello, main, notes { 1 => ".quad guest_entry", ... })` has these notes and no others;
/// `guest!(hello, main, older_section "VIRT_BASE=...")` has none, but the section that was there before them, and a
/// hypercall page at the image's first page.
#[macro_export]
macro_rules! guest {
    ($name:ident, $main:path) => {
        $crate::guest!(@common $name, $main);
        $crate::guest!(@no_page);
    };
    ($name:ident, $main:path, p2m_at $p2m:literal) => {
        $crate::guest!(@common $name, $main);
        $crate::guest!(@no_page);
        $crate::guest!(@note 15, concat!(".quad ", $p2m));
    };
    ($name:ident, $main:path, notes { $($kind:literal => $value:expr,)+ }) => {
        $crate::guest!(@main $name, $main);
        $crate::guest!(@no_page);
        $($crate::guest!(@note $kind, $value);)+
    };
    ($name:ident, $main:path, older_section $text:literal) => {
        $crate::guest!(@main $name, $main);
        $crate::guest!(@page);
        #[cfg(target_os = "none")]
        #[unsafe(link_section = "__xen_guest")]
        #[used]
        static OLDER_SECTION: [u8; $text.len()] = {
            let mut bytes = [0; $text.len()];
            bytes.copy_from_slice($text.as_bytes());
            bytes
        };
    };
    ($name:ident, $main:path, hypercall_page) => {
        $crate::guest!(@common $name, $main);
        $crate::guest!(@note 2, ".quad guest_hypercall_page");
        $crate::guest!(@page);
    };
    (@page) => {
        #[cfg(target_os = "none")]
        core::arch::global_asm!(
            ".pushsection .guest_hypercall_page, \"ax\", @progbits",
            ".balign 4096",
            ".global guest_hypercall_page",
            "guest_hypercall_page:",
            ".skip 4096, 0xcc",
            ".popsection",
        );
        #[unsafe(no_mangle)]
        extern "C" fn guest_hypercall_page_address() -> u64 {
            unsafe extern "C" {
                static guest_hypercall_page: u8;
            }
            &raw const guest_hypercall_page as u64
        }
    };
    (@no_page) => {
        #[unsafe(no_mangle)]
        extern "C" fn guest_hypercall_page_address() -> u64 {
            0
        }
    };
    (@note $kind:literal, $value:expr) => {
        #[cfg(target_os = "none")]
        core::arch::global_asm!(
            ".pushsection .note.Xen, \"a\", @note",
            ".balign 4",
            concat!(".long 4, 2f - 1f, ", $kind),
            ".asciz \"Xen\"",
            "1:",
            $value,
            "2:",
            ".balign 4",
            ".popsection",
        );
    };
    (@common $name:ident, $main:path) => {
        $crate::guest!(@note 1, ".quad guest_entry");
        $crate::guest!(@note 3, ".quad 0xffffffff80000000");
        $crate::guest!(@note 4, ".quad 0");
        $crate::guest!(@note 5, ".asciz \"xen-3.0\"");
        $crate::guest!(@note 6, ".asciz \"guest-runtime\"");
        $crate::guest!(@note 7, ".asciz \"0.1\"");
        $crate::guest!(@note 8, ".asciz \"generic\"");
        $crate::guest!(@note 10, ".asciz \"!writable_page_tables|pae_pgdir_above_4gb\"");
        $crate::guest!(@note 17, ".long 0x8801");
        $crate::guest!(@main $name, $main);
    };
    (@main $name:ident, $main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn guest_main() -> ! {
            $crate::check::run(stringify!($name), $main)
        }
    };
}
