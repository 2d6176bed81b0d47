//! The books of the machine while others run, and over more domains than are looked at in one go.

use guest_runtime::abi::usage::{BOOKS_OF_MACHINE, Books, USAGE_OF_DOMAIN};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::{check, check_eq, child, control, events};
use guests::accepted;
use guests::accounts::{self, usage_of};

use crate::SELF;

/// More than are looked at between two looks at interrupts.
const MANY: usize = 150;

/// Step: works without end.
fn works([..]: [u64; 5]) -> i64 {
    loop {
        accounts::spin(1000);
    }
}

/// The books, every domain's part of which is asked for: all of them are the books.
fn whole(domains: &[u16]) -> (Books, u64) {
    let books = accounts::books_of(BOOKS_OF_MACHINE);
    check_eq!(
        "all time is somebody's",
        books.idle + books.machine + books.sold,
        books.elapsed
    );
    check_eq!(
        "what was sold is held",
        books.held + books.departed,
        books.sold
    );
    let mut sum = 0;
    for id in domains {
        // Others run between two questions.
        let usage = usage_of(*id, USAGE_OF_DOMAIN);
        check_eq!("by those books", usage.books, books.number);
        sum += usage.books_used;
    }
    check_eq!("domains' parts are what is held", sum, books.held);
    (books, sum)
}

/// Lists the caller, two children and more.
fn list(children: [&Child; 2], more: &[u16], into: &mut [u16]) -> usize {
    let children = children.map(|child| child.id);
    let all = [SELF].iter().chain(&children).chain(more);
    let mut count = 0;
    for (to, id) in into.iter_mut().zip(all) {
        *to = *id;
        count += 1;
    }
    count
}

/// Windows of time, in which domains run, come and go.
pub fn add_up() {
    let (Some(mut one), Some(mut two)) =
        (builder::running(Plan::SMALL), builder::running(Plan::SMALL))
    else {
        return;
    };
    one.start(works, [0; 5]);
    two.start(works, [0; 5]);
    let mut ids = [0; MANY];
    for place in &mut ids {
        match control::create(&control::ordinary(1)) {
            Ok(id) => *place = id,
            Err(error) => {
                check_eq!("a domain", error, 0);
                return;
            }
        }
    }
    let mut all = [0; MANY + 3];
    let count = list([&one, &two], &ids, &mut all);
    let (mut before, mut domains) = whole(&all[..count]);
    for turn in 0..6 {
        child::wait(&[], events::now_ns() + 15_000_000);
        let (books, sum) = whole(&all[..count]);
        let idle_and_own = books.idle - before.idle + books.machine - before.machine;
        check_eq!(
            "a window",
            sum - domains + idle_and_own,
            books.elapsed - before.elapsed
        );
        check!(books.number > before.number, "each has its number");
        check!(
            turn == 0 || sum - domains >= 15_000_000 / 2,
            "the two were at work"
        );
        (before, domains) = (books, sum);
    }
    for id in ids {
        accepted("destroy", control::destroy(id));
        check!(builder::is_gone_soon(id), "it is gone");
    }
    let count = list([&one, &two], &[], &mut all);
    whole(&all[..count]);
    for child in [one, two] {
        check!(child.destroy_and_wait(), "the child is gone");
    }
}
