//! The usage area, mapped: it has the accounts that calls tell of, and it can only be read.

use crate::calls::{self, Device, Failure, PAGE};
use core::sync::atomic::AtomicU64;
use guest_abi::usage::{USAGE_BESIDES, USAGE_CAUSES, USAGE_OF_DOMAIN, Usage};
use guest_abi::usage_area::{UsageArea, usage_area_frames};
use programs::say;
use programs::sys::{self, Errno};

const READ: usize = 1;
const WRITE: usize = 2;
const SHARED: usize = 1;
const PRIVATE: usize = 2;

const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;

/// Maps pages of the device.
fn map(
    device: &Device,
    pages: usize,
    access: usize,
    flags: usize,
    from: usize,
) -> Result<usize, Errno> {
    const MMAP: usize = 9;
    let [len, file] = [pages * PAGE, device.file() as usize];
    // SAFETY: the kernel chooses a free place.
    unsafe { sys::call(MMAP, [0, len, access, flags, file, from * PAGE]) }
}

/// Ends a mapping.
fn unmap(address: usize, pages: usize) {
    const MUNMAP: usize = 11;
    // SAFETY: callers do not use it afterwards.
    unsafe { sys::raw(MUNMAP, [address, pages * PAGE, 0, 0, 0, 0]) };
}

/// A mapped area, with its pages.
pub struct Mapped {
    address: usize,
    pages: usize,
}

impl Mapped {
    /// Maps all of it: the first page says how much that is.
    pub fn new(device: &Device) -> Result<Self, Failure> {
        let try_map = |pages| {
            let address = map(device, pages, READ, SHARED, 0);
            let address = address.map_err(|error| Failure::Call("mmap", error))?;
            Ok(Self { address, pages })
        };
        let first = try_map(1)?;
        let head = first
            .words()
            .get(1)
            .map_or(0, |word| word.load(core::sync::atomic::Ordering::Relaxed));
        // Version, frames.
        match (head >> 32) as usize {
            1 => Ok(first),
            pages => try_map(pages),
        }
    }

    fn words(&self) -> &[AtomicU64] {
        let words = self.address as *const AtomicU64;
        // SAFETY: so many pages are mapped there as long as this lives; the hypervisor writes whole words.
        unsafe { core::slice::from_raw_parts(words, self.pages * PAGE / 8) }
    }

    /// It, to be read.
    pub fn area(&self) -> Result<UsageArea<'_>, Failure> {
        UsageArea::new(self.words()).ok_or(Failure::Not("what is mapped is no usage area"))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        unmap(self.address, self.pages);
    }
}

/// Rows, what is in none, and memory are what calls before and after tell; then what may not be done to it.
pub fn all() -> Result<(), Failure> {
    let device = Device::open()?;
    let mapped = Mapped::new(&device)?;
    let area = mapped.area()?;
    let ask = |vcpu| {
        device
            .usage(vcpu)
            .map_err(|error| Failure::Call("usage", error))
    };
    let vcpus = area.head().nr_vcpus;
    if usage_area_frames(vcpus as usize) != mapped.pages {
        return Err(Failure::Not("the area has another length than its rows"));
    }
    let mut rows = 0;
    for vcpu in 0..vcpus {
        // Those that it has not got.
        let Ok(before) = device.usage(vcpu) else {
            continue;
        };
        let row = area.row(vcpu).ok_or(Failure::Not("a vCPU has no row"))?;
        let after = ask(vcpu)?;
        let seen = Usage {
            user: row.user,
            kernel: row.kernel,
            hypervisor: row.hypervisor,
            guaranteed: row.guaranteed,
            extra: row.extra,
            switches: row.switches,
            events_sent: row.events_sent,
            events_received: row.events_received,
            grants_used: row.grants_used,
            ..Usage::ZERO
        };
        between(&before, &seen, &after)?;
        rows += 1;
    }
    let before = ask(USAGE_BESIDES)?;
    let besides = area.head().besides;
    let after = ask(USAGE_BESIDES)?;
    let seen = Usage {
        user: besides.user,
        kernel: besides.kernel,
        hypervisor: besides.hypervisor,
        guaranteed: besides.guaranteed,
        extra: besides.extra,
        switches: besides.switches,
        events_sent: besides.events_sent,
        events_received: besides.events_received,
        grants_used: besides.grants_used,
        grants_lent: besides.grants_lent,
        ..Usage::ZERO
    };
    between(&before, &seen, &after)?;
    memory(&area, &ask(USAGE_OF_DOMAIN)?, || ask(USAGE_OF_DOMAIN))?;
    let refused = wrong(&device, &mapped)?;
    say!("{rows} rows agree, {refused} wrong mappings are refused");
    Ok(())
}

