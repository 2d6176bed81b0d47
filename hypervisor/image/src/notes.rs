//! Xen's ELF notes: how a PV kernel wants to be placed and started.
//!
//! They are looked for in note segments, then in note sections; a kernel that has none in either may say the same in
//! the section `__xen_guest` (see [`crate::guest_section`]). Xen 4.17 looks in the same places in the same order.

use crate::ImageError;
use crate::bytes::{slice, u16_at, u32_at, u64_at};
use crate::elf::ElfKernel;
use crate::features::{FeatureName, parse_features};
use guest_abi::features::Feature;

/// Note numbers of the public interface.
mod number {
    pub const ENTRY: u32 = 1;
    pub const HYPERCALL_PAGE: u32 = 2;
    pub const VIRT_BASE: u32 = 3;
    pub const PADDR_OFFSET: u32 = 4;
    pub const XEN_VERSION: u32 = 5;
    pub const GUEST_OS: u32 = 6;
    pub const LOADER: u32 = 8;
    pub const PAE_MODE: u32 = 9;
    pub const FEATURES: u32 = 10;
    pub const HV_START_LOW: u32 = 12;
    pub const L1_MFN_VALID: u32 = 13;
    pub const SUSPEND_CANCEL: u32 = 14;
    pub const INIT_P2M: u32 = 15;
    pub const MOD_START_PFN: u32 = 16;
    pub const SUPPORTED_FEATURES: u32 = 17;
    pub const PHYS32_ENTRY: u32 = 18;
}

/// The interface we offer, and so the beginning of what XEN_VERSION must say.
const INTERFACE: &str = "xen-3.0";

/// What the notes say; what is absent is `None`, false or empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XenNotes<'a> {
    /// Virtual address of the first instruction.
    pub entry: Option<u64>,
    /// Virtual address of a page to be filled with hypercall stubs. Today's kernels have none.
    pub hypercall_page: Option<u64>,
    /// Virtual address of pseudo-physical page 0.
    pub virt_base: Option<u64>,
    /// What to take off physical addresses in the file. Its default differs between the two places: see
    /// [`XenNotes::paddr_offset_or_default`].
    pub paddr_offset: Option<u64>,
    /// The interface it is built for.
    pub xen_version: &'a str,
    /// The operating system.
    pub guest_os: &'a str,
    /// The loader it wants.
    pub loader: &'a str,
    /// Its page-table wishes (32-bit kernels only).
    pub pae_mode: &'a str,
    /// Features the kernel can do with, one bit each, from both notes that list them.
    pub features: u32,
    /// Whether it lists them in the note that only kernels have which also list what an initial domain needs.
    pub lists_all_features: bool,
    /// The first feature it cannot do without and that is not known here or cannot be had.
    pub missing_feature: Option<FeatureName>,
    /// Where the list of its machine frames shall be mapped, if not behind the kernel.
    pub init_p2m: Option<u64>,
    /// Whether the initrd is to be told by frame number and left unmapped.
    pub mod_start_pfn: bool,
    /// The lowest address the hypervisor may take for itself.
    pub hv_start_low: Option<u64>,
    /// Mask and value that tell a valid level-1 entry.
    pub l1_mfn_valid: Option<(u64, u64)>,
    /// Whether a suspend can be called off.
    pub suspend_cancel: bool,
    /// Entry point for the hardware-virtualised form.
    pub phys32_entry: Option<u64>,
    /// Whether all this was said in the older section instead.
    pub is_older_form: bool,
}

impl<'a> ElfKernel<'a> {
    /// Reads the notes, or what stands in their stead. Where one comes twice, the last holds.
    ///
    /// # Errors
    /// [`ImageError::NoXenNotes`], or [`ImageError::BadNote`] for one of impossible size or text.
    pub fn xen_notes(&self) -> Result<XenNotes<'a>, ImageError> {
        let mut notes = XenNotes::default();
        if notes.take_all(self.notes())? || notes.take_all(self.note_sections())? {
            return Ok(notes);
        }
        match self.section(b"__xen_guest") {
            Some(section) => XenNotes::from_section(section),
            None => Err(ImageError::NoXenNotes),
        }
    }
}

struct Note<'a> {
    owner: &'a [u8],
    number: u32,
    value: &'a [u8],
}

/// Takes the first note off a note segment: three words, then owner and value, each padded to four bytes. A note that
/// does not fit ends the segment.
fn split_note(segment: &[u8]) -> Option<(Note<'_>, &[u8])> {
    const HEADER: u64 = 12;
    let owner_len = u64::from(u32_at(segment, 0)?);
    let value_len = u64::from(u32_at(segment, 4)?);
    let number = u32_at(segment, 8)?;
    let owner = slice(segment, HEADER, owner_len)?;
    let value_at = HEADER + owner_len.next_multiple_of(4);
    let value = slice(segment, value_at, value_len)?;
    let after = usize::try_from(value_at + value_len.next_multiple_of(4)).ok()?;
    // The last note's padding may be missing.
    Some((
        Note {
            owner,
            number,
            value,
        },
        segment.get(after..).unwrap_or_default(),
    ))
}

