//! The rules of each operation, one by one.

mod page;

use events::{
    Binding, Bucket, DomId, EventError, MAX_BUCKETS, MAX_PORTS, Needs, PORTS_PER_BUCKET, Peer,
    Port, PortState, Ports, Released, SendTo, Target, VcpuId, Virq,
};
use page::Page;

const A: DomId = DomId(0);
const B: DomId = DomId(7);

fn storage() -> Vec<Bucket> {
    vec![[PortState::FREE; PORTS_PER_BUCKET]; MAX_BUCKETS]
}

/// A table of a domain with two vCPUs and one bucket.
fn table(domain: DomId, bucket: &mut Bucket) -> Ports<'_> {
    let mut ports = Ports::new(domain, 2);
    assert!(ports.wants_bucket());
    assert!(ports.add_bucket(bucket).is_ok());
    ports
}

fn port(number: u32) -> Port {
    Port::from_claim(number).expect("in range")
}

/// Links a new port of `a` with a new port of `b`.
fn link<'a>(a: &mut Ports<'a>, b: &mut Ports<'a>) -> (Port, Port) {
    let there = b
        .plan_alloc_unbound(a.domain())
        .unwrap()
        .commit(&Page::default());
    let raised = a
        .plan_bind_interdomain(Peer::Other(b), there.get())
        .unwrap()
        .commit(&Page::default());
    assert_eq!((raised.newly_pending, raised.vcpu), (true, VcpuId(0)));
    (raised.port, there)
}

/// A port and whom it notifies.
fn of(target: Target<'_>) -> (Port, VcpuId) {
    (target.port(), target.vcpu())
}

/// The sender's own port that is raised, and whom it notifies.
fn local(sent: Result<SendTo<'_>, EventError>) -> Option<(Port, VcpuId)> {
    match sent {
        Ok(SendTo::Local(target)) => Some(of(target)),
        _ => None,
    }
}

#[test]
fn a_table_without_storage_has_no_ports_and_asks_for_some() {
    let mut ports = Ports::new(A, 1);
    assert!(ports.wants_bucket());
    assert_eq!(ports.plan_bind_ipi(0).err(), Some(EventError::NoSpace));
    assert_eq!(ports.status(0), Err(EventError::Invalid));
    assert_eq!(ports.next_in_use(0), None);
}

#[test]
fn port_zero_is_never_given_out_and_reads_as_closed() {
    let mut storage = storage();
    let mut ports = table(A, &mut storage[0]);
    assert_eq!(
        ports.plan_bind_ipi(0).unwrap().commit(&Page::default()),
        port(1)
    );
    assert_eq!(ports.status(0), Ok(PortState::FREE));
    assert_eq!(ports.send(0), Err(EventError::Invalid));
    assert_eq!(ports.close_needs(0), Err(EventError::Invalid));
    assert_eq!(ports.bind_vcpu(0, 0), Err(EventError::Invalid));
}

#[test]
fn a_plan_that_is_dropped_changes_nothing() {
    let mut storage = storage();
    let mut ports = table(A, &mut storage[0]);
    let planned = ports
        .plan_bind_virq(u32::from(Virq::TIMER), 1)
        .unwrap()
        .port();
    assert_eq!(ports.status(planned.get()), Ok(PortState::FREE));
    assert_eq!(ports.virq_port(Virq::TIMER, VcpuId(1)), None);
    assert_eq!(
        ports
            .plan_alloc_unbound(B)
            .unwrap()
            .commit(&Page::default()),
        planned
    );
}

