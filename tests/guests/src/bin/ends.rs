//! Talks to the echo end in ring 0, and attacks it: every wrong way of attaching it, indices out of range, ports closed
//! and grants taken back while it is attached. Nothing stays held, and what is held is counted.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::SeqCst;

use guest_runtime::abi::ends::DOMID_ECHO;
use guest_runtime::abi::ends::echo_ring::{
    BROKEN, FIRST_REQUEST, FIRST_RESPONSE, GOOD, REQUESTS, RESPONSES, SLOT_BYTES, SLOTS, STATE,
};
use guest_runtime::abi::event::Reset;
use guest_runtime::abi::grant::*;
use guest_runtime::abi::xeno::{
    AttachEnd, Audit, DetachEnd, MAX_END_PAGES, XENO_INTERFACE_VERSION, XenoCommand,
};
use guest_runtime::abi::{DOMID_SELF, HOLE_START, MulticallEntry, errno, evtchn, nr};
use guest_runtime::frames::{self, Page};
use guest_runtime::hypercall::{call, event_channel, multicall, update_va_mapping};
use guest_runtime::{check, check_eq, events, guest, page_table, skip};
use guests::channels::{self, alloc_unbound, bind_interdomain, bind_ipi, close, kind, notify};
use guests::{accepted, refused};

guest!(ends, main);

const ECHO: u16 = DOMID_ECHO;
const GREF: u32 = 8;
const BITS: u16 = GTF_READING | GTF_WRITING;
const LENT: u16 = GTF_PERMIT_ACCESS;
/// No end.
const NO_END: [u16; 6] = [0, 1, 0x7fdf, ECHO + 1, 0x7fef, DOMID_SELF as u16];

/// The first frame of our grant table.
struct Table(Page);

impl Table {
    fn new() -> Table {
        let mut frame = 0u64;
        let mut setup = SetupTable {
            dom: DOMID_SELF as u16,
            nr_frames: 1,
            frame_list: &raw mut frame as u64,
            ..SetupTable::ZERO
        };
        let at = &raw mut setup as u64;
        let result = call(nr::GRANT_TABLE_OP, [2, at, 1, 0, 0]);
        assert!(result == 0 && setup.status == GNTST_OKAY, "no grant table");
        let page = frames::allocate();
        let entry = frame << 12 | page_table::bits::KERNEL_RW;
        let mapped = update_va_mapping(page.va(), entry);
        assert!(mapped == 0, "the grant table cannot be mapped: {mapped}");
        Table(page)
    }

    fn set(&self, gref: u32, flags: u16, domain: u16, frame: u64) {
        let entry = u64::from(flags) | u64::from(domain) << 16 | frame << 32;
        self.0.write(gref as usize, entry);
    }

    fn flags(&self, gref: u32) -> u16 {
        self.0.read(gref as usize) as u16
    }
}

/// The ring and where the guest stands.
struct Bench {
    table: Table,
    ring: Page,
    port: u32,
}

fn half(page: Page, offset: usize) -> &'static AtomicU32 {
    // SAFETY: a page of ours, mapped for good; callers give an aligned offset in it.
    unsafe { AtomicU32::from_ptr((page.va() as *mut u32).add(offset / 4)) }
}

/// A word of the question of this index.
fn question(index: u32, word: usize) -> u64 {
    u64::from(index) << 32 | (word as u64 + 7)
}

impl Bench {
    fn get(&self, offset: usize) -> u32 {
        half(self.ring, offset).load(SeqCst)
    }

    fn put(&self, offset: usize, value: u32) {
        half(self.ring, offset).store(value, SeqCst);
    }

    fn word(at: usize, slot: u32, word: usize) -> usize {
        (at + (slot % SLOTS) as usize * SLOT_BYTES) / 8 + word
    }

