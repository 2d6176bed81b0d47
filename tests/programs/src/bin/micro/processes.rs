//! Processes: making and ending them, and switching between them.

use crate::measure::{FEW, least};
use crate::pages;
use programs::calls::{self, Access, PAGE, Pair, Sharing, nr};
use programs::sys::{self, Errno};

/// Round trips that are measured together.
const TRIPS: u64 = 20;

/// Measures them.
pub fn all() -> Result<(), Errno> {
    least("fork-exit-wait", FEW, 1, fork_exit)?;
    const TOUCHED: usize = 16 << 20;
    let place = calls::map(TOUCHED, Access::Write, Sharing::Private, None)?;
    pages::touch(place, TOUCHED, PAGE);
    least("fork-exit-wait-16-MiB", 3, 1, fork_exit)?;
    calls::unmap(place, TOUCHED)?;
    least("fork-exec-wait", FEW, 1, fork_exec)?;
    ping_pong("pipe-ping-pong", Pair::Pipe)?;
    ping_pong("unix-socket-ping-pong", Pair::Socket)?;
    futex()?;
    ring()?;
    bandwidth()
}

fn fork_exit() -> Result<(), Errno> {
    let child = calls::fork()?;
    if child == 0 {
        sys::exit(0);
    }
    calls::wait(child)
}

fn fork_exec() -> Result<(), Errno> {
    let child = calls::fork()?;
    if child == 0 {
        let name = c"/bin/micro";
        let words = [
            name.as_ptr().cast(),
            c"nothing".as_ptr().cast(),
            core::ptr::null(),
        ];
        let _ = calls::exec(name, &words);
        sys::exit(1);
    }
    calls::wait(child)
}

/// A child that sends back each byte.
fn ping_pong(name: &str, kind: Pair) -> Result<(), Errno> {
    let (there, back) = (calls::pair(kind)?, calls::pair(kind)?);
    let mut byte = [0];
    let child = calls::fork()?;
    if child == 0 {
        calls::close(there[1])?;
        while calls::read(there[0], &mut byte).is_ok() {
            sys::write(back[1], &byte)?;
        }
        sys::exit(0);
    }
    least(name, FEW, TRIPS, || {
        for _ in 0..TRIPS {
            sys::write(there[1], &byte)?;
            calls::read(back[0], &mut byte)?;
        }
        Ok(())
    })?;
    for file in [there, back].concat_files() {
        calls::close(file)?;
    }
    calls::wait(child)
}

/// All files of two pairs.
trait ConcatFiles {
    fn concat_files(self) -> [i32; 4];
}

impl ConcatFiles for [[i32; 2]; 2] {
    fn concat_files(self) -> [i32; 4] {
        let [[a, b], [c, d]] = self;
        [a, b, c, d]
    }
}

/// Two processes that wake each other through words of a shared page.
fn futex() -> Result<(), Errno> {
    let page = calls::map(PAGE, Access::Write, Sharing::Shared, None)?;
    pages::touch(page, PAGE, PAGE);
    let (mine, theirs) = (page, page + 64);
    set(mine, 0);
    set(theirs, 0);
    const ENDS: u32 = 2;
    let child = calls::fork()?;
    if child == 0 {
        while take(theirs)? != ENDS {
            give(mine, 1)?;
        }
        sys::exit(0);
    }
    least("futex-ping-pong", FEW, TRIPS, || {
        for _ in 0..TRIPS {
            give(theirs, 1)?;
            take(mine)?;
        }
        Ok(())
    })?;
    give(theirs, ENDS)?;
    calls::wait(child)?;
    calls::unmap(page, PAGE)
}

const FUTEX_WAIT: usize = 0;
const FUTEX_WAKE: usize = 1;

fn set(word: usize, value: u32) {
    // SAFETY: a word of the page that both processes map; accesses are volatile, and only one of them runs.
    unsafe { (word as *mut u32).write_volatile(value) };
}

