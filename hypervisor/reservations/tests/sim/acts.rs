//! What is done to the machine's vCPUs: they come, wake, sleep, change and go.

use crate::sim::machine::Machine;
use crate::sim::watched::Watched;
use reservations::{Arrival, Change, Next, Queue, Seat, Terms};

impl<'a> Machine<'a> {
    /// A new vCPU, if there is room: down.
    pub fn try_add(&mut self, terms: Terms, domain: u32) -> Option<usize> {
        let cpu = self
            .placement
            .admit(self.now, &terms, |_| true, |_| true)
            .ok()?;
        let index = self.vcpus.len();
        let sibling = self.sibling(cpu, domain);
        let arrival = Arrival {
            tag: u64::from(domain) << 32 | index as u64,
            domain,
            sibling,
            origin: 0,
            terms,
        };
        let Ok(seat) = self.cpus[cpu].queue.arrive(self.now, arrival) else {
            let release = self.placement.withdraw(cpu, &terms);
            self.placement.release(self.now, release, self.now);
            return None;
        };
        self.vcpus.push(Watched::new(seat, cpu, terms));
        Some(index)
    }

    fn sibling(&self, cpu: usize, domain: u32) -> Option<Seat> {
        let queue = &self.cpus[cpu].queue;
        let here = |v: &&Watched| v.alive && v.cpu == cpu;
        self.vcpus.iter().filter(here).map(|v| v.seat).find(|seat| {
            queue
                .tag(*seat)
                .is_ok_and(|tag| (tag >> 32) as u32 == domain)
        })
    }

    /// Adds and starts one; there must be room.
    pub fn start(&mut self, terms: Terms) -> usize {
        let domain = self.vcpus.len() as u32;
        let vcpu = self.try_add(terms, domain).expect("room");
        self.up(vcpu);
        vcpu
    }

    pub(super) fn follow(&mut self, cpu: usize, next: Next) {
        if next == Next::Decide && self.cpus[cpu].due.is_none() {
            self.cpus[cpu].due = Some(self.now + self.dice.below(self.late + 1));
        }
    }

    fn act(
        &mut self,
        vcpu: usize,
        act: impl FnOnce(&mut Queue<'a>, u64, Seat) -> Next,
        change: impl FnOnce(&mut Watched),
    ) {
        let (cpu, seat, now) = (self.vcpus[vcpu].cpu, self.vcpus[vcpu].seat, self.now);
        self.vcpus[vcpu].look(now);
        let next = act(&mut self.cpus[cpu].queue, now, seat);
        change(&mut self.vcpus[vcpu]);
        self.vcpus[vcpu].look(now);
        self.follow(cpu, next);
        self.note_terms(vcpu);
        self.check(cpu);
    }

    pub fn up(&mut self, vcpu: usize) {
        self.act(
            vcpu,
            |q, now, s| q.up(now, s).unwrap(),
            |v| (v.down, v.awake) = (false, true),
        );
    }

    pub fn down(&mut self, vcpu: usize) {
        self.act(vcpu, |q, now, s| q.down(now, s).unwrap(), |v| v.down = true);
    }

    pub fn wake(&mut self, vcpu: usize) {
        self.act(
            vcpu,
            |q, now, s| q.wake(now, s).unwrap(),
            |v| v.awake = true,
        );
    }

    pub fn block(&mut self, vcpu: usize) {
        self.act(
            vcpu,
            |q, now, s| q.block(now, s).unwrap(),
            |v| v.awake = false,
        );
    }

    pub fn pause(&mut self, vcpu: usize) {
        self.act(
            vcpu,
            |q, now, s| q.pause(now, s).unwrap(),
            |v| v.paused += 1,
        );
    }

    pub fn unpause(&mut self, vcpu: usize) {
        self.act(
            vcpu,
            |q, now, s| q.unpause(now, s).unwrap(),
            |v| v.paused = v.paused.saturating_sub(1),
        );
    }

    pub fn yield_now(&mut self, vcpu: usize) {
        self.act(
            vcpu,
            |q, now, s| q.yield_now(now, s).unwrap(),
            |v| v.yielded = true,
        );
    }

    /// Other terms, perhaps on another CPU; false if they were refused.
    pub fn change(&mut self, vcpu: usize, to: Terms, allowed: impl Fn(usize) -> bool) -> bool {
        let (cpu, seat, now) = (self.vcpus[vcpu].cpu, self.vcpus[vcpu].seat, self.now);
        let (in_force, coming) = self.cpus[cpu].queue.terms(seat).unwrap();
        let from = coming.unwrap_or(in_force);
        match self.placement.amend(now, cpu, &from, &to, allowed) {
            Err(_) => return false,
            Ok(Change::Here(release)) => {
                let (until, next) = self.cpus[cpu].queue.change(now, seat, to).unwrap();
                self.placement.release(now, release, until);
                self.follow(cpu, next);
            }
            Ok(Change::Elsewhere { to: other, release }) => {
                let (until, next) = self.cpus[cpu].queue.leave(now, seat).unwrap();
                self.placement.release(now, release, until);
                self.follow(cpu, next);
                self.moving_to(vcpu, other, to);
            }
        }
        self.note_terms(vcpu);
        self.check(cpu);
        true
    }

    /// It runs on, on the old CPU, until its period ends there; then it arrives.
    fn moving_to(&mut self, vcpu: usize, to_cpu: usize, to: Terms) {
        let from = self.vcpus[vcpu].cpu;
        self.vcpus[vcpu].moving = true;
        for _ in 0..10_000 {
            if let Some(left) = self.cpus[from].queue.take_one_that_left(self.now) {
                let index = (left.tag() & 0xffff_ffff) as usize;
                assert_eq!(index, vcpu, "nobody else moves");
                let now = self.now;
                self.vcpus[vcpu].look(now);
                let (seat, next) = self.cpus[to_cpu]
                    .queue
                    .arrive_from(now, &left, to, None)
                    .unwrap();
                self.follow(to_cpu, next);
                self.vcpus[vcpu].arrived(seat, to_cpu);
                return;
            }
            let next = self.next_event().expect("it leaves when its period ends");
            self.run_to(next);
        }
        panic!("it never left");
    }

    /// Ends it; its room comes back when what it took is paid for.
    pub fn end(&mut self, vcpu: usize) {
        let (cpu, seat, now) = (self.vcpus[vcpu].cpu, self.vcpus[vcpu].seat, self.now);
        self.vcpus[vcpu].look(now);
        let (in_force, coming) = self.cpus[cpu].queue.terms(seat).unwrap();
        let (account, paid_for_at, next) = self.cpus[cpu].queue.remove(now, seat).unwrap();
        assert_eq!(
            account.missed, 0,
            "a promise to one that ended was not kept"
        );
        let release = self.placement.withdraw(cpu, &coming.unwrap_or(in_force));
        self.placement.release(now, release, paid_for_at);
        self.vcpus[vcpu].alive = false;
        self.follow(cpu, next);
        if self.cpus[cpu].on == Some(vcpu) {
            self.cpus[cpu].on = None;
        }
    }
}
