//! A machine with a daemon that can be ended and started again.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use guest_abi::Wire;
use guest_abi::grant::{GTF_PERMIT_ACCESS, GrantEntryV1};
use tokio::task::LocalSet;
use xen::fake::Fake;
use xen::{Access, DomId, Hypervisor, NewDomain, OwnStore, Port};
use xeno_api::{Error, Guest, Kind};

use super::mortal::{Fuse, Loops, Mortal, MortalDevices};
use crate::accounting::Place;
use crate::builders::Builder;
use crate::daemon::{Daemon, Parts};
use crate::ports;
use crate::state::StateDir;
use crate::uuid::Uuid;

/// Pages of guests here: their two rings.
const PAGES: u64 = 2;
/// Indexes of a console's page.
const OUT: usize = 0x400;
const OUT_CONS: usize = 0xc08;
const OUT_PROD: usize = 0xc0c;
/// The room for what a guest prints.
pub const RING_BYTES: u32 = 2048;

/// Builds domains that have rings and nothing else.
pub struct Rings(pub Mortal);

impl Builder for Rings {
    fn build(&self, guest: &Guest, handle: Uuid) -> Result<builder::Built, Error> {
        let refused = |error: xen::Error| Error::new(Kind::Hypervisor, error.to_string());
        let hypervisor = &self.0;
        let new = NewDomain::new(handle.0, guest.vcpus);
        let domain = hypervisor.create_domain(&new).map_err(refused)?;
        let built = || -> xen::Result<builder::Built> {
            hypervisor.set_max_vcpus(domain, guest.vcpus)?;
            hypervisor.set_max_pages(domain, PAGES)?;
            let mut frames = [0, 1];
            hypervisor.populate(domain, 0, &mut frames)?;
            let table = hypervisor.map_grant_table(domain, 1)?;
            for (reference, frame) in frames.iter().enumerate() {
                let entry = GrantEntryV1 {
                    flags: GTF_PERMIT_ACCESS,
                    domid: 0,
                    frame: *frame as u32,
                };
                let mut bytes = [0; GrantEntryV1::SIZE];
                entry.write_to(&mut bytes);
                table.write(reference * GrantEntryV1::SIZE, &bytes);
            }
            let ring = |reference: u32, port| builder::Ring {
                frame: frames[reference as usize],
                port,
                reference,
            };
            Ok(builder::Built {
                domain,
                console: ring(0, hypervisor.alloc_unbound(domain, 0)?),
                store: ring(1, hypervisor.alloc_unbound(domain, 0)?),
                entry: 0,
            })
        };
        built().map_err(|error| {
            let _tried = hypervisor.destroy(domain);
            refused(error)
        })
    }
}

/// The machine.
pub struct World {
    pub fake: Fake,
    pub fuse: Fuse,
    pub loops: Loops,
    pub dir: PathBuf,
    /// Bytes of the usage record that are kept.
    pub keep: Cell<Option<u64>>,
    /// Stands for the control domain's own memory.
    own: DomId,
    /// What is not free although no guest is there.
    baseline: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.dir);
    }
}

impl World {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("xenod-world-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("kernel"), b"a kernel").unwrap();
        for disk in ["a.img", "b.img"] {
            std::fs::write(dir.join(disk), [0; 4096]).unwrap();
        }
        let fake = Fake::new(256);
        let own = fake.create_domain(&NewDomain::new([0; 16], 1)).unwrap();
        fake.set_max_pages(own, 1).unwrap();
        fake.populate(own, 0, &mut [0]).unwrap();
        let mut world = Self {
            fake,
            fuse: Fuse::endless(),
            loops: Loops::default(),
            dir,
            keep: Cell::new(None),
            own,
            baseline: Vec::new(),
        };
        world.baseline = world.fake.leftovers();
        world
    }

