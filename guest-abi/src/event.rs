//! Event channels: operations, virtual interrupts, and the two ABIs for the pending bits.

use crate::domid::DomId;
use crate::wire::{operations, wire_struct};

operations! {
    /// Operations of [`Hypercall::EventChannelOp`](crate::Hypercall::EventChannelOp).
    pub enum EventChannelOp: u32 {
        /// Connect to a port of another domain. Argument: [`BindInterdomain`].
        BindInterdomain "bind_interdomain" = 0,
        /// Bind a virtual interrupt. Argument: [`BindVirq`].
        BindVirq "bind_virq" = 1,
        /// Bind a physical interrupt. Argument: [`BindPirq`].
        BindPirq "bind_pirq" = 2,
        /// Close a port. Argument: [`Close`].
        Close "close" = 3,
        /// Notify the other side. Argument: [`Send`].
        Send "send" = 4,
        /// Ask what a port is. Argument: [`Status`].
        Status "status" = 5,
        /// Make a port another domain may connect to. Argument: [`AllocUnbound`].
        AllocUnbound "alloc_unbound" = 6,
        /// Make a port that notifies one vCPU. Argument: [`BindIpi`].
        BindIpi "bind_ipi" = 7,
        /// Choose the vCPU a port notifies. Argument: [`BindVcpu`].
        BindVcpu "bind_vcpu" = 8,
        /// Unmask a port. Argument: [`Unmask`].
        Unmask "unmask" = 9,
        /// Close all ports. Argument: [`Reset`].
        Reset "reset" = 10,
        /// FIFO ABI: hand over a vCPU's control block. Argument: [`InitControl`].
        InitControl "init_control" = 11,
        /// FIFO ABI: add a page of event words. Argument: [`ExpandArray`].
        ExpandArray "expand_array" = 12,
        /// FIFO ABI: set a port's priority. Argument: [`SetPriority`].
        SetPriority "set_priority" = 13,
    }
}

operations! {
    /// Virtual interrupts. `name()` is the interface's name without `VIRQ_`.
    pub enum Virq: u32 {
        /// Of each vCPU: the timer expired.
        Timer "TIMER" = 0,
        /// Of each vCPU: print state for debugging.
        Debug "DEBUG" = 1,
        /// Of the control domain: there is console input.
        Console "CONSOLE" = 2,
        /// Of the control domain: a domain stopped or went.
        DomExc "DOM_EXC" = 3,
        /// Of the control domain: trace records are ready.
        Tbuf "TBUF" = 4,
        /// Of the control domain: a domain paused for debugging.
        Debugger "DEBUGGER" = 6,
        /// Of each vCPU: profiling.
        Xenoprof "XENOPROF" = 7,
        /// Of the control domain: there is console output.
        ConRing "CON_RING" = 8,
        /// Of the control domain: a processor came or went.
        PcpuState "PCPU_STATE" = 9,
        /// Of the control domain: a memory event.
        MemEvent "MEM_EVENT" = 10,
        /// Of the domain: a message arrived.
        Argo "ARGO" = 11,
        /// Of the control domain: memory is low.
        Enomem "ENOMEM" = 12,
        /// Of each vCPU: performance counters.
        Xenpmu "XENPMU" = 13,
        /// Of the control domain: a machine check.
        Mca "MCA" = 16,
    }
}

/// Virtual interrupts that can exist.
pub const NR_VIRQS: u32 = 24;

impl Virq {
    /// Whether each vCPU has its own: bound once for each, and never moved to another.
    #[inline]
    pub const fn is_per_vcpu(self) -> bool {
        matches!(
            self,
            Self::Timer | Self::Debug | Self::Xenoprof | Self::Xenpmu
        )
    }
}

operations! {
    /// What a port is, in [`Status::status`]. `name()` is the interface's name without `EVTCHNSTAT_`.
    pub enum PortStatus: u32 {
        /// Not in use.
        Closed "closed" = 0,
        /// Waiting for another domain.
        Unbound "unbound" = 1,
        /// Connected to another port.
        Interdomain "interdomain" = 2,
        /// Bound to a physical interrupt.
        Pirq "pirq" = 3,
        /// Bound to a virtual interrupt.
        Virq "virq" = 4,
        /// Notifies one vCPU.
        Ipi "ipi" = 5,
    }
}

/// [`BindPirq::flags`]: the interrupt may be shared with other domains.
pub const BIND_PIRQ_WILL_SHARE: u32 = 1;

