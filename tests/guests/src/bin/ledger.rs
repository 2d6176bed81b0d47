//! Tells ring 0 of chains that grow, and of ones that cannot have; and compares what it tells of domains that are gone
//! with what they used while they were there.
//!
//! xtask: memory=512M
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::ledger::{LEDGER_ENDED_KEPT, LEDGER_OF_MACHINE, LedgerEnded, LedgerHead};
use guest_runtime::abi::usage::{BOOKS_OF_MACHINE, Books, USAGE_OF_DOMAIN, Usage};
use guest_runtime::abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_runtime::abi::{DOMID_SELF, Domctl, DomctlCommand, errno, nr};
use guest_runtime::builder::{self, Plan};
use guest_runtime::control::xeno_op;
use guest_runtime::hypercall::call;
use guest_runtime::{check, check_eq, child, control, guest, link, skip};
use guests::accepted;

guest!(ledger, main);

fn head(domid: u16) -> LedgerHead {
    LedgerHead {
        version: XENO_INTERFACE_VERSION,
        domid,
        ..LedgerHead::ZERO
    }
}

/// What is remembered of a chain.
fn told(domid: u16) -> (u64, [u8; 32]) {
    let mut told = head(domid);
    accepted(
        "a question for a head",
        xeno_op(XenoCommand::LedgerHead, &mut told),
    );
    (told.count, told.head)
}

fn append(domid: u16, from: u64, count: u64, byte: u8) -> i64 {
    let mut grown = LedgerHead {
        from,
        count,
        head: [byte; 32],
        ..head(domid)
    };
    xeno_op(XenoCommand::LedgerAppend, &mut grown)
}

fn ended(index: u64) -> (i64, LedgerEnded) {
    let mut ended = LedgerEnded {
        version: XENO_INTERFACE_VERSION,
        index,
        ..LedgerEnded::ZERO
    };
    (xeno_op(XenoCommand::LedgerEnded, &mut ended), ended)
}

fn main() {
    if xeno_op(XenoCommand::LedgerHead, &mut head(LEDGER_OF_MACHINE)) == -errno::ENOSYS {
        skip!("another hypervisor, which remembers no such thing");
        return;
    }
    a_chain_grows_and_never_shrinks(LEDGER_OF_MACHINE);
    a_chain_grows_and_never_shrinks(DOMID_SELF as u16);
    wrong_calls();
    a_chain_goes_with_its_domain();
    what_is_gone_is_told_of();
    as_many_as_are_kept();
    check_eq!(
        "the machine's chain is as it was",
        told(LEDGER_OF_MACHINE).0,
        9
    );
}

fn a_chain_grows_and_never_shrinks(domid: u16) {
    check_eq!("none yet", told(domid), (0, [0; 32]));
    check_eq!(
        "no longer than it is",
        append(domid, 0, 0, 1),
        -errno::EEXIST
    );
    check_eq!("not from here", append(domid, 1, 2, 1), -errno::EXDEV);
    check_eq!("and nothing changed", told(domid), (0, [0; 32]));
    check_eq!("its first entries", append(domid, 0, 7, 2), 0);
    check_eq!("are remembered", told(domid), (7, [2; 32]));
    for count in [0, 6, 7] {
        check_eq!("going back", append(domid, 7, count, 3), -errno::EEXIST);
    }
    check_eq!(
        "not from where it is",
        append(domid, 6, 8, 3),
        -errno::EXDEV
    );
    check_eq!("is as it was", told(domid), (7, [2; 32]));
    check_eq!("growing by more than one", append(domid, 7, 9, 4), 0);
    check_eq!("is remembered", told(domid), (9, [4; 32]));
}

fn wrong_calls() {
    let operations = [
        XenoCommand::LedgerHead,
        XenoCommand::LedgerAppend,
        XenoCommand::LedgerEnded,
    ];
    for operation in operations {
        let number = u64::from(operation.number());
        let refused = call(nr::XENO_OP, [number, 0, 0, 0, 0]);
        check_eq!("no memory", refused, -errno::EFAULT);
    }
    for operation in [XenoCommand::LedgerHead, XenoCommand::LedgerAppend] {
        let mut wrong = head(LEDGER_OF_MACHINE);
        wrong.version += 1;
        check_eq!(
            "another version",
            xeno_op(operation, &mut wrong),
            -errno::EINVAL
        );
        let mut nobody = head(0x7000);
        check_eq!("nobody's", xeno_op(operation, &mut nobody), -errno::ESRCH);
        let mut end = head(0x7fe0);
        check_eq!("an end's", xeno_op(operation, &mut end), -errno::ESRCH);
        check_eq!("and nothing is told", (end.count, end.serial), (0, 0));
    }
    let mut wrong = LedgerEnded::ZERO;
    check_eq!(
        "another version",
        xeno_op(XenoCommand::LedgerEnded, &mut wrong),
        -errno::EINVAL
    );
    let (refused, none) = ended(u64::MAX);
    check_eq!("none that is gone", refused, -errno::ENOENT);
    check_eq!("nothing of one", (none.serial, none.at), (0, 0));
}

