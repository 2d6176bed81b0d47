//! A machine of a few CPUs whose vCPUs are watched from outside: who really ran, tick by tick, is compared with what was
//! promised. Nothing here knows deadlines or budgets: the checks are the formula of `docs/scheduling.md`.
//!
//! A CPU notices what it is to do (a timer, another's interrupt) up to B late, as if it were in a section that cannot be
//! preempted; how late is chosen anew each time.

#![allow(dead_code, reason = "each test uses a part of it")]

use reservations::{
    Arrival, Change, CpuBooks, Decision, Extra, Kind, Next, Placement, Queue, Rules, Seat, Slot,
    State, Terms,
};

pub const SECTION: u64 = 3;
pub const QUANTUM: u64 = 10;

/// A million ticks a second, B of 3, and nothing kept back: the CPUs can be reserved to the brim.
pub fn rules() -> Rules {
    Rules::new(1_000_000, SECTION, QUANTUM, 0).unwrap()
}

pub fn terms(slice: u64, period: u64, extra: Extra) -> Terms {
    Terms::new(&rules(), slice, period, extra, Terms::USUAL_WEIGHT).unwrap()
}

/// Numbers that look random and are the same in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What an onlooker knows of a vCPU.
pub struct Watched {
    pub seat: Seat,
    pub cpu: usize,
    pub terms: Terms,
    /// It has asked to stay behind its own deadline: only the upper bound is its right.
    pub yielded: bool,
    pub alive: bool,
    /// On its way to another CPU: it waits for the end of its period, and a little for the way.
    pub moving: bool,
    pub awake: bool,
    pub down: bool,
    pub paused: u32,
    /// CPU time it got.
    pub ran: u64,
    /// Of which in its own time.
    pub guaranteed: u64,
    /// Since when the terms are these, it can run, or both: where windows begin.
    windows: Windows,
}

/// The extremes of `period · ran − slice · time`: over all windows that end now, what a window got beyond its rate is
/// this value less the least of before, and what it lacks is the greatest of before less this value.
struct Windows {
    least: Option<i128>,
    greatest: Option<i128>,
}

impl Watched {
    fn can_run(&self) -> bool {
        self.alive && self.awake && !self.down && self.paused == 0
    }

    fn value(&self, now: u64) -> i128 {
        let (slice, period) = (self.terms.slice() as i128, self.terms.period() as i128);
        period * self.ran as i128 - slice * now as i128
    }

    /// 9/4 · slice · (period − slice) + B · period, and a little for rounding down: the formula, times the period.
    fn bound(&self) -> i128 {
        let (slice, period) = (self.terms.slice() as i128, self.terms.period() as i128);
        9 * slice * (period - slice) / 4 + (SECTION as i128 + 9) * period
    }

    /// To be called whenever it begins or ends to run, or to be able to.
    fn look(&mut self, now: u64) {
        if !self.alive || self.terms.slice() == 0 {
            return;
        }
        let value = self.value(now);
        let least = *self.windows.least.get_or_insert(value);
        if self.terms.extra() == Extra::Never {
            assert!(
                value - least <= self.bound(),
                "got too much by {} at {now}: {:?}",
                value - least - self.bound(),
                self.terms,
            );
        }
        self.windows.least = Some(least.min(value));
        if self.can_run() && !self.yielded && !self.moving {
            // A section more: what a wake-up close to the end of a last period before a change may cost.
            let lower = self.bound() + (SECTION * self.terms.period()) as i128;
            let greatest = *self.windows.greatest.get_or_insert(value);
            assert!(
                greatest - value <= lower,
                "got too little by {} at {now}: {:?}",
                greatest - value - lower,
                self.terms,
            );
            self.windows.greatest = Some(greatest.max(value));
        } else {
            self.windows.greatest = None;
        }
    }

    fn forget_windows(&mut self) {
        self.windows = Windows {
            least: None,
            greatest: None,
        };
    }
}

pub struct Cpu<'a> {
    pub queue: Queue<'a>,
    pub decision: Decision,
    /// Who really runs.
    pub on: Option<usize>,
    /// When it notices that it is to decide anew.
    due: Option<u64>,
}

pub struct Machine<'a> {
    pub now: u64,
    pub cpus: Vec<Cpu<'a>>,
    pub placement: Placement<'a>,
    pub vcpus: Vec<Watched>,
    pub dice: Dice,
    /// How late a CPU notices, at most.
    pub late: u64,
    pub idle: u64,
}

pub fn storage(cpus: usize, vcpus: usize) -> (Vec<Vec<Slot>>, Vec<CpuBooks>) {
    (
        vec![vec![Slot::EMPTY; vcpus]; cpus],
        vec![CpuBooks::OFFLINE; cpus],
    )
}

