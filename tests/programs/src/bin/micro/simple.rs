//! Calls that leave the address space alone.

use crate::measure::{ROUNDS, least};
use programs::calls::{self, nr};
use programs::sys::{self, Errno};

/// Measures them.
pub fn all() -> Result<(), Errno> {
    const SET_GS: usize = 0x1001;
    least("getppid", ROUNDS, 1, || {
        calls::plain(nr::GETPPID);
        Ok(())
    })?;
    let zero = sys::open(c"/dev/zero")?;
    let mut byte = [0];
    least("read-zero", ROUNDS, 1, || {
        calls::read(zero, &mut byte).map(|_| ())
    })?;
    least("open-close", ROUNDS, 1, || {
        calls::close(calls::open_to_read(c"/etc/passwd")?)
    })?;
    least("sched_yield", ROUNDS, 1, || {
        calls::plain(nr::SCHED_YIELD);
        Ok(())
    })?;
    least("set_gs", ROUNDS, 1, || {
        // SAFETY: nothing here uses GS.
        unsafe { sys::call(nr::ARCH_PRCTL, [SET_GS, 0x1000, 0, 0, 0, 0]) }.map(|_| ())
    })
}
