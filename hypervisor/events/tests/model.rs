//! Random operations on three domains against a model that is too simple to be wrong (E1 to E5).

mod page;

use std::collections::BTreeMap;

use events::{
    Binding, Bucket, DomId, EventError, Needs, PORTS_PER_BUCKET, Peer, Port, PortState, Ports,
    Released, SendTo, Target, VcpuId, Virq,
};
use page::Page;
use proptest::prelude::*;

const DOMAINS: usize = 3;
/// The number of an end in ring 0: the one behind the domains'.
const END: usize = DOMAINS;
const VCPUS: u32 = 2;
const PIRQS: usize = 4;
/// Few ports, so that running out of them happens often.
const LIMIT: usize = 12;

#[derive(Clone, Debug)]
enum Op {
    AllocUnbound { remote: usize },
    BindInterdomain { remote: usize, port: u32 },
    BindVirq { virq: u32, vcpu: u32 },
    BindIpi { vcpu: u32 },
    BindPirq { pirq: u32 },
    BindVcpu { port: u32, vcpu: u32 },
    Attach { port: u32 },
    Detach { port: u32 },
    Close { port: u32 },
    Send { port: u32 },
    Reset,
}

fn any_op() -> impl Strategy<Value = Op> {
    let (port, vcpu) = (0..LIMIT as u32 + 2, 0..VCPUS + 1);
    let virq = prop_oneof![0_u32..4, Just(8), Just(13), Just(24)];
    prop_oneof![
        6 => (0..=END).prop_map(|remote| Op::AllocUnbound { remote }),
        8 => (0..DOMAINS, port.clone()).prop_map(|(remote, port)| Op::BindInterdomain { remote, port }),
        2 => (virq, vcpu.clone()).prop_map(|(virq, vcpu)| Op::BindVirq { virq, vcpu }),
        1 => vcpu.clone().prop_map(|vcpu| Op::BindIpi { vcpu }),
        1 => (0..PIRQS as u32 + 1).prop_map(|pirq| Op::BindPirq { pirq }),
        3 => (port.clone(), vcpu).prop_map(|(port, vcpu)| Op::BindVcpu { port, vcpu }),
        3 => port.clone().prop_map(|port| Op::Attach { port }),
        2 => port.clone().prop_map(|port| Op::Detach { port }),
        8 => port.clone().prop_map(|port| Op::Close { port }),
        4 => port.prop_map(|port| Op::Send { port }),
        1 => Just(Op::Reset),
    ]
}

/// One map a domain, from port to what it is bound to.
type Model = [BTreeMap<u32, PortState>; DOMAINS];

fn id(domain: usize) -> DomId {
    DomId(domain as u16)
}

fn port(number: u32) -> Port {
    Port::from_claim(number).expect("the model's ports are in range")
}

fn model_alloc(model: &mut Model, domain: usize, state: PortState) -> Result<u32, EventError> {
    let table = &mut model[domain];
    let free = (1..LIMIT as u32).find(|number| !table.contains_key(number));
    let number = free.ok_or(EventError::NoSpace)?;
    table.insert(number, state);
    Ok(number)
}

fn model_bind_interdomain(
    model: &mut Model,
    domain: usize,
    remote: usize,
    claim: u32,
) -> Result<u32, EventError> {
    let waiting = Binding::Unbound { remote: id(domain) };
    match model[remote].get(&claim) {
        Some(state) if state.binding == waiting => {}
        _ => return Err(EventError::Invalid),
    }
    let here = Binding::Interdomain {
        remote: id(remote),
        port: port(claim),
    };
    let number = model_alloc(
        model,
        domain,
        PortState {
            binding: here,
            vcpu: VcpuId(0),
        },
    )?;
    let there = model[remote].get_mut(&claim).expect("looked up above");
    there.binding = Binding::Interdomain {
        remote: id(domain),
        port: port(number),
    };
    Ok(number)
}

