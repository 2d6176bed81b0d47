//! A guest's end of a disk: a ring of one page that is lent to the control domain, and one request at a time in it.
//!
//! What is in a request is the caller's, right or wrong; nothing is checked here. Grants are not kept mapped by the other
//! end (no `feature-persistent`), so that each request shows what the other end makes of its own.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_runtime::abi::blkif::{
    BLKIF_RING_SLOTS, BlkifRequest, BlkifResponse, BlkifSring, VDISK_READONLY,
};
use guest_runtime::abi::{Wire, xenstore::XenbusState};
use guest_runtime::frames::{self, Page};
use guest_runtime::{child, events, hypercall};

use crate::{channels, lending, store};

/// The domain with the other end.
const BACK_END: u16 = 0;

/// Bytes of a slot.
const SLOT: usize = <BlkifRequest as Wire>::SIZE;

/// How long an answer may take, on however busy a machine.
const PATIENCE_NS: u64 = 60_000_000_000;

/// Between two looks at the other end's state.
const LOOK_NS: u64 = 5_000_000;

/// A path below a device's node, built in place.
struct Path {
    bytes: [u8; 96],
    used: usize,
}

impl Path {
    fn new(parts: &[&str]) -> Self {
        let mut path = Self {
            bytes: [0; 96],
            used: 0,
        };
        for byte in parts.iter().flat_map(|part| part.bytes()) {
            path.bytes[path.used] = byte;
            path.used += 1;
        }
        path
    }

    fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.used]).unwrap_or("")
    }
}

/// A disk that is connected.
pub struct Disk {
    ring: Page,
    port: u32,
    asked: u32,
    answered: u32,
    back: Path,
    /// Its size in sectors, as the other end says.
    pub sectors: u64,
    /// Whether the other end says that it may only be read.
    pub read_only: bool,
}

