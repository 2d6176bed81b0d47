//! The machine around the CPU: what firmware tells of it, interrupt controllers, timers, clock, power.

pub mod acpi;
pub mod efi;
pub mod facts;
pub mod ioapic;
pub mod msi;
pub mod pci;
pub mod pic;
pub mod pirq;
pub mod power;
pub mod quiesce;
pub mod rtc;
pub mod timer;

pub use facts::*;

use crate::account::{self, Cause};
use crate::arch::{apic, trap};
use crate::debug::console;
use crate::domain::watchdog;
use crate::{boot, domain, event, schedule};
use crate::{info, warn};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use volatile::VolatilePtr;

/// Finds the machine's devices and brings them to a known, quiet state: every interrupt masked, the clock running.
/// Ends the boot where there is nothing to tell time by.
pub fn init() {
    let platform = acpi::init(&boot::boot_info().rsdp);
    efi::init();
    power::prepare(platform);
    pic::disable();
    apic::init_bsp(platform);
    ioapic::init(platform);
    pirq::init();
    if let Err(why) = timer::init(platform) {
        boot::give_up(format_args!("{why}"));
    }
    match rtc::read(platform.century) {
        Some(seconds) => {
            timer::set_wall_clock(seconds);
            if let Some(now) = clock::CivilTime::from_unix(seconds) {
                info!(
                    "wall clock: {}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
                    now.year, now.month, now.day, now.hour, now.minute, now.second
                );
            }
        }
        None => warn!(
            "the real-time clock shows no date; wall-clock time starts at 1970, set it from a domain"
        ),
    }
}

/// How often a console without an interrupt is looked at.
const CONSOLE_POLL_NS: u64 = 20_000_000;

/// Set when the console has no interrupt.
static CONSOLE_IS_POLLED: AtomicBool = AtomicBool::new(false);

/// What devices asked to be done at a later time ([`schedule::set_device_timer`]).
pub fn later() {
    pirq::release_held();
    watchdog::look();
    if CONSOLE_IS_POLLED.load(Ordering::Relaxed) {
        take_console_input();
        schedule::set_device_timer(timer::now_ns().saturating_add(CONSOLE_POLL_NS));
    }
}

/// Gets the console to interrupt when something is typed, or has it looked at now and then where it cannot.
pub fn listen_to_console() {
    let Some(irq) = console::irq() else { return };
    let (gsi, signal) = ioapic::isa_route(irq);
    if ioapic::route(
        gsi,
        trap::CONSOLE_VECTOR,
        signal.level,
        signal.low,
        apic::id(),
    ) {
        pirq::keep(gsi);
        ioapic::unmask(gsi);
        console::enable_receive_interrupt();
        info!("console input by interrupt {gsi}");
    } else {
        CONSOLE_IS_POLLED.store(true, Ordering::Relaxed);
        schedule::set_device_timer(CONSOLE_POLL_NS);
        warn!("the console has no interrupt; it is looked at 50 times a second");
    }
}

/// Something may have been typed: takes it, and tells the control domain.
pub fn take_console_input() {
    account::is_for_control(Cause::Device);
    if console::take_input()
        && let Some(control) = domain::control()
    {
        event::raise_virq(control, events::Virq::CONSOLE, 0);
    }
}

/// A device's memory-mapped registers.
#[derive(Clone, Copy)]
pub struct Registers {
    base: NonNull<u8>,
    bytes: u64,
}

// SAFETY: device registers are reached from any CPU alike; who may when is for the lock around the device to say.
unsafe impl Send for Registers {}
// SAFETY: as above; accesses are volatile and hand out no references.
unsafe impl Sync for Registers {}

impl Registers {
    /// Maps the registers at a physical address. `None` if that is impossible.
    pub fn map(phys: u64, bytes: u64) -> Option<Registers> {
        let va = boot::memory::map_device(phys, bytes)?;
        let base = NonNull::new(va as *mut u8)?;
        Some(Registers { base, bytes })
    }

    fn at<T>(&self, offset: u64) -> VolatilePtr<'_, T> {
        let inside = offset.is_multiple_of(size_of::<T>() as u64)
            && offset
                .checked_add(size_of::<T>() as u64)
                .is_some_and(|end| end <= self.bytes);
        assert!(inside, "register {offset:#x} is outside its device");
        // SAFETY: inside the mapping (above), which is never undone, and aligned: the base is as aligned as any
        // register of the devices in use, which `map`'s callers give by address.
        unsafe { VolatilePtr::new(self.base.byte_add(offset as usize).cast()) }
    }

    /// Reads a 32-bit register.
    #[inline]
    pub fn read32(&self, offset: u64) -> u32 {
        self.at(offset).read()
    }

    /// Writes a 32-bit register.
    #[inline]
    pub fn write32(&self, offset: u64, value: u32) {
        self.at(offset).write(value);
    }

    /// Reads a 64-bit register.
    pub fn read64(&self, offset: u64) -> u64 {
        self.at(offset).read()
    }

    /// Writes a 64-bit register.
    pub fn write64(&self, offset: u64, value: u64) {
        self.at(offset).write(value);
    }

    /// Writes a 16-bit register.
    pub fn write16(&self, offset: u64, value: u16) {
        self.at(offset).write(value);
    }

    /// Writes an 8-bit register.
    pub fn write8(&self, offset: u64, value: u8) {
        self.at(offset).write(value);
    }
}
