//! The page that a parent and the child it built share, and how a step goes through it.
//!
//! Both run the same image at the same addresses, so a step is a function's address and five words: the parent writes
//! them, counts up [`ASKED`] and notifies; the child calls the function, writes what it returned, sets [`DONE`] to the
//! same count and notifies. Words from [`FREE`] on are the tests' own.

use core::sync::atomic::{AtomicU64, Ordering};

/// A step: a function of the image. It must not capture anything.
pub type Step = fn([u64; 5]) -> i64;

/// What [`MAGIC`] holds in a child.
pub const MAGIC_VALUE: u64 = 0x6c69_6e6b_6368_696c;

/// Says that this is such a page.
pub const MAGIC: usize = 0;
/// Address of the function the child starts with.
pub const ENTRY: usize = 1;
/// The child's port to its parent.
pub const PORT: usize = 2;
/// Address and length of the guest's name.
pub const NAME: usize = 3;
/// Steps asked for so far.
pub const ASKED: usize = 5;
/// Steps done so far.
pub const DONE: usize = 6;
/// Address of the step's function.
pub const STEP: usize = 7;
/// Its five arguments.
pub const ARGUMENTS: usize = 8;
/// What it returned.
pub const RESULT: usize = 13;
/// The parent's domain id, as it knows it.
pub const PARENT: usize = 14;
/// First word that is the tests' own; they are [`FREE_WORDS`].
pub const FREE: usize = 64;
/// Words from [`FREE`] on.
pub const FREE_WORDS: usize = 512 - FREE;

/// The shared page, at whatever address it is mapped here.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Where it is mapped.
    pub address: u64,
}

impl Link {
    fn word(&self, index: usize) -> &'static AtomicU64 {
        // SAFETY: the page is mapped for as long as the link is used, and the other domain changes it like another
        // thread would.
        unsafe { AtomicU64::from_ptr((self.address as *mut u64).add(index % 512)) }
    }

    /// Reads a word.
    pub fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }

    /// Writes a word.
    pub fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
    }

    /// Adds to a word; what it was.
    pub fn add(&self, index: usize, value: u64) -> u64 {
        self.word(index).fetch_add(value, Ordering::SeqCst)
    }

    /// Parent: writes a step down and counts it.
    pub(crate) fn ask(&self, step: Step, arguments: [u64; 5]) {
        self.set(STEP, step as usize as u64);
        for (at, argument) in arguments.iter().enumerate() {
            self.set(ARGUMENTS + at, *argument);
        }
        self.add(ASKED, 1);
    }

    /// Whether every step asked for is done.
    pub fn is_done(&self) -> bool {
        self.get(ASKED) == self.get(DONE)
    }

    /// Child: the step that is asked for and not done.
    pub(crate) fn asked(&self) -> Option<(Step, [u64; 5])> {
        if self.is_done() {
            return None;
        }
        let address = self.get(STEP) as usize;
        // SAFETY: the parent wrote the address of a `Step` of the image that both run.
        let step = unsafe { core::mem::transmute::<usize, Step>(address) };
        let mut arguments = [0; 5];
        for (at, argument) in arguments.iter_mut().enumerate() {
            *argument = self.get(ARGUMENTS + at);
        }
        Some((step, arguments))
    }

    /// Child: a step is done.
    pub(crate) fn done(&self, result: i64) {
        self.set(RESULT, result as u64);
        self.add(DONE, 1);
    }
}
