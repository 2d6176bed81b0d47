//! What is set for a domain and told of it, and what is told of the machine.

use guest_runtime::abi::domctl::*;
use guest_runtime::abi::reserve::{SCHED_ALL_VCPUS, SCHED_EXTRA, SchedGet};
use guest_runtime::abi::sysctl::{
    Availheap, CpuFeatureset, CpupoolOp, Cputopo, Cputopoinfo, DebugKeys, Meminfo, Numainfo,
    Physinfo, Readconsole, Sysctl, SysctlCommand,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{Wire, errno};
use guest_runtime::{check, check_eq};
use guest_runtime::{control, frames};
use guests::accepted;

use crate::calls::*;

pub fn all() {
    let before = audit_here();
    let Ok(domain) = create(&ordinary(), 0) else {
        check!(false, "a domain");
        return;
    };
    accepted("vCPUs", max_vcpus(domain, 2));
    affinities(domain);
    scheduling(domain);
    clocks(domain);
    sizes(domain);
    devices(domain);
    types(domain);
    not_served(domain);
    policies(domain);
    accepted("destroy", destroy(domain));
    check_eq!("nothing is left of it", audit_here(), before);
    topology();
    free_memory();
    console();
}

/// A call with what it takes; its result, and what came back.
fn asked<T: Wire>(command: DomctlCommand, domain: u16, payload: &T) -> (i64, T) {
    let mut call = Domctl::new(command, domain);
    call.set_payload(payload);
    (domctl(&mut call), call.payload())
}

fn asked_of_all<T: Wire>(command: SysctlCommand, payload: &T) -> (i64, T) {
    let mut call = Sysctl::new(command);
    call.set_payload(payload);
    (sysctl(&mut call), call.payload())
}

fn affinities(domain: u16) {
    use DomctlCommand::{Getnodeaffinity, Getvcpuaffinity, Setnodeaffinity, Setvcpuaffinity};
    let page = frames::allocate();
    let map = |nr_bits| Bitmap {
        bitmap: page.va(),
        nr_bits,
        ..Bitmap::ZERO
    };
    let wanted = |vcpu, flags| Vcpuaffinity {
        vcpu,
        flags,
        cpumap_hard: map(64),
        ..Vcpuaffinity::ZERO
    };
    for (vcpu, flags, result) in [
        (0, 1, 0),
        (1, 1, 0),
        (2, 1, -errno::EINVAL),
        (0, 0, -errno::EINVAL),
        // Of neither map: nothing is asked for.
        (0, 4, 0),
        (0, 8, 0),
        // No place for the other map.
        (0, 2, -errno::EINVAL),
    ] {
        page.write(0, 1);
        let set = about(Setvcpuaffinity, domain, &wanted(vcpu, flags));
        check_eq!("set an affinity", set, result);
        let get = about(Getvcpuaffinity, domain, &wanted(vcpu, flags));
        check_eq!("get an affinity", get, result);
    }
    page.write(0, 0);
    let none = about(Setvcpuaffinity, domain, &wanted(0, 1));
    check_eq!("no CPU", none, -errno::EINVAL);
    page.write(0, !0);
    accepted("get", about(Getvcpuaffinity, domain, &wanted(0, 1)));
    check_eq!("it is as it was set", page.read(0), 1);
    let nodes = Nodeaffinity { nodemap: map(64) };
    page.write(0, 1);
    accepted("the node", about(Setnodeaffinity, domain, &nodes));
    page.write(0, 2);
    check_eq!(
        "another node",
        about(Setnodeaffinity, domain, &nodes),
        -errno::EINVAL
    );
    accepted("which nodes", about(Getnodeaffinity, domain, &nodes));
    check_eq!("the node there is", page.read(0) & 1, 1);
    frames::release(page);
}

fn scheduling(domain: u16) {
    let call = |cmd, weight, sched_id| {
        let payload = SchedulerOp {
            sched_id,
            cmd,
            weight,
            ..SchedulerOp::ZERO
        };
        asked(DomctlCommand::SchedulerOp, domain, &payload)
    };
    let (result, now) = call(XEN_DOMCTL_SCHEDOP_GETINFO, 0, 6);
    check_eq!("its weight", (result, now.weight), (0, 256));
    accepted("another", call(XEN_DOMCTL_SCHEDOP_PUTINFO, 512, 6).0);
    let (result, now) = call(XEN_DOMCTL_SCHEDOP_GETINFO, 0, 6);
    check_eq!("its weight now", (result, now.weight), (0, 512));
    let mut has = SchedGet {
        version: XENO_INTERFACE_VERSION,
        domid: domain,
        vcpu: SCHED_ALL_VCPUS,
        ..SchedGet::ZERO
    };
    if control::xeno_op(XenoCommand::SchedGet, &mut has) == 0 {
        let terms = (has.terms.slice, has.terms.weight, has.terms.flags);
        check_eq!("which counts", terms, (0, 512, SCHED_EXTRA));
        check_eq!("for all of them", has.nr_alike, has.nr_vcpus);
    }
    check_eq!("of another scheduler", call(1, 0, 5).0, -errno::EINVAL);
}

fn clocks(domain: u16) {
    use DomctlCommand::{Gettscinfo, Settscinfo};
    let set = |tsc_mode| {
        let payload = TscInfo {
            tsc_mode,
            ..TscInfo::ZERO
        };
        about(Settscinfo, domain, &payload)
    };
    check_eq!("no such clock", set(4), -errno::EINVAL);
    check_eq!("the usual clock", set(0), 0);
    let (result, info) = asked(Gettscinfo, domain, &TscInfo::ZERO);
    check_eq!("which clock", (result, info.tsc_mode), (0, 0));
    check!(info.gtsc_khz > 1000, "its clock's rate");
    check_eq!("the CPU's own", set(2), 0);
    let (result, info) = asked(Gettscinfo, domain, &TscInfo::ZERO);
    check_eq!("which clock", (result, info.tsc_mode), (0, 2));
    let kept = (info.gtsc_khz, info.elapsed_nsec);
    check_eq!("nothing to keep of it", kept, (0, 0));
    let offset = Settimeoffset {
        time_offset_seconds: -3600,
    };
    accepted(
        "an hour back",
        about(DomctlCommand::Settimeoffset, domain, &offset),
    );
}

fn sizes(domain: u16) {
    use DomctlCommand::{GetAddressSize, SetAddressSize};
    let size = |size| about(SetAddressSize, domain, &AddressSize { size });
    check_eq!("64 bits", size(64), 0);
    check_eq!("48 bits", size(48), -errno::EINVAL);
    let (result, now) = asked(GetAddressSize, domain, &AddressSize::ZERO);
    check_eq!("its bits", (result, now.size), (0, 64));
}

fn devices(domain: u16) {
    use DomctlCommand::{IomemPermission as Iomem, IoportPermission as Ioport};
    let ports = |first_port, nr_ports, allow_access| {
        let payload = IoportPermission {
            first_port,
            nr_ports,
            allow_access,
            ..IoportPermission::ZERO
        };
        about(Ioport, domain, &payload)
    };
    check_eq!("ports", ports(0x2f8, 8, 1), 0);
    check_eq!("no more of them", ports(0x2f8, 8, 0), 0);
    check_eq!("no ports", ports(0x2f8, 0, 1), -errno::EINVAL);
    check_eq!("beyond the last", ports(0xffff, 2, 1), -errno::EINVAL);
    check_eq!(
        "an interrupt controller's",
        ports(0x20, 2, 1),
        -errno::EPERM
    );
    let memory = |first_mfn, nr_mfns, allow_access| {
        let payload = IomemPermission {
            first_mfn,
            nr_mfns,
            allow_access,
            ..IomemPermission::ZERO
        };
        about(Iomem, domain, &payload)
    };
    check_eq!("a device's frames", memory(0xfe000, 16, 1), 0);
    check_eq!("no more of them", memory(0xfe000, 16, 0), 0);
    check_eq!("no frames", memory(0xfe000, 0, 1), -errno::EINVAL);
    check_eq!("around the end", memory(!0, 2, 1), -errno::EINVAL);
    check_eq!("a local APIC's", memory(0xfee00, 1, 1), -errno::EPERM);
}

fn types(domain: u16) {
    let page = frames::allocate();
    let ask = |domain, num| {
        let payload = Getpageframeinfo3 {
            num,
            array: page.va(),
        };
        about(DomctlCommand::Getpageframeinfo3, domain, &payload)
    };
    let ours = guest_runtime::page_table::root().mfn();
    page.write(0, ours);
    accepted("a type", ask(domain, 1));
    check_eq!(
        "none of its",
        page.read(0),
        u64::from(XEN_DOMCTL_PFINFO_XTAB)
    );
    page.write(0, ours);
    page.write(1, frames::pfn_to_mfn(0));
    page.write(2, 0xfee00);
    accepted("our types", ask(0, 3));
    let root = XEN_DOMCTL_PFINFO_L4TAB | XEN_DOMCTL_PFINFO_LPINTAB;
    check_eq!("a root", page.read(0), u64::from(root));
    check_eq!("a page", page.read(1), 0);
    check_eq!("no memory", page.read(2), u64::from(XEN_DOMCTL_PFINFO_XTAB));
    check_eq!("too many", ask(domain, 1025), -errno::E2BIG);
    frames::release(page);
}

/// Debuggers, the record of dirty pages, and states for saving: what we do not serve.
fn not_served(domain: u16) {
    if !control::is_ours() {
        return;
    }
    for number in [10, 18, 33, 34, 55, 62, 63, 72, 73, 1000, 1001, 1002, 1003] {
        let mut call = Domctl::new(DomctlCommand::Getdomaininfo, domain);
        call.cmd = number;
        check_eq!("not served", domctl(&mut call), -errno::ENOSYS);
    }
}

fn policies(domain: u16) {
    use DomctlCommand::{GetCpuPolicy, SetCpuPolicy};
    let page = frames::allocate();
    let (result, size) = asked(GetCpuPolicy, domain, &CpuPolicy::ZERO);
    accepted("the size of a policy", result);
    check!(
        size.nr_leaves > 8 && size.nr_msrs > 0,
        "there is something in it"
    );
    let short = CpuPolicy {
        nr_leaves: 1,
        leaves: page.va(),
        ..CpuPolicy::ZERO
    };
    let (result, _) = asked(GetCpuPolicy, domain, &short);
    check_eq!("a place too small", result, -errno::ENOBUFS);
    let room = CpuPolicy {
        nr_leaves: (4096 / CpuidLeaf::SIZE) as u32,
        leaves: page.va(),
        ..CpuPolicy::ZERO
    };
    let (result, written) = asked(GetCpuPolicy, domain, &room);
    accepted("a policy", result);
    check!(written.nr_leaves > 8, "some leaves");
    check_eq!("the first leaf", page.read(0), 0xffff_ffff_0000_0000);
    let back = CpuPolicy {
        nr_leaves: written.nr_leaves,
        leaves: page.va(),
        ..CpuPolicy::ZERO
    };
    check_eq!("given back", asked(SetCpuPolicy, domain, &back).0, 0);
    accepted("unpause", plain(DomctlCommand::Unpausedomain, domain));
    check_eq!(
        "too late",
        asked(SetCpuPolicy, domain, &back).0,
        -errno::EEXIST
    );
    frames::release(page);
}

fn topology() {
    let page = frames::allocate();
    let (result, cpus) = asked_of_all(SysctlCommand::Cputopoinfo, &Cputopoinfo::ZERO);
    check!(result == 0 && cpus.num_cpus >= 1, "how many CPUs");
    let list = Cputopoinfo {
        num_cpus: 1,
        cputopo: page.va(),
        ..Cputopoinfo::ZERO
    };
    page.write(0, !0);
    accepted(
        "the first CPU",
        asked_of_all(SysctlCommand::Cputopoinfo, &list).0,
    );
    check_eq!("its core and package", page.read(0), 0);
    let _ = Cputopo::SIZE;
    let list = Numainfo {
        num_nodes: 1,
        meminfo: page.va(),
        distance: page.va() + Meminfo::SIZE as u64,
        ..Numainfo::ZERO
    };
    let (result, nodes) = asked_of_all(SysctlCommand::Numainfo, &list);
    check_eq!("nodes", (result, nodes.num_nodes), (0, 1));
    check!(
        page.read(0) > page.read(1) && page.read(1) > 0,
        "their memory"
    );
    check_eq!("how far it is", page.read(2) as u32, 10);
    for (cpupool_id, result) in [(0, 0), (1, -errno::ENOENT)] {
        let mut pool = CpupoolOp {
            op: 3,
            cpupool_id,
            ..CpupoolOp::ZERO
        };
        pool.cpumap.bitmap = page.va();
        pool.cpumap.nr_bits = 64;
        let got = asked_of_all(SysctlCommand::CpupoolOp, &pool).0;
        check_eq!("a pool", got, result);
    }
    check_eq!("its CPUs", page.read(0) & 1, 1);
    let (result, all) = asked_of_all(SysctlCommand::GetCpuFeatureset, &CpuFeatureset::ZERO);
    check!(result == 0 && all.nr_features >= 11, "features");
    frames::release(page);
}

fn free_memory() {
    let free = |node, min_bitwidth, max_bitwidth| {
        let payload = Availheap {
            min_bitwidth,
            max_bitwidth,
            node,
            ..Availheap::ZERO
        };
        let (result, told) = asked_of_all(SysctlCommand::Availheap, &payload);
        check_eq!("free memory", result, 0);
        told.avail_bytes
    };
    let machine: Physinfo = asked_of_all(SysctlCommand::Physinfo, &Physinfo::ZERO).1;
    let all = free(-1, 0, 0);
    check_eq!("all of it", all, machine.free_pages * 4096);
    check_eq!("the node's", free(0, 0, 0), all);
    for bits in [13, 20, 26, 28, 40] {
        let both = free(-1, 0, bits) + free(-1, bits + 1, 0);
        check_eq!("of few bits and of many", both, all);
    }
    check!(free(-1, 0, 27) < all, "not all is in the first half");
    check_eq!("of 128 MiB to 256 MiB", free(-1, 28, 28) > 0, true);
    check_eq!("beyond the memory", free(-1, 40, 0), 0);
}

fn console() {
    let page = frames::allocate();
    let read = |incremental, index, count| {
        let payload = Readconsole {
            incremental,
            index,
            count,
            buffer: page.va(),
            ..Readconsole::ZERO
        };
        asked_of_all(SysctlCommand::Readconsole, &payload)
    };
    let (result, first) = read(0, 0, 64);
    check_eq!("the log's beginning", (result, first.count), (0, 64));
    let mut index = first.index;
    loop {
        let (result, next) = read(1, index, 4096);
        if result != 0 || next.count == 0 {
            break;
        }
        index = next.index;
    }
    page.write(0, u64::from(b'h'));
    let keys = DebugKeys {
        keys: page.va(),
        nr_keys: 1,
        ..DebugKeys::ZERO
    };
    accepted("a key", asked_of_all(SysctlCommand::DebugKeys, &keys).0);
    let (result, after) = read(1, index, 4096);
    check!(result == 0 && after.count > 8, "it said something");
    frames::release(page);
}
