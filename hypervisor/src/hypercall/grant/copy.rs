//! Copying between pages, each the caller's own or one that is lent to it. Each element stands for itself: both its ends
//! are found, checked and held before the first byte moves, and let go before the next element.

use super::{Lent, give, granter, status, take};
use crate::domain::{Domain, Guest};
use crate::layout::PAGE;
use crate::memory::phys;
use frames::{DomId, Mfn};
use grants::{Access, Status};
use guest_abi::domid::DOMID_SELF;
use guest_abi::grant::{
    Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_BAD_COPY_ARG,
    GNTST_PERMISSION_DENIED,
};

/// One end: a frame that is held, by a grant or as it is.
enum End {
    Lent(Lent),
    Own(DomId, Mfn, Access),
}

impl End {
    fn claim(
        g: &Guest<'_>,
        dom: &'static Domain,
        pointer: &CopyPtr,
        by_grant: bool,
        access: Access,
    ) -> Result<End, Status> {
        if by_grant {
            let lent = Lent::new(dom, pointer.gref(), g.dom.id.0, access)?;
            g.vcpu.account.count_used();
            return Ok(End::Lent(lent));
        }
        let frame = Mfn(pointer.u);
        take(dom, frame, access)?;
        Ok(End::Own(dom.id, frame, access))
    }

    /// Physical address of a byte in it.
    fn at(&self, offset: u64) -> u64 {
        let frame = match self {
            End::Lent(lent) => lent.frame(),
            End::Own(_, frame, _) => *frame,
        };
        frame.0 * PAGE + offset
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let End::Own(dom, frame, access) = *self {
            give(dom, frame, access);
        }
    }
}

/// Units of copying a page, on top of what an element of a list is; the most that one element is.
const COPY_UNITS: u64 = 9;

/// Copies once.
pub(super) fn copy(g: &mut Guest<'_>, op: &mut Copy) {
    g.charge(COPY_UNITS);
    op.status = status(copy_one(g, op));
}

fn copy_one(g: &mut Guest<'_>, op: &Copy) -> Result<(), Status> {
    let from_grant = op.flags & GNTCOPY_SOURCE_GREF != 0;
    let to_grant = op.flags & GNTCOPY_DEST_GREF != 0;
    let from = domain(g, &op.source, from_grant)?;
    let to = domain(g, &op.dest, to_grant)?;
    let len = u64::from(op.len);
    let (source_at, dest_at) = (u64::from(op.source.offset), u64::from(op.dest.offset));
    if source_at + len > PAGE || dest_at + len > PAGE {
        return Err(Status(GNTST_BAD_COPY_ARG));
    }
    let source = End::claim(g, from, &op.source, from_grant, Access::Read)?;
    let dest = End::claim(g, to, &op.dest, to_grant, Access::Write)?;
    phys::copy_phys(dest.at(dest_at), source.at(source_at), len);
    Ok(())
}

/// Whose an end is: another's only by a grant.
fn domain(g: &Guest<'_>, pointer: &CopyPtr, by_grant: bool) -> Result<&'static Domain, Status> {
    if pointer.domid == DOMID_SELF {
        return Ok(g.dom);
    }
    let dom = granter(g, pointer.domid)?;
    if by_grant {
        Ok(dom)
    } else {
        Err(Status(GNTST_PERMISSION_DENIED))
    }
}
