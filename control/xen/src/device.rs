//! The hypervisor behind the stock kernel's devices.

use crate::buffer::{Buffer, LIST};
use crate::evtchn::Evtchn;
use crate::grants::Grants;
use crate::privcmd::Privcmd;
use crate::{
    Access, Cause, CpuAnswer, CpuReserved, CpuRules, CpuTerms, DomId, DomainInfo, Error,
    EventChannels, Hypervisor, MachineInfo, Mapping, NewDomain, Port, Result, ShutdownReason,
    VcpuInfo, describe, reserve,
};
use guest_abi::context::VcpuGuestContext;
use guest_abi::domctl::{self, Domctl, DomctlCommand};
use guest_abi::event::{AllocUnbound, EventChannelOp};
use guest_abi::memory::{
    E820Entry, MemoryOp, XENMEM_RESOURCE_GRANT_TABLE, XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
    XenForeignMemoryMap, XenMemoryMap, XenMemoryReservation,
};
use guest_abi::mmu::{MmuextCommand, MmuextOp};
use guest_abi::sched::{RemoteShutdown, SchedOp};
use guest_abi::sysctl::{self, Sysctl, SysctlCommand};
use guest_abi::{Errno, Hypercall, Wire};
use std::sync::OnceLock;

/// Domains told of at a time.
const INFOS: usize = 64;
/// Bytes of the hypervisor's messages read at a time.
const MESSAGES: usize = 8192;

/// The hypervisor that the control domain runs on.
#[derive(Debug)]
pub struct Xen {
    pub(crate) privcmd: Privcmd,
    /// Opened when it is first needed.
    grants: OnceLock<Grants>,
}

impl Xen {
    /// Opens the devices.
    ///
    /// # Errors
    /// When `/dev/xen/privcmd` is not there: not on a hypervisor, or without the module `xen-privcmd`.
    pub fn open() -> Result<Xen> {
        Ok(Xen {
            privcmd: Privcmd::open()?,
            grants: OnceLock::new(),
        })
    }

    fn domctl(
        &self,
        doing: &'static str,
        command: DomctlCommand,
        domain: DomId,
        payload: &impl Wire,
    ) -> Result<Domctl> {
        let mut buffer = self.privcmd.buffers.take()?;
        let mut call = Domctl::new(command, domain);
        call.u
            .get_mut(..)
            .and_then(|bytes| payload.write_to(bytes))
            .ok_or_else(|| Error::new(doing, Some(domain), TOO_LONG))?;
        self.domctl_in(doing, &mut buffer, &call)
    }

    /// With other things in the same buffer.
    fn domctl_in(
        &self,
        doing: &'static str,
        buffer: &mut Buffer<'_>,
        call: &Domctl,
    ) -> Result<Domctl> {
        let place = buffer.put(call);
        // A new domain has no number yet.
        let new = call.cmd == DomctlCommand::Createdomain.number();
        let domain = (!new).then_some(call.domain);
        let arguments = [place.address, 0, 0, 0, 0];
        self.privcmd
            .call(doing, domain, Hypercall::Domctl, arguments)?;
        Ok(buffer.get(place))
    }

    fn sysctl_in(
        &self,
        doing: &'static str,
        buffer: &mut Buffer<'_>,
        call: &Sysctl,
    ) -> Result<Sysctl> {
        let place = buffer.put(call);
        let arguments = [place.address, 0, 0, 0, 0];
        self.privcmd
            .call(doing, None, Hypercall::Sysctl, arguments)?;
        Ok(buffer.get(place))
    }

    fn memory_op(
        &self,
        doing: &'static str,
        domain: DomId,
        op: MemoryOp,
        argument: u64,
    ) -> Result<i64> {
        let arguments = [u64::from(op.number()), argument, 0, 0, 0];
        self.privcmd
            .call(doing, Some(domain), Hypercall::MemoryOp, arguments)
    }

    fn grants(&self) -> Result<&Grants> {
        if let Some(grants) = self.grants.get() {
            return Ok(grants);
        }
        let opened = Grants::open()?;
        Ok(self.grants.get_or_init(|| opened))
    }
}

const TOO_LONG: Cause = Cause::Argument("its arguments are longer than the call has room for");

impl Hypervisor for Xen {
    fn machine(&self) -> Result<MachineInfo> {
        let mut buffer = self.privcmd.buffers.take()?;
        let call = Sysctl::new(SysctlCommand::Physinfo);
        let answer = self.sysctl_in("describe the machine", &mut buffer, &call)?;
        Ok(describe::machine(&answer.payload()))
    }

