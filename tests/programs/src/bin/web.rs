//! `web`: the first program of a guest that is a web server with its clients. The server is busybox' own, a process for
//! each request; eight clients ask it for a page over loopback, one request after the other, and never pause.
//!
//! It says `WEB ready` before the first request. Then, whenever a request is done and the last one was not in the same
//! fiftieth of a second, `WEB TICK COUNT`: the time-stamp counter, and how many requests were done before this one. A guest
//! that has used up its share of the CPU does nothing for longer than that: the first line afterwards tells how many
//! requests it did with the share.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(not(target_os = "none"), allow(dead_code, unused))]

use core::sync::atomic::{AtomicU64, Ordering};

use programs::calls::{self, Access, PAGE, Sharing, nr};
use programs::sys::{self, Errno};
use programs::{Arguments, complain, now, program, say};

program!(run);

/// How many ask at once.
const CLIENTS: usize = 8;
/// Ticks between two lines, at the clock of a benchmark.
const BETWEEN: u64 = 20_000_000;
/// How long the server has to come up, in nanoseconds.
const WITHIN: u64 = 10_000_000_000;
/// What is asked for.
const REQUEST: &[u8] = b"GET /page HTTP/1.0\r\n\r\n";
/// How a good answer goes on behind the version of its protocol.
const GOOD: &[u8] = b" 200 ";
/// `HTTP/1.1`
const VERSION: usize = 8;

/// Families and kinds of sockets.
const INTERNET: usize = 2;
const STREAM: usize = 1;
const DATAGRAM: usize = 2;

/// `struct sockaddr_in` of 127.0.0.1, port 80: family and port, address, zero.
const SERVER: [u8; 16] = [2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];

/// What all clients share, in a page of its own.
struct Done {
    /// Requests.
    count: AtomicU64,
    /// When the last one was done.
    last: AtomicU64,
}

fn run(_: Arguments) -> i32 {
    if let Err((what, why)) = serve() {
        complain!("WEB failed: {what}: {why:?}");
    }
    calls::wait_for_ever()
}

/// What failed, and why.
type Failure = (&'static str, Errno);

fn serve() -> Result<(), Failure> {
    let named = |what| move |why| (what, why);
    loopback_up().map_err(named("the loopback interface does not come up"))?;
    let place = calls::map(PAGE, Access::Write, Sharing::Shared, None)
        .map_err(named("there is no page to count in"))?;
    // SAFETY: a fresh page of zeroes, aligned, that is never unmapped and only looked at as these atomic words.
    let done = unsafe { &*(place as *const Done) };
    if calls::fork().map_err(named("no process for the server"))? == 0 {
        let why = become_server();
        complain!("WEB failed: the server cannot be started: {why:?}");
        sys::exit(1);
    }
    let begun = now();
    while let Err(why) = ask() {
        if now().wrapping_sub(begun) > WITHIN {
            return Err(("the server does not answer", why));
        }
        let _ = calls::sleep(10_000_000);
    }
    say!("WEB ready");
    for _ in 0..CLIENTS {
        if calls::fork().map_err(named("no process for a client"))? == 0 {
            client(done);
        }
    }
    Ok(())
}

/// Its address comes by itself.
fn loopback_up() -> Result<(), Errno> {
    const SET_FLAGS: usize = 0x8914;
    const UP_AND_RUNNING: u8 = 0x41;
    // `struct ifreq`: a name of 16 bytes, then the flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = UP_AND_RUNNING;
    let socket = socket(DATAGRAM)?;
    // SAFETY: the kernel reads the request.
    unsafe { sys::ioctl(socket, SET_FLAGS, request.as_ptr() as usize) }?;
    calls::close(socket)
}

/// Comes back only if it cannot.
fn become_server() -> Option<Errno> {
    let words = [c"httpd", c"-f", c"-p", c"127.0.0.1:80", c"-h", c"/www"];
    let mut pointers = [core::ptr::null(); 7];
    for (pointer, word) in pointers.iter_mut().zip(words) {
        *pointer = word.as_ptr().cast();
    }
    calls::exec(c"/bin/busybox", &pointers).err()
}

fn client(done: &Done) -> ! {
    loop {
        if let Err(why) = ask() {
            complain!("WEB failed: a request: {why:?}");
            sys::exit(1);
        }
        let time = now();
        let before = done.count.fetch_add(1, Ordering::Relaxed);
        let last = done.last.swap(time, Ordering::Relaxed);
        if last / BETWEEN != time / BETWEEN {
            say!("WEB {time} {before}");
        }
    }
}

/// One request, to the end of its answer.
fn ask() -> Result<(), Errno> {
    let socket = socket(STREAM)?;
    let result = exchange(socket);
    calls::close(socket)?;
    result
}

fn exchange(socket: i32) -> Result<(), Errno> {
    let address = [SERVER.as_ptr() as usize, SERVER.len()];
    // SAFETY: the kernel reads the address.
    unsafe {
        sys::call(
            nr::CONNECT,
            [socket as usize, address[0], address[1], 0, 0, 0],
        )
    }?;
    sys::write(socket, REQUEST)?;
    let mut bytes = [0_u8; PAGE];
    // The server writes its head at once: it is in the first piece.
    let count = calls::read(socket, &mut bytes)?;
    let status = bytes[..count].get(VERSION..).unwrap_or_default();
    if !status.starts_with(GOOD) {
        return Err(Errno::EPROTO);
    }
    loop {
        match calls::read(socket, &mut bytes) {
            Ok(_) => {}
            Err(Errno(0)) => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

fn socket(kind: usize) -> Result<i32, Errno> {
    // SAFETY: it touches no memory.
    unsafe { sys::call(nr::SOCKET, [INTERNET, kind, 0, 0, 0, 0]) }.map(|file| file as i32)
}
