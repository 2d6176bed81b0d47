//! What a domain's frames are in use as.

use crate::domain::{Domain, Guest};
use crate::hypercall::{Args, Outcome, Stop};
use crate::memory::frame_table;
use frames::{Class, FrameType, Mfn};
use guest_abi::Errno;
use guest_abi::domctl::{
    Domctl, Getpageframeinfo3, XEN_DOMCTL_PFINFO_L1TAB, XEN_DOMCTL_PFINFO_L2TAB,
    XEN_DOMCTL_PFINFO_L3TAB, XEN_DOMCTL_PFINFO_L4TAB, XEN_DOMCTL_PFINFO_LPINTAB,
    XEN_DOMCTL_PFINFO_NOTAB, XEN_DOMCTL_PFINFO_XTAB,
};

/// The most frames one call asks about.
const MOST: u64 = 1024;

/// `getpageframeinfo3`: numbers of frames are replaced by their types. Done again from the start it answers the same, so
/// that it is not continued in parts: a type is no number of a frame.
pub fn types(g: &mut Guest<'_>, dom: &'static Domain, call: &Domctl, _: Args) -> Outcome {
    let asked: Getpageframeinfo3 = call.payload();
    if asked.num > MOST {
        return Err(Errno::TooBig.into());
    }
    for i in 0..asked.num {
        g.spend_here();
        let at = asked.array.wrapping_add(i * 8);
        let mfn: u64 = g.memory().value(at)?;
        let kind = kind(dom, Mfn(mfn));
        g.memory().put(at, &u64::from(kind)).map_err(Stop::from)?;
    }
    Ok(0)
}

fn kind(dom: &Domain, mfn: Mfn) -> u32 {
    let Class::Ram(frame) = frame_table::class(mfn) else {
        return XEN_DOMCTL_PFINFO_XTAB;
    };
    let now = frame.snapshot();
    if now.owner() != dom.id || !now.is_allocated() {
        return XEN_DOMCTL_PFINFO_XTAB;
    }
    let table = match now.frame_type() {
        _ if now.type_count() == 0 => XEN_DOMCTL_PFINFO_NOTAB,
        FrameType::L1 => XEN_DOMCTL_PFINFO_L1TAB,
        FrameType::L2 => XEN_DOMCTL_PFINFO_L2TAB,
        FrameType::L3 => XEN_DOMCTL_PFINFO_L3TAB,
        FrameType::L4 => XEN_DOMCTL_PFINFO_L4TAB,
        _ => XEN_DOMCTL_PFINFO_NOTAB,
    };
    match now.is_pinned() {
        true => table | XEN_DOMCTL_PFINFO_LPINTAB,
        false => table,
    }
}
