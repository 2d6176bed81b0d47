//! The ring of a console, as its back end sees it.

use std::mem::offset_of;

use guest_abi::console::{XENCONS_IN_BYTES, XENCONS_OUT_BYTES, XenconsInterface};
use store::Page;

const INPUT: usize = offset_of!(XenconsInterface, input);
const OUT: usize = offset_of!(XenconsInterface, out);
const IN_CONS: usize = offset_of!(XenconsInterface, in_cons);
const IN_PROD: usize = offset_of!(XenconsInterface, in_prod);
const OUT_CONS: usize = offset_of!(XenconsInterface, out_cons);
const OUT_PROD: usize = offset_of!(XenconsInterface, out_prod);

/// The guest broke the rules of its console's ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an index of this console's ring makes no sense")]
pub struct RingFault;

/// Where a ring stands: our own two indexes.
#[derive(Debug)]
pub struct Ring {
    out_cons: u32,
    in_prod: u32,
    at_rest: bool,
}

impl Ring {
    /// Takes up the ring whose output was kept up to the index `kept`. Where that cannot be, because what was kept is
    /// lost, it goes on at the index the page itself has, or with what comes next.
    pub fn attach(kept: u32, page: &mut dyn Page) -> Self {
        let (published, written) = (page.load(OUT_CONS), page.load(OUT_PROD));
        let possible = |index: &u32| written.wrapping_sub(*index) <= XENCONS_OUT_BYTES;
        let out_cons = [kept, published]
            .into_iter()
            .find(possible)
            .unwrap_or(written);
        let ring = Self {
            out_cons,
            in_prod: page.load(IN_PROD),
            at_rest: false,
        };
        // It may have been kept and not yet published.
        page.store(OUT_CONS, ring.out_cons);
        ring
    }

    /// The index up to which it was read.
    pub fn out_cons(&self) -> u32 {
        self.out_cons
    }

    /// What the guest wrote and we did not take yet. After a fault, nothing.
    ///
    /// # Errors
    /// Once, when the guest's index makes no sense.
    pub fn written(&mut self, page: &dyn Page) -> Result<Vec<u8>, RingFault> {
        if self.at_rest {
            return Ok(Vec::new());
        }
        let count = page.load(OUT_PROD).wrapping_sub(self.out_cons);
        if count > XENCONS_OUT_BYTES {
            self.at_rest = true;
            return Err(RingFault);
        }
        let mut bytes = vec![0; count as usize];
        let start = (self.out_cons % XENCONS_OUT_BYTES) as usize;
        let first = bytes.len().min(XENCONS_OUT_BYTES as usize - start);
        let (head, tail) = bytes.split_at_mut(first);
        page.read(OUT + start, head);
        page.read(OUT, tail);
        Ok(bytes)
    }

    /// Lets the guest reuse the room of `count` bytes that [`Ring::written`] answered.
    pub fn taken(&mut self, count: usize, page: &mut dyn Page) {
        self.out_cons = self.out_cons.wrapping_add(count as u32);
        page.store(OUT_CONS, self.out_cons);
    }

    /// Gives the guest as many of `bytes` as there is room for; answers how many.
    pub fn give(&mut self, bytes: &[u8], page: &mut dyn Page) -> usize {
        if bytes.is_empty() || self.at_rest {
            return 0;
        }
        let unread = self.in_prod.wrapping_sub(page.load(IN_CONS));
        let Some(room) = XENCONS_IN_BYTES.checked_sub(unread) else {
            self.at_rest = true;
            return 0;
        };
        let count = bytes.len().min(room as usize);
        let start = (self.in_prod % XENCONS_IN_BYTES) as usize;
        let (head, tail) = bytes
            .get(..count)
            .unwrap_or_default()
            .split_at(count.min(XENCONS_IN_BYTES as usize - start));
        page.write(INPUT + start, head);
        page.write(INPUT, tail);
        self.in_prod = self.in_prod.wrapping_add(count as u32);
        page.store(IN_PROD, self.in_prod);
        count
    }
}
