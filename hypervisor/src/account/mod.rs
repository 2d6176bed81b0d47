//! Who used the CPU: the readings of the time-stamp counter at every boundary, told to the ledger of the crate `sched`.
//!
//! The entry and exit stubs read it (`arch/entry.s`). The two transitions that do not come here change the guest's own
//! accounts, in its transit page, as the ledger would: a reading is added to the one and taken from the other. All else
//! is gathered in the CPU's ledger and entered in the accounts of vCPUs and domains when another vCPU comes, when the CPU
//! sleeps, and when somebody asks.
//!
//! # Who pays for work in ring 0
//! Whoever caused it. A call, a fault: the vCPU. An interrupt, from the guest's last instruction on: the domain of the
//! device, of the timer that is due; only what has no owner is the machine's. A switch, until the other's first
//! instruction or until the CPU sleeps: whoever caused the decision, by going to sleep, by its turn's end, by waking and
//! having another's turn cut short. From sleep: whoever's interrupt that was, or else who is chosen then. See `docs/accounting.md`.
//!
//! # Invariants
//! - A1: a vCPU's account is written by the CPU that has it in hand; [`Here::in_hand`] names it until its account is
//!   written and another, or nobody, is in hand.
//! - A2: what a domain's vCPU or a domain has used is never lost: with the vCPU's end it is the domain's, with the
//!   domain's end it is [`DEPARTED`]'s.
//! - A3: queues take off budgets what accounts have, to the rounding of cycles: who runs is charged the time from the reading at
//!   which it came in hand ([`works_for`]) to the next decision's, less what was not its ([`decides`]); all else that a vCPU or
//!   its domain has is owed to its queue by then (`Home::owe`).

pub mod anchors;
pub mod area;
pub mod books;
pub mod report;

use crate::arch::regs::VEC_SYSCALL;
use crate::arch::{cpu, percpu, smp};
use crate::device::timer;
use crate::domain::{self, Domain, Guest, Vcpu};
use ::sched::{CpuBooks, CpuLedger, Due, Payer, SharedAccount, State, Usage};
use core::cell::Cell;
use core::sync::atomic::Ordering;
use frames::DomId;

pub use ::sched::{Cause, Kind, Paying};

/// What domains used that are gone.
static DEPARTED: SharedAccount = SharedAccount::new();

/// One CPU's part.
pub struct Here {
    ledger: CpuLedger,
    /// Of the machine's books that this CPU is at.
    number: Cell<u64>,
    in_hand: Cell<Option<&'static Vcpu>>,
    /// In whose time the last decision lets somebody run.
    decided: Cell<Kind>,
    /// When the own time ends of the vCPU in hand without a decision ([`NEVER`]).
    own_ends_ns: Cell<u64>,
    /// The reading of the last decision, or of when the vCPU in hand began after it; and what was not of the vCPU in hand up to
    /// there.
    told: Cell<(u64, u64)>,
    /// The vCPU in hand begins anew even if it was in hand before: the decision was made in parts.
    in_parts: Cell<bool>,
}

/// No end of own time without a decision.
const NEVER: u64 = u64::MAX;

impl Here {
    /// Books that are not open.
    pub const fn new() -> Here {
        Here {
            ledger: CpuLedger::new(),
            number: Cell::new(0),
            in_hand: Cell::new(None),
            decided: Cell::new(Kind::Extra),
            own_ends_ns: Cell::new(NEVER),
            told: Cell::new((0, 0)),
            in_parts: Cell::new(false),
        }
    }
}

#[inline]
fn here() -> &'static Here {
    &percpu::current().books
}

/// Opens this CPU's books. What came before is nobody's.
pub fn open() {
    let cpu = percpu::current().id as u16;
    here().number.set(books::number());
    here().ledger.begin(cpu::rdtsc(), cpu);
}