#[test]
fn a_table_grows_to_4095_ports_and_no_further() {
    let mut storage = storage();
    let mut extra = [PortState::FREE; PORTS_PER_BUCKET];
    let mut ports = Ports::new(A, 1);
    for bucket in &mut storage {
        assert!(ports.wants_bucket());
        assert!(ports.add_bucket(bucket).is_ok());
        while let Ok(plan) = ports.plan_bind_ipi(0) {
            let _ = plan.commit(&Page::default());
        }
    }
    assert!(!ports.wants_bucket());
    assert!(ports.add_bucket(&mut extra).is_err());
    assert_eq!(ports.capacity(), MAX_PORTS);
    assert_eq!(
        ports.status(4095).map(|state| state.binding),
        Ok(Binding::Ipi)
    );
    for outside in [4096, 1 << 16, (1 << 16) + 1, u32::MAX] {
        assert_eq!(ports.status(outside), Err(EventError::Invalid));
        assert_eq!(ports.send(outside), Err(EventError::Invalid));
    }
    assert!(ports.take_bucket().is_none(), "ports are in use");
}

#[test]
fn a_domain_keeps_to_its_limit() {
    let mut storage = storage();
    let mut ports = Ports::new(A, 1);
    ports.set_limit(4);
    assert!(ports.add_bucket(&mut storage[0]).is_ok());
    for number in 1..4 {
        assert_eq!(
            ports.plan_bind_ipi(0).unwrap().commit(&Page::default()),
            port(number)
        );
    }
    assert_eq!(ports.plan_bind_ipi(0).err(), Some(EventError::NoSpace));
    assert!(!ports.wants_bucket());
    assert_eq!(ports.next_in_use(3), Some(port(3)));
    assert_eq!(ports.next_in_use(4), None);
}

#[test]
fn storage_comes_back_when_the_last_port_is_closed() {
    let mut storage = storage();
    let mut ports = table(A, &mut storage[0]);
    let ipi = ports.plan_bind_ipi(0).unwrap().commit(&Page::default());
    assert!(ports.take_bucket().is_none());
    let _ = ports
        .plan_close(ipi.get(), Peer::Itself)
        .unwrap()
        .commit(&Page::default());
    assert!(ports.take_bucket().is_some());
    assert!(ports.take_bucket().is_none());
    assert_eq!(ports.plan_bind_ipi(0).err(), Some(EventError::NoSpace));
}

#[test]
fn a_link_names_its_other_end_on_both_sides() {
    let mut storage = storage();
    let [first, second, ..] = storage.as_mut_slice() else {
        unreachable!()
    };
    let (mut a, mut b) = (table(A, first), table(B, second));
    let (here, there) = link(&mut a, &mut b);
    assert_eq!(
        a.status(here.get()).unwrap().binding,
        Binding::Interdomain {
            remote: B,
            port: there
        }
    );
    assert_eq!(
        b.status(there.get()).unwrap().binding,
        Binding::Interdomain {
            remote: A,
            port: here
        }
    );
    let sent = a.send(here.get()).unwrap();
    assert_eq!(
        sent,
        SendTo::Remote {
            domain: B,
            port: there,
            from_port: here
        }
    );
    assert_eq!(b.receive(there, A, here).map(Target::vcpu), Some(VcpuId(0)));
}

#[test]
fn only_the_domain_it_waits_for_may_bind_to_a_port() {
    let mut storage = storage();
    let [first, second, third, ..] = storage.as_mut_slice() else {
        unreachable!()
    };
    let (mut a, mut b, mut c) = (table(A, first), table(B, second), table(DomId(9), third));
    let offered = b
        .plan_alloc_unbound(A)
        .unwrap()
        .commit(&Page::default())
        .get();
    let refused = c.plan_bind_interdomain(Peer::Other(&mut b), offered).err();
    assert_eq!(refused, Some(EventError::Invalid));
    for claim in [0, offered + 1, 600, u32::MAX] {
        let refused = a.plan_bind_interdomain(Peer::Other(&mut b), claim).err();
        assert_eq!(refused, Some(EventError::Invalid));
    }
    let _ = a
        .plan_bind_interdomain(Peer::Other(&mut b), offered)
        .unwrap()
        .commit(&Page::default());
    let again = a.plan_bind_interdomain(Peer::Other(&mut b), offered).err();
    assert_eq!(again, Some(EventError::Invalid));
}

