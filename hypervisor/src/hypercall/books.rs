//! `xeno_op`: what became of the CPUs' time.

use crate::account::area::tsc_hz;
use crate::account::books::{self, Step, Undone, Walk};
use crate::account::report;
use crate::arch::smp;
use crate::domain::Guest;
use crate::hypercall::{Args, Outcome, Stop};
use ::sched::CpuBooks;
use guest_abi::usage::{BOOKS_OF_MACHINE, Books};
use guest_abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_abi::{Errno, Wire};

/// What a call goes on as: looking at domains before CPUs go over, and after.
pub const BEFORE: u32 = 1 << 31 | XenoCommand::Books as u32;
/// See [`BEFORE`].
pub const AFTER: u32 = 1 << 30 | XenoCommand::Books as u32;

/// Units of looking at a domain.
const LOOK: u64 = 1;

impl From<Undone> for Stop {
    fn from(undone: Undone) -> Stop {
        match undone {
            Undone::Overtaken => Errno::Again,
            // It is about to be told of by others.
            Undone::NoAnswer => Errno::Busy,
        }
        .into()
    }
}

/// `books`: what became of a CPU's time, or of that of all.
pub fn books(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: Books = g.memory().value(arg)?;
    if want.version != XENO_INTERFACE_VERSION {
        return Err(Errno::Inval.into());
    }
    g.memory().check_writable(arg, Books::SIZE)?;
    let cpus = smp::online();
    match want.cpu {
        BOOKS_OF_MACHINE => before(g, arg, Walk::begin(books::begin()?)),
        cpu if cpus.contains(cpu) => {
            let asked = smp::CpuSet::EMPTY.with(cpu);
            let shown = report::collect(asked).map_err(|_| Errno::Busy)?;
            let mut answer = Books { cpu, ..answer() };
            for books in shown {
                add(&mut answer, &books);
                (answer.first, answer.last) = (books.first, books.last);
            }
            g.memory().put(arg, &answer)?;
            Ok(0)
        }
        _ => Err(Errno::Inval.into()),
    }
}

/// Goes on with books of the machine. What the caller hands back it was told; anything else spoils its own answer.
pub fn go_on(g: &mut Guest<'_>, args: Args) -> Outcome {
    let [op, arg, ticket, place, sum] = args;
    let walk = Walk::resume(ticket, place, sum);
    match op as u32 {
        BEFORE => before(g, arg, walk),
        _ => after(g, arg, walk),
    }
}

fn answer() -> Books {
    Books {
        version: XENO_INTERFACE_VERSION,
        nr_cpus: smp::online().len(),
        tsc_hz: tsc_hz(),
        ..Books::ZERO
    }
}

fn add(answer: &mut Books, books: &CpuBooks) {
    let more = |to: &mut u64, cycles: u64| *to = to.wrapping_add(cycles);
    more(&mut answer.elapsed, books.last.wrapping_sub(books.first));
    more(&mut answer.idle, books.idle);
    more(&mut answer.machine, books.machine);
    more(&mut answer.sold, books.sold);
}

/// Looks at a part of the domains; the rest is for the call made again.
fn look(
    g: &mut Guest<'_>,
    op: u32,
    arg: u64,
    walk: Walk,
    each: impl Fn(&::sched::Sold) -> u64,
) -> Result<u64, Stop> {
    let has_room = || {
        g.charge(LOOK);
        g.spend()
    };
    match walk.go_on(has_room, each)? {
        Step::Done(sum) => Ok(sum),
        Step::More(left) => Err(Stop::Again([
            u64::from(op),
            arg,
            left.ticket,
            left.place(),
            left.sum,
        ])),
    }
}

fn before(g: &mut Guest<'_>, arg: u64, walk: Walk) -> Outcome {
    let ticket = walk.ticket;
    let coming = books::coming();
    look(g, BEFORE, arg, walk, |sold| {
        sold.note(coming);
        0
    })?;
    let (number, shown) = books::go_over(ticket)?;
    let mut answer = Books {
        cpu: BOOKS_OF_MACHINE,
        number,
        ..answer()
    };
    shown.for_each(|books| add(&mut answer, &books));
    g.memory().put(arg, &answer)?;
    after(g, arg, Walk::begin(ticket))
}

fn after(g: &mut Guest<'_>, arg: u64, walk: Walk) -> Outcome {
    let ticket = walk.ticket;
    let mut answer: Books = g.memory().value(arg)?;
    let number = books::number();
    let sum = look(g, AFTER, arg, walk, |sold| sold.at(number))?;
    // Whoever overtakes notes it anew.
    answer.departed = books::departed(number);
    books::made(ticket)?;
    answer.held = sum.wrapping_sub(answer.departed);
    g.memory().put(arg, &answer)?;
    Ok(0)
}
