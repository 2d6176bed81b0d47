//! Hypervisor, devices and state of a daemon that can be killed at a chosen step.
//!
//! A step is anything that outlives the process: an operation of the hypervisor or of the kernel's devices, or a
//! record. At the chosen one, and at all later ones, nothing is done any more: the thread panics, and the test drops
//! the daemon. That is what a kill looks like from outside.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use guest_abi::context::VcpuGuestContext;
use guest_abi::event::Virq;
use guest_abi::ledger::{LEDGER_HASH, LedgerEnded, LedgerHead};
use guest_abi::memory::E820Entry;
use guest_abi::usage::{Books, Usage};
use xen::fake::Fake;
use xen::{
    Access, Accounts, CpuAnswer, CpuReserved, CpuRules, CpuTerms, DomId, DomainInfo, EventChannels,
    Hypervisor, MachineInfo, Mapping, NewDomain, Part, Port, Result, ShutdownReason, VcpuInfo,
};
use xeno_api::{Access as Mode, Io};

use crate::devices::{Devices, Over};
use crate::disk::Identity;
use crate::uuid::Uuid;

/// How many steps are left.
#[derive(Clone, Debug)]
pub struct Fuse(Arc<AtomicI64>);

impl Fuse {
    /// One that burns for ever.
    pub fn endless() -> Self {
        Self::of(i64::MAX)
    }

    /// One for so many steps.
    pub fn of(steps: i64) -> Self {
        Self(Arc::new(AtomicI64::new(steps)))
    }

    /// Whether it has burnt down.
    pub fn is_out(&self) -> bool {
        self.0.load(Ordering::SeqCst) < 0
    }

    /// Sets it anew.
    pub fn set(&self, steps: i64) {
        self.0.store(steps, Ordering::SeqCst);
    }

    /// Burns a step.
    pub fn burn(&self) {
        if self.0.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.0.store(-1, Ordering::SeqCst);
            // No hook is called: thousands of these are no news.
            std::panic::resume_unwind(Box::new("killed"));
        }
    }
}

/// The fake hypervisor as a daemon that can be killed sees it.
#[derive(Clone)]
pub struct Mortal {
    pub fake: Fake,
    pub fuse: Fuse,
}

macro_rules! burning {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        $(fn $name(&self $(, $argument: $type)*) -> $result {
            self.fuse.burn();
            self.fake.$name($($argument),*)
        })*
    };
}

impl Accounts for Mortal {
    burning! {
        fn usage(&self, domain: DomId, part: Part) -> Result<Usage>;
        fn books(&self) -> Result<Books>;
        fn ledger_head(&self, of: Option<DomId>) -> Result<LedgerHead>;
        fn ledger_append(&self, of: Option<DomId>, from: u64, count: u64, head: [u8; LEDGER_HASH]) -> Result<()>;
        fn ended(&self, index: u64) -> Result<(u64, Option<LedgerEnded>)>;
    }
}

impl Hypervisor for Mortal {
    burning! {
        fn machine(&self) -> Result<MachineInfo>;
        fn messages(&self, clear: bool) -> Result<Vec<u8>>;
        fn create_domain(&self, new: &NewDomain) -> Result<DomId>;
        fn set_max_vcpus(&self, domain: DomId, vcpus: u32) -> Result<()>;
        fn set_max_pages(&self, domain: DomId, pages: u64) -> Result<()>;
        fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()>;
        fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>>;
        fn domains(&self) -> Result<Vec<DomainInfo>>;
        fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>>;
        fn pause(&self, domain: DomId) -> Result<()>;
        fn unpause(&self, domain: DomId) -> Result<()>;
        fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()>;
        fn destroy(&self, domain: DomId) -> Result<()>;
        fn populate(&self, domain: DomId, order: u32, frames: &mut [u64]) -> Result<usize>;
        fn map_frames(&self, domain: DomId, frames: &[u64], access: Access) -> Result<Mapping>;
        fn map_grant_table(&self, domain: DomId, frames: u32) -> Result<Mapping>;
        fn map_grants(&self, domain: DomId, references: &[u32], access: Access) -> Result<Mapping>;
        fn pin_root(&self, domain: DomId, frame: u64) -> Result<()>;
        fn fill_hypercall_page(&self, domain: DomId, frame: u64) -> Result<()>;
        fn set_vcpu_context(&self, domain: DomId, vcpu: u32, context: &VcpuGuestContext) -> Result<()>;
        fn set_cpu_terms(&self, domain: DomId, terms: CpuTerms) -> Result<CpuAnswer>;
        fn allow_cpu(&self, domain: DomId, rate: u64, weight: u16) -> Result<()>;
        fn cpu_terms(&self, domain: DomId) -> Result<CpuReserved>;
        fn cpu_rules(&self, quantum: Option<u64>) -> Result<CpuRules>;
        fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port>;
    }