#[test]
fn closing_one_end_leaves_the_other_waiting_for_the_closer() {
    let mut storage = storage();
    let [first, second, ..] = storage.as_mut_slice() else {
        unreachable!()
    };
    let (mut a, mut b) = (table(A, first), table(B, second));
    let (here, there) = link(&mut a, &mut b);
    assert_eq!(b.bind_vcpu(there.get(), 1), Ok(()));
    assert_eq!(a.close_needs(here.get()), Ok(Needs::Table(B)));
    let closed = a
        .plan_close(here.get(), Peer::Other(&mut b))
        .unwrap()
        .commit(&Page::default());
    assert_eq!(
        closed,
        (
            here,
            Released::Peer {
                domain: B,
                port: there
            }
        )
    );
    let waiting = PortState {
        binding: Binding::Unbound { remote: A },
        vcpu: VcpuId(1),
    };
    assert_eq!(b.status(there.get()), Ok(waiting));
    assert_eq!(b.send(there.get()), Ok(SendTo::Nothing));
    assert_eq!(
        b.receive(there, A, here),
        None,
        "a late sender raises nothing"
    );
    // And it can be bound again.
    let _ = a
        .plan_bind_interdomain(Peer::Other(&mut b), there.get())
        .unwrap()
        .commit(&Page::default());
    assert_eq!(b.receive(there, A, here).map(Target::vcpu), Some(VcpuId(1)));
}

#[test]
fn closing_a_link_without_the_other_table_is_refused() {
    let mut storage = storage();
    let [first, second, third, ..] = storage.as_mut_slice() else {
        unreachable!()
    };
    let (mut a, mut b, mut c) = (table(A, first), table(B, second), table(DomId(9), third));
    let (here, there) = link(&mut a, &mut b);
    assert_eq!(
        a.plan_close(here.get(), Peer::Itself).err(),
        Some(EventError::Again)
    );
    assert_eq!(
        a.plan_close(here.get(), Peer::Other(&mut c)).err(),
        Some(EventError::Again)
    );
    assert_eq!(b.receive(there, A, here).map(Target::vcpu), Some(VcpuId(0)));
}

#[test]
fn a_domain_can_be_linked_to_itself() {
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    let offered = a.plan_alloc_unbound(A).unwrap().commit(&Page::default());
    let plan = a
        .plan_bind_interdomain(Peer::Itself, offered.get())
        .unwrap();
    let binder = plan.commit(&Page::default()).port;
    assert_ne!(offered, binder);
    assert_eq!(local(a.send(binder.get())), Some((offered, VcpuId(0))));
    assert_eq!(local(a.send(offered.get())), Some((binder, VcpuId(0))));
    assert_eq!(a.close_needs(offered.get()), Ok(Needs::Nothing));
    let _ = a
        .plan_close(offered.get(), Peer::Itself)
        .unwrap()
        .commit(&Page::default());
    assert_eq!(
        a.status(binder.get()).unwrap().binding,
        Binding::Unbound { remote: A }
    );
}

#[test]
fn an_end_in_ring_0_is_linked_by_its_record_and_looks_like_a_domain() {
    const END: DomId = DomId(0x7fe0);
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    let waits = a.plan_alloc_unbound(END).unwrap().commit(&Page::default());
    let other = a.plan_alloc_unbound(B).unwrap().commit(&Page::default());
    a.bind_vcpu(waits.get(), 1).unwrap();
    for (claim, end) in [
        (other.get(), END),
        (waits.get(), DomId(0x7fe1)),
        (99, END),
        (0, END),
    ] {
        let refused = a.plan_bind_end(claim, end, 5).err();
        assert_eq!(refused, Some(EventError::Invalid));
    }
    a.plan_bind_end(waits.get(), END, 5).unwrap().commit();
    let again = a.plan_bind_end(waits.get(), END, 6).err();
    assert_eq!(again, Some(EventError::Invalid));
    assert_eq!(a.status(waits.get()).unwrap().binding.status(), 2);
    let told = SendTo::End {
        end: END,
        link: 5,
        from_port: waits,
    };
    assert_eq!(a.send(waits.get()), Ok(told));
    assert_eq!(
        a.receive_from_end(waits, END, 5).map(of),
        Some((waits, VcpuId(1)))
    );
    assert_eq!(a.receive_from_end(waits, END, 6), None);
    assert_eq!(a.receive_from_end(other, END, 5), None);
    // Detached, it waits for the end again, and for nobody else.
    assert!(!a.unbind_end(waits, END, 6) && !a.unbind_end(other, END, 5));
    assert!(a.unbind_end(waits, END, 5) && !a.unbind_end(waits, END, 5));
    assert_eq!(a.send(waits.get()), Ok(SendTo::Nothing));
    a.plan_bind_end(waits.get(), END, 7).unwrap().commit();
    assert_eq!(
        a.receive_from_end(waits, END, 7).map(of),
        Some((waits, VcpuId(1)))
    );
}

