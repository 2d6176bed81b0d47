//! Bringing workers up: each with a descriptor table, a local table, stacks, ports and registers of its own.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use guest_runtime::abi::{
    CODE64, DATA, KERNEL_CODE64, RegisterVcpuInfo, TI_MASK_EVENTS, TrapInfo,
    VGCF_FAILSAFE_DISABLES_EVENTS, VGCF_I387_VALID, VGCF_IN_KERNEL, VGCF_SYSCALL_DISABLES_EVENTS,
    VcpuGuestContext, vcpu,
};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::vcpu_op;
use guest_runtime::{Global, check_eq, events, instructions, page_table, user};
use guests::accepted;
use guests::channels::{VIRQ_TIMER, bind_ipi, bind_virq};

use crate::block::{self, HAS_AUX, HAS_AVX, IN_USER};
use crate::worker::{self, WATCHED};
use crate::{WORKERS, code};

/// A flat data descriptor of ring 3.
pub const DATA_DESCRIPTOR: u64 = 0x00cf_f300_0000_ffff;
const STACK: usize = 16 * 1024;

#[repr(C, align(4096))]
#[derive(Clone, Copy)]
struct Stack([u8; STACK]);

/// For each worker, one to run on and one for what comes from its user mode.
static STACKS: Global<[[Stack; 2]; WORKERS.len()]> =
    Global::new([[Stack([0; STACK]); 2]; WORKERS.len()]);

/// The pages of each worker's descriptor table and local table.
static TABLES: Global<[[Option<Page>; 2]; WORKERS.len()]> = Global::new([[None; 2]; WORKERS.len()]);

/// Whether the base that a first FS selector brings is checked.
pub static COMPARES_BASE: Global<bool> = Global::new(true);

/// What VCPUOP_initialise was last given.
pub static CONTEXT: Global<VcpuGuestContext> = Global::new(VcpuGuestContext::ZERO);

fn stack_top(worker: usize, which: usize) -> u64 {
    STACKS.as_ptr() as u64 + ((2 * worker + which + 1) * STACK) as u64
}

/// A worker's descriptor table.
pub fn table(worker: usize) -> Page {
    TABLES.get()[worker][0].expect("made before it is used")
}

/// A worker's local table.
pub fn local_table(worker: usize) -> Page {
    TABLES.get()[worker][1].expect("made before it is used")
}

/// Index of a worker's data descriptor in its own table, and in its local one: no two are the same.
pub fn data_index(worker: usize) -> u64 {
    2 + worker as u64
}

/// Whether a worker's FS base comes with a selector; the others are given one without.
pub fn has_fs_selector(worker: usize) -> bool {
    worker == 1
}

/// DS, ES, FS and GS: of its table, of its local table, of its table with a base or null, null.
pub fn selectors(worker: usize) -> [u16; 4] {
    let index = data_index(worker) as u16;
    let fs = if has_fs_selector(worker) {
        (index + 8) << 3 | 3
    } else {
        0
    };
    [index << 3 | 3, index << 3 | 7, fs, 0]
}

/// Whether a worker has the I/O privilege, which is part of its flags.
pub fn has_iopl(worker: usize) -> bool {
    worker != 1
}

/// Whether a worker starts with task switched set, and sets it before every round.
pub fn sets_task_switched(worker: usize) -> bool {
    worker == 2
}

/// What the low half of XMM3 is when a worker starts.
pub fn first_vector(worker: usize) -> u64 {
    if worker == 0 {
        0x1234_5678_9abc_def0
    } else {
        0
    }
}

/// Makes a worker's tables.
pub fn make_tables(worker: usize) {
    let page = frames::allocate();
    let index = data_index(worker) as usize;
    page.write(index, DATA_DESCRIPTOR);
    let base = block::in_user(worker).address();
    page.write(
        index + 8,
        DATA_DESCRIPTOR | (base & 0x00ff_ffff) << 16 | (base >> 24 & 0xff) << 56,
    );
    let local = frames::allocate();
    local.write(index, DATA_DESCRIPTOR);
    let mut tables = TABLES.get();
    tables[worker] = [Some(page), Some(local)];
    TABLES.set(tables);
    accepted("a table read-only", page_table::protect(page));
    accepted("a local table read-only", page_table::protect(local));
}