    /// Runs `story` with a daemon, and kills the daemon when the story or the fuse is at its end. `None` if the fuse
    /// was first.
    pub fn run<T, F: Future<Output = T>>(&self, story: impl FnOnce(Rc<Daemon>) -> F) -> Option<T> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let local = LocalSet::new();
        let living = local.block_on(&runtime, async {
            CatchUnwind(Box::pin(async {
                let daemon = self.start();
                tokio::task::spawn_local(ports::serve(Rc::clone(&daemon)));
                tokio::select! {
                    biased;
                    () = burnt(&self.fuse) => None,
                    told = story(daemon) => Some(told),
                }
            }))
            .await
        });
        drop(local);
        runtime.shutdown_timeout(Duration::from_secs(5));
        match living {
            _ if self.fuse.is_out() => None,
            Ok(told) => told,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// Where the usage record is.
    pub fn ledger(&self) -> Place {
        Place {
            dir: self.dir.join("ledger"),
            key: self.dir.join("ledger.key"),
            interval: Duration::from_secs(3600),
            keep: self.keep.get(),
            boot: "one boot".to_owned(),
        }
    }

    fn start(&self) -> Rc<Daemon> {
        let mortal = Mortal {
            fake: self.fake.clone(),
            fuse: self.fuse.clone(),
        };
        let frame = *self.fake.look(self.own).unwrap().frames.get(&0).unwrap();
        let own_store = OwnStore {
            ring: self
                .fake
                .map_frames(self.own, &[frame], Access::Write)
                .unwrap(),
            port: 1,
        };
        let mut state = StateDir::open(&self.dir.join("state"), "one boot").unwrap();
        let fuse = self.fuse.clone();
        state.before_each_write(move || fuse.burn());
        let parts = Parts {
            channels: Arc::from(mortal.event_channels().unwrap()),
            own_store,
            builder: Arc::new(Rings(mortal.clone())),
            devices: Arc::new(MortalDevices {
                loops: self.loops.clone(),
                fuse: self.fuse.clone(),
            }),
            hypervisor: Arc::new(mortal),
            ledger: self.ledger(),
        };
        Daemon::start(state, parts).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A description of a guest with this disk, if it has one.
    pub fn guest(&self, name: &str, disk: Option<&str>) -> Guest {
        let disks = disk.map_or(String::new(), |disk| {
            format!("disks = [{{ file = \"{disk}\" }}]")
        });
        let text = format!("name = \"{name}\"\nkernel = \"kernel\"\nmemory = \"64M\"\n{disks}");
        Guest::from_toml(&text, name, &self.dir).unwrap()
    }

    /// What is left although it should not be.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = self.fake.leftovers();
        left.retain(|one| !self.baseline.contains(one));
        let loops = self.loops.0.lock().unwrap();
        left.extend(loops.iter().map(|attached| format!("{attached:?}")));
        for dir in ["guests", "consoles"] {
            for entry in std::fs::read_dir(self.dir.join("state").join(dir))
                .into_iter()
                .flatten()
            {
                left.push(entry.unwrap().path().display().to_string());
            }
        }
        left
    }

    /// The guest fills its console's ring, whatever was in it. Plays a guest that floods it.
    pub fn flood(&self, domain: DomId, port: Port) {
        let mut word = [0; 4];
        self.fake.read(domain, 0, OUT_CONS, &mut word);
        let prod = u32::from_le_bytes(word).wrapping_add(RING_BYTES);
        self.fake.write(domain, 0, OUT_PROD, &prod.to_le_bytes());
        self.fake.notify(domain, port);
    }

    /// The guest prints something on its console. Plays the guest.
    pub fn print(&self, domain: DomId, port: Port, text: &str) {
        let mut word = [0; 4];
        self.fake.read(domain, 0, OUT_PROD, &mut word);
        let mut prod = u32::from_le_bytes(word);
        for byte in text.bytes() {
            self.fake
                .write(domain, 0, OUT + (prod % 2048) as usize, &[byte]);
            prod = prod.wrapping_add(1);
        }
        self.fake.write(domain, 0, OUT_PROD, &prod.to_le_bytes());
        self.fake.notify(domain, port);
    }
}

/// A future whose panic is its outcome.
struct CatchUnwind<F>(Pin<Box<F>>);

impl<F: Future> Future for CatchUnwind<F> {
    type Output = std::thread::Result<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.0.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

async fn burnt(fuse: &Fuse) {
    while !fuse.is_out() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}
