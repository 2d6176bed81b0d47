//! What children do for these tests: steps, each with its arguments in the order they are named.

use guest_runtime::abi::grant::{
    Copy, CopyPtr, GNTMAP_CONTAINS_PTE, MapGrantRef, QuerySize, SetupTable, UnmapGrantRef,
};
use guest_runtime::abi::{DOMID_SELF, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::{Global, events, hypercall, page_table};
use guests::{channels, lending};

/// Pages of ours, by number, and mappings in force.
static PAGES: Global<[Option<Page>; 8]> = Global::new([None; 8]);
static MAPPED: Global<[Option<Mapped>; 8]> = Global::new([None; 8]);

#[derive(Clone, Copy)]
struct Mapped {
    window: Page,
    host: u64,
    device: u64,
    handle: u32,
}

/// A page of ours, taken when it is first named: number. Its frame.
pub fn frame([number, ..]: [u64; 5]) -> i64 {
    page(number).mfn() as i64
}

fn page(number: u64) -> Page {
    let mut pages = PAGES.get();
    let page = *pages[number as usize].get_or_insert_with(frames::allocate);
    PAGES.set(pages);
    page
}

/// A word of a page of ours: number, index.
pub fn read([number, index, ..]: [u64; 5]) -> i64 {
    page(number).read(index as usize) as i64
}

/// Writes a word of a page of ours: number, index, word.
pub fn write([number, index, word, ..]: [u64; 5]) -> i64 {
    page(number).write(index as usize, word);
    0
}

/// The frame of our root table.
pub fn root(_: [u64; 5]) -> i64 {
    page_table::root().mfn() as i64
}

/// Writes an entry of our table: entry, flags, domain, frame.
pub fn entry([gref, flags, domain, frame, _]: [u64; 5]) -> i64 {
    lending::table().write(gref as usize, flags | domain << 16 | frame << 32);
    0
}

/// An entry's flags: entry.
pub fn flags([gref, ..]: [u64; 5]) -> i64 {
    i64::from(lending::flags(gref as u32))
}

/// Maps: domain, entry, flags, slot. The status.
pub fn map([domain, gref, flags, slot, _]: [u64; 5]) -> i64 {
    let window = frames::allocate();
    let by_entry = flags as u32 & GNTMAP_CONTAINS_PTE != 0;
    let host = match page_table::slot(window.va()) {
        Some(entry) if by_entry => entry.maddr(),
        _ => window.va(),
    };
    let mut map = MapGrantRef {
        host_addr: host,
        flags: flags as u32,
        gref: gref as u32,
        dom: domain as u16,
        ..MapGrantRef::ZERO
    };
    let result = lending::op(0, &mut map);
    if result != 0 || map.status != 0 {
        frames::release(window);
        return if result != 0 {
            result
        } else {
            i64::from(map.status)
        };
    }
    let mut mapped = MAPPED.get();
    mapped[slot as usize] = Some(Mapped {
        window,
        host,
        device: map.dev_bus_addr,
        handle: map.handle,
    });
    MAPPED.set(mapped);
    0
}

fn mapped(slot: u64) -> Mapped {
    MAPPED.get()[slot as usize].expect("it was mapped")
}

/// Unmaps: slot, whether for the processor, whether for devices. The status.
pub fn unmap([slot, host, device, ..]: [u64; 5]) -> i64 {
    let was = mapped(slot);
    let mut unmap = UnmapGrantRef {
        host_addr: if host != 0 { was.host } else { 0 },
        dev_bus_addr: if device != 0 { was.device } else { 0 },
        handle: was.handle,
        ..UnmapGrantRef::ZERO
    };
    match lending::op(1, &mut unmap) {
        0 => i64::from(unmap.status),
        error => error,
    }
}

/// What hangs at the window of a mapping: slot. The page-table entry, without what the CPU or hypervisor adds.
pub fn hangs([slot, ..]: [u64; 5]) -> i64 {
    let entry = page_table::slot(mapped(slot).window.va()).map_or(0, |slot| slot.value());
    (entry & !page_table::bits::MAY_DIFFER) as i64
}

/// Whether the window of a mapping may be used by user mode: slot.
pub fn is_for_user([slot, ..]: [u64; 5]) -> i64 {
    let entry = page_table::slot(mapped(slot).window.va()).map_or(0, |slot| slot.value());
    (entry >> 2 & 1) as i64
}

/// The machine address that the mapping told: slot.
pub fn told([slot, ..]: [u64; 5]) -> i64 {
    mapped(slot).device as i64
}

/// A word of what is mapped: slot, index.
pub fn peek([slot, index, ..]: [u64; 5]) -> i64 {
    mapped(slot).window.read(index as usize) as i64
}

/// Writes a word of what is mapped: slot, index, word.
pub fn poke([slot, index, word, ..]: [u64; 5]) -> i64 {
    mapped(slot).window.write(index as usize, word);
    0
}

/// Gives the page of an unmapped window back to the pool: slot.
pub fn put([slot, ..]: [u64; 5]) -> i64 {
    let window = mapped(slot).window;
    page_table::unprotect(window);
    frames::release(window);
    0
}

/// Tries to make a mapping of what is mapped, writable, without a grant, elsewhere: slot. The answer.
pub fn map_again([slot, ..]: [u64; 5]) -> i64 {
    let window = frames::allocate();
    let entry = page_table::slot(mapped(slot).window.va()).map_or(0, |slot| slot.value());
    let result = hypercall::update_va_mapping(window.va(), entry);
    frames::release(window);
    result
}

/// Tries to pin what is mapped as a table: slot. The answer.
pub fn pin([slot, ..]: [u64; 5]) -> i64 {
    let frame = mapped(slot).device >> 12;
    hypercall::mmuext(guest_runtime::abi::mmuext::PIN_L1, frame, 0)
}

/// An end of a copy in one word: what it is in 32 bits, whose in 16, and the first byte in 15; the top bit is a grant.
pub const fn at(grant: bool, what: u64, domain: u64, offset: u64) -> u64 {
    what | domain << 32 | offset << 48 | (grant as u64) << 63
}

fn request(from: u64, to: u64, len: u64) -> Copy {
    let end = |end: u64| CopyPtr {
        u: end & 0xffff_ffff,
        domid: (end >> 32) as u16,
        offset: (end >> 48) as u16 & 0x7fff,
        ..CopyPtr::ZERO
    };
    Copy {
        source: end(from),
        dest: end(to),
        len: len as u16,
        flags: (from >> 63) as u16 | (to >> 63 << 1) as u16,
        ..Copy::ZERO
    }
}

/// Copies: from, to ([`at`]), bytes. The status.
pub fn copy([from, to, len, ..]: [u64; 5]) -> i64 {
    let mut copy = request(from, to, len);
    match lending::op(5, &mut copy) {
        0 => i64::from(copy.status),
        error => error,
    }
}

/// A batch of good and bad copies of eight bytes each from one grant: domain, entry, a page of ours by number. The
/// statuses, four bits each, negated, the first lowest.
pub fn batch([domain, gref, number, ..]: [u64; 5]) -> i64 {
    let own = |offset| at(false, page(number).mfn(), DOMID_SELF, offset);
    let good = |offset| request(at(true, gref, domain, 0), own(offset), 8);
    let mut list = [
        good(0),
        request(at(true, gref, 0x7ff4, 0), own(8), 8),
        good(16),
        request(at(true, 1 << 20, domain, 0), own(24), 8),
        request(at(true, gref, domain, 4089), own(32), 8),
        request(at(true, 400, domain, 0), own(40), 8),
        request(at(false, page(number).mfn(), domain, 0), own(48), 8),
        good(56),
    ];
    let address = list.as_mut_ptr() as u64;
    let result = hypercall::call(nr::GRANT_TABLE_OP, [5, address, list.len() as u64, 0, 0]);
    if result != 0 {
        return result;
    }
    let statuses = list.iter().rev();
    statuses.fold(0, |all, copy| all << 4 | i64::from(-copy.status & 15))
}

/// Size of a table: domain. Frames, what it may have, and the negated status, 16 bits each.
pub fn size([domain, ..]: [u64; 5]) -> i64 {
    let mut size = QuerySize {
        dom: domain as u16,
        ..QuerySize::ZERO
    };
    match lending::op(6, &mut size) {
        0 if size.status == 0 => i64::from(size.nr_frames) | i64::from(size.max_nr_frames) << 16,
        0 => i64::from(-size.status) << 32,
        error => error,
    }
}

/// Asks for so many frames of a table: domain, frames. The status.
pub fn set_up([domain, wanted, ..]: [u64; 5]) -> i64 {
    let mut list = [0u64; 64];
    let mut setup = SetupTable {
        dom: domain as u16,
        nr_frames: wanted as u32,
        frame_list: list.as_mut_ptr() as u64,
        ..SetupTable::ZERO
    };
    match lending::op(2, &mut setup) {
        0 => i64::from(setup.status),
        error => error,
    }
}

/// Maps for devices, by one entry and the next in turns, until that is refused, and unmaps all: domain, entry. How many, and the negated status in the high
/// half.
pub fn fill_handles([domain, gref, ..]: [u64; 5]) -> i64 {
    let mut last = None;
    let (mut count, mut status) = (0i64, 0);
    let map = |count: i64| {
        let mut map = MapGrantRef {
            flags: 1,
            // Xen counts no more than 255 uses of one.
            gref: gref as u32 + (count & 1) as u32,
            dom: domain as u16,
            ..MapGrantRef::ZERO
        };
        let result = lending::op(0, &mut map);
        (result == 0 && count < 5000).then_some(map)
    };
    while let Some(map) = map(count) {
        if map.status != 0 {
            status = -i64::from(map.status);
            break;
        }
        (last, count) = (Some(map), count + 1);
    }
    let Some(last) = last else {
        return status << 32;
    };
    // Handles need not come in order: every one that can be is unmapped.
    let mut unmapped = 0;
    for handle in 0..2 * count as u32 {
        let mut unmap = UnmapGrantRef {
            dev_bus_addr: last.dev_bus_addr,
            handle,
            ..UnmapGrantRef::ZERO
        };
        unmapped += i64::from(lending::op(1, &mut unmap) == 0 && unmap.status == 0);
    }
    if unmapped != count {
        guest_runtime::say!("{count} mapped, {unmapped} unmapped, status {status}");
        return -1;
    }
    count | status << 32
}

/// Opens ports until that is refused, and closes them: the highest, and the negated error in the high half.
pub fn fill_ports(_: [u64; 5]) -> i64 {
    let mut ports = [0u32; 128];
    let (taken, error) = channels::take_all(&mut ports);
    let highest = ports.iter().copied().max().unwrap_or(0);
    ports.iter().take(taken).for_each(|port| {
        channels::close(*port);
    });
    i64::from(highest) | -error << 32
}

/// Opens a port to a domain: domain. Answers the port or the error.
pub fn open([domain, ..]: [u64; 5]) -> i64 {
    channels::alloc_unbound(domain).map_or_else(|error| error, i64::from)
}

/// Binds to another's port: domain, its port. Answers ours or the error.
pub fn bind([domain, port, ..]: [u64; 5]) -> i64 {
    channels::bind_interdomain(domain, port as u32).map_or_else(|error| error, i64::from)
}

/// What a port is: port. Its kind, or the error.
pub fn kind([port, ..]: [u64; 5]) -> i64 {
    channels::kind(port as u32)
}

/// Asks the echo end one question by a page of ours and looks at the answer: page, port, index of the question. 1 if it
/// is right and there was an event, or the error of sending.
pub fn echo([number, port, index, ..]: [u64; 5]) -> i64 {
    use guest_runtime::abi::ends::echo_ring::{FIRST_REQUEST, FIRST_RESPONSE, SLOT_BYTES, SLOTS};
    let (page, slot) = (page(number), index as usize % SLOTS as usize);
    let place = |first: usize| (first + slot * SLOT_BYTES) / 8;
    page.write(place(FIRST_REQUEST), 0x4000 + index);
    let high = page.read(0) & !0xffff_ffff;
    page.write(0, high | (index + 1));
    match hypercall::send(port as u32) {
        0 => {}
        error => return error,
    }
    let answered = page.read(place(FIRST_RESPONSE)) == 0x4000 + index;
    let told = events::clear_port(port as u32);
    i64::from(answered && told && page.read(0) >> 32 == index + 1)
}

/// Asks the echo end for ever: page, port.
pub fn echo_for_ever([number, port, ..]: [u64; 5]) -> i64 {
    let mut index = 0;
    loop {
        echo([number, port, index, 0, 0]);
        index = (index + 1) & 0xffff_ffff;
        if let Some(link) = guest_runtime::child::link() {
            link.add(guest_runtime::link::FREE, 1);
        }
    }
}

/// Makes a call of the hypervisor's own: operation. The answer.
pub fn xeno([operation, ..]: [u64; 5]) -> i64 {
    let mut argument = [0u64; 8];
    let address = argument.as_mut_ptr() as u64;
    hypercall::call(nr::XENO_OP, [operation, address, 0, 0, 0])
}
