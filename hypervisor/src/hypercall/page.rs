//! The hypercall page of kernels that still ask for one: 128 stubs of 32 bytes, each a `syscall`.

use crate::layout::PAGE;
use crate::memory::phys;
use frames::Mfn;
use guest_abi::Hypercall;

const STUB: usize = 32;

/// Fills a page. RCX and R11, which `syscall` destroys, are kept for the caller; `iret` never returns.
pub fn fill(mfn: Mfn) {
    let mut page = [0xccu8; PAGE as usize];
    for (number, stub) in page.chunks_exact_mut(STUB).enumerate() {
        let number = number as u32;
        let mov = [0xb8, number as u8, (number >> 8) as u8, 0, 0];
        let mut put = |bytes: &[&[u8]]| {
            let mut at = 0;
            for part in bytes {
                stub[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
        };
        const PUSH_RCX_R11: &[u8] = &[0x51, 0x41, 0x53];
        const SYSCALL: &[u8] = &[0x0f, 0x05];
        if u64::from(number) == Hypercall::Iret.number() {
            put(&[PUSH_RCX_R11, &[0x50], &mov, SYSCALL]);
        } else {
            put(&[PUSH_RCX_R11, &mov, SYSCALL, &[0x41, 0x5b, 0x59, 0xc3]]);
        }
    }
    phys::write(mfn.0 * PAGE, &page);
}
