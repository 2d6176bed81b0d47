//! Proves that the control calls which make, describe, pause and destroy domains answer as Xen 4.17 does, right and wrong
//! ones, and that a domain destroyed at any stage of being made leaves exactly what was before.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod calls;
mod granted;
mod lives;
mod refusals;
mod settings;

use guest_runtime::guest;

guest!(domain_calls, main);

fn main() {
    refusals::all();
    lives::all();
    settings::all();
    granted::all();
}
