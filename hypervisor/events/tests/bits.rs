//! Raising an event while the guest looks, in every interleaving (E7).

use std::cell::RefCell;

use events::{
    DomId, PORTS_PER_BUCKET, Port, PortState, Ports, Raised, SharedBits, Target, VcpuId, Wake,
    rescan,
};

/// One step of a guest's code: one access to shared memory, and what it does with the answer.
#[derive(Clone, Copy, Debug)]
enum GuestStep {
    ClearUpcall,
    TakeSelector,
    TakePending,
    ClearMask,
    /// After unmasking: handle what is pending, as a guest does for a port it just unmasked.
    LookAgain,
}

/// The bits of one port and the vCPU it notifies, shared with a guest that runs its steps in between.
#[derive(Clone, Debug, Default)]
struct Memory {
    pending: bool,
    masked: bool,
    selector: bool,
    upcall: bool,
    guest_sees_selector: bool,
    handled: u32,
}

impl Memory {
    fn run(&mut self, step: GuestStep) {
        match step {
            GuestStep::ClearUpcall => self.upcall = false,
            GuestStep::TakeSelector => {
                self.guest_sees_selector = core::mem::take(&mut self.selector)
            }
            GuestStep::TakePending => {
                if self.guest_sees_selector && self.pending && !self.masked {
                    self.pending = false;
                    self.handled += 1;
                }
                self.guest_sees_selector = false;
            }
            GuestStep::ClearMask => self.masked = false,
            GuestStep::LookAgain => {
                if core::mem::take(&mut self.pending) {
                    self.handled += 1;
                }
            }
        }
    }

    /// An event is not lost: it was handled, or waits where the guest must come by.
    fn event_is_safe(&self) -> bool {
        let will_be_seen = self.pending && self.selector && self.upcall;
        let waits_for_unmask = self.pending && self.masked;
        self.handled > 0 || will_be_seen || waits_for_unmask
    }
}

/// Runs `before[i]` steps of the guest before the i-th access of ours.
struct Interleaved<'g> {
    memory: RefCell<Memory>,
    guest: RefCell<std::slice::Iter<'g, GuestStep>>,
    before: RefCell<std::slice::Iter<'g, usize>>,
}

impl<'g> Interleaved<'g> {
    fn new(memory: Memory, guest: &'g [GuestStep], before: &'g [usize]) -> Self {
        Self {
            memory: RefCell::new(memory),
            guest: RefCell::new(guest.iter()),
            before: RefCell::new(before.iter()),
        }
    }

    fn access<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        let steps = self.before.borrow_mut().next().copied().unwrap_or(0);
        let mut memory = self.memory.borrow_mut();
        for step in self.guest.borrow_mut().by_ref().take(steps) {
            memory.run(*step);
        }
        act(&mut memory)
    }

    fn finish(self) -> Memory {
        let mut memory = self.memory.into_inner();
        self.guest.into_inner().for_each(|step| memory.run(*step));
        memory
    }
}

impl SharedBits for Interleaved<'_> {
    fn test_and_set_pending(&self, _: Port) -> bool {
        self.access(|memory| core::mem::replace(&mut memory.pending, true))
    }
    fn clear_pending(&self, _: Port) {
        self.access(|memory| memory.pending = false);
    }
    fn is_pending(&self, _: Port) -> bool {
        self.access(|memory| memory.pending)
    }
    fn is_masked(&self, _: Port) -> bool {
        self.access(|memory| memory.masked)
    }
    fn clear_mask(&self, _: Port) {
        self.access(|memory| memory.masked = false);
    }
    fn test_and_set_selector(&self, _: VcpuId, word: usize) -> bool {
        assert_eq!(word, 1);
        self.access(|memory| core::mem::replace(&mut memory.selector, true))
    }
    fn set_all_selectors(&self, _: VcpuId) {
        self.access(|memory| memory.selector = true);
    }
    fn test_and_set_upcall_pending(&self, _: VcpuId) -> bool {
        self.access(|memory| core::mem::replace(&mut memory.upcall, true))
    }
}

const VCPU: VcpuId = VcpuId(1);

fn port() -> Port {
    Port::from_claim(70).expect("in range")
}

