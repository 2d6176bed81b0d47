//! The ring: bytes between a domain and the store in a page that the domain can write while we look.
//!
//! The store owns two of the four indexes and never reads them back; of the other two each is read once, checked,
//! and then used ([`Fault::Index`]). Bytes are copied out once.

use guest_abi::xenstore::{
    XENSTORE_ERROR_PROTO, XENSTORE_ERROR_RINGIDX, XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_ERROR, XENSTORE_SERVER_FEATURE_RECONNECTION, XenstoreDomainInterface,
};

use crate::store::Place;

/// Offsets in the page, in bytes.
pub(crate) mod at {
    use super::XenstoreDomainInterface as Interface;
    use std::mem::offset_of;

    pub const REQ: usize = offset_of!(Interface, req);
    pub const RSP: usize = offset_of!(Interface, rsp);
    pub const REQ_CONS: usize = offset_of!(Interface, req_cons);
    pub const REQ_PROD: usize = offset_of!(Interface, req_prod);
    pub const RSP_CONS: usize = offset_of!(Interface, rsp_cons);
    pub const RSP_PROD: usize = offset_of!(Interface, rsp_prod);
    pub const SERVER_FEATURES: usize = offset_of!(Interface, server_features);
    pub const CONNECTION: usize = offset_of!(Interface, connection);
    pub const ERROR: usize = offset_of!(Interface, error);
}

/// `server_features`: a watch may say how deep it looks. The public header of 4.17 has no name for it yet.
const SERVER_FEATURE_WATCH_DEPTH: u32 = 4;
/// What the store offers in `server_features`.
pub(crate) const SERVER_FEATURES: u32 = XENSTORE_SERVER_FEATURE_RECONNECTION
    | XENSTORE_SERVER_FEATURE_ERROR
    | SERVER_FEATURE_WATCH_DEPTH;

/// A ring's page. Offsets are below 4096, and those of words divisible by four. The domain writes to it at the same
/// time, so nothing may be read twice that must be the same.
pub trait Page {
    /// A word; later reads of the page see at least what its writer wrote before it (an acquire load).
    fn load(&self, offset: usize) -> u32;
    /// Writes a word; whoever sees it sees what was written before (a release store).
    fn store(&mut self, offset: usize, value: u32);
    /// Copies bytes out.
    fn read(&self, offset: usize, into: &mut [u8]);
    /// Copies bytes in.
    fn write(&mut self, offset: usize, from: &[u8]);
}

/// Why a ring's connection ended: the domain broke the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An index is further ahead than the ring is long.
    #[error("an index of its ring makes no sense")]
    Index,
    /// A message announces more than a message may carry.
    #[error("a message is too long")]
    Protocol,
}

impl Fault {
    /// The value of the page's `error`.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Index => XENSTORE_ERROR_RINGIDX,
            Self::Protocol => XENSTORE_ERROR_PROTO,
        }
    }
}

/// How far `ahead` is of `behind`; a fault if that is more than the ring holds.
fn distance(ahead: u32, behind: u32) -> Result<u32, Fault> {
    match ahead.wrapping_sub(behind) {
        distance if distance <= XENSTORE_RING_SIZE => Ok(distance),
        _ => Err(Fault::Index),
    }
}

/// The two pieces of the ring that hold `count` bytes from `index` on: offsets into the ring, and lengths.
fn pieces(index: u32, count: usize) -> [(usize, usize); 2] {
    let size = XENSTORE_RING_SIZE as usize;
    let start = index as usize % size;
    let first = count.min(size - start);
    [(start, first), (0, count - first)]
}

/// All bytes of requests that are there to be read.
pub(crate) fn requests(page: &dyn Page, place: Place) -> Result<Vec<u8>, Fault> {
    let count = distance(page.load(at::REQ_PROD), place.req_cons)? as usize;
    let mut bytes = vec![0; count];
    let [(from, length), (again, _)] = pieces(place.req_cons, count);
    let (first, second) = bytes.split_at_mut(length);
    page.read(at::REQ + from, first);
    page.read(at::REQ + again, second);
    Ok(bytes)
}

/// How many bytes of answers there is room for.
pub(crate) fn room(page: &dyn Page, place: Place) -> Result<usize, Fault> {
    let unread = distance(place.rsp_prod, page.load(at::RSP_CONS))?;
    Ok((XENSTORE_RING_SIZE - unread) as usize)
}

/// Puts bytes of answers behind those that are there, of which there is room for all, and publishes them.
pub(crate) fn answer(page: &mut dyn Page, place: &mut Place, bytes: &[u8]) {
    let [(to, length), (again, _)] = pieces(place.rsp_prod, bytes.len());
    let (first, second) = bytes.split_at(length);
    page.write(at::RSP + to, first);
    page.write(at::RSP + again, second);
    place.rsp_prod = place.rsp_prod.wrapping_add(bytes.len() as u32);
    page.store(at::RSP_PROD, place.rsp_prod);
}
