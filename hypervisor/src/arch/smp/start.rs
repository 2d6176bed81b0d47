//! Starting the other CPUs, one after the other, from their reset to their idle loop.
//!
//! ```text
//!  CPU 0                                             the other CPU
//!  area, block, Cpu structure mapped
//!  INIT to all; 10 ms; then to one at a time:
//!  wanted := 1, start-up interrupt ───────────────▶  trampoline.s: is it I? wanted := 0
//!     ... 1 s, or it is left out                     64-bit, own stack: on_other_cpu
//!                                                    descriptor tables, CR4, PAT, APIC, FPU, books   stage HERE
//!     ... 5 s for the rest                           lacks a feature of CPU 0's: stage UNFIT, halts
//!  asks for its time-stamp counter ◀──────────────▶  answers                                         stage READY
//!  takes it in: stage RUNS ───────────────────────▶  idle loop, interrupts open
//! ```
//! A CPU that is left out costs one sentence, and is reset once more, so that it does not come late.

use super::skew;
use super::trampoline::Trampoline;
use crate::account;
use crate::arch::{apic, cpu, exposed, features, fpu, percpu, smp};
use crate::boot::{self, memory};
use crate::debug::sections;
use crate::device::timer;
use crate::domain::{exposed_area, switch};
use crate::memory::alloc;
use crate::schedule;
use crate::sync::{Lock, rank};
use crate::{info, warn};
use ::clock::Offset;
use ::cpus::features::{Features, Lack};
use ::cpus::skew::Found;
use ::cpus::start::Plan;
use boot_info::params::SmpTest;
use core::sync::atomic::Ordering;
use firmware::Platform;
use spin::Once;

/// How far a CPU has come, in [`smp::Remote::stage`].
mod stage {
    pub const OFF: u32 = 0;
    pub const UNFIT: u32 = 1;
    pub const READY: u32 = 2;
    pub const RUNS: u32 = 3;
}

/// How long after its reset a CPU wants no start-up interrupt, and how long to wait between two of those: what the
/// manuals say, and more.
const RESET_MS: u64 = 10;
const AGAIN_MS: u64 = 1;
/// How long a CPU may take to show itself, and how long for the rest.
const FIRST_SIGN_MS: u64 = 1000;
const SET_UP_MS: u64 = 5000;
/// What CPU 0 can do, and how it has memory types set up.
struct Model {
    features: Features,
    pat: u64,
}
static MODEL: Once<Model> = Once::new();

/// What the CPU that is being started lacks.
static LACK: Lock<Option<Lack>, rank::Lacks> = Lock::new(None);

/// Why a CPU does not run.
enum Failed {
    NoMemory,
    Silent,
    Unfit(Option<Lack>),
    Stuck,
}

/// Starts the CPUs that firmware knows of and the command line allows. Whatever happens, the boot goes on.
pub fn all(platform: &Platform) {
    smp::init();
    let params = boot::params();
    let limit = if params.nosmp {
        1
    } else {
        params.max_cpus.map_or(usize::MAX, |n| n as usize)
    };
    let enabled = platform.cpus.iter().filter(|cpu| cpu.enabled);
    let ids = enabled.map(|cpu| cpu.apic_id);
    let plan = Plan::new(ids, apic::id(), limit, apic::is_x2apic());
    tell_plan(&plan, platform);
    if !plan.start.is_empty() {
        MODEL.call_once(|| Model {
            features: features::of_this_cpu(),
            pat: cpu::rdmsr(cpu::msr::PAT),
        });
        match Trampoline::new(on_other_cpu) {
            Some(trampoline) => start(&plan.start, &trampoline),
            None => warn!(
                "no page below 640 KiB is free for the first code of CPUs; {} CPUs are left out",
                plan.start.len()
            ),
        }
    }
    match smp::online().len() {
        1 => info!("1 CPU runs"),
        n => info!("{n} CPUs run"),
    }
    skew::tell();
    match params.smp_test {
        Some(SmpTest::Flush) => smp::test::flush(),
        Some(SmpTest::Storm) => smp::test::order_storm(),
        Some(SmpTest::Skew) => smp::test::skew(),
        _ => {}
    }
}

fn tell_plan(plan: &Plan, platform: &Platform) {
    if !plan.knows_boot_cpu && !platform.cpus.is_empty() {
        warn!(
            "ACPI does not name the CPU that runs (APIC id {}); it is CPU 0 all the same",
            apic::id()
        );
    }
    if plan.unreachable > 0 {
        warn!(
            "{} CPUs are left out: their APIC ids are reached by x2APIC only, which CPU 0 does not have",
            plan.unreachable
        );
    }
    if plan.too_many > 0 {
        info!(
            "{} CPUs are left out, as `maxcpus=` or `nosmp` says or because we can manage no more",
            plan.too_many
        );
    }
}

fn start(apic_ids: &[u32], trampoline: &Trampoline) {
    // All at once, so that the wait is one.
    apic_ids.iter().for_each(|&id| apic::send_init(id));
    timer::stall_ms(RESET_MS);
    let withheld = boot::params().smp_test == Some(SmpTest::Absent);
    let mut next = Slot::new(1);
    for &apic_id in apic_ids {
        let absent = withheld && apic_ids.last() == Some(&apic_id);
        let number = next.number;
        let why = match start_one(&mut next, apic_id, trampoline, absent) {
            Ok(found) => {
                tell_skew(number, apic_id, found);
                skew::judge(number, found);
                continue;
            }
            Err(why) => why,
        };
        // So that it does not come after all.
        apic::send_init(apic_id);
        match why {
            Failed::NoMemory => warn!(
                "no memory for the CPU with APIC id {apic_id}; it and all behind it are left out"
            ),
            Failed::Silent => {
                warn!("the CPU with APIC id {apic_id} does not answer; it is left out")
            }
            Failed::Unfit(Some(lack)) => warn!(
                "the CPU with APIC id {apic_id} lacks {lack}, which CPU 0 has; it is left out"
            ),
            Failed::Unfit(None) => {
                warn!("the CPU with APIC id {apic_id} has no 64-bit mode or no NX; it is left out")
            }
            Failed::Stuck => {
                warn!("the CPU with APIC id {apic_id} began to start and got stuck; it is left out")
            }
        }
        if matches!(why, Failed::NoMemory) {
            return;
        }
    }
}

