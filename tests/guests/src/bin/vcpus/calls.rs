//! Wrong calls: each is refused with its error and leaves nothing behind. What a refused description referred to can be
//! used for something else at once; the hypervisor's own recount at the end finds every reference.

use guest_runtime::abi::xeno::{Audit, XENO_INTERFACE_VERSION};
use guest_runtime::abi::{
    DOMID_SELF, HOLE_START, RegisterVcpuInfo, VGCF_IN_KERNEL, VcpuGuestContext, errno, mmuext, nr,
    vcpu,
};
use guest_runtime::frames;
use guest_runtime::hypercall::{self, call, mmuext as op, vcpu_op};
use guest_runtime::{check_eq, page_table, skip, user};
use guests::{accepted, refused};

use crate::start::{self, initialise, plain};
use crate::{VCPUS, WORKERS};

const NON_CANONICAL: u64 = 0x8000_0000_0000;
/// The vCPU that is not brought up.
const IDLE: u64 = 2;

/// Before anybody else is up.
pub fn before() {
    numbers();
    for worker in 0..WORKERS.len() {
        start::make_tables(worker);
    }
    not_yet();
    contexts();
    wrong_frames();
}

fn numbers() {
    check_eq!("vCPU 0 is up", plain(vcpu::IS_UP, 0), 1);
    for id in 1..VCPUS {
        check_eq!("another is not", plain(vcpu::IS_UP, id), 0);
    }
    for id in [VCPUS, 64, 128, 8191, 0xffff_ffff] {
        for operation in [vcpu::IS_UP, vcpu::UP, vcpu::DOWN, vcpu::INITIALISE] {
            check_eq!("no such vCPU", plain(operation, id), -errno::ENOENT);
        }
    }
    check_eq!("no such operation", plain(77, 1), -errno::ENOSYS);
}

/// Operations on a vCPU that was never described.
fn not_yet() {
    check_eq!("up", plain(vcpu::UP, 1), -errno::EINVAL);
    check_eq!("down", plain(vcpu::DOWN, 1), 0);
    check_eq!("is_up", plain(vcpu::IS_UP, 1), 0);
    check_eq!(
        "an NMI with an argument",
        vcpu_op(vcpu::SEND_NMI, 1, &mut 0u64),
        -errno::EINVAL
    );
    let mut at = [u64::MAX, 0];
    check_eq!(
        "another's timer",
        vcpu_op(vcpu::SET_SINGLESHOT_TIMER, 1, &mut at),
        -errno::EINVAL
    );
    check_eq!(
        "another's timer, stopped",
        plain(vcpu::STOP_SINGLESHOT_TIMER, 1),
        -errno::EINVAL
    );
    for period in [0u64, 1, 999_999] {
        check_eq!(
            "a period that is too short",
            vcpu_op(vcpu::SET_PERIODIC_TIMER, 1, &mut { period }),
            -errno::EINVAL
        );
    }
    check_eq!(
        "vCPU 0 again",
        initialise(0, start::context(0)),
        -errno::EEXIST
    );
    check_eq!(
        "a context that is nowhere",
        plain(vcpu::INITIALISE, IDLE),
        -errno::EFAULT
    );
    let last = WORKERS[WORKERS.len() - 1];
    check_eq!(
        "one without a vcpu_info",
        initialise(last, start::context(2)),
        -errno::EINVAL
    );
}

fn contexts() {
    type Change = fn(&mut VcpuGuestContext);
    let changes: [(&str, Change); 20] = [
        ("rip", |c| c.user_regs.rip = NON_CANONICAL),
        ("rsp", |c| c.user_regs.rsp = NON_CANONICAL),
        ("kernel_sp", |c| c.kernel_sp = NON_CANONICAL),
        ("event callback", |c| c.event_callback_eip = NON_CANONICAL),
        ("failsafe callback", |c| {
            c.failsafe_callback_eip = NON_CANONICAL
        }),
        ("syscall callback", |c| {
            c.syscall_callback_eip = NON_CANONICAL
        }),
        ("a trap handler", |c| {
            c.trap_ctxt[255].address = NON_CANONICAL
        }),
        ("ldt_base in a page", |c| c.ldt_base += 8),
        ("ldt_base in the hypervisor", |c| {
            c.ldt_base = HOLE_START + (1 << 39)
        }),
        ("ldt_ents", |c| c.ldt_ents = 8193),
        ("ldt_ents beyond 32 bits", |c| c.ldt_ents = 1 << 32),
        ("gdt_ents", |c| c.gdt_ents = 14 * 512 + 1),
        ("gdt_ents beyond 32 bits", |c| c.gdt_ents = 1 << 32 | 1),
        ("a gdt frame that is nobody's", |c| {
            c.gdt_frames[0] = 1 << 40
        }),
        ("a second gdt frame that is none", |c| c.gdt_ents = 513),
        ("no kernel root", |c| c.ctrlreg[3] = 0),
        ("a kernel root that is nobody's", |c| c.ctrlreg[3] = 1 << 50),
        ("a user root that is nobody's", |c| c.ctrlreg[1] = 1 << 50),
        ("a user root that is an L1", |c| {
            c.ctrlreg[1] = page_table::slot(user::DATA).map_or(0, |s| s.table.maddr());
        }),
        ("user mode without a root", |c| {
            c.flags &= !VGCF_IN_KERNEL;
            c.ctrlreg[1] = 0;
        }),
    ];
    for (what, change) in changes {
        let mut context = start::context(0);
        change(&mut context);
        check_eq!(what, initialise(IDLE, context), -errno::EINVAL);
        check_eq!("it is still nothing", plain(vcpu::UP, IDLE), -errno::EINVAL);
    }
    // Nothing holds the table: it can be memory again.
    let table = start::table(0);
    accepted("the table is memory", page_table::unprotect(table));
    accepted("and a table again", page_table::protect(table));
}

