//! Attacks event channels from several vCPUs at once: ports are bound and closed on one while another sends on the same
//! numbers, and a third binds anew what was just closed. Proves that what was sent on a port that is bound stays pending
//! until it is taken, and that whoever sleeps is woken by what is sent: as many events come out as went in.
//!
//! xtask: hv=dom0_max_vcpus=4
//! xtask: parallel=2
//! xtask: parallel_full=4
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use guest_runtime::abi::errno;
use guest_runtime::{check, check_eq, events, guest, say};
use guests::channels::{bind_ipi, close, notify};
use guests::racers::{self, Racer, expect, give_way, wrong};

guest!(ports_raced, main);

/// Rounds, and turns in a round.
const ROUNDS: u64 = 12;
const TURNS: u64 = 250;

/// What the racers play, in turn.
const GAMES: [fn(&mut Racer, u64); 4] = [bind_and_send, close_and_bind, poll, sleep];
const SLEEP: u64 = 3;

/// The port that the next binding gets.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Ports that lead to the first two racers, and stay.
static OWN: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];
/// The last turn in which a step was made.
static BOUND: AtomicU64 = AtomicU64::new(0);
static CLOSED: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// Events that went in and that came out.
static IN: AtomicU64 = AtomicU64::new(0);
static OUT: AtomicU64 = AtomicU64::new(0);

fn main() {
    for (vcpu, port) in (1..).zip(&OWN) {
        port.store(bind_ipi(vcpu).unwrap_or(0), Ordering::Relaxed);
    }
    let next = bind_ipi(0).unwrap_or(0);
    check_eq!("closed", close(next), 0);
    NEXT.store(next, Ordering::Relaxed);
    racers::start(3, |racer| {
        let game = (racer.round - 1) as usize % GAMES.len();
        for turn in 1..=TURNS {
            GAMES[game](racer, (racer.round - 1) * TURNS + turn);
        }
    });
    for round in 0..ROUNDS {
        for port in &OWN {
            let masked = round % GAMES.len() as u64 != SLEEP;
            events::set_port_mask(port.load(Ordering::Relaxed), masked);
        }
        if !racers::round() {
            break;
        }
    }
    racers::stop();
    let (sent, taken) = (IN.load(Ordering::Relaxed), OUT.load(Ordering::Relaxed));
    say!("{sent} events went in, {taken} came out");
    check_eq!("as many come out as went in", taken, sent);
    check!(sent >= ROUNDS * TURNS, "at least one in each turn");
}

fn wait(for_step: &AtomicU64, turn: u64) {
    while for_step.load(Ordering::Acquire) < turn {
        give_way();
    }
}

fn made(step: &AtomicU64, turn: u64) {
    step.store(turn, Ordering::Release);
}

fn went_in(port: u32) {
    expect("a send on a port that is bound", notify(port) as u64, 0);
    IN.fetch_add(1, Ordering::Relaxed);
}

fn came_out(port: u32) {
    let pending = events::clear_port(port);
    expect("what was sent is pending", u64::from(pending), 1);
    OUT.fetch_add(u64::from(pending), Ordering::Relaxed);
}

fn bind(vcpu: u32) -> u32 {
    bind_ipi(vcpu).unwrap_or_else(|error| {
        wrong("a port", 0, error as u64);
        0
    })
}

fn let_go(port: u32) {
    expect("closed", close(port) as u64, 0);
}

/// One binds; another sends on that number from before it is bound until it is, which counts from then on.
fn bind_and_send(racer: &mut Racer, turn: u64) {
    let next = NEXT.load(Ordering::Relaxed);
    match racer.number {
        0 => {
            racer.now_and_then();
            expect("the port", u64::from(bind(1)), u64::from(next));
            wait(&SENT, turn);
            came_out(next);
            let_go(next);
            made(&TAKEN, turn);
        }
        1 => {
            loop {
                match notify(next) {
                    0 => break,
                    error if error == -errno::EINVAL => racer.now_and_then(),
                    error => wrong("a send on a port that is not bound", 0, error as u64),
                }
            }
            IN.fetch_add(1, Ordering::Relaxed);
            made(&SENT, turn);
            wait(&TAKEN, turn);
        }
        _ => wait(&TAKEN, turn),
    }
}

/// One closes a port; another binds until it has the same number, and sends itself something before the first may be done.
fn close_and_bind(racer: &mut Racer, turn: u64) {
    let next = NEXT.load(Ordering::Relaxed);
    match racer.number {
        0 => {
            expect("the port", u64::from(bind(1)), u64::from(next));
            // What nobody has taken goes with it.
            expect("a send", notify(next) as u64, 0);
            made(&BOUND, turn);
            racer.now_and_then();
            let_go(next);
            made(&CLOSED, turn);
            wait(&TAKEN, turn);
        }
        2 => {
            wait(&BOUND, turn);
            loop {
                let port = bind(3);
                if port == next || port == 0 {
                    break;
                }
                let_go(port);
                racer.now_and_then();
            }
            expect(
                "nothing is pending",
                u64::from(events::port_pending(next)),
                0,
            );
            went_in(next);
            wait(&CLOSED, turn);
            came_out(next);
            let_go(next);
            made(&TAKEN, turn);
        }
        _ => wait(&TAKEN, turn),
    }
}

/// Two hand an event to and fro, each asleep until the other's comes.
fn to_and_fro(racer: &mut Racer, sleep: fn(&Racer, u32)) {
    let [first, second] = OWN.each_ref().map(|port| port.load(Ordering::Relaxed));
    match racer.number {
        0 => {
            racer.now_and_then();
            went_in(second);
            sleep(racer, first);
            OUT.fetch_add(1, Ordering::Relaxed);
        }
        1 => {
            sleep(racer, second);
            OUT.fetch_add(1, Ordering::Relaxed);
            racer.now_and_then();
            went_in(first);
        }
        _ => {}
    }
}

fn poll(racer: &mut Racer, _: u64) {
    to_and_fro(racer, Racer::poll_for);
}

fn sleep(racer: &mut Racer, _: u64) {
    to_and_fro(racer, Racer::sleep_for);
}
