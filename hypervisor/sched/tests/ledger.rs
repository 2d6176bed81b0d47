//! The ledger against a list of intervals: every cycle of every CPU is in the account that it belongs to, and the sums are
//! exact (S6).

use proptest::prelude::*;
use sched::{CAUSES, Cause, CpuLedger, Due, Guest, Kind, Payer, SharedAccount, Usage, VcpuAccount};

const CPUS: usize = 3;
const VCPUS: usize = 5;
const DOMAINS: usize = 2;

/// Whose a vCPU is.
const fn domain_of(vcpu: usize) -> usize {
    vcpu % DOMAINS
}

/// Whose an interval is in the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Label {
    User(usize, Kind),
    Kernel(usize, Kind),
    Hypervisor(usize, Kind, Cause),
    Elsewhere(usize, Cause),
    Machine,
    Idle,
    /// An interrupt with a vCPU in hand that nobody has claimed.
    Fresh(usize, Kind),
    /// Nobody's yet.
    Unassigned,
}

/// One CPU: its ledger, and every interval with its label, kept by the test itself.
struct Cpu {
    ledger: CpuLedger,
    in_hand: Option<(usize, Kind)>,
    guest: Guest,
    /// When each interval began, and whose it is; the last is open.
    log: Vec<(u64, Label)>,
    now: u64,
}

#[derive(Clone, Debug)]
enum Op {
    /// The guest is entered, changes its mode a few times, and comes back.
    Guest(Vec<u64>, Option<Cause>),
    Claim(Cause),
    ClaimElsewhere(usize, Cause),
    ClaimMachine,
    GoesOn,
    Handled,
    /// An interrupt in ring 0 or in sleep, claimed by a domain, or by nobody.
    Interrupt(Option<(usize, Cause)>),
    Switches,
    Settle,
    WorksFor(usize, Kind),
    Sleep,
    Wake,
    Works,
    /// A vCPU ends, and another takes its place.
    End(usize),
}

fn any_cause() -> impl Strategy<Value = Cause> {
    (0..CAUSES).prop_map(|n| Cause::ALL[n])
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Guaranteed), Just(Kind::Extra)]
}

fn any_op() -> impl Strategy<Value = Op> {
    let entry = prop_oneof![
        Just(Some(Cause::Call)),
        Just(Some(Cause::Fault)),
        Just(None)
    ];
    let elsewhere = || (0..DOMAINS, any_cause());
    prop_oneof![
        6 => (prop::collection::vec(0_u64..500, 1..6), entry).prop_map(|(m, e)| Op::Guest(m, e)),
        2 => any_cause().prop_map(Op::Claim),
        3 => elsewhere().prop_map(|(d, c)| Op::ClaimElsewhere(d, c)),
        1 => Just(Op::ClaimMachine),
        2 => Just(Op::GoesOn),
        2 => Just(Op::Handled),
        3 => prop::option::of(elsewhere()).prop_map(Op::Interrupt),
        2 => Just(Op::Switches),
        1 => Just(Op::Settle),
        4 => (0..VCPUS, any_kind()).prop_map(|(v, k)| Op::WorksFor(v, k)),
        2 => Just(Op::Sleep),
        2 => Just(Op::Wake),
        1 => Just(Op::Works),
        1 => (0..VCPUS).prop_map(Op::End),
    ]
}

impl Cpu {
    fn new(first: u64) -> Self {
        let ledger = CpuLedger::new();
        ledger.begin(first, 5);
        Self {
            ledger,
            in_hand: None,
            guest: Guest::NONE,
            log: vec![(first, Label::Machine)],
            now: first,
        }
    }

    fn label(&self) -> Label {
        self.log.last().unwrap().1
    }

    fn note(&mut self, label: Label) {
        self.log.push((self.now, label));
    }

    fn rename(&mut self, label: Label) {
        self.log.last_mut().unwrap().1 = label;
    }

    /// A claim as the ledger is to take it: from the beginning of what nobody has claimed, else from now.
    fn claim(&mut self, label: Label) {
        match self.label() {
            Label::Fresh(..) | Label::Unassigned => self.rename(label),
            open if open == label => {}
            _ => self.note(label),
        }
    }

