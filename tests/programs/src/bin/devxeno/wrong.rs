//! Wrong calls: each is refused with its error. After all of them the device is as it was.

use crate::calls::{self, Device, Failure, PAGE};
use guest_abi::domid::DOMID_SELF;
use guest_abi::reserve::{
    SCHED_EXTRA, SCHED_REFUSED_NEVER_RUNS, SCHED_REFUSED_SLICE, SchedRules, SchedSet, SchedTerms,
};
use guest_abi::usage::{USAGE_OF_DOMAIN, Usage};
use guest_abi::xeno::XENO_INTERFACE_VERSION;
use programs::say;
use programs::sys::{self, Errno};

const EPERM: i32 = 1;
const EBADF: i32 = 9;
const EACCES: i32 = 13;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;

/// How many refusals were seen.
struct Tried<'a> {
    device: &'a Device,
    count: u32,
}

impl Tried<'_> {
    /// A call of the device with a plain number as its argument.
    fn raw(
        &mut self,
        what: &'static str,
        request: usize,
        argument: usize,
        wanted: i32,
    ) -> Result<(), Failure> {
        // SAFETY: callers pass addresses that nothing of this program lies at, or memory of `calls::pages`.
        let answer = unsafe { sys::ioctl(self.device.file(), request, argument) };
        self.judge(what, answer.map(|_| ()), wanted)
    }

    /// With a structure; it is not changed where the device itself refuses.
    fn with<T: Copy>(
        &mut self,
        what: &'static str,
        request: usize,
        mut about: T,
        wanted: i32,
    ) -> Result<(), Failure> {
        let answer = self.device.ask(request, &mut about);
        self.judge(what, answer, wanted)
    }

    fn judge(
        &mut self,
        what: &'static str,
        answer: Result<(), Errno>,
        wanted: i32,
    ) -> Result<(), Failure> {
        let error = answer.map_or_else(|error| error.0, |()| 0);
        if error != wanted {
            return Err(Failure::Answer(what, error, wanted));
        }
        self.count += 1;
        Ok(())
    }
}

/// All of them.
pub fn all() -> Result<(), Failure> {
    let device = Device::open()?;
    let mut tried = Tried {
        device: &device,
        count: 0,
    };
    requests(&mut tried)?;
    addresses(&mut tried)?;
    contents(&mut tried)?;
    reservations(&mut tried)?;
    modes(&mut tried)?;
    // It serves as before.
    let usage = device.usage(USAGE_OF_DOMAIN);
    usage.map_err(|error| Failure::Call("usage after all", error))?;
    say!("{} wrong calls are refused", tried.count);
    Ok(())
}

/// Requests that there are not: other numbers, sizes, directions.
fn requests(tried: &mut Tried<'_>) -> Result<(), Failure> {
    let page = calls::pages(1)?;
    for request in [
        0,
        usize::MAX,
        calls::USAGE & !(3 << 30),
        calls::USAGE & !(1 << 30),
        calls::request(0x60, 0),
        calls::request(0x60, size_of::<Usage>() - 1),
        calls::request(0x60, size_of::<Usage>() + 8),
        calls::request(0x60, 0x3fff),
        calls::request(0x5f, size_of::<Usage>()),
        calls::request(0x64, size_of::<SchedSet>()),
        calls::request(0x63, size_of::<SchedRules>()),
        calls::USAGE ^ 1 << 8,
    ] {
        tried.raw("a request that there is not", request, page, ENOTTY)?;
    }
    Ok(())
}

/// Arguments that are nowhere, end in nothing, or cannot be written.
fn addresses(tried: &mut Tried<'_>) -> Result<(), Failure> {
    let pages = calls::pages(2)?;
    calls::change_page(pages + PAGE, true)?;
    let beyond = pages + PAGE;
    for request in [
        calls::USAGE,
        calls::SCHED_RULES,
        calls::SCHED_GET,
        calls::SCHED_SET,
    ] {
        for address in [
            0,
            8,
            beyond,
            beyond - 8,
            beyond - 1,
            0x7fff_ffff_f000,
            0x8000_0000_0000,
            0xffff_8000_0000_0000,
            0xffff_8800_0000_0000,
            0xffff_ffff_8100_0000,
            usize::MAX - 7,
            usize::MAX,
        ] {
            tried.raw("an address that is not there", request, address, EFAULT)?;
        }
    }
    let fixed = calls::pages(1)?;
    let mut question = calls::usage_of(DOMID_SELF, USAGE_OF_DOMAIN);
    // SAFETY: a page of our own, large enough and aligned.
    unsafe { (fixed as *mut Usage).write_volatile(question) };
    calls::change_page(fixed, false)?;
    tried.raw(
        "an answer to memory that cannot be written",
        calls::USAGE,
        fixed,
        EFAULT,
    )?;
    // Structures need not be aligned.
    let odd = pages + 1;
    // SAFETY: bytes within a page of our own.
    unsafe { (odd as *mut Usage).write_unaligned(question) };
    tried.raw("a structure at an odd address", calls::USAGE, odd, 0)?;
    question.vcpu = 0;
    tried.with("a vCPU", calls::USAGE, question, 0)
}

