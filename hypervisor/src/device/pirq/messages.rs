//! Numbers for messages: mapped, unmapped, told again; and which registers are ring 0's because of them.

use super::{ALL, LINES, MAX, Pirqs, Refused, State, TARGET, is_line};
use crate::device::msi::{self, Source};
use core::sync::atomic::Ordering;
use interrupts::{Function, Message, NoMessages};

/// A number for a message that is not mapped.
pub fn free_message() -> Option<u32> {
    let mut all = ALL.lock();
    (LINES..MAX).find(|&n| all.get(n).is_some_and(|p| p.source.is_none()))
}

/// A number above the old bus's for a line that nobody uses.
pub fn free_line() -> Option<u32> {
    let mut all = ALL.lock();
    (16..LINES).find(|&n| is_line(n) && all.get(n).is_some_and(|p| p.state.is_empty()))
}

/// Gives a function's message a number: `wanted`, or any. It stays held back until the number is bound.
pub fn map_message(source: Source, wanted: Option<u32>) -> Result<u32, Refused> {
    let mut all = ALL.lock();
    if all
        .list
        .iter()
        .flat_map(|p| &p.source)
        .any(|s| s.is(&source))
    {
        return Err(Refused::InUse);
    }
    let is_free = |all: &mut Pirqs, n: u32| all.get(n).is_some_and(|p| p.source.is_none());
    let pirq = match wanted {
        Some(n) if !(LINES..MAX).contains(&n) => return Err(Refused::NoSuch),
        Some(n) if !is_free(&mut all, n) => return Err(Refused::InUse),
        Some(n) => n,
        None => (LINES..MAX)
            .find(|&n| is_free(&mut all, n))
            .ok_or(Refused::Full)?,
    };
    let vector = all.vector_for(pirq).ok_or(Refused::Full)?;
    let message = Message::new(TARGET.load(Ordering::Relaxed), vector);
    if !message.is_some_and(|message| source.program(message)) {
        all.give_vector(pirq);
        return Err(Refused::Messages(NoMessages::NoTable));
    }
    if let Some(p) = all.get(pirq) {
        p.state = State::empty();
        p.source = Some(source);
    }
    Ok(pirq)
}

/// Takes a number from its message. Lines keep theirs.
pub fn unmap(pirq: u32) -> Result<(), Refused> {
    if is_line(pirq) {
        return Ok(());
    }
    let mut all = ALL.lock();
    let mut source = all
        .get(pirq)
        .and_then(|p| p.source.take())
        .ok_or(Refused::NoSuch)?;
    source.stop();
    if let Some(p) = all.get(pirq) {
        p.state = State::empty();
    }
    all.give_vector(pirq);
    Ok(())
}

/// A function is gone: so are its messages.
fn unmap_all(function: Function) {
    for pirq in LINES..MAX {
        let mut all = ALL.lock();
        let its = all
            .get(pirq)
            .and_then(|p| p.source.as_ref())
            .is_some_and(|s| s.function() == function);
        drop(all);
        if its {
            let _ = unmap(pirq);
        }
    }
}

/// Tells a function again what to send, after it lost power.
pub fn restore(function: Function) {
    let mut all = ALL.lock();
    let target = TARGET.load(Ordering::Relaxed);
    for p in &mut all.list[LINES as usize..] {
        let open = p.state.contains(State::BOUND) && !p.state.contains(State::HELD);
        if let Some(source) = &mut p.source
            && source.function() == function
            && let Some(message) = Message::new(target, p.vector)
        {
            source.program(message);
            source.mask(!open);
        }
    }
}

/// Whether a register in configuration space is ring 0's, because it says what a mapped message is.
pub fn owns_register(function: Function, offset: u8, bytes: u8) -> bool {
    let all = ALL.lock();
    all.list[LINES as usize..]
        .iter()
        .flat_map(|p| &p.source)
        .any(|source| source.owns_register(function, offset, bytes))
}

/// A function was told of, or is being prepared for others: its message table is kept from guests.
pub fn function_added(function: Function) {
    msi::function_added(function);
}

/// A function is gone.
pub fn function_removed(function: Function) {
    unmap_all(function);
    msi::function_removed(function);
}
