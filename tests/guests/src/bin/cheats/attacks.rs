//! Each attack, and what is asked of it besides.

use guest_runtime::abi::DOMID_SELF;
use guest_runtime::abi::usage::USAGE_OF_DOMAIN;
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::link::Step;
use guest_runtime::{check, check_eq, events, say};
use guests::accounts::{self, used};

use crate::measure::{self, Attack, WINDOW_NS};
use crate::steps;

/// Lets both run for a while, says what was seen, and ends them.
pub fn made(attack: &Attack, mut attacker: Child, mut victim: Child) {
    let window = measure::window(attack, &mut attacker, &mut victim, false);
    window.judge(attack.name);
    // Each deed may interrupt the victim twice: by a timer, and by the end of a turn that is cut for who woke. Turns end,
    // and the control domain comes.
    let by_deeds = 2 * window.deeds.min(WINDOW_NS / 10_000);
    let by_turns = 2 * window.victim_switches + 4;
    window.judge_victim(attack.name, by_deeds + by_turns);
    end([attacker, victim]);
}

/// The same with nobody beside: what is not charged to the attacker then is the machine's, or idle.
pub fn made_alone(attack: &Attack, mut attacker: Child, mut victim: Child) {
    let window = measure::window(attack, &mut attacker, &mut victim, true);
    say!("cheats: {}, alone", attack.name);
    window.judge(attack.name);
    check_eq!("who rests is charged nothing", window.victim_own, 0);
    end([attacker, victim]);
}

fn end(children: [Child; 2]) {
    for child in children {
        check!(child.destroy_and_wait(), "the child is gone");
    }
}

/// Creating and destroying is the control domain's work, whoever runs meanwhile.
pub fn made_by_the_control_domain() {
    let Some(mut victim) = builder::running(Plan::SMALL) else {
        return;
    };
    let step: Step = steps::counts;
    victim.start(step, [0; 5]);
    let of = |id| accounts::usage_of(id, USAGE_OF_DOMAIN);
    guest_runtime::child::wait(&[], events::now_ns() + 25_000_000);
    let counted = |victim: &Child| victim.link().get(steps::VICTIMS);
    let before = (
        counted(&victim),
        of(victim.id),
        of(DOMID_SELF as u16),
        accounts::books_of(0),
    );
    for _ in 0..4 {
        let Some(child) = builder::running(Plan::SMALL) else {
            return;
        };
        check!(child.destroy_and_wait(), "the child is gone");
    }
    let after = (
        counted(&victim),
        of(victim.id),
        of(DOMID_SELF as u16),
        accounts::books_of(0),
    );
    let executed = after.0 - before.0;
    let own = after.1.kernel + after.1.user - before.1.kernel - before.1.user;
    let hypervisor: u64 =
        after.1.hypervisor.iter().sum::<u64>() - before.1.hypervisor.iter().sum::<u64>();
    let elapsed = after.3.last - before.3.last;
    let ours = used(&after.2) - used(&before.2);
    say!(
        "cheats: creates and destroys: of {elapsed} cycles {ours} were the control domain's, {} the machine's; \
         the victim measured {executed}, charged {own} and {hypervisor} of the hypervisor's",
        after.3.machine - before.3.machine
    );
    check!(
        own + steps::TURN >= executed,
        "the victim is charged what it did"
    );
    check!(
        own - executed.min(own) <= elapsed / 10_000 + steps::TURN,
        "and not more"
    );
    let called = after.1.hypervisor[0] - before.1.hypervisor[0];
    check_eq!("it called nobody", called, 0);
    check!(victim.destroy_and_wait(), "the victim is gone");
}
