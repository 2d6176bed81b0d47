//! ACPI, as far as ring 0 needs it: crate `firmware` over this machine's memory.

use crate::arch::{cpu, paging};
use crate::boot;
use crate::layout::{DIRECT_MAP, PAGE};
use crate::memory::phys;
use crate::{debug, info, warn};
use boot_info::{PhysReader, RsdpSource};
use core::cell::RefCell;
use firmware::Platform;
use spin::Once;

/// Tables outside the direct map are mapped in pieces of this size, aligned to it.
const PIECE: u64 = 64 << 10;
/// Pieces mapped at most: what firmware can make us spend.
const PIECES: usize = 32;

static PLATFORM: Once<Platform> = Once::new();

/// What the firmware says of the machine. Empty before [`init`].
pub fn platform() -> Option<&'static Platform> {
    PLATFORM.get()
}

/// Reads the tables, once.
pub fn init(rsdp: &RsdpSource) -> &'static Platform {
    let platform = PLATFORM.call_once(|| {
        let memory = FirmwareMemory::new();
        firmware::discover(rsdp, &memory, &mut |warning| warn!("{warning}"))
    });
    info!(
        "ACPI: {} CPUs, {} IO-APICs, {} interrupt overrides{}{}{}",
        platform.cpus.iter().filter(|cpu| cpu.enabled).count(),
        platform.io_apics.len(),
        platform.overrides.len(),
        if platform.pm_timer.is_some() {
            ", PM timer"
        } else {
            ""
        },
        if platform.hpet.is_some() {
            ", HPET"
        } else {
            ""
        },
        if platform.power.s5.is_some() {
            ", soft off"
        } else {
            ""
        },
    );
    for cpu in &platform.cpus {
        debug!(
            "ACPI: CPU {} has APIC id {}, enabled: {}",
            cpu.acpi_id, cpu.apic_id, cpu.enabled
        );
    }
    for o in &platform.overrides {
        debug!(
            "ACPI: ISA interrupt {} is pin {}, {:?}",
            o.irq, o.gsi, o.signal
        );
    }
    platform
}

/// Physical memory, for reading tables: through the direct map where it is mapped, else mapped as a device.
struct FirmwareMemory {
    /// First address beyond what this CPU can address.
    end: u64,
    /// Pieces mapped: physical and virtual address.
    mapped: RefCell<([(u64, u64); PIECES], usize)>,
}

impl FirmwareMemory {
    fn new() -> FirmwareMemory {
        let bits = if cpu::cpuid(0x8000_0000, 0).eax >= 0x8000_0008 {
            cpu::cpuid(0x8000_0008, 0).eax & 0xff
        } else {
            36
        };
        FirmwareMemory {
            end: 1 << bits.clamp(32, 52),
            mapped: RefCell::new(([(0, 0); PIECES], 0)),
        }
    }

    /// Whether the page at `phys` is in the direct map. Before ring 0's own tables all of it below the limit is.
    fn is_direct(phys: u64) -> bool {
        let root = paging::root();
        phys < phys::limit() && (root.0 == 0 || paging::walk(root, DIRECT_MAP + phys).is_some())
    }

    /// Where a byte outside the direct map is seen.
    fn elsewhere(&self, phys: u64) -> Option<u64> {
        let mut mapped = self.mapped.borrow_mut();
        let (pieces, count) = &mut *mapped;
        let piece = phys & !(PIECE - 1);
        if let Some(&(_, va)) = pieces.get(..*count)?.iter().find(|known| known.0 == piece) {
            return Some(va + (phys - piece));
        }
        let place = pieces.get_mut(*count)?;
        let va = boot::memory::map_device(piece, PIECE)?;
        *place = (piece, va);
        *count += 1;
        Some(va + (phys - piece))
    }

    /// Copies from within one page.
    fn read_in_page(&self, phys: u64, buf: &mut [u8]) -> bool {
        if Self::is_direct(phys) {
            phys::read(phys, buf);
            return true;
        }
        let Some(va) = self.elsewhere(phys) else {
            return false;
        };
        for (i, byte) in buf.iter_mut().enumerate() {
            // SAFETY: inside the mapped piece: the caller stays within a page, and pieces are made of whole pages.
            // Mappings of devices are never undone. Volatile: this memory is the firmware's.
            *byte = unsafe { (va as *const u8).add(i).read_volatile() };
        }
        true
    }
}

impl PhysReader for FirmwareMemory {
    fn read(&self, phys: u64, buf: &mut [u8]) -> bool {
        if phys
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.end)
        {
            return false;
        }
        let mut at = phys;
        let mut rest = buf;
        while !rest.is_empty() {
            let in_page = (PAGE - at % PAGE).min(rest.len() as u64);
            let (head, tail) = rest.split_at_mut(in_page as usize);
            if !self.read_in_page(at, head) {
                return false;
            }
            at += in_page;
            rest = tail;
        }
        true
    }
}