fn model_bind_interrupt(
    model: &mut Model,
    domain: usize,
    binding: Binding,
    vcpu: u32,
) -> Result<u32, EventError> {
    let vcpu = VcpuId(vcpu as u16);
    let taken = model[domain].values().any(|state| match binding {
        Binding::Virq { virq } if Virq::is_global(virq) => state.binding == binding,
        Binding::Virq { .. } => state.binding == binding && state.vcpu == vcpu,
        Binding::Pirq { .. } => state.binding == binding,
        _ => false,
    });
    if taken {
        Err(EventError::Exists)
    } else {
        model_alloc(model, domain, PortState { binding, vcpu })
    }
}

fn model_close(model: &mut Model, domain: usize, claim: u32) -> Result<(), EventError> {
    let closed = model[domain].remove(&claim).ok_or(EventError::Invalid)?;
    if let Binding::Interdomain { remote, port } = closed.binding {
        let peer = model[usize::from(remote.0)]
            .get_mut(&port.get())
            .expect("links are symmetric");
        peer.binding = Binding::Unbound { remote: id(domain) };
    }
    Ok(())
}

/// The table of `domain`, and that of `remote` as its peer.
fn with_peer<'p, 'a>(
    tables: &'p mut [Ports<'a>],
    domain: usize,
    remote: usize,
) -> (&'p mut Ports<'a>, Peer<'p, 'a>) {
    if domain == remote {
        return (&mut tables[domain], Peer::Itself);
    }
    let [local, peer] = tables
        .get_disjoint_mut([domain, remote])
        .expect("two different domains");
    (local, Peer::Other(peer))
}

