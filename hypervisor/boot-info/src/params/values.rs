//! What the words of the command line can say: a type for each kind of choice.

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// Nowhere but the log ring.
    None,
    /// First serial port.
    Com1,
    /// Second serial port.
    Com2,
}

/// A serial port's parity bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Odd.
    Odd,
    /// Even.
    Even,
    /// Always 1.
    Mark,
    /// Always 0.
    Space,
}

/// How a serial port is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// Bits a second; divides 115200.
    pub baud: u32,
    /// Data bits, 5 to 8.
    pub data_bits: u8,
    /// Parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// First of the port's eight I/O ports.
    pub port: u16,
}

impl Serial {
    /// The fastest rate of a PC's serial port; slower ones divide it.
    pub const BASE_BAUD: u32 = 115_200;

    /// 115200,8n1 at the given port.
    pub(super) const fn at(port: u16) -> Self {
        Serial {
            baud: Self::BASE_BAUD,
            data_bits: 8,
            parity: Parity::None,
            stop_bits: 1,
            port,
        }
    }

    /// What the 16550's divisor latch wants for this rate.
    pub fn divisor(&self) -> u16 {
        Self::BASE_BAUD
            .checked_div(self.baud)
            .and_then(|divisor| u16::try_from(divisor).ok())
            .unwrap_or(1)
    }
}

/// How much is logged. Ordered: a message is shown if its level is at most this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// What went wrong.
    Error,
    /// What looks wrong.
    Warning,
    /// What happens.
    Info,
    /// Everything (`debug` and `all`).
    Debug,
}

/// A choice that may be left to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Find out what is right.
    Auto,
    /// On.
    Yes,
    /// Off.
    No,
}

/// What follows when the initial domain crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrash {
    /// It is built anew from the boot modules.
    Restart,
    /// The machine restarts.
    Reboot,
    /// The machine stays halted.
    Halt,
}

/// Whether all CPUs' time-stamp counters run as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tsc {
    /// If CPUID says so, and they are found to be the same.
    Auto,
    /// They do, whatever is found; what speaks against it is told.
    Stable,
    /// They do not.
    Unstable,
}

/// Which CPUs run domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// The one that boots.
    First,
    /// Every one that runs.
    All,
}

/// A way for ring 0 to crash on purpose, so that a test can see it reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashTest {
    /// A panic.
    Panic,
    /// An access to an address where nothing is mapped.
    Fault,
    /// The stack runs into its guard page.
    Stack,
    /// A panic while a panic is reported.
    Nested,
    /// The boot stack runs into its guard page, before ring 0 has its own tables.
    Early,
    /// A panic on another CPU than the one that runs guests.
    Other,
    /// A panic while another CPU answers nobody.
    Deaf,
    /// Another CPU than the one that runs guests is stuck in ring 0.
    Stuck,
    /// Two locks are taken in the wrong order.
    Locks,
    /// Interrupts are waited for while a lock is held.
    Wait,
}

/// Something to try with several CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmpTest {
    /// All CPUs have one another flush, at the same time.
    Flush,
    /// The last CPU gets no start-up interrupt.
    Absent,
    /// The last CPU has the others flush without end, while guests run.
    Storm,
    /// All CPUs but the first say that their time-stamp counters are behind.
    Skew,
}

/// Something to measure while domains run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The longest stretches in which ring 0 lets nobody else in.
    Sections,
}

/// The initial domain's memory in bytes; what is not given is left to the builder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dom0Memory {
    /// What it starts with.
    pub size: Option<u64>,
    /// The least it may be given.
    pub min: Option<u64>,
    /// The most it may be given, now and later.
    pub max: Option<u64>,
}

/// CPU time that each of the initial domain's vCPUs is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dom0Cpu {
    /// A little, so that it is never starved.
    Usual,
    /// None but what nobody reserved.
    None,
    /// This much.
    Slice {
        /// CPU time in each period, in nanoseconds.
        slice_ns: u64,
        /// The period, in nanoseconds.
        period_ns: u64,
        /// Whether it takes part in time that nobody reserved.
        extra: bool,
    },
}