/// An exit from a guest: its time since the last one ends here.
#[inline]
pub fn guest_left(g: &Guest<'_>) {
    let (ledger, transit) = (&here().ledger, g.vcpu.transit);
    let entered = g.regs.entry_tsc;
    transit.close(g.is_user(), entered);
    match g.regs.vector {
        // What the guest did itself: 0x80 has a gate that it may use.
        0..32 | 0x80 => ledger.came_back(transit.left(), entered, Cause::Fault),
        VEC_SYSCALL.. => ledger.came_back(transit.left(), entered, Cause::Call),
        _ => ledger.came_back_by_interrupt(transit.left(), entered),
    }
}

/// As [`guest_left`], of a hypercall of the guest's kernel.
#[inline]
pub fn kernel_called(g: &Guest<'_>) {
    let (ledger, transit) = (&here().ledger, g.vcpu.transit);
    let entered = g.regs.entry_tsc;
    transit.close(false, entered);
    ledger.came_back(transit.left(), entered, Cause::Call);
}

/// Cycles that a guest's own transitions gathered.
fn gathered(vcpu: Option<&Vcpu>) -> ::sched::Guest {
    vcpu.map_or(::sched::Guest::NONE, |vcpu| vcpu.transit.take_cycles())
}

/// In a payer: no vCPU in particular.
const ANY: u32 = 0xff;
/// The lowest bits of a payer are its domain's number, so many above it a vCPU's.
const NUMBER_BITS: u32 = 16;
const VCPU_BITS: u32 = 8;

/// A vCPU's domain as a payer: its number, and which of those that had it; and whose budget it is taken off.
fn payer(dom: &Domain, vcpu: u32) -> Payer {
    let which = dom.serial << VCPU_BITS | u64::from(vcpu);
    Payer(which << NUMBER_BITS | u64::from(dom.id.0))
}

fn payer_of(vcpu: &Vcpu) -> Payer {
    payer(vcpu.domain, vcpu.id)
}

/// Whether a payer is a domain.
fn is_of(payer: Payer, dom: &Domain) -> bool {
    let serial = payer.0 >> (NUMBER_BITS + VCPU_BITS);
    serial == dom.serial && payer.0 as u16 == dom.id.0
}

/// Whose budget of a domain's vCPUs it is taken off what was worked for it: the one for which it was, or else one that is at
/// home here.
fn owing(dom: &Domain, payer: Payer) -> Option<&'static Vcpu> {
    let id = (payer.0 >> NUMBER_BITS) as u32 & ANY;
    let here = percpu::current().id;
    let at_home = || dom.vcpus().find(|vcpu| vcpu.home.cpu() == here);
    dom.vcpu(id).or_else(at_home).or_else(|| dom.vcpus().next())
}

/// Puts what is due, if anything is, into its account.
#[inline]
fn pay(due: Option<Due>) {
    if let Some(due) = due {
        pay_due(due);
    }
}

fn pay_due(due: Due) {
    let Due {
        payer,
        cause,
        cycles,
    } = due;
    let dom = domain::get(DomId(payer.0 as u16)).filter(|dom| is_of(payer, dom));
    if let Some(vcpu) = dom.and_then(|dom| owing(dom, payer)) {
        vcpu.home.owe(cycles);
    }
    let (account, sold) = match dom {
        Some(dom) => (dom.account, &dom.sold),
        None => (&DEPARTED, &books::DEPARTED),
    };
    account.add_elsewhere(cause, cycles);
    sold.add(here().number.get(), cycles);
}