wire_struct! {
    /// Argument of [`EventChannelOp::AllocUnbound`].
    pub struct AllocUnbound: 8 {
        /// Whose port it becomes.
        0x00 dom: u16,
        /// Who may connect.
        0x02 remote_dom: u16,
        /// Out: the port.
        0x04 port: u32,
    }
    /// Argument of [`EventChannelOp::BindInterdomain`].
    pub struct BindInterdomain: 12 {
        /// The other domain.
        0x00 remote_dom: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// Its port.
        0x04 remote_port: u32,
        /// Out: ours.
        0x08 local_port: u32,
    }
    /// Argument of [`EventChannelOp::BindVirq`].
    pub struct BindVirq: 12 {
        /// A number of [`Virq`].
        0x00 virq: u32,
        /// The vCPU; 0 for interrupts that are not of each vCPU.
        0x04 vcpu: u32,
        /// Out: the port.
        0x08 port: u32,
    }
    /// Argument of [`EventChannelOp::BindPirq`].
    pub struct BindPirq: 12 {
        /// The physical interrupt.
        0x00 pirq: u32,
        /// [`BIND_PIRQ_WILL_SHARE`] or 0.
        0x04 flags: u32,
        /// Out: the port.
        0x08 port: u32,
    }
    /// Argument of [`EventChannelOp::BindIpi`].
    pub struct BindIpi: 8 {
        /// The vCPU that is notified.
        0x00 vcpu: u32,
        /// Out: the port.
        0x04 port: u32,
    }
    /// Argument of [`EventChannelOp::Close`].
    pub struct Close: 4 {
        /// The port.
        0x00 port: u32,
    }
    /// Argument of [`EventChannelOp::Send`].
    pub struct Send: 4 {
        /// The port.
        0x00 port: u32,
    }
    /// Argument of [`EventChannelOp::Status`].
    pub struct Status: 24 {
        /// Whose port.
        0x00 dom: u16,
        /// Padding.
        0x02 _pad0: u16,
        /// The port.
        0x04 port: u32,
        /// Out: a number of [`PortStatus`].
        0x08 status: u32,
        /// Out: the vCPU it notifies.
        0x0c vcpu: u32,
        /// Out: the other domain (16 bits), the physical interrupt or the virtual one, by `status`.
        0x10 peer: u32,
        /// Out: the other domain's port, if there is one.
        0x14 peer_port: u32,
    }
    /// Argument of [`EventChannelOp::BindVcpu`].
    pub struct BindVcpu: 8 {
        /// The port.
        0x00 port: u32,
        /// The vCPU.
        0x04 vcpu: u32,
    }
    /// Argument of [`EventChannelOp::Unmask`].
    pub struct Unmask: 4 {
        /// The port.
        0x00 port: u32,
    }
    /// Argument of [`EventChannelOp::Reset`].
    pub struct Reset: 2 {
        /// Whose ports.
        0x00 dom: u16,
    }
    /// Argument of [`EventChannelOp::InitControl`].
    pub struct InitControl: 24 {
        /// Frame of the control block.
        0x00 control_gfn: u64,
        /// Its offset in the frame.
        0x08 offset: u32,
        /// The vCPU.
        0x0c vcpu: u32,
        /// Out: bits of a link, [`EVTCHN_FIFO_LINK_BITS`].
        0x10 link_bits: u8,
        /// Padding.
        0x11 _pad: [u8; 7],
    }
    /// Argument of [`EventChannelOp::ExpandArray`].
    pub struct ExpandArray: 8 {
        /// Frame of the new event words.
        0x00 array_gfn: u64,
    }
    /// Argument of [`EventChannelOp::SetPriority`].
    pub struct SetPriority: 8 {
        /// The port.
        0x00 port: u32,
        /// The priority, 0 the highest.
        0x04 priority: u32,
    }
    /// FIFO ABI: the control block of a vCPU.
    pub struct FifoControlBlock: 72 {
        /// A bit for each queue that has events.
        0x00 ready: u32,
        /// Reserved.
        0x04 _rsvd: u32,
        /// The first port of each queue.
        0x08 head: [u32; 16],
    }
}

impl Status {
    /// Fills in the answer for a port that waits for `dom`.
    pub const fn set_unbound(&mut self, dom: DomId) {
        self.set(PortStatus::Unbound, dom as u32, 0);
    }

    /// Fills in the answer for a port connected to `port` of `dom`.
    pub const fn set_interdomain(&mut self, dom: DomId, port: u32) {
        self.set(PortStatus::Interdomain, dom as u32, port);
    }

    /// Fills in the answer for a port bound to a physical interrupt.
    pub const fn set_pirq(&mut self, pirq: u32) {
        self.set(PortStatus::Pirq, pirq, 0);
    }

    /// Fills in the answer for a port bound to a virtual interrupt.
    pub const fn set_virq(&mut self, virq: u32) {
        self.set(PortStatus::Virq, virq, 0);
    }

    /// Fills in the answer for a port with nothing behind it to name.
    pub const fn set_plain(&mut self, status: PortStatus) {
        self.set(status, 0, 0);
    }

    const fn set(&mut self, status: PortStatus, peer: u32, peer_port: u32) {
        self.status = status.number();
        self.peer = peer;
        self.peer_port = peer_port;
    }
}

/// Two-level ABI: ports a domain can have.
pub const EVTCHN_2L_NR_CHANNELS: u32 = 64 * 64;

/// FIFO ABI: the highest priority.
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// FIFO ABI: the priority a port starts with.
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// FIFO ABI: the lowest priority.
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// FIFO ABI: queues of a vCPU.
pub const EVTCHN_FIFO_MAX_QUEUES: u32 = EVTCHN_FIFO_PRIORITY_MIN + 1;
/// FIFO ABI, bit of an event word: the event is pending.
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// FIFO ABI, bit of an event word: the event is masked.
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// FIFO ABI, bit of an event word: the event is in a queue.
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// FIFO ABI, bit of an event word: the link is being changed.
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// FIFO ABI: low bits of an event word that hold the next port of the queue.
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// FIFO ABI: mask of those bits.
pub const EVTCHN_FIFO_LINK_MASK: u32 = (1 << EVTCHN_FIFO_LINK_BITS) - 1;
/// FIFO ABI: ports a domain can have.
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 1 << EVTCHN_FIFO_LINK_BITS;
