//! Ledger and runstate: everything adds up (S5, S6).

use proptest::prelude::*;
use sched::{Account, Cause, Ledger, Mode, Runstate, State, VcpuHandle};

const VCPUS: usize = 3;

fn any_cause() -> impl Strategy<Value = Cause> {
    let mode = prop_oneof![Just(Mode::User), Just(Mode::Kernel), Just(Mode::Hypervisor)];
    prop_oneof![
        // One handle more than there are accounts.
        5 => (0..=VCPUS as u32, mode).prop_map(|(vcpu, mode)| Cause::Vcpu(VcpuHandle(vcpu), mode)),
        1 => Just(Cause::Machine),
        1 => Just(Cause::Idle),
    ]
}

#[derive(Clone, Debug)]
enum Op {
    /// The boundary lies so many cycles after the last; a negative one before it.
    Switch(i64, Cause),
    Settle(u64),
    Close(u32),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (-50_i64..1000, any_cause()).prop_map(|(later, cause)| Op::Switch(later, cause)),
        1 => (0_u64..1000).prop_map(Op::Settle),
        1 => (0..=VCPUS as u32).prop_map(Op::Close),
    ]
}

/// What each cause was seen to take, kept one interval at a time by the test itself.
#[derive(Default)]
struct Witness {
    vcpus: [Account; VCPUS],
    machine: u64,
    idle: u64,
}

impl Witness {
    fn saw(&mut self, cause: Cause, cycles: u64) {
        match cause {
            Cause::Idle => self.idle += cycles,
            Cause::Vcpu(vcpu, mode) if (vcpu.0 as usize) < VCPUS => {
                let account = &mut self.vcpus[vcpu.0 as usize];
                match mode {
                    Mode::User => account.user += cycles,
                    Mode::Kernel => account.kernel += cycles,
                    Mode::Hypervisor => account.hypervisor += cycles,
                }
            }
            Cause::Machine | Cause::Vcpu(..) => self.machine += cycles,
        }
    }
}

proptest! {
    #[test]
    fn every_cycle_is_in_the_account_of_its_cause(
        first in 0_u64..1 << 63, ops in prop::collection::vec(any_op(), 0..100),
    ) {
        let mut storage = [Account { user: 1, kernel: 2, hypervisor: 3 }; VCPUS];
        let mut ledger = Ledger::new(&mut storage, first);
        let mut witness = Witness::default();
        let (mut last, mut cause, mut backwards) = (first, Cause::Machine, 0);
        for op in ops {
            let (now, to) = match op {
                Op::Switch(later, to) => (last.saturating_add_signed(later), to),
                Op::Settle(later) => (last + later, cause),
                Op::Close(vcpu) => {
                    let held = witness.vcpus.get_mut(vcpu as usize).map(std::mem::take);
                    prop_assert_eq!(ledger.close(VcpuHandle(vcpu)), held.unwrap_or_default());
                    prop_assert!(ledger.is_balanced());
                    continue;
                }
            };
            match op {
                Op::Settle(_) => ledger.settle(now),
                _ => ledger.switch(now, to),
            }
            witness.saw(cause, now.saturating_sub(last));
            backwards += u64::from(now < last);
            (last, cause) = (last.max(now), to);
            prop_assert!(ledger.is_balanced(), "S6");
            prop_assert_eq!(ledger.boundaries(), (first, last));
            prop_assert_eq!(ledger.cause(), cause);
            prop_assert_eq!(ledger.backwards(), backwards);
            prop_assert_eq!((ledger.machine(), ledger.idle()), (witness.machine, witness.idle));
            for (vcpu, account) in witness.vcpus.iter().enumerate() {
                prop_assert_eq!(ledger.account(VcpuHandle(vcpu as u32)), Some(*account));
            }
        }
    }

    #[test]
    fn the_four_times_add_up_and_never_shrink(
        begin in 0_u64..1 << 40,
        steps in prop::collection::vec((0_usize..4, -20_i64..1000), 0..60),
    ) {
        const STATES: [State; 4] = [State::Running, State::Runnable, State::Blocked, State::Offline];
        let mut runstate = Runstate::new(State::Offline, begin);
        let mut now = begin;
        for (state, later) in steps {
            let before = runstate;
            now = now.saturating_add_signed(later);
            let seen = runstate.snapshot(now);
            runstate.transition(STATES[state], now);
            prop_assert_eq!(runstate.time_ns.iter().sum::<u64>(), runstate.entry_time_ns - begin, "S5");
            prop_assert_eq!(seen.time_ns, runstate.time_ns, "a snapshot counts the open interval");
            prop_assert_eq!((seen.state, seen.entry_time_ns), (before.state, before.entry_time_ns));
            for (earlier, later) in before.time_ns.iter().zip(runstate.time_ns) {
                prop_assert!(*earlier <= later);
            }
            prop_assert!(runstate.entry_time_ns >= before.entry_time_ns);
            prop_assert_eq!(runstate.state, STATES[state]);
        }
    }
}

#[test]
fn a_runstate_has_the_words_of_the_interface() {
    let mut runstate = Runstate::new(State::Runnable, 5);
    runstate.transition(State::Blocked, 7);
    assert_eq!(runstate.words(), [2, 7, 0, 2, 0, 0]);
}

#[test]
fn accounts_of_two_cpus_add_up() {
    let mut sum = Account {
        user: 1,
        kernel: 2,
        hypervisor: 3,
    };
    sum.add(&Account {
        user: 10,
        kernel: 20,
        hypervisor: 30,
    });
    assert_eq!(
        sum,
        Account {
            user: 11,
            kernel: 22,
            hypervisor: 33
        }
    );
    assert_eq!(sum.total(), 66);
}
