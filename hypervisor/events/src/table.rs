//! One domain's table of ports: storage, allocation, and the questions that change nothing.

use crate::free_map::FreeMap;
use crate::virq::VirqMap;
use crate::{
    Binding, DomId, EventError, MAX_BUCKETS, MAX_PORTS, MAX_VCPUS, PORTS_PER_BUCKET, Port,
    PortState, Target, VcpuId,
};

/// A step of growth, whose memory the hypervisor charges to the domain.
pub type Bucket = [PortState; PORTS_PER_BUCKET];

const _: () = assert!(size_of::<Bucket>() == 1024);

/// The event channels of one domain.
///
/// The table itself has a fixed size of about 2 KiB; the ports are in buckets that the caller gives it
/// as it needs them ([`Self::wants_bucket`], [`Self::add_bucket`]), and the map of physical interrupts,
/// which few domains have, is the caller's as well.
pub struct Ports<'a> {
    domain: DomId,
    nr_vcpus: u16,
    limit: usize,
    /// It gets no port and no storage any more.
    pub(crate) retired: bool,
    nr_buckets: usize,
    buckets: [Option<&'a mut Bucket>; MAX_BUCKETS],
    free: FreeMap,
    pub(crate) virqs: VirqMap,
    pub(crate) pirqs: &'a mut [Option<Port>],
}

impl<'a> Ports<'a> {
    /// An empty table, without storage, for a domain of `nr_vcpus` vCPUs (at most [`MAX_VCPUS`]).
    #[must_use]
    pub fn new(domain: DomId, nr_vcpus: usize) -> Self {
        Self {
            domain,
            nr_vcpus: nr_vcpus.min(MAX_VCPUS) as u16,
            limit: MAX_PORTS,
            retired: false,
            nr_buckets: 0,
            buckets: [const { None }; MAX_BUCKETS],
            free: FreeMap::NONE_FREE,
            virqs: VirqMap::EMPTY,
            pirqs: &mut [],
        }
    }

