//! Access to machine memory through the direct map: the one place where ring 0 touches memory that guests may
//! be writing at the same moment.
//!
//! # Invariants
//! - P1: `LIMIT` bounds the direct map; every access is checked against it, so a wrong frame number is a panic
//!   of ours, never a stray access. Holes in the map below the limit hold no RAM and are never asked for: callers
//!   hold a frame of the frame table, or boot memory they own.
//! - P2: no Rust reference to guest-visible memory is ever made; access is by volatile or atomic word, or by a
//!   string instruction, so that a guest's racing write changes values, never the meaning of our code.

use crate::layout::{DIRECT_MAP, DIRECT_MAP_SIZE, PAGE};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use frames::Mfn;

/// First physical address beyond the direct map. While booting: the 4 GiB of the boot tables.
static LIMIT: AtomicU64 = AtomicU64::new(4 << 30);

/// Raises the limit once ring 0's own tables are in force.
pub fn set_limit(limit: u64) {
    assert!(limit <= DIRECT_MAP_SIZE && limit.is_multiple_of(PAGE));
    LIMIT.store(limit, Ordering::Release);
}

/// First physical address beyond the direct map.
pub fn limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// Where physical memory is seen. Checks P1.
#[inline]
pub fn at(phys: u64, len: u64) -> *mut u8 {
    let limit = limit();
    if phys > limit || len > limit.wrapping_sub(phys) {
        outside(phys);
    }
    DIRECT_MAP.wrapping_add(phys) as *mut u8
}

#[cold]
#[inline(never)]
fn outside(phys: u64) -> ! {
    panic!("physical address {phys:#x} is outside the direct map");
}

/// A page-table or descriptor word. The index counts modulo a table's 512.
#[inline]
pub fn word(mfn: Mfn, index: usize) -> &'static AtomicU64 {
    // The limit is a multiple of the page size, and no frame number times the page size wraps below it.
    if mfn.0 >= limit() / PAGE {
        outside(mfn.0);
    }
    let place = DIRECT_MAP
        .wrapping_add(mfn.0.wrapping_mul(PAGE))
        .wrapping_add((index as u64 & 511) * 8);
    // SAFETY: inside the direct map (P1), aligned, and only ever accessed atomically or by volatile access (P2);
    // the direct map lives as long as the machine.
    unsafe { &*(place as *const AtomicU64) }
}

/// A page of the direct map. Whoever has one has had it checked (P1), for ever: the map never shrinks.
pub type Words = [AtomicU64; 512];

/// A whole page as words.
#[inline]
pub fn page(mfn: Mfn) -> &'static Words {
    let first: *const AtomicU64 = word(mfn, 0);
    // SAFETY: as `word`: the limit is a multiple of the page size, so the whole page is inside.
    unsafe { &*first.cast() }
}

/// Words that are looked at in one step.
pub const STEP: usize = 16;

/// Whether any of a page's words is not zero. One instruction a word: the compiler, which makes two of an atomic load
/// and what is done with it, would take twice as long, and passing what is empty is most of what a sparse table costs.
#[inline(always)]
pub fn any(words: &[AtomicU64; STEP]) -> bool {
    let all: u64;
    // SAFETY: reads within the array. Each word is read whole, and none needs to be still (P2).
    unsafe {
        asm!(
            "mov {all}, [{at}]",
            "or {all}, [{at} + 8]",
            "or {all}, [{at} + 16]",
            "or {all}, [{at} + 24]",
            "or {all}, [{at} + 32]",
            "or {all}, [{at} + 40]",
            "or {all}, [{at} + 48]",
            "or {all}, [{at} + 56]",
            "or {all}, [{at} + 64]",
            "or {all}, [{at} + 72]",
            "or {all}, [{at} + 80]",
            "or {all}, [{at} + 88]",
            "or {all}, [{at} + 96]",
            "or {all}, [{at} + 104]",
            "or {all}, [{at} + 112]",
            "or {all}, [{at} + 120]",
            all = out(reg) all, at = in(reg) words, options(nostack, readonly)
        );
    }
    all != 0
}

/// Fills a frame with zeros.
pub fn zero_frame(mfn: Mfn) {
    zero(mfn.0 * PAGE, PAGE);
}

/// Fills physical memory with zeros. `len` is a multiple of 8.
pub fn zero(phys: u64, len: u64) {
    debug_assert!(len.is_multiple_of(8));
    let place = at(phys, len);
    // SAFETY: P1; a string store needs no exclusive access to be defined (P2).
    unsafe {
        asm!("rep stosq", inout("rdi") place => _, inout("rcx") len / 8 => _, in("rax") 0u64,
             options(nostack, preserves_flags));
    }
}