/// Enters what was gathered in the account of whoever was in hand, pays what is due, and notes what that was for the books.
/// `next` is who comes.
fn enters(
    before: Option<&Vcpu>,
    next: Option<&Vcpu>,
    enter: impl FnOnce(&CpuLedger) -> Option<Due>,
) {
    let Here { ledger, number, .. } = here();
    let sold = ledger.sold();
    let due = enter(ledger);
    let mut own = ledger.sold().wrapping_sub(sold);
    if let Some(due) = &due {
        own = own.wrapping_sub(due.cycles);
    }
    if let Some(next) = next {
        own = own.wrapping_sub(ledger.given());
        next.domain.sold.add(number.get(), ledger.given());
    }
    if let Some(before) = before {
        before.domain.sold.add(number.get(), own);
    }
    match (due, next) {
        // What woke the CPU was mostly for who comes.
        (Some(due), Some(next)) if due.payer == payer_of(next) => {
            next.home.owe(due.cycles);
            next.domain.account.add_elsewhere(due.cause, due.cycles);
            next.domain.sold.add(number.get(), due.cycles);
        }
        (due, _) => pay(due),
    }
}

/// This CPU decides anew, with this reading: what of the time since the last decision was not of the vCPU that ran.
pub fn decides(now: u64) -> u64 {
    let aside = here().ledger.aside(now);
    let (_, told) = here().told.replace((now, aside));
    aside.wrapping_sub(told)
}

/// The decision is to be gone on with: it is one, from its first part on.
pub fn decides_in_parts() {
    here().in_parts.set(true);
}

/// The vCPU in hand is so no more, or begins anew: what its account has since the decision is taken off its budget when it runs
/// again.
fn leaves(vcpu: &Vcpu, now: u64) {
    let (decided, told) = here().told.get();
    let aside = here().ledger.aside(now).wrapping_sub(told);
    let own = now.wrapping_sub(decided).wrapping_sub(aside);
    vcpu.home.owe(own);
}

/// In whose time the vCPU runs that was chosen for this CPU, from [`works_for`] on.
pub fn will_run_in(kind: Kind) {
    here().decided.set(kind);
}

/// When, on the clock, the own time of the vCPU in hand is over although it goes on because nobody else wants any. To be said
/// after [`works_for`].
pub fn own_time_ends(at_ns: Option<u64>) {
    here().own_ends_ns.set(at_ns.unwrap_or(NEVER));
}

/// Before the account of the vCPU in hand is written: cuts its own time where that has ended by then.
#[inline]
fn cut_own_time(now: u64) {
    let here = here();
    let ends_ns = here.own_ends_ns.get();
    if ends_ns != NEVER && timer::ns_at(now) > ends_ns {
        cut_at(ends_ns);
    }
}

#[cold]
fn cut_at(ends_ns: u64) {
    here().own_ends_ns.set(NEVER);
    here().ledger.own_time_ended(timer::counter_at(ends_ns));
}

/// This CPU works for a vCPU from now on. The one it worked for before must not run elsewhere until then: what is in its
/// transit page is entered here. Answers the reading, and whether it is another vCPU than was in hand.
pub fn works_for(vcpu: &'static Vcpu) -> (u64, bool) {
    let (ledger, in_hand) = (&here().ledger, &here().in_hand);
    let before = in_hand.replace(Some(vcpu));
    let guest = gathered(before);
    let caused_by = match before {
        Some(before) if ledger.is_switching() => Some((payer_of(before), Cause::Switch)),
        _ => ledger.payer(),
    };
    let kind = here().decided.get();
    let now = cpu::rdtsc();
    cut_own_time(now);
    here().own_ends_ns.set(NEVER);
    let stays = before.is_some_and(|before| core::ptr::eq(before, vcpu));
    let is_new = here().in_parts.take() || !stays;
    if is_new {
        if let Some(before) = before {
            leaves(before, now);
        }
        here().told.set((now, ledger.aside(now)));
    }
    enters(before, Some(vcpu), |ledger| {
        let account = before.map(|before| before.account);
        ledger.works_for(now, account, guest, vcpu.account, kind)
    });
    vcpu.home.owe(ledger.given());
    // Whoever caused it pays until the guest runs.
    if let Some((payer, cause)) = caused_by.filter(|(payer, _)| !is_of(*payer, vcpu.domain)) {
        pay(ledger.claim_elsewhere(payer, cause, || ledger.last()));
    }
    (now, is_new)
}