/// Does something with [`port`], which notifies [`VCPU`].
fn with_target<T>(act: impl FnOnce(Target<'_>) -> T) -> T {
    let mut bucket = [PortState::FREE; PORTS_PER_BUCKET];
    let mut table = Ports::new(DomId(3), 2);
    assert!(table.add_bucket(&mut bucket).is_ok());
    let nobody = Interleaved::new(Memory::default(), &[], &[]);
    let vcpu = u32::from(VCPU.0);
    while table.plan_bind_ipi(vcpu).unwrap().commit(&nobody) != port() {}
    act(table.unmask_target(port().get()).unwrap())
}

fn raise(shared: &Interleaved<'_>) -> Raised {
    with_target(|target| target.raise(shared))
}

fn unmask(shared: &Interleaved<'_>) -> Wake {
    with_target(|target| target.unmask(shared))
}

/// What is raised on [`port`].
fn raised(newly_pending: bool, wake: Wake) -> Raised {
    Raised {
        newly_pending,
        wake,
        port: port(),
        vcpu: VCPU,
    }
}

/// Every way to spread up to `steps` steps of the guest before `accesses` of ours.
fn interleavings(steps: usize, accesses: usize) -> Vec<Vec<usize>> {
    if accesses == 0 {
        return vec![vec![]];
    }
    let first = 0..=steps;
    first
        .flat_map(|now| {
            interleavings(steps - now, accesses - 1)
                .into_iter()
                .map(move |mut rest| {
                    rest.insert(0, now);
                    rest
                })
        })
        .collect()
}

const SCAN: [GuestStep; 3] = [
    GuestStep::ClearUpcall,
    GuestStep::TakeSelector,
    GuestStep::TakePending,
];

/// Raises an event in every interleaving with the guest's steps, from every state the memory can be in
/// between two events, and checks that it is not lost.
fn raise_against(guest: &[GuestStep]) {
    // What an earlier event may have left behind: the walk stops at each level only because whoever set
    // it went the whole way.
    let states = [(false, false), (false, true), (true, true)];
    for (masked, (selector, upcall)) in [false, true]
        .into_iter()
        .flat_map(|m| states.map(|s| (m, s)))
    {
        for before in interleavings(guest.len(), 4) {
            let start = Memory {
                masked,
                selector,
                upcall,
                ..Memory::default()
            };
            let shared = Interleaved::new(start, guest, &before);
            let raised = raise(&shared);
            assert!(raised.newly_pending);
            let end = shared.finish();
            assert!(
                end.event_is_safe(),
                "masked {masked} upcall {upcall} {before:?}: {end:?}"
            );
        }
    }
}

#[test]
fn no_event_is_lost_to_a_guest_that_scans() {
    raise_against(&SCAN);
    raise_against(&[SCAN, SCAN].concat());
}

#[test]
fn no_event_is_lost_to_a_guest_that_unmasks() {
    raise_against(&[GuestStep::ClearMask, GuestStep::LookAgain]);
    raise_against(
        &[
            &[GuestStep::ClearMask, GuestStep::LookAgain],
            SCAN.as_slice(),
        ]
        .concat(),
    );
}

#[test]
fn a_first_event_wakes_and_a_second_adds_nothing() {
    let shared = Interleaved::new(Memory::default(), &[], &[]);
    let first = raise(&shared);
    assert_eq!(first, raised(true, Wake::Vcpu(VCPU)));
    let second = raise(&shared);
    assert_eq!(second, raised(false, Wake::None));
}

#[test]
fn a_masked_event_wakes_pollers_only_and_unmasking_delivers_it() {
    let shared = Interleaved::new(
        Memory {
            masked: true,
            ..Memory::default()
        },
        &[],
        &[],
    );
    assert_eq!(raise(&shared), raised(true, Wake::None));
    assert!(!shared.memory.borrow().upcall);
    assert_eq!(unmask(&shared), Wake::Vcpu(VCPU));
    assert_eq!(unmask(&shared), Wake::None);
}

#[test]
fn unmasking_delivers_even_if_the_guest_had_cleared_the_mask_itself() {
    let shared = Interleaved::new(
        Memory {
            pending: true,
            ..Memory::default()
        },
        &[],
        &[],
    );
    assert_eq!(unmask(&shared), Wake::Vcpu(VCPU));
}

#[test]
fn a_vcpu_whose_bits_moved_looks_at_everything() {
    let shared = Interleaved::new(Memory::default(), &[], &[]);
    assert_eq!(rescan(&shared, VCPU), Wake::Vcpu(VCPU));
    let memory = shared.finish();
    assert!(memory.selector && memory.upcall);
}

#[test]
fn a_port_names_its_word_and_bit() {
    assert_eq!((port().word(), port().bit()), (1, 6));
    let last = Port::from_claim(4095).expect("in range");
    assert_eq!((last.word(), last.bit()), (63, 63));
    assert_eq!(Port::from_claim(0), None);
    assert_eq!(Port::from_claim(4096), None);
}