impl Disk {
    /// Connects a disk, given by its number in digits, through these entries of the grant table.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn connect(number: &str, gref: u32) -> Result<Self, &'static str> {
        let front = |name: &str| Path::new(&["device/vbd/", number, name]);
        let back = store::read(front("/backend").text());
        if back.is_error() {
            return Err("there is no such disk");
        }
        let back = Path::new(&[back.text()]);
        await_state(&back, XenbusState::InitWait)?;
        let ring = frames::allocate();
        let disk = Self {
            ring,
            port: channels::alloc_unbound(u64::from(BACK_END)).map_err(|_| "there is no port")?,
            asked: 0,
            answered: 0,
            back,
            sectors: 0,
            read_only: false,
        };
        disk.index(offset_of!(BlkifSring, req_event))
            .store(1, Ordering::SeqCst);
        disk.index(offset_of!(BlkifSring, rsp_event))
            .store(1, Ordering::SeqCst);
        lending::lend(gref, BACK_END, ring.mfn(), false);
        let told = [
            store::write_number(front("/ring-ref").text(), gref),
            store::write_number(front("/event-channel").text(), disk.port),
            store::write(front("/protocol").text(), "x86_64-abi"),
            store::write_number(front("/state").text(), XenbusState::Initialised.number()),
        ];
        if told.iter().any(store::Answer::is_error) {
            return Err("the front end's own nodes cannot be written");
        }
        await_state(&disk.back, XenbusState::Connected)?;
        let connected = XenbusState::Connected.number();
        store::write_number(front("/state").text(), connected);
        let said = |name: &str| {
            let answer = store::read(disk.node(name).text());
            answer
                .number()
                .ok_or("the back end does not say what the disk is")
        };
        let (sectors, info) = (said("/sectors")?, said("/info")?);
        Ok(Self {
            sectors,
            read_only: info & u64::from(VDISK_READONLY) != 0,
            ..disk
        })
    }

    fn node(&self, name: &str) -> Path {
        Path::new(&[self.back.text(), name])
    }

    /// Tries to write a node of the other end's: what the store says to that.
    pub fn write_back_end(&self, name: &str, value: &str) -> store::Answer {
        store::write(self.node(name).text(), value)
    }

    /// Tries to remove a node of the other end's.
    pub fn remove_back_end(&self, name: &str) -> store::Answer {
        store::remove(self.node(name).text())
    }

    fn index(&self, offset: usize) -> &'static AtomicU32 {
        // SAFETY: the page is the ring's for good; the other end changes it like another thread would.
        unsafe { AtomicU32::from_ptr((self.ring.va() as *mut u32).byte_add(offset)) }
    }

    /// The word of the page where a slot begins.
    fn slot(at: u32) -> usize {
        (size_of::<BlkifSring>() + SLOT * (at % BLKIF_RING_SLOTS) as usize) / 8
    }

    /// Puts words into the slot of a request.
    fn fill(&self, at: u32, words: &[u64; SLOT / 8]) {
        for (word, value) in words.iter().enumerate() {
            self.ring.write(Self::slot(at) + word, *value);
        }
    }

    /// Asks, and waits for the answer; none if there is none in time.
    pub fn ask(&mut self, request: &impl Wire) -> Option<BlkifResponse> {
        self.fill(self.asked, &words(request));
        self.asked = self.asked.wrapping_add(1);
        self.publish(self.asked);
        self.answer(PATIENCE_NS)
    }

    /// Asks, and has the request changed as soon as the other end may look at it.
    pub fn ask_and_change(
        &mut self,
        request: &impl Wire,
        changed: &impl Wire,
    ) -> Option<BlkifResponse> {
        let (at, changed) = (self.asked, words(changed));
        self.fill(at, &words(request));
        self.asked = self.asked.wrapping_add(1);
        self.publish(self.asked);
        self.fill(at, &changed);
        self.answer(PATIENCE_NS)
    }

    /// Says that there are requests up to an index of the caller's choice.
    pub fn publish(&self, index: u32) {
        self.index(offset_of!(BlkifSring, req_prod))
            .store(index, Ordering::SeqCst);
        hypercall::send(self.port);
    }

    /// An index further ahead than the ring has slots.
    pub fn beyond(&self) -> u32 {
        self.asked.wrapping_add(BLKIF_RING_SLOTS + 1)
    }

    /// The next answer, if it comes in time.
    pub fn answer(&mut self, limit_ns: u64) -> Option<BlkifResponse> {
        let written = self.index(offset_of!(BlkifSring, rsp_prod));
        self.index(offset_of!(BlkifSring, rsp_event))
            .store(self.answered.wrapping_add(1), Ordering::SeqCst);
        let deadline = events::now_ns() + limit_ns;
        while written.load(Ordering::SeqCst) == self.answered {
            if events::now_ns() >= deadline {
                return None;
            }
            events::clear_port(self.port);
            if written.load(Ordering::SeqCst) == self.answered {
                child::wait(&[self.port], deadline);
            }
        }
        let slot = Self::slot(self.answered);
        self.answered = self.answered.wrapping_add(1);
        let mut bytes = [0; 16];
        for (word, chunk) in bytes.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.ring.read(slot + word).to_le_bytes());
        }
        BlkifResponse::read_from(&bytes)
    }
}

/// A request as a slot holds it.
fn words(request: &impl Wire) -> [u64; SLOT / 8] {
    let (mut bytes, mut words) = ([0; SLOT], [0; SLOT / 8]);
    let fits = request.write_to(&mut bytes);
    assert!(fits.is_some(), "a request is larger than a slot");
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::read_from(chunk).unwrap_or_default();
    }
    words
}

/// Waits for the other end to come to a state.
fn await_state(back: &Path, state: XenbusState) -> Result<(), &'static str> {
    let deadline = events::now_ns() + PATIENCE_NS;
    let path = Path::new(&[back.text(), "/state"]);
    while store::read(path.text()).number() != Some(u64::from(state.number())) {
        if events::now_ns() >= deadline {
            return Err("the back end does not come to the state that is waited for");
        }
        child::wait(&[], events::now_ns() + LOOK_NS);
    }
    Ok(())
}
