//! Books made while CPUs go on, against what each CPU had sold when it went over.

use proptest::prelude::*;
use sched::Sold;

const CPUS: usize = 3;
const DOMAINS: usize = 4;

#[derive(Clone, Debug)]
enum Op {
    /// A CPU sells to a domain, or to one that is gone.
    Sells(usize, usize, u64),
    /// Whoever makes the books does his next step.
    Step,
    /// A domain goes, and another takes its number.
    Goes(usize),
}

/// Where whoever makes books is: looking at each domain before, having each CPU go over, looking at each after.
#[derive(Clone, Copy)]
enum Stage {
    Before(usize),
    Over(usize),
    After(usize, u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..CPUS, 0..=DOMAINS, 0_u64..1000).prop_map(|(c, d, n)| Op::Sells(c, d, n)),
        6 => Just(Op::Step),
        1 => (0..DOMAINS).prop_map(Op::Goes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_accounts_are_what_each_cpu_had_sold_when_it_went_over(
        ops in prop::collection::vec(any_op(), 0..200),
    ) {
        let mut domains: Vec<Sold> = (0..DOMAINS).map(|_| Sold::new()).collect();
        let departed = Sold::new();
        let (mut number, mut at, mut stage) = (0_u64, [0_u64; CPUS], Stage::Before(0));
        let (mut sold, mut sold_then, mut made) = ([0_u64; CPUS], [0_u64; CPUS], 0);
        for op in ops {
            match op {
                Op::Sells(cpu, domain, cycles) => {
                    domains.get(domain).unwrap_or(&departed).add(at[cpu], cycles);
                    sold[cpu] += cycles;
                }
                Op::Goes(domain) => {
                    departed.absorb(&domains[domain]);
                    domains[domain] = Sold::new();
                    // Whoever looks at domains one by one begins again.
                    stage = match stage {
                        Stage::Before(_) => Stage::Before(0),
                        Stage::After(..) => Stage::After(0, 0),
                        over => over,
                    };
                }
                Op::Step => stage = match stage {
                    Stage::Before(domain) => {
                        domains.get(domain).unwrap_or(&departed).note(number + 1);
                        match domain {
                            DOMAINS => { number += 1; Stage::Over(0) }
                            _ => Stage::Before(domain + 1),
                        }
                    }
                    Stage::Over(cpu) => {
                        at[cpu] = number;
                        sold_then[cpu] = sold[cpu];
                        match cpu + 1 {
                            CPUS => Stage::After(0, 0),
                            next => Stage::Over(next),
                        }
                    }
                    Stage::After(domain, sum) => {
                        let sum = sum + domains.get(domain).unwrap_or(&departed).at(number);
                        match domain {
                            DOMAINS => {
                                prop_assert_eq!(sum, sold_then.iter().sum::<u64>());
                                made += 1;
                                Stage::Before(0)
                            }
                            _ => Stage::After(domain + 1, sum),
                        }
                    }
                },
            }
        }
        let all: u64 = domains.iter().chain([&departed]).map(Sold::all).sum();
        prop_assert_eq!(all, sold.iter().sum::<u64>());
        let _ = made;
    }
}
