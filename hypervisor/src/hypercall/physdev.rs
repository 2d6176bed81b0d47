//! Physical interrupts and I/O privilege.

use crate::device::{ioapic, pirq};
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, is_self};
use guest_abi::physdev::{
    Apic, Eoi, Irq, IrqStatusQuery, MapPirq, MapPirqType, PhysdevOp, SetIobitmap, SetIopl,
    SetupGsi, UnmapPirq, XENIRQSTAT_NEEDS_EOI,
};
use guest_abi::{Errno, Wire};

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
            if s.nr_ports > 65536 {
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
            let mut i: Irq = g.memory().value(arg)?;
            if !pirq::exists(i.irq) {
                return Err(Errno::Inval.into());
            }
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
            if u.pirq < 0 || !pirq::exists(u.pirq as u32) {
                return Err(Errno::Inval.into());
            }
            Ok(0)
        }
        PhysdevOp::SetupGsi => {
            let s: SetupGsi = g.memory().value(arg)?;
            if s.gsi < 0 || !pirq::exists(s.gsi as u32) {
                return Err(Errno::Inval.into());
            }
            if pirq::set_up(s.gsi as u32, s.triggering == 1, s.polarity == 1) {
                return Err(Errno::Exist.into());
            }
            Ok(0)
        }
        // Devices need no registration until message-signalled interrupts are served.
        PhysdevOp::PciDeviceAdd | PhysdevOp::ManagePciAdd | PhysdevOp::PciDeviceRemove => Ok(0),
        _ => Err(Errno::NoSys.into()),
    }
}

fn map_pirq(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut m: MapPirq = g.memory().value(arg)?;
    if !is_self(g, m.domid) {
        return Err(Errno::Srch.into());
    }
    match u32::try_from(m.kind)
        .ok()
        .and_then(MapPirqType::from_number)
    {
        Some(MapPirqType::Gsi) => {
            if m.index < 0 || !pirq::exists(m.index as u32) {
                return Err(Errno::Inval.into());
            }
            if m.pirq >= 0 && m.pirq != m.index {
                return Err(Errno::Inval.into());
            }
            g.memory().check_writable(arg, MapPirq::SIZE)?;
            m.pirq = m.index;
            g.memory().put(arg, &m)?;
            Ok(0)
        }
        // Message-signalled interrupts come with the devices' issue.
        _ => Err(Errno::OpNotSupp.into()),
    }
}