impl<'a> Machine<'a> {
    pub fn new(
        rules: Rules,
        slots: &'a mut [Vec<Slot>],
        books: &'a mut [CpuBooks],
        seed: u64,
        late: u64,
    ) -> Self {
        let mut placement = Placement::new(books, rules);
        let cpus: Vec<_> = slots
            .iter_mut()
            .map(|slots| Cpu {
                queue: Queue::new(slots, rules, 0),
                decision: Decision {
                    run: None,
                    tag: 0,
                    kind: Kind::Idle,
                    until: None,
                },
                on: None,
                due: None,
            })
            .collect();
        for cpu in 0..cpus.len() {
            assert!(placement.set_online(cpu, true));
        }
        Self {
            now: 0,
            cpus,
            placement,
            vcpus: Vec::new(),
            dice: Dice(seed),
            late,
            idle: 0,
        }
    }

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
        self.vcpus.push(Watched {
            seat,
            cpu,
            terms,
            yielded: false,
            alive: true,
            moving: false,
            awake: true,
            down: true,
            paused: 0,
            ran: 0,
            guaranteed: 0,
            windows: Windows {
                least: None,
                greatest: None,
            },
        });
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

    fn follow(&mut self, cpu: usize, next: Next) {
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
                self.vcpus[vcpu].seat = seat;
                self.vcpus[vcpu].cpu = to_cpu;
                self.vcpus[vcpu].moving = false;
                self.vcpus[vcpu].windows.greatest = None;
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

    /// Terms come into force without anybody saying so: windows begin anew then.
    fn note_terms(&mut self, vcpu: usize) {
        let v = &mut self.vcpus[vcpu];
        if !v.alive {
            return;
        }
        if let Ok((terms, _)) = self.cpus[v.cpu].queue.terms(v.seat)
            && terms != v.terms
        {
            v.terms = terms;
            v.forget_windows();
        }
    }

    fn check(&self, cpu: usize) {
        let queue = &self.cpus[cpu].queue;
        assert!(queue.is_balanced(), "time was lost on CPU {cpu}");
        assert!(queue.is_sound(), "a vCPU was lost on CPU {cpu}");
    }

    pub fn next_event(&self) -> Option<u64> {
        self.cpus
            .iter()
            .filter_map(|cpu| cpu.due.or(cpu.decision.until))
            .min()
    }

    /// Lets time pass; CPUs do what is due meanwhile.
    pub fn run_to(&mut self, end: u64) {
        while let Some(next) = self.next_event().filter(|&next| next <= end) {
            self.pass(next.max(self.now));
            for cpu in 0..self.cpus.len() {
                self.serve(cpu);
            }
        }
        self.pass(end);
    }

    fn serve(&mut self, cpu: usize) {
        match (self.cpus[cpu].due, self.cpus[cpu].decision.until) {
            (Some(due), _) if due <= self.now => self.decide(cpu),
            (None, Some(until)) if until <= self.now => {
                let now = self.now;
                let next = self.cpus[cpu].queue.expire(now);
                assert_eq!(next, Next::Decide, "a decision ended and stands");
                self.follow(cpu, next);
            }
            _ => {}
        }
    }

    fn decide(&mut self, cpu: usize) {
        let now = self.now;
        self.cpus[cpu].due = None;
        if let Some(on) = self.cpus[cpu].on {
            self.vcpus[on].look(now);
        }
        let decision = self.cpus[cpu].queue.decide(now);
        self.cpus[cpu].decision = decision;
        self.cpus[cpu].on = decision.run.map(|seat| {
            let index = (decision.tag & 0xffff_ffff) as usize;
            assert_eq!(self.vcpus[index].seat, seat);
            assert!(self.vcpus[index].can_run(), "one that cannot run is run");
            index
        });
        for vcpu in 0..self.vcpus.len() {
            if self.vcpus[vcpu].cpu == cpu && self.vcpus[vcpu].alive {
                self.vcpus[vcpu].look(now);
                self.note_terms(vcpu);
                self.check_work_is_conserved(vcpu, decision);
            }
        }
        self.check(cpu);
    }

    /// T5, from outside.
    fn check_work_is_conserved(&self, vcpu: usize, decision: Decision) {
        let v = &self.vcpus[vcpu];
        let queue = &self.cpus[v.cpu].queue;
        if v.moving
            || queue.state(v.seat) != Ok(State::Runnable)
            || decision.until == Some(self.now)
        {
            return;
        }
        let (_, budget, _) = queue.period(v.seat).unwrap();
        let terms = queue.terms(v.seat).unwrap().0;
        match decision.kind {
            Kind::Guaranteed => {}
            Kind::Extra => assert_eq!(budget, 0, "one with budget waits for left-over time"),
            Kind::Idle => {
                assert_eq!(budget, 0, "the CPU idles beside one with budget");
                assert_eq!(terms.extra(), Extra::Never, "and beside one that takes all");
            }
        }
    }

    fn pass(&mut self, to: u64) {
        let passed = to - self.now;
        self.now = to;
        for cpu in 0..self.cpus.len() {
            match self.cpus[cpu].on {
                Some(on) => {
                    self.vcpus[on].ran += passed;
                    if self.cpus[cpu].decision.kind == Kind::Guaranteed {
                        self.vcpus[on].guaranteed += passed;
                    }
                    self.vcpus[on].look(to);
                }
                None => self.idle += passed,
            }
        }
    }

    /// No promise was broken, by the queues' own account too.
    pub fn assert_nothing_missed(&self) {
        for v in self.vcpus.iter().filter(|v| v.alive) {
            let account = self.cpus[v.cpu].queue.account(v.seat).unwrap();
            assert_eq!(account.missed, 0, "{:?}", v.terms);
        }
    }
}
