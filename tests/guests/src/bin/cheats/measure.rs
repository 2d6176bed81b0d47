//! A window of time: what was counted by those who ran in it, and what was charged.

use guest_runtime::abi::DOMID_SELF;
use guest_runtime::abi::usage::{Books, USAGE_CAUSES, USAGE_OF_DOMAIN, Usage};
use guest_runtime::builder::Child;
use guest_runtime::link::Step;
use guest_runtime::{check, check_eq, child, events, say};
use guests::accounts::{self, used};

use crate::{STUBS, steps};

/// How long a window is: five turns of each, and more.
pub const WINDOW_NS: u64 = 110_000_000;
/// How long both run before it opens.
const BEFORE_NS: u64 = 25_000_000;
/// Turns of its own whose ends a victim pays for in a window, at most, and what one takes.
const OWN_TURNS: u64 = WINDOW_NS / 10_000_000 + 1;
const TURNS_END: u64 = 4_000;
/// What may be missing from an account: one in so many.
const ONE_IN: u64 = 10_000;

/// An attack, made without end.
pub struct Attack {
    /// What it is.
    pub name: &'static str,
    /// What the attacker does.
    pub step: Step,
}

impl Attack {
    /// An attack.
    pub const fn new(name: &'static str, step: Step) -> Self {
        Self { name, step }
    }
}

/// What is known at one moment of the control domain's.
struct Moment {
    attacker: Usage,
    victim: Usage,
    ours: Usage,
    books: Books,
    work: u64,
    deeds: u64,
    victims: u64,
}

impl Moment {
    /// Nobody else runs now: accounts and counts of the two stand still.
    fn now(attacker: &Child, victim: &Child) -> Self {
        let of = |id| accounts::usage_of(id, USAGE_OF_DOMAIN);
        Self {
            work: attacker.link().get(steps::WORK),
            deeds: attacker.link().get(steps::DEEDS),
            victims: victim.link().get(steps::VICTIMS),
            attacker: of(attacker.id),
            victim: of(victim.id),
            ours: of(DOMID_SELF as u16),
            books: accounts::books_of(0),
        }
    }
}

/// What passed between two moments.
pub struct Window {
    /// Instructions of work that the attacker counted.
    pub work: u64,
    /// What the attacker did of its kind.
    pub deeds: u64,
    /// What it was charged for, all in all.
    pub charged: u64,
    /// In its own modes.
    pub own: u64,
    /// Instructions that the victim counted.
    pub victims: u64,
    /// What the victim is charged as its own execution.
    pub victim_own: u64,
    /// What it is charged for the hypervisor's work, by cause.
    pub victim_hypervisor: [u64; USAGE_CAUSES],
    /// How often the victim got the CPU.
    pub victim_switches: u64,
    /// The control domain's share.
    pub ours: u64,
    /// The hypervisor's own.
    pub machine: u64,
    /// Nobody had anything to do.
    pub idle: u64,
    /// Cycles between the two.
    pub elapsed: u64,
}

/// Lets both run, or the attacker alone, and looks at a stretch of it.
pub fn window(attack: &Attack, attacker: &mut Child, victim: &mut Child, is_alone: bool) -> Window {
    if !is_alone {
        victim.start(steps::counts, [0; 5]);
    }
    attacker.start(attack.step, [0; 5]);
    // Events of theirs wake nobody: only time does.
    child::wait(&[], events::now_ns() + BEFORE_NS);
    let first = Moment::now(attacker, victim);
    child::wait(&[], events::now_ns() + WINDOW_NS);
    let last = Moment::now(attacker, victim);
    between(&first, &last)
}

fn between(first: &Moment, last: &Moment) -> Window {
    let own = |usage: &Usage| usage.user + usage.kernel;
    Window {
        work: last.work - first.work,
        deeds: last.deeds - first.deeds,
        charged: used(&last.attacker) - used(&first.attacker),
        own: own(&last.attacker) - own(&first.attacker),
        victims: last.victims - first.victims,
        victim_own: own(&last.victim) - own(&first.victim),
        victim_hypervisor: core::array::from_fn(|cause| {
            last.victim.hypervisor[cause] - first.victim.hypervisor[cause]
        }),
        victim_switches: last.victim.switches - first.victim.switches,
        ours: used(&last.ours) - used(&first.ours),
        machine: last.books.machine - first.books.machine,
        idle: last.books.idle - first.books.idle,
        elapsed: last.books.last - first.books.last,
    }
}

/// Millionths of `whole`, of a part that may be below nothing.
fn millionths(part: i128, whole: u64) -> i128 {
    part * 1_000_000 / i128::from(whole.max(1))
}

impl Window {
    /// Tells what was seen of the attacker, and checks that nothing was cheated out of its account.
    pub fn judge(&self, name: &str) {
        let missing = i128::from(self.work) - i128::from(self.own);
        let all_missing = i128::from(self.work) - i128::from(self.charged);
        say!(
            "cheats: {name}: measured {} cycles, charged {} ({} own): {} millionths cheated, {} with the hypervisor's \
             work; {} deeds",
            self.work,
            self.charged,
            self.own,
            millionths(missing, self.work),
            millionths(all_missing, self.work),
            self.deeds
        );
        say!(
            "cheats: {name}: of {} cycles {} were the control domain's, {} the machine's ({} millionths), {} idle",
            self.elapsed,
            self.ours,
            self.machine,
            millionths(i128::from(self.machine), self.elapsed),
            self.idle
        );
        // What the attacker counted in itself is in its account: all of it but what is counted late by one turn.
        let allowed = i128::from(self.work / ONE_IN) + 1000;
        check!(missing <= allowed, "no work for nothing");
        check!(all_missing <= allowed, "nor with the hypervisor's");
        check!(
            self.machine <= self.elapsed / ONE_IN,
            "the machine pays for nobody"
        );
    }

    /// Tells what the victim was made to pay, and checks that it is nothing but what an interrupt has outside the two
    /// readings, and the ends of turns that it used up. `interrupts` is how often it was interrupted at most.
    pub fn judge_victim(&self, name: &str, interrupts: u64) {
        let excess = i128::from(self.victim_own) - i128::from(self.victims);
        let [call, fault, interrupt, timer, device, switch] = self.victim_hypervisor;
        say!(
            "cheats: {name}: the victim measured {} cycles, charged {}: {excess} more ({} millionths), and of the \
             hypervisor's {timer} for timers, {switch} for switches, {} for others; {} times on the CPU",
            self.victims,
            self.victim_own,
            millionths(excess, self.victims),
            call + fault + interrupt + device,
            self.victim_switches
        );
        check!(self.victims > 0, "the victim got on");
        check!(
            excess >= -i128::from(steps::TURN),
            "it is charged what it did"
        );
        let allowed = interrupts * STUBS + steps::TURN;
        check!(
            excess <= i128::from(allowed),
            "and no more than interrupts take"
        );
        check_eq!("it called nobody", [call, fault], [0, 0]);
        check_eq!(
            "others' interrupts are not its own",
            [interrupt, device],
            [0, 0]
        );
        check!(
            timer + switch <= OWN_TURNS * TURNS_END,
            "nor are the ends of turns that others cut"
        );
    }
}
