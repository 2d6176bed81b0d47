//! PCI configuration space, as far as message-signalled interrupts need it.

/// Capability: messages by registers in configuration space.
pub const MSI_CAPABILITY: u8 = 0x05;
/// Capability: messages by a table in memory.
pub const MSIX_CAPABILITY: u8 = 0x11;

const VENDOR: u8 = 0x00;
const COMMAND: u8 = 0x04;
const STATUS: u8 = 0x06;
const HEADER_TYPE: u8 = 0x0e;
const CAPABILITIES: u8 = 0x34;
const COMMAND_MEMORY: u16 = 1 << 1;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// The last place of a header's base addresses: six in a device, two in a bridge.
const FIRST_BAR: u8 = 0x10;
/// Capabilities lie behind the header, at multiples of four: there is room for so many.
const MOST_CAPABILITIES: usize = (256 - 64) / 4;

/// A function of segment 0: bus, device and function in the bits the hardware has them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Function(pub u16);

impl Function {
    /// A function by its bus, and device and function together.
    #[must_use]
    pub const fn new(bus: u8, devfn: u8) -> Self {
        Self((bus as u16) << 8 | devfn as u16)
    }

    /// What the configuration address port wants for the four bytes that hold `offset`.
    #[must_use]
    pub const fn address(self, offset: u8) -> u32 {
        1 << 31 | (self.0 as u32) << 8 | (offset & 0xfc) as u32
    }

    /// The function and offset that a configuration address names, if it names any in the first 256 bytes.
    #[must_use]
    pub const fn of_address(address: u32) -> Option<(Self, u8)> {
        // Some CPUs take more offset bits in the seven below the enabling one.
        if address >> 24 != 0x80 {
            return None;
        }
        Some((Self((address >> 8) as u16), (address & 0xfc) as u8))
    }
}

impl core::fmt::Display for Function {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(n) = *self;
        write!(f, "{:02x}:{:02x}.{}", n >> 8, n >> 3 & 0x1f, n & 7)
    }
}

/// Configuration space. Where no function is, reads give ones.
pub trait Config {
    /// Reads four bytes at a multiple of four.
    fn read32(&mut self, function: Function, offset: u8) -> u32;
    /// Reads two bytes at a multiple of two.
    fn read16(&mut self, function: Function, offset: u8) -> u16;
    /// Writes four bytes at a multiple of four.
    fn write32(&mut self, function: Function, offset: u8, value: u32);
    /// Writes two bytes at a multiple of two.
    fn write16(&mut self, function: Function, offset: u8, value: u16);
}

/// Whether a function is there.
pub(crate) fn exists(config: &mut dyn Config, function: Function) -> bool {
    config.read16(function, VENDOR) != 0xffff
}

/// Whether the function answers in memory.
pub(crate) fn decodes_memory(config: &mut dyn Config, function: Function) -> bool {
    config.read16(function, COMMAND) & COMMAND_MEMORY != 0
}

/// Where a capability's registers are. Ends whatever the list says (N3).
pub(crate) fn capability(config: &mut dyn Config, function: Function, id: u8) -> Option<u8> {
    if config.read16(function, STATUS) & STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = config.read16(function, CAPABILITIES) as u8 & 0xfc;
    for _ in 0..MOST_CAPABILITIES {
        if at < 0x40 {
            return None;
        }
        let head = config.read16(function, at);
        if head as u8 == id {
            return Some(at);
        }
        at = (head >> 8) as u8 & 0xfc;
    }
    None
}

/// The address in a base address register for memory; `None` if it is for ports, or does not exist. 0 where nothing was
/// put in it, as in functions that are virtual.
pub(crate) fn memory_bar(config: &mut dyn Config, function: Function, index: u8) -> Option<u64> {
    const FOR_PORTS: u32 = 1;
    const WIDE: u32 = 2 << 1;
    let kind = config.read16(function, HEADER_TYPE) as u8 & 0x7f;
    let count = match kind {
        0 => 6,
        1 => 2,
        _ => 0,
    };
    if index >= count {
        return None;
    }
    let low = config.read32(function, FIRST_BAR + index * 4);
    if low & FOR_PORTS != 0 {
        return None;
    }
    let base = u64::from(low & !0xf);
    if low & 0b110 != WIDE {
        return Some(base);
    }
    if index + 1 >= count {
        return None;
    }
    let high = config.read32(function, FIRST_BAR + index * 4 + 4);
    Some(u64::from(high) << 32 | base)
}
