//! Frames given to another domain and taken from it.

use guest_runtime::abi::{
    DOMID_SELF, MACH2PHYS_VIRT_START, XenMemoryDomain, XenMemoryReservation, errno, memory, nr,
};
use guest_runtime::builder::Child;
use guest_runtime::window::Window;
use guest_runtime::{check, check_eq, control, frames, hypercall, say};
use guests::{accepted, refused};

use crate::{either, memory_op, steps, with_child, with_list};

/// The number a frame is known by.
pub fn number(mfn: u64) -> u64 {
    // SAFETY: the table is readable wherever there is memory.
    unsafe {
        (MACH2PHYS_VIRT_START as *const u64)
            .add(mfn as usize)
            .read_volatile()
    }
}

/// A reservation of `count` extents.
pub fn reservation(domain: u16, list: u64, count: u64, order: u32) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: list,
        nr_extents: count,
        extent_order: order,
        domid: domain,
        ..XenMemoryReservation::ZERO
    }
}

fn total(child: &Child) -> u64 {
    child.info().map_or(0, |info| info.tot_pages)
}

/// Frames come clean, up to the most it may have, and go; one that is mapped goes with its mapping.
pub fn right() {
    with_child(|child| {
        let id = child.id;
        let base = total(child);
        accepted("four more", control::max_mem(id, base + 4));
        let mut list = [0x1000, 0x1001, 0x1002, 0x1003, 0x1004, 0x1005];
        check_eq!("as many as fit", control::populate(id, &mut list), 4);
        check_eq!("those that did not", [list[4], list[5]], [0x1004, 0x1005]);
        check_eq!("what it has", total(child), base + 4);
        let window = Window::new();
        for (at, mfn) in list[..4].iter().enumerate() {
            check_eq!("its number", number(*mfn), 0x1000 + at as u64);
            accepted("look", window.show(id, *mfn));
            let clean = (0..512).all(|index| window.read(index) == 0);
            check!(clean || either(1, 0) == 1, "it is clean");
            window.write(0, 0x5ec2e7);
        }
        check_eq!("no more", control::populate(id, &mut [0x1006]), 0);
        for (operation, wanted) in [
            (memory::CURRENT_RESERVATION, base + 4),
            (memory::MAXIMUM_RESERVATION, base + 4),
        ] {
            let mut who = XenMemoryDomain { domid: id };
            check_eq!(
                "its reservation",
                memory_op(operation, &mut who),
                wanted as i64
            );
        }
        // The last one is shown in the window.
        let decrease = |list: &mut [u64]| {
            let at = list.as_mut_ptr() as u64;
            control::reservation(memory::DECREASE_RESERVATION, id, at, list.len() as u64)
        };
        check_eq!("all four go", decrease(&mut list[..4]), 4);
        check_eq!("not twice", decrease(&mut list[..1]), 0);
        check_eq!("the one we see is there", window.read(0), 0x5ec2e7);
        check_eq!("what it has", total(child), base + either(1, 1) as u64);
        window.close();
        check_eq!("what it has", total(child), base);
        // Frames without a number.
        let mut list = [7, 7];
        let mut r = reservation(id, list.as_mut_ptr() as u64, 2, 0);
        check_eq!(
            "two more",
            memory_op(memory::INCREASE_RESERVATION, &mut r),
            2
        );
        check!(list[0] != 7 && list[1] != 7, "which they are");
        check_eq!("and they go", decrease(&mut list), 2);
        check_eq!("what it has", total(child), base);
        accepted("less than it has", control::max_mem(id, base - 1));
        check_eq!(
            "then nothing comes",
            control::populate(id, &mut [0x1000]),
            0
        );
        accepted("as it was", control::max_mem(id, base));
    });
}

