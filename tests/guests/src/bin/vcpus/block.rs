//! What each worker and its user mode have of their own: a page that its GS base leads to.
//!
//! The assembly in `code` names the fields by offset; the assertions below hold the two together.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use guest_runtime::user;

use crate::WORKERS;

const fn words<const N: usize>() -> [AtomicU64; N] {
    [const { AtomicU64::new(0) }; N]
}

/// One page, of the kernel's or of user mode's.
#[repr(C, align(4096))]
pub struct Block {
    /// The vCPU's number.
    pub id: AtomicU64,
    /// Turns of the inner loop left.
    pub spin: AtomicU64,
    /// Stack pointer to return to from user mode.
    pub kernel_sp: AtomicU64,
    /// Address of its vcpu_info.
    pub vcpu_info: AtomicU64,
    /// [`IN_USER`], [`HAS_AVX`], [`HAS_AUX`].
    pub flags: AtomicU64,
    /// A value no other block has.
    pub marker: AtomicU64,
    /// The marker as FS showed it.
    pub fs_seen: AtomicU64,
    /// TSC_AUX as it was read.
    pub aux_seen: AtomicU64,
    /// DS, ES, FS and GS.
    pub selectors: [AtomicU16; 4],
    pub mxcsr: AtomicU32,
    pub mxcsr_seen: AtomicU32,
    pub fcw: AtomicU32,
    pub fcw_seen: AtomicU32,
    pub x87: AtomicU64,
    pub x87_seen: AtomicU64,
    pub rflags: AtomicU64,
    pub rflags_seen: AtomicU64,
    /// Where the shared page keeps the pending bits of the first 64 ports, and the bits of the worker's own.
    pub pending: AtomicU64,
    pub ipi_port: AtomicU64,
    pub timer_port: AtomicU64,
    /// Events taken.
    pub ipis: AtomicU64,
    pub timers: AtomicU64,
    /// Failsafe callbacks, and the selectors the last one told of.
    pub failsafes: AtomicU64,
    pub wanted: [AtomicU64; 4],
    /// A trap that nothing here causes: its vector and one, its RIP.
    pub unexpected: AtomicU64,
    pub unexpected_rip: AtomicU64,
    /// Traps by vector.
    pub traps: [AtomicU64; 32],
    /// General registers in the order of the instruction set, as loaded and as found.
    pub general: [AtomicU64; 16],
    pub general_seen: [AtomicU64; 16],
    /// Vector registers, four words each.
    pub vector: [AtomicU64; 64],
    pub vector_seen: [AtomicU64; 64],
    /// Where the hypervisor keeps the vCPU's run state.
    pub runstate: [AtomicU64; 6],
    /// Rounds made in kernel and in user mode, and how often it was found to have been away meanwhile.
    pub rounds: AtomicU64,
    pub away: AtomicU64,
    /// What vCPU 0 asks for, and the last such that was done.
    pub command: AtomicU64,
    pub done: AtomicU64,
    /// The first thing that was not as it must be: what (1 and up), wanted, got.
    pub wrong: [AtomicU64; 3],
}

/// Flags of [`Block::flags`].
pub const IN_USER: u64 = 1;
pub const HAS_AVX: u64 = 2;
pub const HAS_AUX: u64 = 4;

const _: () = {
    assert!(size_of::<Block>() == 4096);
    assert!(offset_of!(Block, selectors) == 0x40);
    assert!(offset_of!(Block, mxcsr) == 0x48);
    assert!(offset_of!(Block, fcw) == 0x50);
    assert!(offset_of!(Block, x87) == 0x58);
    assert!(offset_of!(Block, rflags) == 0x68);
    assert!(offset_of!(Block, pending) == 0x78);
    assert!(offset_of!(Block, failsafes) == 0xa0);
    assert!(offset_of!(Block, unexpected) == 0xc8);
    assert!(offset_of!(Block, traps) == 0xd8);
    assert!(offset_of!(Block, general) == 0x1d8);
    assert!(offset_of!(Block, general_seen) == 0x258);
    assert!(offset_of!(Block, vector) == 0x2d8);
    assert!(offset_of!(Block, vector_seen) == 0x4d8);
};

impl Block {
    const fn new() -> Self {
        Self {
            id: AtomicU64::new(0),
            spin: AtomicU64::new(0),
            kernel_sp: AtomicU64::new(0),
            vcpu_info: AtomicU64::new(0),
            flags: AtomicU64::new(0),
            marker: AtomicU64::new(0),
            fs_seen: AtomicU64::new(0),
            aux_seen: AtomicU64::new(0),
            selectors: [const { AtomicU16::new(0) }; 4],
            mxcsr: AtomicU32::new(0),
            mxcsr_seen: AtomicU32::new(0),
            fcw: AtomicU32::new(0),
            fcw_seen: AtomicU32::new(0),
            x87: AtomicU64::new(0),
            x87_seen: AtomicU64::new(0),
            rflags: AtomicU64::new(0),
            rflags_seen: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            ipi_port: AtomicU64::new(0),
            timer_port: AtomicU64::new(0),
            ipis: AtomicU64::new(0),
            timers: AtomicU64::new(0),
            failsafes: AtomicU64::new(0),
            wanted: words(),
            unexpected: AtomicU64::new(0),
            unexpected_rip: AtomicU64::new(0),
            traps: words(),
            general: words(),
            general_seen: words(),
            vector: words(),
            vector_seen: words(),
            runstate: words(),
            rounds: AtomicU64::new(0),
            away: AtomicU64::new(0),
            command: AtomicU64::new(0),
            done: AtomicU64::new(0),
            wrong: words(),
        }
    }

    /// Notes the first thing that is wrong.
    pub fn note_wrong(&self, what: u64, wanted: u64, got: u64) {
        if self.wrong[0].load(Ordering::Relaxed) == 0 {
            self.wrong[1].store(wanted, Ordering::Relaxed);
            self.wrong[2].store(got, Ordering::Relaxed);
            self.wrong[0].store(what, Ordering::Release);
        }
    }

    /// Its address, for the GS base.
    pub fn address(&self) -> u64 {
        &raw const *self as u64
    }
}

static BLOCKS: [Block; WORKERS.len()] = [const { Block::new() }; WORKERS.len()];

/// A worker's page.
pub fn kernel(worker: usize) -> &'static Block {
    &BLOCKS[worker]
}

/// The page of its user mode: the kernel sees it at the same address.
pub fn in_user(worker: usize) -> &'static Block {
    assert!((worker as u64) < user::DATA_PAGES / 2);
    // SAFETY: a zeroed page of the user window, which `user::enable` mapped for good; all fields are atomics.
    unsafe { &*((user::DATA + 4096 * worker as u64) as *const Block) }
}

/// A user stack: the second half of the window.
pub fn user_stack(worker: usize) -> u64 {
    user::DATA + user::DATA_PAGES / 2 * 4096 + 4096 * (worker as u64 + 1) - 64
}

/// The user page of the worker whose kernel page this is.
pub fn in_user_of(kernel: &Block) -> &'static Block {
    let worker = (kernel.address() - BLOCKS[0].address()) / size_of::<Block>() as u64;
    in_user(worker as usize)
}
