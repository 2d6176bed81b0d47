//! The machine-check call: what a kernel asks when it sets up, and that wrong versions, commands and buffers change
//! nothing.

use guest_runtime::abi::hardware::{
    Mc, McFetch, McLogicalCpu, McPhyscpuinfo, XEN_MC_ACK, XEN_MC_NODATA, XEN_MC_NONURGENT,
    XEN_MC_URGENT, XEN_MCA_INTERFACE_VERSION,
};
use guest_runtime::abi::{HOLE_START, Wire, errno, nr};
use guest_runtime::hypercall::call;
use guest_runtime::instructions::cpuid;
use guest_runtime::{check, check_eq};
use guests::accepted;

const FETCH: u32 = 1;
const CPUS: u32 = 3;

fn ask<T: Wire>(version: u32, cmd: u32, argument: &mut T) -> i64 {
    let mut op = Mc {
        cmd,
        interface_version: version,
        ..Mc::ZERO
    };
    // An argument is smaller than the union.
    let _ = argument.write_to(&mut op.u);
    let result = call(nr::MCA, [&raw mut op as u64, 0, 0, 0, 0]);
    if let Some(answer) = T::read_from(&op.u) {
        *argument = answer;
    }
    result
}

pub fn all() {
    cpus();
    nothing_to_fetch();
    wrong();
}

fn cpus() {
    let mut list = McPhyscpuinfo::ZERO;
    accepted(
        "the number of CPUs",
        ask(XEN_MCA_INTERFACE_VERSION, CPUS, &mut list),
    );
    check!((1..=64).contains(&list.ncpus), "there are CPUs");
    let mut cpu = [McLogicalCpu::ZERO, McLogicalCpu::ZERO];
    let mut list = McPhyscpuinfo {
        ncpus: 1,
        info: cpu.as_mut_ptr() as u64,
        ..McPhyscpuinfo::ZERO
    };
    accepted(
        "the first CPU",
        ask(XEN_MCA_INTERFACE_VERSION, CPUS, &mut list),
    );
    check_eq!("it runs", cpu[0].mc_ncores_active >= 1, true);
    let vendor = cpuid(0, 0);
    let name: &[u8] = &cpu[0].mc_vendorid[..4];
    check_eq!("its vendor", name, &vendor.ebx.to_le_bytes()[..]);
    check_eq!("its stepping", cpu[0].mc_step, cpuid(1, 0).eax & 0xf);
    check_eq!("no more than there is room for", cpu[1], McLogicalCpu::ZERO);
    for (ncpus, wanted) in [
        (0, errno::EINVAL),
        (1 << 31, errno::ENOMEM),
        (u32::MAX, errno::ENOMEM),
    ] {
        let mut list = McPhyscpuinfo {
            ncpus,
            info: cpu.as_mut_ptr() as u64,
            ..McPhyscpuinfo::ZERO
        };
        let result = ask(XEN_MCA_INTERFACE_VERSION, CPUS, &mut list);
        check_eq!("a list of no size, or too large", result, -wanted);
    }
    for info in [8, HOLE_START, u64::MAX - 7] {
        let mut list = McPhyscpuinfo {
            ncpus: 1,
            info,
            ..McPhyscpuinfo::ZERO
        };
        let result = ask(XEN_MCA_INTERFACE_VERSION, CPUS, &mut list);
        check_eq!("a list nowhere", result, -errno::EFAULT);
    }
}

fn nothing_to_fetch() {
    let mut record = [0u8; 8];
    for flags in [XEN_MC_NONURGENT, XEN_MC_URGENT] {
        let mut fetch = McFetch {
            flags,
            fetch_id: 7,
            data: record.as_mut_ptr() as u64,
            ..McFetch::ZERO
        };
        accepted("a fetch", ask(XEN_MCA_INTERFACE_VERSION, FETCH, &mut fetch));
        check_eq!("there is nothing", fetch.flags, XEN_MC_NODATA);
        fetch = McFetch {
            flags,
            ..McFetch::ZERO
        };
        check_eq!(
            "a fetch to nowhere",
            ask(XEN_MCA_INTERFACE_VERSION, FETCH, &mut fetch),
            -errno::EINVAL
        );
    }
    for flags in [0, XEN_MC_ACK, XEN_MC_NONURGENT | XEN_MC_URGENT] {
        let mut fetch = McFetch {
            flags,
            data: record.as_mut_ptr() as u64,
            ..McFetch::ZERO
        };
        check_eq!(
            "a fetch of no kind or of both",
            ask(XEN_MCA_INTERFACE_VERSION, FETCH, &mut fetch),
            -errno::EINVAL
        );
    }
    check_eq!("no record was written", record, [0; 8]);
}

fn wrong() {
    for version in [0, 1, XEN_MCA_INTERFACE_VERSION + 1, u32::MAX] {
        let mut list = McPhyscpuinfo::ZERO;
        check_eq!(
            "a version there is none of",
            ask(version, CPUS, &mut list),
            -errno::EACCES
        );
    }
    for cmd in [0, 7, 99, u32::MAX] {
        let mut list = McPhyscpuinfo::ZERO;
        check_eq!(
            "a command there is none of",
            ask(XEN_MCA_INTERFACE_VERSION, cmd, &mut list),
            -errno::EINVAL
        );
    }
    for address in [0, 8, HOLE_START, u64::MAX - 7] {
        check_eq!(
            "a question nowhere",
            call(nr::MCA, [address, 0, 0, 0, 0]),
            -errno::EFAULT
        );
    }
}
