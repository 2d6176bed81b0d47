//! Short ways to lend pages to other domains and to use what others lend, for guests with one table of one frame.

use guest_runtime::abi::grant::{
    Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTMAP_HOST_MAP, GNTMAP_READONLY,
    GTF_PERMIT_ACCESS, GTF_READONLY, MapGrantRef, SetupTable, UnmapGrantRef,
};
use guest_runtime::abi::{DOMID_SELF, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::page_table::bits;
use guest_runtime::{Global, hypercall};

/// The page that shows the table's first frame.
static TABLE: Global<Option<Page>> = Global::new(None);

/// First entry that nobody else fills in.
pub const FIRST: u32 = 8;
/// Entries in the table.
pub const ENTRIES: u32 = 512;

/// One grant-table operation; its result, the status is in the argument.
pub fn op<T>(operation: u64, argument: &mut T) -> i64 {
    let address = &raw mut *argument as u64;
    hypercall::call(nr::GRANT_TABLE_OP, [operation, address, 1, 0, 0])
}

/// The table, mapped on first use.
pub fn table() -> Page {
    if let Some(page) = TABLE.get() {
        return page;
    }
    let mut frame = 0u64;
    let mut setup = SetupTable {
        dom: DOMID_SELF as u16,
        nr_frames: 1,
        frame_list: &raw mut frame as u64,
        status: -1,
        ..SetupTable::ZERO
    };
    let result = op(2, &mut setup);
    assert!(
        result == 0 && setup.status == 0,
        "setup_table: {result}, status {}",
        setup.status
    );
    let page = frames::allocate();
    let result = hypercall::update_va_mapping(page.va(), frame << 12 | bits::KERNEL_RW | bits::NX);
    assert!(result == 0, "the grant table could not be mapped: {result}");
    TABLE.set(Some(page));
    page
}

/// Lends a frame to a domain.
pub fn lend(gref: u32, domain: u16, mfn: u64, read_only: bool) {
    let flags = GTF_PERMIT_ACCESS | if read_only { GTF_READONLY } else { 0 };
    set(gref, flags, domain, mfn);
}

/// Fills an entry in, as it stands.
pub fn set(gref: u32, flags: u16, domain: u16, mfn: u64) {
    table().write(gref as usize, entry(flags, domain, mfn));
}

/// What an entry of version 1 is as one word.
pub fn entry(flags: u16, domain: u16, mfn: u64) -> u64 {
    u64::from(flags) | u64::from(domain) << 16 | mfn << 32
}

/// Lends nothing by this entry any more; its flags just before, in which use shows.
pub fn take_back(gref: u32) -> u16 {
    let before = flags(gref);
    table().write(gref as usize, 0);
    before
}

/// The entry's flags.
pub fn flags(gref: u32) -> u16 {
    table().read(gref as usize) as u16
}

/// Maps a grant at an address: handle, or the negative status.
pub fn map_at(address: u64, domain: u16, gref: u32, read_only: bool) -> Result<u32, i64> {
    let mut map = MapGrantRef {
        host_addr: address,
        flags: GNTMAP_HOST_MAP | if read_only { GNTMAP_READONLY } else { 0 },
        gref,
        dom: domain,
        ..MapGrantRef::ZERO
    };
    match op(0, &mut map) {
        0 if map.status == 0 => Ok(map.handle),
        0 => Err(i64::from(map.status)),
        error => Err(error),
    }
}

/// Unmaps what is mapped at an address: 0, or the negative status.
pub fn unmap(address: u64, handle: u32) -> i64 {
    let mut unmap = UnmapGrantRef {
        host_addr: address,
        handle,
        ..UnmapGrantRef::ZERO
    };
    match op(1, &mut unmap) {
        0 => i64::from(unmap.status),
        error => error,
    }
}

/// Copies the first bytes from a grant to a page of ours: the status.
pub fn copy_from(domain: u16, gref: u32, to: Page, bytes: u16) -> i64 {
    copy(Copy {
        source: place(u64::from(gref), domain),
        dest: place(to.mfn(), DOMID_SELF as u16),
        len: bytes,
        flags: GNTCOPY_SOURCE_GREF,
        ..Copy::ZERO
    })
}

/// Copies the first bytes from a page of ours to a grant: the status.
pub fn copy_to(domain: u16, gref: u32, from: Page, bytes: u16) -> i64 {
    copy(Copy {
        source: place(from.mfn(), DOMID_SELF as u16),
        dest: place(u64::from(gref), domain),
        len: bytes,
        flags: GNTCOPY_DEST_GREF,
        ..Copy::ZERO
    })
}

fn place(u: u64, domid: u16) -> CopyPtr {
    CopyPtr {
        u,
        domid,
        ..CopyPtr::ZERO
    }
}

fn copy(mut request: Copy) -> i64 {
    match op(5, &mut request) {
        0 => i64::from(request.status),
        error => error,
    }
}
