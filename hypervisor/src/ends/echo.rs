//! The echo end: answers each request of a one-frame ring with the request itself (`guest_abi::ends::echo_ring`).
//!
//! It is the smallest end there can be, for tests and as a pattern: everything is copied once, the index of the other
//! side is a claim, and an event is raised only when something was answered.

use super::{End, Pages, Told, WORK};
use crate::memory::phys::{self, Words};
use core::sync::atomic::Ordering;
use grants::Access;
use guest_abi::ends::echo_ring::{
    BROKEN, FIRST_REQUEST, FIRST_RESPONSE, GOOD, REQUESTS, RESPONSES, SLOT_BYTES, SLOTS, STATE,
};
use rings::Reader;

/// A domain's link to it.
pub(super) struct Echo {
    requests: Reader<SLOTS>,
}

/// A 32-bit word of the frame.
fn half(page: &Words, offset: usize) -> &core::sync::atomic::AtomicU32 {
    phys::half(page, offset / 4)
}

impl End for Echo {
    const PAGES: &'static [Access] = &[Access::Write];

    fn attach(pages: &Pages) -> Echo {
        let start = pages.first().map_or(0, |page| {
            half(page.words(), STATE).store(GOOD, Ordering::Relaxed);
            half(page.words(), RESPONSES).load(Ordering::Acquire)
        });
        Echo {
            requests: Reader::starting_at(start),
        }
    }

    fn event(&mut self, pages: &Pages) -> Told {
        let Some(page) = pages.first() else {
            return Told::default();
        };
        let page = page.words();
        let claim = half(page, REQUESTS).load(Ordering::Acquire);
        let Ok(waiting) = self.requests.look(claim) else {
            half(page, STATE).store(BROKEN, Ordering::Relaxed);
            return Told::default();
        };
        let now = waiting.min(WORK);
        for _ in 0..now {
            let slot = self.requests.take();
            let mut bytes = [0; SLOT_BYTES];
            phys::read_page(page, FIRST_REQUEST + slot * SLOT_BYTES, &mut bytes);
            phys::write_page(page, FIRST_RESPONSE + slot * SLOT_BYTES, &bytes);
        }
        // The answers before the index that says there are some.
        half(page, RESPONSES).store(self.requests.next(), Ordering::Release);
        Told {
            raise: now != 0,
            more: waiting > now,
            units: now,
        }
    }

    fn detach(&mut self, _pages: &Pages) {}
}
