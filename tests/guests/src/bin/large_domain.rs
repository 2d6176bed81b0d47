//! Builds a domain of 16 GiB, an extent of 2 MiB at a time, and destroys it: all its frames come, and all are free again.
//!
//! xtask: memory=18G
//! xtask: dom0_mem=256M
//! xtask: seconds=600
//! xtask: tier=full
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::{XenMemoryReservation, memory, nr};
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, control, guest, say};
use guests::accepted;

guest!(large_domain, main);

/// Its frames.
const FRAMES: u64 = (16 << 30) >> 12;
/// Frames of an extent, as a power of two.
const ORDER: u32 = 9;
/// Extents asked for by one call.
const LIST: usize = 256;

fn main() {
    let before = control::free_frames();
    let Ok(domain) = control::create(&control::ordinary(1)) else {
        check!(false, "a domain is created");
        return;
    };
    accepted("a vCPU", control::max_vcpus(domain, 1));
    accepted("a size", control::max_mem(domain, FRAMES));
    let mut pfn = 0;
    while pfn < FRAMES {
        let mut list: [u64; LIST] = core::array::from_fn(|n| pfn + ((n as u64) << ORDER));
        let request = XenMemoryReservation {
            extent_start: list.as_mut_ptr() as u64,
            nr_extents: LIST as u64,
            extent_order: ORDER,
            domid: domain,
            ..XenMemoryReservation::ZERO
        };
        let argument = &raw const request as u64;
        let got = call(nr::MEMORY_OP, [memory::POPULATE_PHYSMAP, argument, 0, 0, 0]);
        if !check_eq!("extents of 2 MiB", got, LIST as i64) {
            break;
        }
        pfn += (LIST as u64) << ORDER;
    }
    let pages = control::info(domain).map(|info| info.tot_pages);
    check_eq!("its frames", pages, Ok(FRAMES));
    say!("large_domain: it has 16 GiB");
    accepted("it is destroyed", control::destroy(domain));
    check!(control::info(domain).is_err(), "and gone");
    // Tables of the scheduler's and of domains' numbers stay once made.
    let kept = before
        .unwrap_or(0)
        .wrapping_sub(control::free_frames().unwrap_or(0));
    check!(kept < 16, "all frames are free again");
}
