//! The pending bits of a domain that nobody runs.

use events::{Port, SharedBits, VcpuId};
use interleave::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

/// Pending bits of the first ports; nothing is masked, and nobody is told.
#[derive(Debug, Default)]
pub struct Page {
    pending: [Word; 2],
}

#[derive(Debug)]
struct Word(AtomicU64);

impl Default for Word {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl Page {
    fn word(&self, port: Port) -> (&AtomicU64, u64) {
        // Ports beyond share words with those: enough for what is done with them.
        let word = &self.pending[port.word() % self.pending.len()];
        (&word.0, 1 << port.bit())
    }
}

impl SharedBits for Page {
    fn test_and_set_pending(&self, port: Port) -> bool {
        let (word, bit) = self.word(port);
        word.fetch_or(bit, SeqCst) & bit != 0
    }
    fn clear_pending(&self, port: Port) {
        let (word, bit) = self.word(port);
        word.fetch_and(!bit, SeqCst);
    }
    fn is_pending(&self, port: Port) -> bool {
        let (word, bit) = self.word(port);
        word.load(SeqCst) & bit != 0
    }
    fn is_masked(&self, _: Port) -> bool {
        false
    }
    fn clear_mask(&self, _: Port) {}
    fn test_and_set_selector(&self, _: VcpuId, _: usize) -> bool {
        true
    }
    fn set_all_selectors(&self, _: VcpuId) {}
    fn test_and_set_upcall_pending(&self, _: VcpuId) -> bool {
        true
    }
}
