//! Attacks the way of vCPUs from one processor to another: their affinity is set while they run, sleep, poll, wait for a time
//! and wake each other, by a vCPU that is moved itself. Proves that each is where it may be when the call returns, and that
//! no event, no time and nobody is lost.
//!
//! xtask: hv=dom0_max_vcpus=3 dom0_cpu=none quantum=1ms
//! xtask: seconds=120
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest_runtime::abi::domctl::{Domctl, DomctlCommand, Getvcpuinfo};
use guest_runtime::abi::reserve::{
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_REFUSED_NO_ROOM, SchedAllow, SchedSet, SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, Poll, errno, sched};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::control::xeno_op;
use guest_runtime::hypercall::sched_op;
use guest_runtime::{check, check_eq, child, control, events, guest, link, say};
use guests::accepted;
use guests::channels::{bind_ipi, notify};
use guests::racers::{self, Racer, expect, give_way};
use guests::reservations;

guest!(homes, main);

/// Rounds of each game, and turns in one.
const ROUNDS: u64 = 3;
const TURNS: u64 = 60;
/// How long one sleeps, in nanoseconds.
const NAP_NS: u64 = 20_000;

/// What the two play meanwhile.
const GAMES: [fn(&mut Racer, u32); 3] = [
    |racer, port| racer.sleep_for(port),
    |racer, port| racer.poll_for(port),
    Racer::spin_for,
];
const POLLS: usize = 1;

/// Ports that lead to the two, and one that nobody sends on.
static OWN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static SILENT: AtomicU32 = AtomicU32::new(0);
static GAME: AtomicU32 = AtomicU32::new(0);
static CAME: AtomicU64 = AtomicU64::new(0);
static NAPS: AtomicU64 = AtomicU64::new(0);

fn main() {
    for (vcpu, port) in (1..).zip(&OWN) {
        port.store(bind_ipi(vcpu).unwrap_or(0), Ordering::Relaxed);
    }
    SILENT.store(bind_ipi(0).unwrap_or(0), Ordering::Relaxed);
    let another = control::set_affinity(0, 0, 1 << 1);
    check!(
        another == 0 || another == -errno::EINVAL,
        "a second processor, or none"
    );
    let masks: &[u64] = if another == 0 { &[1, 2, 3] } else { &[1] };
    racers::start(2, play);
    let (mut moves, mut where_else) = (0u64, 0u64);
    for game in 0..GAMES.len() {
        GAME.store(game as u32, Ordering::Relaxed);
        CAME.store(0, Ordering::Relaxed);
        for port in &OWN {
            events::set_port_mask(port.load(Ordering::Relaxed), game == POLLS);
        }
        for _ in 0..ROUNDS {
            racers::begin();
            while !racers::is_over() {
                let vcpu = (moves % 3) as u32;
                let mask = masks[(moves / 3) as usize % masks.len()];
                where_else += u64::from(!moved(vcpu, mask));
                moves += 1;
                give_way();
            }
            if !racers::end() {
                return;
            }
        }
        let came = CAME.load(Ordering::Relaxed);
        check_eq!("none was lost", came, 2 * ROUNDS * TURNS);
    }
    room_is_found_elsewhere(masks.len() > 1);
    racers::stop();
    if masks.len() > 1 {
        a_pin_holds_against_its_own_wishes();
    }
    let naps = NAPS.load(Ordering::Relaxed);
    say!(
        "{} processors, {moves} moves, {naps} naps",
        masks.len().min(2)
    );
    check_eq!("each was where it may be", where_else, 0);
    check_eq!("each nap ended", naps, 2 * 3 * ROUNDS * TURNS / 4);
}

/// Most of a CPU in each period, in nanoseconds; two that fit together, but neither beside that; and the period.
const MOST: u64 = 12_000_000;
const LESS: [u64; 2] = [9_000_000, 10_000_000];
const PERIOD: u64 = 20_000_000;

/// Asks for terms for a vCPU of this domain: the result, and the reason of a refusal.
fn ask(vcpu: u32, slice: u64) -> (i64, u32) {
    ask_in(vcpu, slice, PERIOD)
}

fn ask_in(vcpu: u32, slice: u64, period: u64) -> (i64, u32) {
    let mut set = SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        vcpu,
        terms: SchedTerms {
            slice,
            period: if slice == 0 { 0 } else { period },
            weight: 256,
            flags: SCHED_EXTRA,
        },
        ..SchedSet::ZERO
    };
    (xeno_op(XenoCommand::SchedSet, &mut set), set.refusal)
}

fn home(vcpu: u32) -> u32 {
    reservations::of(DOMID_SELF as u16, vcpu).cpu
}

/// Where no processor has room for what a vCPU asks beside those at home there, it goes to one that has, if it may.
fn room_is_found_elsewhere(several: bool) {
    let no_room = (-errno::ENOSPC, SCHED_REFUSED_NO_ROOM);
    for vcpu in 0..3 {
        accepted("all on one", control::set_affinity(0, vcpu, 1));
    }
    check_eq!("one has most of it", ask(1, MOST), (0, 0));
    check_eq!("another may not go for it", ask(2, LESS[1]), no_room);
    check_eq!("and is where it was", home(2), 0);
    for vcpu in 0..3 {
        accepted("anywhere", control::set_affinity(0, vcpu, !0));
    }
    if several {
        check_eq!("who asks finds room elsewhere", ask(0, LESS[0]), (0, 0));
        check!(home(0) != home(1), "where the first is not");
        check_eq!("another does, too", ask(2, LESS[1]), (0, 0));
        check!(home(2) != home(1), "nor is that one");
    } else {
        check_eq!("there is no elsewhere", ask(2, LESS[1]), no_room);
    }
    let homes = [0, 1, 2].map(home);
    check_eq!("more than all have", ask(SCHED_ALL_VCPUS, PERIOD), no_room);
    check_eq!("moves nobody", [0, 1, 2].map(home), homes);
    for vcpu in 0..3 {
        check_eq!("given back", ask(vcpu, 0), (0, 0));
    }
}