/// What is counted of an account lies between two others.
fn between(before: &Usage, seen: &Usage, after: &Usage) -> Result<(), Failure> {
    let counters = |usage: &Usage| {
        let mut all = [0; 9 + USAGE_CAUSES];
        let (first, causes) = all.split_at_mut(9);
        first.copy_from_slice(&[
            usage.user,
            usage.kernel,
            usage.guaranteed,
            usage.extra,
            usage.switches,
            usage.events_sent,
            usage.events_received,
            usage.grants_used,
            usage.grants_lent,
        ]);
        causes.copy_from_slice(&usage.hypervisor);
        all
    };
    let ends = counters(before).into_iter().zip(counters(after));
    for (value, (from, to)) in counters(seen).into_iter().zip(ends) {
        if value < from || value > to {
            let ends = [u128::from(from), u128::from(to)];
            return Err(Failure::Number(
                "a counter of the area",
                u128::from(value),
                ends,
            ));
        }
    }
    Ok(())
}

fn memory(
    area: &UsageArea<'_>,
    before: &Usage,
    ask: impl Fn() -> Result<Usage, Failure>,
) -> Result<(), Failure> {
    let [frames, overhead] = [area.frames(), area.overhead()];
    let now = programs::now();
    let after = ask()?;
    let long = |[low, high]: [u64; 2]| u128::from(high) << 64 | u128::from(low);
    for (name, held, from, to) in [
        (
            "frames times cycles",
            frames,
            before.frame_cycles,
            after.frame_cycles,
        ),
        (
            "overhead times cycles",
            overhead,
            before.overhead_cycles,
            after.overhead_cycles,
        ),
    ] {
        let (value, ends) = (held.over_time_at(now), [long(from), long(to)]);
        if value < ends[0] || value > ends[1] {
            return Err(Failure::Number(name, value, ends));
        }
    }
    if frames.peak != after.frames_peak || frames.peak < frames.now {
        return Err(Failure::Not("the area has another peak"));
    }
    Ok(())
}

/// Mappings that there are not, and what may not be done with the one there is; how many were refused.
fn wrong(device: &Device, mapped: &Mapped) -> Result<u32, Failure> {
    let pages = mapped.pages;
    let wide = Device::try_open(2).map_err(|error| Failure::Call("open to write", error))?;
    let mut count = 0;
    let mut judge = |what, answer: Result<usize, Errno>, wanted: i32| match answer {
        Err(Errno(error)) if error == wanted => {
            count += 1;
            Ok(())
        }
        answer => {
            let error = answer.map_or_else(|error| error.0, |_| 0);
            Err(Failure::Answer(what, error, wanted))
        }
    };
    for flags in [SHARED, PRIVATE] {
        for file in [device, &wide] {
            let answer = map(file, pages, READ | WRITE, flags, 0);
            judge("a mapping to write", answer, EACCES)?;
        }
        judge(
            "a page too many",
            map(device, pages + 1, READ, flags, 0),
            EINVAL,
        )?;
        judge(
            "the page behind",
            map(device, 1, READ, flags, pages),
            EINVAL,
        )?;
        judge("beyond it", map(device, pages, READ, flags, 1), EINVAL)?;
        judge("far beyond", map(device, 1, READ, flags, 1 << 40), EINVAL)?;
    }
    let private = map(&wide, pages, READ, PRIVATE, 0);
    let private = private.map_err(|error| Failure::Call("mmap", error))?;
    for address in [private, mapped.address] {
        let protect = [address, pages * PAGE, READ | WRITE, 0, 0, 0];
        // SAFETY: it would be refused, or this program's accesses to it would stay what they are.
        let writable = unsafe { sys::call(10, protect) };
        judge("making it writable", writable, EACCES)?;
        let remap = [address, pages * PAGE, (pages + 1) * PAGE, 1, 0, 0];
        // SAFETY: as before: `mremap` to a larger size, which may move.
        let longer = unsafe { sys::call(25, remap) };
        judge("making it longer", longer, EFAULT)?;
        let read = [device.file() as usize, address, 64, 0, 0, 0];
        // SAFETY: the kernel would write there.
        let into = unsafe { sys::call(0, read) };
        judge("reading into it", into, EFAULT)?;
    }
    unmap(private, pages);
    let child = calls::fork()?;
    if child == 0 {
        // SAFETY: it is refused, or changes nothing.
        let answer = unsafe { sys::call(10, [mapped.address, PAGE, READ, 0, 0, 0]) };
        sys::exit(i32::from(answer != Err(Errno(ENOMEM))));
    }
    if calls::wait(child)? != 0 {
        return Err(Failure::Not("a child has its parent's mapping"));
    }
    mapped.area()?;
    Ok(count + 1)
}