fn close(tables: &mut [Ports<'_>], domain: usize, claim: u32) -> Result<Released, EventError> {
    let remote = match tables[domain].close_needs(claim)? {
        Needs::Nothing => domain,
        Needs::Table(remote) => usize::from(remote.0),
        Needs::End { link, .. } => {
            let plan = tables[domain].plan_close(claim, Peer::End { link })?;
            return Ok(plan.commit(&Page::default()).1);
        }
    };
    let (local, peer) = with_peer(tables, domain, remote);
    Ok(local.plan_close(claim, peer)?.commit(&Page::default()).1)
}

/// Runs one operation on both; they must answer alike.
fn step(tables: &mut [Ports<'_>], model: &mut Model, domain: usize, op: &Op) {
    let number = |port: Port| port.get();
    match *op {
        Op::AllocUnbound { remote } => {
            let binding = Binding::Unbound { remote: id(remote) };
            assert_eq!(
                tables[domain]
                    .plan_alloc_unbound(id(remote))
                    .map(|plan| number(plan.commit(&Page::default()))),
                model_alloc(
                    model,
                    domain,
                    PortState {
                        binding,
                        vcpu: VcpuId(0)
                    }
                ),
            );
        }
        Op::BindInterdomain { remote, port } => {
            let (local, peer) = with_peer(tables, domain, remote);
            assert_eq!(
                local
                    .plan_bind_interdomain(peer, port)
                    .map(|plan| number(plan.commit(&Page::default()).port)),
                model_bind_interdomain(model, domain, remote, port),
            );
        }
        Op::BindVirq { virq, vcpu } => {
            let expected = if virq >= 24 || (Virq::is_global(virq as u8) && vcpu != 0) {
                Err(EventError::Invalid)
            } else if vcpu >= VCPUS {
                Err(EventError::NoVcpu)
            } else {
                model_bind_interrupt(model, domain, Binding::Virq { virq: virq as u8 }, vcpu)
            };
            let bound = tables[domain].plan_bind_virq(virq, vcpu);
            assert_eq!(
                bound.map(|plan| number(plan.commit(&Page::default()))),
                expected
            );
        }
        Op::BindIpi { vcpu } => {
            let expected = if vcpu >= VCPUS {
                Err(EventError::NoVcpu)
            } else {
                model_bind_interrupt(model, domain, Binding::Ipi, vcpu)
            };
            let bound = tables[domain].plan_bind_ipi(vcpu);
            assert_eq!(
                bound.map(|plan| number(plan.commit(&Page::default()))),
                expected
            );
        }
        Op::BindPirq { pirq } => {
            let expected = if pirq as usize >= PIRQS {
                Err(EventError::Invalid)
            } else {
                model_bind_interrupt(model, domain, Binding::Pirq { pirq: pirq as u16 }, 0)
            };
            let bound = tables[domain].plan_bind_pirq(pirq);
            assert_eq!(
                bound.map(|plan| number(plan.commit(&Page::default()))),
                expected
            );
        }
        Op::BindVcpu { port, vcpu } => {
            let movable = model[domain]
                .get_mut(&port)
                .filter(|state| match state.binding {
                    Binding::Ipi | Binding::Free => false,
                    Binding::Virq { virq } => Virq::is_global(virq),
                    _ => true,
                });
            let expected = match movable {
                _ if vcpu >= VCPUS => Err(EventError::NoVcpu),
                Some(state) => {
                    state.vcpu = VcpuId(vcpu as u16);
                    Ok(())
                }
                None => Err(EventError::Invalid),
            };
            assert_eq!(tables[domain].bind_vcpu(port, vcpu), expected);
        }
        Op::Attach { port: claim } => {
            // A record's number is as good as any other that no port has.
            let link = (domain as u16) << 8 | claim as u16;
            let bound = tables[domain].plan_bind_end(claim, id(END), link);
            let waiting = Binding::Unbound { remote: id(END) };
            let state = model[domain].get_mut(&claim);
            let expected = state.filter(|state| state.binding == waiting);
            assert_eq!(bound.is_ok(), expected.is_some());
            if let (Ok(plan), Some(state)) = (bound, expected) {
                plan.commit();
                state.binding = Binding::End { end: id(END), link };
            }
        }
        Op::Detach { port: claim } => {
            let link = (domain as u16) << 8 | claim as u16;
            let Some(number) = Port::from_claim(claim) else {
                return;
            };
            let gone = tables[domain].unbind_end(number, id(END), link);
            let state = model[domain].get_mut(&claim);
            let linked = state.filter(|state| matches!(state.binding, Binding::End { .. }));
            assert_eq!(gone, linked.is_some());
            if let Some(state) = linked {
                state.binding = Binding::Unbound { remote: id(END) };
            }
        }
        Op::Close { port } => {
            let closed = close(tables, domain, port).map(|_| ());
            assert_eq!(closed, model_close(model, domain, port));
        }
        Op::Send { port } => check_send(tables, model, domain, port),
        Op::Reset => {
            let mut from = 0;
            while let Some(port) = tables[domain].next_in_use(from) {
                close(tables, domain, port.get()).expect("it is in use");
                model_close(model, domain, port.get()).expect("it is in use");
                from = port.get() + 1;
            }
            // Closing one end of a link to itself leaves the other, which may lie behind us, in use.
            assert_eq!(tables[domain].next_in_use(0), None);
        }
    }
}

fn check_send(tables: &[Ports<'_>], model: &Model, domain: usize, claim: u32) {
    let reached = match tables[domain].send(claim) {
        Ok(SendTo::Nothing) => Ok(None),
        Ok(SendTo::Local(target)) => Ok(Some((domain, target.port().get(), target.vcpu()))),
        Ok(SendTo::Remote {
            domain: remote,
            port,
            from_port,
        }) => {
            let remote = usize::from(remote.0);
            let target = tables[remote]
                .receive(port, id(domain), from_port)
                .expect("the link is whole");
            assert_eq!(target.port(), port);
            Ok(Some((remote, port.get(), target.vcpu())))
        }
        Ok(SendTo::End {
            end,
            link,
            from_port,
        }) => {
            let target = tables[domain].receive_from_end(from_port, end, link);
            let target = target.expect("it is linked");
            Ok(Some((END, target.port().get(), target.vcpu())))
        }
        Err(error) => Err(error),
    };
    let expected = match model[domain]
        .get(&claim)
        .map(|state| (state.binding, state.vcpu))
    {
        Some((Binding::Unbound { .. }, _)) => Ok(None),
        Some((Binding::Ipi, vcpu)) => Ok(Some((domain, claim, vcpu))),
        Some((Binding::End { .. }, vcpu)) => Ok(Some((END, claim, vcpu))),
        Some((Binding::Interdomain { remote, port }, _)) => {
            let remote = usize::from(remote.0);
            Ok(Some((remote, port.get(), model[remote][&port.get()].vcpu)))
        }
        _ => Err(EventError::Invalid),
    };
    assert_eq!(reached, expected);
}

/// The tables hold what the model holds, and nothing else.
fn check(tables: &[Ports<'_>], model: &Model) {
    for (domain, table) in tables.iter().enumerate() {
        for number in 0..PORTS_PER_BUCKET as u32 {
            let expected = model[domain]
                .get(&number)
                .copied()
                .unwrap_or(PortState::FREE);
            assert_eq!(
                table.status(number),
                Ok(expected),
                "domain {domain} port {number}"
            );
            if let Binding::Interdomain { remote, port } = expected.binding {
                let back = tables[usize::from(remote.0)]
                    .status(port.get())
                    .map(|state| state.binding);
                let here = Port::from_claim(number).expect("in use");
                let symmetric = Binding::Interdomain {
                    remote: id(domain),
                    port: here,
                };
                assert_eq!(back, Ok(symmetric), "E1");
            }
        }
        let mut in_use = Vec::new();
        while let Some(port) = table.next_in_use(in_use.last().map_or(0, |last| last + 1)) {
            in_use.push(port.get());
        }
        assert!(in_use.iter().eq(model[domain].keys()), "E2");
        check_lookups(table, &model[domain]);
    }
}

fn of(target: Target<'_>) -> (Port, VcpuId) {
    (target.port(), target.vcpu())
}

fn check_lookups(table: &Ports<'_>, model: &BTreeMap<u32, PortState>) {
    let find = |wanted: &dyn Fn(&PortState) -> bool| {
        let found = model.iter().find(|(_, state)| wanted(state));
        found.map(|(number, state)| (port(*number), state.vcpu))
    };
    for virq in 0..Virq::COUNT {
        for vcpu in (0..VCPUS as u16).map(VcpuId) {
            let bound = find(&|state| {
                let its_own = Virq::is_global(virq) || state.vcpu == vcpu;
                state.binding == Binding::Virq { virq } && its_own
            });
            assert_eq!(table.virq_port(virq, vcpu).map(of), bound, "E3");
        }
    }
    for pirq in 0..PIRQS as u16 {
        let bound = find(&|state| state.binding == Binding::Pirq { pirq });
        assert_eq!(table.pirq_port(pirq).map(of), bound, "E3");
    }
}

proptest! {
    #[test]
    fn tables_and_model_agree_after_any_operations(
        ops in prop::collection::vec((0..DOMAINS, any_op()), 0..120),
    ) {
        let mut storage: Vec<Bucket> = vec![[PortState::FREE; PORTS_PER_BUCKET]; DOMAINS];
        let mut pirq_maps = [[None; PIRQS]; DOMAINS];
        let mut tables = Vec::new();
        for (domain, (bucket, map)) in storage.iter_mut().zip(&mut pirq_maps).enumerate() {
            let mut table = Ports::new(id(domain), VCPUS as usize);
            table.set_limit(LIMIT);
            table.set_pirqs(map);
            prop_assert!(table.add_bucket(bucket).is_ok());
            tables.push(table);
        }
        let mut model = Model::default();
        for (domain, op) in &ops {
            step(&mut tables, &mut model, *domain, op);
            check(&tables, &model);
        }
    }
}
