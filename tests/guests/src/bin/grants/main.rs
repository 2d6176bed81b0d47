//! Proves that grant tables of version 1 answer as Xen 4.17 answers the initial domain, which lends to itself: set-up,
//! mapping, unmapping and copying with every status, and the granter's bits exactly while a grant is in use.
#![cfg_attr(target_os = "none", no_std, no_main)]

mod bench;
mod copies;
mod maps;
mod set_up;
mod uses;

use bench::Bench;
use guest_runtime::abi::grant::GTF_PERMIT_ACCESS;
use guest_runtime::page_table::bits;
use guest_runtime::{frames, guest, hypercall};
use guests::accepted;

guest!(grants, main);

fn main() {
    let frame = set_up::all();
    let bench = Bench {
        table: frames::allocate(),
        data: frames::allocate(),
        window: frames::allocate(),
    };
    let entry = frame << 12 | bits::KERNEL_RW;
    accepted(
        "the table is mapped",
        hypercall::update_va_mapping(bench.table.va(), entry),
    );
    bench.data.write(0, 0x1122_3344_5566_7788);
    bench.set(8, GTF_PERMIT_ACCESS, 0, bench.data.mfn());
    maps::all(&bench, frame);
    uses::all(&bench);
    copies::all(&bench);
}
