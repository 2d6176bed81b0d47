//! A domain that gives frames up and takes them back, as a balloon driver does, within what it may have.

use guest_runtime::{check_eq, control};
use guests::accepted;

use crate::{steps, with_child};

pub fn all() {
    with_child(|child| {
        let total =
            |child: &guest_runtime::builder::Child| child.info().map_or(0, |info| info.tot_pages);
        let base = total(child);
        accepted("as much as it has", control::max_mem(child.id, base));
        for slot in 0..8 {
            child.call(steps::take, [slot, 0x77, 0, 0, 0]);
            check_eq!(
                "given up",
                child.call(steps::give_up, [slot, 0, 0, 0, 0]),
                1
            );
        }
        check_eq!("what it has", total(child), base - 8);
        // The target falls while the balloon is blown up.
        accepted("five fewer", control::max_mem(child.id, base - 5));
        for slot in 0..3 {
            check_eq!("back", child.call(steps::get_back, [slot, 0, 0, 0, 0]), 1);
        }
        check_eq!(
            "not beyond",
            child.call(steps::get_back, [3, 0, 0, 0, 0]),
            0
        );
        check_eq!("what it has", total(child), base - 5);
        accepted("as before", control::max_mem(child.id, base));
        for slot in 3..8 {
            check_eq!("back", child.call(steps::get_back, [slot, 0, 0, 0, 0]), 1);
        }
        check_eq!("what it has", total(child), base);
        for slot in 0..8 {
            child.call(steps::release, [slot, 0, 0, 0, 0]);
        }
    });
}
