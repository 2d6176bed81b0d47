//! Crashes in its first life with everything in use that a domain can have, and proves in its second that nothing of
//! it is left: the same frames are free as when the first life began, no count is wrong, no port is open, no timer
//! runs, no descriptor or debug register is set. What the lives tell each other is in the clock chip's memory.
//! xtask: hv=dom0_crash=restart dom0_max_vcpus=40
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::grant::{GNTMAP_HOST_MAP, GTF_PERMIT_ACCESS, MapGrantRef, SetupTable};
use guest_runtime::abi::xeno::{Audit, XENO_INTERFACE_VERSION};
use guest_runtime::abi::{
    DOMID_SELF, ShutdownReason, XenMemoryReservation, errno, mmuext, nr, vcpu,
};
use guest_runtime::entry::start_info;
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, call, mmuext as op, vcpu_op};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check_eq, guest, say, user};
use guests::channels::{VIRQ_TIMER, alloc_unbound, bind_interdomain, bind_ipi, bind_virq, kind};

use guests::{accepted, clock_chip};

guest!(restarted, main);

const DATA: u64 = 0x00cf_f300_0000_ffff;

fn main() {
    clock_chip::open();
    let now = audit();
    if let Some(free) = clock_chip::take() {
        return second_life(&now, free);
    }
    check_eq!("no count is wrong in the first life", now.mismatches, 0);
    clock_chip::keep(now.free);
    roots_and_pins();
    descriptors();
    ports_and_timers();
    frames_given_and_taken();
    grants();
    registers();
    areas();
    let full = audit();
    check_eq!("no count is wrong at its end", full.mismatches, 0);
    check_eq!("storage is charged", full.overhead > now.overhead, true);
    // Two more than before are the grant table's.
    check_eq!("frames were given up", full.domain - 2 < now.domain, true);
    say!("restarted: the first life crashes");
    hypercall::shutdown(ShutdownReason::Crash)
}

fn second_life(now: &Audit, free: u64) {
    check_eq!("no count is wrong in the second life", now.mismatches, 0);
    check_eq!(
        "as many frames are free as when the first began",
        now.free,
        free
    );
    check_eq!(
        "the domain has its pages, the shared one and the first of its grant table",
        now.domain,
        start_info().nr_pages + 2
    );
    check_eq!("there is no other", now.others, 0);
    check_eq!("no descriptor table", now.frames_by_type[6], 0);
    check_eq!("one root", now.frames_by_type[5], 1);
    let open = (1..128).filter(|&port| kind(port) != 0).count();
    check_eq!("no port is open", open, 0);
    for register in [0, 1, 2, 3] {
        check_eq!(
            "no breakpoint",
            call(nr::GET_DEBUGREG, [register, 0, 0, 0, 0]),
            0
        );
    }
    check_eq!(
        "a timer can be stopped",
        vcpu_op(vcpu::STOP_SINGLESHOT_TIMER, 0, &mut 0u64),
        0
    );
    accepted(
        "ports can be opened",
        bind_virq(VIRQ_TIMER, 0).map_or_else(|e| e, |_| 0),
    );
}

fn audit() -> Audit {
    let mut audit = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        ..Audit::ZERO
    };
    accepted(
        "an audit",
        call(nr::XENO_OP, [0, &raw mut audit as u64, 0, 0, 0]),
    );
    audit
}

/// A user root, and pins at all levels, some of tables that are linked too.
fn roots_and_pins() {
    user::enable();
    for pin in [
        mmuext::PIN_L1,
        mmuext::PIN_L2,
        mmuext::PIN_L3,
        mmuext::PIN_L4,
    ] {
        let table = page_table::new_table();
        accepted("pin", op(pin, table.mfn(), 0));
    }
    let data = frames::allocate();
    accepted(
        "a mapping elsewhere",
        page_table::map(0x5000_0000, data.maddr() | bits::KERNEL_RW | bits::NX),
    );
}

