//! Disks between domains: the ring that a front end lends to a back end, and the requests in it. Both ends are domains;
//! the hypervisor takes no part.

use crate::wire::{operations, wire_struct};

/// Sectors, the unit of all positions, in bytes.
pub const BLKIF_SECTOR_BYTES: usize = 512;
/// Pages that one request names by itself.
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages of further segments that an indirect request names.
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
/// Slots of a ring of one page.
pub const BLKIF_RING_SLOTS: u32 = 32;
/// Bit of the back end's `info`: the disk may only be read.
pub const VDISK_READONLY: u32 = 4;
/// `status`: done.
pub const BLKIF_RSP_OKAY: i16 = 0;
/// `status`: refused, or failed.
pub const BLKIF_RSP_ERROR: i16 = -1;
/// `status`: there is no such operation here.
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;

operations! {
    /// What is asked of a disk.
    pub enum BlkifOp: u8 {
        /// Read into the pages.
        Read "READ" = 0,
        /// Write from the pages.
        Write "WRITE" = 1,
        /// The same, after all that was asked before and before all that is asked later.
        WriteBarrier "WRITE_BARRIER" = 2,
        /// Put what was written on the medium.
        FlushDiskcache "FLUSH_DISKCACHE" = 3,
        /// Forget sectors.
        Discard "DISCARD" = 5,
        /// Read or write with segments in pages of their own.
        Indirect "INDIRECT" = 6,
    }
}

wire_struct! {
    /// The head of the ring's page. Indexes run freely; slots of [`BlkifRequest`]'s size follow.
    pub struct BlkifSring: 64 {
        /// Requests so far, by the front end.
        0x00 req_prod: u32,
        /// The back end wants an event when `req_prod` reaches this.
        0x04 req_event: u32,
        /// Responses so far, by the back end.
        0x08 rsp_prod: u32,
        /// The front end wants an event when `rsp_prod` reaches this.
        0x0c rsp_event: u32,
        /// Each end's own.
        0x10 _pad0: [u8; 48],
    }
    /// A piece of a page.
    pub struct BlkifRequestSegment: 8 {
        /// The page.
        0x00 gref: u32,
        /// First sector in it.
        0x04 first_sect: u8,
        /// Last sector in it.
        0x05 last_sect: u8,
        /// Nothing.
        0x06 _pad0: [u8; 2],
    }
    /// A request to read, write or flush.
    pub struct BlkifRequest: 112 {
        /// A number of [`BlkifOp`].
        0x00 operation: u8,
        /// How many of `seg` are meant.
        0x01 nr_segments: u8,
        /// The disk, as the front end calls it.
        0x02 handle: u16,
        /// Nothing.
        0x04 _pad0: [u8; 4],
        /// Given back in the response.
        0x08 id: u64,
        /// Where on the disk.
        0x10 sector_number: u64,
        /// The pages.
        0x18 seg: [BlkifRequestSegment; 11],
    }
    /// A request to forget sectors, in a slot of a ring.
    pub struct BlkifRequestDiscard: 32 {
        /// [`BlkifOp::Discard`].
        0x00 operation: u8,
        /// 1: so that nobody can read them again.
        0x01 flag: u8,
        /// The disk, as the front end calls it.
        0x02 handle: u16,
        /// Nothing.
        0x04 _pad0: [u8; 4],
        /// Given back in the response.
        0x08 id: u64,
        /// Where on the disk.
        0x10 sector_number: u64,
        /// How many sectors.
        0x18 nr_sectors: u64,
    }
    /// A request with more segments than one names by itself, in a slot of a ring.
    pub struct BlkifRequestIndirect: 64 {
        /// [`BlkifOp::Indirect`].
        0x00 operation: u8,
        /// Read or write.
        0x01 indirect_op: u8,
        /// How many segments, in all pages together.
        0x02 nr_segments: u16,
        /// Nothing.
        0x04 _pad0: [u8; 4],
        /// Given back in the response.
        0x08 id: u64,
        /// Where on the disk.
        0x10 sector_number: u64,
        /// The disk, as the front end calls it.
        0x18 handle: u16,
        /// Nothing.
        0x1a _pad1: [u8; 2],
        /// Pages full of [`BlkifRequestSegment`].
        0x1c indirect_grefs: [u32; 8],
        /// Nothing.
        0x3c _pad2: [u8; 4],
    }
    /// A response.
    pub struct BlkifResponse: 16 {
        /// The request's.
        0x00 id: u64,
        /// The request's.
        0x08 operation: u8,
        /// Nothing.
        0x09 _pad0: [u8; 1],
        /// `BLKIF_RSP_*`.
        0x0a status: i16,
        /// Nothing.
        0x0c _pad1: [u8; 4],
    }
}

const _: () = {
    // As many slots as fit behind the head, down to a power of two.
    let fit = (4096 - size_of::<BlkifSring>()) / size_of::<BlkifRequest>();
    assert!(BLKIF_RING_SLOTS as usize == 1 << fit.ilog2());
};
