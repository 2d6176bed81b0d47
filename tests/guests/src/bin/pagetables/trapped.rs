//! Trapped writes: kernels write L1 entries of pinned tables with six plain instructions, and expect the result of
//! each, its old value and flags, as if the table were memory. Anything else faults, or does what it says.

use guest_runtime::abi::mmuext;
use guest_runtime::context::{Context, flags};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::mmuext as op;
use guest_runtime::page_table::{self, Slot, bits};
use guest_runtime::trap::{self, Trap};
use guest_runtime::{check, check_eq, user};
use guests::code;
use guests::expect::{Expected, Mode, compare, run_and_compare};
use guests::{accepted, refused};

code! {
    code_mov: "mov [rdi], rsi";
    code_mov_immediate: "mov qword ptr [rdi], 0";
    code_mov_displaced: "mov [rdi + rcx * 8 + 0x80], r12";
    code_xchg: "xchg [rdi], rsi";
    code_lock_and: "lock and byte ptr [rdi], 0xfd";
    code_lock_btr: "lock btr qword ptr [rdi], 5";
    code_mov_32: "mov [rdi], esi";
    code_add: "lock add [rdi], rsi";
    code_or: "or [rdi], rsi";
    code_cmpxchg: "lock cmpxchg [rdi], rsi";
    code_mov_byte: "mov [rdi], sil";
    code_push: "push qword ptr [rsi]", "pop qword ptr [rdi]";
    code_stosq: "stosq";
}

/// A pinned L1 with one entry, and pages it can name.
struct Bench {
    table: Page,
    data: [Page; 2],
}

impl Bench {
    fn new() -> Self {
        let (table, data) = (
            page_table::new_table(),
            [frames::allocate(), frames::allocate()],
        );
        accepted("pin", op(mmuext::PIN_L1, table.mfn(), 0));
        Self { table, data }
    }

    fn slot(&self) -> Slot {
        Slot {
            table: self.table,
            index: 40,
        }
    }

    /// A writable entry for page `index`.
    fn entry(&self, index: usize) -> u64 {
        self.data[index].maddr() | bits::KERNEL_RW
    }

    /// Sets the entry, runs `code` with RDI at it and RSI given, and returns the trap that ends it.
    fn write(&self, old: u64, code: u64, rsi: u64) -> (Context, Trap) {
        accepted("the old entry", self.slot().set(old));
        let context = Context {
            rdi: self.slot().va(),
            rsi,
            ..Mode::Kernel.context(code)
        };
        (context, trap::run(&context))
    }

    fn finish(self) {
        accepted("empty", self.slot().set(0));
        for page in self.data {
            accepted("read-only: no reference is left", page_table::protect(page));
            accepted(
                "pin: no writable type is left",
                op(mmuext::PIN_L1, page.mfn(), 0),
            );
            accepted("unpin", op(mmuext::UNPIN, page.mfn(), 0));
            page_table::release_table(page);
        }
        accepted("unpin", op(mmuext::UNPIN, self.table.mfn(), 0));
        page_table::release_table(self.table);
    }
}

pub fn all() {
    let bench = Bench::new();
    stores(&bench);
    exchange(&bench);
    bit_operations(&bench);
    compare_and_exchange(&bench);
    refused_values(&bench);
    other_forms(&bench);
    single_step(&bench);
    from_user_mode(&bench);
    misaligned(&bench);
    bench.finish();
}

fn same(what: &str, got: u64, wanted: u64) {
    let ignored = bits::MAY_DIFFER & !(bits::ACCESSED | bits::DIRTY);
    check_eq!(what, got & !ignored, wanted & !ignored);
}

fn done(length: u64) -> Expected {
    Expected {
        vector: 6,
        error: None,
        advance: length,
    }
}

fn stores(bench: &Bench) {
    let (context, trap) = bench.write(0, code_mov(), bench.entry(0));
    compare("mov to an entry", &context, &trap, done(3));
    same("mov: the entry", bench.slot().value(), bench.entry(0));
    let (context, trap) = bench.write(bench.entry(0), code_mov(), bench.entry(1));
    compare("mov over an entry", &context, &trap, done(3));
    same("mov over: the entry", bench.slot().value(), bench.entry(1));
    let (context, trap) = bench.write(bench.entry(1), code_mov_immediate(), 0);
    compare("mov of a constant", &context, &trap, done(7));
    check_eq!("mov of a constant: the entry", bench.slot().value(), 0);
    accepted("empty", bench.slot().set(0));
    let context = Context {
        rdi: bench.slot().va() - 0x80 - 24,
        rcx: 3,
        r12: bench.entry(1),
        ..Mode::Kernel.context(code_mov_displaced())
    };
    let trap = run_and_compare("mov by a computed address", &context, done(8));
    let _ = trap;
    same(
        "mov by a computed address: the entry",
        bench.slot().value(),
        bench.entry(1),
    );
    // A value that is not present is stored as it is.
    let (_, trap) = bench.write(bench.entry(0), code_mov(), 0x0ff0);
    check_eq!(
        "mov of a non-present value",
        (trap.vector, bench.slot().value()),
        (6, 0x0ff0)
    );
}

