//! Why a boot could not begin, each in one sentence for the person at the console.

use core::fmt;

/// What is wrong with what the loader left us. `Display` names the thing and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// EAX holds neither protocol's magic number.
    NotMultiboot {
        /// What it held.
        magic: u32,
    },
    /// A structure the loader pointed to cannot be read.
    Unreadable {
        /// Which one.
        what: &'static str,
        /// Where the loader said it was.
        phys: u64,
    },
    /// The information block contradicts itself.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The loader told nothing about memory.
    NoMemoryMap,
    /// The memory map has no usable page.
    NoUsableMemory,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::NotMultiboot { magic } => write!(
                f,
                "the hypervisor was not started by a multiboot loader (magic {magic:#010x}): start it with GRUB's \
                 `multiboot2` or with QEMU's `-kernel`"
            ),
            BootError::Unreadable { what, phys } => write!(
                f,
                "the boot loader's {what} at physical address {phys:#x} cannot be read: use GRUB 2.02 or newer, or \
                 QEMU's `-kernel`"
            ),
            BootError::Malformed { what } => write!(
                f,
                "the boot loader's information block is malformed ({what}): use GRUB 2.02 or newer, or QEMU's `-kernel`"
            ),
            BootError::NoMemoryMap => f.write_str(
                "the boot loader gave no memory map: use a loader that passes one (GRUB 2.02 or newer does) or update \
                 the firmware",
            ),
            BootError::NoUsableMemory => f.write_str(
                "the memory map has no usable memory: give the machine more memory or update its firmware",
            ),
        }
    }
}

impl core::error::Error for BootError {}
