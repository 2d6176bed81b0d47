//! Bytes seen as one of crate `acpi`'s packed structures: the crate's only `unsafe`.
#![allow(unsafe_code)]

use acpi::fadt::Fadt;
use acpi::madt::{
    InterruptSourceOverrideEntry, IoApicEntry, LocalApicAddressOverrideEntry, LocalApicEntry,
    LocalApicNmiEntry, LocalX2ApicEntry, NmiSourceEntry, X2ApicNmiEntry,
};
use acpi::rsdp::Rsdp;
use acpi::sdt::SdtHeader;

/// A structure of integers only.
///
/// # Safety
/// Every pattern of bits must be a valid value of the type.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C, packed)` over integers, flag words that are integers, and signatures that are bytes.
            unsafe impl Plain for $name {}
        )*
    };
}

plain!(
    Fadt,
    InterruptSourceOverrideEntry,
    IoApicEntry,
    LocalApicAddressOverrideEntry,
    LocalApicEntry,
    LocalApicNmiEntry,
    LocalX2ApicEntry,
    NmiSourceEntry,
    Rsdp,
    SdtHeader,
    X2ApicNmiEntry,
);

/// The structure that `bytes` begin with; `None` if they are too few.
pub(crate) fn view<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough (above), valid whatever the bits (`Plain`), and an unaligned read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