fn create() -> u16 {
    let mut request = Domctl::new(DomctlCommand::Createdomain, 0);
    let mut payload = control::ordinary(1);
    payload.handle = [0xab; 16];
    request.set_payload(&payload);
    check_eq!("create", control::domctl(&mut request), 0);
    request.domain
}

/// Its chain costs it no more than it gives back.
fn a_chain_goes_with_its_domain() {
    check_eq!("destroy", control::destroy(create()), 0);
    let free = control::free_frames();
    let (first, second) = (create(), create());
    check_eq!("one grows", append(first, 0, 3, 5), 0);
    check_eq!("and is remembered", told(first), (3, [5; 32]));
    check_eq!("the other's is its own", told(second), (0, [0; 32]));
    let mut of = head(second);
    accepted("a head", xeno_op(XenoCommand::LedgerHead, &mut of));
    let mut other = head(first);
    accepted("a head", xeno_op(XenoCommand::LedgerHead, &mut other));
    check!(of.serial > other.serial, "one came after the other");
    check_eq!("destroy", control::destroy(first), 0);
    check_eq!(
        "none of one that is gone",
        append(first, 3, 4, 6),
        -errno::ESRCH
    );
    check_eq!("destroy", control::destroy(second), 0);
    check_eq!("free frames", control::free_frames(), free);
}

fn books() -> Books {
    let mut books = Books {
        version: XENO_INTERFACE_VERSION,
        cpu: BOOKS_OF_MACHINE,
        ..Books::ZERO
    };
    accepted(
        "a question for the books",
        xeno_op(XenoCommand::Books, &mut books),
    );
    books
}

fn used(domid: u16) -> Usage {
    let mut usage = Usage {
        version: XENO_INTERFACE_VERSION,
        domid,
        vcpu: USAGE_OF_DOMAIN,
        ..Usage::ZERO
    };
    accepted(
        "a question for usage",
        xeno_op(XenoCommand::Usage, &mut usage),
    );
    usage
}

fn wide([low, high]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// Step: counts for ever.
fn count(_: [u64; 5]) -> i64 {
    loop {
        if let Some(link) = child::link() {
            link.add(link::FREE, 1);
        }
    }
}

/// A domain that ran: its last account is complete.
fn what_is_gone_is_told_of() {
    let (_, before) = ended(u64::MAX);
    let departed = books().departed;
    let Some(mut child) = builder::running(Plan::SMALL) else {
        return;
    };
    child.start(count, [0; 5]);
    let link = child.link();
    check!(
        child.wait_until(|_| link.get(link::FREE) > 1000),
        "it counts"
    );
    check_eq!("pause", child.pause(), 0);
    let (id, last) = (child.id, used(child.id));
    let mut of = head(id);
    accepted("a head", xeno_op(XenoCommand::LedgerHead, &mut of));
    check_eq!("destroy", child.destroy(), 0);
    let (answer, told) = ended(before.ended);
    check_eq!("it is told of", answer, 0);
    check_eq!("one is gone", told.ended, before.ended + 1);
    check_eq!(
        "this one",
        (told.index, told.serial, told.domid),
        (before.ended, of.serial, id)
    );
    check!(last.kernel > 0, "it had run");
    check!(
        told.kernel >= last.kernel && told.user >= last.user,
        "all it used"
    );
    let all = told.user + told.kernel + told.hypervisor.iter().sum::<u64>();
    check_eq!(
        "by whose time",
        told.guaranteed + told.extra + told.elsewhere,
        all
    );
    check_eq!(
        "is what those that are gone used more",
        books().departed - departed,
        all
    );
    check_eq!("at most so many frames", told.frames_peak, last.frames_peak);
    check!(told.at > last.at, "it is of later");
    let (shown, held) = (wide(told.frame_cycles), wide(last.frame_cycles));
    let most = u128::from(told.frames_peak) * u128::from(told.at - last.at);
    check!(
        shown > held && shown <= held + most,
        "its memory to the end"
    );
    check!(
        wide(told.overhead_cycles) > wide(last.overhead_cycles),
        "and ring 0's"
    );
}

/// The last are remembered, under their numbers, and how many there were.
fn as_many_as_are_kept() {
    let kept = LEDGER_ENDED_KEPT as u64;
    let before = ended(0).1.ended;
    for _ in 0..kept + 6 {
        check_eq!("destroy", control::destroy(create()), 0);
    }
    let (answer, oldest) = ended(before);
    check_eq!("the oldest that is remembered", answer, 0);
    check_eq!("how many there were", oldest.ended, before + kept + 6);
    check_eq!("its number", oldest.index, before + 6);
    check_eq!("its handle", oldest.handle, [0xab; 16]);
    let mut serial = oldest.serial;
    for index in oldest.index + 1..oldest.ended {
        let (answer, next) = ended(index);
        check_eq!("the next", (answer, next.index), (0, index));
        check!(next.serial > serial, "came later");
        serial = next.serial;
    }
    check_eq!("the one that comes", ended(oldest.ended).0, -errno::ENOENT);
}
