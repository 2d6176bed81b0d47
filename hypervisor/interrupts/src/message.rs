//! Message-signalled interrupts: what a function is told to write where, and the registers it is told through.

use crate::pci::{self, Config, Function, MSI_CAPABILITY, MSIX_CAPABILITY};

/// What a function writes to interrupt a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it writes: the local APICs' window, and which of them.
    pub address: u64,
    /// What it writes: the vector.
    pub data: u32,
}

impl Message {
    /// The message that raises `vector` on the CPU with this local APIC id: fixed delivery, by edge, to one CPU (N4).
    /// `None` for CPUs that no message reaches (ids from 255 up want interrupt remapping), and for vectors below 16.
    #[must_use]
    pub fn new(apic_id: u32, vector: u8) -> Option<Self> {
        const WINDOW: u64 = 0xfee0_0000;
        (apic_id < 0xff && vector >= 16).then(|| Self {
            address: WINDOW | u64::from(apic_id) << 12,
            data: u32::from(vector),
        })
    }
}

/// Why a function sends no messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMessages {
    /// No such function, or it has no such capability.
    NoDevice,
    /// The table has no such entry.
    NoEntry,
    /// The table lies nowhere, or the function does not answer there.
    NoTable,
}

/// A function's message registers in configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    function: Function,
    /// Where the capability begins.
    at: u8,
    wide: bool,
    maskable: bool,
}

/// Offsets in the capability, and bits of its control word.
mod msi {
    pub const CONTROL: u8 = 2;
    pub const ADDRESS: u8 = 4;
    pub const ADDRESS_HIGH: u8 = 8;
    pub const ENABLE: u16 = 1 << 0;
    /// Messages in use, as a power of two.
    pub const IN_USE: u16 = 7 << 4;
    pub const WIDE: u16 = 1 << 7;
    pub const MASKABLE: u16 = 1 << 8;
}

impl Msi {
    /// Looks at a function.
    ///
    /// # Errors
    /// [`NoMessages::NoDevice`].
    pub fn of(config: &mut dyn Config, function: Function) -> Result<Self, NoMessages> {
        if !pci::exists(config, function) {
            return Err(NoMessages::NoDevice);
        }
        let at = pci::capability(config, function, MSI_CAPABILITY).ok_or(NoMessages::NoDevice)?;
        let wide_or_not = Self {
            function,
            at,
            wide: false,
            maskable: false,
        };
        let control = config.read16(function, wide_or_not.offset(msi::CONTROL));
        Ok(Self {
            wide: control & msi::WIDE != 0,
            maskable: control & msi::MASKABLE != 0,
            ..wide_or_not
        })
    }

    /// Whose registers these are.
    #[must_use]
    pub fn function(&self) -> Function {
        self.function
    }

    /// A register's place. Capabilities that claim to lie at the end of the space wrap, and are nonsense anyway.
    fn offset(&self, register: u8) -> u8 {
        self.at.wrapping_add(register)
    }

    fn data_offset(&self) -> u8 {
        self.offset(if self.wide { 0xc } else { 8 })
    }

    fn mask_offset(&self) -> u8 {
        self.offset(if self.wide { 0x10 } else { 0xc })
    }

    /// Tells the function what to send: one message, masked where it can be, sending left as it was.
    pub fn program(&self, config: &mut dyn Config, message: Message) {
        self.mask(config, true);
        let control = config.read16(self.function, self.offset(msi::CONTROL));
        config.write16(
            self.function,
            self.offset(msi::CONTROL),
            control & !msi::IN_USE,
        );
        config.write32(
            self.function,
            self.offset(msi::ADDRESS),
            message.address as u32,
        );
        if self.wide {
            config.write32(
                self.function,
                self.offset(msi::ADDRESS_HIGH),
                (message.address >> 32) as u32,
            );
        }
        config.write16(self.function, self.data_offset(), message.data as u16);
    }

    /// Holds the function's message back, or lets it go. A function that cannot be masked stops sending altogether; it
    /// is told to send again by whoever lets it go.
    pub fn mask(&self, config: &mut dyn Config, masked: bool) {
        if self.maskable {
            let old = config.read32(self.function, self.mask_offset());
            let new = if masked { old | 1 } else { old & !1 };
            config.write32(self.function, self.mask_offset(), new);
        }
    }

