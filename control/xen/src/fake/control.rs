//! The operations of the fake hypervisor.

use super::events::FakeEvents;
use super::{Fake, FakeDomain};
use crate::{
    Access, CpuAnswer, CpuReserved, CpuRules, CpuTerms, DomId, DomainInfo, Error, EventChannels,
    Hypervisor, MachineInfo, Mapping, NewDomain, PAGE, Port, Result, ShutdownReason, VcpuInfo,
    reserve,
};
use guest_abi::Wire;
use guest_abi::context::{VcpuGuestContext, xen_cr3_to_pfn};
use guest_abi::grant::{GTF_PERMIT_ACCESS, GTF_READONLY, GTF_TYPE_MASK, GrantEntryV1};
use guest_abi::memory::E820Entry;
use std::collections::{BTreeMap, BTreeSet};

const MAX_VCPUS: u32 = 64;

impl Hypervisor for Fake {
    fn machine(&self) -> Result<MachineInfo> {
        let state = self.step("describe the machine", None)?;
        Ok(MachineInfo {
            cpus: 1,
            cpu_khz: 1_000_000,
            total_pages: state.total,
            free_pages: state.free.len() as u64 + state.promised,
            scrub_pages: 0,
            outstanding_pages: 0,
            threads_per_core: 1,
            cores_per_socket: 1,
            runs_pv: true,
        })
    }

    fn messages(&self, clear: bool) -> Result<Vec<u8>> {
        let mut state = self.step("read the hypervisor's messages", None)?;
        let messages = state.messages.clone();
        if clear {
            state.messages.clear();
        }
        Ok(messages)
    }

    fn create_domain(&self, new: &NewDomain) -> Result<DomId> {
        let doing = "create a domain";
        let mut state = self.step(doing, None)?;
        if !(1..=MAX_VCPUS).contains(&new.max_vcpus) {
            return Err(Error::refused(doing, None, libc::EINVAL));
        }
        let no_memory = Error::refused(doing, None, libc::ENOMEM);
        if state.free.len() < 2 {
            return Err(no_memory);
        }
        let (Some(shared_info), Some(grants)) = (state.take(0), state.take(0)) else {
            return Err(no_memory);
        };
        let id = state.next;
        state.next += 1;
        let domain = FakeDomain {
            new: *new,
            vcpus: 0,
            max_pages: 0,
            frames: BTreeMap::new(),
            memory_map: Vec::new(),
            shared_info,
            grant_table: vec![grants],
            pinned: BTreeSet::new(),
            hypercall_pages: Vec::new(),
            contexts: BTreeMap::new(),
            pauses: 1,
            shutdown: None,
            dying: false,
            mappings: 0,
            cpu_terms: None,
            cpu_allowed: (0, 0),
        };
        state.domains.insert(id, domain);
        Ok(id)
    }

    fn set_max_vcpus(&self, domain: DomId, vcpus: u32) -> Result<()> {
        let doing = "make vCPUs";
        let mut state = self.step_of(doing, domain)?;
        let found = state.of(domain);
        if vcpus != found.new.max_vcpus {
            return Err(Error::refused(doing, Some(domain), libc::EINVAL));
        }
        found.vcpus = vcpus;
        Ok(())
    }

    fn set_max_pages(&self, domain: DomId, pages: u64) -> Result<()> {
        let mut state = self.step_of("set the memory it may have", domain)?;
        state.of(domain).max_pages = pages;
        Ok(())
    }

    fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()> {
        let mut state = self.step_of("set its memory map", domain)?;
        state.of(domain).memory_map = map.to_vec();
        Ok(())
    }

    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>> {
        let state = self.step("describe it", Some(domain))?;
        Ok(state.domains.get(&domain).map(|found| info(domain, found)))
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        let state = self.step("list the domains", None)?;
        let all = state.domains.iter();
        Ok(all.map(|(id, domain)| info(*id, domain)).collect())
    }

    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>> {
        let mut state = self.step_of("describe a vCPU", domain)?;
        let found = state.of(domain);
        Ok((vcpu < found.vcpus).then(|| VcpuInfo {
            online: found.contexts.contains_key(&vcpu),
            blocked: true,
            running: false,
            cpu_time_ns: 0,
            cpu: 0,
        }))
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        let mut state = self.step_of("pause it", domain)?;
        state.of(domain).pauses += 1;
        Ok(())
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        let doing = "let it run";
        let mut state = self.step_of(doing, domain)?;
        let found = state.of(domain);
        match found.pauses.checked_sub(1) {
            Some(left) => found.pauses = left,
            None => return Err(Error::refused(doing, Some(domain), libc::EINVAL)),
        }
        Ok(())
    }

    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        let mut state = self.step_of("shut it down", domain)?;
        state.of(domain).shutdown = Some(reason);
        drop(state);
        self.dom_exc();
        Ok(())
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        let mut state = self.state();
        let Some(found) = state.domains.get_mut(&domain) else {
            return Err(Error::refused("destroy it", Some(domain), libc::ESRCH));
        };
        found.dying = true;
        state.ports.close_all(domain);
        let gone = state.reap(domain);
        drop(state);
        if let Some(gone) = gone {
            self.clear(&gone);
        }
        self.dom_exc();
        Ok(())
    }

    fn populate(&self, domain: DomId, order: u32, frames: &mut [u64]) -> Result<usize> {
        let mut state = self.step_of("give it memory", domain)?;
        for (done, frame) in frames.iter_mut().enumerate() {
            let len = 1 << order;
            let found = state.of(domain);
            if found.frames.len() as u64 + len > found.max_pages {
                return Ok(done);
            }
            let Some(first) = state.take(order) else {
                return Ok(done);
            };
            let found = state.of(domain);
            found
                .frames
                .extend((0..len).map(|i| (*frame + i, first + i)));
            *frame = first;
        }
        Ok(frames.len())
    }

    fn map_frames(&self, domain: DomId, frames: &[u64], access: Access) -> Result<Mapping> {
        let doing = "map memory";
        let mut state = self.step_of(doing, domain)?;
        let found = state.of(domain);
        let owned: BTreeSet<u64> = found.frames.values().copied().collect();
        let is_its = |frame: &u64| owned.contains(frame) || *frame == found.shared_info;
        if frames.is_empty() || !frames.iter().all(is_its) {
            return Err(Error::refused(doing, Some(domain), libc::EINVAL));
        }
        self.map(state, doing, domain, frames, access)
    }

    fn map_grant_table(&self, domain: DomId, frames: u32) -> Result<Mapping> {
        let doing = "map its grant table";
        let mut state = self.step_of(doing, domain)?;
        let frames = state
            .of(domain)
            .grant_table
            .get(..frames as usize)
            .ok_or_else(|| Error::refused(doing, Some(domain), libc::EINVAL))?
            .to_vec();
        self.map(state, doing, domain, &frames, Access::Write)
    }

    fn map_grants(&self, domain: DomId, references: &[u32], access: Access) -> Result<Mapping> {
        let doing = "map what is granted to us";
        let mut state = self.step_of(doing, domain)?;
        let table = state.of(domain).grant_table[0];
        let mut frames = Vec::new();
        for reference in references {
            let mut bytes = [0; GrantEntryV1::SIZE];
            let at = *reference as usize * GrantEntryV1::SIZE;
            let entry = (at + GrantEntryV1::SIZE <= PAGE).then(|| {
                self.read_frame(table, at, &mut bytes);
                GrantEntryV1::read_from(&bytes)
            });
            let granted = entry.flatten().filter(|entry| {
                entry.flags & GTF_TYPE_MASK == GTF_PERMIT_ACCESS
                    && entry.domid == 0
                    && (access == Access::Read || entry.flags & GTF_READONLY == 0)
            });
            match granted {
                Some(entry) => frames.push(u64::from(entry.frame)),
                None => return Err(Error::refused(doing, Some(domain), libc::EINVAL)),
            }
        }
        self.map(state, doing, domain, &frames, access)
    }

    fn pin_root(&self, domain: DomId, frame: u64) -> Result<()> {
        let doing = "validate its page tables";
        let mut state = self.step_of(doing, domain)?;
        let found = state.of(domain);
        if found.mappings != 0 || !self.is_valid_tree(found, frame) {
            return Err(Error::refused(doing, Some(domain), libc::EINVAL));
        }
        found.pinned.insert(frame);
        Ok(())
    }

    fn fill_hypercall_page(&self, domain: DomId, frame: u64) -> Result<()> {
        let doing = "fill its hypercall page";
        let mut state = self.step_of(doing, domain)?;
        let found = state.of(domain);
        if !found.frames.values().any(|own| *own == frame) {
            return Err(Error::refused(doing, Some(domain), libc::EACCES));
        }
        found.hypercall_pages.push(frame);
        self.write_frame(frame, 0, &[0xcc; PAGE]);
        Ok(())
    }

    fn set_vcpu_context(&self, domain: DomId, vcpu: u32, context: &VcpuGuestContext) -> Result<()> {
        let doing = "set a vCPU's state";
        let mut state = self.step_of(doing, domain)?;
        let found = state.of(domain);
        let root = xen_cr3_to_pfn(context.ctrlreg[3]);
        if vcpu >= found.vcpus || !found.pinned.contains(&root) {
            return Err(Error::refused(doing, Some(domain), libc::EINVAL));
        }
        found.contexts.insert(vcpu, Box::new(*context));
        Ok(())
    }

    fn set_cpu_terms(&self, domain: DomId, terms: CpuTerms) -> Result<CpuAnswer> {
        let mut state = self.step_of(reserve::SETTING, domain)?;
        state.set_cpu_terms(domain, terms)
    }

    fn allow_cpu(&self, domain: DomId, rate: u64, weight: u16) -> Result<()> {
        let mut state = self.step_of(reserve::ALLOWING, domain)?;
        state.allow_cpu(domain, rate, weight)
    }

    fn cpu_terms(&self, domain: DomId) -> Result<CpuReserved> {
        let mut state = self.step_of(reserve::GETTING, domain)?;
        state.cpu_terms(domain)
    }

    fn cpu_rules(&self, quantum: Option<u64>) -> Result<CpuRules> {
        self.step(reserve::RULING, None)?.cpu_rules(quantum)
    }

    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port> {
        let mut state = self.step_of("make a port of its", domain)?;
        Ok(state.ports.alloc(domain, remote))
    }

    fn event_channels(&self) -> Result<Box<dyn EventChannels>> {
        Ok(Box::new(FakeEvents::open(self)?))
    }
}

fn info(id: DomId, domain: &FakeDomain) -> DomainInfo {
    DomainInfo {
        domain: id,
        handle: domain.new.handle,
        dying: domain.dying,
        paused: domain.pauses > 0,
        blocked: true,
        running: false,
        shutdown: domain.shutdown,
        pages: domain.frames.len() as u64,
        max_pages: domain.max_pages,
        shared_info_frame: domain.shared_info,
        cpu_time_ns: 0,
        online_vcpus: domain.contexts.len() as u32,
        max_vcpu_id: domain.vcpus.checked_sub(1),
    }
}
