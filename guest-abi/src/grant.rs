//! Grant tables: a domain lends frames to others, entry by entry.
//!
//! # Invariants
//! - G1: the type bits of an entry are the granter's; [`GTF_READING`] and [`GTF_WRITING`] are the
//!   hypervisor's, and stand exactly while the grant is in use.
//! - G2: an operation fails by its own `status`; the hypercall's result is negative only for arguments that
//!   cannot be read.

use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::GrantTableOp`](crate::Hypercall::GrantTableOp).
    pub enum GrantTableOp: u32 {
        /// Map a grant. Argument: [`MapGrantRef`].
        MapGrantRef "map_grant_ref" = 0,
        /// Unmap a grant. Argument: [`UnmapGrantRef`].
        UnmapGrantRef "unmap_grant_ref" = 1,
        /// Grow the table and learn its frames. Argument: [`SetupTable`].
        SetupTable "setup_table" = 2,
        /// Print the table. Argument: [`DumpTable`].
        DumpTable "dump_table" = 3,
        /// Give a frame away. Argument: [`Transfer`].
        Transfer "transfer" = 4,
        /// Copy from or to a grant. Argument: [`struct@Copy`].
        Copy "copy" = 5,
        /// Size of the table. Argument: [`QuerySize`].
        QuerySize "query_size" = 6,
        /// Unmap, and put another mapping there. Argument: [`UnmapAndReplace`].
        UnmapAndReplace "unmap_and_replace" = 7,
        /// Choose the version of the entries. Argument: [`SetVersion`].
        SetVersion "set_version" = 8,
        /// Version 2: frames of the status words. Argument: [`GetStatusFrames`].
        GetStatusFrames "get_status_frames" = 9,
        /// The version of the entries. Argument: [`GetVersion`].
        GetVersion "get_version" = 10,
        /// Swap two entries. Argument: [`SwapGrantRef`].
        SwapGrantRef "swap_grant_ref" = 11,
        /// Clean caches. Argument: [`CacheFlush`].
        CacheFlush "cache_flush" = 12,
    }
}

/// Entries at the start of the table that the toolstack fills in.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// The entry of the console's ring.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// The entry of the store's ring.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;
/// Entries of version 1 in a page.
pub const GRANT_ENTRIES_V1_PER_PAGE: u32 = 4096 / 8;

/// Entry type: nothing is granted.
pub const GTF_INVALID: u16 = 0;
/// Entry type: the frame may be mapped and copied.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Entry type: a frame may be given here.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Entry type: another domain's grant is passed on.
pub const GTF_TRANSITIVE: u16 = 3;
/// The bits of the type.
pub const GTF_TYPE_MASK: u16 = 3;
/// Access: only to read.
pub const GTF_READONLY: u16 = 1 << 2;
/// Access: it is being read (G1).
pub const GTF_READING: u16 = 1 << 3;
/// Access: it is being written (G1).
pub const GTF_WRITING: u16 = 1 << 4;
/// Access: page attribute PWT.
pub const GTF_PWT: u16 = 1 << 5;
/// Access: page attribute PCD.
pub const GTF_PCD: u16 = 1 << 6;
/// Access: page attribute PAT.
pub const GTF_PAT: u16 = 1 << 7;
/// Access: only a part of the page.
pub const GTF_SUB_PAGE: u16 = 1 << 8;
/// Transfer: the frame is on its way.
pub const GTF_TRANSFER_COMMITTED: u16 = 1 << 2;
/// Transfer: the frame has arrived.
pub const GTF_TRANSFER_COMPLETED: u16 = 1 << 3;

/// Map for devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// Map for the processor.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Map to read only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// Map for user mode too.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `host_addr` is the machine address of the page-table entry, not the address to map at.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;
/// Lowest of the bits that go into the entry's bits left to the guest.
pub const GNTMAP_GUEST_AVAIL0_SHIFT: u32 = 16;
/// Those bits.
pub const GNTMAP_GUEST_AVAIL_MASK: u32 = u32::MAX << GNTMAP_GUEST_AVAIL0_SHIFT;

/// [`flags`](field@Copy::flags): the source is a grant.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// [`flags`](field@Copy::flags): the destination is a grant.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// Status: done.
pub const GNTST_OKAY: i16 = 0;
/// Status: failed.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// Status: no such domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// Status: no such grant, or not one for this.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// Status: no such handle.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// Status: cannot map at this address.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// Status: cannot unmap this device address.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// Status: no space in the IOMMU.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// Status: not permitted.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// Status: not a page for this.
pub const GNTST_BAD_PAGE: i16 = -9;
/// Status: the copy crosses a page's end.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// Status: the frame's address is too high.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Status: try again.
pub const GNTST_EAGAIN: i16 = -12;
/// Status: no handle or similar is left.
pub const GNTST_NO_SPACE: i16 = -13;

wire_struct! {
    /// An entry of the table, version 1.
    pub struct GrantEntryV1: 8 {
        /// `GTF_*`; written last by the granter.
        0x00 flags: u16,
        /// Who gets it.
        0x02 domid: u16,
        /// The frame.
        0x04 frame: u32,
    }
    /// Argument of [`GrantTableOp::MapGrantRef`].
    pub struct MapGrantRef: 32 {
        /// Where to map, by `flags`.
        0x00 host_addr: u64,
        /// `GNTMAP_*`.
        0x08 flags: u32,
        /// The grant.
        0x0c gref: u32,
        /// Whose.
        0x10 dom: u16,
        /// Out: `GNTST_*`.
        0x12 status: i16,
        /// Out: names the mapping.
        0x14 handle: u32,
        /// Out: machine address of the frame.
        0x18 dev_bus_addr: u64,
    }
    /// Argument of [`GrantTableOp::UnmapGrantRef`].
    pub struct UnmapGrantRef: 24 {
        /// Where it is mapped; 0 leaves it.
        0x00 host_addr: u64,
        /// Machine address for devices; 0 leaves it.
        0x08 dev_bus_addr: u64,
        /// The mapping.
        0x10 handle: u32,
        /// Out: `GNTST_*`.
        0x14 status: i16,
        /// Padding.
        0x16 _pad0: u16,
    }
    /// Argument of [`GrantTableOp::SetupTable`].
    pub struct SetupTable: 24 {
        /// Whose table.
        0x00 dom: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// Pages it shall have at least.
        0x04 nr_frames: u32,
        /// Out: `GNTST_*`.
        0x08 status: i16,
        /// Padding.
        0x0a _pad1: [u16; 3],
        /// Address of the list of frames, `u64` each.
        0x10 frame_list: u64,
    }
    /// Argument of [`GrantTableOp::DumpTable`].
    pub struct DumpTable: 4 {
        /// Whose table.
        0x00 dom: u16,
        /// Out: `GNTST_*`.
        0x02 status: i16,
    }
    /// Argument of [`GrantTableOp::Transfer`].
    pub struct Transfer: 24 {
        /// The frame.
        0x00 mfn: u64,
        /// Who gets it.
        0x08 domid: u16,
        /// Padding.
        0x0a _pad0: u16,
        /// The entry there that accepts it.
        0x0c gref: u32,
        /// Out: `GNTST_*`.
        0x10 status: i16,
        /// Padding.
        0x12 _pad1: [u16; 3],
    }
    /// One end of a [`struct@Copy`].
    pub struct CopyPtr: 16 {
        /// The frame, or in the low half the grant.
        0x00 u: u64,
        /// Whose.
        0x08 domid: u16,
        /// First byte in the page.
        0x0a offset: u16,
        /// Padding.
        0x0c _pad0: u32,
    }
    /// Argument of [`GrantTableOp::Copy`].
    pub struct Copy: 40 {
        /// From.
        0x00 source: CopyPtr,
        /// To.
        0x10 dest: CopyPtr,
        /// Bytes.
        0x20 len: u16,
        /// `GNTCOPY_*`.
        0x22 flags: u16,
        /// Out: `GNTST_*`.
        0x24 status: i16,
        /// Padding.
        0x26 _pad0: u16,
    }
    /// Argument of [`GrantTableOp::QuerySize`].
    pub struct QuerySize: 16 {
        /// Whose table.
        0x00 dom: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// Out: its pages.
        0x04 nr_frames: u32,
        /// Out: pages it can have.
        0x08 max_nr_frames: u32,
        /// Out: `GNTST_*`.
        0x0c status: i16,
        /// Padding.
        0x0e _pad1: u16,
    }
    /// Argument of [`GrantTableOp::UnmapAndReplace`].
    pub struct UnmapAndReplace: 24 {
        /// Where it is mapped.
        0x00 host_addr: u64,
        /// Whose mapping goes there.
        0x08 new_addr: u64,
        /// The mapping.
        0x10 handle: u32,
        /// Out: `GNTST_*`.
        0x14 status: i16,
        /// Padding.
        0x16 _pad0: u16,
    }
    /// Argument of [`GrantTableOp::SetVersion`].
    pub struct SetVersion: 4 {
        /// In: what is wanted. Out: what is.
        0x00 version: u32,
    }
    /// Argument of [`GrantTableOp::GetStatusFrames`].
    pub struct GetStatusFrames: 16 {
        /// Room of the list.
        0x00 nr_frames: u32,
        /// Whose table.
        0x04 dom: u16,
        /// Out: `GNTST_*`.
        0x06 status: i16,
        /// Address of the list, `u64` each.
        0x08 frame_list: u64,
    }
    /// Argument of [`GrantTableOp::GetVersion`].
    pub struct GetVersion: 8 {
        /// Whose table.
        0x00 dom: u16,
        /// Padding.
        0x02 _pad: u16,
        /// Out: the version.
        0x04 version: u32,
    }
    /// Argument of [`GrantTableOp::SwapGrantRef`].
    pub struct SwapGrantRef: 12 {
        /// One entry.
        0x00 ref_a: u32,
        /// The other.
        0x04 ref_b: u32,
        /// Out: `GNTST_*`.
        0x08 status: i16,
        /// Padding.
        0x0a _pad0: u16,
    }
    /// Argument of [`GrantTableOp::CacheFlush`].
    pub struct CacheFlush: 16 {
        /// Device address, or in the low half the grant.
        0x00 a: u64,
        /// First byte in the page.
        0x08 offset: u16,
        /// Bytes.
        0x0a length: u16,
        /// What to do.
        0x0c op: u32,
    }
}

impl CopyPtr {
    /// The grant, where the flags say that this end is one.
    #[inline]
    pub const fn gref(&self) -> u32 {
        self.u as u32
    }
}
