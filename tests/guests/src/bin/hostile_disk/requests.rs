//! Requests, made of what a caller wants them to say.

use guest_runtime::abi::blkif::{
    BlkifOp, BlkifRequest, BlkifRequestDiscard, BlkifRequestIndirect, BlkifRequestSegment,
};

/// The size of either disk.
pub const SECTORS: u64 = 2048;

/// The number of every request: there is never more than one.
pub const ID: u64 = 0x1234_5678_9abc_def0;

/// A piece of a page.
pub const fn piece(gref: u32, first_sect: u8, last_sect: u8) -> BlkifRequestSegment {
    BlkifRequestSegment {
        gref,
        first_sect,
        last_sect,
        _pad0: [0; 2],
    }
}

/// A whole page.
pub const fn whole(gref: u32) -> BlkifRequestSegment {
    piece(gref, 0, 7)
}

/// A request with its pieces in it.
pub fn plain(op: BlkifOp, sector_number: u64, pieces: &[BlkifRequestSegment]) -> BlkifRequest {
    let mut request = BlkifRequest {
        operation: op.number(),
        nr_segments: pieces.len() as u8,
        id: ID,
        sector_number,
        ..BlkifRequest::ZERO
    };
    for (place, piece) in request.seg.iter_mut().zip(pieces) {
        *place = *piece;
    }
    request
}

/// A request with its pieces in a page.
pub fn indirect(op: BlkifOp, sector_number: u64, count: u16, list: u32) -> BlkifRequestIndirect {
    BlkifRequestIndirect {
        operation: BlkifOp::Indirect.number(),
        indirect_op: op.number(),
        nr_segments: count,
        id: ID,
        sector_number,
        indirect_grefs: [list; 8],
        ..BlkifRequestIndirect::ZERO
    }
}

/// A request to forget sectors.
pub fn discard(sector_number: u64, nr_sectors: u64) -> BlkifRequestDiscard {
    BlkifRequestDiscard {
        operation: BlkifOp::Discard.number(),
        id: ID,
        sector_number,
        nr_sectors,
        ..BlkifRequestDiscard::ZERO
    }
}
