//! The nodes that a guest finds in the store, and those by which its disks' two ends find each other.
//!
//! Which nodes, and who may see and change them, is as stock tools have it: front ends, back ends and people's
//! scripts look for them there. Values only; nothing here talks to the store.

use store::{Access as May, DomId, Perm, Perms};
use xeno_api::{Access, Disk, Guest};

use crate::state::Built;
use crate::uuid::Uuid;

/// A node to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its path.
    pub path: String,
    /// Its value.
    pub value: String,
    /// Who may do what.
    pub perms: Perms,
}

/// States of either end of a device. Numbers of the interface.
pub mod end {
    /// It begins.
    pub const INITIALISING: u32 = 1;
    /// The guest may use it.
    pub const CONNECTED: u32 = 4;
    /// It ends.
    pub const CLOSING: u32 = 5;
    /// It has ended.
    pub const CLOSED: u32 = 6;
}

/// A domain's own directory.
pub fn home(domain: DomId) -> String {
    format!("/local/domain/{domain}")
}

/// Where the guest is asked to shut down.
pub fn shutdown(domain: DomId) -> String {
    format!("/local/domain/{domain}/control/shutdown")
}

/// Where the guest is told how much memory to keep, in KiB.
pub fn memory_target(domain: DomId) -> String {
    format!("/local/domain/{domain}/memory/target")
}

/// Where the guest is told whether to have a vCPU on line.
pub fn availability(domain: DomId, vcpu: u32) -> String {
    format!("/local/domain/{domain}/cpu/{vcpu}/availability")
}

/// The directory of what is known of a guest by its UUID.
pub fn vm(uuid: Uuid) -> String {
    format!("/vm/{uuid}")
}

/// The guest's end of a disk.
pub fn front(domain: DomId, virtual_device: u32) -> String {
    format!("/local/domain/{domain}/device/vbd/{virtual_device}")
}

/// The control domain's end of a disk.
pub fn back(domain: DomId, virtual_device: u32) -> String {
    format!("/local/domain/0/backend/vbd/{domain}/{virtual_device}")
}

/// The control domain's ends of all disks of a guest.
pub fn backs(domain: DomId) -> String {
    format!("/local/domain/0/backend/vbd/{domain}")
}

fn perms(entries: &[(May, DomId)]) -> Perms {
    let entries: Vec<Perm> = entries
        .iter()
        .map(|(access, domid)| Perm {
            access: *access,
            domid: *domid,
        })
        .collect();
    Perms::new(&entries).unwrap_or_else(|| Perms::owned_by(0))
}

/// What the guest may see.
fn seen_by(domain: DomId) -> Perms {
    perms(&[(May::None, 0), (May::Read, domain)])
}

/// What is the guest's own.
fn owned_by(domain: DomId) -> Perms {
    Perms::owned_by(domain)
}

/// A guest's nodes, without its disks.
pub fn guest(guest: &Guest, uuid: Uuid, built: &Built) -> Vec<Node> {
    let domain = built.domain;
    let (home, vm) = (home(domain), vm(uuid));
    let mut nodes = Vec::new();
    let mut put = |path: String, value: String, perms: Perms| {
        nodes.push(Node { path, value, perms });
    };
    let (see, own) = (seen_by(domain), owned_by(domain));
    let kib = |bytes: u64| (bytes >> 10).to_string();
    put(vm.clone(), String::new(), see.clone());
    put(format!("{vm}/uuid"), uuid.to_string(), see.clone());
    put(format!("{vm}/name"), guest.name.to_string(), see.clone());
    put(
        format!("{vm}/start_time"),
        built.since_s.to_string(),
        see.clone(),
    );
    put(home.clone(), String::new(), see.clone());
    let values = [
        ("vm", vm),
        ("name", guest.name.to_string()),
        ("domid", domain.to_string()),
        ("control", String::new()),
        ("control/platform-feature-xs_reset_watches", "1".to_owned()),
        ("device", String::new()),
        ("memory", String::new()),
        ("memory/static-max", kib(guest.most_memory().bytes())),
        ("memory/target", kib(guest.memory.bytes())),
        ("cpu", String::new()),
        ("store", String::new()),
        ("store/ring-ref", built.store.frame.to_string()),
        ("store/port", built.store.port.to_string()),
        ("console", String::new()),
        ("console/ring-ref", built.console.frame.to_string()),
        ("console/port", built.console.port.to_string()),
        ("console/type", "xenconsoled".to_owned()),
    ];
    for (name, value) in values {
        put(format!("{home}/{name}"), value, see.clone());
    }
    for vcpu in 0..guest.vcpus {
        put(format!("{home}/cpu/{vcpu}"), String::new(), see.clone());
        put(availability(domain, vcpu), "online".to_owned(), see.clone());
    }
    for name in [
        "control/shutdown",
        "control/sysrq",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "data",
        "drivers",
        "feature",
        "attr",
        "error",
    ] {
        put(format!("{home}/{name}"), String::new(), own.clone());
    }
    nodes
}