    fn handled(&mut self) {
        if let Label::Fresh(v, kind) = self.label() {
            self.rename(Label::Hypervisor(v, kind, Cause::Interrupt));
        }
    }

    /// All that is not assigned is somebody's now.
    fn assign(&mut self, to: Label) {
        for (_, label) in &mut self.log {
            if *label == Label::Unassigned {
                *label = to;
            }
        }
    }

    /// What the intervals add up to.
    fn add_up(&self, sums: &mut Witness) {
        let ends = self.log[1..].iter().map(|(began, _)| *began);
        for ((began, label), end) in self.log.iter().zip(ends.chain([self.now])) {
            sums.saw(*label, end.wrapping_sub(*began));
        }
    }
}

/// What was used, by the intervals.
struct Witness {
    vcpus: [Usage; VCPUS],
    domains: [Usage; DOMAINS],
    machine: u64,
    idle: u64,
}

impl Witness {
    fn saw(&mut self, label: Label, cycles: u64) {
        let (usage, kind) = match label {
            Label::Idle => return self.idle += cycles,
            Label::Machine | Label::Unassigned => return self.machine += cycles,
            Label::Elsewhere(domain, cause) => {
                let usage = &mut self.domains[domain];
                usage.hypervisor[cause as usize] += cycles;
                usage.elsewhere += cycles;
                return;
            }
            Label::User(v, kind) => {
                self.vcpus[v].user += cycles;
                (&mut self.vcpus[v], kind)
            }
            Label::Kernel(v, kind) => {
                self.vcpus[v].kernel += cycles;
                (&mut self.vcpus[v], kind)
            }
            Label::Hypervisor(v, kind, cause) => {
                self.vcpus[v].hypervisor[cause as usize] += cycles;
                (&mut self.vcpus[v], kind)
            }
            Label::Fresh(v, kind) => {
                self.vcpus[v].hypervisor[Cause::Interrupt as usize] += cycles;
                (&mut self.vcpus[v], kind)
            }
        };
        match kind {
            Kind::Guaranteed => usage.guaranteed += cycles,
            Kind::Extra => usage.extra += cycles,
        }
    }
}

struct World {
    cpus: Vec<Cpu>,
    vcpus: Vec<VcpuAccount>,
    domains: Vec<SharedAccount>,
    switches: [u64; VCPUS],
    /// Of their accounts, what was used before they were in hand.
    given: u64,
    /// vCPUs that have ended, by the label they had: their cycles are the domain's.
    ended: Vec<(usize, Usage)>,
}

impl World {
    fn new(firsts: [u64; CPUS]) -> Self {
        Self {
            cpus: firsts.map(Cpu::new).into(),
            vcpus: (0..VCPUS).map(|_| VcpuAccount::new()).collect(),
            domains: (0..DOMAINS).map(|_| SharedAccount::new()).collect(),
            switches: [0; VCPUS],
            given: 0,
            ended: Vec::new(),
        }
    }

    fn is_loaded(&self, vcpu: usize) -> bool {
        let mut cpus = self.cpus.iter();
        cpus.any(|cpu| cpu.in_hand.is_some_and(|(v, _)| v == vcpu))
    }

    fn pay(&self, due: Option<Due>) {
        if let Some(due) = due {
            self.domains[due.payer.0 as usize].add_elsewhere(due.cause, due.cycles);
        }
    }

