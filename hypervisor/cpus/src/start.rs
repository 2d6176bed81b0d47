//! Which CPUs are started, and where their first code lies.

use crate::MAX_CPUS;
use arrayvec::ArrayVec;

/// Id that a local APIC without x2APIC mode can name; the last one means all CPUs.
const LAST_XAPIC_ID: u32 = 0xfe;

/// The CPUs to start, and how many are not and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Local APIC ids, in the firmware's order.
    pub start: ArrayVec<u32, MAX_CPUS>,
    /// Beyond the number that was asked for or that we can manage.
    pub too_many: u32,
    /// Their ids cannot be named in the mode in which the local APICs are.
    pub unreachable: u32,
    /// Whether the firmware names the CPU that starts the others.
    pub knows_boot_cpu: bool,
}

impl Plan {
    /// The plan for the CPUs that firmware says are enabled, by their APIC ids. `boot` is the id of the CPU that runs,
    /// `limit` how many may run in all.
    #[must_use]
    pub fn new(enabled: impl Iterator<Item = u32>, boot: u32, limit: usize, x2apic: bool) -> Self {
        let mut plan = Plan::default();
        let others = limit.clamp(1, MAX_CPUS) - 1;
        for id in enabled {
            if id == boot {
                plan.knows_boot_cpu = true;
            } else if plan.start.contains(&id) {
                // N1: a list that names a CPU twice has one CPU fewer.
            } else if !x2apic && id > LAST_XAPIC_ID {
                plan.unreachable += 1;
            } else if plan.start.len() >= others || plan.start.try_push(id).is_err() {
                plan.too_many += 1;
            }
        }
        plan
    }
}

/// Those of the `listed` CPUs that do not run, in that order: no id is listed twice. `others` run besides `boot`: in the list's order,
/// too, as they were started ([`Plan::start`]), so that one look at each is enough.
pub fn that_do_not_run(
    listed: impl Iterator<Item = u32>,
    boot: u32,
    others: impl Iterator<Item = u32>,
) -> impl Iterator<Item = u32> {
    let mut others = others.peekable();
    listed.filter(move |id| *id != boot && others.next_if_eq(id).is_none())
}

/// Where real-mode code may begin: the vectors of start-up interrupts name pages of the first 640 KiB, and the first
/// page is the real mode's own.
const PAGES: core::ops::Range<u64> = 1..0xa0;

/// The page for the first code of CPUs (N2): the highest that is usable memory and not `taken`. `usable` are ranges of
/// frame numbers.
pub fn first_code_page(
    usable: impl Iterator<Item = (u64, u64)>,
    taken: impl Fn(u64) -> bool,
) -> Option<u8> {
    let mut best = None;
    for (first, end) in usable {
        let free = (first.max(PAGES.start)..end.min(PAGES.end))
            .rev()
            .find(|&page| !taken(page));
        best = best.max(free);
    }
    best.and_then(|page| u8::try_from(page).ok())
}
