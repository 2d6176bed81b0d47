//! The stop-watch.

use programs::{now, say, sys::Errno};

/// Rounds of an operation that is measured alone.
pub const ROUNDS: u32 = 50;
/// Rounds of one that takes long.
pub const FEW: u32 = 8;

/// What two readings with nothing between them differ by.
fn overhead() -> u64 {
    let mut least = u64::MAX;
    for _ in 0..ROUNDS {
        let start = now();
        least = least.min(now() - start);
    }
    least
}

/// Says what one of `parts` operations costs.
pub fn tell(name: &str, ticks: u64, parts: u64) {
    say!("MICRO {name} {}", ticks / parts);
}

/// Measures `rounds` times what `operation` does `parts` times, and says what one costs at the least.
///
/// # Errors
/// The operation's.
#[inline(always)]
pub fn least(
    name: &str,
    rounds: u32,
    parts: u64,
    mut operation: impl FnMut() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let empty = overhead();
    let mut least = u64::MAX;
    for _ in 0..rounds {
        let start = now();
        operation()?;
        let end = now();
        least = least.min(end - start);
    }
    tell(name, least.saturating_sub(empty), parts);
    Ok(())
}