    fn step(&mut self, number: usize, later: u64, op: Op) {
        if let Op::WorksFor(v, _) | Op::End(v) = op {
            let here = self.cpus[number].in_hand.is_some_and(|(w, _)| w == v);
            let ends = matches!(op, Op::End(_));
            if self.is_loaded(v) && (ends || !here) {
                return;
            }
        }
        let cpu = &mut self.cpus[number];
        cpu.now = cpu.now.wrapping_add(later);
        let asleep = cpu.label() == Label::Idle;
        let account = cpu.in_hand.map(|(v, _)| &self.vcpus[v]);
        let now = cpu.now;
        let due = match op {
            Op::Wake => {
                cpu.ledger.woke(|| now);
                if asleep {
                    cpu.note(Label::Unassigned);
                }
                None
            }
            Op::Interrupt(claimed) => {
                cpu.handled();
                let before = cpu.label();
                let token = cpu.ledger.interrupted(now);
                match (cpu.in_hand, before) {
                    (Some((v, kind)), Label::Hypervisor(..)) => cpu.note(Label::Fresh(v, kind)),
                    _ => cpu.note(Label::Unassigned),
                }
                let first = claimed.and_then(|(domain, cause)| {
                    cpu.claim(Label::Elsewhere(domain, cause));
                    let payer = Payer(domain as u64);
                    cpu.ledger.claim_elsewhere(payer, cause, || now)
                });
                cpu.handled();
                cpu.now = now.wrapping_add(later);
                let second = cpu.ledger.resumed(cpu.now, token);
                if before != Label::Idle {
                    cpu.note(before);
                }
                self.pay(first);
                second
            }
            // Nothing else happens to a CPU that sleeps.
            _ if asleep => None,
            Op::Guest(marks, entry) => {
                let Some((v, kind)) = cpu.in_hand else { return };
                let left = now;
                let mut is_user = false;
                for mark in &marks {
                    let (label, sum) = match is_user {
                        true => (Label::User(v, kind), &mut cpu.guest.user),
                        false => (Label::Kernel(v, kind), &mut cpu.guest.kernel),
                    };
                    *sum += mark;
                    cpu.note(label);
                    cpu.now = cpu.now.wrapping_add(*mark);
                    is_user = !is_user;
                }
                match entry {
                    Some(cause) => {
                        cpu.ledger.came_back(left, cpu.now, cause);
                        cpu.note(Label::Hypervisor(v, kind, cause));
                    }
                    None => {
                        cpu.ledger.came_back_by_interrupt(left, cpu.now);
                        cpu.note(Label::Fresh(v, kind));
                    }
                }
                None
            }
            Op::Claim(cause) => {
                let Some((v, kind)) = cpu.in_hand else { return };
                cpu.ledger.claim(cause, || now);
                cpu.claim(Label::Hypervisor(v, kind, cause));
                None
            }
            Op::ClaimElsewhere(domain, cause) => {
                let payer = Payer(domain as u64);
                let due = cpu.ledger.claim_elsewhere(payer, cause, || now);
                cpu.claim(Label::Elsewhere(domain, cause));
                due
            }
            Op::GoesOn => {
                let Some((v, kind)) = cpu.in_hand else { return };
                let named = match cpu.label() {
                    Label::Elsewhere(domain, cause) => Some((Payer(domain as u64), cause)),
                    _ => None,
                };
                assert_eq!(cpu.ledger.payer(), named);
                cpu.ledger.goes_on(|| now);
                if let Label::Elsewhere(..) | Label::Hypervisor(_, _, Cause::Switch) = cpu.label() {
                    cpu.note(Label::Hypervisor(v, kind, Cause::Call));
                }
                None
            }
            Op::ClaimMachine => {
                cpu.ledger.claim_machine(|| now);
                cpu.claim(Label::Machine);
                None
            }
            Op::Handled => {
                cpu.ledger.handled();
                cpu.handled();
                None
            }
            Op::Switches => {
                cpu.ledger.switches(now);
                if let (Some((v, kind)), Label::Hypervisor(..) | Label::Fresh(..)) =
                    (cpu.in_hand, cpu.label())
                {
                    cpu.note(Label::Hypervisor(v, kind, Cause::Switch));
                }
                None
            }
            Op::Settle => {
                let guest = std::mem::take(&mut cpu.guest);
                cpu.handled();
                // A boundary: what is claimed later is claimed from here.
                cpu.note(cpu.label());
                cpu.ledger.settle(now, account, guest)
            }
            Op::WorksFor(v, kind) => {
                let guest = std::mem::take(&mut cpu.guest);
                let to = &self.vcpus[v];
                let due = cpu.ledger.works_for(now, account, guest, to, kind);
                self.given = self.given.wrapping_add(cpu.ledger.given());
                self.switches[v] += u64::from(cpu.in_hand.is_none_or(|(w, _)| w != v));
                cpu.handled();
                cpu.assign(Label::Hypervisor(v, kind, Cause::Switch));
                cpu.in_hand = Some((v, kind));
                cpu.note(Label::Hypervisor(v, kind, Cause::Switch));
                due
            }
            Op::Sleep | Op::Works => {
                let guest = std::mem::take(&mut cpu.guest);
                cpu.handled();
                cpu.assign(Label::Machine);
                cpu.in_hand = None;
                let (due, label) = match op {
                    Op::Sleep => (cpu.ledger.sleeps(now, account, guest), Label::Idle),
                    _ => (cpu.ledger.works(now, account, guest), Label::Machine),
                };
                cpu.note(label);
                due
            }
            Op::End(v) => {
                let closed = self.vcpus[v].close();
                self.domains[domain_of(v)].add(&closed);
                self.ended.push((v, closed));
                None
            }
        };
        self.pay(due);
    }

