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
use guest_runtime::abi::{Poll, errno, sched};
use guest_runtime::hypercall::sched_op;
use guest_runtime::{check, check_eq, control, events, guest, say};
use guests::accepted;
use guests::channels::{bind_ipi, notify};
use guests::racers::{self, Racer, expect, give_way};

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
    for vcpu in 0..3 {
        accepted("anywhere", control::set_affinity(0, vcpu, !0));
    }
    racers::stop();
    let naps = NAPS.load(Ordering::Relaxed);
    say!(
        "{} processors, {moves} moves, {naps} naps",
        masks.len().min(2)
    );
    check_eq!("each was where it may be", where_else, 0);
    check_eq!("each nap ended", naps, 2 * 3 * ROUNDS * TURNS / 4);
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
