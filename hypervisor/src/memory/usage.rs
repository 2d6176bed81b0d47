//! What ring 0 keeps for itself, by use: what the boot log says and `cargo xtask stats` holds against its limits.
//!
//! # Invariants
//! - U1: every byte that boot takes is in one account: what no caller names is the page tables'.
//!
//! Modules are not in it: they are the control domain's.

use crate::info;
use crate::layout::PAGE;
use crate::memory::alloc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What memory is for.
#[derive(Clone, Copy)]
pub enum Use {
    /// Records of frames.
    FrameTable,
    /// The machine-to-pseudophysical table.
    M2p,
    /// The image: code, constants, data, the log's ring.
    Image,
    /// The heap.
    Heap,
    /// Stacks, per-CPU data and exposed blocks of the CPUs.
    Cpus,
    /// Ring 0's own page tables.
    Tables,
}

const USES: usize = Use::Tables as usize + 1;
static BYTES: [AtomicU64; USES] = [const { AtomicU64::new(0) }; USES];
/// Frames that were free when boot had taken its share.
static FREE_AFTER_BOOT: AtomicU64 = AtomicU64::new(0);

/// Puts bytes into an account.
pub fn add(what: Use, bytes: u64) {
    BYTES[what as usize].fetch_add(bytes, Relaxed);
}

/// Ends the boot's part: `taken` bytes were taken in all, the image apart.
pub fn end_of_boot(taken: u64) {
    let named: u64 = BYTES.iter().map(|b| b.load(Relaxed)).sum();
    let image = BYTES[Use::Image as usize].load(Relaxed);
    add(Use::Tables, (taken + image).saturating_sub(named));
    FREE_AFTER_BOOT.store(alloc::free_frames(), Relaxed);
}

/// Says that frames which boot had taken, and are in no account, are free again.
pub fn given_back(frames: u64) {
    FREE_AFTER_BOOT.fetch_add(frames, Relaxed);
}

/// Says what ring 0 keeps while a domain with so many frames of its own begins.
pub fn report(domain_frames: u64) {
    let kib = |what: Use| BYTES[what as usize].load(Relaxed) >> 10;
    let gone = FREE_AFTER_BOOT
        .load(Relaxed)
        .saturating_sub(alloc::free_frames());
    let since = (gone.saturating_sub(domain_frames) * PAGE) >> 10;
    let all: u64 = BYTES.iter().map(|b| b.load(Relaxed) >> 10).sum::<u64>() + since;
    info!(
        "ring 0 keeps {all} KiB: frame table {}, M2P {}, image {}, heap {}, CPUs {}, page tables {}, domains and devices {since}",
        kib(Use::FrameTable),
        kib(Use::M2p),
        kib(Use::Image),
        kib(Use::Heap),
        kib(Use::Cpus),
        kib(Use::Tables),
    );
}
