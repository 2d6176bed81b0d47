//! One hypercall with its arguments.

use crate::draw::Draw;
use guest_runtime::abi::{DOMID_SELF, memory, mmuext, nr, sched};
use guest_runtime::page_table;

/// Number and arguments of a call.
pub type Call = (u64, [u64; 5]);

/// Makes a call; frames that it brought are kept.
pub fn make(draw: &mut Draw, number: u64, arguments: [u64; 5]) {
    let result = draw.make(number, arguments);
    if number == nr::MEMORY_OP && arguments[0] == memory::POPULATE_PHYSMAP && result == 1 {
        let fresh = draw.args.read(LIST);
        draw.keep(fresh);
    }
    if number == nr::MEMORY_OP && arguments[0] == memory::EXCHANGE && result == 0 {
        let fresh = draw.args.read(LIST + 1);
        draw.keep(fresh);
    }
}

/// Word of the argument page where lists of frames lie.
pub const LIST: usize = 500;

/// Any call but those that would end this guest.
pub fn any(draw: &mut Draw) -> Call {
    match draw.below(32) {
        0..=4 => mmu_update(draw),
        5..=7 => mmuext_op(draw),
        8 | 9 => {
            let (va, entry) = (draw.window(), draw.entry());
            let va = if draw.once_in(8) {
                (draw.pointer() & ((1 << 47) - 1)) | 1 << 46
            } else {
                va
            };
            let flags = draw.of(&[0, 1, 2, 5, 6]);
            (nr::UPDATE_VA_MAPPING, [va, entry, flags, 0, 0])
        }
        10..=12 => memory_op(draw),
        13 => {
            let list = [(); 3].map(|()| draw.special());
            let (at, count) = (
                draw.place(&list),
                draw.of(&[0, 1, 512, 513, 1024, 1536, 8000]),
            );
            (nr::SET_GDT, [at, count, 0, 0, 0])
        }
        14 => {
            let (at, descriptor) = (draw.entry_address(), descriptor(draw));
            (nr::UPDATE_DESCRIPTOR, [at, descriptor, 0, 0, 0])
        }
        15..=17 => small(draw),
        18 | 19 => event_channel(draw),
        20 => vcpu_op(draw),
        21 => {
            let number = draw.below(10);
            let watching = if draw.watches { 0x455 } else { 0x400 };
            let every = if draw.watches { 0xffff_0ff0 } else { 0 };
            let value = draw.of(&[0, 0x400, watching, every]);
            let value = if number < 4 { draw.window() } else { value };
            let value = if draw.once_in(3) && (number != 7 || draw.watches) {
                bad_debug(draw, number)
            } else {
                value
            };
            (nr::SET_DEBUGREG, [number, value, 0, 0, 0])
        }
        22 => {
            let words = [
                draw.below(24),
                draw.below(24),
                draw.below(3),
                draw.below(24),
            ];
            let op = draw.below(33);
            (nr::PHYSDEV_OP, [op, draw.place_roughly(words), 0, 0, 0])
        }
        23 => platform_op(draw),
        24 => {
            let ports = draw.place(&[1, 2, 3]);
            let count = draw.below(140);
            // A poll until a time that has passed: one read from elsewhere could last for ever.
            let at = draw.put(&[ports, count, 1]);
            let op = draw.of(&[sched::YIELD, sched::POLL, 4, 6, 7]);
            (nr::SCHED_OP, [op, at, 0, 0, 0])
        }
        25 => (nr::XEN_VERSION, [draw.below(14), draw.pointer(), 0, 0, 0]),
        26 => unknown(draw),
        27..=30 => grants(draw),
        _ => console(draw),
    }
}

