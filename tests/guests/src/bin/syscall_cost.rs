//! Measures what the hot paths cost, in ticks of the time-stamp counter: `COST name value`, the least of many runs.
//! Under an emulator that ticks once an instruction the values are instruction counts and repeat exactly, so they
//! compare hypervisors.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::sysctl::{Cpuinfo, Getcpuinfo};
use guest_runtime::abi::{MmuUpdate, Sysctl, SysctlCommand, TrapInfo, callback, mmuext, nr, sched};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{self, by_syscall, mmu_update_batch, mmuext as op, sched_op};
use guest_runtime::instructions::rdtsc;
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::trap::{self, SYSCALL};
use guest_runtime::user;
use guest_runtime::{check, control, events, guest, say};
use guests::accepted;
use guests::code;
use guests::expect::Mode;

guest!(syscall_cost, main);

code! {
    // User mode: R12 system calls, RBX the least time of one.
    code_system_calls: "2:", "rdtsc", "shl rdx, 32", "or rax, rdx", "mov r13, rax", "syscall", "rdtsc", "shl rdx, 32",
        "or rax, rdx", "sub rax, r13", "cmp rax, rbx", "cmovb rbx, rax", "dec r12", "jnz 2b";
    // The same with a page fault by the read at R14, which the kernel steps over.
    code_page_faults: "2:", "rdtsc", "shl rdx, 32", "or rax, rdx", "mov r13, rax", "mov rax, [r14]", "rdtsc",
        "shl rdx, 32", "or rax, rdx", "sub rax, r13", "cmp rax, rbx", "cmovb rbx, rax", "dec r12", "jnz 2b";
    // The kernel's part: the bounce frame becomes the frame of the iret hypercall in place.
    code_system_call_back: "sub rsp, 16", "mov [rsp], rax", "mov [rsp + 8], r11", "mov qword ptr [rsp + 24], 0",
        "mov eax, 23", "syscall";
    code_page_fault_back: "sub rsp, 8", "mov [rsp], rax", "mov [rsp + 8], r11", "mov [rsp + 16], rcx",
        "mov qword ptr [rsp + 24], 0", "add qword ptr [rsp + 32], 3", "mov eax, 23", "syscall";
}

const ROUNDS: u64 = 200;

fn main() {
    user::enable();
    let overhead = least(|| {});
    cost("empty measurement", overhead);
    cost(
        "null hypercall",
        net(overhead, || {
            by_syscall(nr::XEN_VERSION, [0; 5]);
        }),
    );
    round_trips();
    updates(overhead);
    trapped(overhead);
    tables(overhead);
    let flush = net(overhead, || {
        hypercall::flush();
    });
    cost("local flush", flush);
    sleeps();
}

/// Nanoseconds in which the CPU had nothing to do.
fn idle_ns() -> u64 {
    let mut idle = Cpuinfo::ZERO;
    let mut request = Sysctl::new(SysctlCommand::Getcpuinfo);
    request.set_payload(&Getcpuinfo {
        max_cpus: 1,
        info: &raw mut idle as u64,
        ..Getcpuinfo::ZERO
    });
    accepted("getcpuinfo", control::sysctl(&mut request));
    idle.idletime
}

/// Sleeping until a time and being woken then: what the CPU did meanwhile but wait.
fn sleeps() {
    const LONG_NS: u64 = 200_000;
    let busy = |sleep: &dyn Fn()| {
        let mut best = u64::MAX;
        for _ in 0..ROUNDS {
            let (start, idle) = (rdtsc(), idle_ns());
            sleep();
            let idle = idle_ns() - idle;
            best = best.min(rdtsc().wrapping_sub(start).saturating_sub(idle));
        }
        best
    };
    let without = busy(&|| {
        events::now_ns();
    });
    let with = busy(&|| {
        let until = events::now_ns() + LONG_NS;
        accepted("poll", sched_op(sched::POLL, &mut [0, 0, until]));
    });
    cost("sleep and wake", with.saturating_sub(without));
}

fn cost(name: &str, ticks: u64) {
    check!(ticks < 100_000_000, name);
    let mut dashed = [0u8; 64];
    for (to, from) in dashed.iter_mut().zip(name.bytes()) {
        *to = if from == b' ' { b'_' } else { from };
    }
    let dashed = core::str::from_utf8(&dashed[..name.len().min(64)]).unwrap_or(name);
    say!("COST {dashed} {ticks}");
}

/// The least time `work` takes.
fn least(mut work: impl FnMut()) -> u64 {
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        let start = rdtsc();
        work();
        best = best.min(rdtsc().wrapping_sub(start));
    }
    best
}

fn net(overhead: u64, work: impl FnMut()) -> u64 {
    least(work).saturating_sub(overhead)
}