/// What is refused, or not done.
pub fn wrong() {
    with_child(|child| {
        let id = child.id;
        let base = total(child);
        accepted("more", control::max_mem(id, base + 600));
        let page = frames::allocate();
        let list = page.va();
        for operation in [
            memory::POPULATE_PHYSMAP,
            memory::DECREASE_RESERVATION,
            memory::INCREASE_RESERVATION,
        ] {
            for nobody in [0x7000, 0x7ff1, 0x7ff2, 0x7ff4] {
                let result = memory_op(operation, &mut reservation(nobody, list, 1, 0));
                if !check_eq!("nobody's", result, either(0, -errno::ESRCH)) {
                    say!("  domain {nobody:#x}");
                }
            }
            check_eq!(
                "no list",
                memory_op(operation, &mut reservation(id, list, 0, 0)),
                0
            );
            for bad in [0xffff_8000_0000_0000, 0x8000_0000_0000, 8] {
                let result = memory_op(operation, &mut reservation(id, bad, 1, 0));
                check_eq!("a list nowhere", result, 0);
            }
            let result =
                hypercall::call(nr::MEMORY_OP, [operation, 0xffff_8000_0000_0000, 0, 0, 0]);
            check_eq!("nowhere", result, either(0, -errno::EFAULT));
        }
        // Xen gives frames that it could not tell of.
        let more = total(child) - base;
        check!(more == 0 || either(1, 0) == 1, "nothing came");
        let base = base + more;
        for order in [19, 32, 64, u32::MAX] {
            let result = memory_op(
                memory::POPULATE_PHYSMAP,
                &mut reservation(id, list, 1, order),
            );
            if !check!(result <= 0, "an extent larger than all") {
                say!("  order {order}: {result}");
            }
        }
        let decrease = |mfn: u64, order: u32| {
            let mut list = [mfn];
            memory_op(
                memory::DECREASE_RESERVATION,
                &mut reservation(id, list.as_mut_ptr() as u64, 1, order),
            )
        };
        for bad in [1 << 40, 0xfee00, 0xf0, 0x100, frames::pfn_to_mfn(2)] {
            check_eq!("not its to give", decrease(bad, 0), 0);
        }
        check_eq!("what it has", total(child), base);
        for flags in [1 << 16, 1 << 18] {
            let mut r = reservation(id, list, 1, 0);
            r.mem_flags = flags;
            // Xen promises such a frame and gives none.
            if flags == 1 << 18 || either(0, 1) == 1 {
                page.write(0, 0x1000);
                let came = memory_op(memory::POPULATE_PHYSMAP, &mut r);
                check_eq!("flags without effect", came, 1);
                check_eq!("which came", decrease(page.read(0), 0), 1);
            }
        }
        let mut who = XenMemoryDomain { domid: 0x7000 };
        for operation in [
            memory::CURRENT_RESERVATION,
            memory::MAXIMUM_RESERVATION,
            memory::MAXIMUM_GPFN,
        ] {
            check_eq!("nobody's", memory_op(operation, &mut who), -errno::ESRCH);
        }
        check_eq!("what it has", total(child), base);
        frames::release(page);
    });
}

/// Extents of 2 MiB, and below an address; those that are cleared in parts while a list of calls goes on.
pub fn large() {
    with_child(|child| {
        let id = child.id;
        let base = total(child);
        accepted("more", control::max_mem(id, base + 3 * 512 + 511));
        with_list(&[0x2000, 0x2200, 0x2400, 0x2600], |page| {
            let mut r = reservation(id, page.va(), 4, 9);
            r.mem_flags = 32;
            check_eq!(
                "as many as fit",
                memory_op(memory::POPULATE_PHYSMAP, &mut r),
                3
            );
            let window = Window::new();
            for at in 0..3 {
                let first = page.read(at);
                check_eq!("aligned", first % 512, 0);
                check!(first + 512 <= 1 << 20, "below 4 GiB");
                for n in [0, 1, 255, 511] {
                    check_eq!(
                        "its number",
                        number(first + n),
                        0x2000 + at as u64 * 512 + n
                    );
                }
                let mut clean = true;
                for n in 0..512 {
                    window.show(id, first + n);
                    clean &= (0..512).all(|index| window.read(index) == 0);
                    window.write(511, 0xdead);
                }
                check!(clean || either(1, 0) == 1, "all of it is clean");
            }
            window.close();
            check_eq!("the last number", page.read(3), 0x2600);
            check_eq!("what it has", total(child), base + 3 * 512);
            // One frame of the first goes alone, then the rest of it.
            let mut one = [page.read(0) + 5];
            let gone =
                control::reservation(memory::DECREASE_RESERVATION, id, one.as_mut_ptr() as u64, 1);
            check_eq!("one of them", gone, 1);
            let mut r = reservation(id, page.va() + 8, 2, 9);
            check_eq!(
                "two whole ones",
                memory_op(memory::DECREASE_RESERVATION, &mut r),
                2
            );
            let mut r = reservation(id, page.va(), 1, 9);
            check_eq!(
                "one with a hole",
                memory_op(memory::DECREASE_RESERVATION, &mut r),
                0
            );
            check_eq!("goes as far as the hole", total(child), base + 512 - 6);
            let first = page.read(0);
            for n in 6..512 {
                let mut one = [first + n];
                control::reservation(memory::DECREASE_RESERVATION, id, one.as_mut_ptr() as u64, 1);
            }
            check_eq!("what it has", total(child), base);
        });
        // By an ordinary domain too, and below its maximum.
        let answer = child.call(
            |_| {
                let mut list = [0x3000u64];
                let mut r = reservation(DOMID_SELF as u16, list.as_mut_ptr() as u64, 1, 9);
                let came = memory_op(memory::POPULATE_PHYSMAP, &mut r);
                let went = memory_op(memory::DECREASE_RESERVATION, &mut r);
                came << 8 | went
            },
            [0; 5],
        );
        check_eq!("2 MiB that it takes itself and gives", answer, 1 << 8 | 1);
        refused("16 GiB in one", {
            let mut list = [0u64];
            let result = memory_op(
                memory::POPULATE_PHYSMAP,
                &mut reservation(id, list.as_mut_ptr() as u64, 1, 22),
            );
            if result == 0 { either(-1, 0) } else { result }
        });
        check_eq!("what it has", total(child), base);
        child.call(steps::take, [0; 5]);
        child.call(steps::release, [0; 5]);
    });
}