fn mmu_update(draw: &mut Draw) -> Call {
    let count = draw.below(5);
    let mut words = [0u64; 8];
    for request in words.chunks_exact_mut(2) {
        request[0] = if draw.once_in(32) {
            draw.next()
        } else {
            draw.entry_address() | draw.of(&[0, 0, 0, 0, 1, 2, 3])
        };
        request[1] = draw.entry();
    }
    let at = draw.place(&words);
    let done = if draw.once_in(2) { 0 } else { draw.pointer() };
    (nr::MMU_UPDATE, [at, count, done, domain(draw), 0])
}

/// The domains of mmu_update and mmuext_op: mostly this one's frames and tables.
fn domain(draw: &mut Draw) -> u64 {
    match draw.below(16) {
        0 => draw.domain(),
        1 => draw.domain() | (draw.domain() + 1) << 16,
        _ => DOMID_SELF,
    }
}

fn mmuext_op(draw: &mut Draw) -> Call {
    let count = draw.below(3);
    let mut words = [0u64; 6];
    for request in words.chunks_exact_mut(3) {
        let cmd = match draw.below(3) {
            0 => draw.below(24) as u32,
            _ => draw.of(&[
                mmuext::PIN_L1,
                mmuext::PIN_L2,
                mmuext::PIN_L3,
                mmuext::PIN_L4,
                mmuext::UNPIN,
                mmuext::SET_LDT,
                mmuext::NEW_USER_BASEPTR,
            ]),
        };
        request[0] = u64::from(cmd);
        request[1] = match cmd {
            mmuext::NEW_BASEPTR => draw.of(&[page_table::root().mfn(), 0, 0xfee00]),
            mmuext::SET_LDT => draw.window() & !0xfff,
            // Clearing and copying pages: the playground's.
            16 | 17 => draw.mfn(),
            _ => draw.special(),
        };
        request[2] = match cmd {
            mmuext::SET_LDT => draw.below(9000),
            17 => draw.mfn(),
            _ => draw.pointer(),
        };
    }
    let at = draw.place(&words);
    let done = if draw.once_in(2) { 0 } else { draw.pointer() };
    (nr::MMUEXT_OP, [at, count, done, domain(draw), 0])
}

fn memory_op(draw: &mut Draw) -> Call {
    let frames = [draw.special(), draw.below(1 << 20)];
    for (index, word) in frames.iter().enumerate() {
        draw.args.write(LIST + index, *word);
    }
    let list = draw.args.va() + 8 * LIST as u64;
    let tail = domain(draw) & 0xffff;
    let order = if draw.once_in(8) { draw.below(64) } else { 0 };
    let one = [list, 1, order, tail];
    match draw.below(8) {
        0 | 1 => {
            let bits = draw.of(&[0, 0, 24, 32]) << 32;
            let at = draw.place(&[list, 1, order | bits, tail]);
            (nr::MEMORY_OP, [memory::POPULATE_PHYSMAP, at, 0, 0, 0])
        }
        2 => {
            let at = draw.place(&one);
            (nr::MEMORY_OP, [memory::DECREASE_RESERVATION, at, 0, 0, 0])
        }
        3 | 4 => {
            let get = [list + 8, 1, order, tail];
            let mut words = [0u64; 9];
            words[..4].copy_from_slice(&one);
            words[4..8].copy_from_slice(&get);
            words[8] = draw.of(&[0, 0, 0, 1, 2]);
            let at = draw.place(&words);
            (nr::MEMORY_OP, [memory::EXCHANGE, at, 0, 0, 0])
        }
        5 => {
            // Counts beyond anything, lists nowhere.
            let nowhere = draw.of(&[0, u64::MAX - 64, 0xffff_8000_0000_0000, 0x1000]);
            let count = draw.next() >> draw.below(64);
            let order = draw.below(64);
            let at = draw.place(&[nowhere, count, order, tail]);
            let op = draw.of(&[0, 1, 6]) | (draw.next() & 0xffff) << 6;
            (nr::MEMORY_OP, [op, at, 0, 0, 0])
        }
        _ => {
            let op = draw.of(&[2, 3, 4, 5, 7, 9, 10, 12, 14, 15, 23, 28]);
            (nr::MEMORY_OP, [op, draw.pointer(), 0, 0, 0])
        }
    }
}

