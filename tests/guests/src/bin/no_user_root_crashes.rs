//! Attacks by a return to user mode while there is no user root table. The domain must be crashed, not run user
//! mode under the kernel's root.
#![cfg_attr(target_os = "none", no_std, no_main)]

use guest_runtime::abi::mmuext;
use guest_runtime::{check, check_eq, guest, hypercall, trap, user};
use guests::code::code_ud2;
use guests::expect::Mode;

guest!(no_user_root_crashes, main);

fn main() {
    user::enable();
    check_eq!(
        "no user root",
        hypercall::mmuext(mmuext::NEW_USER_BASEPTR, 0, 0),
        0
    );
    check::expect_crash();
    trap::run(&Mode::User.context(code_ud2()));
    check::survived("user mode without a root");
}
