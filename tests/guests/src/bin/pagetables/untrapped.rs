//! Writes that are never emulated: to tables of the upper levels, whatever the instruction.

use guest_runtime::abi::mmuext;
use guest_runtime::check_eq;
use guest_runtime::context::Context;
use guest_runtime::hypercall::mmuext as op;
use guest_runtime::page_table::{self, Slot};
use guests::accepted;
use guests::expect::{Expected, Mode, run_and_compare};

use crate::trapped::{code_lock_and, code_lock_btr, code_mov, code_mov_immediate, code_xchg};

/// Tables of the upper levels take no trapped writes at all.
pub fn all() {
    for (pin, index) in [
        (mmuext::PIN_L2, 3),
        (mmuext::PIN_L3, 3),
        (mmuext::PIN_L4, 3),
        (mmuext::PIN_L4, 300),
    ] {
        let table = page_table::new_table();
        accepted("pin", op(pin, table.mfn(), 0));
        for code in [
            code_mov(),
            code_xchg(),
            code_lock_and(),
            code_lock_btr(),
            code_mov_immediate(),
        ] {
            let slot = Slot { table, index };
            let context = Context {
                rdi: slot.va(),
                rsi: 0,
                ..Mode::Kernel.context(code)
            };
            let trap = run_and_compare(
                "a write to an upper table",
                &context,
                Expected::fault_code(14, 3),
            );
            check_eq!("its address", trap.cr2, slot.va());
            check_eq!("the entry", slot.value(), 0);
        }
        accepted("unpin", op(mmuext::UNPIN, table.mfn(), 0));
        page_table::release_table(table);
    }
}