    /// Asks `count` questions, each six words that name it; the index that answers will have.
    fn ask(&self, count: u32) -> u32 {
        let first = self.get(REQUESTS);
        for index in 0..count {
            let index = first.wrapping_add(index);
            for word in 0..SLOT_BYTES / 8 {
                let value = question(index, word);
                self.ring
                    .write(Self::word(FIRST_REQUEST, index, word), value);
            }
        }
        self.put(REQUESTS, first.wrapping_add(count));
        first.wrapping_add(count)
    }

    /// Whether the last `count` answers before this index are those to the questions.
    fn answered(&self, index: u32, count: u32) -> bool {
        self.get(RESPONSES) == index
            && (0..count).all(|back| {
                let index = index.wrapping_sub(back + 1);
                (0..SLOT_BYTES / 8).all(|word| {
                    let got = self.ring.read(Self::word(FIRST_RESPONSE, index, word));
                    got == question(index, word)
                })
            })
    }

    fn round(&self, what: &str, count: u32) {
        let index = self.ask(count);
        accepted(what, notify(self.port));
        check!(self.answered(index, count), what);
        check!(events::clear_port(self.port), what);
    }

    fn wanted(&self) -> AttachEnd {
        let mut grefs = [0; MAX_END_PAGES];
        grefs[0] = GREF;
        AttachEnd {
            version: XENO_INTERFACE_VERSION,
            domid: DOMID_SELF as u16,
            end: ECHO,
            port: self.port,
            nr_grefs: 1,
            grefs,
            ..AttachEnd::ZERO
        }
    }

    fn attach(&self) -> i64 {
        attach(&mut self.wanted())
    }
}

fn attach(want: &mut AttachEnd) -> i64 {
    let command = u64::from(XenoCommand::AttachEnd.number());
    call(nr::XENO_OP, [command, &raw mut *want as u64, 0, 0, 0])
}

fn detach(domid: u16, port: u32) -> i64 {
    let mut want = DetachEnd {
        version: XENO_INTERFACE_VERSION,
        domid,
        port,
        ..DetachEnd::ZERO
    };
    let command = u64::from(XenoCommand::DetachEnd.number());
    call(nr::XENO_OP, [command, &raw mut want as u64, 0, 0, 0])
}

fn audit() -> Audit {
    let mut audit = Audit {
        version: XENO_INTERFACE_VERSION,
        domid: DOMID_SELF as u16,
        ..Audit::ZERO
    };
    let at = &raw mut audit as u64;
    accepted("audit", call(nr::XENO_OP, [0, at, 0, 0, 0]));
    check_eq!("no count is wrong", audit.mismatches, 0);
    audit
}

fn main() {
    let mut nothing = AttachEnd::ZERO;
    if attach(&mut nothing) == -errno::ENOSYS {
        skip!("another hypervisor, which has no ends");
        return;
    }
    let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
        check!(false, "a port for the end");
        return;
    };
    let bench = Bench {
        table: Table::new(),
        ring: frames::allocate(),
        port,
    };
    bench.ring.clear();
    bench.table.set(GREF, LENT, ECHO, bench.ring.mfn());
    wrong_ends(&bench);
    wrong_grants(&bench);
    wrong_ports(&bench);
    by_other_means(&bench);
    asked_before(&bench);
    rounds(&bench);
    held(&bench);
    lies(&bench);
    taken_back(&bench);
    closed(&bench);
    many(&bench);
    // The last one is left to whoever takes the domain apart.
    bench.table.set(GREF, LENT, ECHO, bench.ring.mfn());
    let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
        return;
    };
    accepted("attached for good", Bench { port, ..bench }.attach());
}

/// That nothing was changed by a refusal.
fn untouched(bench: &Bench) {
    check_eq!("the port waits", kind(bench.port), 1);
    check_eq!("no bits", bench.table.flags(GREF) & BITS, 0);
}

