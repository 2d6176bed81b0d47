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

use crate::account;
use crate::arch::{apic, cpu, exposed, features, fpu, paging, percpu, smp, trap};
use crate::boot::{self, memory};
use crate::device::timer;
use crate::layout::{FIRST_SLOT, IMAGE, PAGE, PRIVATE_SLOTS};
use crate::memory::{alloc as frames_of, phys};
use crate::{info, warn};
use ::cpus::features::{Features, Lack};
use ::cpus::skew::{Exchange, Skew};
use ::cpus::start::Plan;
use arrayvec::ArrayVec;
use boot_info::params::SmpTest;
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use firmware::Platform;
use frames::{DomId, Mfn};
use spin::Once;
use spin::mutex::SpinMutex;

global_asm!(include_str!("trampoline.s"));

unsafe extern "C" {
    static trampoline_start: u8;
    static trampoline32: u8;
    static trampoline64: u8;
    static trampoline_end: u8;
}

/// Offsets in the trampoline's page, as `trampoline.s` has them.
mod at {
    pub const WANTED: u64 = 0xf00;
    pub const APIC_ID: u64 = 0xf04;
    pub const STATUS: u64 = 0xf08;
    pub const CR3: u64 = 0xf0c;
    pub const STACK: u64 = 0xf10;
    pub const ENTRY: u64 = 0xf18;
    pub const GDTR: u64 = 0xf20;
    pub const FAR32: u64 = 0xf28;
    pub const FAR64: u64 = 0xf30;
    pub const GDT: u64 = 0xf40;
}

/// Flat segments: 32-bit code, data, 64-bit code.
const GDT: [u64; 4] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00af_9b00_0000_ffff,
];
const CODE32: u64 = 0x08;
const CODE64: u64 = 0x18;

/// What the trampoline says of its CPU.
const UNFIT: u32 = 2;

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
/// Exchanges to compare time-stamp counters, and how long they may take.
const EXCHANGES: u64 = 32;
const EXCHANGES_MS: u64 = 50;

/// What CPU 0 can do, and how it has memory types set up.
struct Model {
    features: Features,
    pat: u64,
}
static MODEL: Once<Model> = Once::new();

