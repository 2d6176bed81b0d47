//! Several domains that lend to each other, in any order and with any of them dying at any time, against a count of what
//! is held: whoever is left has the bits and references that follow from who uses what, and at the end nothing is held.

use std::collections::BTreeMap;

use grants::{
    Access, Entry, FIRST_ENTRIES, Frame, Grants, HANDLES_PER_FRAME, Mapping, Storage, Uses,
};
use guest_abi::grant::{GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_WRITING};
use proptest::prelude::*;

const DOMAINS: u16 = 4;
const ENTRIES: u32 = 3;
/// A number for what is no domain: an end in ring 0, which uses grants without a mapping.
const END: u16 = 0x7fe0;

#[derive(Clone, Debug)]
enum Op {
    /// `who` maps an entry of `of`'s.
    Map(u16, u16, u32, bool),
    /// `who` unmaps one of what it has mapped.
    Unmap(u16, usize),
    /// The end begins to use an entry of `of`'s.
    Lend(u16, u32),
    /// The end lets one go.
    Return(usize),
    /// `of` writes an entry: flags, for whom, which frame.
    Write(u16, u32, u16, u16, u32),
    /// A domain dies.
    Die(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let (domain, entry) = (0..DOMAINS, 0..ENTRIES);
    let whom = prop_oneof![8 => 0..DOMAINS, 2 => Just(END)];
    let flags = prop_oneof![
        1 => Just(0),
        4 => Just(GTF_PERMIT_ACCESS),
        1 => Just(GTF_PERMIT_ACCESS | GTF_READONLY)
    ];
    prop_oneof![
        8 => (domain.clone(), domain.clone(), entry.clone(), any::<bool>())
            .prop_map(|(who, of, entry, writes)| Op::Map(who, of, entry, writes)),
        6 => (domain.clone(), any::<usize>()).prop_map(|(who, pick)| Op::Unmap(who, pick)),
        3 => (domain.clone(), entry.clone()).prop_map(|(of, entry)| Op::Lend(of, entry)),
        2 => any::<usize>().prop_map(Op::Return),
        5 => (domain.clone(), entry, flags, whom, 0..4u32)
            .prop_map(|(of, entry, flags, whom, frame)| Op::Write(of, entry, flags, whom, frame)),
        1 => domain.prop_map(Op::Die),
    ]
}

/// A domain's table, the words in it, and what it has mapped.
struct Domain {
    rules: Grants<'static>,
    words: [Entry; ENTRIES as usize],
    handles: Vec<u32>,
    alive: bool,
}

/// A use that is in force: whose, which entry, for what.
type Use = (u16, u32, Access);

struct World {
    domains: Vec<Domain>,
    /// References on (owner, frame).
    held: BTreeMap<(u16, u32), i64>,
    /// What the end uses.
    lent: Vec<(Use, Frame)>,
}

impl World {
    fn new() -> World {
        let domain = |_| {
            let mut rules = Grants::new(1, 1);
            let uses = Box::leak(Box::new([Uses::default(); FIRST_ENTRIES]));
            let handles = Box::leak(Box::new([Default::default(); HANDLES_PER_FRAME]));
            assert!(rules.add_table_frame() && rules.add_handles(handles));
            assert!(rules.add_uses(0, Storage::First(uses)).is_ok());
            Domain {
                rules,
                words: [Entry::NONE; ENTRIES as usize],
                handles: Vec::new(),
                alive: true,
            }
        };
        World {
            domains: (0..DOMAINS).map(domain).collect(),
            held: BTreeMap::new(),
            lent: Vec::new(),
        }
    }

    fn begin(&mut self, who: u16, (of, gref, access): Use) -> Option<Frame> {
        let granter = &mut self.domains[usize::from(of)];
        let word = &mut granter.words[gref as usize];
        let begin = granter.rules.begin(gref, *word, who, access).ok()?;
        *word = begin.store;
        granter.rules.commit(begin);
        *self.held.entry((of, begin.frame.0)).or_default() += 1;
        Some(begin.frame)
    }

    fn end(&mut self, (of, gref, access): Use, frame: Frame) {
        let granter = &mut self.domains[usize::from(of)];
        let clear = granter.rules.end(gref, access);
        granter.words[gref as usize].0 &= !clear.0;
        *self.held.entry((of, frame.0)).or_default() -= 1;
    }