/// Times that a domain is pinned while it asks, and looks at where it is each time.
const PINS: u64 = 400;
const LOOKS: u64 = 20;
/// What it asks for: half of a CPU, which is soon given back.
const HALF: [u64; 2] = [1_000_000, 2_000_000];
/// Words of the page that the child shares with its parent: that it is to end, and how often it was granted what it asked for.
const ENDS: usize = link::FREE;
const GRANTED: usize = link::FREE + 1;

/// Step of a child: asks for itself, and gives back what it got, again and again.
fn asks(_: [u64; 5]) -> i64 {
    let Some(link) = child::link() else {
        return -1;
    };
    while link.get(ENDS) == 0 {
        match ask_in(0, HALF[0], HALF[1]) {
            (0, _) => link.add(GRANTED, 1),
            refused if refused == (-errno::ENOSPC, SCHED_REFUSED_NO_ROOM) => continue,
            (error, _) => return error,
        };
        check_eq!("given back", ask_in(0, 0, 0), (0, 0));
    }
    0
}

/// A domain that may reserve for itself, and finds room on the second processor alone, is let go there and pinned to the first.
fn a_pin_holds_against_its_own_wishes() {
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    let mut allow = SchedAllow {
        version: XENO_INTERFACE_VERSION,
        domid: child.id,
        rate: 900_000_000,
        weight: 256,
        ..SchedAllow::ZERO
    };
    accepted("allow", xeno_op(XenoCommand::SchedAllow, &mut allow));
    // The first processor is taken by one that is down, so that they truly race.
    for (vcpu, mask) in [(0, 2), (1, 1), (2, 2)] {
        accepted("where they are", control::set_affinity(0, vcpu, mask));
    }
    reservations::settle_on(2);
    check_eq!("most of the first is taken", ask(1, MOST), (0, 0));
    child.start(asks, [0; 5]);
    let (mut elsewhere, mut went) = (0, 0);
    for pin in 0..PINS {
        let before = child.link().get(GRANTED);
        accepted("anywhere", control::set_affinity(child.id, 0, 3));
        if pin % 8 == 0 {
            let has_gone = child.wait_until(|child| child.link().get(GRANTED) != before);
            went += u64::from(has_gone);
        } else {
            // As long as it takes to be somewhere in the middle of what it asks.
            let until = events::now_ns() + pin * 977 % 40_000;
            while events::now_ns() < until {}
        }
        if !is_pinned(&mut child) {
            break;
        }
        elsewhere += u64::from((0..LOOKS).any(|_| cpu_of(child.id) != 0));
    }
    check_eq!("it goes where there is room", went, PINS / 8);
    check_eq!("and never from where it is pinned", elsewhere, 0);
    child.link().set(ENDS, 1);
    check_eq!("nothing else is wrong", child.answer(), Some(0));
    check!(child.destroy_and_wait(), "it is gone");
    check_eq!("given back", ask(1, 0), (0, 0));
}

/// Pins a child to the first processor: while it has what it asked for there is no room for it there.
fn is_pinned(child: &mut Child) -> bool {
    let id = child.id;
    let pin = || control::set_affinity(id, 0, 1) == 0;
    // At once first: waiting begins with calls of its own.
    pin() || child.wait_until(|_| pin())
}

fn cpu_of(domid: u16) -> u32 {
    reservations::of(domid, 0).cpu
}

/// A racer's round: it is woken by the other, wakes the other, and naps now and then.
fn play(racer: &mut Racer) {
    let wait = GAMES[GAME.load(Ordering::Relaxed) as usize];
    let [first, second] = OWN.each_ref().map(|port| port.load(Ordering::Relaxed));
    let (own, others) = match racer.number {
        0 => (first, second),
        _ => (second, first),
    };
    for turn in 0..TURNS {
        let send = || expect("sent", notify(others) as u64, 0);
        if racer.number == 0 {
            send();
        }
        wait(racer, own);
        CAME.fetch_add(1, Ordering::Relaxed);
        if racer.number != 0 {
            send();
        }
        if turn % 4 == 0 {
            nap();
        }
    }
}

/// Sleeps until a time.
fn nap() {
    let ports = [SILENT.load(Ordering::Relaxed)];
    let until = events::now_ns() + NAP_NS;
    while events::now_ns() < until {
        let mut poll = Poll {
            ports: ports.as_ptr() as u64,
            nr_ports: 1,
            timeout: until,
            ..Poll::ZERO
        };
        expect("a nap", sched_op(sched::POLL, &mut poll) as u64, 0);
    }
    NAPS.fetch_add(1, Ordering::Relaxed);
}

/// Says on which processors a vCPU may run; whether it is on one of them then.
fn moved(vcpu: u32, mask: u64) -> bool {
    let done = control::set_affinity(0, vcpu, mask);
    let mut call = Domctl::new(DomctlCommand::Getvcpuinfo, 0);
    call.set_payload(&Getvcpuinfo {
        vcpu,
        ..Getvcpuinfo::ZERO
    });
    let told = control::domctl(&mut call);
    let info: Getvcpuinfo = call.payload();
    done == 0 && told == 0 && mask >> info.cpu & 1 == 1
}
