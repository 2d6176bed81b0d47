//! Ports for interrupts: virtual ones, physical ones, and those between vCPUs (invariants E3 and E4).

use crate::{Binding, EventError, MAX_VCPUS, Port, PortState, Ports, SharedBits, Target, VcpuId};

/// The virtual interrupts, by the numbers of the interface.
pub struct Virq;

impl Virq {
    /// A vCPU's one-shot timer; per vCPU.
    pub const TIMER: u8 = 0;
    /// Asks the guest for a debug dump; per vCPU.
    pub const DEBUG: u8 = 1;
    /// Console input.
    pub const CONSOLE: u8 = 2;
    /// A domain has stopped or gone.
    pub const DOM_EXC: u8 = 3;
    /// Profiling; per vCPU.
    pub const XENOPROF: u8 = 7;
    /// The hypervisor's log has something new.
    pub const CON_RING: u8 = 8;
    /// A physical CPU came or went.
    pub const PCPU_STATE: u8 = 9;
    /// Memory runs low.
    pub const ENOMEM: u8 = 12;
    /// Performance counters; per vCPU.
    pub const XENPMU: u8 = 13;
    /// Machine check, the first of the architecture's own.
    pub const MCA: u8 = 16;
    /// How many there are.
    pub const COUNT: u8 = 24;

    const PER_VCPU: [u8; 4] = [Self::TIMER, Self::DEBUG, Self::XENOPROF, Self::XENPMU];

    /// True if the whole domain has one port for it rather than each vCPU its own.
    #[must_use]
    pub const fn is_global(virq: u8) -> bool {
        !matches!(
            virq,
            Self::TIMER | Self::DEBUG | Self::XENOPROF | Self::XENPMU
        )
    }
}

/// Which port each virtual interrupt has.
pub(crate) struct VirqMap {
    per_vcpu: [[Option<Port>; Virq::PER_VCPU.len()]; MAX_VCPUS],
    global: [Option<Port>; Virq::COUNT as usize],
}

impl VirqMap {
    pub(crate) const EMPTY: Self = Self {
        per_vcpu: [[None; Virq::PER_VCPU.len()]; MAX_VCPUS],
        global: [None; Virq::COUNT as usize],
    };

    fn get(&self, virq: u8, vcpu: VcpuId) -> Option<Port> {
        match per_vcpu_index(virq) {
            Some(index) => *self.per_vcpu.get(usize::from(vcpu.0))?.get(index)?,
            None => *self.global.get(usize::from(virq))?,
        }
    }

    pub(crate) fn set(&mut self, virq: u8, vcpu: VcpuId, port: Option<Port>) {
        let slot = match per_vcpu_index(virq) {
            Some(index) => self
                .per_vcpu
                .get_mut(usize::from(vcpu.0))
                .and_then(|row| row.get_mut(index)),
            None => self.global.get_mut(usize::from(virq)),
        };
        if let Some(slot) = slot {
            *slot = port;
        }
    }
}

fn per_vcpu_index(virq: u8) -> Option<usize> {
    Virq::PER_VCPU.iter().position(|&own| own == virq)
}

/// A virtual interrupt about to get a port.
#[must_use]
pub struct VirqPlan<'p, 'a> {
    table: &'p mut Ports<'a>,
    port: Port,
    virq: u8,
    vcpu: VcpuId,
}

/// A port about to carry interrupts to one vCPU from the others.
#[must_use]
pub struct IpiPlan<'p, 'a> {
    table: &'p mut Ports<'a>,
    port: Port,
    vcpu: VcpuId,
}

/// A physical interrupt about to get a port.
#[must_use]
pub struct PirqPlan<'p, 'a> {
    table: &'p mut Ports<'a>,
    port: Port,
    pirq: u16,
}

impl VirqPlan<'_, '_> {
    /// The port that will be allocated.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Binds it. `bits` are the domain's own (E8).
    pub fn commit(self, bits: &impl SharedBits) -> Port {
        bits.clear_pending(self.port);
        let binding = Binding::Virq { virq: self.virq };
        self.table.set(
            self.port,
            PortState {
                binding,
                vcpu: self.vcpu,
            },
        );
        self.table.virqs.set(self.virq, self.vcpu, Some(self.port));
        self.port
    }
}

