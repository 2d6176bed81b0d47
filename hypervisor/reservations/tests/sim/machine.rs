//! The machine itself: time passes, CPUs notice what is due and decide, and each decision is judged from outside.

use crate::sim::Dice;
use crate::sim::watched::Watched;
use reservations::{
    CpuBooks, Decision, Extra, Kind, Next, Placement, Queue, Rules, Seat, Slot, State,
};

pub struct Cpu<'a> {
    pub queue: Queue<'a>,
    pub decision: Decision,
    /// Who really runs.
    pub on: Option<usize>,
    /// When it notices that it is to decide anew.
    pub(super) due: Option<u64>,
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

    /// Terms come into force without anybody saying so: windows begin anew then.
    pub(super) fn note_terms(&mut self, vcpu: usize) {
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

    pub(super) fn check(&self, cpu: usize) {
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
        let before = self.states(cpu);
        let ran = self.cpus[cpu].queue.decision().run;
        let decision = self.cpus[cpu].queue.decide(now);
        // Ring 0 looks at these two alone.
        for ((seat, before), (_, after)) in before.into_iter().zip(self.states(cpu)) {
            let is_one_of_them = ran == Some(seat) || decision.run == Some(seat);
            assert!(before == after || is_one_of_them, "{seat:?} {before:?}");
        }
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

    fn states(&self, cpu: usize) -> Vec<(Seat, State)> {
        let queue = &self.cpus[cpu].queue;
        let here = self.vcpus.iter().filter(|v| v.alive && v.cpu == cpu);
        here.filter_map(|v| Some((v.seat, queue.state(v.seat).ok()?)))
            .collect()
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
