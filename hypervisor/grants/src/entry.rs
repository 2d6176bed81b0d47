//! An entry of a table, version 1, as one word: flags, who gets it, and the frame.

use crate::{Domain, Status};
use guest_abi::grant::{
    GNTST_GENERAL_ERROR, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TYPE_MASK,
    GTF_WRITING,
};

/// The number of a machine frame as an entry can hold it. Naming a frame proves nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame(pub u32);

/// What a use may do with the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read it.
    Read,
    /// Read and write it.
    Write,
}

/// An entry's eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// No bits at all.
    pub const NONE: Entry = Entry(0);

    /// The `GTF_*` flags.
    pub fn flags(self) -> u16 {
        self.0 as u16
    }

    /// Who gets it.
    pub fn domain(self) -> Domain {
        (self.0 >> 16) as u16
    }

    /// The frame.
    pub fn frame(self) -> Frame {
        Frame((self.0 >> 32) as u32)
    }

    /// Whether it lends a whole frame to `who` for this.
    pub(crate) fn check(self, who: Domain, access: Access) -> Result<(), Status> {
        let lends = self.flags() & GTF_TYPE_MASK == GTF_PERMIT_ACCESS
            && self.flags() & GTF_SUB_PAGE == 0
            && self.domain() == who;
        let allows = access == Access::Read || self.flags() & GTF_READONLY == 0;
        if lends && allows {
            Ok(())
        } else {
            Err(Status(GNTST_GENERAL_ERROR))
        }
    }

    /// As it stands while used so.
    pub(crate) fn in_use(self, access: Access) -> Entry {
        let bits = match access {
            Access::Read => GTF_READING,
            Access::Write => GTF_READING | GTF_WRITING,
        };
        Entry(self.0 | u64::from(bits))
    }

    /// The bits that go when nobody uses it any more, or nobody writes.
    pub(crate) fn bits_to_clear(unused: bool, unwritten: bool) -> Entry {
        let reading = if unused { GTF_READING } else { 0 };
        let writing = if unwritten { GTF_WRITING } else { 0 };
        Entry(u64::from(reading | writing))
    }
}
