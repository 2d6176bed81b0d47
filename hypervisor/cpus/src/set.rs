//! Sets of CPUs, by our own numbers.

use crate::MAX_CPUS;
use crate::atomic::AtomicU64;
use core::sync::atomic::Ordering;

const WORDS: usize = MAX_CPUS / 64;

/// Word and bit of a CPU; a number that no CPU has counts modulo the maximum.
fn place(cpu: u32) -> (usize, u64) {
    let cpu = cpu as usize % MAX_CPUS;
    (cpu / 64, 1 << (cpu % 64))
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = CpuSet([0; WORDS]);

    /// Every CPU that there can be.
    pub const ALL: Self = CpuSet([u64::MAX; WORDS]);

    /// Those that are in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut both = self.0;
        for (word, theirs) in both.iter_mut().zip(other.0) {
            *word &= theirs;
        }
        CpuSet(both)
    }

    /// The set with one more.
    #[must_use]
    pub fn with(mut self, cpu: u32) -> Self {
        let (word, bit) = place(cpu);
        self.0[word] |= bit;
        self
    }

    /// The set without one.
    #[must_use]
    pub fn without(mut self, cpu: u32) -> Self {
        let (word, bit) = place(cpu);
        self.0[word] &= !bit;
        self
    }

    /// Whether a CPU is in it.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        let (word, bit) = place(cpu);
        self.0[word] & bit != 0
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The lowest that is in it.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        let at = self.0.iter().position(|word| *word != 0)?;
        Some(at as u32 * 64 + self.0.get(at)?.trailing_zeros())
    }

    /// Those in it, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        let words = self.0;
        (0..WORDS).flat_map(move |at| {
            let mut word = words[at];
            core::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.checked_sub(1)?;
                Some(at as u32 * 64 + bit)
            })
        })
    }
}

/// A set of CPUs that all of them change.
#[derive(Debug)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl Default for AtomicCpuSet {
    fn default() -> Self {
        Self::new()
    }
}

impl AtomicCpuSet {
    /// No CPU.
    #[must_use]
    pub const fn new() -> Self {
        AtomicCpuSet([const { AtomicU64::new(0) }; WORDS])
    }

    /// Puts a CPU in; false if it was.
    pub fn insert(&self, cpu: u32) -> bool {
        let (word, bit) = place(cpu);
        self.0[word].fetch_or(bit, Ordering::SeqCst) & bit == 0
    }

    /// Takes a CPU out; false if it was not in.
    pub fn remove(&self, cpu: u32) -> bool {
        let (word, bit) = place(cpu);
        self.0[word].fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Whether a CPU is in it.
    #[inline]
    pub fn contains(&self, cpu: u32) -> bool {
        let (word, bit) = place(cpu);
        self.0[word].load(Ordering::SeqCst) & bit != 0
    }

    /// Who is in it. Each CPU is looked at once, not all at the same moment.
    pub fn collect(&self) -> CpuSet {
        let mut set = CpuSet::EMPTY;
        for (to, from) in set.0.iter_mut().zip(&self.0) {
            *to = from.load(Ordering::SeqCst);
        }
        set
    }
}
