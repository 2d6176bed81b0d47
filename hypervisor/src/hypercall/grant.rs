//! Grant tables. The initial domain shares nothing with anybody yet; what is here is what a stock kernel asks at
//! boot.

use crate::domain::Guest;
use crate::hypercall::{Args, Outcome};
use guest_abi::Errno;

/// `grant_table_op(op, list, count)`: not offered yet; stock kernels then boot without paravirtual devices.
pub fn grant_table_op(_g: &mut Guest<'_>, _args: Args) -> Outcome {
    Err(Errno::NoSys.into())
}