fn wrong_ends(bench: &Bench) {
    for end in NO_END {
        let mut want = AttachEnd {
            end,
            ..bench.wanted()
        };
        check_eq!("no end of this number", attach(&mut want), -errno::ENODEV);
    }
    for version in [0, 2, u32::MAX] {
        let mut want = AttachEnd {
            version,
            ..bench.wanted()
        };
        check_eq!("no such version", attach(&mut want), -errno::EINVAL);
    }
    for nr_grefs in [0, 2, 4, 5, u32::MAX] {
        let mut want = AttachEnd {
            nr_grefs,
            ..bench.wanted()
        };
        check_eq!("not one frame", attach(&mut want), -errno::EINVAL);
    }
    for domid in [1, 0x7fdf, ECHO, 0x7ff1, 0x7ff4, 0xffff] {
        let mut want = AttachEnd {
            domid,
            ..bench.wanted()
        };
        check_eq!("no such domain", attach(&mut want), -errno::ESRCH);
        let gone = detach(domid, bench.port);
        check_eq!("no such domain to detach", gone, -errno::ESRCH);
    }
    for address in [0, HOLE_START, u64::MAX - 7] {
        for command in [8, 9] {
            let result = call(nr::XENO_OP, [command, address, 0, 0, 0]);
            check_eq!("an argument nowhere", result, -errno::EFAULT);
        }
    }
    check_eq!("none is attached", detach(0, bench.port), -errno::EINVAL);
    untouched(bench);
}

fn wrong_grants(bench: &Bench) {
    let data = bench.ring.mfn();
    let root = page_table::root().mfn();
    let cases = [
        (0, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT | GTF_READONLY, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT, 0, data, GNTST_GENERAL_ERROR),
        (LENT, ECHO + 1, data, GNTST_GENERAL_ERROR),
        (LENT, DOMID_SELF as u16, data, GNTST_GENERAL_ERROR),
        (GTF_ACCEPT_TRANSFER, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT | GTF_SUB_PAGE, ECHO, data, GNTST_GENERAL_ERROR),
        (LENT, ECHO, root, GNTST_GENERAL_ERROR),
        (LENT, ECHO, 0xfff_ffff, GNTST_BAD_PAGE),
        (LENT, ECHO, 0xfee00, GNTST_BAD_PAGE),
    ];
    for (flags, domain, frame, status) in cases {
        bench.table.set(GREF, flags, domain, frame);
        let mut want = bench.wanted();
        check_eq!("a grant not for it", attach(&mut want), -errno::EACCES);
        check_eq!("why", (want.refused, want.status), (0, status));
        untouched(bench);
    }
    bench.table.set(GREF, LENT, ECHO, data);
    for gref in [512, 100_000, u32::MAX] {
        let mut want = bench.wanted();
        want.grefs[0] = gref;
        check_eq!("beyond the table", attach(&mut want), -errno::EACCES);
        check_eq!("why", want.status, GNTST_BAD_GNTREF);
    }
    untouched(bench);
}

fn wrong_ports(bench: &Bench) {
    let (Ok(ipi), Ok(other)) = (bind_ipi(0), alloc_unbound(0)) else {
        check!(false, "two ports");
        return;
    };
    for port in [0, ipi, other, 300, 4095, 4096, u32::MAX] {
        let mut want = AttachEnd {
            port,
            ..bench.wanted()
        };
        check_eq!("not a port for it", attach(&mut want), -errno::EINVAL);
        check_eq!("nor attached", detach(0, port), -errno::EINVAL);
        untouched(bench);
    }
    accepted("close", close(ipi));
    accepted("close", close(other));
}

/// An end is a domain for ports and grants only.
fn by_other_means(bench: &Bench) {
    let bound = bind_interdomain(u64::from(ECHO), 1);
    check_eq!("bind to an end's port", bound, Err(-errno::ESRCH));
    accepted("unheard", notify(bench.port));
    check_eq!("nobody answers", bench.get(RESPONSES), 0);
    untouched(bench);
}

