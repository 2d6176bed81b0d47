//! Ends in ring 0: services of the hypervisor's that a domain talks to as it talks to another domain, by grants and an
//! event channel, under a number from [`DOMID_FIRST_END`](crate::domid::DOMID_FIRST_END) on.
//!
//! A domain lends its ring's frames to the number and makes a port unbound for it. The control domain then attaches the
//! end ([`XenoCommand::AttachEnd`](crate::xeno::XenoCommand::AttachEnd)), which is what binding is elsewhere.

use crate::domid::{DOMID_FIRST_END, DomId};

/// The echo end: it answers each request of a ring of one frame with the request. For tests.
pub const DOMID_ECHO: DomId = DOMID_FIRST_END;

/// The frame by which a domain talks to the echo end. Indices run freely and count modulo 2^32.
///
/// The domain fills slots of requests and then moves their index; the end fills slots of responses, as many and in the
/// same order, and then moves theirs. Requests and responses not yet read together must not be more than there are
/// slots, or answers are overwritten.
pub mod echo_ring {
    /// Offset of the requests' index, `u32`, the domain's.
    pub const REQUESTS: usize = 0x00;
    /// Offset of the responses' index, `u32`, the end's; also where the end begins when it is attached.
    pub const RESPONSES: usize = 0x04;
    /// Offset of the end's state, `u32`: [`GOOD`] or [`BROKEN`].
    pub const STATE: usize = 0x08;
    /// Slots of requests, and of responses.
    pub const SLOTS: u32 = 32;
    /// Bytes of a slot, all of them the domain's to choose.
    pub const SLOT_BYTES: usize = 48;
    /// Offset of the first slot of requests.
    pub const FIRST_REQUEST: usize = 0x100;
    /// Offset of the first slot of responses.
    pub const FIRST_RESPONSE: usize = 0x800;
    /// The end serves the ring.
    pub const GOOD: u32 = 0;
    /// The requests' index was out of range once: the end does nothing more until it is attached again.
    pub const BROKEN: u32 = 1;

    const _: () = assert!(FIRST_REQUEST + SLOTS as usize * SLOT_BYTES <= FIRST_RESPONSE);
    const _: () = assert!(FIRST_RESPONSE + SLOTS as usize * SLOT_BYTES <= 4096);
}