fn exchange(bench: &Bench) {
    for (old, new) in [
        (bench.entry(0), 0),
        (0, bench.entry(0)),
        (bench.entry(0), bench.entry(1)),
        (bench.entry(1), 0x0ff0),
    ] {
        let (context, trap) = bench.write(old, code_xchg(), new);
        check_eq!("xchg: vector", trap.vector, 6);
        same("xchg: the old value", trap.context.rsi, old);
        same("xchg: the entry", bench.slot().value(), new);
        let mut wanted = context;
        wanted.rsi = trap.context.rsi;
        compare("xchg", &wanted, &trap, done(3));
    }
}

fn bit_operations(bench: &Bench) {
    // 0x63 & 0xfd = 0x61: odd number of bits, not zero, not negative.
    let (mut context, trap) = bench.write(bench.entry(0), code_lock_and(), 0);
    same(
        "lock and: the entry",
        bench.slot().value(),
        bench.entry(0) & !bits::WRITE,
    );
    let result = (bench.slot().value() & 0xff) as u8;
    const PF: u64 = 4;
    const AF: u64 = 16;
    const SF: u64 = 128;
    let parity = if result.count_ones().is_multiple_of(2) {
        PF
    } else {
        0
    };
    context.rflags = (trap.context.rflags & (AF | flags::IF)) | flags::ALWAYS | parity;
    check_eq!(
        "lock and: SF and ZF",
        trap.context.rflags & (SF | flags::ZF),
        0
    );
    compare("lock and", &context, &trap, done(4));
    for (old, carry) in [
        (bench.entry(0), flags::CF),
        (bench.entry(0) & !bits::ACCESSED, 0),
    ] {
        let (mut context, trap) = bench.write(old, code_lock_btr(), 0);
        same(
            "lock btr: the entry",
            bench.slot().value(),
            bench.entry(0) & !bits::ACCESSED,
        );
        check_eq!("lock btr: CF", trap.context.rflags & flags::CF, carry);
        context.rflags = trap.context.rflags & 0xad5 | flags::ALWAYS;
        compare("lock btr", &context, &trap, done(6));
    }
}

/// Kernels from 6.7 on write-protect entries so: what RAX must hold is the entry as it is stored.
fn compare_and_exchange(bench: &Bench) {
    const ARITHMETIC: u64 = 0x8d5;
    let run = |rax: u64, rsi: u64| {
        let context = Context {
            rdi: bench.slot().va(),
            rax,
            rsi,
            ..Mode::Kernel.context(code_cmpxchg())
        };
        (context, trap::run(&context))
    };
    // What the CPU itself says of the same comparison.
    let flags_of = |rax: u64, there: u64| {
        let page = frames::allocate();
        page.write(0, there);
        let context = Context {
            rdi: page.va(),
            rax,
            ..Mode::Kernel.context(code_cmpxchg())
        };
        let flags = trap::run(&context).context.rflags & ARITHMETIC;
        frames::release(page);
        flags
    };
    for new in [bench.entry(0) & !bits::WRITE, bench.entry(1), 0, 0x0ff0] {
        accepted("the old entry", bench.slot().set(bench.entry(0)));
        let old = bench.slot().value();
        let (mut context, trap) = run(old, new);
        check_eq!("cmpxchg: RAX", trap.context.rax, old);
        same("cmpxchg: the entry", bench.slot().value(), new);
        context.rflags = flags_of(old, old) | trap.context.rflags & !ARITHMETIC;
        compare("cmpxchg", &context, &trap, done(5));
    }
    accepted("the old entry", bench.slot().set(bench.entry(0)));
    let old = bench.slot().value();
    for wrong in [
        0,
        !0,
        old ^ bits::DIRTY,
        old + 0x1000,
        1 << 63,
        old | 1 << 63,
    ] {
        let (mut context, trap) = run(wrong, bench.entry(1));
        context.rax = old;
        context.rflags = flags_of(wrong, old) | trap.context.rflags & !ARITHMETIC;
        compare("cmpxchg that fails", &context, &trap, done(5));
        check_eq!("the entry after", bench.slot().value(), old);
    }
}

/// What mmu_update refuses is refused here, as a page fault on the write.
fn refused_values(bench: &Bench) {
    let before = bench.entry(0);
    for bad in [
        bench.table.maddr() | bits::KERNEL_RW,
        bits::ADDRESS | bits::PRESENT,
        0xfee0_0000 | bits::KERNEL_RW,
    ] {
        for code in [code_mov(), code_xchg()] {
            let (context, trap) = bench.write(before, code, bad);
            compare(
                "a trapped write of a bad entry",
                &context,
                &trap,
                Expected::fault_code(14, 3),
            );
            check_eq!("its address", trap.cr2, bench.slot().va());
            same("the entry after", bench.slot().value(), before);
        }
    }
}