impl IpiPlan<'_, '_> {
    /// The port that will be allocated.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Binds it. `bits` are the domain's own (E8).
    pub fn commit(self, bits: &impl SharedBits) -> Port {
        bits.clear_pending(self.port);
        self.table.set(
            self.port,
            PortState {
                binding: Binding::Ipi,
                vcpu: self.vcpu,
            },
        );
        self.port
    }
}

impl PirqPlan<'_, '_> {
    /// The port that will be allocated.
    #[must_use]
    pub fn port(&self) -> Port {
        self.port
    }

    /// Binds it; `bits` are the domain's own (E8). Enabling the interrupt itself is the caller's next step.
    pub fn commit(self, bits: &impl SharedBits) -> Port {
        bits.clear_pending(self.port);
        let binding = Binding::Pirq { pirq: self.pirq };
        self.table.set(
            self.port,
            PortState {
                binding,
                vcpu: VcpuId(0),
            },
        );
        if let Some(slot) = self.table.pirqs.get_mut(usize::from(self.pirq)) {
            *slot = Some(self.port);
        }
        self.port
    }
}

impl<'a> Ports<'a> {
    /// Prepares a port for a virtual interrupt. `Invalid` for numbers there are none of, and for global
    /// ones on another vCPU than 0; `NoVcpu`; `Exists` if it has a port; `NoSpace`.
    pub fn plan_bind_virq(&mut self, virq: u32, vcpu: u32) -> Result<VirqPlan<'_, 'a>, EventError> {
        let virq = match u8::try_from(virq) {
            Ok(virq) if virq < Virq::COUNT => virq,
            _ => return Err(EventError::Invalid),
        };
        if Virq::is_global(virq) && vcpu != 0 {
            return Err(EventError::Invalid);
        }
        let vcpu = self.vcpu(vcpu)?;
        if self.virqs.get(virq, vcpu).is_some() {
            return Err(EventError::Exists);
        }
        let port = self.lowest_free()?;
        Ok(VirqPlan {
            table: self,
            port,
            virq,
            vcpu,
        })
    }

    /// Prepares a port that notifies `vcpu` of what other vCPUs send. `NoVcpu`; `NoSpace`.
    pub fn plan_bind_ipi(&mut self, vcpu: u32) -> Result<IpiPlan<'_, 'a>, EventError> {
        let vcpu = self.vcpu(vcpu)?;
        let port = self.lowest_free()?;
        Ok(IpiPlan {
            table: self,
            port,
            vcpu,
        })
    }

    /// Prepares a port for a physical interrupt. `Invalid` for numbers the domain has none of; `Exists`
    /// if it has a port; `NoSpace`. Whether the domain may have the interrupt is the caller's question.
    pub fn plan_bind_pirq(&mut self, pirq: u32) -> Result<PirqPlan<'_, 'a>, EventError> {
        let number = u16::try_from(pirq).map_err(|_| EventError::Invalid)?;
        match self.pirqs.get(usize::from(number)) {
            None => return Err(EventError::Invalid),
            Some(Some(_)) => return Err(EventError::Exists),
            Some(None) => {}
        }
        let port = self.lowest_free()?;
        Ok(PirqPlan {
            table: self,
            port,
            pirq: number,
        })
    }

    /// What to raise for a virtual interrupt; `None` while it has no port.
    /// For global ones `vcpu` does not matter.
    #[must_use]
    pub fn virq_port(&self, virq: u8, vcpu: VcpuId) -> Option<Target<'_>> {
        self.notified_by(self.virqs.get(virq, vcpu)?)
    }

    /// What to raise for a physical interrupt; `None` while it has no port.
    #[must_use]
    pub fn pirq_port(&self, pirq: u16) -> Option<Target<'_>> {
        self.notified_by((*self.pirqs.get(usize::from(pirq))?)?)
    }

    fn notified_by(&self, port: Port) -> Option<Target<'_>> {
        Some(Target::new(self, port, self.in_use(port).ok()?.vcpu))
    }
}
