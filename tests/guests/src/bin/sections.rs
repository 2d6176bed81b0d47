//! Does the longest things there are to ask for, for `measure=sections` to see how long ring 0 lets nobody in: trees of
//! full tables, long batches, large extents.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::guest;

guest!(sections, main);

fn main() {}
