//! Physical interrupts and I/O privilege.

use crate::device::pirq::Refused;
use crate::device::{ioapic, msi, pirq};
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop, is_self};
use crate::layout::guest_range_ok;
use guest_abi::physdev::{
    Apic, Eoi, GetFreePirq, Irq, IrqStatusQuery, ManagePci, ManagePciExt, MapPirq, MapPirqType,
    PciDevice, PciDeviceAdd, PciMmcfgReserved, PhysdevOp, SetIobitmap, SetIopl, SetupGsi,
    UnmapPirq, XENIRQSTAT_NEEDS_EOI,
};
use guest_abi::{Errno, Wire};
use interrupts::{Function, NoMessages};

/// `physdev_op(op, arg)`.
pub fn physdev_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    let op = PhysdevOp::from_number(op as u32).ok_or(Errno::NoSys)?;
    match op {
        PhysdevOp::SetIopl => {
            let s: SetIopl = g.memory().value(arg)?;
            if s.iopl > 3 {
                return Err(Errno::Inval.into());
            }
            g.local.iopl = s.iopl as u8;
            return Ok(0);
        }
        PhysdevOp::SetIobitmap => {
            let s: SetIobitmap = g.memory().value(arg)?;
            let bytes = u64::from(s.nr_ports).div_ceil(8);
            if s.nr_ports > 65536 || (bytes != 0 && !guest_range_ok(s.bitmap, bytes)) {
                return Err(Errno::Inval.into());
            }
            g.local.io_bitmap = s.bitmap;
            g.local.io_bitmap_ports = s.nr_ports;
            return Ok(0);
        }
        _ => {}
    }
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    match op {
        PhysdevOp::Eoi => {
            let e: Eoi = g.memory().value(arg)?;
            if e.irq >= pirq::MAX {
                return Err(Errno::Inval.into());
            }
            pirq::end_of_interrupt(e.irq);
            Ok(0)
        }
        PhysdevOp::IrqStatusQuery => {
            let mut q: IrqStatusQuery = g.memory().value(arg)?;
            if q.irq >= pirq::MAX {
                return Err(Errno::Inval.into());
            }
            q.flags = if pirq::needs_eoi(q.irq) {
                XENIRQSTAT_NEEDS_EOI
            } else {
                0
            };
            g.memory().put(arg, &q)?;
            Ok(0)
        }
        PhysdevOp::ApicRead => {
            let mut a: Apic = g.memory().value(arg)?;
            a.value = ioapic::guest_read(a.apic_physbase, a.reg).ok_or(Errno::Inval)?;
            g.memory().put(arg, &a)?;
            Ok(0)
        }
        PhysdevOp::AllocIrqVector => {
            // Vectors are ring 0's; kernels only want to hear that there is one.
            let mut i: Irq = g.memory().value(arg)?;
            i.vector = i.irq;
            g.memory().put(arg, &i)?;
            Ok(0)
        }
        PhysdevOp::FreeIrqVector => Ok(0),
        PhysdevOp::MapPirq => map_pirq(g, arg),
        PhysdevOp::UnmapPirq => {
            let u: UnmapPirq = g.memory().value(arg)?;
            if !is_self(g, u.domid) {
                return Err(Errno::Srch.into());
            }
            pirq::unmap(u32::try_from(u.pirq).map_err(|_| Errno::Inval)?)?;
            Ok(0)
        }
        PhysdevOp::GetFreePirq => {
            let mut f: GetFreePirq = g.memory().value(arg)?;
            let line = u32::try_from(f.kind) == Ok(MapPirqType::Gsi.number());
            if !line && message_type(f.kind).is_none() {
                return Err(Errno::Inval.into());
            }
            let free = if line {
                pirq::free_line()
            } else {
                pirq::free_message()
            };
            f.pirq = free.ok_or(Errno::NoSpc)?;
            g.memory().put(arg, &f)?;
            Ok(0)
        }
        PhysdevOp::SetupGsi => {
            let s: SetupGsi = g.memory().value(arg)?;
            if s.gsi < 0 || !pirq::is_line(s.gsi as u32) {
                return Err(Errno::Inval.into());
            }
            if pirq::set_up(s.gsi as u32, s.triggering == 1, s.polarity == 1) {
                return Err(Errno::Exist.into());
            }
            Ok(0)
        }
        _ => pci_op(g, op, arg),
    }
}