    /// Whether [`Self::mask`] does anything.
    #[must_use]
    pub fn is_maskable(&self) -> bool {
        self.maskable
    }

    /// Lets the function send at all, or not. What it would have sent meanwhile is lost. Says whether it did before.
    pub fn enable(&self, config: &mut dyn Config, on: bool) -> bool {
        let control = config.read16(self.function, self.offset(msi::CONTROL));
        let new = if on {
            control | msi::ENABLE
        } else {
            control & !msi::ENABLE
        };
        if new != control {
            config.write16(self.function, self.offset(msi::CONTROL), new);
        }
        control & msi::ENABLE != 0
    }

    /// Whether a write of `bytes` bytes at `offset` would change what the function sends or whether it is held back:
    /// address, data and masks, not the control word.
    #[must_use]
    pub fn is_message_register(&self, offset: u8, bytes: u8) -> bool {
        let first = self.offset(msi::ADDRESS);
        // Data ends the short form; masks and pending bits follow where there are any.
        let end = self
            .data_offset()
            .saturating_add(if self.maskable { 0xc } else { 2 });
        offset < end && offset.saturating_add(bytes) > first
    }
}

/// A function's message table in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    function: Function,
    /// Entries of the table.
    pub entries: u16,
    /// Physical address of its first entry.
    pub table: u64,
    /// Physical address of the pending bits.
    pub pending: u64,
}

/// Offsets in the capability, and bits of its registers.
mod msix {
    pub const CONTROL: u8 = 2;
    pub const TABLE: u8 = 4;
    pub const PENDING: u8 = 8;
    pub const LAST_ENTRY: u16 = 0x7ff;
    pub const BAR: u32 = 7;
}

impl Msix {
    /// Bytes of an entry.
    pub const ENTRY: u64 = 16;
    /// Words of an entry.
    pub const ADDRESS: u64 = 0;
    /// The address' upper half.
    pub const ADDRESS_HIGH: u64 = 4;
    /// The data.
    pub const DATA: u64 = 8;
    /// Bit 0 masks the entry.
    pub const CONTROL: u64 = 12;

    /// Looks at a function. Where its base address reads as zero (virtual functions) `told` is its table's base address.
    ///
    /// # Errors
    /// [`NoMessages::NoDevice`], [`NoMessages::NoTable`].
    pub fn of(config: &mut dyn Config, function: Function, told: u64) -> Result<Self, NoMessages> {
        if !pci::exists(config, function) {
            return Err(NoMessages::NoDevice);
        }
        let at = pci::capability(config, function, MSIX_CAPABILITY).ok_or(NoMessages::NoDevice)?;
        let control = config.read16(function, at.wrapping_add(msix::CONTROL));
        let mut place = |register: u8, told: u64| {
            let word = config.read32(function, at.wrapping_add(register) & 0xfc);
            let base = pci::memory_bar(config, function, (word & msix::BAR) as u8)?;
            let base = if base == 0 { told } else { base };
            let address = base.checked_add(u64::from(word & !msix::BAR))?;
            (base != 0 && address < 1 << 52).then_some(address)
        };
        let table = place(msix::TABLE, told).ok_or(NoMessages::NoTable)?;
        let pending = place(msix::PENDING, told).ok_or(NoMessages::NoTable)?;
        Ok(Self {
            function,
            entries: (control & msix::LAST_ENTRY) + 1,
            table,
            pending,
        })
    }

    /// Whose table this is.
    #[must_use]
    pub fn function(&self) -> Function {
        self.function
    }

    /// Whether the function answers in memory, without which its table cannot be reached.
    pub fn is_reachable(&self, config: &mut dyn Config) -> bool {
        pci::decodes_memory(config, self.function)
    }

    /// Physical address of an entry. The table never crosses an entry's size: it is eight-byte aligned at least, and
    /// entries are told by their own address.
    ///
    /// # Errors
    /// [`NoMessages::NoEntry`].
    pub fn entry(&self, index: u16) -> Result<u64, NoMessages> {
        if index >= self.entries {
            return Err(NoMessages::NoEntry);
        }
        Ok(self.table + u64::from(index) * Self::ENTRY)
    }

    /// Physical addresses of the table's bytes.
    #[must_use]
    pub fn table_range(&self) -> core::ops::Range<u64> {
        self.table..self.table + u64::from(self.entries) * Self::ENTRY
    }
}
