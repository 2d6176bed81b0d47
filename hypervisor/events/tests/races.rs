//! A port is given out or taken back on one CPU while an event is raised on another, in every order of their steps (E8, E9).

mod page;

use events::{
    Bucket, DomId, PORTS_PER_BUCKET, Peer, Port, PortState, Ports, SendTo, SharedBits, VcpuId, Virq,
};
use interleave::{AtomicU32, every_order, wait};
use page::Page;
use std::sync::Mutex;
use std::sync::atomic::Ordering::SeqCst;

const A: DomId = DomId(3);

/// A domain: its table behind its lock, and the bits it shares.
struct Domain {
    locked: AtomicU32,
    table: Mutex<Ports<'static>>,
    bits: Page,
    /// The port that was raised for the binding there is in the end; 0 for none.
    raised: AtomicU32,
}

impl Domain {
    /// A domain with one port in use, a debug interrupt's, for which an event waits.
    fn new() -> Domain {
        let bucket: Bucket = [PortState::FREE; PORTS_PER_BUCKET];
        let mut table = Ports::new(A, 1);
        assert!(table.add_bucket(Box::leak(Box::new(bucket))).is_ok());
        let bits = Page::default();
        let port = table.plan_bind_virq(u32::from(Virq::DEBUG), 0).unwrap();
        let port = port.commit(&bits);
        assert_eq!(port.get(), 1);
        let target = table.virq_port(Virq::DEBUG, VcpuId(0)).unwrap();
        let _ = target.raise(&bits);
        Domain {
            locked: AtomicU32::new(0),
            table: Mutex::new(table),
            bits,
            raised: AtomicU32::new(0),
        }
    }

    fn with_table<T>(&self, act: impl FnOnce(&mut Ports<'static>, &Page) -> T) -> T {
        while self.locked.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            wait();
        }
        let outcome = act(&mut self.table.lock().unwrap(), &self.bits);
        self.locked.store(0, SeqCst);
        outcome
    }

    fn close(&self) {
        self.with_table(|table, bits| {
            let _ = table.plan_close(1, Peer::Itself).unwrap().commit(bits);
        });
    }

    fn bind_timer(&self) -> Port {
        self.with_table(|table, bits| {
            let plan = table.plan_bind_virq(u32::from(Virq::TIMER), 0).unwrap();
            plan.commit(bits)
        })
    }

    fn raise_timer(&self) {
        let raised = self.with_table(|table, bits| {
            let target = table.virq_port(Virq::TIMER, VcpuId(0));
            target.map(|target| target.raise(bits))
        });
        if let Some(raised) = raised {
            self.raised.store(raised.port.get(), SeqCst);
        }
    }

    /// What a guest sends on a port that it knows.
    fn send(&self, claim: u32) {
        self.with_table(|table, bits| {
            if let Ok(SendTo::Local(target)) = table.send(claim) {
                let _ = target.raise(bits);
            }
        });
    }

    /// What was raised for the timer waits for it.
    fn event_is_there(&self) {
        let raised = self.raised.load(SeqCst);
        if let Some(port) = Port::from_claim(raised) {
            assert!(self.bits.is_pending(port), "port {raised}");
        }
    }
}

#[test]
fn an_event_after_commit_is_never_cleared() {
    let bind = |dom: &Domain| {
        let _ = dom.bind_timer();
    };
    let raise = |dom: &Domain| dom.raise_timer();
    let seen = std::cell::Cell::new([false; 2]);
    every_order(Domain::new, &[&bind, &raise], |dom| {
        dom.event_is_there();
        let mut both = seen.get();
        both[usize::from(dom.raised.load(SeqCst) != 0)] = true;
        seen.set(both);
    });
    assert_eq!(seen.get(), [true; 2], "before the commit, and after");
}

/// The attack: a port is closed, and another vCPU binds it anew before the one that closed it is done.
#[test]
fn a_port_that_is_bound_anew_keeps_its_first_event() {
    let close = |dom: &Domain| dom.close();
    let bind_and_raise = |dom: &Domain| {
        let _ = dom.bind_timer();
        dom.raise_timer();
    };
    let reused = std::cell::Cell::new(false);
    every_order(Domain::new, &[&close, &bind_and_raise], |dom| {
        dom.event_is_there();
        reused.set(reused.get() | (dom.raised.load(SeqCst) == 1));
    });
    assert!(reused.get());
}

#[test]
fn what_was_raised_for_a_binding_before_is_gone() {
    let dom = Domain::new();
    dom.close();
    let port = dom.bind_timer();
    assert_eq!(port.get(), 1);
    assert!(!dom.bits.is_pending(port));
}

/// The attack: what was sent on a port, or raised for an interrupt, comes when the port is closed, and to what has its number by
/// then.
#[test]
fn no_event_comes_to_what_it_was_not_raised_for() {
    /// Nothing waits for the port, which is a timer's; it is closed, and waits for another domain then.
    fn waits_for_another(dom: &Domain) {
        dom.close();
        let waits = dom.with_table(|table, bits| {
            let plan = table.plan_alloc_unbound(DomId(9)).unwrap();
            plan.commit(bits)
        });
        assert_eq!(waits.get(), 1);
    }
    let bound = |bind: fn(&mut Ports<'static>, &Page) -> Port| {
        move || {
            let dom = Domain::new();
            dom.close();
            assert_eq!(dom.with_table(bind).get(), 1);
            dom
        }
    };
    let timer = bound(|table, bits| {
        let plan = table.plan_bind_virq(u32::from(Virq::TIMER), 0).unwrap();
        plan.commit(bits)
    });
    let ipi = bound(|table, bits| table.plan_bind_ipi(0).unwrap().commit(bits));
    let close = |dom: &Domain| waits_for_another(dom);
    let nothing_came = |dom: &Domain| {
        assert!(!dom.bits.is_pending(Port::from_claim(1).unwrap()));
    };
    every_order(timer, &[&close, &|dom| dom.raise_timer()], nothing_came);
    every_order(ipi, &[&close, &|dom| dom.send(1)], nothing_came);
}
