//! Two domains do anything they can to their rings, over and over; a third never notices.

use std::panic::{AssertUnwindSafe, catch_unwind};

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;

use crate::harness::{
    CONNECTION, ERROR, Guest, REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, TempFile, World, ok,
    set_word, word,
};

/// A small generator of numbers, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What a hostile domain does in one round.
fn misbehave(guest: &mut Guest, random: &mut Random) {
    match random.below(10) {
        0 => set_word(
            &guest.memory,
            [REQ_PROD, REQ_CONS, RSP_CONS, RSP_PROD][random.below(4) as usize],
            random.next() as u32,
        ),
        1 => {
            let nudge = random.below(64) as u32;
            let offset = [REQ_PROD, REQ_CONS, RSP_CONS, RSP_PROD][random.below(4) as usize];
            set_word(
                &guest.memory,
                offset,
                word(&guest.memory, offset).wrapping_add(nudge),
            );
        }
        2 => set_word(&guest.memory, CONNECTION, random.below(3) as u32),
        3 => {
            let (offset, bytes) = (random.below(2_000) as usize, random.bytes(48));
            guest.memory.borrow_mut()[offset..offset + 48].copy_from_slice(&bytes);
        }
        4 => {
            let length = random.below(600) as usize;
            let bytes = random.bytes(length);
            write_anyhow(guest, &bytes);
        }
        _ => {
            let bytes = request(random);
            write_anyhow(guest, &bytes);
        }
    }
    if random.below(3) == 0 {
        let prod = word(&guest.memory, RSP_PROD);
        set_word(&guest.memory, RSP_CONS, prod);
    }
}

/// As `Guest::write`, without its assumption that the indexes make sense.
fn write_anyhow(guest: &mut Guest, bytes: &[u8]) {
    let prod = word(&guest.memory, REQ_PROD);
    for (at, byte) in bytes.iter().enumerate() {
        guest.memory.borrow_mut()[prod.wrapping_add(at as u32) as usize % 1024] = *byte;
    }
    set_word(
        &guest.memory,
        REQ_PROD,
        prod.wrapping_add(bytes.len() as u32),
    );
}

/// A message that is nearly right.
fn request(random: &mut Random) -> Vec<u8> {
    const PARTS: &[&[u8]] = &[
        b"a\0",
        b"a/b/c\0",
        b"/\0",
        b"/local/domain/2\0",
        b"/tool\0",
        b"@releaseDomain\0",
        b"..\0",
        b"\0",
        b"T\0",
        b"F\0",
        b"n1\0",
        b"r2\0",
        b"b65535\0",
        b"token\0",
        b"4294967296\0",
        b"-1\0",
        b"v",
        b"\xff",
        b"print\0",
    ];
    let count = random.below(5);
    let mut payload: Vec<u8> = (0..count)
        .flat_map(|_| PARTS[random.below(PARTS.len() as u64) as usize].to_vec())
        .collect();
    if random.below(20) == 0 {
        payload.resize(random.below(4_097) as usize, b'a');
    }
    let tx = if random.below(2) == 0 {
        0
    } else {
        random.below(12) as u32
    };
    let mut bytes = message(random.below(25) as u32, random.next() as u32, tx, &payload);
    match random.below(12) {
        0 => {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        1 => bytes.truncate(random.below(bytes.len() as u64) as usize),
        _ => {}
    }
    bytes
}

/// `restarts`: how many rounds there are between the deaths of the process; 0: it lives.
fn fuzz(seed: u64, rounds: u32, restarts: u32) {
    let mut random = Random(seed);
    let file = TempFile::new(&format!("fuzz-{seed}-{restarts}"));
    let mut world = match restarts {
        0 => World::new(),
        _ => World::with_journal(file.0.clone()),
    };
    let (mut bad, mut worse, mut good) = (world.guest(1), world.guest(2), world.guest(3));
    for round in 0..rounds {
        for guest in [&mut bad, &mut worse] {
            misbehave(guest, &mut random);
            world
                .service
                .pump(guest.domid, 1 + random.below(4) as usize)
                .unwrap();
            if word(&guest.memory, ERROR) != 0 && random.below(4) == 0 {
                set_word(&guest.memory, CONNECTION, 1);
            }
        }
        if restarts > 0 && round % restarts == restarts - 1 {
            (world, _) = world.restart();
        }
        if random.below(50) == 0 {
            let introduce = format!(
                "{}\x00{}\x007\0",
                1 + random.below(2),
                100 + random.below(2)
            );
            assert_eq!(world.ask(Op::Introduce, introduce.as_bytes()), ok());
        }
        let write = format!("mine\0{round}");
        assert_eq!(good.ask(&mut world, Op::Write, write.as_bytes()), ok());
        assert_eq!(
            good.ask(&mut world, Op::Read, b"mine\0"),
            Ok(round.to_string().into_bytes())
        );
        if round % 100 == 0 {
            world.check();
        }
    }
    let tree = world.dump();
    for (path, _, _) in &tree {
        let own = [
            "/local/domain/1",
            "/local/domain/2",
            "/local/domain/3",
            "/tool",
        ]
        .iter()
        .any(|own| path.starts_with(own));
        assert!(
            own || "/local/domain".starts_with(path.as_str()),
            "{path} was made by a domain that may not"
        );
    }
    assert_eq!(world.ask(Op::Read, b"/tool/xenstored\0"), Ok(Vec::new()));
}

#[test]
fn garbage_on_two_rings_never_disturbs_the_third() {
    for seed in 1..=12 {
        let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed);
        let restarts = if seed % 2 == 0 {
            0
        } else {
            1 + (seed >> 8) as u32 % 20
        };
        let run = catch_unwind(AssertUnwindSafe(|| {
            fuzz(seed, if restarts == 0 { 1_500 } else { 250 }, restarts)
        }));
        assert!(run.is_ok(), "seed {seed}");
    }
}