    fn messages(&self, clear: bool) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut index = 0;
        loop {
            let mut buffer = self.privcmd.buffers.take()?;
            let room = buffer.room(MESSAGES);
            let mut call = Sysctl::new(SysctlCommand::Readconsole);
            call.set_payload(&sysctl::Readconsole {
                // Each piece is forgotten as it is read: what is said meanwhile is not.
                clear: clear.into(),
                incremental: 1,
                index,
                buffer: room.address,
                count: MESSAGES as u32,
                ..sysctl::Readconsole::ZERO
            });
            let answer = self.sysctl_in("read the hypervisor's messages", &mut buffer, &call)?;
            let answer: sysctl::Readconsole = answer.payload();
            let got = (answer.count as usize).min(MESSAGES);
            if got == 0 {
                return Ok(text);
            }
            let mut bytes = vec![0; got];
            buffer.read(room, &mut bytes);
            text.extend(bytes);
            index = answer.index;
        }
    }

    fn create_domain(&self, new: &NewDomain) -> Result<DomId> {
        let frames = |frames| i32::try_from(frames).unwrap_or(i32::MAX);
        let payload = domctl::Createdomain {
            handle: new.handle,
            max_vcpus: new.max_vcpus,
            max_evtchn_port: new.max_port,
            max_grant_frames: frames(new.max_grant_frames),
            max_maptrack_frames: frames(new.max_maptrack_frames),
            grant_opts: 1,
            ..domctl::Createdomain::ZERO
        };
        // Number 0: one that is free.
        let doing = "create a domain";
        let answer = self.domctl(doing, DomctlCommand::Createdomain, 0, &payload)?;
        match answer.domain {
            0 => Err(Error::new(
                doing,
                None,
                Cause::Answer("it gave the new domain no number"),
            )),
            domain => Ok(domain),
        }
    }

    fn set_max_vcpus(&self, domain: DomId, vcpus: u32) -> Result<()> {
        let payload = domctl::MaxVcpus { max: vcpus };
        self.domctl("make vCPUs", DomctlCommand::MaxVcpus, domain, &payload)
            .map(drop)
    }

    fn set_max_pages(&self, domain: DomId, pages: u64) -> Result<()> {
        let payload = domctl::MaxMem {
            max_memkb: pages.saturating_mul(4),
        };
        let doing = "set the memory it may have";
        self.domctl(doing, DomctlCommand::MaxMem, domain, &payload)
            .map(drop)
    }

    fn set_memory_map(&self, domain: DomId, map: &[E820Entry]) -> Result<()> {
        const DOING: &str = "set its memory map";
        if map.len() > 128 {
            return Err(Error::new(DOING, Some(domain), TOO_LONG));
        }
        let mut buffer = self.privcmd.buffers.take()?;
        let entries = buffer.put_list(map);
        let argument = buffer.put(&XenForeignMemoryMap {
            domid: domain,
            map: XenMemoryMap {
                nr_entries: map.len() as u32,
                buffer: entries.address,
                ..XenMemoryMap::ZERO
            },
            ..XenForeignMemoryMap::ZERO
        });
        self.memory_op(DOING, domain, MemoryOp::SetMemoryMap, argument.address)
            .map(drop)
    }

    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>> {
        let doing = "describe it";
        let command = DomctlCommand::Getdomaininfo;
        match self.domctl(doing, command, domain, &[0u8; 0]) {
            Ok(answer) => {
                let info = describe::domain(&answer.payload());
                // Asked for one that is not there, the interface tells of the next.
                Ok((info.domain == domain).then_some(info))
            }
            Err(e) if e.is_no_domain() => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        let mut domains: Vec<DomainInfo> = Vec::new();
        loop {
            let first = domains.last().map_or(0, |last| last.domain + 1);
            let mut buffer = self.privcmd.buffers.take()?;
            let room = buffer.room(INFOS * domctl::Getdomaininfo::SIZE);
            let mut call = Sysctl::new(SysctlCommand::Getdomaininfolist);
            call.set_payload(&sysctl::Getdomaininfolist {
                first_domain: first,
                max_domains: INFOS as u32,
                buffer: room.address,
                ..sysctl::Getdomaininfolist::ZERO
            });
            let answer = self.sysctl_in("list the domains", &mut buffer, &call)?;
            let answer: sysctl::Getdomaininfolist = answer.payload();
            let got = (answer.num_domains as usize).min(INFOS);
            for i in 0..got {
                let info = buffer.get(room.at(i * domctl::Getdomaininfo::SIZE));
                domains.push(describe::domain(&info));
            }
            if got < INFOS {
                return Ok(domains);
            }
        }
    }

    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>> {
        let payload = domctl::Getvcpuinfo {
            vcpu,
            ..domctl::Getvcpuinfo::ZERO
        };
        let command = DomctlCommand::Getvcpuinfo;
        match self.domctl("describe a vCPU", command, domain, &payload) {
            Ok(answer) => Ok(Some(describe::vcpu(&answer.payload()))),
            Err(e) if matches!(e.errno(), Some(Errno::Inval | Errno::Srch)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn pause(&self, domain: DomId) -> Result<()> {
        self.domctl("pause it", DomctlCommand::Pausedomain, domain, &[0u8; 0])
            .map(drop)
    }

    fn unpause(&self, domain: DomId) -> Result<()> {
        let command = DomctlCommand::Unpausedomain;
        self.domctl("let it run", command, domain, &[0u8; 0])
            .map(drop)
    }

    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        let mut buffer = self.privcmd.buffers.take()?;
        let argument = buffer.put(&RemoteShutdown {
            domain_id: domain,
            reason: u32::from(reason.number()),
            ..RemoteShutdown::ZERO
        });
        let op = u64::from(SchedOp::RemoteShutdown.number());
        let arguments = [op, argument.address, 0, 0, 0];
        self.privcmd
            .call("shut it down", Some(domain), Hypercall::SchedOp, arguments)
            .map(drop)
    }

    fn destroy(&self, domain: DomId) -> Result<()> {
        loop {
            let command = DomctlCommand::Destroydomain;
            match self.domctl("destroy it", command, domain, &[0u8; 0]) {
                Ok(_) => return Ok(()),
                // It has a lot to give back, and does so in parts.
                Err(e) if e.errno() == Some(Errno::Again) => {}
                Err(e) if matches!(e.cause, Cause::Refused(libc::ERESTART)) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn populate(&self, domain: DomId, order: u32, frames: &mut [u64]) -> Result<usize> {
        let mut done = 0;
        for part in frames.chunks_mut(LIST) {
            let mut buffer = self.privcmd.buffers.take()?;
            let list = buffer.put_list(part);
            let argument = buffer.put(&XenMemoryReservation {
                extent_start: list.address,
                nr_extents: part.len() as u64,
                extent_order: order,
                domid: domain,
                ..XenMemoryReservation::ZERO
            });
            let op = MemoryOp::PopulatePhysmap;
            let got = self.memory_op("give it memory", domain, op, argument.address)?;
            let got = usize::try_from(got).map_or(0, |got| got.min(part.len()));
            for (i, frame) in part[..got].iter_mut().enumerate() {
                *frame = buffer.get(list.at(i * 8));
            }
            done += got;
            if got < part.len() {
                break;
            }
        }
        Ok(done)
    }

    fn map_frames(&self, domain: DomId, frames: &[u64], access: Access) -> Result<Mapping> {
        self.privcmd.map_frames(domain, frames, access)
    }

    fn map_grant_table(&self, domain: DomId, frames: u32) -> Result<Mapping> {
        self.privcmd.map_resource(
            "map its grant table",
            domain,
            XENMEM_RESOURCE_GRANT_TABLE,
            XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED,
            frames,
        )
    }

    fn map_grants(&self, domain: DomId, references: &[u32], access: Access) -> Result<Mapping> {
        self.grants()?.map(domain, references, access)
    }

    fn pin_root(&self, domain: DomId, frame: u64) -> Result<()> {
        let mut buffer = self.privcmd.buffers.take()?;
        let op = buffer.put(&MmuextOp {
            cmd: MmuextCommand::PinL4Table.number(),
            arg1: frame,
            ..MmuextOp::ZERO
        });
        let arguments = [op.address, 1, 0, u64::from(domain), 0];
        let doing = "validate its page tables";
        self.privcmd
            .call(doing, Some(domain), Hypercall::MmuextOp, arguments)
            .map(drop)
    }

    fn fill_hypercall_page(&self, domain: DomId, frame: u64) -> Result<()> {
        let payload = domctl::HypercallInit { gmfn: frame };
        let command = DomctlCommand::HypercallInit;
        self.domctl("fill its hypercall page", command, domain, &payload)
            .map(drop)
    }

    fn set_vcpu_context(&self, domain: DomId, vcpu: u32, context: &VcpuGuestContext) -> Result<()> {
        let mut buffer = self.privcmd.buffers.take()?;
        let context = buffer.put(context);
        let mut call = Domctl::new(DomctlCommand::Setvcpucontext, domain);
        call.set_payload(&domctl::Vcpucontext {
            vcpu,
            ctxt: context.address,
            ..domctl::Vcpucontext::ZERO
        });
        self.domctl_in("set a vCPU's state", &mut buffer, &call)
            .map(drop)
    }

    fn set_cpu_terms(&self, domain: DomId, terms: CpuTerms) -> Result<CpuAnswer> {
        reserve::set(&self.privcmd, domain, terms)
    }

    fn allow_cpu(&self, domain: DomId, rate: u64, weight: u16) -> Result<()> {
        reserve::allow(&self.privcmd, domain, rate, weight)
    }

    fn cpu_terms(&self, domain: DomId) -> Result<CpuReserved> {
        reserve::get(&self.privcmd, domain)
    }

    fn cpu_rules(&self, quantum: Option<u64>) -> Result<CpuRules> {
        reserve::rules(&self.privcmd, quantum)
    }

    fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port> {
        let mut buffer = self.privcmd.buffers.take()?;
        let argument = buffer.put(&AllocUnbound {
            dom: domain,
            remote_dom: remote,
            port: 0,
        });
        let op = u64::from(EventChannelOp::AllocUnbound.number());
        let arguments = [op, argument.address, 0, 0, 0];
        let doing = "make a port of its";
        self.privcmd
            .call(doing, Some(domain), Hypercall::EventChannelOp, arguments)?;
        let answer: AllocUnbound = buffer.get(argument);
        Ok(answer.port)
    }

    fn event_channels(&self) -> Result<Box<dyn EventChannels>> {
        Ok(Box::new(Evtchn::open()?))
    }
}
