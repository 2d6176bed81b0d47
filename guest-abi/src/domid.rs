//! Domain ids: who is meant, and which numbers mean nobody in particular.
//!
//! # Invariants
//! - D1: an ordinary domain's id is below [`DOMID_FIRST_END`]; everything from there up to
//!   [`DOMID_MASK`] has a fixed meaning and is never given to a domain that is created.

/// Identifies a domain. Sixteen bits in every structure.
pub type DomId = u16;

/// The first id that no ordinary domain has in the public interface.
pub const DOMID_FIRST_RESERVED: DomId = 0x7ff0;
/// The caller itself.
pub const DOMID_SELF: DomId = 0x7ff0;
/// Owner of I/O memory: restricts a mapping to it.
pub const DOMID_IO: DomId = 0x7ff1;
/// The hypervisor itself, where it shares pages of its own (the machine-to-physical table).
pub const DOMID_XEN: DomId = 0x7ff2;
/// Owner of pages shared copy-on-write. Nobody's here: we share none.
pub const DOMID_COW: DomId = 0x7ff3;
/// Nobody: the owner of a page is not known.
pub const DOMID_INVALID: DomId = 0x7ff4;
/// The idle domain.
pub const DOMID_IDLE: DomId = 0x7fff;
/// The bits an id may have.
pub const DOMID_MASK: DomId = 0x7fff;

/// First id set aside for ends that live in ring 0: a hypervisor service that is one side of an event channel
/// or a grant. Ours; ordinary domains stop below it.
pub const DOMID_FIRST_END: DomId = 0x7fe0;
/// Last id set aside for ends that live in ring 0.
pub const DOMID_LAST_END: DomId = 0x7fef;

const _: () = assert!(DOMID_LAST_END + 1 == DOMID_FIRST_RESERVED);

/// Whether a domain may be created with this id (D1).
#[inline]
pub const fn is_ordinary(domid: DomId) -> bool {
    domid < DOMID_FIRST_END
}

/// Whether the id names an end in ring 0.
#[inline]
pub const fn is_end(domid: DomId) -> bool {
    domid >= DOMID_FIRST_END && domid <= DOMID_LAST_END
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_with_a_meaning_is_ordinary() {
        assert!(is_ordinary(0));
        assert!(is_ordinary(0x7fdf));
        for domid in DOMID_FIRST_END..=u16::MAX {
            assert!(!is_ordinary(domid));
        }
        assert!(is_end(DOMID_FIRST_END) && is_end(DOMID_LAST_END));
        assert!(!is_end(DOMID_SELF) && !is_end(0x7fdf));
    }
}