    /// Allows the domain port numbers below `limit` only. To be called before the first bucket is added.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_PORTS);
    }

    /// Gives the domain as many physical interrupt numbers as `map` is long. To be called before the
    /// first is bound: the map is emptied.
    pub fn set_pirqs(&mut self, map: &'a mut [Option<Port>]) {
        map.fill(None);
        self.pirqs = map;
    }

    /// Takes the map of physical interrupt numbers back, for tearing a domain down. It has none after that.
    pub fn take_pirqs(&mut self) -> &'a mut [Option<Port>] {
        core::mem::take(&mut self.pirqs)
    }

    /// The domain is dying: no port can be had from here on, so that closing them comes to an end.
    pub fn retire(&mut self) {
        self.retired = true;
    }

    /// True if all ports are taken and another bucket would change that.
    #[must_use]
    pub fn wants_bucket(&self) -> bool {
        self.free.lowest().is_none() && self.can_grow()
    }

    fn can_grow(&self) -> bool {
        !self.retired && self.nr_buckets < MAX_BUCKETS && self.capacity() < self.limit
    }

    /// Adds storage; gives the bucket back if the table is at its limit.
    pub fn add_bucket(&mut self, bucket: &'a mut Bucket) -> Result<(), &'a mut Bucket> {
        if !self.can_grow() {
            return Err(bucket);
        }
        let first = self.nr_buckets * PORTS_PER_BUCKET;
        let Some(slot) = self.buckets.get_mut(self.nr_buckets) else {
            return Err(bucket);
        };
        bucket.fill(PortState::FREE);
        *slot = Some(bucket);
        self.nr_buckets += 1;
        // Port 0 is never handed out (E2).
        for index in first.max(1)..(first + PORTS_PER_BUCKET).min(self.limit) {
            self.free.set_free(index);
        }
        Ok(())
    }

    /// Takes the last bucket out of a table that has no port in use; `None` when there is none left, or
    /// while a port is in use. For tearing a domain down.
    pub fn take_bucket(&mut self) -> Option<&'a mut Bucket> {
        if self.nr_buckets == 0 || self.next_in_use(0).is_some() {
            return None;
        }
        self.nr_buckets -= 1;
        let first = self.nr_buckets * PORTS_PER_BUCKET;
        const { assert!(PORTS_PER_BUCKET.is_multiple_of(64)) };
        self.free
            .set_words_taken(first / 64..(first + PORTS_PER_BUCKET) / 64);
        self.buckets.get_mut(self.nr_buckets)?.take()
    }

    /// The domain whose table this is.
    #[must_use]
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// Ports there is storage for, port 0 counted.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.nr_buckets * PORTS_PER_BUCKET
    }

    /// What a port is bound to. Port 0 and ports beyond the limit count as free; numbers beyond the
    /// storage are refused, which is how tools that scan find the end.
    pub fn status(&self, claim: u32) -> Result<PortState, EventError> {
        let index = usize::try_from(claim).map_err(|_| EventError::Invalid)?;
        let bucket = self
            .buckets
            .get(index / PORTS_PER_BUCKET)
            .and_then(Option::as_deref);
        let state = bucket.and_then(|bucket| bucket.get(index % PORTS_PER_BUCKET));
        state.copied().ok_or(EventError::Invalid)
    }

    /// The lowest port in use from `from` on: for resetting and tearing down a table step by step, each
    /// step a [`Self::plan_close`].
    #[must_use]
    pub fn next_in_use(&self, from: u32) -> Option<Port> {
        let from = usize::try_from(from).ok()?.max(1);
        let end = self.capacity().min(self.limit);
        self.free.next_taken(from, end).and_then(Port::from_index)
    }

    /// Lets another vCPU be told of a port's events. Refused with `NoVcpu`, and with `Invalid` for ports
    /// that are free or belong to a vCPU: IPIs and per-vCPU virtual interrupts (E4).
    pub fn bind_vcpu(&mut self, claim: u32, vcpu: u32) -> Result<(), EventError> {
        let vcpu = self.vcpu(vcpu)?;
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        let state = self.in_use(port)?;
        match state.binding {
            Binding::Unbound { .. }
            | Binding::Interdomain { .. }
            | Binding::End { .. }
            | Binding::Pirq { .. } => {}
            Binding::Virq { virq } if crate::Virq::is_global(virq) => {}
            Binding::Free | Binding::Virq { .. } | Binding::Ipi => {
                return Err(EventError::Invalid);
            }
        }
        self.set(port, PortState { vcpu, ..state });
        Ok(())
    }

    /// A port that a guest asks to be unmasked on its behalf. `Invalid` for ports that are free or do not exist.
    pub fn unmask_target(&self, claim: u32) -> Result<Target<'_>, EventError> {
        let port = Port::from_claim(claim).ok_or(EventError::Invalid)?;
        Ok(Target::new(self, port, self.in_use(port)?.vcpu))
    }

    /// Checks a vCPU number a guest gave.
    pub(crate) fn vcpu(&self, claim: u32) -> Result<VcpuId, EventError> {
        match u16::try_from(claim) {
            Ok(vcpu) if vcpu < self.nr_vcpus => Ok(VcpuId(vcpu)),
            _ => Err(EventError::NoVcpu),
        }
    }

    /// The state of a port that is bound to something.
    pub(crate) fn in_use(&self, port: Port) -> Result<PortState, EventError> {
        let state = self.status(port.get())?;
        match state.binding {
            Binding::Free => Err(EventError::Invalid),
            _ => Ok(state),
        }
    }

    /// The port that the next binding gets. `Invalid` in a domain that is dying.
    pub(crate) fn lowest_free(&self) -> Result<Port, EventError> {
        if self.retired {
            return Err(EventError::Invalid);
        }
        self.free
            .lowest()
            .and_then(Port::from_index)
            .ok_or(EventError::NoSpace)
    }

    /// Writes a port's state and keeps the free map in step (E2). Only for ports in storage, which every
    /// plan has checked.
    pub(crate) fn set(&mut self, port: Port, state: PortState) {
        let index = port.index();
        let bucket = self
            .buckets
            .get_mut(index / PORTS_PER_BUCKET)
            .and_then(Option::as_deref_mut);
        let Some(slot) = bucket.and_then(|bucket| bucket.get_mut(index % PORTS_PER_BUCKET)) else {
            return;
        };
        *slot = state;
        if state.binding == Binding::Free {
            self.free.set_free(index);
        } else {
            self.free.set_taken(index);
        }
    }
}
