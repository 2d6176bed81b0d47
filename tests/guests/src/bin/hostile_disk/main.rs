//! Proves that a disk that a guest may only read stays as it is whatever the guest asks of it, and that a wrong request
//! harms nobody but who makes it: a front end of its own asks what no kernel would.
//!
//! It has two disks of 1 MiB, `xvda` to be read, full of the letter R, and `xvdb` to be written, full of zeros; all is asked
//! of both. What it writes is the letter W, so the control domain can count in the files what arrived. Before the end it waits
//! for `bye`, with its rings as broken as it left them.
//!
//! xtask: domain=ordinary
#![cfg_attr(target_os = "none", no_std, no_main)]

mod pages;
mod requests;

use guest_runtime::abi::Wire;
use guest_runtime::abi::blkif::{
    BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_ERROR, BLKIF_RSP_OKAY, BlkifOp, BlkifRequest,
    BlkifRequestDiscard,
};
use guest_runtime::{check, check_eq, console, guest, say};
use guests::blkfront::Disk;

use pages::Pages;
use requests::{SECTORS, discard, indirect, piece, plain, whole};

guest!(hostile_disk, main);

/// Numbers of the disks' devices, as the store has them.
const READ_ONLY: &str = "51712";
const WRITABLE: &str = "51728";

/// Long enough for an answer that is not to come.
const NO_ANSWER_NS: u64 = 300_000_000;

/// How often a request is changed while the other end looks at it.
const CHANGES: u32 = 64;

/// The two disks, and what was written so far to the one that may be written.
struct Pair {
    read_only: Disk,
    writable: Disk,
    written: [bool; SECTORS as usize],
}

fn main() {
    let pages = Pages::new();
    match (
        Disk::connect(READ_ONLY, pages::RING),
        Disk::connect(WRITABLE, pages::RING + 1),
    ) {
        (Ok(read_only), Ok(writable)) => all(
            &mut Pair {
                read_only,
                writable,
                written: [false; SECTORS as usize],
            },
            &pages,
        ),
        (one, other) => check::fail(format_args!(
            "the disks are not connected: {:?}, {:?}",
            one.err(),
            other.err()
        )),
    }
    say!("everything was tried: {} wrong", check::failures());
    let mut line = [0; 8];
    while console::read_line(&mut line) != b"bye" {}
}

fn all(pair: &mut Pair, pages: &Pages) {
    check_eq!("sectors to read", pair.read_only.sectors, SECTORS);
    check_eq!("sectors to write", pair.writable.sectors, SECTORS);
    check!(pair.read_only.read_only, "the one disk may only be read");
    check!(!pair.writable.read_only, "the other may be written");
    the_other_ends_nodes(pair);
    pair.reads(pages);
    pair.writes();
    pair.wrong_places();
    pair.wrong_pages(pages);
    pair.wrong_indirect(pages);
    pair.wrong_numbers();
    pair.changed_meanwhile();
    // As before, after all that.
    pair.reads(pages);
    pair.looks_at_all(pages);
    pair.broken_ring();
}

/// The nodes that say what a disk is are not the guest's to change.
fn the_other_ends_nodes(pair: &Pair) {
    for (node, value) in [
        ("/mode", "w"),
        ("/physical-device", "1:0"),
        ("/params", "/etc/passwd"),
        ("/state", "6"),
    ] {
        let said = pair.read_only.write_back_end(node, value);
        check_eq!("a node of the back end", said.text(), "EACCES");
    }
    let said = pair.read_only.remove_back_end("/mode");
    check_eq!("the back end's mode", said.text(), "EACCES");
}

impl Pair {
    /// Asks both disks and compares what they answer.
    fn both(&mut self, what: &str, request: &impl Wire, wanted: [i16; 2]) {
        for (disk, wanted) in [&mut self.read_only, &mut self.writable]
            .into_iter()
            .zip(wanted)
        {
            let answer = disk.ask(request);
            let status = answer.map(|answer| answer.status);
            check_eq!(what, status, Some(wanted));
            let id = answer.map(|answer| answer.id);
            check_eq!("the request's number", id, Some(requests::ID));
        }
    }

    /// What is wrong on either disk.
    fn wrong(&mut self, what: &str, request: &impl Wire) {
        self.both(what, request, [BLKIF_RSP_ERROR; 2]);
    }

    /// What is right where a disk may be written: `count` sectors from `first`.
    fn write(&mut self, what: &str, request: &impl Wire, first: usize, count: usize) {
        self.both(what, request, [BLKIF_RSP_ERROR, BLKIF_RSP_OKAY]);
        self.written[first..first + count].fill(true);
    }