/// User mode into the guest's kernel and back, by the shortest handlers there are.
fn round_trips() {
    accepted(
        "a short callback",
        hypercall::register_callback(callback::SYSCALL, code_system_call_back()),
    );
    let fault = TrapInfo {
        address: code_page_fault_back(),
        ..trap::entry(14, 0)
    };
    accepted(
        "a short handler",
        hypercall::set_trap_table(&[fault, TrapInfo::ZERO]),
    );
    let cases = [
        (
            "user system call round trip",
            Mode::User,
            code_system_calls(),
        ),
        ("user page fault round trip", Mode::User, code_page_faults()),
        (
            "kernel page fault round trip",
            Mode::Kernel,
            code_page_faults(),
        ),
    ];
    for (name, mode, code) in cases {
        let mut context = mode.context(code);
        (context.r12, context.rbx, context.r14) = (ROUNDS, u64::MAX, 0x7000_0000_0000);
        let ended = trap::run(&context);
        check!(ended.vector == 6, name);
        cost(name, ended.context.rbx);
    }
    accepted(
        "the callback",
        hypercall::register_callback(callback::SYSCALL, trap::stub(SYSCALL)),
    );
    accepted("the handlers", trap::install());
}

fn pinned() -> Page {
    let table = page_table::new_table();
    accepted("pin", op(mmuext::PIN_L1, table.mfn(), 0));
    table
}

/// mmu_update of a pinned L1: one entry, and per entry in batches; and of memory.
fn updates(overhead: u64) {
    let (table, data) = (pinned(), frames::allocate());
    let entry = data.maddr() | bits::KERNEL_RW | bits::NX;
    let mut flip = 0;
    let single = net(overhead, || {
        flip ^= bits::WRITE;
        mmu_update_batch(&[MmuUpdate {
            ptr: table.entry_maddr(1),
            val: entry ^ flip,
        }]);
    });
    cost("mmu_update of one entry", single);
    let mut present = false;
    let single = net(overhead, || {
        present = !present;
        mmu_update_batch(&[MmuUpdate {
            ptr: table.entry_maddr(1),
            val: if present { entry } else { 0 },
        }]);
    });
    cost("mmu_update set or clear", single);
    for size in [32usize, 128] {
        let on: [MmuUpdate; 128] = core::array::from_fn(|index| MmuUpdate {
            ptr: table.entry_maddr(index),
            val: entry,
        });
        let off = on.map(|request| MmuUpdate { val: 0, ..request });
        let ticks = least(|| {
            mmu_update_batch(&on[..size]);
            mmu_update_batch(&off[..size]);
        });
        let name = if size == 32 {
            "mmu_update per entry of 32"
        } else {
            "mmu_update per entry of 128"
        };
        cost(name, ticks / (2 * size as u64));
    }
    let memory = net(overhead, || {
        hypercall::mmu_update(data.maddr(), 1);
    });
    cost("mmu_update of memory", memory);
    let mut writable = true;
    let mapping = net(overhead, || {
        writable = !writable;
        let flags = if writable {
            bits::KERNEL_RW
        } else {
            bits::KERNEL_RO
        };
        hypercall::call(
            nr::UPDATE_VA_MAPPING,
            [data.va(), data.maddr() | flags | bits::NX, 0, 0, 0],
        );
    });
    cost("update_va_mapping", mapping);
    accepted("writable", page_table::unprotect(data));
    accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
    frames::release(data);
}

/// Trapped writes to a pinned L1.
fn trapped(overhead: u64) {
    let (table, data) = (pinned(), frames::allocate());
    let slot = Slot { table, index: 9 };
    let entry = data.maddr() | bits::KERNEL_RW | bits::NX;
    let exchange = |mut value: u64| {
        // SAFETY: writes an entry of a table that maps nothing in use; the hypervisor emulates it.
        unsafe { core::arch::asm!("xchg [{}], {}", in(reg) slot.va(), inout(reg) value) };
        value
    };
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        slot.set(entry);
        let start = rdtsc();
        let old = exchange(0);
        best = best.min(rdtsc().wrapping_sub(start));
        if old & bits::ADDRESS != data.maddr() {
            check::fail(format_args!("xchg gave {old:#x}"));
        }
    }
    cost("trapped xchg to zero", best.saturating_sub(overhead));
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        slot.set(entry);
        let start = rdtsc();
        // SAFETY: as above.
        unsafe { core::arch::asm!("lock and byte ptr [{}], 0xfd", in(reg) slot.va()) };
        best = best.min(rdtsc().wrapping_sub(start));
    }
    cost("trapped write protection", best.saturating_sub(overhead));
    accepted("empty", slot.set(0));
    accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
    page_table::release_table(table);
    frames::release(data);
}

/// Making a full L1 a table and back, and switching roots.
fn tables(overhead: u64) {
    let (table, data) = (frames::allocate(), frames::allocate());
    for index in 0..512 {
        table.write(index, data.maddr() | bits::KERNEL_RW | bits::NX);
    }
    accepted("read-only", page_table::protect(table));
    let both = net(overhead, || {
        op(mmuext::PIN_L1, table.mfn(), 0);
        op(mmuext::UNPIN, table.mfn(), 0);
    });
    cost("pin and unpin of a full L1", both);
    accepted("writable", page_table::unprotect(table));
    frames::release(table);
    frames::release(data);
    let root = page_table::root().mfn();
    cost(
        "new root",
        net(overhead, || {
            op(mmuext::NEW_BASEPTR, root, 0);
        }),
    );
}
