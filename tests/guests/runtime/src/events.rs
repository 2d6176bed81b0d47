//! Events: the shared page, the upcall, ports and time.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use crate::Global;
use crate::abi::{SharedInfo, VcpuInfo, VcpuTimeInfo};
use crate::entry::start_info;
use crate::frames::{self, Page};
use crate::instructions::rdtsc;
use crate::page_table::bits;
use crate::{check, hypercall, say};

/// Address of the mapped shared page; 0 before.
static SHARED: Global<u64> = Global::new(0);
/// Address of vCPU 0's vcpu_info, which can move once.
static VCPU: Global<u64> = Global::new(0);
/// How often each of the first ports was delivered.
static COUNTS: Global<[u32; 64]> = Global::new([0; 64]);
/// How often the upcall came.
static UPCALLS: Global<u32> = Global::new(0);

pub(crate) fn init() {
    // The page that gives its address away stays ours, mapped nowhere.
    let page: Page = frames::allocate();
    let entry = (start_info().shared_info & bits::ADDRESS) | bits::KERNEL_RW | bits::NX;
    let result = hypercall::update_va_mapping(page.va(), entry);
    assert!(result == 0, "shared_info could not be mapped: {result}");
    SHARED.set(page.va());
    VCPU.set(page.va());
    let shared = shared();
    for word in 0..64 {
        set_word(&raw const shared.evtchn_mask as u64, word, u64::MAX);
    }
}

/// The shared page. Its fields change under the reader: use the accessors below for those.
pub fn shared() -> &'static SharedInfo {
    assert!(SHARED.get() != 0, "shared_info is not mapped yet");
    // SAFETY: mapped by `init`, and of this layout.
    unsafe { &*(SHARED.get() as *const SharedInfo) }
}

/// Address of the vcpu_info in use.
pub fn vcpu_address() -> u64 {
    VCPU.get()
}

/// Notes that vcpu_info has moved to `address`.
pub fn vcpu_moved(address: u64) {
    VCPU.set(address);
}

fn byte(offset: usize) -> &'static AtomicU8 {
    // SAFETY: vcpu_info is mapped for good; the hypervisor changes it like another thread would.
    unsafe { AtomicU8::from_ptr((VCPU.get() as *mut u8).add(offset)) }
}

fn word(base: u64, index: usize) -> &'static AtomicU64 {
    // SAFETY: callers pass a 64-word bitmap of the shared page; the index is bounded.
    unsafe { AtomicU64::from_ptr((base as *mut u64).add(index % 64)) }
}

fn set_word(base: u64, index: usize, value: u64) {
    word(base, index).store(value, Ordering::SeqCst);
}

fn pending_word(index: usize) -> &'static AtomicU64 {
    word(&raw const shared().evtchn_pending as u64, index)
}

fn mask_word(index: usize) -> &'static AtomicU64 {
    word(&raw const shared().evtchn_mask as u64, index)
}

/// The event mask; 1 before the shared page is mapped.
pub fn mask() -> u8 {
    if VCPU.get() == 0 {
        1
    } else {
        byte(1).load(Ordering::SeqCst)
    }
}

/// Sets the event mask by a plain store, and delivers nothing.
pub fn set_mask(value: u8) {
    byte(1).store(value, Ordering::SeqCst);
}

/// Unmasks events and lets what is pending come, as kernels do: store, look, call.
pub fn enable() {
    set_mask(0);
    if is_pending() {
        hypercall::version();
    }
}

/// Masks events.
pub fn disable() {
    set_mask(1);
}

/// Whether an upcall is pending.
pub fn is_pending() -> bool {
    byte(0).load(Ordering::SeqCst) != 0
}

/// Sets or clears the pending flag.
pub fn set_pending(value: u8) {
    byte(0).store(value, Ordering::SeqCst);
}

/// The selector word.
pub fn selector() -> u64 {
    word(VCPU.get(), 1).load(Ordering::SeqCst)
}

/// Sets the selector word.
pub fn set_selector(value: u64) {
    set_word(VCPU.get(), 1, value);
}

