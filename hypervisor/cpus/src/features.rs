//! Whether a CPU can do all that the first one can: what guests were promised must hold wherever they run.

use core::fmt;

/// A register of CPUID's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}
use Register::{Eax, Ebx, Ecx, Edx};

/// A word of feature bits, and those bits of it that say nothing of what a CPU can do.
struct Word {
    leaf: u32,
    sub: u32,
    register: Register,
    ignored: u32,
}

const fn word(leaf: u32, register: Register, ignored: u32) -> Word {
    Word {
        leaf,
        sub: 0,
        register,
        ignored,
    }
}

const WORDS: [Word; 10] = [
    // MONITOR depends on a switch of the firmware's, OSXSAVE on CR4.
    word(1, Ecx, 1 << 3 | 1 << 27),
    // The local APIC's bit says whether it is on.
    word(1, Edx, 1 << 9),
    word(7, Ebx, 0),
    // OSPKE is CR4's.
    word(7, Ecx, 1 << 4),
    // "Some CPUs are of another kind" is not a feature.
    word(7, Edx, 1 << 15),
    word(0xd, Eax, 0),
    Word {
        sub: 1,
        ..word(0xd, Eax, 0)
    },
    word(0x8000_0001, Ecx, 0),
    word(0x8000_0001, Edx, 0),
    word(0x8000_0008, Ebx, 0),
];

/// Leaf and register of the number of physical address bits (its low byte).
const ADDRESS_BITS: u32 = 0x8000_0008;

/// Features we use ourselves, by name: leaf, register, bit.
const NAMES: [(u32, Register, u32, &str); 14] = [
    (1, Ecx, 17, "PCID"),
    (1, Ecx, 21, "x2APIC"),
    (1, Ecx, 24, "TSC-deadline timers"),
    (1, Ecx, 26, "XSAVE"),
    (1, Edx, 4, "a time-stamp counter"),
    (1, Edx, 16, "PAT"),
    (1, Edx, 24, "FXSAVE"),
    (7, Ebx, 0, "FSGSBASE"),
    (7, Ebx, 7, "SMEP"),
    (7, Ebx, 10, "INVPCID"),
    (7, Ebx, 20, "SMAP"),
    (0x8000_0001, Edx, 11, "SYSCALL"),
    (0x8000_0001, Edx, 20, "NX"),
    (0x8000_0001, Edx, 29, "64-bit mode"),
];

/// What a CPU can do, as CPUID tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    words: [u32; WORDS.len()],
    address_bits: u8,
}

impl Features {
    /// Asks a CPU. `cpuid` answers EAX, EBX, ECX, EDX for a leaf and a sub-leaf.
    pub fn read(cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Self {
        let highest = [0, 0x8000_0000].map(|first| cpuid(first, 0)[0]);
        let ask = |leaf: u32, sub| {
            // Beyond the last leaf, CPUs answer with something else.
            if highest[usize::from(leaf >= 0x8000_0000)] >= leaf {
                cpuid(leaf, sub)
            } else {
                [0; 4]
            }
        };
        let words = WORDS.map(|w| ask(w.leaf, w.sub)[w.register as usize] & !w.ignored);
        let address_bits = match ask(ADDRESS_BITS, 0)[0] as u8 {
            0 => 36,
            bits => bits,
        };
        Features {
            words,
            address_bits,
        }
    }

    /// Something that the `other` CPU can do and this one cannot.
    #[must_use]
    pub fn lacks_of(&self, other: &Features) -> Option<Lack> {
        if self.address_bits < other.address_bits {
            return Some(Lack::AddressBits(self.address_bits));
        }
        let words = self.words.iter().zip(&other.words).zip(&WORDS);
        words
            .map(|((mine, theirs), of)| (theirs & !mine, of))
            .find(|(missing, _)| *missing != 0)
            .map(|(missing, of)| Lack::Bit {
                leaf: of.leaf,
                sub: of.sub,
                register: of.register as u8,
                bit: missing.trailing_zeros(),
            })
    }
}

/// What a CPU lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It has only so many bits of physical addresses.
    AddressBits(u8),
    /// A feature bit of CPUID's.
    Bit {
        /// Leaf.
        leaf: u32,
        /// Sub-leaf.
        sub: u32,
        /// 0 to 3: EAX to EDX.
        register: u8,
        /// Bit.
        bit: u32,
    },
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Lack::AddressBits(bits) => write!(f, "physical addresses of more than {bits} bits"),
            Lack::Bit {
                leaf,
                sub,
                register,
                bit,
            } => {
                let known = NAMES
                    .iter()
                    .find(|(l, r, b, _)| (*l, *r as u8, *b) == (leaf, register, bit) && sub == 0);
                match known {
                    Some((.., name)) => f.write_str(name),
                    None => {
                        let register = ["EAX", "EBX", "ECX", "EDX"]
                            .get(usize::from(register))
                            .unwrap_or(&"EDX");
                        write!(f, "bit {bit} of {register} in CPUID leaf {leaf:#x}.{sub}")
                    }
                }
            }
        }
    }
}