/// Frames of the right owner and the wrong kind.
fn wrong_frames() {
    let page = frames::allocate();
    let with_gdt = |mfn: u64| {
        let mut context = start::context(0);
        context.gdt_frames[0] = mfn;
        initialise(IDLE, context)
    };
    let with_root = |maddr: u64| {
        let mut context = start::context(0);
        context.ctrlreg[3] = maddr;
        initialise(IDLE, context)
    };
    check_eq!(
        "a gdt frame that we can write",
        with_gdt(page.mfn()),
        -errno::EINVAL
    );
    check_eq!(
        "a gdt frame that is a root",
        with_gdt(page_table::root().mfn()),
        -errno::EINVAL
    );
    check_eq!(
        "a root that we can write",
        with_root(page.maddr()),
        -errno::EINVAL
    );
    // A task state segment.
    page.write(3, 0x0000_8900_0000_0067);
    accepted("read-only", page_table::protect(page));
    check_eq!(
        "a gdt frame with a system descriptor",
        with_gdt(page.mfn()),
        -errno::EINVAL
    );
    // As a root its fourth entry names a frame that is no table of ours.
    accepted("writable", page_table::unprotect(page));
    page.write(3, 1 << 45 | 0x7);
    accepted("read-only again", page_table::protect(page));
    check_eq!(
        "a root with a bad entry",
        with_root(page.maddr()),
        -errno::EINVAL
    );
    // A hypervisor may give up what it had validated when it is next asked for something of the kind.
    accepted("flush", hypercall::flush());
    accepted("it is memory", page_table::unprotect(page));
    page.clear();
    half_right(page);
    frames::release(page);
    recount("after wrong calls");
}

/// A root that nobody has pinned is validated by being used, and not held by a call that is refused for another reason.
fn half_right(page: frames::Page) {
    if !has_audit() {
        return skip!("another hypervisor, which may hold on to the good half");
    }
    accepted("an empty root", page_table::protect(page));
    let mut context = start::context(0);
    context.ctrlreg[3] = page.maddr();
    context.ctrlreg[1] = 1 << 50;
    check_eq!(
        "a good root, a bad one",
        initialise(IDLE, context),
        -errno::EINVAL
    );
    accepted("the good one is memory", page_table::unprotect(page));
}

/// Whether the hypervisor is ours.
pub fn has_audit() -> bool {
    ask_audit().0 != -errno::ENOSYS
}

fn ask_audit() -> (i64, Audit) {
    let mut audit = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        ..Audit::ZERO
    };
    let result = call(nr::XENO_OP, [0, &raw mut audit as u64, 0, 0, 0]);
    (result, audit)
}

/// Every reference is somebody's, as the hypervisor's own recount has it.
pub fn recount(when: &str) {
    match ask_audit() {
        (result, _) if result == -errno::ENOSYS => {}
        (result, audit) => {
            check_eq!(when, (result, audit.mismatches), (0, 0));
        }
    }
}

/// With the workers up.
pub fn while_they_run() {
    let page = frames::allocate();
    for (worker, &id) in WORKERS.iter().enumerate() {
        check_eq!(
            "it is there",
            initialise(id, start::context(worker)),
            -errno::EEXIST
        );
        let mut place = RegisterVcpuInfo {
            mfn: page.mfn(),
            ..RegisterVcpuInfo::ZERO
        };
        check_eq!(
            "its info, while it runs",
            vcpu_op(vcpu::REGISTER_VCPU_INFO, id, &mut place),
            -errno::EINVAL
        );
        refused(
            "its table, for us",
            page_table::unprotect(start::table(worker)),
        );
        refused(
            "its local table, for us",
            page_table::unprotect(start::local_table(worker)),
        );
    }
    recount("while they run");
    // Sets of vCPUs: those that do not exist are nobody.
    let mut set = [u64::MAX; 2];
    let at = &raw mut set as u64;
    accepted(
        "flush of all there could be",
        op(mmuext::TLB_FLUSH_MULTI, 0, at),
    );
    accepted("flush of none", op(mmuext::TLB_FLUSH_MULTI, 0, page.va()));
    accepted(
        "flush of one address",
        op(mmuext::INVLPG_MULTI, page.va(), at),
    );
    accepted("flush of all", op(mmuext::TLB_FLUSH_ALL, 0, 0));
    check_eq!(
        "a set that is nowhere",
        op(mmuext::TLB_FLUSH_MULTI, 0, 0),
        -errno::EINVAL
    );
    frames::release(page);
}
