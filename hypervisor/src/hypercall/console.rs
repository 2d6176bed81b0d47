//! The machine's console: the control domain's only one.

use crate::debug::console;
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop};
use guest_abi::Errno;
use guest_abi::console::ConsoleIoOp;

/// Bytes copied at once, and units of writing them: a serial line is slow.
const CHUNK: usize = 32;
const CHUNK_UNITS: u64 = 40;

/// `console_io(op, count, buffer)`.
pub fn console_io(g: &mut Guest<'_>, args: Args) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let [op, count, buffer, ..] = args;
    let count = count & 0x7fff_ffff;
    match ConsoleIoOp::from_number(op as u32) {
        Some(ConsoleIoOp::Write) => {
            let mut bytes = [0u8; CHUNK];
            let mut done = 0;
            while done < count {
                if !g.spend() {
                    let rest = [
                        op,
                        count - done,
                        buffer.wrapping_add(done),
                        args[3],
                        args[4],
                    ];
                    return Err(Stop::Again(rest));
                }
                g.charge(CHUNK_UNITS);
                let len = (count - done).min(CHUNK as u64) as usize;
                g.memory()
                    .read(buffer.wrapping_add(done), &mut bytes[..len])?;
                console::write_bytes(&bytes[..len]);
                done += len as u64;
            }
            Ok(0)
        }
        Some(ConsoleIoOp::Read) => {
            let mut done = 0;
            while done < count && done < 64 {
                g.memory().check_writable(buffer.wrapping_add(done), 1)?;
                let Some(byte) = console::try_read() else {
                    break;
                };
                g.memory().write(buffer.wrapping_add(done), &[byte])?;
                done += 1;
            }
            Ok(done)
        }
        None => Err(Errno::NoSys.into()),
    }
}