fn descriptors() {
    let protected = || {
        let page = frames::allocate();
        page.write(1, DATA);
        accepted("read-only", page_table::protect(page));
        page
    };
    let list = [protected().mfn(), protected().mfn()];
    accepted(
        "a descriptor table",
        call(nr::SET_GDT, [list.as_ptr() as u64, 1024, 0, 0, 0]),
    );
    let local: Page = protected();
    accepted("a local table", op(mmuext::SET_LDT, local.va(), 512));
    // SAFETY: a data segment of the local table; ES is not used in 64-bit mode.
    unsafe { core::arch::asm!("mov es, {0:x}", in(reg) 0x0fu16, options(nostack)) };
}

fn ports_and_timers() {
    let opened = [
        bind_virq(VIRQ_TIMER, 0),
        bind_ipi(0),
        alloc_unbound(DOMID_SELF),
        alloc_unbound(5),
    ];
    check_eq!("ports are open", opened.iter().all(Result::is_ok), true);
    if let Ok(port) = opened[2] {
        check_eq!("a link", bind_interdomain(DOMID_SELF, port).is_ok(), true);
    }
    let mut interrupt = [8u32, 0, 0];
    accepted(
        "a wired interrupt",
        hypercall::event_channel(2, &mut interrupt),
    );
    // Storage beyond the first: ports come 128 at a time.
    for _ in 0..400 {
        check_eq!("one more port", alloc_unbound(DOMID_SELF).is_ok(), true);
    }
    accepted(
        "a timer in an hour",
        call(nr::SET_TIMER_OP, [3600 * 1_000_000_000, 0, 0, 0, 0]),
    );
}

/// A grant table of several frames, and one page of the domain's lent to itself: mapped, and never unmapped.
fn grants() {
    let mut list = [0u64; 3];
    let mut setup = SetupTable {
        dom: DOMID_SELF as u16,
        nr_frames: list.len() as u32,
        frame_list: list.as_mut_ptr() as u64,
        ..SetupTable::ZERO
    };
    accepted(
        "a grant table",
        call(nr::GRANT_TABLE_OP, [2, &raw mut setup as u64, 1, 0, 0]),
    );
    check_eq!("its status", setup.status, 0);
    let (table, data, window) = (frames::allocate(), frames::allocate(), frames::allocate());
    accepted(
        "the table is mapped",
        hypercall::update_va_mapping(table.va(), list[0] << 12 | bits::KERNEL_RW),
    );
    table.write(8, u64::from(GTF_PERMIT_ACCESS) | data.mfn() << 32);
    let mut map = MapGrantRef {
        host_addr: window.va(),
        flags: GNTMAP_HOST_MAP,
        gref: 8,
        ..MapGrantRef::ZERO
    };
    accepted(
        "a grant is mapped",
        call(nr::GRANT_TABLE_OP, [0, &raw mut map as u64, 1, 0, 0]),
    );
    check_eq!("its status", map.status, 0);
}

/// Frames given up: one free at once, one that stays because it is mapped; and some exchanged.
fn frames_given_and_taken() {
    let (gone, mapped) = (frames::allocate(), frames::allocate());
    accepted("hidden", page_table::hide(gone));
    let mut list = [gone.mfn(), mapped.mfn()];
    let mut give = XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: 2,
        domid: DOMID_SELF as u16,
        ..XenMemoryReservation::ZERO
    };
    let given = call(nr::MEMORY_OP, [1, &raw mut give as u64, 0, 0, 0]);
    check_eq!("frames given up", given, 2);
    check_eq!("the mapped one is still there", mapped.read(0), 0);
}

fn registers() {
    accepted("a breakpoint", call(nr::SET_DEBUGREG, [0, 0x1000, 0, 0, 0]));
    accepted("enabled", call(nr::SET_DEBUGREG, [7, 0x3, 0, 0, 0]));
}

fn areas() {
    let page = frames::allocate();
    let mut area = [page.va(), 0];
    accepted(
        "an area for run states",
        vcpu_op(vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, &mut area),
    );
    let info = frames::allocate();
    let mut info = [info.mfn(), 0];
    accepted(
        "a place for vcpu_info",
        vcpu_op(vcpu::REGISTER_VCPU_INFO, 0, &mut info),
    );
    check_eq!(
        "a second place",
        vcpu_op(vcpu::REGISTER_VCPU_INFO, 0, &mut info),
        -errno::EINVAL
    );
}