fn asked_before(bench: &Bench) {
    events::set_port_mask(bench.port, true);
    // As many as the ring holds: more than is done in one piece.
    let index = bench.ask(SLOTS);
    accepted("unheard", notify(bench.port));
    accepted("attach", bench.attach());
    check!(bench.answered(index, SLOTS), "what was asked before");
    check!(events::clear_port(bench.port), "the event");
    check_eq!("attached twice", bench.attach(), -errno::EINVAL);
    check_eq!("it is held", bench.table.flags(GREF), LENT | BITS);
}

fn rounds(bench: &Bench) {
    bench.round("one question", 1);
    bench.round("all there is room for", SLOTS);
    for count in 1..=SLOTS {
        bench.round("questions", count);
    }
    accepted("nothing asked", notify(bench.port));
    check!(!events::clear_port(bench.port), "no event without work");
    // The port is an ordinary one otherwise.
    let status = channels::status(bench.port).unwrap_or_default();
    check_eq!(
        "a link to the end",
        (status.status, status.peer as u16),
        (2, ECHO)
    );
    check_eq!("to another vCPU", channels::bind_vcpu(bench.port, 0), 0);
    check_eq!(
        "to none",
        channels::bind_vcpu(bench.port, 64),
        -errno::ENOENT
    );
    bench.round("afterwards", 3);
    let index = bench.ask(SLOTS);
    let mut send = guest_runtime::abi::event::Send { port: bench.port };
    let arguments = [evtchn::SEND, &raw mut send as u64, 0, 0, 0, 0];
    let mut calls = [MulticallEntry {
        op: nr::EVENT_CHANNEL_OP,
        args: arguments,
        ..MulticallEntry::ZERO
    }; 3];
    accepted("in a batch", multicall(&mut calls));
    check!(calls.iter().all(|call| call.result == 0), "each of it");
    check!(bench.answered(index, SLOTS), "all answers");
    check!(events::clear_port(bench.port), "one event");
    // Across the end of the indices.
    accepted("detach", detach(0, bench.port));
    bench.put(REQUESTS, u32::MAX - 5);
    bench.put(RESPONSES, u32::MAX - 5);
    accepted("attach at the very end", bench.attach());
    check!(!events::clear_port(bench.port), "nothing was asked");
    for _ in 0..4 {
        bench.round("over the end", 9);
    }
}

/// What is attached is counted, and stays what it is.
fn held(bench: &Bench) {
    let attached = audit();
    accepted("detach", detach(DOMID_SELF as u16, bench.port));
    let detached = audit();
    check_eq!(
        "one reference",
        attached.type_references,
        detached.type_references + 1
    );
    untouched(bench);
    check_eq!("it is detached", detach(0, bench.port), -errno::EINVAL);
    accepted("unheard", notify(bench.port));
    accepted("attach again", bench.attach());
    bench.round("as before", 2);
    // The granter may write what it likes: the frame stays in use until the end has let go of it.
    let other = frames::allocate();
    bench.table.set(GREF, LENT | BITS, ECHO, other.mfn());
    bench.round("the frame it was", 5);
    bench.table.set(GREF, 0, 0, 0);
    bench.round("revoked", 5);
    accepted("detach", detach(0, bench.port));
    bench.table.set(GREF, LENT, ECHO, bench.ring.mfn());
}

