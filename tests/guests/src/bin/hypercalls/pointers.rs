//! Pointers: every family with every kind of bad address answers -EFAULT; user memory and odd addresses are fine.

use guest_runtime::abi::{
    CallbackRegister, DOMID_SELF, HOLE_END, HOLE_START, MmuextOp, errno, evtchn, nr, sched, vcpu,
};
use guest_runtime::frames::Page;
use guest_runtime::hypercall::{self, call};
use guest_runtime::page_table::bits;
use guest_runtime::{check, check_eq, frames, page_table, user};
use guests::accepted;

/// A call with one pointer in it.
type Call = (&'static str, fn(u64) -> i64);

/// Families that read at the pointer.
const READERS: &[Call] = &[
    ("mmu_update", |at| {
        call(nr::MMU_UPDATE, [at, 1, 0, DOMID_SELF, 0])
    }),
    ("mmuext_op", |at| {
        call(nr::MMUEXT_OP, [at, 1, 0, DOMID_SELF, 0])
    }),
    ("set_gdt", |at| call(nr::SET_GDT, [at, 16, 0, 0, 0])),
    ("multicall", |at| call(nr::MULTICALL, [at, 1, 0, 0, 0])),
    ("console_io write", |at| {
        call(nr::CONSOLE_IO, [0, 16, at, 0, 0])
    }),
    ("event_channel_op send", |at| {
        call(nr::EVENT_CHANNEL_OP, [evtchn::SEND, at, 0, 0, 0])
    }),
    ("event_channel_op close", |at| {
        call(nr::EVENT_CHANNEL_OP, [evtchn::CLOSE, at, 0, 0, 0])
    }),
    ("sched_op poll", |at| {
        call(nr::SCHED_OP, [sched::POLL, at, 0, 0, 0])
    }),
    ("sched_op shutdown", |at| {
        call(nr::SCHED_OP, [sched::SHUTDOWN, at, 0, 0, 0])
    }),
    ("callback_op", |at| call(nr::CALLBACK_OP, [0, at, 0, 0, 0])),
    ("vcpu_op timer", |at| {
        call(nr::VCPU_OP, [vcpu::SET_SINGLESHOT_TIMER, 0, at, 0, 0])
    }),
    ("vcpu_op runstate area", |at| {
        call(
            nr::VCPU_OP,
            [vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, at, 0, 0],
        )
    }),
    ("vcpu_op vcpu_info", |at| {
        call(nr::VCPU_OP, [vcpu::REGISTER_VCPU_INFO, 0, at, 0, 0])
    }),
    ("physdev_op set_iopl", |at| {
        call(nr::PHYSDEV_OP, [6, at, 0, 0, 0])
    }),
    ("memory_op exchange", |at| {
        call(nr::MEMORY_OP, [11, at, 0, 0, 0])
    }),
    ("xen_version features", |at| {
        call(nr::XEN_VERSION, [6, at, 0, 0, 0])
    }),
];

/// Families that write at the pointer.
const WRITERS: &[Call] = &[
    ("xen_version extraversion", |at| {
        call(nr::XEN_VERSION, [1, at, 0, 0, 0])
    }),
    ("xen_version capabilities", |at| {
        call(nr::XEN_VERSION, [3, at, 0, 0, 0])
    }),
    ("memory_op machphys_mapping", |at| {
        call(nr::MEMORY_OP, [12, at, 0, 0, 0])
    }),
];

pub fn all() {
    for &(what, make) in READERS.iter().chain(WRITERS) {
        for address in bad_addresses() {
            let result = make(address);
            if result != -errno::EFAULT {
                guest_runtime::check::fail(format_args!(
                    "{what} at {address:#x}, wanted -EFAULT, got {result}"
                ));
            } else {
                check!(true, what);
            }
        }
    }
    null_clears_the_trap_table_only();
    read_only_output();
    across_a_page();
    odd_addresses();
    user_memory();
    pointer_in_pointer();
    after_the_mapping_changed();
}

/// Nothing, low, both ends of the hole, in it, not canonical, and the last bytes of all.
fn bad_addresses() -> [u64; 12] {
    [
        0,
        8,
        0x7fff_ffff_f000,
        0x7fff_ffff_fffc,
        0x8000_0000_0000,
        0xffff_7fff_ffff_fff8,
        HOLE_START,
        HOLE_START + (1 << 39),
        HOLE_START + (5 << 39) + 4,
        HOLE_END - 8,
        1 << 63,
        u64::MAX - 7,
    ]
}

/// The trap table is the one family for which a null pointer means something.
fn null_clears_the_trap_table_only() {
    for address in bad_addresses().into_iter().filter(|&address| address != 0) {
        check_eq!(
            "set_trap_table",
            call(nr::SET_TRAP_TABLE, [address, 0, 0, 0, 0]),
            -errno::EFAULT
        );
    }
}

/// What the guest itself may not write the hypervisor does not write for it.
fn read_only_output() {
    let page = frames::allocate();
    accepted("read-only", page_table::protect(page));
    for &(what, make) in WRITERS {
        check_eq!(what, make(page.va() + 64), -errno::EFAULT);
    }
    accepted("writable", page_table::unprotect(page));
    check!(
        (0..512).all(|index| page.read(index) == 0),
        "nothing was written"
    );
    let tables = page_table::root();
    for &(what, make) in WRITERS {
        check_eq!(what, make(tables.va() + 0x800), -errno::EFAULT);
    }
    frames::release(page);
}

/// An argument whose first half is there and whose second is not.
fn across_a_page() {
    let edge = user::STACK_TOP;
    for &(what, make) in READERS.iter().chain(WRITERS) {
        check_eq!(what, make(edge - 1), -errno::EFAULT);
    }
}

/// Pointers need no alignment.
fn odd_addresses() {
    let mut buffer = [0u8; 64];
    for offset in 1..8 {
        let at = buffer.as_mut_ptr() as u64 + offset;
        accepted(
            "extraversion at an odd address",
            call(nr::XEN_VERSION, [1, at, 0, 0, 0]),
        );
        accepted(
            "machphys_mapping at an odd address",
            call(nr::MEMORY_OP, [12, at, 0, 0, 0]),
        );
    }
    let page = frames::allocate();
    let at = page.va() + 3;
    let request = MmuextOp {
        cmd: 6,
        ..Default::default()
    };
    // SAFETY: inside the page that was just allocated.
    unsafe { (at as *mut MmuextOp).write_unaligned(request) };
    accepted(
        "mmuext_op at an odd address",
        call(nr::MMUEXT_OP, [at, 1, 0, DOMID_SELF, 0]),
    );
    frames::release(page);
}

/// Arguments in the user half, which the kernel's root maps too, also where they cross pages.
fn user_memory() {
    for at in [user::DATA + 64, user::DATA + 4096 - 5] {
        accepted(
            "extraversion in user memory",
            call(nr::XEN_VERSION, [1, at, 0, 0, 0]),
        );
        accepted(
            "machphys_mapping in user memory",
            call(nr::MEMORY_OP, [12, at, 0, 0, 0]),
        );
        let request = MmuextOp {
            cmd: 6,
            ..Default::default()
        };
        // SAFETY: user data is mapped for the kernel and used by nothing else now.
        unsafe { (at as *mut MmuextOp).write_unaligned(request) };
        accepted(
            "mmuext_op in user memory",
            call(nr::MMUEXT_OP, [at, 1, at + 100, DOMID_SELF, 0]),
        );
        // SAFETY: as above.
        let done = unsafe { ((at + 100) as *const u32).read_unaligned() };
        check_eq!("its count there", done, 1);
    }
}

/// Pointers inside arguments are checked like others.
fn pointer_in_pointer() {
    for bad in bad_addresses() {
        let mut poll = [bad, 1, 1];
        let result = hypercall::sched_op(sched::POLL, &mut poll);
        check_eq!("ports of a poll", result, -errno::EFAULT);
        let mut map = [128u64, bad];
        let result = call(nr::MEMORY_OP, [10, map.as_mut_ptr() as u64, 0, 0, 0]);
        // Without a buffer it may answer how many entries there are.
        check!(
            result == -errno::EFAULT || bad == 0,
            "buffer of the memory map"
        );
        let result = hypercall::mmuext(8, 0, bad);
        guests::refused("a set of vCPUs", result);
        if bad != 0 {
            let quiet = MmuextOp {
                cmd: 6,
                ..Default::default()
            };
            let result = call(
                nr::MMUEXT_OP,
                [&raw const quiet as u64, 1, bad, DOMID_SELF, 0],
            );
            check!(
                result == 0 || result == -errno::EFAULT,
                "a count at a bad address"
            );
        }
    }
    // A callback that would be entered at a bad address is another matter: the address is refused.
    let mut request = CallbackRegister {
        flags: 1,
        address: 0x8000_0000_0000,
        ..Default::default()
    };
    guests::refused(
        "a callback that is not canonical",
        call(nr::CALLBACK_OP, [0, &raw mut request as u64, 0, 0, 0]),
    );
}

/// An argument's place is what the tables say at the time of the call, whatever they said at the last: another page,
/// none, one that may only be read, and another table above.
fn after_the_mapping_changed() {
    const AT: u64 = 0x6a00_0000_0000;
    let (first, second) = (frames::allocate(), frames::allocate());
    let writes = |what: &str, into: Option<Page>| {
        first.write(0, 0);
        second.write(0, 0);
        let result = call(nr::MEMORY_OP, [12, AT, 0, 0, 0]);
        check_eq!(what, result, into.map_or(-errno::EFAULT, |_| 0));
        for page in [first, second] {
            let written = page.read(0) != 0;
            check_eq!(what, written, into.is_some_and(|its| its.pfn == page.pfn));
        }
    };
    let entry = |page: Page, flags: u64| page.maddr() | flags | bits::NX;
    accepted("map", page_table::map(AT, entry(first, bits::KERNEL_RW)));
    let leaf = page_table::slot(AT).expect("just mapped");
    writes("mapped", Some(first));
    writes("mapped, again", Some(first));
    accepted("remap", leaf.set(entry(second, bits::KERNEL_RW)));
    writes("remapped", Some(second));
    accepted("read-only", leaf.set(entry(second, bits::KERNEL_RO)));
    writes("read-only", None);
    accepted("unmap", leaf.set(0));
    writes("unmapped", None);
    accepted("map", leaf.set(entry(first, bits::KERNEL_RW)));
    writes("mapped after all", Some(first));
    // Another table for the region, in which the page is another; then the first table read-only; then none.
    let upper = page_table::slot_under(page_table::root(), AT, 2).expect("just mapped");
    let before = upper.value();
    let other = frames::allocate();
    other.write(leaf.index, entry(second, bits::KERNEL_RW));
    accepted("protect", page_table::protect(other));
    accepted("relink", upper.set(other.maddr() | bits::TABLE));
    writes("relinked", Some(second));
    accepted("link back", upper.set(before & !bits::WRITE));
    writes("read-only above", None);
    accepted("link back", upper.set(before));
    writes("linked back", Some(first));
    accepted("unlink", upper.set(0));
    writes("unlinked", None);
    accepted("link back", upper.set(before));
    accepted("unmap", leaf.set(0));
    page_table::release_table(other);
    for page in [first, second] {
        frames::release(page);
    }
}