#[test]
fn a_link_to_an_end_is_closed_by_who_holds_its_record() {
    const END: DomId = DomId(0x7fe0);
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    let port = a.plan_alloc_unbound(END).unwrap().commit(&Page::default());
    a.plan_bind_end(port.get(), END, 5).unwrap().commit();
    let needs = Needs::End { end: END, link: 5 };
    assert_eq!(a.close_needs(port.get()), Ok(needs));
    for wrong in [Peer::Itself, Peer::End { link: 4 }] {
        let refused = a.plan_close(port.get(), wrong).err();
        assert_eq!(refused, Some(EventError::Again));
    }
    let plan = a.plan_close(port.get(), Peer::End { link: 5 }).unwrap();
    let released = Released::End { end: END, link: 5 };
    assert_eq!(plan.commit(&Page::default()), (port, released));
    assert_eq!(a.status(port.get()), Ok(PortState::FREE));
    assert!(!a.unbind_end(port, END, 5));
}

#[test]
fn a_domain_that_dies_gets_no_port_more() {
    let mut storage = storage();
    let [first, second, other, ..] = storage.as_mut_slice() else {
        unreachable!("there are eight")
    };
    let mut a = table(A, first);
    let mut b = table(B, other);
    let (here, there) = link(&mut a, &mut b);
    let offered = b.plan_alloc_unbound(A).unwrap().commit(&Page::default());
    a.retire();
    assert_eq!(a.plan_bind_ipi(0).err(), Some(EventError::Invalid));
    assert_eq!(a.plan_alloc_unbound(B).err(), Some(EventError::Invalid));
    let bound = a.plan_bind_interdomain(Peer::Other(&mut b), offered.get());
    assert_eq!(bound.err(), Some(EventError::Invalid));
    assert!(!a.wants_bucket() && a.add_bucket(second).is_err());
    // What it has works until it is closed.
    assert!(matches!(a.send(here.get()), Ok(SendTo::Remote { .. })));
    let _ = a
        .plan_close(here.get(), Peer::Other(&mut b))
        .unwrap()
        .commit(&Page::default());
    let waits = Binding::Unbound { remote: A };
    assert_eq!(b.status(there.get()).unwrap().binding, waits);
    assert!(a.take_bucket().is_some());
}

#[test]
fn a_virtual_interrupt_has_one_port() {
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    for vcpu in 0..2 {
        let bound = a
            .plan_bind_virq(u32::from(Virq::TIMER), vcpu)
            .unwrap()
            .commit(&Page::default());
        let vcpu_id = VcpuId(vcpu as u16);
        assert_eq!(
            a.virq_port(Virq::TIMER, vcpu_id).map(of),
            Some((bound, vcpu_id))
        );
        let again = a.plan_bind_virq(u32::from(Virq::TIMER), vcpu).err();
        assert_eq!(again, Some(EventError::Exists));
    }
    assert_eq!(
        a.plan_bind_virq(u32::from(Virq::TIMER), 2).err(),
        Some(EventError::NoVcpu)
    );
    assert_eq!(a.plan_bind_virq(24, 0).err(), Some(EventError::Invalid));
    assert_eq!(a.plan_bind_virq(256, 0).err(), Some(EventError::Invalid));
    assert_eq!(
        a.plan_bind_virq(u32::from(Virq::CONSOLE), 1).err(),
        Some(EventError::Invalid)
    );
    assert_eq!(
        a.send(1),
        Err(EventError::Invalid),
        "a guest cannot raise its own timer"
    );
}

