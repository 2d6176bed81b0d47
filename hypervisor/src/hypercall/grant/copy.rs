//! Copying between pages, each the caller's own or one that is lent to it.

use super::{give, granter, status, take};
use crate::domain::{Domain, Guest};
use crate::layout::PAGE;
use crate::memory::phys;
use frames::Mfn;
use grants::{Access, Status};
use guest_abi::domid::DOMID_SELF;
use guest_abi::grant::{
    Copy, CopyPtr, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GNTST_BAD_COPY_ARG,
    GNTST_PERMISSION_DENIED,
};

/// One end: a frame that is held, by a grant or as it is.
struct End {
    dom: &'static Domain,
    frame: Mfn,
    gref: Option<u32>,
    access: Access,
}

impl End {
    fn claim(
        g: &Guest<'_>,
        dom: &'static Domain,
        pointer: &CopyPtr,
        by_grant: bool,
        access: Access,
    ) -> Result<End, Status> {
        let (frame, gref) = if by_grant {
            let gref = pointer.gref();
            let mut table = dom.grants.lock();
            (table.begin(dom, gref, g.dom.id.0, access)?, Some(gref))
        } else {
            let frame = Mfn(pointer.u);
            take(dom, frame, access)?;
            (frame, None)
        };
        Ok(End {
            dom,
            frame,
            gref,
            access,
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        match self.gref {
            Some(gref) => self
                .dom
                .grants
                .lock()
                .end(self.dom, gref, self.frame, self.access),
            None => give(self.dom, self.frame, self.access),
        }
    }
}

/// Copies once.
pub(super) fn copy(g: &mut Guest<'_>, op: &mut Copy) {
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
    g.charge(4);
    phys::copy_phys(
        dest.frame.0 * PAGE + dest_at,
        source.frame.0 * PAGE + source_at,
        len,
    );
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
