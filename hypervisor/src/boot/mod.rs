//! From the loader to a running machine.
//!
//! `entry.s` brings the CPU to 64-bit mode; [`start`] turns what the loader left into one hand-off value, builds
//! ring 0's own address space, moves onto CPU 0's private stack and goes on in [`on_cpu0`]. Nothing later knows
//! how we were loaded.

pub mod memory;
pub mod modules;

use crate::arch::regs::Regs;
use crate::arch::{cpu, exposed, features, fpu, leftovers, pcid, percpu, smap, smp, trap};
use crate::debug::{console, crash, crash_test, log, symbols};
use crate::device;
use crate::domain::{self, exposed_area};
use crate::memory::{frame_table, heap, phys};
use crate::{account, debug, error, info, warn};
use boot_info::params::{CrashTest, LogLevel};
use boot_info::{BootInfo, Params};
use core::arch::global_asm;
use spin::Once;

global_asm!(include_str!("entry.s"));

static INFO: Once<BootInfo> = Once::new();
static PARAMS: Once<Params> = Once::new();

/// How we were loaded and with what.
pub fn boot_info() -> &'static BootInfo {
    INFO.get().expect("set before anything else runs")
}

/// The hypervisor's command line.
pub fn params() -> &'static Params {
    PARAMS.get().expect("set before anything else runs")
}

/// Ends a boot that cannot go on: one sentence, then a halt with a failing exit code.
pub fn give_up(why: core::fmt::Arguments<'_>) -> ! {
    if params().loglvl >= LogLevel::Error {
        error!("{why}");
    } else {
        // Whatever the log level: a boot that fails says why.
        log::write_report(format_args!("(xeno) error: {why}\n"));
    }
    device::power::halt(true)
}

/// Entered from `entry.s` on the boot stack, with the boot tables in force.
#[unsafe(no_mangle)]
extern "C" fn start(magic: u32, info_phys: u32) -> ! {
    let reader = |phys: u64, buf: &mut [u8]| {
        let reachable = phys
            .checked_add(buf.len() as u64)
            .is_some_and(|end| end <= phys::limit());
        if reachable {
            phys::read(phys, buf);
        }
        reachable
    };
    let info = match boot_info::parse(magic, info_phys, &reader) {
        Ok(info) => INFO.call_once(|| info),
        Err(why) => {
            let params = PARAMS.call_once(Params::default);
            console::init(params);
            log::init(params);
            device::power::configure(params);
            give_up(format_args!("{why}"));
        }
    };
    let params = PARAMS.call_once(|| Params::parse(&info.command_line, &mut |_| {}));
    console::init(params);
    log::init(params);
    device::power::configure(params);
    info!("xenoserver hypervisor {}", env!("CARGO_PKG_VERSION"));
    let _ = Params::parse(&info.command_line, &mut |warning| warn!("{warning}"));
    info!(
        "loaded by {} ({:?}), command line: {}",
        info.loader_name, info.protocol, info.command_line
    );
    if !info.dropped.is_empty() {
        warn!(
            "not all the loader gave could be kept; left out: {}",
            info.dropped
        );
    }
    if params.crash_test == Some(CrashTest::Early) {
        crash_test::crash(CrashTest::Early);
    }
    check_cpu();
    // SAFETY: the boot tables are in force, nothing else has run.
    unsafe { smap::choose(params.smap) };
    match memory::build(info) {
        Ok(plan) => memory::enter(plan),
        Err(why) => give_up(format_args!("{why}")),
    }
}

/// Entered from `entry.s`, on a stack of its own, when an exception is taken before CPU 0's tables are in force.
#[unsafe(no_mangle)]
extern "C" fn boot_trap(regs: &Regs) -> ! {
    if PARAMS.get().is_none() {
        // Nothing chose a console yet; the first serial port is what everybody has.
        console::init(PARAMS.call_once(Params::default));
    }
    crash::fatal_exception(regs, cpu::read_cr2())
}

/// What we cannot do without is either checked in `entry.s` (64-bit mode, NX) or here.
fn check_cpu() {
    let leaf1 = cpu::cpuid(1, 0);
    let need = [
        (leaf1.edx >> 4 & 1, "time-stamp counter"),
        (leaf1.edx >> 9 & 1, "local APIC"),
        (leaf1.edx >> 24 & 1, "FXSAVE"),
        (cpu::cpuid(0x8000_0001, 0).edx >> 11 & 1, "SYSCALL"),
    ];
    for (have, what) in need {
        if have == 0 {
            give_up(format_args!(
                "this CPU has no {what}; use an x86-64 machine that has it"
            ));
        }
    }
    if cpu::cpuid(0x8000_0000, 0).eax >= 0x8000_0008 {
        frame_table::set_address_bits(cpu::cpuid(0x8000_0008, 0).eax as u8);
    } else {
        frame_table::set_address_bits(36);
    }
}

/// Goes on where [`start`] left, on CPU 0's private stack, with ring 0's own tables in force.
extern "C" fn on_cpu0() -> ! {
    exposed::activate(0);
    memory::finish();
    cpu_features();
    let info = boot_info();
    for module in &info.modules {
        if module.args.as_slice() == modules::SYMBOLS {
            // SAFETY: module memory was taken out of the usable map (`memory::build`) and is written by nobody.
            symbols::init(unsafe { phys::boot_slice(module.start, module.len) });
        }
    }
    device::init();
    trap::init();
    fpu::init();
    leftovers::init();
    match exposed_area::new_ring0_root() {
        Ok(root) => percpu::current().isolated_root.set(root),
        Err(_) => give_up(format_args!(
            "no memory is left for ring 0's own tables; give the machine more"
        )),
    }
    if let Some(platform) = device::acpi::platform() {
        smp::start::all(platform);
    }
    crate::schedule::placement::init();
    crate::control::restart::note_before();
    let vcpu = match domain::initial::build(info, params()) {
        Ok(vcpu) => vcpu,
        Err(why) => give_up(format_args!("{why}")),
    };
    modules::give_back(info, params());
    let (used, size) = heap::usage();
    debug!("heap: {} of {} KiB in use", used >> 10, size >> 10);
    account::report::guests_begin();
    domain::switch::begin(vcpu)
}

/// Turns on what this CPU has and ring 0 wants.
fn cpu_features() {
    use cpu::cr4;
    pcid::choose(params().pcid);
    let value = features::turn_on();
    let name = |bit: u64, name: &'static str| if value & bit != 0 { name } else { "" };
    info!(
        "CPU features: {}{}{}{}",
        name(cr4::SMEP, "SMEP "),
        name(cr4::SMAP, "SMAP "),
        name(cr4::PCIDE, "PCID "),
        name(cr4::OSXSAVE, "XSAVE"),
    );
}