    /// Enters all that is open, and compares all accounts with the intervals.
    fn check(&mut self) {
        let mut sold = 0_u64;
        let mut seen = Witness {
            vcpus: [Usage::ZERO; VCPUS],
            domains: [Usage::ZERO; DOMAINS],
            machine: 0,
            idle: 0,
        };
        let (mut machine, mut idle) = (0, 0);
        let mut in_hand = self.given;
        for number in 0..CPUS {
            self.step(number, 7, Op::Settle);
            let cpu = &mut self.cpus[number];
            if cpu.label() == Label::Idle {
                // Asleep, it is not asked: its books are as when it went to sleep.
                let account = cpu.in_hand.map(|(v, _)| &self.vcpus[v]);
                assert_eq!(cpu.ledger.settle(cpu.now, account, Guest::NONE), None);
            }
            let books = cpu.ledger.books();
            assert!(books.is_balanced(), "S6 of CPU {number}: {books:?}");
            assert_eq!(books.last, cpu.now);
            assert_eq!(cpu.ledger.backwards(), 0);
            let aside = cpu.ledger.aside(cpu.now);
            let elapsed = books.last.wrapping_sub(books.first);
            in_hand = in_hand.wrapping_add(elapsed.wrapping_sub(aside));
            sold += books.sold;
            machine += books.machine;
            idle += books.idle;
            cpu.add_up(&mut seen);
        }
        assert_eq!((machine, idle), (seen.machine, seen.idle));
        for (v, usage) in &self.ended {
            // What it had used when it ended is its domain's; what came after, its successor's.
            let mut whole = self.vcpus[*v].usage(0);
            whole.add(usage);
            seen.domains[domain_of(*v)].add(usage);
        }
        let mut total = 0_u64;
        for (v, account) in self.vcpus.iter().enumerate() {
            let mut usage = account.usage(0);
            assert!(usage.is_whole(), "vCPU {v}: {usage:?}");
            total += usage.used();
            for (_, before) in self.ended.iter().filter(|(w, _)| *w == v) {
                usage.add(before);
            }
            assert_eq!(usage.switches, self.switches[v]);
            usage.switches = 0;
            assert_eq!(usage, seen.vcpus[v], "vCPU {v}");
        }
        let ended = self.ended.iter().map(|(_, usage)| usage.used());
        assert_eq!(
            in_hand,
            total + ended.sum::<u64>(),
            "what is aside is not of who was in hand"
        );
        for (account, mut seen) in self.domains.iter().zip(seen.domains) {
            let usage = account.usage();
            assert!(usage.is_whole(), "{usage:?}");
            total += usage.used();
            seen.switches = usage.switches;
            assert_eq!(usage, seen);
        }
        assert_eq!(sold, total, "what was sold is in somebody's account");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_cycle_of_every_cpu_is_in_the_account_that_it_belongs_to(
        firsts in prop::array::uniform3(any::<u64>()),
        ops in prop::collection::vec((0..CPUS, 0_u64..1000, any_op()), 0..120),
    ) {
        let mut world = World::new(firsts);
        for (cpu, later, op) in ops {
            world.step(cpu, later, op);
        }
        world.check();
    }
}

#[test]
fn an_interrupt_is_paid_from_its_beginning_by_whom_it_is_for() {
    let (ledger, mine, other) = (CpuLedger::new(), VcpuAccount::new(), SharedAccount::new());
    ledger.begin(100, 5);
    let works = ledger.works_for(110, None, Guest::NONE, &mine, Kind::Guaranteed);
    assert_eq!(works, None);
    // The guest runs from 120 to 150; then an interrupt of another's, until 190.
    ledger.came_back_by_interrupt(120, 150);
    let due = ledger.claim_elsewhere(Payer(7), Cause::Device, || unreachable!());
    assert_eq!(due, None);
    ledger.handled();
    let guest = Guest {
        user: 0,
        kernel: 30,
    };
    let due = ledger.settle(190, Some(&mine), guest).unwrap();
    assert_eq!(
        (due.payer, due.cause, due.cycles),
        (Payer(7), Cause::Device, 40)
    );
    other.add_elsewhere(due.cause, due.cycles);
    let usage = mine.usage(0);
    assert_eq!((usage.hypervisor_sum(), usage.kernel), (10, 30));
    assert_eq!((usage.guaranteed, usage.extra), (40, 0));
    assert_eq!(other.usage().elsewhere, 40);
    assert_eq!(ledger.books().sold, 80);
    assert!(ledger.books().is_balanced());
}

#[test]
fn waking_up_is_for_whoever_runs_then_and_else_the_machines() {
    let (ledger, vcpu) = (CpuLedger::new(), VcpuAccount::new());
    ledger.begin(0, 5);
    assert_eq!(ledger.sleeps(10, None, Guest::NONE), None);
    let token = ledger.interrupted(30);
    assert_eq!(ledger.resumed(35, token), None);
    ledger.woke(|| unreachable!("the interrupt's reading ended the sleep"));
    assert_eq!(ledger.sleeps(40, None, Guest::NONE), None);
    assert_eq!((ledger.books().idle, ledger.books().machine), (20, 20));
    ledger.woke(|| 50);
    assert_eq!(
        ledger.works_for(56, None, Guest::NONE, &vcpu, Kind::Extra),
        None
    );
    assert_eq!(vcpu.usage(0).hypervisor[Cause::Switch as usize], 6);
    assert_eq!((ledger.books().idle, ledger.books().machine), (30, 20));
}

#[test]
fn a_change_of_kind_cuts_time_where_it_happens() {
    let (ledger, vcpu) = (CpuLedger::new(), VcpuAccount::new());
    ledger.begin(0, 5);
    let first = ledger.works_for(0, None, Guest::NONE, &vcpu, Kind::Guaranteed);
    let second = ledger.works_for(25, Some(&vcpu), Guest::NONE, &vcpu, Kind::Extra);
    let end = ledger.sleeps(125, Some(&vcpu), Guest::NONE);
    assert_eq!((first, second, end), (None, None, None));
    let usage = vcpu.usage(0);
    assert_eq!(
        (usage.guaranteed, usage.extra, usage.switches),
        (25, 100, 1)
    );
}

#[test]
fn own_time_that_ends_without_a_decision_is_cut_where_it_ends() {
    let (ledger, vcpu) = (CpuLedger::new(), VcpuAccount::new());
    ledger.begin(1000, 0);
    let kind = Kind::Guaranteed;
    assert_eq!(ledger.works_for(1000, None, Guest::NONE, &vcpu, kind), None);
    assert_eq!(ledger.settle(1100, Some(&vcpu), Guest::NONE), None);
    let usage = vcpu.usage(0);
    assert_eq!((usage.guaranteed, usage.extra), (100, 0));
    ledger.own_time_ended(1250);
    assert_eq!(ledger.settle(1400, Some(&vcpu), Guest::NONE), None);
    let usage = vcpu.usage(0);
    assert_eq!((usage.guaranteed, usage.extra), (250, 150));
    // It stays over until it is said whose time it is.
    assert_eq!(ledger.settle(1500, Some(&vcpu), Guest::NONE), None);
    let again = ledger.works_for(1600, Some(&vcpu), Guest::NONE, &vcpu, kind);
    assert_eq!(again, None);
    assert_eq!(ledger.sleeps(1650, Some(&vcpu), Guest::NONE), None);
    let usage = vcpu.usage(0);
    assert_eq!((usage.guaranteed, usage.extra), (300, 350));
}

#[test]
fn what_is_open_counts_for_who_asks_before_it_is_entered() {
    let (ledger, vcpu) = (CpuLedger::new(), VcpuAccount::new());
    ledger.begin(1000, 5);
    assert_eq!(
        ledger.works_for(1000, None, Guest::NONE, &vcpu, Kind::Extra),
        None
    );
    assert_eq!((vcpu.usage(0).used(), vcpu.used_until(|_| 1500)), (0, 500));
    assert_eq!(vcpu.used_until(|_| 900), 0, "a clock behind shows nothing");
    let counters = |cpu: u16| if cpu == 5 { 1700 } else { 7 };
    assert_eq!(vcpu.used_until(counters), 700, "by its own CPU's counter");
    assert_eq!(ledger.sleeps(1600, Some(&vcpu), Guest::NONE), None);
    assert_eq!((vcpu.open_since(), vcpu.used_until(|_| 9999)), (None, 600));
}

#[test]
fn waiting_is_counted_once_however_often_it_is_said() {
    let vcpu = VcpuAccount::new();
    vcpu.waits(false, || unreachable!());
    vcpu.waits(true, || 10);
    vcpu.waits(true, || unreachable!());
    assert_eq!(vcpu.stolen_until(30), 20);
    vcpu.waits(false, || 40);
    assert_eq!((vcpu.usage(0).stolen, vcpu.stolen_until(99)), (30, 30));
    vcpu.waits(true, || 50);
    vcpu.waits(false, || 45);
    assert_eq!(
        vcpu.usage(0).stolen,
        25,
        "a clock behind takes what it is behind"
    );
    vcpu.waits(true, || 1000);
    vcpu.waits(false, || 900);
    assert_eq!(vcpu.usage(0).stolen, 0, "and no more than there is");
    vcpu.waits(true, || 0);
    vcpu.waits(false, || 7);
    assert_eq!(
        vcpu.usage(0).stolen,
        6,
        "a clock that has counted nothing yet begins with 1"
    );
}

#[test]
fn whoever_paid_before_pays_again_after_what_others_claimed() {
    let (ledger, vcpu) = (CpuLedger::new(), VcpuAccount::new());
    ledger.begin(0, 5);
    assert_eq!(
        ledger.works_for(0, None, Guest::NONE, &vcpu, Kind::Extra),
        None
    );
    let before = ledger.paying();
    assert_eq!(ledger.pays_again(before, || unreachable!()), None);
    assert_eq!(ledger.claim_elsewhere(Payer(1), Cause::Timer, || 10), None);
    let due = ledger
        .claim_elsewhere(Payer(2), Cause::Timer, || 13)
        .unwrap();
    assert_eq!((due.payer, due.cycles), (Payer(1), 3));
    assert_eq!(ledger.pays_again(before, || 18), None);
    let due = ledger.sleeps(20, Some(&vcpu), Guest::NONE).unwrap();
    assert_eq!((due.payer, due.cycles), (Payer(2), 5));
    assert_eq!(vcpu.usage(0).hypervisor[Cause::Switch as usize], 12);
}

#[test]
fn a_reading_before_the_last_is_noticed_and_nothing_is_lost() {
    let ledger = CpuLedger::new();
    ledger.begin(50, 5);
    assert_eq!(ledger.sleeps(40, None, Guest::NONE), None);
    assert_eq!(ledger.backwards(), 1);
    assert!(ledger.books().is_balanced());
}

#[test]
fn an_account_says_on_which_cpu_it_is_open_and_since_when() {
    let (ledger, vcpu) = (CpuLedger::new(), VcpuAccount::new());
    let place = || (vcpu.on_cpu(), vcpu.open_since());
    assert_eq!(place(), (None, None));
    ledger.begin(100, 5);
    let due = ledger.works_for(120, None, Guest::NONE, &vcpu, Kind::Extra);
    assert_eq!((due, place()), (None, (Some(5), Some(120))));
    let guest = Guest {
        user: 0,
        kernel: 30,
    };
    ledger.came_back(130, 160, Cause::Call);
    assert_eq!(ledger.settle(170, Some(&vcpu), guest), None);
    assert_eq!(place(), (Some(5), Some(170)));
    assert_eq!(ledger.sleeps(190, Some(&vcpu), Guest::NONE), None);
    assert_eq!(place(), (None, None));
    assert_eq!(vcpu.close().used(), 70);
    assert_eq!((vcpu.usage(500), place()), (Usage::ZERO, (None, None)));
}
