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
    SCHED_ALL_VCPUS, SCHED_EXTRA, SCHED_REFUSED_NO_ROOM, SchedSet, SchedTerms,
};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, Poll, errno, sched};
use guest_runtime::control::xeno_op;
use guest_runtime::hypercall::sched_op;
use guest_runtime::{check, check_eq, control, events, guest, say};
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
    let mut set = SchedSet {
        version: XENO_INTERFACE_VERSION,
        vcpu,
        terms: SchedTerms {
            slice,
            period: if slice == 0 { 0 } else { PERIOD },
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