/// What the CPU that is being started lacks.
static LACK: SpinMutex<Option<Lack>> = SpinMutex::new(None);

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
        match Trampoline::new() {
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
    match params.smp_test {
        Some(SmpTest::Flush) => smp::test::flush(),
        Some(SmpTest::Storm) => smp::test::order_storm(),
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
            Ok(skew) => {
                tell_skew(number, apic_id, skew);
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

fn tell_skew(number: u32, apic_id: u32, skew: Option<Skew>) {
    let Some(skew) = skew else {
        warn!(
            "CPU {number} (APIC id {apic_id}) runs; how far its time-stamp counter is off could not be measured"
        );
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

    /// Maps the area and block of the number, and puts the structure there.
    fn prepare(&mut self) -> Option<()> {
        if !self.prepared {
            memory::map_cpu(self.number, &mut frames_of::take_ring0).ok()?;
            let accounts = account::new_accounts()?;
            memory::place_cpu(self.number, Some(accounts));
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
) -> Result<Option<Skew>, Failed> {
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
        remote.stage.load(Ordering::Acquire) != stage::OFF || trampoline.status() == UNFIT
    });
    match remote.stage.load(Ordering::Acquire) {
        stage::READY => {}
        stage::UNFIT => return Err(Failed::Unfit(LACK.lock().take())),
        _ if trampoline.status() == UNFIT => return Err(Failed::Unfit(None)),
        _ => {
            // It may still be on the slot's stack, whatever its reset does.
            *slot = Slot::new(number + 1);
            return Err(Failed::Stuck);
        }
    }
    let skew = measure_skew();
    smp::ONLINE.insert(number);
    remote.stage.store(stage::RUNS, Ordering::Release);
    *slot = Slot::new(number + 1);
    Ok(skew)
}

/// The page below 1 MiB with the first code, and the tables it runs on.
struct Trampoline {
    page: u8,
    /// Root, and the three tables that map the page at its own address. Given back at the end.
    tables: ArrayVec<Mfn, 4>,
}

impl Trampoline {
    fn new() -> Option<Trampoline> {
        let page = memory::first_code_page()?;
        let base = u64::from(page) * PAGE;
        let mut tables = ArrayVec::new();
        for _ in 0..tables.capacity() {
            // Real mode loads 32 bits of CR3.
            tables.push(frames_of::take(DomId::RING0, 0, 32)?);
        }
        let [root, l3, l2, l1] = tables[..] else {
            return None;
        };
        let put = |table: Mfn, index: usize, entry: u64| {
            phys::word(table, index).store(entry, Ordering::Release);
        };
        for slot in FIRST_SLOT..PRIVATE_SLOTS.end {
            let entry = phys::word(paging::root(), slot).load(Ordering::Acquire);
            put(root, slot, entry);
        }
        put(root, 0, (l3.0 * PAGE) | paging::bits::TABLE);
        put(l3, 0, (l2.0 * PAGE) | paging::bits::TABLE);
        put(l2, 0, (l1.0 * PAGE) | paging::bits::TABLE);
        put(l1, usize::from(page), base | paging::bits::RX);
        let start = &raw const trampoline_start as u64;
        let offset = |symbol: *const u8| symbol as u64 - start;
        let len = offset(&raw const trampoline_end);
        assert!(len <= at::WANTED, "the trampoline runs into its own data");
        phys::copy_phys(base, start - IMAGE, len);
        for (i, descriptor) in GDT.iter().enumerate() {
            phys::write_u64(base + at::GDT + 8 * i as u64, *descriptor);
        }
        let limit = size_of_val(&GDT) as u64 - 1;
        phys::write_u64(base + at::GDTR, limit | (base + at::GDT) << 16);
        let far = |symbol, selector: u64| (base + offset(symbol)) | selector << 32;
        phys::write_u64(base + at::FAR32, far(&raw const trampoline32, CODE32));
        phys::write_u64(base + at::FAR64, far(&raw const trampoline64, CODE64));
        phys::write_u64(base + at::ENTRY, on_other_cpu as *const () as u64);
        let trampoline = Trampoline { page, tables };
        trampoline.word(at::WANTED).store(0, Ordering::Release);
        let cr3 = (root.0 * PAGE) as u32;
        trampoline.word(at::CR3).store(cr3, Ordering::Release);
        Some(trampoline)
    }

    /// A word of 32 bits in the page.
    fn word(&self, offset: u64) -> &AtomicU32 {
        phys::half(phys::page(Mfn(u64::from(self.page))), offset as usize / 4)
    }

    /// Says who is wanted, and which stack is his.
    fn want(&self, apic_id: u32, stack: u64) {
        self.word(at::APIC_ID).store(apic_id, Ordering::Relaxed);
        self.word(at::STATUS).store(0, Ordering::Relaxed);
        phys::write_u64(u64::from(self.page) * PAGE + at::STACK, stack);
        self.word(at::WANTED).store(1, Ordering::SeqCst);
    }

    fn is_wanted(&self) -> bool {
        self.word(at::WANTED).load(Ordering::Acquire) != 0
    }

    /// Wants nobody any more. True if nobody had come.
    fn withdraw(&self) -> bool {
        self.word(at::WANTED).swap(0, Ordering::AcqRel) != 0
    }

    fn status(&self) -> u32 {
        self.word(at::STATUS).load(Ordering::Acquire)
    }
}

impl Drop for Trampoline {
    fn drop(&mut self) {
        for &table in &self.tables {
            frames_of::give_ring0(table);
        }
    }
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
    account::open_with(this.accounts.take());
    remote.stage.store(stage::READY, Ordering::Release);
    while remote.stage.load(Ordering::Acquire) != stage::RUNS {
        answer_skew();
        core::hint::spin_loop();
    }
    idle()
}

/// Waits and answers, for ever.
fn idle() -> ! {
    loop {
        account::idles();
        cpu::wait_for_interrupt();
        account::works();
        trap::tell_nmis();
        smp::test::storm();
    }
}

/// Question (odd) and answer (even) numbers of [`measure_skew`].
static TURN: AtomicU64 = AtomicU64::new(0);
/// The other CPU's counter, before its turn is over.
static THEIRS: AtomicU64 = AtomicU64::new(0);

/// Compares this CPU's time-stamp counter with that of the CPU that is being started. `None` if that does not answer.
fn measure_skew() -> Option<Skew> {
    let mut best: Option<Skew> = None;
    let mut left = EXCHANGES;
    timer::wait_ms(EXCHANGES_MS, || {
        let question = TURN.load(Ordering::Relaxed) + 1;
        let before = cpu::rdtsc();
        TURN.store(question, Ordering::SeqCst);
        if !timer::wait_ms(EXCHANGES_MS, || TURN.load(Ordering::SeqCst) != question) {
            return true;
        }
        let exchange = Exchange {
            before,
            theirs: THEIRS.load(Ordering::Relaxed),
            after: cpu::rdtsc(),
        };
        best = Some(best.map_or(exchange.skew(), |b| b.better(exchange.skew())));
        left -= 1;
        left == 0
    });
    // The other CPU is not to answer a question that nobody asks any more.
    TURN.fetch_and(!1, Ordering::SeqCst);
    best
}

/// Answers one question, if there is one.
fn answer_skew() {
    let turn = TURN.load(Ordering::SeqCst);
    if turn % 2 == 1 {
        THEIRS.store(cpu::rdtsc(), Ordering::Relaxed);
        let _ = TURN.compare_exchange(turn, turn + 1, Ordering::SeqCst, Ordering::Relaxed);
    }
}
