//! What was granted to many and is given in parts: whatever is done in between, nobody has what is another's.

use cpus::set::CpuSet;
use proptest::prelude::*;
use reservations::{
    Charge, CpuBooks, Extra, InParts, Member, New, Part, Placement, Rules, Standing, Terms,
};

const MS: u64 = 1_000_000;
const CPUS: usize = 3;
/// vCPUs of each of two domains.
const EACH: u32 = 12;

fn rules() -> Rules {
    Rules::new(1_000_000_000, 20_000, 10 * MS, 20_000).unwrap()
}

fn terms(slice: u64) -> Terms {
    Terms::new(&rules(), slice, 100 * MS, Extra::ByWeight, 256).unwrap()
}

fn part(vcpus: u64) -> Part<u32> {
    Part {
        whose: 7,
        to: New::Weight(9),
        vcpus,
    }
}

#[test]
fn each_gets_it_once_and_as_many_at_a_time_as_is_said() {
    let mut parts = InParts::default();
    assert!(parts.is_free() && parts.next(16).is_none());
    let all = 0b1011_0000_1111;
    let number = parts.begin(part(all));
    let mut sizes = Vec::new();
    let mut had = 0;
    while let Some(part) = parts.next(3) {
        assert_eq!((part.whose, part.to), (7, New::Weight(9)));
        assert_eq!(had & part.vcpus, 0, "nobody twice");
        had |= part.vcpus;
        sizes.push(part.vcpus.count_ones());
        let expected = if had == all {
            Standing::Over
        } else {
            Standing::UnderWay
        };
        assert_eq!(parts.standing(number), expected);
    }
    assert_eq!((had, sizes), (all, vec![3, 3, 1]));
    assert!(parts.is_free());
    parts.begin(part(u64::MAX));
    assert_eq!(parts.next(64).map(|part| part.vcpus), Some(u64::MAX));
    assert!(parts.is_free());
    parts.begin(part(0));
    assert!(parts.is_free(), "who has nobody waits for nobody");
}

#[test]
fn who_is_taken_out_gets_it_then_and_not_again() {
    let mut parts = InParts::default();
    let number = parts.begin(part(0b111));
    assert_eq!(parts.take(|whose| whose == 8, 1), None, "another's");
    assert_eq!(parts.take(|whose| whose == 7, 3), None, "none that waits");
    assert_eq!(parts.take(|whose| whose == 7, 64), None, "nor is there one");
    assert_eq!(parts.take(|whose| whose == 7, 1), Some(New::Weight(9)));
    assert_eq!(parts.take(|whose| whose == 7, 1), None);
    assert_eq!(parts.next(64).map(|part| part.vcpus), Some(0b101));
    assert_eq!(parts.standing(number), Standing::Over);
    let number = parts.begin(part(0b1));
    assert!(parts.take(|_| true, 0).is_some());
    assert!(parts.is_free(), "the last may be taken out, too");
    assert_eq!(parts.standing(number), Standing::Over);
}

#[test]
fn whatever_number_is_asked_about_there_is_an_answer() {
    let mut parts = InParts::default();
    for number in [0, 1, u64::MAX] {
        assert_eq!(parts.standing(number), Standing::NeverBegun);
    }
    let first = parts.begin(part(1));
    assert_eq!(parts.standing(first), Standing::UnderWay);
    assert_eq!(parts.standing(first + 1), Standing::NeverBegun);
    let _ = parts.next(1);
    let second = parts.begin(part(1));
    assert_ne!(first, second);
    assert_eq!(parts.standing(first), Standing::Over);
    assert_eq!(parts.standing(second), Standing::UnderWay);
}

#[test]
fn a_weight_leaves_what_is_promised() {
    let had = terms(5 * MS);
    let has = New::Weight(9).after(&had);
    assert_eq!((has.slice(), has.weight()), (5 * MS, 9));
    assert_eq!(New::Weight(0).after(&had), had);
    assert_eq!(New::Terms(terms(MS)).after(&had), terms(MS));
}

/// A vCPU, as its queue has it.
#[derive(Clone, Debug)]
struct Vcpu {
    cpu: usize,
    granted: Terms,
}

/// Two domains, their CPUs, and the change that is under way.
struct Machine<'a> {
    placement: Placement<'a>,
    parts: InParts<u32>,
    vcpus: [Vec<Option<Vcpu>>; 2],
}

