//! The machine's firmware and power, for the control domain.

use crate::arch::smp;
use crate::device;
use crate::domain::{self, Guest, park};
use crate::hypercall::{Args, Outcome, Stop};
use ::cpus::start::that_do_not_run;
use core::sync::atomic::Ordering;
use firmware::Processor;
use guest_abi::platform::{
    EfiConfigTable, EnterAcpiSleep, Pcpuinfo, PlatformCommand, PlatformOp, Settime64,
    XEN_FW_EFI_CONFIG_TABLE, XEN_FW_EFI_INFO, XEN_FW_EFI_RT_VERSION, XEN_FW_EFI_VERSION,
    XEN_FW_KBD_SHIFT_FLAGS, XEN_PCPU_FLAGS_INVALID, XEN_PCPU_FLAGS_ONLINE, XENPF_INTERFACE_VERSION,
    XENPF_INTERFACE_VERSION_LINUX,
};
use guest_abi::{Errno, Wire};

/// `platform_op(op)`.
pub fn platform_op(g: &mut Guest<'_>, args: Args) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let op: PlatformOp = g.memory().value(args[0])?;
    if op.interface_version != XENPF_INTERFACE_VERSION
        && op.interface_version != XENPF_INTERFACE_VERSION_LINUX
    {
        return Err(Errno::Access.into());
    }
    match PlatformCommand::from_number(op.cmd) {
        Some(PlatformCommand::Settime64) => {
            let t = Settime64::read_from(&op.u).ok_or(Errno::Inval)?;
            if t.mbz != 0 || t.nsecs >= 1_000_000_000 {
                return Err(Errno::Inval.into());
            }
            let wall =
                clock::WallClock::from_now(t.secs, t.nsecs, t.system_time).ok_or(Errno::Inval)?;
            let base = wall
                .seconds
                .saturating_mul(clock::NS_PER_SECOND)
                .saturating_add(u64::from(wall.nanoseconds));
            device::timer::set_wall_base_ns(base);
            for dom in domain::all().filter(|dom| !dom.is_dying()) {
                dom.put_wall_clock(wall.seconds, wall.nanoseconds);
            }
            Ok(0)
        }
        Some(PlatformCommand::EnterAcpiSleep) => {
            let s = EnterAcpiSleep::read_from(&op.u).ok_or(Errno::Inval)?;
            let sleep = device::power::may_sleep(s.val_a, s.val_b, s.sleep_state)
                .map_err(|_| Errno::Inval)?;
            // What is said then is about the whole machine (K2 of `domain::park`).
            if !park::all_but(g.vcpu) {
                return Err(Stop::Again(args));
            }
            crate::control::last_words(g);
            device::power::sleep(&sleep);
            park::go_on();
            Err(Errno::Inval.into())
        }
        Some(PlatformCommand::GetCpuinfo) => cpu_info(g, args[0], op),
        Some(PlatformCommand::FirmwareInfo) => firmware_info(g, args[0], op),
        _ => Err(Errno::NoSys.into()),
    }
}

/// The keyboard's state; disks are not described. On EFI machines where its configuration tables are; elsewhere the
/// negative answer tells a kernel that it is on a BIOS.
fn firmware_info(g: &mut Guest<'_>, at: u64, mut op: PlatformOp) -> Outcome {
    let kind = u32::read_from(&op.u).ok_or(Errno::Inval)?;
    match kind {
        XEN_FW_KBD_SHIFT_FLAGS => {
            // The union follows kind and index.
            let mut flags = [0u8];
            crate::memory::phys::read(0x417, &mut flags);
            if let Some(place) = op.u.get_mut(8) {
                *place = flags[0];
            }
            g.memory().put(at, &op)?;
            Ok(0)
        }
        XEN_FW_EFI_INFO => {
            let efi = device::efi::facts().ok_or(Errno::NoSys)?;
            let index = op.u.get(4..).and_then(u32::read_from).ok_or(Errno::Inval)?;
            // The answer's union follows kind and index.
            let answer = op.u.get_mut(8..).ok_or(Errno::Inval)?;
            let written = match index {
                XEN_FW_EFI_CONFIG_TABLE => EfiConfigTable {
                    addr: efi.config_tables,
                    nent: efi.count,
                    ..EfiConfigTable::ZERO
                }
                .write_to(answer),
                XEN_FW_EFI_VERSION => efi.firmware_revision.write_to(answer),
                XEN_FW_EFI_RT_VERSION => efi.runtime_revision.write_to(answer),
                _ => return Err(Errno::OpNotSupp.into()),
            };
            written.ok_or(Errno::Inval)?;
            g.memory().put(at, &op)?;
            Ok(0)
        }
        _ => Err(Errno::Srch.into()),
    }
}

/// The machine's CPU of a number of ours: its local APIC's id, and whether it runs. Those that do not run come behind those
/// that do, in the firmware's order.
fn cpu_numbered(cpus: &[Processor], number: u32) -> Option<(u32, bool)> {
    let online = smp::online();
    let apic_id = |cpu| smp::remote(cpu).apic_id.load(Ordering::Relaxed);
    if online.contains(number) {
        return Some((apic_id(number), true));
    }
    let behind = number.checked_sub(online.len())?;
    let listed = cpus.iter().map(|cpu| cpu.apic_id);
    let others = online.without(0).iter().map(apic_id);
    let mut rest = that_do_not_run(listed, apic_id(0), others);
    Some((rest.nth(behind as usize)?, false))
}

/// What the machine's CPU `xen_cpuid` is: its ids and whether it is there.
fn cpu_info(g: &mut Guest<'_>, at: u64, mut op: PlatformOp) -> Outcome {
    let mut info = Pcpuinfo::read_from(&op.u).ok_or(Errno::Inval)?;
    let cpus = device::acpi::platform().map_or(&[][..], |p| p.cpus.as_slice());
    info.max_present = (cpus.len() as u32).saturating_sub(1);
    match cpu_numbered(cpus, info.xen_cpuid) {
        Some((apic_id, runs)) => {
            info.flags = if runs { XEN_PCPU_FLAGS_ONLINE } else { 0 };
            info.apic_id = apic_id;
            if let Some(cpu) = cpus.iter().find(|cpu| cpu.apic_id == apic_id) {
                info.acpi_id = cpu.acpi_id;
            }
        }
        None => info.flags = XEN_PCPU_FLAGS_INVALID,
    }
    info.write_to(&mut op.u).ok_or(Errno::Inval)?;
    g.memory().put(at, &op)?;
    Ok(0)
}