fn descriptor(draw: &mut Draw) -> u64 {
    match draw.below(4) {
        0 => 0,
        1 => draw.next(),
        // Code and data, whatever privilege and kind.
        _ => 0x00af_9300_0000_ffff ^ (draw.next() & 0x0060_6f00_0000_0000),
    }
}

/// Calls that take numbers, not memory.
fn small(draw: &mut Draw) -> Call {
    match draw.below(10) {
        0 => (nr::STACK_SWITCH, [draw.value(), draw.value(), 0, 0, 0]),
        1 => (nr::SET_SEGMENT_BASE, [draw.below(5), draw.value(), 0, 0, 0]),
        2 => (nr::FPU_TASKSWITCH, [draw.below(2), 0, 0, 0, 0]),
        3 => (nr::VM_ASSIST, [draw.below(3), draw.below(8), 0, 0, 0]),
        4 => (nr::GET_DEBUGREG, [draw.value(), 0, 0, 0, 0]),
        5 => (nr::SET_TIMER_OP, [draw.value(), 0, 0, 0, 0]),
        6 => (
            nr::GRANT_TABLE_OP,
            [draw.below(16), draw.nowhere(), draw.value(), 0, 0],
        ),
        7 => {
            // Vectors that nothing raises.
            let entry = (draw.below(3) << 8) | 0x90 | (draw.next() << 16);
            let address = draw.value();
            let list = draw.put(&[entry, address, 0, 0]);
            let nowhere = draw.of(&[u64::MAX - 7, 0xffff_8000_0000_0000, 0x1000]);
            let list = draw.of(&[list, nowhere]);
            (nr::SET_TRAP_TABLE, [list, 0, 0, 0, 0])
        }
        _ => {
            // The callbacks of 32-bit system calls: to where nothing runs, since a context may make one.
            let kind = draw.of(&[5, 7, 6, 9, 0x4000]);
            let wild = draw.next();
            let address = draw.of(&[0, wild, 0x10, 0xffff_8000_0000_0000, 0x8000_0000_0000]);
            let at = draw.place(&[kind | 1 << 16, address]);
            (nr::CALLBACK_OP, [draw.below(3), at, 0, 0, 0])
        }
    }
}

fn bad_debug(draw: &mut Draw, number: u64) -> u64 {
    // An address that would stop this guest's own code is not drawn: its own half is left out.
    let value = draw.value();
    if number < 4 {
        (value & 0x0000_7fff_0000_0000) | 0xffff_8000_0000_0000
    } else {
        value | 0x8000_0000_0000_0000
    }
}

/// Lends, and uses what is lent here and elsewhere. What is mapped goes to the window.
fn grants(draw: &mut Draw) -> Call {
    draw.lend();
    let (gref, domain) = (8 + draw.below(16), draw.domain() & 0xffff);
    let handle = draw.below(12);
    let place = match draw.below(4) {
        0 => draw.nowhere(),
        1 => draw.entry_address(),
        _ => draw.window() & !0xfff,
    };
    let flags = draw.of(&[2, 2, 6, 1, 3, 0x12, 0x1_000a, 0]);
    let op = draw.of(&[0, 0, 0, 1, 1, 5, 5, 2, 6, 11, 10, 8, 4, 7]);
    let words = match op {
        0 => [place, flags | gref << 32, domain, 0, 0],
        1 => [place, 0, handle, 0, 0],
        5 => {
            let (from, to) = (draw.mfn(), draw.mfn());
            let which = draw.below(4);
            let source = if which & 1 != 0 { gref } else { from };
            let dest = if which & 2 != 0 { gref } else { to };
            let other = draw.domain() & 0xffff;
            let offsets = draw.of(&[0, 0, 8, 4095]);
            let length = draw.of(&[8, 64, 4096, 4097]);
            let own = domain | offsets << 16;
            [
                source,
                own,
                dest,
                other | offsets << 16,
                length | which << 16,
            ]
        }
        2 => [
            domain | draw.below(4) << 32,
            0,
            draw.args.va() + 8 * LIST as u64,
            0,
            0,
        ],
        11 => [gref | (8 + draw.below(16)) << 32, 0, 0, 0, 0],
        _ => [domain, 0, 0, 0, 0],
    };
    let count = draw.of(&[1, 1, 1, 0, 2]);
    (
        nr::GRANT_TABLE_OP,
        [op, draw.place_roughly(words), count, 0, 0],
    )
}