/// The state a worker starts from.
pub fn context(worker: usize) -> VcpuGuestContext {
    let mut c = VcpuGuestContext::ZERO;
    c.flags = VGCF_IN_KERNEL | VGCF_SYSCALL_DISABLES_EVENTS | VGCF_FAILSAFE_DISABLES_EVENTS;
    let [ds, es, fs, gs] = selectors(worker);
    let r = &mut c.user_regs;
    r.rip = worker::run as *const () as u64;
    // As behind a call.
    r.rsp = stack_top(worker, 0) - 8;
    r.rdi = worker as u64;
    r.rflags = if has_iopl(worker) { 0x1000 } else { 0 };
    r.cs = if worker == 0 { KERNEL_CODE64 } else { CODE64 };
    r.ss = DATA & !3;
    (r.ds, r.es, r.fs, r.gs) = (ds, es, fs, gs);
    for vector in 0..32u64 {
        c.trap_ctxt[vector as usize] = TrapInfo {
            flags: TI_MASK_EVENTS,
            cs: CODE64,
            address: code::handler(vector),
            ..TrapInfo::ZERO
        };
    }
    c.gdt_frames[0] = table(worker).mfn();
    c.gdt_ents = 32;
    c.ldt_base = local_table(worker).va();
    c.ldt_ents = 16;
    c.kernel_ss = u64::from(DATA);
    c.kernel_sp = stack_top(worker, 1);
    c.ctrlreg[0] = if sets_task_switched(worker) { 8 } else { 0 };
    c.ctrlreg[1] = user::root().maddr();
    c.ctrlreg[3] = page_table::root().maddr();
    // A watchpoint of eight bytes, on writes.
    c.debugreg[0] = &raw const WATCHED.0[worker] as u64;
    c.debugreg[7] = 1 | 1 << 16 | 2 << 18;
    c.event_callback_eip = code::event();
    c.failsafe_callback_eip = code::failsafe();
    c.syscall_callback_eip = code::syscall();
    if !has_fs_selector(worker) {
        c.fs_base = block::in_user(worker).address();
    }
    c.gs_base_kernel = block::kernel(worker).address();
    c.gs_base_user = block::in_user(worker).address();
    // One with vector state, one with nonsense for it, one with none.
    match worker {
        0 => {
            c.flags |= VGCF_I387_VALID;
            c.fpu_ctxt[..2].copy_from_slice(&0x37fu16.to_le_bytes());
            c.fpu_ctxt[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
            c.fpu_ctxt[208..216].copy_from_slice(&first_vector(0).to_le_bytes());
        }
        2 => {
            c.flags |= VGCF_I387_VALID;
            c.fpu_ctxt = [0xff; 512];
        }
        _ => {}
    }
    c
}

/// `VCPUOP_initialise` with a context.
pub fn initialise(id: u64, context: VcpuGuestContext) -> i64 {
    CONTEXT.set(context);
    // SAFETY: the hypervisor reads it during the call and nobody keeps a reference.
    vcpu_op(vcpu::INITIALISE, id, unsafe { &mut *CONTEXT.as_ptr() })
}

/// A vCPU operation without an argument.
pub fn plain(operation: u64, id: u64) -> i64 {
    guest_runtime::hypercall::call(guest_runtime::abi::nr::VCPU_OP, [operation, id, 0, 0, 0])
}

/// Gives a vCPU's info a page of its own; its address.
pub fn move_info(id: u64) -> u64 {
    let page = frames::allocate();
    let mut place = RegisterVcpuInfo {
        mfn: page.mfn(),
        offset: 128,
        ..RegisterVcpuInfo::ZERO
    };
    accepted(
        "a place for another's vcpu_info",
        vcpu_op(vcpu::REGISTER_VCPU_INFO, id, &mut place),
    );
    page.va() + 128
}

/// Fills a worker's blocks.
fn fill_blocks(worker: usize) {
    let (id, kernel) = (WORKERS[worker], block::kernel(worker));
    let leaf7 = instructions::cpuid(1, 0).ecx;
    let avx = if leaf7 >> 26 & 7 == 7 { HAS_AVX } else { 0 };
    let aux = match instructions::cpuid(0x8000_0001, 0).edx >> 27 & 1 {
        1 => HAS_AUX,
        _ => 0,
    };
    for (page, mode) in [(kernel, 0), (block::in_user(worker), IN_USER)] {
        page.flags.store(avx | aux | mode, Ordering::Relaxed);
        page.id.store(id, Ordering::Relaxed);
        page.marker
            .store(0xface_0000 | id << 8 | mode, Ordering::Relaxed);
    }
    let info = match id {
        1 => events::shared() as *const _ as u64 + 64,
        _ => move_info(id),
    };
    kernel.vcpu_info.store(info, Ordering::Relaxed);
    let pending = &raw const events::shared().evtchn_pending as u64;
    kernel.pending.store(pending, Ordering::Relaxed);
    for (place, port) in [
        (&kernel.ipi_port, bind_ipi(id as u32)),
        (&kernel.timer_port, bind_virq(VIRQ_TIMER, id as u32)),
    ] {
        let port = port.unwrap_or(0);
        check_eq!("a port of the worker's", port != 0 && port < 64, true);
        place.store(u64::from(port), Ordering::Relaxed);
        events::set_port_mask(port, false);
    }
    let mut area = kernel.runstate.as_ptr() as u64;
    accepted(
        "an area for another's run state",
        vcpu_op(vcpu::REGISTER_RUNSTATE_MEMORY_AREA, id, &mut area),
    );
    const OFFLINE: u64 = 3;
    check_eq!(
        "its state",
        kernel.runstate[0].load(Ordering::Relaxed) & 0xffff_ffff,
        OFFLINE
    );
}

/// Brings all up.
pub fn all() {
    const { assert!(offset_of!(block::Block, id) == 0) };
    for (worker, &id) in WORKERS.iter().enumerate() {
        fill_blocks(worker);
        accepted("initialise", initialise(id, context(worker)));
        check_eq!("it is not up by that", plain(vcpu::IS_UP, id), 0);
        accepted("up", plain(vcpu::UP, id));
        accepted("up again", plain(vcpu::UP, id));
        check_eq!("it is up", plain(vcpu::IS_UP, id), 1);
    }
}

/// Takes all down for good, so that the end finds them at rest in the middle of something.
pub fn stop_all() {
    for id in WORKERS {
        accepted("down", plain(vcpu::DOWN, id));
        check_eq!("it is down", plain(vcpu::IS_UP, id), 0);
    }
}