#[inline(always)]
fn give(word: usize, value: u32) -> Result<(), Errno> {
    set(word, value);
    // SAFETY: the kernel reads the word.
    unsafe { sys::call(nr::FUTEX, [word, FUTEX_WAKE, 1, 0, 0, 0]) }.map(|_| ())
}

#[inline(always)]
fn take(word: usize) -> Result<u32, Errno> {
    loop {
        // SAFETY: as `set`.
        let value = unsafe { (word as *const u32).read_volatile() };
        if value != 0 {
            set(word, 0);
            return Ok(value);
        }
        // SAFETY: the kernel reads the word. Refused if it changed meanwhile, which the next turn finds.
        let _ = unsafe { sys::raw(nr::FUTEX, [word, FUTEX_WAIT, 0, 0, 0, 0]) };
    }
}

/// Eight processes pass a byte around, each reading 16 KiB of its own memory before it does.
fn ring() -> Result<(), Errno> {
    const MEMBERS: usize = 8;
    const WORKING_SET: usize = 16 << 10;
    const TURNS: u64 = 4;
    let mut pipes = [[0; 2]; MEMBERS];
    for pipe in &mut pipes {
        *pipe = calls::pair(Pair::Pipe)?;
    }
    let memory = calls::map(WORKING_SET, Access::Write, Sharing::Private, None)?;
    pages::touch(memory, WORKING_SET, PAGE);
    let mut byte = [0];
    let mut children = [0; MEMBERS - 1];
    for (n, place) in children.iter_mut().enumerate() {
        *place = calls::fork()?;
        if *place == 0 {
            // Its own copies of the pages, once.
            pages::touch(memory, WORKING_SET, PAGE);
            for (other, pipe) in pipes.iter().enumerate() {
                if other != n + 1 {
                    calls::close(pipe[1])?;
                }
            }
            while calls::read(pipes[n][0], &mut byte).is_ok() {
                work(memory, WORKING_SET);
                sys::write(pipes[n + 1][1], &byte)?;
            }
            sys::exit(0);
        }
    }
    least("ring-8-processes-hop", FEW, TURNS * MEMBERS as u64, || {
        for _ in 0..TURNS {
            sys::write(pipes[0][1], &byte)?;
            calls::read(pipes[MEMBERS - 1][0], &mut byte)?;
            work(memory, WORKING_SET);
        }
        Ok(())
    })?;
    for pipe in pipes {
        calls::close(pipe[1])?;
        calls::close(pipe[0])?;
    }
    for child in children {
        calls::wait(child)?;
    }
    calls::unmap(memory, WORKING_SET)
}

/// Reads each cache line.
#[inline(always)]
fn work(memory: usize, bytes: usize) {
    for at in (memory..memory + bytes).step_by(64) {
        // SAFETY: the callers' own mapping.
        unsafe { (at as *const u64).read_volatile() };
    }
}

/// A child writes as fast as it may; what reading a MiB of it takes.
fn bandwidth() -> Result<(), Errno> {
    const PIECE: usize = 64 << 10;
    const MIB: usize = 1 << 20;
    let pipe = calls::pair(Pair::Pipe)?;
    let place = calls::map(PIECE, Access::Write, Sharing::Private, None)?;
    pages::touch(place, PIECE, PAGE);
    // SAFETY: mapped above, this process's own, and given up only at the end.
    let piece = unsafe { core::slice::from_raw_parts_mut(place as *mut u8, PIECE) };
    const ROUNDS: u32 = 4;
    let child = calls::fork()?;
    if child == 0 {
        let mut left = MIB * ROUNDS as usize;
        while left > 0 {
            left -= sys::write(pipe[1], &piece[..left.min(PIECE)])?;
        }
        sys::exit(0);
    }
    least("pipe-bandwidth-MiB", ROUNDS, 1, || {
        let mut left = MIB;
        while left > 0 {
            let wanted = left.min(PIECE);
            left -= calls::read(pipe[0], &mut piece[..wanted])?;
        }
        Ok(())
    })?;
    calls::close(pipe[0])?;
    calls::close(pipe[1])?;
    calls::wait(child)?;
    calls::unmap(place, PIECE)
}