/// Indices no ring has: the end says so, and does nothing more.
fn lies(bench: &Bench) {
    for lie in [SLOTS + 1, 1 << 31, u32::MAX, u32::MAX - SLOTS] {
        accepted("attach", bench.attach());
        bench.round("honest", 4);
        let (asked, answered) = (bench.get(REQUESTS), bench.get(RESPONSES));
        bench.put(REQUESTS, asked.wrapping_add(lie));
        accepted("a lie", notify(bench.port));
        check!(!events::clear_port(bench.port), "no event for it");
        check_eq!("no answer", bench.get(RESPONSES), answered);
        check_eq!("it is broken", bench.get(STATE), BROKEN);
        bench.put(REQUESTS, asked.wrapping_add(1));
        accepted("honest again", notify(bench.port));
        check_eq!("too late", bench.get(RESPONSES), answered);
        accepted("detach", detach(0, bench.port));
        check_eq!("no bits", bench.table.flags(GREF), LENT);
        bench.put(REQUESTS, asked);
    }
    // A lie that waits already when it is attached.
    let asked = bench.get(REQUESTS);
    bench.put(REQUESTS, asked.wrapping_add(SLOTS + 1));
    accepted("attach", bench.attach());
    check_eq!("broken from the start", bench.get(STATE), BROKEN);
    accepted("detach", detach(0, bench.port));
    bench.put(REQUESTS, asked);
    accepted("attach", bench.attach());
    check_eq!("good again", bench.get(STATE), GOOD);
    bench.round("honest", SLOTS);
    accepted("detach", detach(0, bench.port));
}

/// The frame is not the guest's to make a table of while it is attached, whether it has it mapped or not.
fn taken_back(bench: &Bench) {
    use guest_runtime::abi::mmuext::{PIN_L1, UNPIN};
    use guest_runtime::hypercall::mmuext;
    let table = frames::allocate();
    table.clear();
    accepted("read-only", page_table::protect(table));
    bench.table.set(GREF, LENT, ECHO, table.mfn());
    accepted("attach", bench.attach());
    refused("pin what is attached", mmuext(PIN_L1, table.mfn(), 0));
    accepted("detach", detach(0, bench.port));
    accepted("pin", mmuext(PIN_L1, table.mfn(), 0));
    check_eq!("attach a table", bench.attach(), -errno::EACCES);
    accepted("unpin", mmuext(UNPIN, table.mfn(), 0));
    bench.table.set(GREF, LENT, ECHO, bench.ring.mfn());
}

/// Closing the port, or all of them, ends the link and gives the frame back before the call returns.
fn closed(bench: &Bench) {
    accepted("attach", bench.attach());
    accepted("close", close(bench.port));
    check_eq!("closed", kind(bench.port), 0);
    check_eq!("no bits", bench.table.flags(GREF), LENT);
    check_eq!("send", notify(bench.port), -errno::EINVAL);
    check_eq!("none is attached", detach(0, bench.port), -errno::EINVAL);
    let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
        check!(false, "another port");
        return;
    };
    check_eq!("the same number", port, bench.port);
    accepted("attach", bench.attach());
    bench.round("as ever", 1);
    let mut all = Reset {
        dom: DOMID_SELF as u16,
    };
    accepted("reset", event_channel(evtchn::RESET, &mut all));
    check_eq!("no bits", bench.table.flags(GREF), LENT);
    audit();
}

/// As many links as a domain may have, all to one frame, and all given back.
fn many(bench: &Bench) {
    let before = audit();
    let mut links = 0;
    let refusal = loop {
        let Ok(port) = alloc_unbound(u64::from(ECHO)) else {
            break 0;
        };
        let mut want = AttachEnd {
            port,
            ..bench.wanted()
        };
        match attach(&mut want) {
            0 => links += 1,
            error => break error,
        }
    };
    check_eq!("there is an end to it", refusal, -errno::ENOSPC);
    check!((64..300).contains(&links), "but not early");
    let during = audit();
    check_eq!(
        "each holds its reference",
        during.type_references,
        before.type_references + links
    );
    let mut all = Reset {
        dom: DOMID_SELF as u16,
    };
    accepted("reset", event_channel(evtchn::RESET, &mut all));
    check_eq!("no bits", bench.table.flags(GREF), LENT);
    let after = audit();
    check_eq!(
        "all references are back",
        after.type_references,
        before.type_references
    );
}
