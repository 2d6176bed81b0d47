//! Attacks how a vCPU is told of an event: two hand one to and fro many times, each asleep until it comes, or polling for it,
//! or running without any call. Proves that none is lost: each is told, wherever it is, and what it is told of is there.
//!
//! xtask: hv=dom0_max_vcpus=3 quantum=1ms
//! xtask: seconds=240
//! xtask: parallel=2
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest_runtime::{check_eq, events, guest, say};
use guests::channels::{bind_ipi, notify};
use guests::racers::{self, Racer, expect};

guest!(pingpong, main);

/// What they play: how one waits, how often in a round, whether the port is masked, and its name.
struct Game {
    wait: fn(&mut Racer, u32),
    turns: u64,
    masked: bool,
    name: &'static str,
}

const GAMES: [Game; 3] = [
    Game {
        wait: |racer, port| racer.sleep_for(port),
        turns: 500,
        masked: false,
        name: "asleep",
    },
    Game {
        wait: |racer, port| racer.poll_for(port),
        turns: 500,
        masked: true,
        name: "polling",
    },
    Game {
        wait: Racer::spin_for,
        turns: 200,
        masked: false,
        name: "running",
    },
];
/// Rounds of each game.
const ROUNDS: u64 = 10;

/// Ports that lead to the two.
static OWN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
static GAME: AtomicU32 = AtomicU32::new(0);
/// Events that were waited for with success.
static CAME: AtomicU64 = AtomicU64::new(0);

fn main() {
    for (vcpu, port) in (1..).zip(&OWN) {
        port.store(bind_ipi(vcpu).unwrap_or(0), Ordering::Relaxed);
    }
    racers::start(2, |racer| {
        let game = &GAMES[GAME.load(Ordering::Relaxed) as usize];
        for _ in 0..game.turns {
            turn(racer, game);
        }
    });
    for (number, game) in (0..).zip(&GAMES) {
        GAME.store(number, Ordering::Relaxed);
        CAME.store(0, Ordering::Relaxed);
        for port in &OWN {
            events::set_port_mask(port.load(Ordering::Relaxed), game.masked);
        }
        let fine = (0..ROUNDS).all(|_| racers::round());
        let came = CAME.load(Ordering::Relaxed);
        say!("{}: {came} events came", game.name);
        if !fine {
            break;
        }
        check_eq!("none was lost", came, 2 * ROUNDS * game.turns);
    }
    racers::stop();
}

fn turn(racer: &mut Racer, game: &Game) {
    let [first, second] = OWN.each_ref().map(|port| port.load(Ordering::Relaxed));
    let (own, others) = match racer.number {
        0 => (first, second),
        _ => (second, first),
    };
    let send = || expect("sent", notify(others) as u64, 0);
    if racer.number == 0 {
        send();
    }
    (game.wait)(racer, own);
    CAME.fetch_add(1, Ordering::Relaxed);
    if racer.number != 0 {
        send();
    }
}
