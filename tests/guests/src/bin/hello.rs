//! Proves that a guest starts as the interface says: registers, start_info, p2m and m2p, the initial page tables,
//! shared_info; that it can print, and power off. With the command line `stay` it does not end.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::entry::command_line;
use guest_runtime::guest;

guest!(hello, main, p2m_at 0x8000000000);

fn main() {
    guests::start::all(Some(0x80_0000_0000));
    // For tests of the hypervisor's own end, which wait for it while a guest runs.
    while command_line() == Some("stay") {
        core::hint::spin_loop();
    }
}
