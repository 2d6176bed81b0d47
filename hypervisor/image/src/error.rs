//! What is wrong with a kernel image, each in one sentence for the person who chose it. Whoever tells it puts the
//! kernel's name before it: "module 1 (the kernel)", "the kernel /boot/vmlinuz".

use crate::features::FeatureName;
use core::fmt;

/// Why a file cannot be a guest's kernel. `Display` says what is wrong with it, and the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Neither a bzImage nor an ELF file.
    NotAKernel,
    /// The file ends before something its headers promise.
    Truncated {
        /// What is missing.
        what: &'static str,
    },
    /// A kernel for other processors.
    OtherArchitecture {
        /// Which.
        architecture: &'static str,
    },
    /// A bzImage older than the boot protocol that tells where the payload is (2.08, Linux 2.6.26).
    OldProtocol {
        /// The version it has, as `0x0207`.
        version: u16,
    },
    /// The payload is packed in a way we do not unpack.
    UnsupportedCompression(&'static str),
    /// The payload does not unpack, or its check sum disagrees.
    CorruptPayload {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The unpacked kernel would be impossibly large, or larger than the room given for it.
    TooLarge {
        /// Bytes it would need.
        len: u64,
    },
    /// The ELF file is not a fixed-address executable.
    NotExecutable,
    /// The ELF file contradicts itself.
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The ELF file has no Xen notes.
    NoXenNotes,
    /// A note that is needed is not there.
    MissingNote {
        /// Its name.
        note: &'static str,
    },
    /// A note has a value that makes no sense.
    BadNote {
        /// Its name.
        note: &'static str,
    },
    /// The notes are for some other hypervisor interface.
    OtherInterface,
    /// The kernel cannot do without something that is not offered.
    MissingFeature {
        /// Its name, as the kernel has it.
        feature: FeatureName,
    },
    /// The kernel says it cannot be the initial domain.
    NotForInitialDomain,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NotAKernel => f.write_str(
                "is not a Linux bzImage or ELF kernel: give a distribution's /boot/vmlinuz",
            ),
            ImageError::Truncated { what } => {
                write!(f, "is truncated ({what} lies beyond its end): copy the file again")
            }
            ImageError::OtherArchitecture { architecture } => {
                write!(f, "is for another architecture ({architecture}): give an x86-64 kernel")
            }
            ImageError::OldProtocol { version } => write!(
                f,
                "speaks boot protocol {}.{:02}, which is too old: give a kernel with 2.08 or newer (Linux 2.6.26)",
                version >> 8,
                version & 0xff
            ),
            ImageError::UnsupportedCompression(name) => write!(
                f,
                "is compressed with {name}, which is not supported: use a kernel compressed with xz, gzip, zstd or lz4, \
                 or an uncompressed vmlinux"
            ),
            ImageError::CorruptPayload { what } => {
                write!(f, "has a corrupt payload ({what}): copy or install the file again")
            }
            ImageError::TooLarge { len } => write!(
                f,
                "needs {len} bytes unpacked, more than there is room for: give a smaller kernel or the machine more \
                 memory"
            ),
            ImageError::NotExecutable => {
                f.write_str("is an ELF file but not a fixed-address executable: give a linked kernel (ELF type EXEC)")
            }
            ImageError::Malformed { what } => {
                write!(f, "is a malformed ELF file ({what}): copy or build the file again")
            }
            ImageError::NoXenNotes => {
                f.write_str("has no Xen notes (built without CONFIG_XEN_PV): use a distribution kernel")
            }
            ImageError::MissingNote { note } => write!(
                f,
                "lacks the Xen note {note} (built without CONFIG_XEN_PV): use a distribution kernel"
            ),
            ImageError::BadNote { note } => {
                write!(f, "has a Xen note {note} that makes no sense: use a distribution kernel")
            }
            ImageError::OtherInterface => f.write_str(
                "is not built for the Xen 3.0 interface or asks for a loader we are not: use a distribution's Linux \
                 kernel",
            ),
            ImageError::MissingFeature { feature } => write!(
                f,
                "needs the Xen feature `{feature}`, which is not offered: use a distribution kernel"
            ),
            ImageError::NotForInitialDomain => f.write_str(
                "cannot be the initial domain (built without CONFIG_XEN_DOM0): use a distribution kernel",
            ),
        }
    }
}

impl core::error::Error for ImageError {}