/// The vCPU in hand, which was let run, has more to do before it can: what follows is its own.
pub fn goes_on() {
    here().ledger.goes_on(cpu::rdtsc);
}

/// This CPU waits, with nobody in hand.
pub fn idles() {
    let before = here().in_hand.take();
    let guest = gathered(before);
    let now = cpu::rdtsc();
    cut_own_time(now);
    here().own_ends_ns.set(NEVER);
    if let Some(before) = before {
        leaves(before, now);
    }
    enters(before, None, |ledger| {
        ledger.sleeps(now, before.map(|before| before.account), guest)
    });
}

/// This CPU works for nobody in particular, having woken up; or it lets go of the vCPU in hand, whose domain pays for that.
pub fn works() {
    let (ledger, in_hand) = (&here().ledger, &here().in_hand);
    let Some(before) = in_hand.take() else {
        return ledger.woke(cpu::rdtsc);
    };
    let guest = gathered(Some(before));
    let caused_by = ledger.payer();
    let now = cpu::rdtsc();
    cut_own_time(now);
    here().own_ends_ns.set(NEVER);
    leaves(before, now);
    enters(Some(before), None, |ledger| {
        ledger.works(now, Some(before.account), guest)
    });
    let (payer, cause) = caused_by.unwrap_or((payer_of(before), Cause::Switch));
    pay(ledger.claim_elsewhere(payer, cause, || ledger.last()));
}

/// Another vCPU takes the place of the one in hand from here on, until [`works_for`].
pub fn switches() {
    here().ledger.switches(cpu::rdtsc());
}

/// Brings the accounts up to date, of this CPU and of the vCPU in hand.
pub fn settle() -> CpuBooks {
    let here = here();
    let in_hand = here.in_hand.get();
    let guest = gathered(in_hand);
    let now = cpu::rdtsc();
    cut_own_time(now);
    enters(in_hand, None, |ledger| {
        ledger.settle(now, in_hand.map(|vcpu| vcpu.account), guest)
    });
    here.ledger.books()
}

/// What goes on is for a domain: an interrupt that nobody has claimed from its beginning, anything else from now on.
pub fn is_for(dom: &Domain, cause: Cause) {
    claim(dom, ANY, cause);
}

/// As [`is_for`], for a vCPU.
pub fn is_for_vcpu(vcpu: &Vcpu, cause: Cause) {
    claim(vcpu.domain, vcpu.id, cause);
}

fn claim(dom: &Domain, vcpu: u32, cause: Cause) {
    let here = here();
    match here.in_hand.get() {
        Some(in_hand) if core::ptr::eq(in_hand.domain, dom) => here.ledger.claim(cause, cpu::rdtsc),
        _ => {
            let payer = payer(dom, vcpu);
            pay(here.ledger.claim_elsewhere(payer, cause, cpu::rdtsc));
        }
    }
}

/// As [`is_for`], for the control domain: its devices, the console.
pub fn is_for_control(cause: Cause) {
    if let Some(control) = domain::control() {
        is_for(control, cause);
    }
}

/// As [`is_for`], for the domain that has a number, if there still is one.
pub fn is_for_number(number: DomId, cause: Cause) {
    match domain::get(number) {
        Some(dom) => is_for(dom, cause),
        None => is_for_nobody(),
    }
}

/// As [`is_for`], for nobody.
pub fn is_for_nobody() {
    here().ledger.claim_machine(cpu::rdtsc);
}

/// As [`is_for`], for the vCPU in hand if there is one, unless somebody has claimed it: the end of its turn.
pub fn is_for_whom_it_interrupts(cause: Cause) {
    let here = here();
    if here.in_hand.get().is_some() {
        here.ledger.claim_fresh(cause);
    }
}

