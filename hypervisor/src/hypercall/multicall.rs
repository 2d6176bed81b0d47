//! Several calls in one: results are written into the list, and a failing call does not stop the rest.

use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop, call};
use core::sync::atomic::Ordering;
use guest_abi::hypercall::MulticallEntry;
use guest_abi::{Errno, Hypercall, Wire};

/// Units of making a call, on top of what an element of a list is and of what the call itself counts.
const CALL_UNITS: u64 = 3;

/// `multicall(list, count)`.
pub fn multicall(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [list, count, ..] = args;
    let count = count & 0xffff_ffff;
    for i in 0..count {
        let at = list.wrapping_add(i * MulticallEntry::SIZE as u64);
        let rest = [at, count - i, args[2], args[3], args[4]];
        if !g.spend() {
            return Err(Stop::Again(rest));
        }
        g.charge(CALL_UNITS);
        let entry: MulticallEntry = g.memory().value(at)?;
        g.memory().check_writable(at, MulticallEntry::SIZE)?;
        let a = entry.args;
        let forbidden = entry.op == Hypercall::Multicall.number();
        let outcome = if forbidden {
            Err(Stop::Refused(Errno::Inval))
        } else {
            call(g, entry.op, [a[0], a[1], a[2], a[3], a[4]])
        };
        let result = match outcome {
            Ok(value) => value,
            Err(Stop::Refused(errno)) => errno.as_register(),
            // Registers are no longer the caller's: the batch ends here.
            Err(Stop::Gone) => return Err(Stop::Gone),
            Err(Stop::Again(inner)) => {
                // The unfinished call goes on from its own progress, which lives in the list meanwhile.
                let mut bytes = [0u8; 40];
                for (to, value) in bytes.chunks_exact_mut(8).zip(inner) {
                    to.copy_from_slice(&value.to_le_bytes());
                }
                g.memory().write(at + 16, &bytes)?;
                return Err(Stop::Again(rest));
            }
        };
        g.memory().put(at + 8, &result)?;
        if g.dom.stopped.load(Ordering::Relaxed) {
            return Err(Stop::Gone);
        }
    }
    Ok(0)
}
