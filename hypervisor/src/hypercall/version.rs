//! Who we are, and what we offer.

use crate::domain::Guest;
use crate::hypercall::trap::has_assist;
use crate::hypercall::{Args, Outcome};
use crate::layout::HOLE;
use guest_abi::Errno;
use guest_abi::features::Feature;
use guest_abi::version::{
    Capabilities, Changeset, CompileInfo, ExtraVersion, FeatureInfo, PlatformParameters,
    XenVersionOp, version_number,
};
use guest_abi::vm_assist::VmAssistType;

/// The interface we serve.
const MAJOR: u16 = 4;
/// The interface we serve.
const MINOR: u16 = 17;

/// A text in a fixed field, the rest zero.
fn text<const N: usize>(s: &str) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().take(N - 1).zip(s.bytes()) {
        *to = from;
    }
    field
}

/// `xen_version(op, arg)`.
pub fn xen_version(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ..] = args;
    let op = XenVersionOp::from_number(op as u32).ok_or(Errno::NoSys)?;
    match op {
        // Kernels ask for it over and over: it is their way of doing nothing but having events delivered.
        XenVersionOp::Version => Ok(version_number(MAJOR, MINOR)),
        _ => tell(g, op, arg),
    }
}

#[inline(never)]
fn tell(g: &mut Guest<'_>, op: XenVersionOp, arg: u64) -> Outcome {
    let memory = g.memory();
    match op {
        XenVersionOp::Version => return Ok(version_number(MAJOR, MINOR)),
        XenVersionOp::Extraversion => {
            let value: ExtraVersion = text(concat!(".0-xeno-", env!("CARGO_PKG_VERSION")));
            memory.write(arg, &value)?;
        }
        XenVersionOp::CompileInfo => {
            let mut info = CompileInfo::ZERO;
            info.compiler = text("rustc");
            info.compile_by = text("xenoserver");
            memory.put(arg, &info)?;
        }
        XenVersionOp::Capabilities => {
            let value: Capabilities = text("xen-3.0-x86_64 ");
            memory.write(arg, &value)?;
        }
        XenVersionOp::Changeset => {
            let value: Changeset = text("unavailable");
            memory.write(arg, &value)?;
        }
        XenVersionOp::PlatformParameters => {
            memory.put(
                arg,
                &PlatformParameters {
                    virt_start: HOLE.start,
                },
            )?;
        }
        XenVersionOp::GetFeatures => {
            let mut info: FeatureInfo = memory.value(arg)?;
            if info.submap_idx != 0 {
                return Err(Errno::Inval.into());
            }
            info.submap = Feature::MmuPtUpdatePreserveAd.mask()
                | Feature::HighmemAssist.mask()
                | Feature::GnttabMapAvailBits.mask()
                | Feature::MemoryOpVnodeSupported.mask()
                | Feature::DirectMapped.mask();
            if has_assist(g, VmAssistType::PaeExtendedCr3) {
                info.submap |= Feature::PaePgdirAbove4gb.mask();
            }
            if g.dom.privileged {
                info.submap |= Feature::Dom0.mask();
            }
            memory.put(arg, &info)?;
        }
        XenVersionOp::Pagesize if arg != 0 => return Err(Errno::Inval.into()),
        XenVersionOp::Pagesize => return Ok(4096),
        XenVersionOp::GuestHandle => memory.write(arg, &[0; 16])?,
        XenVersionOp::Commandline => {
            if !g.dom.privileged {
                return Err(Errno::Perm.into());
            }
            let line: [u8; 1024] = text(&crate::boot::boot_info().command_line);
            memory.write(arg, &line)?;
        }
        XenVersionOp::BuildId => return Err(Errno::NoData.into()),
    }
    Ok(0)
}