    /// Both can be read, and have in them what they should.
    fn reads(&mut self, pages: &Pages) {
        pages.target.clear();
        let request = plain(BlkifOp::Read, 16, &[whole(pages::TARGET)]);
        let answer = self.read_only.ask(&request).map(|answer| answer.status);
        check_eq!("a read", answer, Some(BLKIF_RSP_OKAY));
        check!(
            pages::is_full_of(pages.target, pages::READ_LETTER),
            "what is read is what the file has"
        );
        let answer = self.writable.ask(&request).map(|answer| answer.status);
        check_eq!("a read of the other", answer, Some(BLKIF_RSP_OKAY));
    }

    /// Every form of writing there is.
    fn writes(&mut self) {
        let some = |op, at| plain(op, at, &[piece(pages::DATA, 0, 0)]);
        self.write("a write", &some(BlkifOp::Write, 8), 8, 1);
        let full = plain(BlkifOp::Write, 16, &[whole(pages::DATA); 11]);
        self.write("a write of eleven pages", &full, 16, 88);
        let barrier = some(BlkifOp::WriteBarrier, 200);
        self.write("a barrier", &barrier, 200, 1);
        let flush = plain(BlkifOp::FlushDiskcache, 0, &[]);
        self.write("a flush", &flush, 0, 0);
        let carrying = some(BlkifOp::FlushDiskcache, 208);
        self.write("a flush that carries data", &carrying, 208, 1);
        let lent_to_read = plain(BlkifOp::Write, 216, &[whole(pages::DATA_READ_ONLY)]);
        self.write("a write of a page lent to be read", &lent_to_read, 216, 8);
        let last = some(BlkifOp::Write, SECTORS - 1);
        self.write("a write of the last sector", &last, SECTORS as usize - 1, 1);
        let sixteen = indirect(BlkifOp::Write, 224, 16, pages::LIST);
        self.write("an indirect write", &sixteen, 224, 128);
        let named = BlkifRequest {
            handle: 51728,
            ..some(BlkifOp::Write, 360)
        };
        self.write("a write that names the other disk", &named, 360, 1);
        self.write("a discard", &discard(400, 8), 0, 0);
        let secure = BlkifRequestDiscard {
            flag: 1,
            ..discard(408, 8)
        };
        self.write("a secure discard", &secure, 0, 0);
    }

    /// Sectors that are not on the disk, also where a sum of them is.
    fn wrong_places(&mut self) {
        for (at, what) in [
            (SECTORS, "behind the end"),
            (SECTORS - 7, "across the end"),
            (u64::MAX, "where the sum wraps"),
            (u64::MAX - 7, "where the sum is zero"),
            (1 << 55, "where the bytes wrap"),
            ((1 << 55) + 8, "where the bytes wrap to a place on the disk"),
            (1 << 63, "where the sign is"),
        ] {
            for op in [
                BlkifOp::Read,
                BlkifOp::Write,
                BlkifOp::WriteBarrier,
                BlkifOp::FlushDiskcache,
            ] {
                self.wrong(what, &plain(op, at, &[whole(pages::DATA)]));
            }
            self.wrong(what, &indirect(BlkifOp::Write, at, 1, pages::LIST));
            self.wrong(what, &discard(at, 8));
        }
        self.wrong("a discard that wraps", &discard(8, u64::MAX - 3));
        self.wrong("a discard of all and more", &discard(0, SECTORS + 1));
    }

    /// Pages that are not lent, or not to whom or for what they are used; and pieces that are none.
    fn wrong_pages(&mut self, pages: &Pages) {
        for (gref, what) in [
            (pages::NEVER, "a page that was never lent"),
            (100_000, "an entry that there is not"),
            (u32::MAX, "the last entry of all"),
            (pages::FOR_ANOTHER, "a page that is lent to another"),
            (pages::NOT_OURS, "a frame that is not the guest's"),
            (pages::NO_FRAME, "a frame that there is not"),
        ] {
            for op in [BlkifOp::Read, BlkifOp::Write] {
                self.wrong(what, &plain(op, 480, &[whole(gref)]));
                let second = [whole(pages::DATA), whole(gref)];
                self.wrong(what, &plain(op, 480, &second));
            }
        }
        let kept = plain(BlkifOp::Read, 16, &[whole(pages::KEPT)]);
        self.wrong("a read into a page lent to be read", &kept);
        check!(
            pages::is_full_of(pages.kept, pages::KEPT_LETTER),
            "a page lent to be read is not written"
        );
        for (first, last) in [(0, 8), (7, 8), (3, 2), (0, 255), (255, 255), (255, 0)] {
            for op in [BlkifOp::Read, BlkifOp::Write] {
                let pieces = [piece(pages::DATA, first, last)];
                self.wrong("a piece that is none", &plain(op, 480, &pieces));
            }
        }
    }

