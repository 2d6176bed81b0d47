//! How long ring 0 lets nobody else in: the longest of its sections, by what they were for (`measure=sections`).
//!
//! A section begins when a guest comes in, or where interrupts were let in, and ends when a guest goes on, or where
//! interrupts are let in. Counted are ticks of the time-stamp counter, from the entry code's stamp to the exit code's.
//! An interrupt taken in between is a section of its own.
//!
//! Nothing of this costs anything while nothing is measured: what measures is what attends to unfinished work
//! (`domain::unfinished`), where every exit goes through then.
//!
//! # Invariants
//! - S1: the table is locked on CPUs with interrupts off, and never where an exception could come in between.

use crate::arch::regs::VEC_SYSCALL;
use crate::arch::{cpu, percpu};
use crate::domain::Guest;
use crate::sync::{Lock, rank};
use crate::{boot, info};
use arrayvec::ArrayVec;
use boot_info::params::Measure;
use core::fmt;
use guest_abi::Hypercall;

/// What a section was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A hypercall: its number, and its operation where the first argument is one.
    Call(u8, u8),
    /// An exception of a guest's.
    Exception(u8),
    /// An interrupt.
    Interrupt(u8),
    /// What follows when a CPU has waited.
    Waiting,
    /// Taking a crashed control domain apart, and all others.
    TakingApart,
}

impl Kind {
    /// What the guest in hand came in for.
    fn of(g: &Guest<'_>) -> Kind {
        match g.regs.vector {
            VEC_SYSCALL if percpu::current().call.get() <= 0xff => {
                let call = percpu::current().call.get();
                let op = if has_operations(call) {
                    g.regs.rdi & 0x3f
                } else if is_of_tools(call) {
                    let command = g.memory().value::<u32>(g.regs.rdi);
                    u64::from(command.unwrap_or(0))
                } else {
                    0
                };
                Kind::Call(call as u8, op as u8)
            }
            vector @ 0..32 => Kind::Exception(vector as u8),
            vector => Kind::Interrupt(vector as u8),
        }
    }
}

/// Whether a call's first argument is the number of an operation.
fn has_operations(call: u64) -> bool {
    use Hypercall::{
        ConsoleIo, EventChannelOp, GrantTableOp, MemoryOp, PhysdevOp, SchedOp, VcpuOp, XenoOp,
    };
    let calls = [
        ConsoleIo,
        EventChannelOp,
        GrantTableOp,
        MemoryOp,
        PhysdevOp,
        SchedOp,
        VcpuOp,
        XenoOp,
    ];
    calls.iter().any(|with| with.number() == call)
}

/// Whether the number of the operation is the first of a structure that the first argument names.
fn is_of_tools(call: u64) -> bool {
    [Hypercall::Domctl, Hypercall::Sysctl]
        .map(Hypercall::number)
        .contains(&call)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Call(number, op) => {
                let number = u64::from(number);
                match Hypercall::from_number(number) {
                    Some(call) => f.write_str(call.name())?,
                    None => write!(f, "hypercall {number}")?,
                }
                match has_operations(number) || is_of_tools(number) {
                    true => write!(f, " {op}"),
                    false => Ok(()),
                }
            }
            Kind::Exception(vector) => write!(f, "exception {vector}"),
            Kind::Interrupt(vector) => write!(f, "interrupt {vector:#x}"),
            Kind::Waiting => f.write_str("after waiting"),
            Kind::TakingApart => f.write_str("taking all apart"),
        }
    }
}

/// The sections of one kind.
#[derive(Clone, Copy)]
struct Seen {
    kind: Kind,
    longest: u64,
    times: u64,
}

/// Kinds that are told apart: more than a machine has in use. Those that find no room count as the last.
const KINDS: usize = 160;

static SEEN: Lock<ArrayVec<Seen, KINDS>, rank::Sections> = Lock::new(ArrayVec::new_const());

/// Begins to measure on this CPU, if that was asked for.
pub fn start() {
    if boot::params().measure == Some(Measure::Sections) {
        let this = percpu::current();
        this.measuring.set(true);
        begin();
    }
}

fn record(kind: Kind, ticks: u64) {
    let mut seen = SEEN.lock();
    if let Some(of_kind) = seen.iter_mut().find(|s| s.kind == kind) {
        of_kind.longest = of_kind.longest.max(ticks);
        of_kind.times += 1;
        return;
    }
    let new = Seen {
        kind,
        longest: ticks,
        times: 1,
    };
    if seen.try_push(new).is_err()
        && let Some(last) = seen.last_mut()
    {
        last.longest = last.longest.max(ticks);
        last.times += 1;
    }
}

/// A guest came in: the section before ended when it was let out, and one begins. May be called again before it goes on.
pub fn came_in(g: &Guest<'_>) {
    let this = percpu::current();
    let entry = g.regs.entry_tsc;
    let began = this.section_began.get();
    if entry <= began {
        return;
    }
    let left = g.vcpu.transit.left();
    if left > began {
        record(this.section_kind.get(), left - began);
    }
    this.section_began.set(entry);
    this.section_kind.set(Kind::of(g));
}

/// The section in hand ends: others are let in.
pub fn end() {
    let this = percpu::current();
    if this.measuring.get() {
        let now = cpu::rdtsc();
        record(
            this.section_kind.get(),
            now.wrapping_sub(this.section_began.get()),
        );
    }
}

/// Another begins. It is for what the last one was for, unless [`is_for`] says otherwise.
pub fn begin() {
    let this = percpu::current();
    if this.measuring.get() {
        this.section_began.set(cpu::rdtsc());
    }
}

/// Says what the section in hand is for.
pub fn is_for(kind: Kind) {
    percpu::current().section_kind.set(kind);
}

/// A section within the pause between two others. What is returned is for [`end_another`].
pub fn begin_another(kind: Kind) -> Kind {
    begin();
    percpu::current().section_kind.replace(kind)
}

/// Its end.
pub fn end_another(before: Kind) {
    end();
    is_for(before);
}

/// Logs what was measured, the longest first.
pub fn report() {
    if !percpu::current().measuring.get() {
        return;
    }
    let mut seen = SEEN.lock().clone();
    seen.sort_unstable_by_key(|s| core::cmp::Reverse(s.longest));
    for s in &seen {
        info!(
            "section for {}: {} ticks at most, {} times",
            s.kind, s.longest, s.times
        );
    }
}
