//! Machine checks, as the control domain asks about them. Ring 0 takes them, and ends the machine with a report: there
//! is never a record left to fetch. What is served is what a kernel needs to set its side up.

use crate::arch::{apic, cpu, smp};
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome};
use crate::schedule::runs_vcpus;
use core::sync::atomic::Ordering;
use guest_abi::hardware::{
    Mc, McFetch, McLogicalCpu, McPhyscpuinfo, McaCommand, XEN_MC_ACK, XEN_MC_NODATA,
    XEN_MC_NONURGENT, XEN_MC_OK, XEN_MC_URGENT, XEN_MCA_INTERFACE_VERSION,
};
use guest_abi::{Errno, Wire};

/// CPUs that a domain is told of: those that run guests.
fn cpus_told() -> impl Iterator<Item = u32> {
    smp::online().iter().filter(|cpu| runs_vcpus(*cpu))
}

/// Units of telling of one.
const EACH: u64 = 2;

/// `mca(op)`.
pub fn mca(g: &mut Guest<'_>, args: Args) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let op: Mc = g.memory().value(args[0])?;
    if op.interface_version != XEN_MCA_INTERFACE_VERSION {
        return Err(Errno::Access.into());
    }
    match McaCommand::from_number(op.cmd) {
        Some(McaCommand::Fetch) => fetch(g, args[0], op),
        Some(McaCommand::Physcpuinfo) => cpus(g, args[0], op),
        Some(_) => Err(Errno::NoSys.into()),
        None => Err(Errno::Inval.into()),
    }
}

/// There is nothing to fetch, and nothing that could be acknowledged.
fn fetch(g: &mut Guest<'_>, at: u64, mut op: Mc) -> Outcome {
    let mut fetch = McFetch::read_from(&op.u).ok_or(Errno::Inval)?;
    if !matches!(
        fetch.flags & (XEN_MC_NONURGENT | XEN_MC_URGENT),
        XEN_MC_NONURGENT | XEN_MC_URGENT
    ) {
        return Err(Errno::Inval.into());
    }
    if fetch.flags & XEN_MC_ACK != 0 {
        fetch.flags = XEN_MC_OK;
    } else if fetch.data == 0 {
        return Err(Errno::Inval.into());
    } else {
        fetch.flags = XEN_MC_NODATA;
        fetch.fetch_id = 0;
    }
    fetch.write_to(&mut op.u).ok_or(Errno::Inval)?;
    g.memory().put(at, &op)?;
    Ok(0)
}

/// How many CPUs there are and, where there is room, what they are.
fn cpus(g: &mut Guest<'_>, at: u64, mut op: Mc) -> Outcome {
    let mut list = McPhyscpuinfo::read_from(&op.u).ok_or(Errno::Inval)?;
    g.memory().check_writable(at, Mc::SIZE)?;
    if list.info != 0 {
        // A list larger than anybody's memory is refused as such.
        match list.ncpus as i32 {
            0 => return Err(Errno::Inval.into()),
            i32::MIN..0 => return Err(Errno::NoMem.into()),
            _ => {}
        }
        // They are all of one kind: ring 0 takes no others in.
        let this = this_cpu();
        for (place, cpu) in cpus_told().take(list.ncpus as usize).enumerate() {
            let told = McLogicalCpu {
                mc_cpunr: cpu,
                mc_chipid: cpu,
                mc_apicid: smp::remote(cpu).apic_id.load(Ordering::Relaxed),
                ..this
            };
            let mut bytes = [0; McLogicalCpu::SIZE];
            told.write_to(&mut bytes).ok_or(Errno::Inval)?;
            let offset = (place * McLogicalCpu::SIZE) as u64;
            g.memory().write(list.info.wrapping_add(offset), &bytes)?;
            g.charge(EACH);
        }
    }
    list.ncpus = cpus_told().count() as u32;
    list.write_to(&mut op.u).ok_or(Errno::Inval)?;
    g.memory().put(at, &op)?;
    Ok(0)
}

/// This CPU, by its own CPUID.
fn this_cpu() -> McLogicalCpu {
    let [basic, features, extended] = [0, 1, 0x8000_0001].map(|leaf| cpu::cpuid(leaf, 0));
    let signature = features.eax;
    let [family, model] = [signature >> 8 & 0xf, signature >> 4 & 0xf];
    let mut vendor = [0; 16];
    for (to, word) in vendor
        .chunks_exact_mut(4)
        .zip([basic.ebx, basic.edx, basic.ecx])
    {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let mut brand = [0; 64];
    for (to, leaf) in brand.chunks_exact_mut(16).zip(0x8000_0002..=0x8000_0004) {
        let part = cpu::cpuid(leaf, 0);
        for (to, word) in to
            .chunks_exact_mut(4)
            .zip([part.eax, part.ebx, part.ecx, part.edx])
        {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    McLogicalCpu {
        mc_apicid: apic::id(),
        mc_ncores: 1,
        mc_ncores_active: 1,
        mc_nthreads: 1,
        mc_cpuid_level: basic.eax as i32,
        // The extended parts count for the families that have them.
        mc_family: if family == 0xf {
            family + (signature >> 20 & 0xff)
        } else {
            family
        },
        mc_model: if matches!(family, 6 | 0xf) {
            model | signature >> 12 & 0xf0
        } else {
            model
        },
        mc_step: signature & 0xf,
        mc_vendorid: vendor,
        mc_brandid: brand,
        mc_cpu_caps: [
            features.edx,
            extended.edx,
            0,
            0,
            features.ecx,
            0,
            extended.ecx,
        ],
        mc_cache_alignment: (features.ebx >> 8 & 0xff) * 8,
        ..McLogicalCpu::ZERO
    }
}