impl Machine<'_> {
    /// D2, and as ring 0 does it.
    fn get(&mut self, whose: u32, id: u32, to: New) {
        let place = &mut self.vcpus[whose as usize][id as usize];
        let vcpu = place.as_mut().expect("who waits is there");
        let to = to.after(&vcpu.granted);
        let (had, will) = (vcpu.granted.charge(&rules()), to.charge(&rules()));
        let back = self.placement.given_back(vcpu.cpu, had, will);
        self.placement.release(0, back, 0);
        vcpu.granted = to;
    }

    fn settle(&mut self, whose: u32, id: u32) {
        if let Some(to) = self.parts.take(|of| of == whose, id) {
            self.get(whose, id, to);
        }
    }

    fn next(&mut self, most: u32) -> bool {
        let Some(part) = self.parts.next(most) else {
            return false;
        };
        let ids = (0..64).filter(|id| part.vcpus >> id & 1 == 1);
        ids.for_each(|id| self.get(part.whose, id, part.to));
        true
    }

    /// All of a domain's are granted terms, or none; or another has to be done first.
    fn grant(&mut self, whose: u32, slice: u64) -> Option<bool> {
        if !self.parts.is_free() {
            return None;
        }
        let there = self.vcpus[whose as usize].iter().enumerate();
        let there = there.filter_map(|(id, vcpu)| Some((id, vcpu.as_ref()?)));
        let ids = there.clone().fold(0, |ids, (id, _)| ids | 1 << id);
        let mut members: Vec<_> = there
            .map(|(_, vcpu)| Member::new(vcpu.cpu as u32, vcpu.granted.charge(&rules())))
            .collect();
        let to = terms(slice);
        let before = self.seen();
        let nowhere_else = |_: usize| CpuSet::EMPTY;
        let granted = self
            .placement
            .amend_in_place(0, &mut members, &to, nowhere_else);
        if granted.is_err() {
            assert_eq!(self.seen(), before, "what is refused changes nothing");
            return Some(false);
        }
        self.parts.begin(Part {
            whose,
            to: New::Terms(to),
            vcpus: ids,
        });
        Some(true)
    }

    fn move_to(&mut self, whose: u32, id: u32, to: usize) {
        self.settle(whose, id);
        let Some(vcpu) = &mut self.vcpus[whose as usize][id as usize] else {
            return;
        };
        let change = self
            .placement
            .amend(0, vcpu.cpu, &vcpu.granted, &vcpu.granted, |cpu| cpu == to);
        if let Ok(reservations::Change::Elsewhere { to, release }) = change {
            self.placement.release(0, release, 0);
            vcpu.cpu = to;
        }
    }

    fn remove(&mut self, whose: u32, id: u32) {
        self.settle(whose, id);
        if let Some(gone) = self.vcpus[whose as usize][id as usize].take() {
            let release = self.placement.withdraw(gone.cpu, &gone.granted);
            self.placement.release(0, release, 0);
        }
    }

    fn make(&mut self, whose: u32, id: u32, slice: u64) {
        let place = &mut self.vcpus[whose as usize][id as usize];
        if place.is_none() {
            let granted = terms(slice);
            let cpu = self.placement.admit(0, &granted, |_| true, |_| true);
            *place = cpu.ok().map(|cpu| Vcpu { cpu, granted });
        }
    }

    fn seen(&self) -> Vec<(Option<Charge>, Option<u32>)> {
        let one = |cpu| (self.placement.charged(cpu), self.placement.vcpus(cpu));
        (0..CPUS).map(one).collect()
    }

    /// No CPU has promised more than it can, and what is promised by its queue is never more than is charged for it.
    fn check(&self) {
        for cpu in 0..CPUS {
            let here = self.vcpus.iter().flatten().flatten();
            let here = here.filter(|vcpu| vcpu.cpu == cpu);
            let add = |sum: Charge, vcpu: &Vcpu| sum.and(vcpu.granted.charge(&rules()));
            let promised = here.fold(Charge::NOTHING, add);
            let charged = self.placement.charged(cpu).unwrap();
            assert!(promised <= charged && charged <= rules().capacity());
            assert!(!self.parts.is_free() || promised == charged);
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_done_between_the_parts_nobody_has_what_is_anothers(
        deeds in prop::collection::vec((0u8..7, 0u32..2, 0..EACH, 0u64..30), 1..200),
    ) {
        let mut books = vec![CpuBooks::OFFLINE; CPUS];
        let mut placement = Placement::new(&mut books, rules());
        (0..CPUS).for_each(|cpu| assert!(placement.set_online(cpu, true)));
        let none = vec![None; EACH as usize];
        let mut machine = Machine { placement, parts: InParts::default(), vcpus: [none.clone(), none] };
        for whose in 0..2 {
            (0..EACH).for_each(|id| machine.make(whose, id, 0));
        }
        for (deed, whose, id, amount) in deeds {
            match deed {
                0 | 1 => {
                    let _ = machine.grant(whose, amount * MS);
                }
                2 => machine.move_to(whose, id, amount as usize % CPUS),
                3 => machine.remove(whose, id),
                4 => machine.make(whose, id, amount * MS),
                // A CPU that takes nobody any more keeps those it has.
                5 => assert!(machine.placement.set_online(amount as usize % CPUS, amount % 2 == 0)),
                _ => {
                    let _ = machine.next(4);
                }
            }
            machine.check();
        }
        while machine.next(4) {
            machine.check();
        }
        machine.check();
    }
}

#[test]
fn all_have_it_in_the_end_but_who_is_gone_and_who_came_later() {
    let mut books = vec![CpuBooks::OFFLINE; CPUS];
    let mut placement = Placement::new(&mut books, rules());
    (0..CPUS).for_each(|cpu| assert!(placement.set_online(cpu, true)));
    let none = vec![None; EACH as usize];
    let mut machine = Machine {
        placement,
        parts: InParts::default(),
        vcpus: [none.clone(), none],
    };
    (0..EACH - 1).for_each(|id| machine.make(0, id, 0));
    assert_eq!(machine.grant(0, 20 * MS), Some(true));
    assert_eq!(machine.grant(1, MS), None, "one at a time");
    assert!(machine.next(4));
    machine.make(0, EACH - 1, 5 * MS);
    machine.remove(0, 5);
    machine.move_to(0, 6, 2);
    while machine.next(4) {}
    for (id, vcpu) in machine.vcpus[0].iter().enumerate() {
        let has = vcpu.as_ref().map(|vcpu| vcpu.granted.slice());
        let expected = match id {
            5 => None,
            11 => Some(5 * MS),
            _ => Some(20 * MS),
        };
        assert_eq!(has, expected, "{id}");
    }
    machine.check();
    assert_eq!(machine.grant(0, 90 * MS), Some(false));
    machine.check();
}