impl<'a> XenNotes<'a> {
    /// Takes what is Xen's of these places; tells whether there was anything.
    fn take_all(&mut self, places: impl Iterator<Item = &'a [u8]>) -> Result<bool, ImageError> {
        let mut any = false;
        for place in places {
            let mut rest = place;
            while let Some((note, after)) = split_note(rest) {
                if note.owner == b"Xen\0" {
                    any = true;
                    self.take(note.number, note.value)?;
                }
                rest = after;
            }
        }
        Ok(any)
    }

    fn take(&mut self, number: u32, value: &'a [u8]) -> Result<(), ImageError> {
        match number {
            number::ENTRY => self.entry = Some(numeric("ENTRY", value)?),
            number::HYPERCALL_PAGE => self.hypercall_page = Some(numeric("HYPERCALL_PAGE", value)?),
            number::VIRT_BASE => self.virt_base = Some(numeric("VIRT_BASE", value)?),
            number::PADDR_OFFSET => self.paddr_offset = Some(numeric("PADDR_OFFSET", value)?),
            number::XEN_VERSION => self.xen_version = text("XEN_VERSION", value)?,
            number::GUEST_OS => self.guest_os = text("GUEST_OS", value)?,
            number::LOADER => self.loader = text("LOADER", value)?,
            number::PAE_MODE => self.pae_mode = text("PAE_MODE", value)?,
            number::FEATURES => self.take_features(text("FEATURES", value)?),
            number::SUPPORTED_FEATURES => {
                // Higher ones belong to submaps that do not exist.
                self.features |= numeric("SUPPORTED_FEATURES", value)? as u32;
                self.lists_all_features = true;
            }
            number::INIT_P2M => self.init_p2m = Some(numeric("INIT_P2M", value)?),
            number::MOD_START_PFN => self.mod_start_pfn = numeric("MOD_START_PFN", value)? != 0,
            number::HV_START_LOW => self.hv_start_low = Some(numeric("HV_START_LOW", value)?),
            number::L1_MFN_VALID => self.l1_mfn_valid = u64_at(value, 0).zip(u64_at(value, 8)),
            number::SUSPEND_CANCEL => self.suspend_cancel = numeric("SUSPEND_CANCEL", value)? != 0,
            number::PHYS32_ENTRY => self.phys32_entry = Some(numeric("PHYS32_ENTRY", value)?),
            _ => {}
        }
        Ok(())
    }

    /// Takes a list of features by name.
    pub(crate) fn take_features(&mut self, list: &str) {
        let (features, missing) = parse_features(list);
        self.features |= features;
        self.missing_feature = self.missing_feature.or(missing);
    }

    /// What to take off physical addresses in the file: unless it says, nothing; for a kernel with the older section
    /// its virtual base, because loaders of that time linked kernels so.
    pub fn paddr_offset_or_default(&self) -> u64 {
        let virt_base = self.virt_base.unwrap_or(0);
        let default = if self.is_older_form { virt_base } else { 0 };
        self.paddr_offset.unwrap_or(default)
    }

    /// Whether we can run this kernel at all.
    ///
    /// # Errors
    /// [`ImageError::OtherInterface`] if it wants another interface or loader, [`ImageError::MissingFeature`] if it
    /// cannot do without something we do not have.
    pub fn check_interface(&self) -> Result<(), ImageError> {
        let ours = self.xen_version.starts_with(INTERFACE);
        let is_for_us = self.loader.starts_with("generic") || self.guest_os.starts_with("linux");
        if !ours || !is_for_us {
            return Err(ImageError::OtherInterface);
        }
        match self.missing_feature {
            Some(feature) => Err(ImageError::MissingFeature { feature }),
            None => Ok(()),
        }
    }

    /// Whether this kernel can be the initial domain. One that says nothing about its features by number can; one that
    /// lists them must list this, by number or by name.
    ///
    /// # Errors
    /// [`ImageError::NotForInitialDomain`].
    pub fn check_initial_domain(&self) -> Result<(), ImageError> {
        if !self.lists_all_features || self.features & Feature::Dom0.mask() != 0 {
            Ok(())
        } else {
            Err(ImageError::NotForInitialDomain)
        }
    }
}

/// A number of a power of two of bytes. Kernels have four or eight.
fn numeric(note: &'static str, value: &[u8]) -> Result<u64, ImageError> {
    match value.len() {
        1 => value.first().map(|byte| u64::from(*byte)),
        2 => u16_at(value, 0).map(u64::from),
        4 => u32_at(value, 0).map(u64::from),
        8 => u64_at(value, 0),
        _ => None,
    }
    .ok_or(ImageError::BadNote { note })
}

/// Text up to its terminator, if it has one.
fn text<'a>(note: &'static str, value: &'a [u8]) -> Result<&'a str, ImageError> {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    value
        .get(..end)
        .and_then(|text| core::str::from_utf8(text).ok())
        .ok_or(ImageError::BadNote { note })
}