fn event_channel(draw: &mut Draw) -> Call {
    let words = [
        (draw.domain() & 0xffff) | draw.below(20) << 32,
        draw.below(20),
        draw.below(20),
    ];
    let words = if draw.once_in(2) {
        [
            draw.below(20),
            draw.below(3) | draw.below(20) << 32,
            draw.below(20),
        ]
    } else {
        words
    };
    let op = draw.below(15);
    (
        nr::EVENT_CHANNEL_OP,
        [op, draw.place_roughly(words), 0, 0, 0],
    )
}

fn vcpu_op(draw: &mut Draw) -> Call {
    // Not 2, which takes the vCPU down; 10, which moves vcpu_info, with frames it must not move to.
    let op = draw.of(&[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 99]);
    let vcpu = match draw.below(4) {
        0 => draw.value(),
        1 => draw.below(draw.vcpus + 1),
        _ => 0,
    };
    let at = match op {
        10 => {
            let frame = draw.foreign();
            let offset = draw.next();
            draw.place(&[frame, offset])
        }
        5 | 13 => {
            let area = if draw.once_in(2) {
                draw.window()
            } else {
                draw.pointer()
            };
            draw.place(&[area])
        }
        4 => draw.pointer(),
        _ => {
            let words = [draw.value(), draw.below(4)];
            draw.place(&words)
        }
    };
    (nr::VCPU_OP, [op, vcpu, at, 0, 0])
}

fn platform_op(draw: &mut Draw) -> Call {
    // Not 51, which turns the machine off.
    let cmd = draw.of(&[17, 31, 48, 50, 50, 54, 55, 55, 62, 62, 63, 99]);
    let version = draw.of(&[0x0300_0001, 0x0300_0001, 0x0300_0000, 0]);
    let mut words = [0u64; 17];
    words[0] = cmd | version << 32;
    for word in &mut words[1..5] {
        *word = draw.value();
    }
    (PLATFORM_OP, [draw.place(&words), 0, 0, 0, 0])
}

const PLATFORM_OP: u64 = 7;

/// A call that is not served, or no call at all.
fn unknown(draw: &mut Draw) -> Call {
    let number = draw.of(&[
        4,
        6,
        11,
        16,
        19,
        22,
        27,
        28,
        30,
        31,
        34,
        35,
        36,
        37,
        39,
        40,
        41,
        48,
        56,
        63,
        64,
        1 << 32,
    ]);
    let number = if draw.once_in(4) {
        draw.next() | 1 << 20
    } else {
        number
    };
    (number, [(); 5].map(|()| draw.value()))
}

fn console(draw: &mut Draw) -> Call {
    // Input, and output of lengths whose buffer is not there.
    if draw.once_in(2) {
        return (nr::CONSOLE_IO, [1, draw.below(80), draw.pointer(), 0, 0]);
    }
    let nowhere = draw.of(&[0, 0x1000, 0xffff_8000_0000_0000, u64::MAX - 3]);
    (
        nr::CONSOLE_IO,
        [draw.of(&[0, 2]), 1 + draw.below(1 << 31), nowhere, 0, 0],
    )
}
