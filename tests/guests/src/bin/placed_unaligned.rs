//! Proves that a kernel's segments may begin and end anywhere and be writable and executable at once; that notes may stand
//! in a section alone; and that an offset of physical addresses is taken off.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::{Global, check, check_eq, guest};

guest!(placed_unaligned, main, notes {
    1 => ".quad guest_entry",
    3 => ".quad 0xffffffff80000000",
    4 => ".quad 0x2000000000",
    5 => ".asciz \"xen-3.0\"",
    6 => ".asciz \"guest-runtime\"",
    8 => ".asciz \"generic\"",
    12 => ".quad 0xffff800000000000",
    15 => ".quad 0xffffff0000000000",
    17 => ".quad 0x8801",
});

/// Something in the data segment that was not zero in the file, and something behind it that was not in the file.
static DATA: Global<[u32; 3]> = Global::new([1, 2, 3]);
static ZEROES: Global<[u8; 5000]> = Global::new([0; 5000]);

fn main() {
    unsafe extern "C" {
        static guest_image_start: u8;
        static guest_data_start: u8;
    }
    let (text, data) = (
        &raw const guest_image_start as u64,
        &raw const guest_data_start as u64,
    );
    check_eq!("the image begins inside a page", text % 4096, 0x40);
    check!(data % 4096 != 0, "the data begins inside a page");
    check_eq!("data", DATA.get(), [1, 2, 3]);
    check!(ZEROES.get().iter().all(|byte| *byte == 0), "zeroes");
    guests::start::all(Some(0xffff_ff00_0000_0000));
}
