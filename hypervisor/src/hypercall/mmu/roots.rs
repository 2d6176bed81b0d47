//! The tables that a vCPU runs on: its kernel's and its user mode's.
//!
//! # Invariants
//! - A vCPU holds a reference on each of its roots. The new one's is taken before the old one's goes.
//! - A root whose reference is given back is not in force: the kernel's new one is loaded first, and the user mode's is
//!   in force in user mode only, which makes no calls.

use crate::domain::Guest;
use crate::mmu::{hold_root, kept_root, show_m2p};
use frames::Mfn;
use guest_abi::Errno;

pub(super) fn new_kernel_root(g: &mut Guest<'_>, mfn: Mfn) -> Result<(), Errno> {
    let old = g.local.kernel_root;
    if mfn == old {
        return Ok(());
    }
    let new = hold_root(g.dom.id, mfn)?;
    show_m2p(mfn, true);
    g.local.kernel_root = new.keep();
    g.vcpu.walks.forget();
    g.vcpu.transit.set_roots(mfn, g.local.user_root);
    // The old root may go with its last reference: it must not be in force then.
    g.load_root();
    drop(kept_root(g.dom.id, old));
    Ok(())
}

pub(super) fn new_user_root(g: &mut Guest<'_>, mfn: Mfn) -> Result<(), Errno> {
    let old = g.local.user_root;
    let new = (mfn.0 != 0).then_some(mfn);
    if new == old {
        return Ok(());
    }
    if let Some(new) = new {
        let root = hold_root(g.dom.id, new)?;
        // One table for both modes is the kernel's first of all.
        show_m2p(new, new == g.local.kernel_root);
        root.keep();
    }
    g.local.user_root = new;
    g.vcpu.transit.set_roots(g.local.kernel_root, new);
    drop(old.map(|old| kept_root(g.dom.id, old)));
    Ok(())
}