/// The domain that pays for what goes on; `None` for the machine.
pub fn who_pays() -> Option<DomId> {
    let here = here();
    match here.ledger.payer() {
        Some((payer, _)) => Some(DomId(payer.0 as u16)),
        None => here.in_hand.get().map(|vcpu| vcpu.domain.id),
    }
}

/// Who pays for what goes on.
pub fn paying() -> Paying {
    here().ledger.paying()
}

/// Who paid pays again, if another claimed what went on meanwhile.
pub fn pays_again(before: Paying) {
    pay(here().ledger.pays_again(before, cpu::rdtsc));
}

/// An interrupt that a guest was left for is dealt with.
pub fn handled() {
    here().ledger.handled();
}

/// An interrupt in ring 0 begins.
pub fn interrupted() -> Paying {
    here().ledger.interrupted(cpu::rdtsc())
}

/// It is over.
pub fn resumed(before: Paying) {
    pay(here().ledger.resumed(cpu::rdtsc(), before));
}

/// A vCPU's run state is this now. Under its queue's lock. It may wait on one CPU and run on another: by CPU 0's counter.
pub fn note_state(vcpu: &Vcpu, state: State) {
    vcpu.account.waits(state == State::Runnable, timer::counter);
}

/// A port that notifies a vCPU of the domain's became pending.
pub fn received(dom: &Domain, vcpu: u32) {
    match dom.vcpu(vcpu) {
        Some(vcpu) => vcpu.account.count_received(),
        None => dom.account.count_received(),
    }
}

/// All that a vCPU used until now, in cycles.
pub fn used(vcpu: &Vcpu) -> u64 {
    let now_on = |cpu: u16| {
        smp::remote(u32::from(cpu))
            .tsc_offset()
            .here(timer::counter())
    };
    vcpu.account.used_until(now_on)
}

/// All that a domain used until now, in cycles.
pub fn used_by(dom: &Domain) -> u64 {
    let own = dom.account.usage().used();
    dom.vcpus()
        .fold(own, |sum, vcpu| sum.wrapping_add(used(vcpu)))
}

/// What a domain used, up to the last boundary that each of its vCPUs' accounts was written at; the waiting that goes on
/// is counted until `now`, by CPU 0's counter.
pub fn usage_of(dom: &Domain, now: u64) -> Usage {
    let mut sum = dom.account.usage();
    for vcpu in dom.vcpus() {
        sum.add(&usage_of_vcpu(vcpu, now));
    }
    sum
}

/// As [`usage_of`], of a vCPU.
pub fn usage_of_vcpu(vcpu: &Vcpu, now: u64) -> Usage {
    vcpu.account.usage(now)
}

/// A vCPU that runs no more ends: what it used is its domain's (A2).
pub fn vcpu_ends(vcpu: &Vcpu) {
    vcpu.account.waits(false, timer::counter);
    vcpu.domain.account.add(&vcpu.account.close());
}

/// A domain's record ends (A2).
pub fn domain_ends(dom: &Domain) {
    DEPARTED.add(&dom.account.usage());
    anchors::remember(dom);
    books::domain_gone(&dom.sold);
}

/// What domains used that are gone.
pub fn departed() -> Usage {
    DEPARTED.usage()
}

/// Cycles in which a CPU had nothing to do: of this one now, of another when it last showed its books.
pub fn idle_cycles(cpu: u32) -> u64 {
    if cpu == percpu::current().id {
        return here().ledger.books().idle;
    }
    smp::remote(cpu).books.idle.load(Ordering::Relaxed)
}

/// Brings this CPU's books up to date and shows them to the others ([`smp::Remote::books`]). What comes is in the next ones,
/// if there are any.
pub fn show_books() {
    let books = settle();
    here().number.set(books::number());
    smp::remote(percpu::current().id)
        .books
        .show(&books, here().ledger.backwards() == 0);
}