/// Calls about PCI functions: what they say of messages is used, the rest is taken note of by nobody.
fn pci_op(g: &Guest<'_>, op: PhysdevOp, arg: u64) -> Outcome {
    let old_form = |arg| -> Result<Function, Stop> {
        let d: ManagePci = g.memory().value(arg)?;
        Ok(Function::new(d.bus, d.devfn))
    };
    let named = |arg| -> Result<Function, Stop> {
        let d: PciDevice = g.memory().value(arg)?;
        function(u32::from(d.seg), d.bus, d.devfn)
    };
    match op {
        PhysdevOp::ManagePciAdd => pirq::function_added(old_form(arg)?),
        PhysdevOp::ManagePciAddExt => {
            let d: ManagePciExt = g.memory().value(arg)?;
            pirq::function_added(Function::new(d.bus, d.devfn));
        }
        PhysdevOp::PciDeviceAdd => {
            let d: PciDeviceAdd = g.memory().value(arg)?;
            // Functions of other segments work, by lines.
            if let Ok(function) = function(u32::from(d.seg), d.bus, d.devfn) {
                pirq::function_added(function);
            }
        }
        PhysdevOp::PrepareMsix => pirq::function_added(named(arg)?),
        // What is kept from guests stays so for as long as the function is there.
        PhysdevOp::ReleaseMsix => drop(named(arg)?),
        PhysdevOp::ManagePciRemove => pirq::function_removed(old_form(arg)?),
        PhysdevOp::PciDeviceRemove => pirq::function_removed(named(arg)?),
        PhysdevOp::RestoreMsi => pirq::restore(old_form(arg)?),
        PhysdevOp::RestoreMsiExt => pirq::restore(named(arg)?),
        // Configuration space is reached through its ports, which every machine has; where else it is does not matter.
        PhysdevOp::PciMmcfgReserved => {
            let _: PciMmcfgReserved = g.memory().value(arg)?;
        }
        _ => return Err(Errno::NoSys.into()),
    }
    Ok(0)
}

/// A function by its segment, of which only the first can be reached through the ports.
fn function(segment: u32, bus: u8, devfn: u8) -> Result<Function, Stop> {
    if segment != 0 {
        return Err(Errno::NoDev.into());
    }
    Ok(Function::new(bus, devfn))
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Stop {
        let errno = match refused {
            Refused::NoSuch | Refused::Messages(NoMessages::NoEntry) => Errno::Inval,
            Refused::NotYours => Errno::Perm,
            Refused::InUse => Errno::Exist,
            Refused::Full => Errno::NoSpc,
            Refused::Messages(NoMessages::NoDevice) => Errno::NoDev,
            Refused::Messages(NoMessages::NoTable) => Errno::NxIo,
        };
        Stop::Refused(errno)
    }
}

/// The type of a mapping, if it is one of messages.
fn message_type(kind: i32) -> Option<MapPirqType> {
    let kind = MapPirqType::from_number(u32::try_from(kind).ok()?)?;
    matches!(
        kind,
        MapPirqType::Msi | MapPirqType::MsiSeg | MapPirqType::MultiMsi
    )
    .then_some(kind)
}

fn map_pirq(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut m: MapPirq = g.memory().value(arg)?;
    if !is_self(g, m.domid) {
        return Err(Errno::Srch.into());
    }
    g.memory().check_writable(arg, MapPirq::SIZE)?;
    let kind = u32::try_from(m.kind)
        .ok()
        .and_then(MapPirqType::from_number);
    m.pirq = match kind {
        Some(MapPirqType::Gsi) => {
            if m.index < 0 || !pirq::is_line(m.index as u32) {
                return Err(Errno::Inval.into());
            }
            if m.pirq >= 0 && m.pirq != m.index {
                return Err(Errno::Inval.into());
            }
            m.index
        }
        Some(MapPirqType::Msi | MapPirqType::MsiSeg | MapPirqType::MultiMsi) => {
            map_message(&m)? as i32
        }
        _ => return Err(Errno::Inval.into()),
    };
    g.memory().put(arg, &m)?;
    Ok(0)
}

/// Several messages in a row want interrupt remapping to be told apart; without it one is what a function gets.
fn map_message(m: &MapPirq) -> Result<u32, Stop> {
    const MOST_IN_A_ROW: i32 = 32;
    let kind = message_type(m.kind).ok_or(Errno::Inval)?;
    if m.index != -1 {
        // An interrupt of the hypervisor's own that already is: none is a domain's to choose.
        return Err(Errno::Perm.into());
    }
    if kind == MapPirqType::MultiMsi {
        if m.entry_nr <= 0 || m.entry_nr > MOST_IN_A_ROW {
            return Err(Errno::Dom.into());
        }
        if m.entry_nr != 1 {
            return Err(Errno::OpNotSupp.into());
        }
    }
    let segment = if kind == MapPirqType::Msi {
        0
    } else {
        m.bus as u32 >> 16
    };
    let function = function(segment, m.bus as u8, m.devfn as u8)?;
    let source = if m.table_base == 0 {
        msi::registers(function)
    } else {
        let index = u16::try_from(m.entry_nr).map_err(|_| Errno::Inval)?;
        msi::entry(function, index, m.table_base)
    };
    let wanted = u32::try_from(m.pirq).ok();
    Ok(pirq::map_message(
        source.map_err(Refused::Messages)?,
        wanted,
    )?)
}