    fn end_mapping(&mut self, mapping: Mapping) {
        let of = (mapping.granter, mapping.gref, mapping.access);
        self.end(of, mapping.frame);
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Map(who, of, gref, writes) => {
                let access = if writes { Access::Write } else { Access::Read };
                if !self.domains[usize::from(who)].alive {
                    return;
                }
                let Some(frame) = self.begin(who, (of, gref, access)) else {
                    return;
                };
                let mapping = Mapping {
                    granter: of,
                    gref,
                    frame,
                    access,
                    host: true,
                    device: false,
                    by_entry: false,
                };
                let borrower = &mut self.domains[usize::from(who)];
                let handle = borrower.rules.new_handle(mapping);
                borrower.handles.push(handle.expect("there is room"));
            }
            Op::Unmap(who, pick) => {
                let borrower = &mut self.domains[usize::from(who)];
                if borrower.handles.is_empty() {
                    return;
                }
                let at = pick % borrower.handles.len();
                let handle = borrower.handles.swap_remove(at);
                let ended = borrower.rules.unmap(handle, true, false);
                self.end_mapping(ended.expect("it is in force").mapping);
            }
            Op::Lend(of, gref) => {
                let of = (of, gref, Access::Write);
                if let Some(frame) = self.begin(END, of) {
                    self.lent.push((of, frame));
                }
            }
            Op::Return(pick) if !self.lent.is_empty() => {
                let at = pick % self.lent.len();
                let (of, frame) = self.lent.swap_remove(at);
                self.end(of, frame);
            }
            Op::Return(_) => {}
            Op::Write(of, gref, flags, whom, frame) => {
                // It may do as it likes but for the bits, which it leaves to us.
                let word = &mut self.domains[usize::from(of)].words[gref as usize];
                let bits = word.flags() & (GTF_READING | GTF_WRITING);
                let entry = u64::from(flags | bits) | u64::from(whom) << 16;
                *word = Entry(entry | u64::from(frame) << 32);
            }
            Op::Die(who) => self.die(who),
        }
    }

    /// As the hypervisor has a domain die: the ends that serve it go, then what it has mapped, then its table.
    fn die(&mut self, who: u16) {
        let (its, others): (Vec<_>, Vec<_>) =
            self.lent.iter().partition(|((of, ..), _)| *of == who);
        self.lent = others;
        for (of, frame) in its {
            self.end(of, frame);
        }
        let dying = &mut self.domains[usize::from(who)];
        dying.alive = false;
        dying.handles.clear();
        dying.rules.retire();
        while let Some(ended) = self.domains[usize::from(who)].rules.end_one() {
            self.end_mapping(ended.mapping);
        }
        let dying = &mut self.domains[usize::from(who)].rules;
        while dying.take_handles().is_some() {}
        while dying.take_uses().is_some() {}
        while dying.take_table_frame() {}
    }

    /// What follows from the mappings and the end's uses must be what is counted.
    fn check(&self) {
        let mapped = self
            .domains
            .iter()
            .flat_map(|domain| domain.rules.mappings());
        let mapped = mapped.map(|m| ((m.granter, m.gref, m.access), m.frame));
        let uses: Vec<(Use, Frame)> = mapped.chain(self.lent.iter().copied()).collect();
        let mut held = BTreeMap::new();
        for ((of, ..), frame) in &uses {
            *held.entry((*of, frame.0)).or_insert(0i64) += 1;
        }
        let mut counted = self.held.clone();
        counted.retain(|_, count| *count != 0);
        assert_eq!(counted, held, "N3: a reference for each use");
        for (of, domain) in self.domains.iter().enumerate().filter(|(_, d)| d.alive) {
            for (gref, word) in domain.words.iter().enumerate() {
                let of_it = |(o, g, _): Use| usize::from(o) == of && g as usize == gref;
                let its: Vec<_> = uses.iter().filter(|(u, _)| of_it(*u)).collect();
                let written = its.iter().any(|((.., access), _)| *access == Access::Write);
                assert_eq!(word.flags() & GTF_READING != 0, !its.is_empty(), "N1");
                assert_eq!(word.flags() & GTF_WRITING != 0, written, "N1");
                assert!(its.windows(2).all(|two| two[0].1 == two[1].1), "N2");
                assert_eq!(domain.rules.is_in_use(gref as u32), Ok(!its.is_empty()));
            }
            let any = uses.iter().any(|((o, ..), _)| usize::from(*o) == of);
            assert_eq!(domain.rules.any_in_use(), any);
        }
    }
}

proptest! {
    #[test]
    fn what_is_held_follows_from_who_uses_what_until_the_last_domain_is_gone(
        ops in prop::collection::vec(op(), 0..150),
        order in Just([0u16, 1, 2, 3]).prop_shuffle(),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
            world.check();
        }
        // In any order, circles or not.
        for who in order {
            world.die(who);
            world.check();
        }
        prop_assert!(world.held.values().all(|count| *count == 0));
        prop_assert!(world.lent.is_empty());
    }
}

/// Two that lend to each other: each holds a frame of the other's, and either can go first.
#[test]
fn a_circle_ends_from_either_side() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::new();
        for (of, to) in [(0, 1), (1, 0)] {
            world.step(&Op::Write(of, 0, GTF_PERMIT_ACCESS, to, 7));
            world.step(&Op::Map(to, of, 0, true));
        }
        assert_eq!(world.held.values().sum::<i64>(), 2);
        let [first, second] = order;
        world.die(first);
        world.check();
        // What the one that lives has mapped of the dead one is held still, and only that.
        assert_eq!(world.held[&(first, 7)], 1);
        assert_eq!(world.held[&(second, 7)], 0);
        world.step(&Op::Unmap(second, 0));
        assert_eq!(world.held[&(first, 7)], 0);
    }
}
