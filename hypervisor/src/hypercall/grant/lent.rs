//! A use of a grant without a mapping: ring 0 itself reads or writes the frame.

use super::{finish_use, take_use};
use crate::domain::Domain;
use crate::memory::phys;
use frames::audit::Hold;
use frames::{DomId, FrameType, Mfn};
use grants::{Access, Status};

/// A frame that is used by its grant, for as long as this value lives: the entry is in use and the frame held as for a
/// mapping (V2).
#[must_use = "dropping it ends the use at once"]
pub struct Lent {
    granter: DomId,
    gref: u32,
    frame: Mfn,
    access: Access,
}

impl Lent {
    /// Begins to use an entry of `dom`'s, as `who`.
    ///
    /// # Errors
    /// As mapping it would be refused.
    pub fn new(dom: &Domain, gref: u32, who: u16, access: Access) -> Result<Lent, Status> {
        let frame = take_use(dom, gref, who, access)?;
        Ok(Lent {
            granter: dom.id,
            gref,
            frame,
            access,
        })
    }

    /// The frame.
    pub fn frame(&self) -> Mfn {
        self.frame
    }

    /// Its contents, which the domain may change at any time. To be written only if it is lent so.
    pub fn words(&self) -> &phys::Words {
        phys::page(self.frame)
    }

    /// The reference it stands for, for the audit.
    pub fn held(&self) -> (Mfn, Hold) {
        let hold = match self.access {
            Access::Read => Hold::General,
            Access::Write => Hold::Type(FrameType::Writable),
        };
        (self.frame, hold)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        finish_use(self.granter, self.gref, self.frame, self.access);
    }
}
