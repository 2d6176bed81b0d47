//! What children do for these tests: steps, each with its arguments in the order they are named.

use guest_runtime::abi::{DOMID_SELF, memory};
use guest_runtime::frames::{self, Page};
use guest_runtime::{
    Global, child, control, events, hypercall, instructions, link, page_table, trap,
};
use guests::{channels, lending};

/// Pages lent, by entry; and what is mapped, by slot: its page and handle.
static LENT: Global<[Option<Page>; 16]> = Global::new([None; 16]);
static MAPPED: Global<[Option<(Page, u32)>; 16]> = Global::new([None; 16]);

/// Lends a new page by an entry: entry, domain, first word, whether to be read only. Answers its frame.
pub fn lend([gref, domain, word, read_only, _]: [u64; 5]) -> i64 {
    let page = frames::allocate();
    page.write(0, word);
    lending::lend(gref as u32, domain as u16, page.mfn(), read_only != 0);
    let mut lent = LENT.get();
    lent[gref as usize % 16] = Some(page);
    LENT.set(lent);
    page.mfn() as i64
}

fn lent(gref: u64) -> Page {
    LENT.get()[gref as usize % 16].expect("it was lent")
}

/// A word of a page of ours that is lent: entry, index.
pub fn own_word([gref, index, ..]: [u64; 5]) -> i64 {
    lent(gref).read(index as usize) as i64
}

/// Takes an entry back: entry. Answers its flags before.
pub fn take_back([gref, ..]: [u64; 5]) -> i64 {
    i64::from(lending::take_back(gref as u32))
}

/// An entry's flags: entry.
pub fn flags([gref, ..]: [u64; 5]) -> i64 {
    i64::from(lending::flags(gref as u32))
}

/// Gives up a page that is or was lent: entry. Answers how many went.
pub fn give_up([gref, ..]: [u64; 5]) -> i64 {
    let page = lent(gref);
    let mut list = [page.mfn()];
    page_table::hide(page);
    control::reservation(
        memory::DECREASE_RESERVATION,
        DOMID_SELF as u16,
        list.as_mut_ptr() as u64,
        1,
    )
}

/// Takes a new frame for the page that was given up: entry. Answers the frame, or how many came.
pub fn take_new([gref, ..]: [u64; 5]) -> i64 {
    let page = lent(gref);
    let mut list = [page.pfn];
    let result = control::populate(DOMID_SELF as u16, &mut list);
    if result != 1 {
        return result;
    }
    frames::set_mfn(page, list[0]);
    page_table::unprotect(page);
    list[0] as i64
}

/// Maps a grant: domain, entry, slot, whether to read only. Answers the status.
pub fn map([domain, gref, slot, read_only, _]: [u64; 5]) -> i64 {
    let page = frames::allocate();
    match lending::map_at(page.va(), domain as u16, gref as u32, read_only != 0) {
        Ok(handle) => {
            let mut mapped = MAPPED.get();
            mapped[slot as usize % 16] = Some((page, handle));
            MAPPED.set(mapped);
            0
        }
        Err(status) => {
            frames::release(page);
            status
        }
    }
}

fn mapped(slot: u64) -> (Page, u32) {
    MAPPED.get()[slot as usize % 16].expect("it was mapped")
}

/// A word of what is mapped: slot, index.
pub fn word([slot, index, ..]: [u64; 5]) -> i64 {
    mapped(slot).0.read(index as usize) as i64
}

/// Writes a word of what is mapped: slot, index, word. Answers 14 if that faults.
pub fn set_word([slot, index, word, ..]: [u64; 5]) -> i64 {
    let address = mapped(slot).0.va() + 8 * index;
    // SAFETY: a page that is mapped for this.
    match trap::catch(|| unsafe { instructions::store(address, word) }) {
        Ok(()) => 0,
        Err(trap) => i64::from(trap.vector),
    }
}

/// Unmaps: slot. Answers the status.
pub fn unmap([slot, ..]: [u64; 5]) -> i64 {
    let (page, handle) = mapped(slot);
    let status = lending::unmap(page.va(), handle);
    if status == 0 {
        page_table::unprotect(page);
        frames::release(page);
    }
    status
}

/// Opens a port to a domain: domain. Answers the port or the error.
pub fn open([domain, ..]: [u64; 5]) -> i64 {
    channels::alloc_unbound(domain).map_or_else(|error| error, i64::from)
}

/// Binds to another's port: domain, its port. Answers ours or the error.
pub fn bind([domain, port, ..]: [u64; 5]) -> i64 {
    channels::bind_interdomain(domain, port as u32).map_or_else(|error| error, i64::from)
}

/// Closes a port: port.
pub fn close([port, ..]: [u64; 5]) -> i64 {
    channels::close(port as u32)
}

/// Notifies: port.
pub fn send([port, ..]: [u64; 5]) -> i64 {
    hypercall::send(port as u32)
}

/// Clears a port: port. Answers whether it was pending.
pub fn take([port, ..]: [u64; 5]) -> i64 {
    i64::from(events::clear_port(port as u32))
}

/// What a port is: port. Its kind, or the error.
pub fn status([port, ..]: [u64; 5]) -> i64 {
    match channels::status(port as u32) {
        Err(error) => error,
        Ok(status) => i64::from(status.status),
    }
}

/// Notifies for ever, whatever is answered, and counts: port.
pub fn send_for_ever([port, ..]: [u64; 5]) -> i64 {
    loop {
        hypercall::send(port as u32);
        if let Some(link) = child::link() {
            link.add(link::FREE, 1);
        }
    }
}