#[test]
fn a_global_interrupt_may_move_and_its_lookup_follows() {
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    let console = a
        .plan_bind_virq(u32::from(Virq::CONSOLE), 0)
        .unwrap()
        .commit(&Page::default());
    assert_eq!(a.bind_vcpu(console.get(), 1), Ok(()));
    assert_eq!(
        a.virq_port(Virq::CONSOLE, VcpuId(0)).map(of),
        Some((console, VcpuId(1)))
    );
    let released = a
        .plan_close(console.get(), Peer::Itself)
        .unwrap()
        .commit(&Page::default());
    let expected = Released::Virq {
        virq: Virq::CONSOLE,
        vcpu: VcpuId(0),
    };
    assert_eq!(released, (console, expected));
    assert_eq!(a.virq_port(Virq::CONSOLE, VcpuId(0)), None);
    assert!(a.plan_bind_virq(u32::from(Virq::CONSOLE), 0).is_ok());
}

#[test]
fn what_belongs_to_a_vcpu_does_not_move() {
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    let ipi = a.plan_bind_ipi(1).unwrap().commit(&Page::default());
    let timer = a
        .plan_bind_virq(u32::from(Virq::TIMER), 1)
        .unwrap()
        .commit(&Page::default());
    for fixed in [ipi, timer] {
        assert_eq!(a.bind_vcpu(fixed.get(), 0), Err(EventError::Invalid));
        assert_eq!(a.status(fixed.get()).unwrap().vcpu, VcpuId(1));
    }
    assert_eq!(local(a.send(ipi.get())), Some((ipi, VcpuId(1))));
    assert_eq!(a.plan_bind_ipi(2).err(), Some(EventError::NoVcpu));
    assert_eq!(a.plan_bind_ipi(65_536).err(), Some(EventError::NoVcpu));
    let unbound = a.plan_alloc_unbound(B).unwrap().commit(&Page::default());
    assert_eq!(a.bind_vcpu(unbound.get(), 2), Err(EventError::NoVcpu));
    assert_eq!(
        a.unmask_target(unbound.get()).map(of),
        Ok((unbound, VcpuId(0)))
    );
    assert_eq!(a.unmask_target(unbound.get() + 1), Err(EventError::Invalid));
}

#[test]
fn a_physical_interrupt_has_one_port() {
    let mut map = [None; 16];
    let mut storage = storage();
    let mut a = table(A, &mut storage[0]);
    assert_eq!(
        a.plan_bind_pirq(4).err(),
        Some(EventError::Invalid),
        "the domain has none"
    );
    a.set_pirqs(&mut map);
    let serial = a.plan_bind_pirq(4).unwrap().commit(&Page::default());
    assert_eq!(a.pirq_port(4).map(of), Some((serial, VcpuId(0))));
    assert_eq!(a.plan_bind_pirq(4).err(), Some(EventError::Exists));
    assert_eq!(a.plan_bind_pirq(16).err(), Some(EventError::Invalid));
    assert_eq!(
        a.plan_bind_pirq(65_536 + 4).err(),
        Some(EventError::Invalid)
    );
    let released = a
        .plan_close(serial.get(), Peer::Itself)
        .unwrap()
        .commit(&Page::default());
    assert_eq!(released, (serial, Released::Pirq { pirq: 4 }));
    assert_eq!(a.pirq_port(4), None);
    assert_eq!(a.pirq_port(16), None);
}

#[test]
fn errors_have_the_numbers_of_the_interface() {
    let numbers = [
        (EventError::NotPermitted, 1),
        (EventError::NoVcpu, 2),
        (EventError::NoDomain, 3),
        (EventError::Again, 11),
        (EventError::Exists, 17),
        (EventError::Invalid, 22),
        (EventError::NoSpace, 28),
    ];
    assert!(
        numbers
            .iter()
            .all(|(error, number)| error.errno() == *number)
    );
}
