//! The control domain's devices behind guests' disks: loop devices, and what its back end says of itself.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use xen::DomId;
use xeno_api::{Access, Io};

use crate::disk::Identity;
use crate::loops;
use crate::uuid::Uuid;

/// What the daemon needs of the control domain's kernel for disks. Any thread may call.
pub trait Devices: Send + Sync {
    /// Makes a block device of a file for a guest's disk; answers its number.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn attach(&self, file: &File, mode: Access, guest: Uuid, disk: &str) -> io::Result<u64>;

    /// Lets go of all block devices that were made for a guest. Answers how many somebody still has open.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn detach(&self, guest: Uuid) -> io::Result<usize>;

    /// The guests for which there are block devices.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn guests(&self) -> io::Result<Vec<Uuid>>;

    /// The loop devices over a file or block device, or a part of it.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn over(&self, identity: Identity) -> io::Result<Vec<Over>>;

    /// Whether a driver of the kernel's serves this disk. None does after somebody unbound it.
    fn backend_serves(&self, domain: DomId, virtual_device: u32) -> bool;

    /// Whether the kernel's back end has this disk.
    fn backend_present(&self, domain: DomId, virtual_device: u32) -> bool;

    /// What went over a disk.
    fn io(&self, domain: DomId, virtual_device: u32) -> Io;
}

/// A loop device over something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Its path.
    pub path: PathBuf,
    /// Its number as a block device.
    pub number: u64,
    /// The guest it was made for; none where it is not ours.
    pub guest: Option<Uuid>,
}

/// The kernel's own.
#[derive(Debug)]
pub struct Kernel;

/// Bytes of what the back end's counters count.
const SECTOR: u64 = 512;

/// How our loop devices are marked: this, the guest, and the disk's name.
const MARK: &str = "xenod ";

fn mark(guest: Uuid) -> String {
    format!("{MARK}{guest} ")
}

/// The guest for which a loop device with this mark was made.
pub fn guest_of(mark: &str) -> Option<Uuid> {
    let (guest, _disk) = mark.strip_prefix(MARK)?.split_once(' ')?;
    guest.parse().ok()
}

fn backend(domain: DomId, virtual_device: u32) -> PathBuf {
    PathBuf::from(format!(
        "/sys/bus/xen-backend/devices/vbd-{domain}-{virtual_device}"
    ))
}

impl Devices for Kernel {
    fn attach(&self, file: &File, mode: Access, guest: Uuid, disk: &str) -> io::Result<u64> {
        let mark = format!("{}{disk}", mark(guest));
        loops::attach(file, mode, &mark).map(|device| device.number)
    }

    fn detach(&self, guest: Uuid) -> io::Result<usize> {
        let mark = mark(guest);
        for (device, _) in loops::marked(&mark)? {
            loops::detach(&device.path)?;
        }
        Ok(loops::marked(&mark)?.len())
    }

    fn guests(&self) -> io::Result<Vec<Uuid>> {
        let marked = loops::marked(MARK)?;
        let mut guests: Vec<Uuid> = marked
            .iter()
            .filter_map(|(_, status)| guest_of(&status.mark))
            .collect();
        guests.sort_unstable();
        guests.dedup();
        Ok(guests)
    }

    fn over(&self, identity: Identity) -> io::Result<Vec<Over>> {
        let all = loops::marked("")?.into_iter();
        let over = all.filter(|(_, status)| status.behind.overlaps(identity));
        Ok(over
            .map(|(device, status)| Over {
                path: device.path,
                number: device.number,
                guest: guest_of(&status.mark),
            })
            .collect())
    }

    fn backend_serves(&self, domain: DomId, virtual_device: u32) -> bool {
        backend(domain, virtual_device).join("driver").exists()
    }

    fn backend_present(&self, domain: DomId, virtual_device: u32) -> bool {
        backend(domain, virtual_device).exists()
    }

    fn io(&self, domain: DomId, virtual_device: u32) -> Io {
        let statistics = backend(domain, virtual_device).join("statistics");
        let read = |name: &str| -> u64 {
            std::fs::read_to_string(statistics.join(name))
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0)
        };
        Io {
            reads: read("rd_req"),
            read_bytes: read("rd_sect").saturating_mul(SECTOR),
            writes: read("wr_req"),
            write_bytes: read("wr_sect").saturating_mul(SECTOR),
        }
    }
}