    /// Lists of segments that lie about their length, place or contents.
    fn wrong_indirect(&mut self, pages: &Pages) {
        for count in [0, 257, 4096, u16::MAX] {
            let long = indirect(BlkifOp::Write, 480, count, pages::LIST);
            self.wrong("a list of the wrong length", &long);
        }
        for op in [
            BlkifOp::WriteBarrier,
            BlkifOp::FlushDiskcache,
            BlkifOp::Discard,
            BlkifOp::Indirect,
        ] {
            let inner = indirect(op, 480, 1, pages::LIST);
            self.wrong("a list for another operation", &inner);
        }
        for gref in [pages::NEVER, pages::FOR_ANOTHER, pages::NOT_OURS, u32::MAX] {
            let lost = indirect(BlkifOp::Write, 480, 8, gref);
            self.wrong("a list that cannot be read", &lost);
        }
        pages.spoil_list();
        for op in [BlkifOp::Read, BlkifOp::Write] {
            let bad = indirect(op, 480, 16, pages::LIST);
            self.wrong("a list with a wrong piece", &bad);
        }
    }

    /// Numbers of operations that there are not, and of segments that a request has no room for.
    fn wrong_numbers(&mut self) {
        let request = plain(BlkifOp::Write, 480, &[whole(pages::DATA)]);
        for operation in [4, 7, 0x7f, 0xff] {
            let unknown = BlkifRequest {
                operation,
                ..request
            };
            let wanted = [BLKIF_RSP_EOPNOTSUPP; 2];
            self.both("an operation that there is not", &unknown, wanted);
        }
        for nr_segments in [0, 12, 255] {
            for op in [BlkifOp::Read, BlkifOp::Write, BlkifOp::WriteBarrier] {
                let many = BlkifRequest {
                    operation: op.number(),
                    nr_segments,
                    ..request
                };
                if (op, nr_segments) != (BlkifOp::WriteBarrier, 0) {
                    self.wrong("a number of segments", &many);
                }
            }
        }
    }

    /// A read that becomes a write while the other end looks at it: of the disk that may only be read.
    fn changed_meanwhile(&mut self) {
        let read = plain(BlkifOp::Read, 480, &[whole(pages::TARGET)]);
        let write = plain(BlkifOp::Write, 480, &[whole(pages::DATA); 11]);
        for _ in 0..CHANGES {
            let answer = self.read_only.ask_and_change(&read, &write);
            check!(
                answer.is_some(),
                "a request that changes is answered as what it was or what it is"
            );
        }
    }

    /// What was written is where it should be, and nothing is anywhere else.
    fn looks_at_all(&mut self, pages: &Pages) {
        let mut astray = 0;
        for first in (0..SECTORS as usize).step_by(8) {
            let request = plain(BlkifOp::Read, first as u64, &[whole(pages::TARGET)]);
            let answer = self.writable.ask(&request).map(|answer| answer.status);
            check_eq!("a read", answer, Some(BLKIF_RSP_OKAY));
            for (sector, written) in self.written[first..first + 8].iter().enumerate() {
                let letter = if *written { pages::WRITTEN_LETTER } else { 0 };
                if !pages::is_sector_full_of(pages.target, sector, letter) {
                    astray += 1;
                }
            }
        }
        check_eq!("sectors that are not as they should be", astray, 0);
        let written = self.written.iter().filter(|written| **written).count();
        say!("sectors written: {written}");
    }

    /// An index that is beyond the ring ends that ring and no other.
    fn broken_ring(&mut self) {
        self.writable.publish(self.writable.beyond());
        let answer = self.writable.answer(NO_ANSWER_NS);
        check!(
            answer.is_none(),
            "a ring whose index is wrong is not served"
        );
        let request = plain(BlkifOp::Read, 16, &[whole(pages::TARGET)]);
        let answer = self.read_only.ask(&request).map(|answer| answer.status);
        check_eq!("the other ring", answer, Some(BLKIF_RSP_OKAY));
    }
}