fn tell_skew(number: u32, apic_id: u32, found: Found) {
    let (Found::Same(skew) | Found::Apart(skew)) = found else {
        let why = match found {
            Found::Adrift => "changes",
            _ => "could not be measured",
        };
        info!("CPU {number} (APIC id {apic_id}) runs; how far its time-stamp counter is off {why}");
        return;
    };
    info!(
        "CPU {number} (APIC id {apic_id}) runs; its time-stamp counter is {} ticks {} CPU 0's, give or take {}",
        skew.ticks.unsigned_abs(),
        if skew.ticks < 0 { "behind" } else { "ahead of" },
        skew.error
    );
}

/// A CPU's number, and whether its memory is there. A CPU that never came leaves it to the next.
struct Slot {
    number: u32,
    prepared: bool,
}

impl Slot {
    fn new(number: u32) -> Slot {
        Slot {
            number,
            prepared: false,
        }
    }

    /// Maps the area and block of the number, and puts the structure there, with what it names.
    fn prepare(&mut self) -> Option<()> {
        if !self.prepared {
            memory::map_cpu(self.number, &mut alloc::take_ring0).ok()?;
            let isolated_root = exposed_area::new_ring0_root().ok()?;
            let cpu = memory::place_cpu(self.number);
            cpu.isolated_root.set(isolated_root);
            schedule::cpu::prepare(self.number).then_some(())?;
            self.prepared = true;
        }
        Some(())
    }
}

fn start_one(
    slot: &mut Slot,
    apic_id: u32,
    trampoline: &Trampoline,
    absent: bool,
) -> Result<Found, Failed> {
    slot.prepare().ok_or(Failed::NoMemory)?;
    let number = slot.number;
    let remote = smp::remote(number);
    remote.apic_id.store(apic_id, Ordering::Relaxed);
    remote.stage.store(stage::OFF, Ordering::Release);
    trampoline.want(apic_id, percpu::area(number) + percpu::MAIN_TOP);
    if !absent {
        // The second is for CPUs that missed the first; one that runs ignores it.
        for _ in 0..2 {
            apic::send_startup(apic_id, trampoline.page);
            if timer::wait_ms(AGAIN_MS, || !trampoline.is_wanted()) {
                break;
            }
        }
    }
    timer::wait_ms(FIRST_SIGN_MS, || !trampoline.is_wanted());
    if trampoline.withdraw() {
        return Err(Failed::Silent);
    }
    timer::wait_ms(SET_UP_MS, || {
        remote.stage.load(Ordering::Acquire) != stage::OFF || trampoline.says_unfit()
    });
    match remote.stage.load(Ordering::Acquire) {
        stage::READY => {}
        stage::UNFIT => return Err(Failed::Unfit(LACK.lock().take())),
        _ if trampoline.says_unfit() => return Err(Failed::Unfit(None)),
        _ => {
            // It may still be on the slot's stack, whatever its reset does.
            *slot = Slot::new(number + 1);
            return Err(Failed::Stuck);
        }
    }
    let found = skew::measure();
    let offset = found.correction(skew::trust()) as u64;
    remote.tsc_offset.store(offset, Ordering::Relaxed);
    smp::ONLINE.insert(number);
    remote.stage.store(stage::RUNS, Ordering::Release);
    *slot = Slot::new(number + 1);
    Ok(found)
}

/// Where the trampoline leads: the new CPU's own stack, the trampoline's tables.
extern "C" fn on_other_cpu() -> ! {
    let this = percpu::current();
    // SAFETY: ring 0's root, which maps this CPU's area like all others'.
    unsafe { cpu::write_cr3(this.root.get()) };
    exposed::activate(this.id);
    let remote = smp::remote(this.id);
    let model = MODEL.get().expect("set before any CPU is started");
    if let Some(lack) = features::of_this_cpu().lacks_of(&model.features) {
        *LACK.lock() = Some(lack);
        remote.stage.store(stage::UNFIT, Ordering::Release);
        cpu::halt_for_ever();
    }
    features::turn_on();
    if cpu::rdmsr(cpu::msr::PAT) != model.pat {
        // SAFETY: CPU 0's memory types, with which the same tables work there; the caches and translations that could
        // disagree are emptied.
        unsafe {
            cpu::write_back_caches();
            cpu::wrmsr(cpu::msr::PAT, model.pat);
            cpu::write_cr3(this.root.get());
        }
    }
    if let Some(platform) = crate::device::acpi::platform() {
        apic::init_this_cpu(platform);
    }
    fpu::init_this_cpu();
    timer::begin_here(Offset::NONE);
    account::open();
    remote.stage.store(stage::READY, Ordering::Release);
    while remote.stage.load(Ordering::Acquire) != stage::RUNS {
        skew::answer();
        core::hint::spin_loop();
    }
    timer::begin_here(remote.tsc_offset());
    if schedule::runs_vcpus(this.id) {
        sections::start();
    }
    switch::on_fresh_stack(schedule::idle)
}