/// The two ends of a disk whose block device has this number.
pub fn disk(domain: DomId, disk: &Disk, virtual_device: u32, device: u64) -> Vec<Node> {
    let (front, back) = (front(domain, virtual_device), back(domain, virtual_device));
    let front_perms = perms(&[(May::None, domain), (May::Read, 0)]);
    let back_perms = perms(&[(May::None, 0), (May::Read, domain)]);
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let state = end::INITIALISING.to_string();
    let mode = match disk.mode {
        Access::ReadOnly => "r",
        Access::ReadWrite => "w",
    };
    let fronts = [
        ("", String::new()),
        ("/backend", back.clone()),
        ("/backend-id", "0".to_owned()),
        ("/virtual-device", virtual_device.to_string()),
        ("/device-type", "disk".to_owned()),
        ("/state", state.clone()),
    ];
    let backs = [
        ("", String::new()),
        ("/frontend", front.clone()),
        ("/frontend-id", domain.to_string()),
        ("/online", "1".to_owned()),
        ("/removable", "0".to_owned()),
        ("/bootable", "1".to_owned()),
        ("/dev", disk.device.clone()),
        ("/type", "phy".to_owned()),
        ("/mode", mode.to_owned()),
        ("/device-type", "disk".to_owned()),
        ("/params", disk.file.display().to_string()),
        ("/physical-device", format!("{major:x}:{minor:x}")),
        ("/hotplug-status", "connected".to_owned()),
        ("/state", state),
    ];
    // The back end first: the guest's kernel may look at once.
    let backs = backs.map(|(name, value)| (format!("{back}{name}"), value, &back_perms));
    let fronts = fronts.map(|(name, value)| (format!("{front}{name}"), value, &front_perms));
    backs
        .into_iter()
        .chain(fronts)
        .map(|(path, value, perms)| Node {
            path,
            value,
            perms: perms.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::RingRecord;

    const RING: RingRecord = RingRecord {
        frame: 77,
        port: 1,
        reference: 1,
    };

    fn web() -> Guest {
        Guest::from_toml(
            "name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\nmax_memory = \"96M\"\nvcpus = 2\n\
             disks = [{ file = \"/d\", mode = \"ro\" }]",
            "web.toml",
            std::path::Path::new("/"),
        )
        .unwrap()
    }

    #[test]
    fn a_guest_finds_what_a_stock_kernel_looks_for() {
        let built = Built {
            domain: 5,
            console: RING,
            store: RING,
            since_s: 1,
        };
        let nodes = guest(&web(), Uuid([1; 16]), &built);
        let value = |path: &str| {
            let node = nodes.iter().find(|node| node.path == path);
            node.unwrap_or_else(|| panic!("no {path}")).value.clone()
        };
        assert_eq!(value("/local/domain/5/memory/target"), "65536");
        assert_eq!(value("/local/domain/5/memory/static-max"), "98304");
        assert_eq!(value("/local/domain/5/cpu/1/availability"), "online");
        assert_eq!(value("/local/domain/5/name"), "web");
        assert_eq!(value("/local/domain/5/control/shutdown"), "");
    }

    #[test]
    fn a_guest_owns_only_what_it_must_write() {
        let built = Built {
            domain: 5,
            console: RING,
            store: RING,
            since_s: 1,
        };
        for node in guest(&web(), Uuid([1; 16]), &built) {
            let owns = node.perms.owner() == 5;
            let must = [
                "/control/shutdown",
                "/control/sysrq",
                "/control/feature-",
                "/data",
                "/drivers",
                "/feature",
                "/attr",
                "/error",
            ];
            let expected =
                must.iter().any(|name| node.path.contains(name)) && !node.path.contains("platform");
            assert_eq!(owns, expected, "{}", node.path);
        }
    }

    #[test]
    fn a_disk_has_two_ends_that_name_each_other() {
        let disk_description = &web().disks[0];
        let nodes = disk(5, disk_description, 51712, rustix::fs::makedev(7, 16));
        let value = |path: &str| &nodes.iter().find(|node| node.path == path).unwrap().value;
        let back = "/local/domain/0/backend/vbd/5/51712";
        let front = "/local/domain/5/device/vbd/51712";
        assert_eq!(value(&format!("{front}/backend")), back);
        assert_eq!(value(&format!("{back}/frontend")), front);
        assert_eq!(value(&format!("{back}/physical-device")), "7:10");
        assert_eq!(value(&format!("{back}/mode")), "r");
        let at = |path: &str| nodes.iter().position(|node| node.path == path).unwrap();
        assert!(at(&format!("{back}/state")) < at(&format!("{front}/state")));
    }
}
