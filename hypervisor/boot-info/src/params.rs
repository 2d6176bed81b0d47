//! The hypervisor's own command line, in the words server admins know from Xen.
//!
//! Which words there are is here; what they can say is in `values`, how that is written in `read`.
//!
//! # Invariants
//! - P1: a word that is unknown or malformed costs exactly one warning, which names it; the rest is read and the
//!   word's default holds.
//! - P2: where a word comes twice, the last one that is well-formed holds.
//!
//! | word | values | default |
//! |---|---|---|
//! | `console=` | `com1`, `com2` or `none` (a list such as `com1,vga` is read up to what we have) | `com1` |
//! | `com1=`, `com2=` | baud`,`data bits parity stop bits`,`I/O port, as `115200,8n1,0x3f8`; later fields may be left out | `115200,8n1` at the PC's port |
//! | `dom0_mem=` | size, `min:`size, `max:`size, separated by commas; a bare number counts KiB | what the machine has |
//! | `dom0_max_vcpus=` | 1 to 64: the initial domain's vCPUs | 1 |
//! | `dom0_cpu=` | `none`, or slice`/`period, perhaps with `,extra`: CPU time of each of the initial domain's vCPUs, as `2ms/20ms,extra` | that, or less if there are many |
//! | `dom0_overhead=` | size, at least 4K: ring 0's memory that the initial domain may cause to be used | 1M |
//! | `noreboot` | (also `noreboot=yes`/`no`) after a crash, stay instead of rebooting | `no` |
//! | `dom0_crash=` | `restart`, `reboot`, `halt`: what a crash of the initial domain leads to | as `noreboot` says |
//! | `loglvl=` | `none`, `error`, `warning`, `info`, `debug`, `all` | `info` |
//! | `isolate=`, `smap=`, `pcid=` | `auto`, `yes`, `no` | `auto` |
//! | `exit_port=` | I/O port of QEMU's isa-debug-exit device | none |
//! | `irq_ratelimit=` | interrupts of one device in 10 ms before it is held back, at least 1 | 2000 |
//! | `tsc=` | `auto`, `stable`, `unstable` | `auto` |
//! | `maxcpus=` | how many CPUs run at most, from 1 | all |
//! | `cpus=` | `all`, `first`: which CPUs run domains | `all` |
//! | `quantum=` | a time to a second: a turn in time that nobody reserved, and the unit of reservations in quanta | `10ms` |
//! | `section=` | a time, `1us` to `200us`: the longest stretch of ring 0 that admission counts on | `20us` |
//! | `reserve=` | millionths of each CPU that nobody can reserve, at most 500000 | 20000 |
//! | `nosmp` | (also `nosmp=yes`/`no`) only the CPU that boots runs | `no` |
//! | `crash_test=` | `panic`, `fault`, `stack`, `nested`, `other`, `deaf`, `stuck`, `locks`, `wait`: for tests, ring 0 crashes just before the first guest runs (the last two are found out by a checked build); `early`: on the boot stack | none |
//! | `measure=` | `sections`: the longest stretches in which ring 0 lets nobody else in are logged when the machine ends | none |
//! | `smp_test=` | `flush`, `absent`, `storm`, `skew`: for tests, CPUs have one another flush; the last CPU is not started; it has the others flush all the time; all but the first say that their counters are behind | none |

mod read;
mod values;

pub use values::{
    Choice, Console, Cpus, CrashTest, Dom0Cpu, Dom0Memory, LogLevel, Measure, OnCrash, Parity,
    Serial, SmpTest, Tsc,
};

use crate::size::{parse_number, parse_size};
use core::fmt;
use read::{
    boolean, choice, count, cpus, crash_test, dom0_cpu, dom0_memory, io_port, level, on_crash,
    quantum, reserve, section, serial, smp_test, tsc, vcpus,
};

