//! The machine's devices from a guest's side: configuration space, registers, and the calls about them.

use core::arch::asm;

use guest_runtime::abi::event::BindPirq;
use guest_runtime::abi::physdev::{Eoi, MapPirq, PhysdevOp, SetIopl, UnmapPirq};
use guest_runtime::abi::{DOMID_SELF, evtchn, nr};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{events, hypercall};
use guests::accepted;

/// Type of a mapping: a line.
pub const LINE: i32 = 1;
/// A message, the segment above the bus.
pub const MESSAGE: i32 = 3;
/// Several messages in a row.
pub const MESSAGES: i32 = 4;

/// Where registers are mapped, a page for each slot.
const WINDOW: u64 = 0xffff_c900_0000_0000;

/// Lets port instructions through.
pub fn init() {
    accepted(
        "I/O privilege",
        physdev(PhysdevOp::SetIopl, &mut SetIopl { iopl: 1 }),
    );
}

/// Makes a call about devices.
pub fn physdev<T>(operation: PhysdevOp, argument: &mut T) -> i64 {
    hypercall::call(
        nr::PHYSDEV_OP,
        [
            u64::from(operation.number()),
            &raw mut *argument as u64,
            0,
            0,
            0,
        ],
    )
}

fn out_long(port: u16, value: u32) {
    // SAFETY: the hypervisor carries it out or refuses it; configuration space is no memory of Rust's.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) };
}

fn in_long(port: u16) -> u32 {
    let value;
    // SAFETY: reading changes nothing of Rust's.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)) };
    value
}

/// A function of bus 0.
#[derive(Clone, Copy)]
pub struct Function(pub u8);

impl Function {
    /// Function 0 of a slot.
    pub const fn slot(slot: u8) -> Self {
        Self(slot << 3)
    }

    /// Reads four bytes of configuration space.
    pub fn read(self, offset: u8) -> u32 {
        out_long(
            0xcf8,
            1 << 31 | u32::from(self.0) << 8 | u32::from(offset & 0xfc),
        );
        in_long(0xcfc)
    }

    /// Writes four bytes of configuration space.
    pub fn write(self, offset: u8, value: u32) {
        out_long(
            0xcf8,
            1 << 31 | u32::from(self.0) << 8 | u32::from(offset & 0xfc),
        );
        out_long(0xcfc, value);
    }

    /// Where a capability is.
    pub fn capability(self, id: u8) -> Option<u8> {
        let mut at = self.read(0x34) as u8;
        for _ in 0..48 {
            if at == 0 {
                return None;
            }
            let head = self.read(at);
            if head as u8 == id {
                return Some(at);
            }
            at = (head >> 8) as u8;
        }
        None
    }

    /// Lets it answer in memory and write there.
    pub fn enable(self) {
        self.write(4, self.read(4) & 0xffff | 0b110);
    }
}

/// A page of a device's registers.
#[derive(Clone, Copy)]
pub struct Registers {
    va: u64,
}

impl Registers {
    /// Maps the page at a physical address, asking to write it, in window slot `slot`.
    pub fn map(slot: u64, phys: u64) -> Self {
        let va = WINDOW + slot * 4096;
        let uncached = bits::PCD | bits::PWT;
        accepted(
            "a mapping of registers",
            page_table::map(
                va,
                phys & bits::ADDRESS | bits::KERNEL_RW | bits::NX | uncached,
            ),
        );
        Self { va }
    }

    /// Reads a register.
    pub fn read(self, offset: u64) -> u32 {
        // SAFETY: a register in the mapped page.
        unsafe { ((self.va + offset) as *const u32).read_volatile() }
    }

    /// Writes a register.
    pub fn write(self, offset: u64, value: u32) {
        // SAFETY: as `read`.
        unsafe { ((self.va + offset) as *mut u32).write_volatile(value) };
    }

    /// The address of a register.
    pub fn at(self, offset: u64) -> u64 {
        self.va + offset
    }

    /// Whether the page may be written.
    pub fn is_writable(self) -> bool {
        page_table::slot(self.va).is_some_and(|slot| slot.value() & bits::WRITE != 0)
    }
}

/// The emulator's teaching device: it interrupts when told, and stops when told.
#[derive(Clone, Copy)]
pub struct Teacher {
    pub function: Function,
    registers: Registers,
}

impl Teacher {
    pub fn new(slot: u8) -> Self {
        let function = Function::slot(slot);
        function.enable();
        let registers = Registers::map(u64::from(slot), u64::from(function.read(0x10)));
        Self {
            function,
            registers,
        }
    }

    /// Whether it is that device.
    pub fn is_there(self) -> bool {
        self.function.read(0) == 0x11e8_1234 && self.registers.read(0) == 0x0100_00ed
    }

    pub fn interrupt(self) {
        self.registers.write(0x60, 1);
    }

    pub fn acknowledge(self) {
        self.registers.write(0x64, u32::MAX);
    }
}

/// Maps an interrupt: its number.
pub fn map(request: MapPirq) -> Result<i32, i64> {
    let mut request = request;
    match physdev(PhysdevOp::MapPirq, &mut request) {
        0 => Ok(request.pirq),
        error => Err(error),
    }
}

/// A request for a function's message.
pub fn message(function: Function) -> MapPirq {
    MapPirq {
        domid: DOMID_SELF as u16,
        kind: MESSAGE,
        index: -1,
        pirq: -1,
        devfn: i32::from(function.0),
        ..Default::default()
    }
}

/// A request for a line.
pub fn line(gsi: i32) -> MapPirq {
    MapPirq {
        domid: DOMID_SELF as u16,
        kind: LINE,
        index: gsi,
        pirq: -1,
        ..Default::default()
    }
}

pub fn unmap(pirq: i32) -> i64 {
    let mut request = UnmapPirq {
        domid: DOMID_SELF as u16,
        pirq,
        ..Default::default()
    };
    physdev(PhysdevOp::UnmapPirq, &mut request)
}

pub fn end_of_interrupt(pirq: i32) -> i64 {
    physdev(PhysdevOp::Eoi, &mut Eoi { irq: pirq as u32 })
}

/// Binds a number: the port.
pub fn bind(pirq: i32) -> Result<u32, i64> {
    let mut bind = BindPirq {
        pirq: pirq as u32,
        ..Default::default()
    };
    match hypercall::event_channel(evtchn::BIND_PIRQ, &mut bind) {
        0 => Ok(bind.port),
        error => Err(error),
    }
}

/// Whether the port becomes pending, if it is waited for; the pending bit is taken.
pub fn arrives(port: u32) -> bool {
    for _ in 0..1000 {
        if events::clear_port(port) {
            return true;
        }
        hypercall::version();
    }
    false
}
