//! What the guest lends to the control domain, rightly and wrongly.

use guest_runtime::abi::Wire;
use guest_runtime::entry::start_info;
use guest_runtime::frames::{self, Page, mfn_to_pfn, pfn_to_mfn};
use guests::lending;

use crate::requests::{piece, whole};

/// The domain with the disks' other ends.
const BACK_END: u16 = 0;

/// A domain that there is not.
const ANOTHER: u16 = 0x7000;

/// The entries for the two rings.
pub const RING: u32 = lending::FIRST;
/// A page to be written to disks.
pub const DATA: u32 = RING + 2;
/// The same page, lent to be read.
pub const DATA_READ_ONLY: u32 = RING + 3;
/// A page that is read into.
pub const TARGET: u32 = RING + 4;
/// A page lent to be read, which must stay as it is.
pub const KEPT: u32 = RING + 5;
/// A list of segments.
pub const LIST: u32 = RING + 6;
/// A page lent to somebody else.
pub const FOR_ANOTHER: u32 = RING + 7;
/// A frame of somebody else's.
pub const NOT_OURS: u32 = RING + 8;
/// A frame beyond all memory.
pub const NO_FRAME: u32 = RING + 9;
/// An entry that lends nothing.
pub const NEVER: u32 = RING + 10;

/// What is written.
pub const WRITTEN_LETTER: u8 = b'W';
/// What the disk to be read is full of.
pub const READ_LETTER: u8 = b'R';
/// What the page that must stay is full of.
pub const KEPT_LETTER: u8 = b'K';

/// Segments in a list.
const LISTED: usize = 512;

/// The pages.
pub struct Pages {
    /// What is read goes here.
    pub target: Page,
    /// What must stay.
    pub kept: Page,
    list: Page,
}

impl Pages {
    /// Makes and lends them.
    pub fn new() -> Self {
        let [data, target, kept, list] = [(); 4].map(|()| frames::allocate());
        fill(data, WRITTEN_LETTER);
        fill(kept, KEPT_LETTER);
        for index in 0..LISTED {
            let mut bytes = [0; 8];
            let fits = whole(DATA).write_to(&mut bytes);
            assert!(fits.is_some(), "a segment has its own size");
            list.write(index, u64::from_le_bytes(bytes));
        }
        for (gref, page, read_only) in [
            (DATA, data, false),
            (DATA_READ_ONLY, data, true),
            (TARGET, target, false),
            (KEPT, kept, true),
            (LIST, list, true),
        ] {
            lending::lend(gref, BACK_END, page.mfn(), read_only);
        }
        lending::lend(FOR_ANOTHER, ANOTHER, data.mfn(), false);
        lending::lend(NOT_OURS, BACK_END, foreign_frame(), false);
        lending::lend(NO_FRAME, BACK_END, 0xffff_fff0, false);
        Self { target, kept, list }
    }

    /// Lets the list's seventh segment end behind its page.
    pub fn spoil_list(&self) {
        let mut bytes = [0; 8];
        let fits = piece(DATA, 0, 8).write_to(&mut bytes);
        assert!(fits.is_some(), "a segment has its own size");
        self.list.write(6, u64::from_le_bytes(bytes));
    }
}

/// A frame that is not ours: the first above the first MiB of the machine.
fn foreign_frame() -> u64 {
    let is_ours = |mfn: u64| {
        let pfn = mfn_to_pfn(mfn);
        pfn < start_info().nr_pages && pfn_to_mfn(pfn) == mfn
    };
    let mut all = 0x100..;
    all.find(|mfn| !is_ours(*mfn))
        .expect("some memory is not ours")
}

/// A page of the same letter everywhere.
fn fill(page: Page, letter: u8) {
    for index in 0..512 {
        page.write(index, u64::from_le_bytes([letter; 8]));
    }
}

/// Whether a page is full of a letter.
pub fn is_full_of(page: Page, letter: u8) -> bool {
    (0..8).all(|sector| is_sector_full_of(page, sector, letter))
}

/// Whether a sector of a page is.
pub fn is_sector_full_of(page: Page, sector: usize, letter: u8) -> bool {
    let wanted = u64::from_le_bytes([letter; 8]);
    (0..64).all(|word| page.read(sector * 64 + word) == wanted)
}
