//! The log's ring, and the keys that have something written to it.

use crate::debug::log;
use crate::domain::{Guest, all};
use crate::hypercall::Outcome;
use crate::hypercall::domctl::describe;
use crate::info;
use core::sync::atomic::{AtomicU64, Ordering};
use guest_abi::Errno;
use guest_abi::sysctl::{DebugKeys, Readconsole, Sysctl};

/// Bytes copied at once.
const CHUNK: usize = 256;
/// Units of copying so many out of the log.
const CHUNK_UNITS: u64 = 20;
/// Keys that one call may press.
const MOST_KEYS: u32 = 64;

/// Where reading from the start begins: behind what was cleared.
static CLEARED: AtomicU64 = AtomicU64::new(0);

/// `readconsole`.
pub fn read(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let mut asked: Readconsole = call.payload();
    let end = log::end_of_ring();
    let mut at = CLEARED.load(Ordering::Acquire);
    if asked.incremental != 0 {
        // The caller's 32 bits of an offset that counts on; one that is none of ours begins where there is something.
        let back = u64::from((end as u32).wrapping_sub(asked.index));
        if back <= end && end - back >= at {
            at = end - back;
        }
    }
    let mut written = 0u32;
    let mut chunk = [0u8; CHUNK];
    while written < asked.count {
        let room = (asked.count - written).min(CHUNK as u32) as usize;
        let (copied, next) = log::read_ring(at, &mut chunk[..room]);
        if copied == 0 {
            break;
        }
        // As it is copied twice, byte by byte: one answer.
        g.spend_here();
        g.charge(CHUNK_UNITS);
        let place = asked.buffer.wrapping_add(u64::from(written));
        g.memory().write(place, &chunk[..copied])?;
        written += copied as u32;
        at = next;
    }
    if asked.clear != 0 {
        CLEARED.store(at, Ordering::Release);
    }
    asked.count = written;
    asked.index = at as u32;
    call.set_payload(&asked);
    Ok(0)
}

/// `debug_keys`: `q` tells of the domains, `h` of the keys; others have nothing to say.
pub fn keys(g: &mut Guest<'_>, call: &mut Sysctl) -> Outcome {
    let asked: DebugKeys = call.payload();
    let mut keys = [0u8; MOST_KEYS as usize];
    let count = asked.nr_keys.min(MOST_KEYS) as usize;
    g.memory().read(asked.keys, &mut keys[..count])?;
    for key in &keys[..count] {
        g.spend_here();
        g.charge(16);
        match key {
            b'q' => domains(g),
            b'h' => info!("keys: h help, q domains"),
            _ => info!("key {:?} has nothing to say", char::from(*key)),
        }
    }
    if asked.nr_keys > MOST_KEYS {
        return Err(Errno::TooBig.into());
    }
    Ok(0)
}

fn domains(g: &mut Guest<'_>) {
    /// Units of writing a line.
    const LINE: u64 = 40;
    for dom in all() {
        g.spend_here();
        g.charge(LINE);
        let is = describe(dom);
        info!(
            "domain {}: flags {:#x}, {} of {} frames, {} of ring 0's, {} vCPUs up of {}, ran {} ns",
            dom.id.0,
            is.flags,
            is.tot_pages,
            is.max_pages,
            dom.overhead.load(Ordering::Relaxed),
            is.nr_online_vcpus,
            dom.max_vcpus,
            is.cpu_time
        );
    }
}
