//! I/O ports: the control domain drives its machine through them, all but those that are ring 0's.
//!
//! Where a port is not the guest's, reads give ones and writes are dropped, as on a bus where nobody answers. A guest
//! that may use no port at all gets the same for the ports stock kernels probe.

use crate::arch::cpu;
use crate::debug::console;
use crate::device::{self, pci, rtc};
use crate::domain::Guest;
use crate::hypercall::trap;
use core::ops::RangeInclusive;

/// Width of an access in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Byte,
    Word,
    Long,
}

impl Width {
    /// Bytes.
    pub const fn bytes(self) -> u16 {
        match self {
            Width::Byte => 1,
            Width::Word => 2,
            Width::Long => 4,
        }
    }

    /// All ones of this width.
    pub const fn ones(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
            Width::Long => 0xffff_ffff,
        }
    }
}

const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: RangeInclusive<u16> = 0xcfc..=0xcff;
const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const PIT_CHANNEL_2: u16 = 0x42;

/// Whether a range of ports is ring 0's own: interrupt controllers, timers, its serial line, the PM timer, and the
/// gate of address line 20, without which half of memory is gone.
fn is_ring0_only(port: u16, width: Width) -> bool {
    let last = port.saturating_add(width.bytes() - 1);
    let touches = |first: u16, end: u16| port <= end && last >= first;
    let touches_range =
        |r: core::ops::Range<u16>| port < r.end && last >= r.start && r.start < r.end;
    touches(0x20, 0x21)
        || touches(0xa0, 0xa1)
        || touches(0x40, 0x43)
        || touches(0x61, 0x61)
        || touches(0x92, 0x92)
        || touches(0x4d0, 0x4d1)
        || touches_range(console::ports())
        || device::pm_timer_port().is_some_and(|p| touches(p, p.saturating_add(3)))
}

fn native_in(port: u16, width: Width) -> u32 {
    match width {
        Width::Byte => u32::from(cpu::inb(port)),
        Width::Word => u32::from(cpu::inw(port)),
        Width::Long => cpu::inl(port),
    }
}

fn native_out(port: u16, width: Width, value: u32) {
    match width {
        Width::Byte => cpu::outb(port, value as u8),
        Width::Word => cpu::outw(port, value as u16),
        Width::Long => cpu::outl(port, value),
    }
}

/// Whether a range of ports can be given to a domain other than the control domain: none of it is ring 0's own, or of
/// the pairs of ports that are shared with the control domain.
pub fn may_be_given(range: &RangeInclusive<u64>) -> bool {
    range.clone().all(|port| {
        let port = port as u16;
        !is_ring0_only(port, Width::Byte)
            && !(PCI_ADDRESS..=*PCI_DATA.end()).contains(&port)
            && !(CMOS_INDEX..=CMOS_DATA).contains(&port)
    })
}

/// Whether an ordinary domain was given a port.
fn is_given(g: &Guest<'_>, port: u16, width: Width) -> bool {
    let first = u64::from(port);
    let last = first + u64::from(width.bytes()) - 1;
    g.dom.may_reach_ports(&(first..=last))
}

/// Whether an access that is no byte's is one of the clock's pair of ports: it is made byte by byte, as on its bus.
fn is_wide_cmos(port: u16, width: Width) -> bool {
    let last = port.saturating_add(width.bytes() - 1);
    width != Width::Byte && port <= CMOS_DATA && last >= CMOS_INDEX
}

/// Reads a port for the guest.
pub fn read(g: &mut Guest<'_>, port: u16, width: Width) -> u32 {
    if !g.dom.privileged {
        if is_given(g, port, width) {
            return native_in(port, width);
        }
        // A timer that read ones for ever would be waited for a hundred thousand times.
        return if port == PIT_CHANNEL_2 {
            0
        } else {
            width.ones()
        };
    }
    if is_wide_cmos(port, width) {
        let byte = |at: u16| read(g, port.wrapping_add(at), Width::Byte) << (8 * at);
        return (0..width.bytes()).map(byte).sum();
    }
    if port == PCI_ADDRESS && width == Width::Long {
        return g.local.pci_address;
    }
    if PCI_DATA.contains(&port) {
        return pci::guest_read(g.local.pci_address, port, width);
    }
    if port == CMOS_DATA && width == Width::Byte {
        return u32::from(rtc::register(g.local.cmos_index));
    }
    if is_ring0_only(port, width) {
        return if port == PIT_CHANNEL_2 || port == 0x61 {
            0
        } else {
            width.ones()
        };
    }
    native_in(port, width)
}

/// Writes a port for the guest.
pub fn write(g: &mut Guest<'_>, port: u16, width: Width, value: u32) {
    if !g.dom.privileged {
        if is_given(g, port, width) {
            native_out(port, width, value);
        }
        return;
    }
    if is_wide_cmos(port, width) {
        for at in 0..width.bytes() {
            write(g, port.wrapping_add(at), Width::Byte, value >> (8 * at));
        }
    } else if port == PCI_ADDRESS && width == Width::Long {
        g.local.pci_address = value;
    } else if PCI_DATA.contains(&port) {
        pci::guest_write(g.local.pci_address, port, width, value);
    } else if port == CMOS_INDEX && width == Width::Byte {
        g.local.cmos_index = value as u8;
    } else if port == CMOS_DATA && width == Width::Byte {
        rtc::set_register(g.local.cmos_index, value as u8);
    } else if !is_ring0_only(port, width) {
        native_out(port, width, value);
    }
}

/// Whether the guest may execute port instructions for this port now: by virtual privilege level in kernel mode, else
/// by the bitmap it registered.
pub fn may_access(g: &Guest<'_>, port: u16, width: Width) -> bool {
    if trap::may_do_io(g) {
        return true;
    }
    let Some(last) = port.checked_add(width.bytes() - 1) else {
        return false;
    };
    if g.local.io_bitmap == 0 || u32::from(last) >= g.local.io_bitmap_ports {
        return false;
    }
    (port..=last).all(|p| {
        let at = g.local.io_bitmap.wrapping_add(u64::from(p / 8));
        let mut byte = [0xffu8];
        g.memory().read(at, &mut byte).is_ok() && byte[0] >> (p % 8) & 1 == 0
    })
}
