//! Message-signalled interrupts on the real machine: the registers of the crate `interrupts`, told and masked.
//!
//! The control domain says which function's messages it wants and turns sending on; what is sent, and whether it is held
//! back, is written here alone. Tables in memory are therefore shown to it read-only from the moment it tells of the
//! function on (`mmu` asks [`is_table`]).
//!
//! Pages of registers are mapped before anything is locked ([`prepare`]): a message is told what to send, and masked,
//! with the lock of all numbers held, from interrupts too.

use crate::device::{Registers, facts, pci};
use crate::layout::PAGE;
use crate::memory::frame_table;
use crate::sync::{Lock, rank};
use crate::warn;
use arrayvec::ArrayVec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use frames::{Class, Mfn};
use interrupts::{Function, Message, Msi, Msix, NoMessages};

/// Pages of tables that ring 0 has mapped at most. A table mostly has one.
const MAX_PAGES: usize = 256;

/// One message of a function: where it is told what to send.
#[derive(Clone, Copy)]
pub enum Source {
    /// By registers in configuration space: its only message.
    Registers {
        /// The registers.
        msi: Msi,
        /// Where the message cannot be masked: sending was turned off to hold it back.
        turned_off: bool,
    },
    /// By an entry of a table.
    Entry {
        /// The table.
        msix: Msix,
        /// Which entry.
        index: u16,
    },
}

impl Source {
    /// The function that sends it.
    pub fn function(&self) -> Function {
        match self {
            Source::Registers { msi, .. } => msi.function(),
            Source::Entry { msix, .. } => msix.function(),
        }
    }

    /// Whether both are the same message of the same function.
    pub fn is(&self, other: &Source) -> bool {
        let index = |source: &Source| match source {
            Source::Registers { .. } => None,
            Source::Entry { index, .. } => Some(*index),
        };
        self.function() == other.function() && index(self) == index(other)
    }

    /// Tells the function what to send, held back. False if its table cannot be reached.
    pub fn program(&self, message: Message) -> bool {
        match self {
            Source::Registers { msi, .. } => {
                pci::with(|config| msi.program(config, message));
                true
            }
            Source::Entry { msix, index } => {
                self.mask_entry(true)
                    && write(msix, *index, Msix::ADDRESS, message.address as u32)
                    && write(
                        msix,
                        *index,
                        Msix::ADDRESS_HIGH,
                        (message.address >> 32) as u32,
                    )
                    && write(msix, *index, Msix::DATA, message.data)
            }
        }
    }

    fn mask_entry(&self, masked: bool) -> bool {
        match self {
            Source::Entry { msix, index } => write(msix, *index, Msix::CONTROL, u32::from(masked)),
            Source::Registers { .. } => false,
        }
    }

    /// Holds the message back, or lets it go.
    pub fn mask(&mut self, masked: bool) {
        match self {
            Source::Registers { msi, turned_off } if !msi.is_maskable() => {
                if masked {
                    *turned_off |= pci::with(|config| msi.enable(config, false));
                } else if core::mem::take(turned_off) {
                    pci::with(|config| msi.enable(config, true));
                }
            }
            Source::Registers { msi, .. } => pci::with(|config| msi.mask(config, masked)),
            Source::Entry { .. } => {
                self.mask_entry(masked);
            }
        }
    }

    /// The function's message is wanted no more.
    pub fn stop(&mut self) {
        match self {
            Source::Registers { msi, .. } => {
                pci::with(|config| {
                    msi.mask(config, true);
                    msi.enable(config, false);
                });
            }
            Source::Entry { .. } => self.mask(true),
        }
    }

    /// Whether a register in configuration space says what is sent.
    pub fn owns_register(&self, function: Function, offset: u8, bytes: u8) -> bool {
        match self {
            Source::Registers { msi, .. } => {
                msi.function() == function && msi.is_message_register(offset, bytes)
            }
            Source::Entry { .. } => false,
        }
    }
}

/// A function's only message.
pub fn registers(function: Function) -> Result<Source, NoMessages> {
    let msi = pci::with(|config| Msi::of(config, function))?;
    Ok(Source::Registers {
        msi,
        turned_off: false,
    })
}

/// An entry of a function's table, which is shown read-only from now on. `told` is used where the function's own
/// registers do not say where the table is.
pub fn entry(function: Function, index: u16, told: u64) -> Result<Source, NoMessages> {
    let (msix, reachable) = pci::with(|config| {
        let msix = Msix::of(config, function, told)?;
        Ok((msix, msix.is_reachable(config)))
    })?;
    msix.entry(index)?;
    if !reachable || !protect(&msix) || !prepare_entry(&msix, index) {
        return Err(NoMessages::NoTable);
    }
    Ok(Source::Entry { msix, index })
}

/// A function was told of: its table, if it has one that lies somewhere, is shown read-only.
pub fn function_added(function: Function) {
    if let Ok(msix) = pci::with(|config| Msix::of(config, function, 0)) {
        protect(&msix);
    }
}

/// The function is gone.
pub fn function_removed(function: Function) {
    let mut tables = TABLES.lock();
    tables.shown.retain(|table| table.function != function);
    refresh_bounds(&tables);
}

