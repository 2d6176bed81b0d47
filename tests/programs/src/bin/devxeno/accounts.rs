//! Whether all ways to the accounts lead to the same.

use crate::calls::{self, Device, Failure};
use guest_abi::domid::DOMID_SELF;
use guest_abi::usage::{USAGE_CAUSE_NAMES, USAGE_CAUSES, USAGE_OF_DOMAIN, Usage};
use programs::privcmd::Privcmd;
use programs::say;

/// Numbers of a [`Usage`] that never go back.
const NUMBERS: usize = USAGE_CAUSES + 16;

/// The numbers of an account that never go back, in the words of the device.
pub fn numbers(usage: &Usage) -> [(&'static str, u128); NUMBERS] {
    let long = |[low, high]: [u64; 2]| u128::from(high) << 64 | u128::from(low);
    let mut all = [
        ("at", u128::from(usage.at)),
        ("user", u128::from(usage.user)),
        ("kernel", u128::from(usage.kernel)),
        ("guaranteed", u128::from(usage.guaranteed)),
        ("extra", u128::from(usage.extra)),
        ("elsewhere", u128::from(usage.elsewhere)),
        ("stolen", u128::from(usage.stolen)),
        ("switches", u128::from(usage.switches)),
        ("events-sent", u128::from(usage.events_sent)),
        ("events-received", u128::from(usage.events_received)),
        ("grants-used", u128::from(usage.grants_used)),
        ("grants-lent", u128::from(usage.grants_lent)),
        ("frames-peak", u128::from(usage.frames_peak)),
        ("frame-cycles", long(usage.frame_cycles)),
        ("overhead-peak", u128::from(usage.overhead_peak)),
        ("overhead-cycles", long(usage.overhead_cycles)),
        ("", 0),
        ("", 0),
        ("", 0),
        ("", 0),
        ("", 0),
        ("", 0),
    ];
    for (cause, place) in all.iter_mut().skip(NUMBERS - USAGE_CAUSES).enumerate() {
        *place = (
            USAGE_CAUSE_NAMES[cause],
            u128::from(usage.hypervisor[cause]),
        );
    }
    all
}

/// The text of the device.
struct Text {
    bytes: [u8; 1 << 16],
    len: usize,
}

impl Text {
    fn read(&mut self, device: &Device) -> Result<&str, Failure> {
        self.len = 0;
        loop {
            let room = &mut self.bytes[self.len..];
            match device
                .read(room)
                .map_err(|error| Failure::Call("read", error))?
            {
                0 => break,
                count => self.len += count,
            }
        }
        core::str::from_utf8(&self.bytes[..self.len])
            .map_err(|_| Failure::Not("what is read is no text"))
    }
}

/// The number of a name in the text.
fn number(text: &str, prefix: &str, name: &'static str) -> Result<u128, Failure> {
    let mut found = text.lines().filter_map(|line| {
        let (said, value) = line.split_once(' ')?;
        (said.strip_prefix(prefix)? == name).then(|| value.parse::<u128>())
    });
    match (found.next(), found.next()) {
        (Some(Ok(value)), None) => Ok(value),
        _ => Err(Failure::Not(name)),
    }
}

/// Each number of `given` lies between the two accounts'.
fn between(
    before: &Usage,
    given: impl Fn(&'static str) -> Result<u128, Failure>,
    after: &Usage,
) -> Result<(), Failure> {
    for ((name, from), (_, to)) in numbers(before).into_iter().zip(numbers(after)) {
        let value = given(name)?;
        if value < from || value > to {
            return Err(Failure::Number(name, value, [from, to]));
        }
    }
    Ok(())
}

/// The text lies between the answers before and after, these between the hypervisor's own; and in each the times are
/// of one sum.
pub fn agree() -> Result<(), Failure> {
    static mut TEXT: Text = Text {
        bytes: [0; 1 << 16],
        len: 0,
    };
    let text = &raw mut TEXT;
    // SAFETY: one thread, which comes here once.
    let text = unsafe { &mut *text };
    let device = Device::open()?;
    let ask = |vcpu| {
        device
            .usage(vcpu)
            .map_err(|error| Failure::Call("usage", error))
    };
    let privcmd = Privcmd::open().ok();
    let exact = |vcpu| match &privcmd {
        Some(privcmd) => calls::usage_by_hypercall(privcmd, DOMID_SELF, vcpu),
        None => ask(vcpu),
    };
    let (outer, before, first) = (exact(USAGE_OF_DOMAIN)?, ask(USAGE_OF_DOMAIN)?, ask(0)?);
    let text = text.read(&device)?;
    let (last, after, end) = (ask(0)?, ask(USAGE_OF_DOMAIN)?, exact(USAGE_OF_DOMAIN)?);

    between(&before, |name| number(text, "", name), &after)?;
    // What is a domain's alone is not told of a vCPU.
    let of_vcpu = |name| match name {
        "frames-peak" | "frame-cycles" | "overhead-peak" | "overhead-cycles" | "grants-lent" => {
            Ok(0)
        }
        name => number(text, "vcpu0-", name),
    };
    between(&first, of_vcpu, &last)?;
    for usage in [&before, &after] {
        let told = numbers(usage);
        let given = |name| {
            let found = told.iter().find(|(said, _)| *said == name);
            found.map(|(_, value)| *value).ok_or(Failure::Not(name))
        };
        between(&outer, given, &end)?;
        if usage.domid != outer.domid || usage.tsc_hz != outer.tsc_hz {
            return Err(Failure::Not("the device tells of another domain"));
        }
    }
    adds_up(text, "")?;
    adds_up(text, "vcpu0-")?;
    adds_up(text, "besides-")?;
    if number(text, "", "domain")? != u128::from(outer.domid) {
        return Err(Failure::Not("the text is about another domain"));
    }
    let by = if privcmd.is_some() { "with" } else { "without" };
    say!("{} lines agree, {by} privcmd", text.lines().count());
    Ok(())
}

/// The times by mode and cause are the times by kind.
fn adds_up(text: &str, prefix: &str) -> Result<(), Failure> {
    let sum = |names: &[&'static str]| {
        let mut sum = 0;
        for name in names {
            sum += number(text, prefix, name)?;
        }
        Ok(sum)
    };
    let by_cause = sum(&["user", "kernel"])? + sum(&USAGE_CAUSE_NAMES)?;
    let by_kind = sum(&["guaranteed", "extra", "elsewhere"])?;
    if by_cause != by_kind {
        return Err(Failure::Number(
            "the sum of all causes",
            by_cause,
            [by_kind; 2],
        ));
    }
    Ok(())
}