/// cr2 of vcpu_info; 0 before it is mapped.
pub fn cr2() -> u64 {
    if VCPU.get() == 0 {
        0
    } else {
        word(VCPU.get(), 2).load(Ordering::SeqCst)
    }
}

/// Masks or unmasks a port by its bit; a pending port that is unmasked so is not delivered by itself.
pub fn set_port_mask(port: u32, masked: bool) {
    let (index, bit) = (port as usize / 64, 1u64 << (port % 64));
    if masked {
        mask_word(index).fetch_or(bit, Ordering::SeqCst);
    } else {
        mask_word(index).fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Whether a port's mask bit is set.
pub fn port_masked(port: u32) -> bool {
    mask_word(port as usize / 64).load(Ordering::SeqCst) >> (port % 64) & 1 != 0
}

/// Whether a port is pending.
pub fn port_pending(port: u32) -> bool {
    pending_word(port as usize / 64).load(Ordering::SeqCst) >> (port % 64) & 1 != 0
}

/// Clears a port's pending bit; whether it was set.
pub fn clear_port(port: u32) -> bool {
    let bit = 1u64 << (port % 64);
    pending_word(port as usize / 64).fetch_and(!bit, Ordering::SeqCst) & bit != 0
}

/// Forgets everything pending.
pub fn clear_all() {
    for index in 0..64 {
        set_word(&raw const shared().evtchn_pending as u64, index, 0);
    }
    set_selector(0);
    set_pending(0);
}

/// How often a port below 64 was delivered since [`reset_counts`].
pub fn count(port: u32) -> u32 {
    COUNTS.get()[port as usize % 64]
}

/// How many upcalls there were since [`reset_counts`].
pub fn upcalls() -> u32 {
    UPCALLS.get()
}

/// Starts counting anew.
pub fn reset_counts() {
    COUNTS.set([0; 64]);
    UPCALLS.set(0);
}

/// The upcall: takes everything pending and not masked, and counts it.
pub(crate) fn handle() {
    UPCALLS.set(UPCALLS.get() + 1);
    let mut counts = COUNTS.get();
    while byte(0).swap(0, Ordering::SeqCst) != 0 {
        let mut selected = word(VCPU.get(), 1).swap(0, Ordering::SeqCst);
        while selected != 0 {
            let index = selected.trailing_zeros() as usize;
            selected &= selected - 1;
            let mut ready = pending_word(index).load(Ordering::SeqCst)
                & !mask_word(index).load(Ordering::SeqCst);
            while ready != 0 {
                let bit = ready.trailing_zeros();
                ready &= ready - 1;
                pending_word(index).fetch_and(!(1 << bit), Ordering::SeqCst);
                let port = index * 64 + bit as usize;
                match counts.get_mut(port) {
                    Some(count) => *count += 1,
                    None => say!("{}: event on port {port}", check::name()),
                }
            }
        }
    }
    COUNTS.set(counts);
}

/// A consistent copy of a vcpu_info's time.
pub fn time_of(vcpu: u64) -> VcpuTimeInfo {
    let time = (vcpu + core::mem::offset_of!(VcpuInfo, time) as u64) as *const VcpuTimeInfo;
    loop {
        // SAFETY: part of a mapped vcpu_info; volatile, as the hypervisor writes it.
        let copy = unsafe { time.read_volatile() };
        fence(Ordering::SeqCst);
        // SAFETY: as above.
        let version = unsafe { (&raw const (*time).version).read_volatile() };
        if version == copy.version && version & 1 == 0 {
            return copy;
        }
    }
}

/// System time in nanoseconds.
pub fn now_ns() -> u64 {
    let time = time_of(VCPU.get());
    let ticks = rdtsc().wrapping_sub(time.tsc_timestamp);
    let shifted = if time.tsc_shift >= 0 {
        ticks << time.tsc_shift
    } else {
        ticks >> -time.tsc_shift
    };
    let scaled = (u128::from(shifted) * u128::from(time.tsc_to_system_mul)) >> 32;
    time.system_time.wrapping_add(scaled as u64)
}