/// No function is anybody's any more.
pub fn forget_all() {
    let mut tables = TABLES.lock();
    tables.shown.clear();
    refresh_bounds(&tables);
}

/// A table that is shown read-only.
struct Table {
    function: Function,
    /// Its bytes' physical addresses.
    range: Range<u64>,
}

impl Table {
    fn first(&self) -> u64 {
        self.range.start / PAGE
    }

    fn last(&self) -> u64 {
        (self.range.end - 1) / PAGE
    }
}

struct Tables {
    /// Pages ring 0 has mapped: frame numbers, and where. Never unmapped.
    mapped: ArrayVec<(u64, Registers), MAX_PAGES>,
    shown: ArrayVec<Table, MAX_PAGES>,
}

static TABLES: Lock<Tables, rank::MsiTables> = Lock::new(Tables {
    mapped: ArrayVec::new_const(),
    shown: ArrayVec::new_const(),
});

/// The lowest and highest frame of any table, so that most questions need no lock.
static LOWEST: AtomicU64 = AtomicU64::new(u64::MAX);
static HIGHEST: AtomicU64 = AtomicU64::new(0);

fn refresh_bounds(tables: &Tables) {
    let lowest = tables.shown.iter().map(Table::first).min();
    let highest = tables.shown.iter().map(Table::last).max();
    LOWEST.store(lowest.unwrap_or(u64::MAX), Ordering::Release);
    HIGHEST.store(highest.unwrap_or(0), Ordering::Release);
}

/// Has a table shown read-only. False if it is no memory of a device's.
fn protect(msix: &Msix) -> bool {
    let table = Table {
        function: msix.function(),
        range: msix.table_range(),
    };
    let is_device =
        |mfn| matches!(frame_table::class(Mfn(mfn)), Class::Io) && !facts::is_ring0_only(Mfn(mfn));
    // A base address that was written to the first MiB is none: firmware's tables are there.
    if table.first() < 256 || !(table.first()..=table.last()).all(is_device) {
        return false;
    }
    let mut tables = TABLES.lock();
    let function = table.function;
    if let Some(known) = tables.shown.iter_mut().find(|t| t.function == function) {
        *known = table;
    } else if tables.shown.try_push(table).is_err() {
        warn!("PCI {function}: there is no room to protect its message table");
    }
    refresh_bounds(&tables);
    true
}

/// Whether a frame holds a function's message table, which no guest may write.
pub fn is_table(mfn: Mfn) -> bool {
    if mfn.0 < LOWEST.load(Ordering::Acquire) || mfn.0 > HIGHEST.load(Ordering::Acquire) {
        return false;
    }
    let tables = TABLES.lock();
    tables
        .shown
        .iter()
        .any(|t| (t.first()..=t.last()).contains(&mfn.0))
}

/// A guest's write to a page with a table in it: dropped where the table is, carried out elsewhere. `offset` is a
/// multiple of `bytes`, which is 1, 2, 4 or 8.
pub fn guest_write(mfn: Mfn, offset: u64, bytes: u8, value: u64) {
    let Some(page) = prepare(mfn.0) else {
        return;
    };
    let tables = TABLES.lock();
    let at = mfn.0 * PAGE + offset;
    let end = at + u64::from(bytes);
    let in_table = |t: &Table| t.range.start < end && at < t.range.end;
    if tables.shown.iter().any(in_table) {
        return;
    }
    match bytes {
        1 => page.write8(offset, value as u8),
        2 => page.write16(offset, value as u16),
        4 => page.write32(offset, value as u32),
        _ => page.write64(offset, value),
    }
}

impl Tables {
    /// The registers in a page that is mapped.
    fn page(&self, frame: u64) -> Option<Registers> {
        let known = self.mapped.iter().find(|m| m.0 == frame);
        known.map(|m| m.1)
    }
}

/// The registers in a page, mapped on first use. `None` if there is no room or no memory for that. With nothing locked.
fn prepare(frame: u64) -> Option<Registers> {
    let known = {
        let tables = TABLES.lock();
        let known = tables.page(frame);
        if known.is_none() && tables.mapped.is_full() {
            return None;
        }
        known
    };
    if known.is_some() {
        return known;
    }
    let page = Registers::map(frame * PAGE, PAGE)?;
    let mut tables = TABLES.lock();
    // Another may have been faster: either serves.
    if tables.page(frame).is_none() {
        tables.mapped.try_push((frame, page)).ok()?;
    }
    Some(page)
}

/// Maps the page that an entry lies in, or both. False if that is impossible.
fn prepare_entry(msix: &Msix, index: u16) -> bool {
    let Ok(entry) = msix.entry(index) else {
        return false;
    };
    let words = [Msix::ADDRESS, Msix::CONTROL];
    words
        .iter()
        .all(|word| prepare((entry + word) / PAGE).is_some())
}

/// Writes a word of an entry. False if its page is not mapped.
fn write(msix: &Msix, index: u16, word: u64, value: u32) -> bool {
    let Ok(entry) = msix.entry(index) else {
        return false;
    };
    let at = entry + word;
    match TABLES.lock().page(at / PAGE) {
        Some(page) => {
            page.write32(at % PAGE, value);
            true
        }
        None => false,
    }
}
