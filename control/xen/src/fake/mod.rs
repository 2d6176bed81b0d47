//! A hypervisor in memory, for host tests of what is built on this crate.
//!
//! It keeps the rules that matter to its callers: a domain's memory is bounded and its own, page tables are validated
//! when they are pinned, grants are read from the table that was filled, and a domain whose memory is mapped somewhere
//! lingers. Nothing runs in its domains: a test plays the guest with [`Fake::write`] and its like. Any step can be made
//! to fail ([`Fake::fail_at`]), and what is left afterwards can be asked for ([`Fake::leftovers`]).

mod accounts;
mod control;
mod cpu;
mod events;
mod tables;

use crate::{
    Access, CpuTerms, DomId, Error, Mapping, NewDomain, PAGE, Port, Result, ShutdownReason, sys,
};
use events::Ports;
use guest_abi::context::VcpuGuestContext;
use guest_abi::memory::E820Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The hypervisor. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    memory: Arc<File>,
}

/// A domain as the fake keeps it; public so that tests can look.
#[derive(Clone, Debug)]
pub struct FakeDomain {
    /// What it was created with.
    pub new: NewDomain,
    /// vCPUs made.
    pub vcpus: u32,
    /// Pages it may have.
    pub max_pages: u64,
    /// Its frames, by page.
    pub frames: BTreeMap<u64, u64>,
    /// The memory map it is told.
    pub memory_map: Vec<E820Entry>,
    /// The frame of its shared info.
    pub shared_info: u64,
    /// The frames of its grant table.
    pub grant_table: Vec<u64>,
    /// Roots that are pinned.
    pub pinned: BTreeSet<u64>,
    /// Frames that were filled with hypercall stubs.
    pub hypercall_pages: Vec<u64>,
    /// States that were set, by vCPU.
    pub contexts: BTreeMap<u32, Box<VcpuGuestContext>>,
    /// How often it is paused.
    pub pauses: u32,
    /// Whether and why it shut down.
    pub shutdown: Option<ShutdownReason>,
    /// It is destroyed but somebody maps its memory.
    pub dying: bool,
    /// Mappings of its memory.
    pub mappings: usize,
    /// The CPU time that each of its vCPUs has reserved.
    pub cpu_terms: Option<CpuTerms>,
    /// What it may reserve for itself: nanoseconds of each second, and the largest weight.
    pub cpu_allowed: (u64, u16),
}

#[derive(Debug)]
struct State {
    total: u64,
    free: BTreeSet<u64>,
    promised: u64,
    large_extents: bool,
    next: DomId,
    domains: BTreeMap<DomId, FakeDomain>,
    ports: Ports,
    steps: u64,
    fail_at: Option<(u64, i32)>,
    messages: Vec<u8>,
    /// What can be reserved of the CPU, in nanoseconds of each second; nothing keeps reservations if there is none.
    cpu_capacity: Option<u64>,
    /// Nanoseconds.
    quantum: u64,
    accounts: accounts::Kept,
}

