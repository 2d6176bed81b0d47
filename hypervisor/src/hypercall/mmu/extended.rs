//! `mmuext_op`: a batch of operations on whole tables and pages, and on what the vCPU has in force.
//!
//! Operations on memory can be asked for in another domain's name; those on the vCPU's own state are its own.

use crate::domain::{Domain, Guest};
use crate::hypercall::memory::CLEAR_UNITS;
use crate::hypercall::mmu::batch::Batch;
use crate::hypercall::mmu::roots::{new_kernel_root, new_user_root};
use crate::hypercall::mmu::{errno, vcpu_set, with_writable};
use crate::hypercall::{Args, Outcome, Stop, descriptor, subject};
use crate::layout::{PAGE, guest_address_ok};
use crate::memory::phys;
use crate::mmu::{hold, tables};
use frames::{DomId, Level, Mfn};
use guest_abi::Errno;
use guest_abi::mmu::{MmuextCommand, MmuextOp};

/// `mmuext_op(list, count, done, domain)`.
pub fn mmuext_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let target = subject(g, args[3] as u16)?;
    let mut batch = Batch::new::<MmuextOp>(g, &args)?;
    let outcome = loop {
        let Some(at) = batch.next() else {
            break Ok(0);
        };
        if !g.spend() {
            break Err(Stop::Again(args));
        }
        let step = match g.memory().value::<MmuextOp>(at) {
            Ok(op) => one_extended(g, op, target),
            Err(_) => Err(Errno::Fault),
        };
        match step {
            Ok(()) => batch.done += 1,
            Err(Errno::Again) => break Err(Stop::Again(args)),
            Err(errno) => break Err(errno.into()),
        }
    };
    batch.finish(g, outcome)
}

/// Whether an operation can be asked for in another domain's name: roots, descriptor tables, translations and caches are
/// those of the vCPU that asks.
fn is_of_memory(command: MmuextCommand) -> bool {
    matches!(
        command,
        MmuextCommand::PinL1Table
            | MmuextCommand::PinL2Table
            | MmuextCommand::PinL3Table
            | MmuextCommand::PinL4Table
            | MmuextCommand::UnpinTable
            | MmuextCommand::ClearPage
            | MmuextCommand::CopyPage
            | MmuextCommand::MarkSuper
            | MmuextCommand::UnmarkSuper
    )
}

fn one_extended(g: &mut Guest<'_>, op: MmuextOp, target: &Domain) -> Result<(), Errno> {
    let mfn = Mfn(op.arg1);
    let t = tables(target.id);
    let command = MmuextCommand::from_number(op.cmd).ok_or(Errno::NoSys)?;
    if target.id != g.dom.id && !is_of_memory(command) {
        return Err(Errno::Perm);
    }
    match command {
        MmuextCommand::PinL1Table => t.pin(mfn, Level::L1).map_err(errno),
        MmuextCommand::PinL2Table => t.pin(mfn, Level::L2).map_err(errno),
        MmuextCommand::PinL3Table => t.pin(mfn, Level::L3).map_err(errno),
        MmuextCommand::PinL4Table => t.pin(mfn, Level::L4).map_err(errno),
        MmuextCommand::UnpinTable => t.unpin(mfn).map_err(errno),
        MmuextCommand::NewBaseptr => new_kernel_root(g, mfn),
        MmuextCommand::NewUserBaseptr => new_user_root(g, mfn),
        MmuextCommand::TlbFlushMulti => {
            vcpu_set(g, op.arg2).map_err(|_| Errno::Inval)?;
            g.flush_everywhere();
            Ok(())
        }
        MmuextCommand::TlbFlushAll => {
            g.flush_everywhere();
            Ok(())
        }
        MmuextCommand::TlbFlushLocal => {
            g.flush_local();
            Ok(())
        }
        command @ (MmuextCommand::InvlpgLocal
        | MmuextCommand::InvlpgMulti
        | MmuextCommand::InvlpgAll) => {
            if command == MmuextCommand::InvlpgMulti {
                vcpu_set(g, op.arg2).map_err(|_| Errno::Inval)?;
            }
            if guest_address_ok(op.arg1) {
                if !g.dom.isolated {
                    crate::arch::cpu::invlpg(op.arg1);
                }
                if command != MmuextCommand::InvlpgLocal {
                    crate::arch::smp::flush::flush_others_of(g.dom.id);
                }
            }
            Ok(())
        }
        MmuextCommand::SetLdt => descriptor::set_ldt(g, op.arg1, op.arg2 as u32),
        command @ (MmuextCommand::FlushCache | MmuextCommand::FlushCacheGlobal) => {
            if !g.dom.privileged {
                return Err(Errno::Access);
            }
            crate::arch::cpu::write_back_caches();
            if command == MmuextCommand::FlushCacheGlobal {
                crate::arch::smp::call::write_back_other_caches();
            }
            Ok(())
        }
        MmuextCommand::ClearPage => whole_page(g, target.id, mfn, None),
        MmuextCommand::CopyPage => whole_page(g, target.id, mfn, Some(Mfn(op.arg2))),
        MmuextCommand::MarkSuper | MmuextCommand::UnmarkSuper => Err(Errno::OpNotSupp),
    }
}

/// Fills a page of a domain's that may be written: with zeros, or from another page of the same domain's.
fn whole_page(g: &mut Guest<'_>, dom: DomId, to: Mfn, from: Option<Mfn>) -> Result<(), Errno> {
    g.charge(u64::from(CLEAR_UNITS));
    let Some(from) = from else {
        return with_writable(dom, to, || phys::zero_frame(to));
    };
    let _source = hold(dom, from)?;
    with_writable(dom, to, || {
        phys::copy_phys(to.0 * PAGE, from.0 * PAGE, PAGE)
    })
}