/// Versions, domains and vCPUs that there are not.
fn contents(tried: &mut Tried<'_>) -> Result<(), Failure> {
    let good = calls::usage_of(DOMID_SELF, USAGE_OF_DOMAIN);
    for version in [0, 2, u32::MAX, XENO_INTERFACE_VERSION << 16] {
        tried.with(
            "another version",
            calls::USAGE,
            Usage { version, ..good },
            EINVAL,
        )?;
    }
    for domid in [0, 1, 0x7fe0, 0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, u16::MAX] {
        tried.with(
            "another domain",
            calls::USAGE,
            Usage { domid, ..good },
            EINVAL,
        )?;
        let set = SchedSet {
            domid,
            ..set(SchedTerms::ZERO)
        };
        tried.with("another's reservation", calls::SCHED_SET, set, EINVAL)?;
    }
    for vcpu in [64, 1000, 0x7fff_ffff, USAGE_OF_DOMAIN - 2] {
        tried.with(
            "a vCPU that there is not",
            calls::USAGE,
            Usage { vcpu, ..good },
            EINVAL,
        )?;
    }
    let rules = SchedRules {
        version: XENO_INTERFACE_VERSION,
        set: 1,
        quantum: 1_000_000,
        ..SchedRules::ZERO
    };
    tried.with("another quantum", calls::SCHED_RULES, rules, EINVAL)
}

fn set(terms: SchedTerms) -> SchedSet {
    SchedSet {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF,
        terms,
        ..SchedSet::ZERO
    }
}

/// Reservations that nobody is granted: the control domain is told why, another only that it may not.
fn reservations(tried: &mut Tried<'_>) -> Result<(), Failure> {
    let terms = |slice, period, flags| SchedTerms {
        slice,
        period,
        weight: 256,
        flags,
    };
    for (what, terms, refusal) in [
        (
            "a slice longer than its period",
            terms(20_000_000, 10_000_000, 0),
            SCHED_REFUSED_SLICE,
        ),
        (
            "never to run",
            terms(0, 10_000_000, 0),
            SCHED_REFUSED_NEVER_RUNS,
        ),
    ] {
        let mut asked = set(terms);
        let answer = tried.device.ask(calls::SCHED_SET, &mut asked);
        match answer {
            Err(Errno(EPERM)) => tried.count += 1,
            _ => tried.judge(what, answer, EINVAL)?,
        }
        if answer == Err(Errno(EINVAL)) && asked.refusal != refusal {
            return Err(Failure::Not(what));
        }
    }
    Ok(())
}

/// What those who are not root may not, and what nobody may.
fn modes(tried: &mut Tried<'_>) -> Result<(), Failure> {
    let child = calls::fork()?;
    if child == 0 {
        sys::exit(match as_nobody(tried) {
            Ok(()) => 0,
            Err(failure) => {
                programs::complain!("devxeno: {failure}");
                1
            }
        });
    }
    if calls::wait(child)? != 0 {
        return Err(Failure::Not("for a user that is nobody it is otherwise"));
    }
    // Root may open anything; there is nothing to write to.
    let wide = Device::try_open(2).map_err(|error| Failure::Call("open to write", error))?;
    let wrote = sys::write(wide.file(), b"user 0\n");
    tried.judge("writing", wrote.map(|_| ()), EINVAL)?;
    let wrote = sys::write(tried.device.file(), b"user 0\n");
    tried.judge("writing where it is open to read", wrote.map(|_| ()), EBADF)
}

fn as_nobody(tried: &mut Tried<'_>) -> Result<(), Failure> {
    calls::be_nobody()?;
    let answer = Device::try_open(2).map(|_| ());
    tried.judge("nobody opens it to write", answer, EACCES)?;
    let own = Device::open()?;
    let usage = own.usage(USAGE_OF_DOMAIN);
    usage.map_err(|error| Failure::Call("nobody may see what was used", error))?;
    let extra = SchedTerms {
        weight: 256,
        flags: SCHED_EXTRA,
        ..SchedTerms::ZERO
    };
    // By a file that root opened, too.
    tried.with("nobody reserves", calls::SCHED_SET, set(extra), EPERM)?;
    let mut tried = Tried {
        device: &own,
        count: 0,
    };
    tried.with("nobody reserves", calls::SCHED_SET, set(extra), EPERM)
}