    fn event_channels(&self) -> Result<Box<dyn EventChannels>> {
        Ok(Box::new(MortalEvents {
            channels: self.fake.event_channels()?,
            fuse: self.fuse.clone(),
        }))
    }
}

struct MortalEvents {
    channels: Box<dyn EventChannels>,
    fuse: Fuse,
}

impl EventChannels for MortalEvents {
    fn bind_virq(&self, virq: Virq) -> Result<Port> {
        self.fuse.burn();
        self.channels.bind_virq(virq)
    }

    fn bind_interdomain(&self, domain: DomId, remote: Port) -> Result<Port> {
        self.fuse.burn();
        self.channels.bind_interdomain(domain, remote)
    }

    fn bind_unbound(&self, domain: DomId) -> Result<Port> {
        self.fuse.burn();
        self.channels.bind_unbound(domain)
    }

    fn unbind(&self, port: Port) -> Result<()> {
        self.fuse.burn();
        self.channels.unbind(port)
    }

    fn notify(&self, port: Port) -> Result<()> {
        self.fuse.burn();
        self.channels.notify(port)
    }

    fn pending(&self) -> Result<Vec<Port>> {
        self.channels.pending()
    }

    fn unmask(&self, port: Port) -> Result<()> {
        self.channels.unmask(port)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.channels.fd()
    }
}

/// What the kernel's devices would be.
#[derive(Clone, Debug, Default)]
pub struct Loops(pub Arc<Mutex<Vec<Attached>>>);

/// A loop device: the guest's, the disk's name, what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    pub guest: Uuid,
    pub disk: String,
    pub identity: Identity,
}

/// The devices as a daemon that can be killed sees them.
pub struct MortalDevices {
    pub loops: Loops,
    pub fuse: Fuse,
}

impl Devices for MortalDevices {
    fn attach(&self, file: &File, _mode: Mode, guest: Uuid, disk: &str) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        self.fuse.burn();
        let metadata = file.metadata()?;
        let mut loops = self.loops.0.lock().unwrap();
        loops.push(Attached {
            guest,
            disk: disk.to_owned(),
            identity: Identity::File {
                device: metadata.dev(),
                inode: metadata.ino(),
            },
        });
        Ok(rustix::fs::makedev(7, loops.len() as u32))
    }

    fn detach(&self, guest: Uuid) -> io::Result<usize> {
        self.fuse.burn();
        self.loops
            .0
            .lock()
            .unwrap()
            .retain(|attached| attached.guest != guest);
        Ok(0)
    }

    fn guests(&self) -> io::Result<Vec<Uuid>> {
        let loops = self.loops.0.lock().unwrap();
        Ok(loops.iter().map(|attached| attached.guest).collect())
    }

    fn over(&self, identity: Identity) -> io::Result<Vec<Over>> {
        let loops = self.loops.0.lock().unwrap();
        let over = loops
            .iter()
            .filter(|attached| attached.identity == identity);
        Ok(over
            .map(|attached| Over {
                path: "/dev/loop0".into(),
                number: rustix::fs::makedev(7, 0),
                guest: Some(attached.guest),
            })
            .collect())
    }

    fn backend_serves(&self, _domain: DomId, _virtual_device: u32) -> bool {
        false
    }

    fn backend_present(&self, _domain: DomId, _virtual_device: u32) -> bool {
        false
    }

    fn io(&self, _domain: DomId, _virtual_device: u32) -> Io {
        Io::default()
    }
}