/// The hypervisor's parameters, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// Where messages go.
    pub console: Console,
    /// First serial port.
    pub com1: Serial,
    /// Second serial port.
    pub com2: Serial,
    /// The initial domain's memory.
    pub dom0_mem: Dom0Memory,
    /// vCPUs of the initial domain.
    pub dom0_max_vcpus: u32,
    /// Bytes of ring 0's own memory that the initial domain may cause to be used by what it asks for.
    pub dom0_overhead: u64,
    /// After a crash, stay instead of rebooting.
    pub noreboot: bool,
    /// What a crash of the initial domain leads to; where nothing is said, the same as other failures.
    pub dom0_crash: Option<OnCrash>,
    /// How much is logged.
    pub loglvl: LogLevel,
    /// Whether guests run without ring 0's secrets mapped.
    pub isolate: Choice,
    /// Whether supervisor-mode access prevention is turned on.
    pub smap: Choice,
    /// Whether ring 0's root gets a process-context identifier of its own.
    pub pcid: Choice,
    /// I/O port by which a halt may leave QEMU.
    pub exit_port: Option<u16>,
    /// Interrupts of one source in ten milliseconds before it is held back.
    pub irq_ratelimit: u32,
    /// Whether the time-stamp counter can be trusted.
    pub tsc: Tsc,
    /// How many CPUs run at most.
    pub max_cpus: Option<u32>,
    /// Which of them run domains.
    pub cpus: Cpus,
    /// CPU time of each of the initial domain's vCPUs.
    pub dom0_cpu: Dom0Cpu,
    /// The quantum, in nanoseconds.
    pub quantum_ns: u64,
    /// The longest section of ring 0 that admission counts on, in nanoseconds.
    pub section_ns: u64,
    /// What of each CPU nobody can reserve, in millionths.
    pub reserve_ppm: u32,
    /// Only the CPU that boots runs.
    pub nosmp: bool,
    /// Crash on purpose before the first guest runs.
    pub crash_test: Option<CrashTest>,
    /// Try something with several CPUs once they run.
    pub smp_test: Option<SmpTest>,
    /// What to measure.
    pub measure: Option<Measure>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            console: Console::Com1,
            com1: Serial::at(0x3f8),
            com2: Serial::at(0x2f8),
            dom0_mem: Dom0Memory::default(),
            dom0_max_vcpus: 1,
            dom0_overhead: 1 << 20,
            noreboot: false,
            dom0_crash: None,
            loglvl: LogLevel::Info,
            isolate: Choice::Auto,
            smap: Choice::Auto,
            pcid: Choice::Auto,
            exit_port: None,
            // 200,000 a second: several times what a fast disk or network card needs, a fraction of what a CPU can take.
            irq_ratelimit: 2000,
            tsc: Tsc::Auto,
            max_cpus: None,
            cpus: Cpus::All,
            dom0_cpu: Dom0Cpu::Usual,
            quantum_ns: 10_000_000,
            section_ns: 20_000,
            reserve_ppm: 20_000,
            nosmp: false,
            crash_test: None,
            smp_test: None,
            measure: None,
        }
    }
}