impl Fake {
    /// A machine with `frames` frames of memory, all free.
    ///
    /// # Panics
    /// If this machine has no such memory.
    pub fn new(frames: u64) -> Fake {
        let memory = sys::memory_file(frames * PAGE as u64).expect("memory for the fake machine");
        Fake {
            state: Arc::new(Mutex::new(State {
                total: frames,
                free: (0..frames).collect(),
                promised: 0,
                large_extents: true,
                next: 1,
                domains: BTreeMap::new(),
                ports: Ports::default(),
                steps: 0,
                fail_at: None,
                messages: b"(XEN) a fake\n".to_vec(),
                cpu_capacity: None,
                quantum: cpu::QUANTUM,
                accounts: accounts::Kept::default(),
            })),
            memory: Arc::new(memory),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the step with this number, counted from 0 on from now, fail with an error number. Destroying never fails
    /// and is not counted.
    pub fn fail_at(&self, step: u64, errno: i32) {
        let mut state = self.state();
        state.steps = 0;
        state.fail_at = Some((step, errno));
    }

    /// No step fails from now on. Returns how many there were since [`Fake::fail_at`] or the start.
    pub fn fail_no_more(&self) -> u64 {
        let mut state = self.state();
        state.fail_at = None;
        std::mem::take(&mut state.steps)
    }

    /// Whether there are extents of more than one page. Without them frames come in falling order, too.
    pub fn set_large_extents(&self, there: bool) {
        self.state().large_extents = there;
    }

    /// Lets the machine say that it has so many more free frames than it has: somebody else takes them meanwhile.
    pub fn promise(&self, frames: u64) {
        self.state().promised = frames;
    }

    /// Lets CPU time be reserved: so many nanoseconds of each second. At the start none can be.
    pub fn keep_reservations(&self, capacity_ns: u64) {
        self.state().cpu_capacity = Some(capacity_ns);
    }

    /// What is not as it was at the start, in words; nothing if all was given back.
    pub fn leftovers(&self) -> Vec<String> {
        let state = self.state();
        let mut left: Vec<String> = state
            .domains
            .iter()
            .map(|(id, domain)| format!("domain {id} with {} mappings", domain.mappings))
            .collect();
        if state.free.len() as u64 != state.total {
            let missing = state.total - state.free.len() as u64;
            left.push(format!("{missing} frames are not free"));
        }
        left.extend(state.ports.leftovers());
        left
    }

    /// Looks at a domain.
    pub fn look(&self, domain: DomId) -> Option<FakeDomain> {
        self.state().domains.get(&domain).cloned()
    }

    /// Reads from a page of a domain. Plays the guest.
    ///
    /// # Panics
    /// If the domain has no such page.
    pub fn read(&self, domain: DomId, page: u64, offset: usize, to: &mut [u8]) {
        let frame = self.look(domain).and_then(|d| d.frames.get(&page).copied());
        self.read_frame(frame.expect("the domain has this page"), offset, to);
    }

    /// Writes to a page of a domain. Plays the guest.
    ///
    /// # Panics
    /// If the domain has no such page.
    pub fn write(&self, domain: DomId, page: u64, offset: usize, from: &[u8]) {
        let frame = self.look(domain).and_then(|d| d.frames.get(&page).copied());
        let frame = frame.expect("the domain has this page");
        self.write_frame(frame, offset, from);
    }

    /// Reads a frame.
    ///
    /// # Panics
    /// Beyond the machine's memory.
    pub fn read_frame(&self, frame: u64, offset: usize, to: &mut [u8]) {
        let at = frame * PAGE as u64 + offset as u64;
        self.memory.read_exact_at(to, at).expect("a frame there is");
    }

    /// Writes a frame.
    ///
    /// # Panics
    /// Beyond the machine's memory.
    pub fn write_frame(&self, frame: u64, offset: usize, from: &[u8]) {
        let at = frame * PAGE as u64 + offset as u64;
        self.memory
            .write_all_at(from, at)
            .expect("a frame there is");
    }

    /// Counts a step, which may have to fail.
    fn step(&self, doing: &'static str, domain: Option<DomId>) -> Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let step = state.steps;
        state.steps += 1;
        match state.fail_at {
            Some((at, errno)) if at == step => Err(Error::refused(doing, domain, errno)),
            _ => Ok(state),
        }
    }

    /// Counts a step about a domain that must be there.
    fn step_of(&self, doing: &'static str, domain: DomId) -> Result<MutexGuard<'_, State>> {
        let state = self.step(doing, Some(domain))?;
        match state.domains.get(&domain) {
            Some(found) if !found.dying => Ok(state),
            _ => Err(Error::refused(doing, Some(domain), libc::ESRCH)),
        }
    }

    /// Maps frames of a domain and counts that.
    fn map(
        &self,
        mut state: MutexGuard<'_, State>,
        doing: &'static str,
        domain: DomId,
        frames: &[u64],
        access: Access,
    ) -> Result<Mapping> {
        let writable = access == Access::Write;
        let base = sys::map_pages(&self.memory, frames, writable)
            .map_err(|e| Error::refused(doing, Some(domain), e.raw_os_error().unwrap_or(5)))?;
        if let Some(domain) = state.domains.get_mut(&domain) {
            domain.mappings += 1;
        }
        let held = Held {
            fake: self.clone(),
            domain,
        };
        // SAFETY: just mapped, and nobody else knows of it.
        Ok(unsafe { Mapping::new(base, frames.len() * PAGE, writable, Some(Box::new(held))) })
    }
}

impl State {
    fn of(&mut self, domain: DomId) -> &mut FakeDomain {
        self.domains
            .get_mut(&domain)
            .expect("the step looked whether it is there")
    }

    /// Takes `1 << order` frames in a row, aligned.
    fn take(&mut self, order: u32) -> Option<u64> {
        let len = 1u64 << order;
        let found = match (order, self.large_extents) {
            (0, true) => self.free.first().copied(),
            (0, false) => self.free.last().copied(),
            (_, false) => None,
            (_, true) => (0..self.total / len)
                .map(|n| n * len)
                .find(|first| (*first..first + len).all(|frame| self.free.contains(&frame))),
        }?;
        for frame in found..found + len {
            self.free.remove(&frame);
        }
        Some(found)
    }

    /// Ends a dying domain whose memory nobody maps.
    fn reap(&mut self, id: DomId) -> Option<FakeDomain> {
        let is_over = |domain: &FakeDomain| domain.dying && domain.mappings == 0;
        if !self.domains.get(&id).is_some_and(is_over) {
            return None;
        }
        let domain = self.domains.remove(&id)?;
        self.free.extend(domain.frames.values());
        self.free.extend(&domain.grant_table);
        self.free.insert(domain.shared_info);
        self.accounts.end(id, &domain);
        Some(domain)
    }
}

/// A mapping that the hypervisor counts.
struct Held {
    fake: Fake,
    domain: DomId,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.fake.state();
        if let Some(domain) = state.domains.get_mut(&self.domain) {
            domain.mappings -= 1;
        }
        if let Some(gone) = state.reap(self.domain) {
            drop(state);
            self.fake.clear(&gone);
            self.fake.dom_exc();
        }
    }
}

impl Fake {
    /// Memory that comes back is zero for the next.
    fn clear(&self, domain: &FakeDomain) {
        let frames = domain.frames.values().chain(&domain.grant_table);
        for frame in frames.chain([&domain.shared_info]) {
            self.write_frame(*frame, 0, &[0; PAGE]);
        }
    }

    /// Tells the control domain that a domain stopped or went.
    fn dom_exc(&self) {
        self.state()
            .ports
            .raise_virq(guest_abi::event::Virq::DomExc);
    }

    /// The event that a guest raises through one of its ports. Plays the guest.
    ///
    /// # Panics
    /// If the port is connected to nothing.
    pub fn notify(&self, domain: DomId, port: Port) {
        let raised = self.state().ports.raise_from(domain, port);
        assert!(raised, "port {port} of domain {domain} leads nowhere");
    }

    /// How often the control domain notified a domain's port since it was last asked.
    pub fn take_notified(&self, domain: DomId, port: Port) -> u64 {
        self.state().ports.take_notified(domain, port)
    }
}
