//! The section `__xen_guest`: what kernels had before there were notes. One text, `NAME=VALUE` by commas.

use crate::ImageError;
use crate::notes::XenNotes;

const PAGE_BITS: u32 = 12;

impl<'a> XenNotes<'a> {
    /// Reads the section. Names that are not known are passed over; where one comes twice, the last holds.
    pub(crate) fn from_section(section: &'a [u8]) -> Result<Self, ImageError> {
        let end = section.iter().position(|byte| *byte == 0);
        let text = section
            .get(..end.unwrap_or(section.len()))
            .and_then(|text| core::str::from_utf8(text).ok())
            .ok_or(ImageError::BadNote {
                note: "__xen_guest",
            })?;
        let mut notes = XenNotes {
            is_older_form: true,
            ..XenNotes::default()
        };
        let mut hypercall_page = None;
        for word in text.split(',') {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name.trim_start() {
                "LOADER" => notes.loader = value,
                "GUEST_OS" => notes.guest_os = value,
                "XEN_VER" => notes.xen_version = value,
                "PAE" => notes.pae_mode = value,
                "VIRT_BASE" => notes.virt_base = Some(number("VIRT_BASE", value)?),
                "VIRT_ENTRY" => notes.entry = Some(number("VIRT_ENTRY", value)?),
                "ELF_PADDR_OFFSET" => {
                    notes.paddr_offset = Some(number("ELF_PADDR_OFFSET", value)?);
                }
                "HYPERCALL_PAGE" => hypercall_page = Some(number("HYPERCALL_PAGE", value)?),
                "FEATURES" => notes.take_features(value),
                _ => {}
            }
        }
        // Here it is the page's number, counted from the virtual base, which may come behind it.
        if let Some(page) = hypercall_page {
            let address = page
                .checked_shl(PAGE_BITS)
                .filter(|address| address >> PAGE_BITS == page)
                .and_then(|address| address.checked_add(notes.virt_base.unwrap_or(0)));
            notes.hypercall_page = Some(address.ok_or(ImageError::BadNote {
                note: "HYPERCALL_PAGE",
            })?);
        }
        Ok(notes)
    }
}

/// A number as C writes it: hexadecimal behind `0x`, octal behind `0`, else decimal.
fn number(note: &'static str, text: &str) -> Result<u64, ImageError> {
    let lower = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let parsed = match (lower, text.strip_prefix('0')) {
        (Some(digits), _) => u64::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => u64::from_str_radix(digits, 8),
        _ => text.parse(),
    };
    parsed
        .ok()
        .filter(|_| !text.contains('+'))
        .ok_or(ImageError::BadNote { note })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_writes_them() {
        for (text, value) in [
            ("0", 0),
            ("0x20", 32),
            ("0XfF", 255),
            ("017", 15),
            ("42", 42),
            ("0xffffffff80000000", 0xffff_ffff_8000_0000),
        ] {
            assert_eq!(number("N", text), Ok(value), "{text}");
        }
        for text in [
            "",
            "0x",
            "x",
            "1 ",
            "-1",
            "+1",
            "0x+1",
            "09",
            "0x10000000000000000",
        ] {
            assert!(number("N", text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_older_form_says_what_the_notes_say() {
        let text = b"GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,HYPERCALL_PAGE=0x102,VIRT_BASE=0x80000000,\
            VIRT_ENTRY=0x80100000,ELF_PADDR_OFFSET=0x0,FEATURES=!writable_page_tables|x,PAE=yes,LOADER=generic\0junk";
        let notes = XenNotes::from_section(text).unwrap();
        assert_eq!(notes.entry, Some(0x8010_0000));
        assert_eq!(notes.virt_base, Some(0x8000_0000));
        assert_eq!(notes.paddr_offset_or_default(), 0);
        assert_eq!(notes.hypercall_page, Some(0x8010_2000));
        assert_eq!((notes.features, notes.missing_feature), (1, None));
        assert_eq!((notes.loader, notes.guest_os), ("generic", "linux"));
        assert!(notes.check_interface().is_ok() && notes.check_initial_domain().is_ok());
    }

    #[test]
    fn the_default_offset_is_the_virtual_base() {
        let notes = XenNotes::from_section(b"VIRT_BASE=0xc0000000,XEN_VER=xen-3.0").unwrap();
        assert_eq!(notes.paddr_offset_or_default(), 0xc000_0000);
        let notes = XenNotes::from_section(b"XEN_VER=xen-3.0").unwrap();
        assert_eq!(notes.paddr_offset_or_default(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let bad = |text: &[u8], name| {
            assert_eq!(
                XenNotes::from_section(text),
                Err(ImageError::BadNote { note: name })
            );
        };
        bad(b"VIRT_BASE=", "VIRT_BASE");
        bad(b"VIRT_ENTRY=zero", "VIRT_ENTRY");
        bad(b"HYPERCALL_PAGE=0xffffffffffffffff", "HYPERCALL_PAGE");
        bad(
            b"VIRT_BASE=0xfffffffffffff000,HYPERCALL_PAGE=1",
            "HYPERCALL_PAGE",
        );
        bad(b"LOADER=\xff", "__xen_guest");
    }
}
