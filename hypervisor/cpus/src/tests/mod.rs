//! Claims about everything but the flush handshake (which has its own, beside it).

mod order;

use crate::MAX_CPUS;
use crate::features::{Features, Lack};
use crate::set::{AtomicCpuSet, CpuSet};
use crate::start::{Plan, first_code_page, that_do_not_run};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

proptest! {
    #[test]
    fn a_set_of_cpus_is_a_set(steps in prop::collection::vec((0..MAX_CPUS as u32, any::<bool>()), 0..200)) {
        let (mut set, shared, mut model) = (CpuSet::EMPTY, AtomicCpuSet::new(), BTreeSet::new());
        for (cpu, put) in steps {
            let changed = if put { model.insert(cpu) } else { model.remove(&cpu) };
            set = if put { set.with(cpu) } else { set.without(cpu) };
            let said = if put { shared.insert(cpu) } else { shared.remove(cpu) };
            prop_assert_eq!(said, changed);
            prop_assert_eq!(set.contains(cpu), put);
            prop_assert_eq!(shared.contains(cpu), put);
        }
        prop_assert_eq!(shared.collect(), set);
        prop_assert_eq!(set.len() as usize, model.len());
        prop_assert_eq!(set.is_empty(), model.is_empty());
        prop_assert!(set.iter().eq(model));
    }

    #[test]
    fn those_that_do_not_run_are_the_others_in_their_order(
        listed in prop::collection::btree_set(0..99u32, 0..40), boot in 0..99u32, fails in prop::collection::btree_set(0..99u32, 0..40),
        turn in 0..40usize,
    ) {
        let mut listed: Vec<u32> = listed.into_iter().collect();
        let turn = turn.min(listed.len());
        listed.rotate_left(turn);
        let plan = Plan::new(listed.iter().copied(), boot, MAX_CPUS, true);
        let others: Vec<u32> = plan.start.into_iter().filter(|id| !fails.contains(id)).collect();
        let expected = listed.iter().filter(|id| **id != boot && !others.contains(id));
        let rest = that_do_not_run(listed.iter().copied(), boot, others.iter().copied());
        prop_assert!(rest.eq(expected.copied()));
    }

    #[test]
    fn a_plan_starts_each_cpu_once_and_no_more_than_asked(
        ids in prop::collection::vec(0..300u32, 0..400), boot in 0..300u32, limit in 0..400usize, x2apic: bool,
    ) {
        let plan = Plan::new(ids.iter().copied(), boot, limit, x2apic);
        let started: BTreeSet<u32> = plan.start.iter().copied().collect();
        prop_assert_eq!(started.len(), plan.start.len());
        prop_assert!(!started.contains(&boot));
        prop_assert!(started.len() < limit.clamp(1, MAX_CPUS));
        prop_assert!(started.iter().all(|id| ids.contains(id) && (x2apic || *id < 0xff)));
        prop_assert_eq!(plan.knows_boot_cpu, ids.contains(&boot));
        let all: BTreeSet<u32> = ids.iter().copied().filter(|id| *id != boot).collect();
        if plan.too_many == 0 {
            let reachable = all.iter().filter(|id| x2apic || **id < 0xff).count();
            prop_assert_eq!(started.len(), reachable);
        }
    }

    #[test]
    fn the_first_code_lies_in_free_memory_below_640k(
        ranges in prop::collection::vec((0..300u64, 0..40u64), 0..8), taken in prop::collection::btree_set(0..0xa0u64, 0..40),
    ) {
        let usable = || ranges.iter().map(|&(first, len)| (first, first + len));
        let fits = |page: u64| {
            (1..0xa0).contains(&page) && !taken.contains(&page) && usable().any(|(first, end)| (first..end).contains(&page))
        };
        match first_code_page(usable(), |page| taken.contains(&page)) {
            Some(page) => prop_assert!(fits(u64::from(page))),
            None => prop_assert!(!(0..0xa0).any(fits)),
        }
    }
}

#[test]
fn a_boot_cpu_that_firmware_forgot_is_told_of() {
    let plan = Plan::new([4, 5].into_iter(), 0, 8, false);
    assert!(!plan.knows_boot_cpu);
    assert_eq!(plan.start.as_slice(), [4, 5]);
}

#[test]
fn without_x2apic_an_id_of_more_than_eight_bits_is_out_of_reach() {
    let plan = Plan::new([0, 254, 255, 300].into_iter(), 0, 8, false);
    assert_eq!((plan.start.as_slice(), plan.unreachable), (&[254][..], 2));
    let plan = Plan::new([0, 254, 255, 300].into_iter(), 0, 8, true);
    assert_eq!(plan.start.as_slice(), [254, 255, 300]);
}

/// A CPU with these words; leaves up to 0xd and 0x80000008.
fn cpu(words: &[(u32, u32, [u32; 4])]) -> Features {
    let words: Vec<_> = words.to_vec();
    Features::read(move |leaf, sub| {
        let limit = match leaf {
            0 => Some([0xd, 0, 0, 0]),
            0x8000_0000 => Some([0x8000_0008, 0, 0, 0]),
            _ => None,
        };
        limit
            .or_else(|| {
                let found = words.iter().find(|(l, s, _)| (*l, *s) == (leaf, sub));
                found.map(|(.., answer)| *answer)
            })
            .unwrap_or_default()
    })
}

#[test]
fn a_cpu_that_lacks_something_is_found_and_one_that_has_more_is_not() {
    let boot = cpu(&[
        (7, 0, [0, 1 << 7 | 1 << 20, 0, 0]),
        (1, 0, [0, 0, 1 << 26, 0]),
    ]);
    let same = boot;
    let more = cpu(&[(7, 0, [0, !0, 0, 0]), (1, 0, [0, 0, !0, !0])]);
    let less = cpu(&[(7, 0, [0, 1 << 7, 0, 0]), (1, 0, [0, 0, 1 << 26, 0])]);
    assert_eq!(same.lacks_of(&boot), None);
    assert_eq!(more.lacks_of(&boot), None);
    assert_eq!(
        less.lacks_of(&boot).map(|l| l.to_string()),
        Some("SMAP".into())
    );
    let odd = cpu(&[(7, 0, [0, !0, 0, 0]), (1, 0, [0, 0, 1 << 26, 0])]);
    assert_eq!(
        odd.lacks_of(&more).map(|l| l.to_string()),
        Some("bit 0 of ECX in CPUID leaf 0x1.0".into())
    );
}

#[test]
fn bits_that_only_mirror_switches_are_no_features() {
    let boot = cpu(&[
        (1, 0, [0, 0, 1 << 27 | 1 << 3, 1 << 9]),
        (7, 0, [0, 0, 1 << 4, 1 << 15]),
    ]);
    assert_eq!(cpu(&[]).lacks_of(&boot), None);
}

#[test]
fn fewer_address_bits_are_a_lack() {
    let with = |bits| cpu(&[(0x8000_0008, 0, [bits, 0, 0, 0])]);
    assert_eq!(with(36).lacks_of(&with(40)), Some(Lack::AddressBits(36)));
    assert_eq!(with(0).lacks_of(&with(36)), None);
    assert_eq!(with(46).lacks_of(&with(40)), None);
}

#[test]
fn leaves_beyond_the_last_are_not_asked() {
    let old = Features::read(|leaf, _| match leaf {
        0 => [1, 0, 0, 0],
        0x8000_0000 => [0x8000_0001, 0, 0, 0],
        7 | 0xd | 0x8000_0008 => panic!("leaf {leaf:#x}"),
        _ => [0; 4],
    });
    assert_eq!(old.lacks_of(&old), None);
}