/// What is wrong with a word.
enum Wrong {
    /// There is no such word.
    Unknown,
    /// The word exists; this is how it is written.
    Malformed(&'static str),
    /// The word was taken, but part of it names something we do not have.
    InPart(&'static str),
}

impl Params {
    /// vCPUs a domain may have.
    pub const MAX_VCPUS: u32 = 64;

    /// Reads a command line. Each word that is not understood is told to `warn` once, in one sentence (P1).
    pub fn parse(line: &str, warn: &mut dyn FnMut(fmt::Arguments<'_>)) -> Self {
        let mut params = Params::default();
        for word in line.split_ascii_whitespace() {
            match params.take(word) {
                Ok(()) => {}
                Err(Wrong::Unknown) => {
                    warn(format_args!(
                        "command line: `{word}` is not a parameter of this hypervisor; ignored"
                    ));
                }
                Err(Wrong::Malformed(form)) => {
                    warn(format_args!(
                        "command line: `{word}` is malformed and ignored; write {form}"
                    ));
                }
                Err(Wrong::InPart(what)) => warn(format_args!("command line: in `{word}`, {what}")),
            }
        }
        if params.quantum_ns < params.section_ns {
            warn(format_args!(
                "command line: `quantum=` is shorter than `section=`; both are ignored"
            ));
            let usual = Params::default();
            (params.quantum_ns, params.section_ns) = (usual.quantum_ns, usual.section_ns);
        }
        params
    }

    /// Takes one word.
    fn take(&mut self, word: &str) -> Result<(), Wrong> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let text = value.unwrap_or("");
        match name {
            "console" => return self.take_console(text),
            "com1" => set(&mut self.com1, serial(text, Serial::at(0x3f8)), SERIAL_FORM)?,
            "com2" => set(&mut self.com2, serial(text, Serial::at(0x2f8)), SERIAL_FORM)?,
            "dom0_mem" => set(
                &mut self.dom0_mem,
                dom0_memory(text),
                "`dom0_mem=512M` or `dom0_mem=512M,max:1G`",
            )?,
            "dom0_max_vcpus" => set(
                &mut self.dom0_max_vcpus,
                vcpus(text),
                "`dom0_max_vcpus=1` to `dom0_max_vcpus=64`",
            )?,
            "dom0_overhead" => set(
                &mut self.dom0_overhead,
                parse_size(text).filter(|bytes| *bytes >= 4096),
                "`dom0_overhead=1M`, at least 4K",
            )?,
            "noreboot" => set(
                &mut self.noreboot,
                value.map_or(Some(true), boolean),
                "`noreboot`",
            )?,
            "dom0_crash" => set(
                &mut self.dom0_crash,
                on_crash(text).map(Some),
                "`dom0_crash=restart|reboot|halt`",
            )?,
            "loglvl" => set(
                &mut self.loglvl,
                level(text),
                "`loglvl=none|error|warning|info|debug|all`",
            )?,
            "isolate" => set(&mut self.isolate, choice(text), "`isolate=auto|yes|no`")?,
            "smap" => set(&mut self.smap, choice(text), "`smap=auto|yes|no`")?,
            "pcid" => set(&mut self.pcid, choice(text), "`pcid=auto|yes|no`")?,
            "exit_port" => set(
                &mut self.exit_port,
                io_port(text).map(Some),
                "`exit_port=0xf4`",
            )?,
            "irq_ratelimit" => set(
                &mut self.irq_ratelimit,
                parse_number(text)
                    .and_then(|n| u32::try_from(n).ok())
                    .filter(|n| *n != 0),
                "`irq_ratelimit=2000`, at least 1",
            )?,
            "tsc" => set(&mut self.tsc, tsc(text), "`tsc=auto|stable|unstable`")?,
            "crash_test" => set(
                &mut self.crash_test,
                crash_test(text).map(Some),
                "`crash_test=panic|fault|stack|nested|early|other|deaf|stuck|locks|wait`",
            )?,
            "maxcpus" => set(&mut self.max_cpus, count(text).map(Some), "`maxcpus=4`")?,
            "cpus" => set(&mut self.cpus, cpus(text), "`cpus=all|first`")?,
            "dom0_cpu" => set(
                &mut self.dom0_cpu,
                dom0_cpu(text),
                "`dom0_cpu=2ms/20ms`, `dom0_cpu=2ms/20ms,extra` or `dom0_cpu=none`",
            )?,
            "quantum" => set(
                &mut self.quantum_ns,
                quantum(text),
                "`quantum=10ms`, at most 1s",
            )?,
            "section" => set(
                &mut self.section_ns,
                section(text),
                "`section=20us`, 1us to 200us",
            )?,
            "reserve" => set(
                &mut self.reserve_ppm,
                reserve(text),
                "`reserve=20000`, in millionths, at most 500000",
            )?,
            "nosmp" => set(
                &mut self.nosmp,
                value.map_or(Some(true), boolean),
                "`nosmp`",
            )?,
            "smp_test" => set(
                &mut self.smp_test,
                smp_test(text).map(Some),
                "`smp_test=flush|absent|storm|skew`",
            )?,
            "measure" => {
                let sections = (text == "sections").then_some(Some(Measure::Sections));
                set(&mut self.measure, sections, "`measure=sections`")?;
            }
            _ => return Err(Wrong::Unknown),
        }
        Ok(())
    }

    /// The first console in the list that we have is used; Xen's others are named in a warning.
    fn take_console(&mut self, text: &str) -> Result<(), Wrong> {
        const FORM: &str = "`console=com1`, `console=com2` or `console=none`";
        let mut chosen = None;
        let mut others = false;
        for name in text.split(',') {
            match name {
                "com1" => chosen = chosen.or(Some(Console::Com1)),
                "com2" => chosen = chosen.or(Some(Console::Com2)),
                "none" => chosen = chosen.or(Some(Console::None)),
                _ => others = true,
            }
        }
        self.console = chosen.ok_or(Wrong::Malformed(FORM))?;
        if others {
            Err(Wrong::InPart(
                "only com1 and com2 can be consoles; the rest is ignored",
            ))
        } else {
            Ok(())
        }
    }
}

const SERIAL_FORM: &str = "`com1=115200,8n1` or `com1=115200,8n1,0x3f8`";

/// Stores a value that was understood; the old one holds otherwise.
fn set<T>(place: &mut T, value: Option<T>, form: &'static str) -> Result<(), Wrong> {
    *place = value.ok_or(Wrong::Malformed(form))?;
    Ok(())
}

#[cfg(test)]
mod tests;
