//! Page tables: checked updates, extended operations, and mapping one address.

use crate::domid::{DOMID_SELF, DomId};
use crate::wire::{operations, wire_struct};

wire_struct! {
    /// One update of [`Hypercall::MmuUpdate`](crate::Hypercall::MmuUpdate).
    pub struct MmuUpdate: 16 {
        /// Machine address of the entry; the low bits hold the command, see [`MmuUpdate::command`].
        0x00 ptr: u64,
        /// The new entry, or for [`MMU_MACHPHYS_UPDATE`] the new pfn.
        0x08 val: u64,
    }
    /// One operation of [`Hypercall::MmuextOp`](crate::Hypercall::MmuextOp).
    pub struct MmuextOp: 24 {
        /// A number of [`MmuextCommand`].
        0x00 cmd: u32,
        /// Padding.
        0x04 _pad0: u32,
        /// The mfn, or the linear address.
        0x08 arg1: u64,
        /// The number of descriptors (32 bits), the address of the vCPU bitmap, or the source mfn.
        0x10 arg2: u64,
    }
}

/// Write a page-table entry.
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// Write a frame's entry of the machine-to-physical table.
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// Write a page-table entry, keeping the accessed and dirty bits it has.
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// Write a page-table entry whose frame number is never translated. As the first, for our guests.
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

impl MmuUpdate {
    /// Bits of `ptr` below the address of an entry.
    pub const COMMAND_MASK: u64 = 7;

    /// The command, one of `MMU_*`; a larger number is no command.
    #[inline]
    pub const fn command(&self) -> u64 {
        self.ptr & Self::COMMAND_MASK
    }

    /// Machine address of the entry to change.
    #[inline]
    pub const fn address(&self) -> u64 {
        self.ptr & !Self::COMMAND_MASK
    }
}

/// The two domains named by the last argument of
/// [`Hypercall::MmuUpdate`](crate::Hypercall::MmuUpdate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignDomains {
    /// Owner of the frames that are mapped.
    pub frames: DomId,
    /// Owner of the page tables that are changed.
    pub tables: DomId,
}

impl ForeignDomains {
    /// Takes the argument apart. The tables' owner is stored plus one, so that zero means the caller.
    #[inline]
    pub const fn from_argument(argument: u32) -> Self {
        let tables = match (argument >> 16) as u16 {
            0 => DOMID_SELF,
            biased => biased - 1,
        };
        Self {
            frames: argument as u16,
            tables,
        }
    }
}

operations! {
    /// Commands of [`MmuextOp`]. `name()` is the interface's name without `MMUEXT_`.
    pub enum MmuextCommand: u32 {
        /// Validate a frame as a level 1 table and keep it so.
        PinL1Table "PIN_L1_TABLE" = 0,
        /// Validate a frame as a level 2 table and keep it so.
        PinL2Table "PIN_L2_TABLE" = 1,
        /// Validate a frame as a level 3 table and keep it so.
        PinL3Table "PIN_L3_TABLE" = 2,
        /// Validate a frame as a level 4 table and keep it so.
        PinL4Table "PIN_L4_TABLE" = 3,
        /// Give up a pin.
        UnpinTable "UNPIN_TABLE" = 4,
        /// Switch to another root of the kernel.
        NewBaseptr "NEW_BASEPTR" = 5,
        /// Flush the TLB of this processor.
        TlbFlushLocal "TLB_FLUSH_LOCAL" = 6,
        /// Flush one address on this processor.
        InvlpgLocal "INVLPG_LOCAL" = 7,
        /// Flush the TLBs of a set of vCPUs.
        TlbFlushMulti "TLB_FLUSH_MULTI" = 8,
        /// Flush one address on a set of vCPUs.
        InvlpgMulti "INVLPG_MULTI" = 9,
        /// Flush the TLBs of all vCPUs.
        TlbFlushAll "TLB_FLUSH_ALL" = 10,
        /// Flush one address on all vCPUs.
        InvlpgAll "INVLPG_ALL" = 11,
        /// Write back and flush the caches of this processor.
        FlushCache "FLUSH_CACHE" = 12,
        /// Install a local descriptor table.
        SetLdt "SET_LDT" = 13,
        /// Remember another root for user mode.
        NewUserBaseptr "NEW_USER_BASEPTR" = 15,
        /// Zero a page.
        ClearPage "CLEAR_PAGE" = 16,
        /// Copy a page.
        CopyPage "COPY_PAGE" = 17,
        /// Write back and flush the caches of all processors.
        FlushCacheGlobal "FLUSH_CACHE_GLOBAL" = 18,
        /// Mark a superpage. Refused: there are none.
        MarkSuper "MARK_SUPER" = 19,
        /// Unmark a superpage. Refused: there are none.
        UnmarkSuper "UNMARK_SUPER" = 20,
    }
}

/// `update_va_mapping` flags: no flush.
pub const UVMF_NONE: u64 = 0;
/// `update_va_mapping` flags: flush the whole TLB.
pub const UVMF_TLB_FLUSH: u64 = 1;
/// `update_va_mapping` flags: flush the one address.
pub const UVMF_INVLPG: u64 = 2;
/// `update_va_mapping` flags: the bits that say what to flush.
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// `update_va_mapping` flags: on the vCPUs of the bitmap whose address the upper bits are.
pub const UVMF_MULTI: u64 = 0;
/// `update_va_mapping` flags: on this vCPU, which is `UVMF_MULTI` without a bitmap.
pub const UVMF_LOCAL: u64 = 0;
/// `update_va_mapping` flags: on all vCPUs.
pub const UVMF_ALL: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_and_the_address_come_apart() {
        let update = MmuUpdate {
            ptr: 0x1234_5678 | MMU_PT_UPDATE_PRESERVE_AD,
            val: 0,
        };
        assert_eq!(update.command(), MMU_PT_UPDATE_PRESERVE_AD);
        assert_eq!(update.address(), 0x1234_5678);
    }

    #[test]
    fn no_owner_of_the_tables_means_the_caller() {
        let domains = ForeignDomains::from_argument(0x7ff0);
        assert_eq!(
            domains,
            ForeignDomains {
                frames: DOMID_SELF,
                tables: DOMID_SELF
            }
        );
        let domains = ForeignDomains::from_argument((1 << 16) | 3);
        assert_eq!(
            domains,
            ForeignDomains {
                frames: 3,
                tables: 0
            }
        );
    }
}