/// Copies out of a page into ring 0's own memory. What does not lie in the page is a panic of ours.
#[inline]
pub fn read_page(page: &Words, offset: usize, to: &mut [u8]) {
    assert!(offset <= PAGE as usize && to.len() <= PAGE as usize - offset);
    let from = page.as_ptr().cast::<u8>().wrapping_add(offset);
    // SAFETY: inside the page; otherwise as `read`.
    unsafe { copy(to.as_mut_ptr(), from, to.len()) }
}

/// Copies from ring 0's own memory into a page. What does not lie in the page is a panic of ours.
#[inline]
pub fn write_page(page: &Words, offset: usize, from: &[u8]) {
    assert!(offset <= PAGE as usize && from.len() <= PAGE as usize - offset);
    let to = page.as_ptr().cast_mut().cast::<u8>().wrapping_add(offset);
    // SAFETY: inside the page; the page's words are atomics, and so may change behind a shared reference.
    unsafe { copy(to, from.as_ptr(), from.len()) }
}

/// Copies out of physical memory into ring 0's own.
#[inline]
pub fn read(phys: u64, to: &mut [u8]) {
    let from = at(phys, to.len() as u64);
    // SAFETY: source P1, destination exclusively borrowed; the two do not overlap, since ring 0's objects are never
    // handed out as guest memory.
    unsafe { copy(to.as_mut_ptr(), from, to.len()) }
}

/// Copies from ring 0's own memory into physical memory.
#[inline]
pub fn write(phys: u64, from: &[u8]) {
    let to = at(phys, from.len() as u64);
    // SAFETY: as `read`.
    unsafe { copy(to, from.as_ptr(), from.len()) }
}

/// Copies between two places of physical memory.
pub fn copy_phys(to: u64, from: u64, len: u64) {
    let (to, from) = (at(to, len), at(from, len));
    // SAFETY: P1 for both; a string move is defined whatever others write meanwhile (P2).
    unsafe { copy(to, from, len as usize) }
}

/// Writes eight bytes at an aligned physical address.
#[inline]
pub fn write_u64(phys: u64, value: u64) {
    word(Mfn(phys / PAGE), (phys % PAGE / 8) as usize).store(value, Ordering::Relaxed);
}

/// Half a word of a page, in the order of memory. The index counts modulo a page's 1024.
#[inline]
pub fn half(page: &Words, index: usize) -> &AtomicU32 {
    let first = page.as_ptr().cast::<AtomicU32>();
    // SAFETY: inside the page; as `word`, whose words may be accessed by halves too: what tears is the guest's.
    unsafe { &*first.wrapping_add(index & 1023) }
}

/// A part of the boot loader's memory as bytes: modules, which nobody writes.
///
/// # Safety
/// The range must be memory that no guest and no device can write, and nobody in ring 0 writes while the slice
/// lives.
pub unsafe fn boot_slice(phys: u64, len: u64) -> &'static [u8] {
    let place = at(phys, len);
    // SAFETY: P1 and the caller's contract.
    unsafe { core::slice::from_raw_parts(place, len as usize) }
}

/// As [`boot_slice`], to write.
///
/// # Safety
/// The caller owns the memory alone while the slice lives.
pub unsafe fn boot_slice_mut(phys: u64, len: u64) -> &'static mut [u8] {
    let place = at(phys, len);
    // SAFETY: P1 and the caller's contract.
    unsafe { core::slice::from_raw_parts_mut(place, len as usize) }
}

/// # Safety
/// Both ranges must be mapped; they may not overlap.
#[inline]
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) {
    // Words first: most copies are a few words, and a string move costs its start-up.
    let words = len / 8;
    if words <= 16 {
        for i in 0..words {
            // SAFETY: i * 8 + 8 <= len; unaligned volatile words are what the CPU does anyway.
            unsafe {
                let value: u64;
                asm!("mov {}, [{}]", out(reg) value, in(reg) from.add(i * 8), options(nostack, preserves_flags, readonly));
                asm!("mov [{}], {}", in(reg) to.add(i * 8), in(reg) value, options(nostack, preserves_flags));
            }
        }
    } else {
        // SAFETY: the caller's contract.
        unsafe {
            asm!("rep movsq", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") words => _,
                 options(nostack, preserves_flags));
        }
    }
    for i in words * 8..len {
        // SAFETY: i < len.
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
}