/// Other instructions fault or do exactly what they say; never something else.
fn other_forms(bench: &Bench) {
    let old = bench.entry(0);
    let accessed = bits::ACCESSED;
    let cases = [
        (
            "mov of 32 bits",
            code_mov_32(),
            old & 0xffff_ffff & !accessed,
            old & !accessed,
        ),
        ("lock add", code_add(), bits::AVAIL0, old + bits::AVAIL0),
        ("or", code_or(), bits::AVAIL0, old | bits::AVAIL0),
        (
            "mov of a byte",
            code_mov_byte(),
            old & 0xff & !accessed,
            old & !accessed,
        ),
    ];
    for (what, code, rsi, result) in cases {
        let (context, trap) = bench.write(old, code, rsi);
        faulted_or(what, bench, &context, &trap, old, result);
    }
    let page = frames::allocate();
    page.write(0, bench.entry(1));
    let (context, trap) = bench.write(old, code_push(), page.va());
    if trap.vector == 14 {
        check_eq!("pop to an entry: cr2", trap.cr2, context.rdi);
        check_eq!("pop to an entry: error code", trap.error, Some(3));
    } else {
        same(
            "pop to an entry: the entry",
            bench.slot().value(),
            bench.entry(1),
        );
    }
    frames::release(page);
    let mut context = Mode::Kernel.context(code_stosq());
    accepted("the old entry", bench.slot().set(old));
    (context.rdi, context.rax) = (bench.slot().va(), bench.entry(1));
    let trap = trap::run(&context);
    faulted_or("stosq", bench, &context, &trap, old, bench.entry(1));
}

fn faulted_or(what: &str, bench: &Bench, context: &Context, trap: &Trap, old: u64, result: u64) {
    match trap.vector {
        14 => {
            compare(what, context, trap, Expected::fault_code(14, 3));
            check_eq!(
                "the address of a form that is not emulated",
                trap.cr2,
                bench.slot().va()
            );
            same("the entry after it", bench.slot().value(), old);
        }
        vector => {
            check_eq!("the vector of a form that is emulated", vector, 6);
            same(what, bench.slot().value(), result);
        }
    }
}

/// A trapped write is one instruction also to a debugger.
fn single_step(bench: &Bench) {
    accepted("the old entry", bench.slot().set(0));
    let mut context = Context {
        rdi: bench.slot().va(),
        rsi: bench.entry(0),
        ..Mode::Kernel.context(code_mov())
    };
    context.rflags |= flags::TF;
    run_and_compare(
        "single step over a trapped write",
        &context,
        Expected::after(1, 3),
    );
    same(
        "the entry after a step",
        bench.slot().value(),
        bench.entry(0),
    );
}

/// User mode gets no emulation, even where a table is mapped for it to read.
fn from_user_mode(bench: &Bench) {
    let address = user::DATA + 0x30_0000;
    let entry = bench.table.maddr() | bits::PRESENT | bits::USER | bits::NX;
    accepted(
        "a table mapped for user mode",
        page_table::map(address, entry),
    );
    refused(
        "the same writable",
        page_table::map(address, entry | bits::WRITE),
    );
    accepted("the old entry", bench.slot().set(bench.entry(0)));
    let target = address + 8 * bench.slot().index as u64;
    for code in [code_mov(), code_xchg(), code_lock_and(), code_lock_btr()] {
        let context = Context {
            rdi: target,
            rsi: 0,
            ..Mode::User.context(code)
        };
        let trap = run_and_compare(
            "user write to a table",
            &context,
            Expected::fault_code(14, 7),
        );
        check_eq!("its address", trap.cr2, target);
    }
    same(
        "the entry after user writes",
        bench.slot().value(),
        bench.entry(0),
    );
    accepted("unmap", page_table::map(address, 0));
}

/// A write across two entries is refused, and changes neither.
fn misaligned(bench: &Bench) {
    let next = Slot {
        index: bench.slot().index + 1,
        ..bench.slot()
    };
    accepted("the old entry", bench.slot().set(bench.entry(0)));
    accepted("the next entry", next.set(bench.entry(1)));
    for offset in [1, 4, 7] {
        let context = Context {
            rdi: bench.slot().va() + offset,
            rsi: 0,
            ..Mode::Kernel.context(code_mov())
        };
        let trap = run_and_compare(
            "a write across entries",
            &context,
            Expected::fault_code(14, 3),
        );
        check!(
            trap.cr2 >= context.rdi && trap.cr2 < context.rdi + 8,
            "its address"
        );
    }
    same("the entry", bench.slot().value(), bench.entry(0));
    same("the next entry", next.value(), bench.entry(1));
    accepted("empty", next.set(0));
}
