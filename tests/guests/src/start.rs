//! What a kernel finds when it starts: registers, start_info, p2m and m2p, the initial page tables, shared_info. The
//! same for every kernel, wherever it asked to be placed, and nearly the same for the initial domain and for others.

use guest_runtime::abi::{CODE64, DATA, SIF_INITDOMAIN, SIF_PRIVILEGED};
use guest_runtime::context::flags;
use guest_runtime::entry::{command_line, entry_state, start_info};
use guest_runtime::frames::{Page, mfn_to_pfn, pfn_to_mfn, virt_base};
use guest_runtime::page_table::{self, bits};
use guest_runtime::{check, check_eq, child, events, hypercall, say};

/// Checks all of it. `p2m` is where the kernel's notes want the frame list, if they say.
pub fn all(p2m: Option<u64>) {
    let version = hypercall::version();
    say!(
        "a guest on interface version {}.{}, its page 0 at {:#x}",
        version >> 16,
        version & 0xffff,
        virt_base()
    );
    check_eq!("interface version", version, 4 << 16 | 17);
    entry_registers();
    start_info_fields(p2m);
    machine_lists();
    initial_tables();
    shared_page();
}

fn entry_registers() {
    let entry = entry_state();
    let [cs, ss, ds, es, fs, gs] = entry.selectors;
    check_eq!("CS at entry", cs, CODE64);
    check_eq!("SS at entry", ss, DATA);
    check_eq!("DS at entry", ds, 0);
    check_eq!("ES at entry", es, 0);
    check_eq!("FS at entry", fs, 0);
    check_eq!("GS at entry", gs, 0);
    check_eq!("RFLAGS at entry", entry.rflags, flags::ALWAYS | flags::IF);
    check_eq!("other registers at entry", entry.other_registers, 0);
    check_eq!("RSI at entry is page-aligned", entry.start_info % 4096, 0);
    check!(
        page_table::is_linear(entry.rsp - 8),
        "the boot stack is mapped"
    );
}

fn start_info_fields(p2m: Option<u64>) {
    let info = start_info();
    check!(
        info.magic.starts_with(b"xen-3.0-x86_64"),
        "magic is xen-3.0-x86_64"
    );
    let least = if child::link().is_some() { 512 } else { 1024 };
    check!(info.nr_pages >= least, "there are at least so many pages");
    check_eq!("shared_info is a page", info.shared_info % 4096, 0);
    let privileges = if child::is_ordinary() {
        0
    } else {
        SIF_PRIVILEGED | SIF_INITDOMAIN
    };
    check_eq!("privilege flags", info.flags & 3, privileges);
    if child::link().is_none() {
        check_eq!("no module is given", (info.mod_start, info.mod_len), (0, 0));
    }
    if child::is_ordinary() {
        check!(
            info.console_mfn != 0 && info.console_evtchn != 0,
            "there is a console"
        );
        check!(
            info.store_mfn != 0 && info.store_evtchn != 0,
            "there is a store"
        );
    }
    check!(info.nr_pt_frames >= 4, "there are initial page tables");
    match p2m {
        Some(address) => {
            check_eq!(
                "the p2m list is where the note asked",
                info.mfn_list,
                address
            );
        }
        None => {
            let bytes = info.nr_pages * 8;
            check!(
                (0..bytes)
                    .step_by(4096)
                    .all(|at| page_table::is_linear(info.mfn_list + at)),
                "the p2m list is mapped behind the kernel"
            );
            check_eq!("pages of a list of its own", info.nr_p2m_frames, 0);
        }
    }
    let line = command_line();
    check!(line.is_some(), "the command line is terminated");
    say!(
        "command line \"{}\", {} pages",
        line.unwrap_or(""),
        info.nr_pages
    );
}

fn machine_lists() {
    let pages = start_info().nr_pages;
    let wrong = (0..pages)
        .filter(|&pfn| mfn_to_pfn(pfn_to_mfn(pfn)) != pfn)
        .count();
    check_eq!("pages whose m2p entry is not their number", wrong, 0);
}

/// Every page of the initial mapping: present, ours, writable unless it is a table.
fn initial_tables() {
    let info = start_info();
    let tables = Page::at(info.pt_base).pfn..Page::at(info.pt_base).pfn + info.nr_pt_frames;
    let mut mapped = 0;
    let mut wrong = 0;
    for pfn in 0..info.nr_pages {
        let page = Page { pfn };
        let Some(slot) = page_table::slot(page.va()) else {
            break;
        };
        let value = slot.value();
        if value & bits::PRESENT == 0 {
            break;
        }
        if pfn == Page::at(&raw const *events::shared() as u64).pfn {
            continue; // The runtime has put shared_info there.
        }
        mapped += 1;
        let writable = value & bits::WRITE != 0;
        if value & bits::ADDRESS != page.maddr() || writable == tables.contains(&pfn) {
            wrong += 1;
        }
    }
    check_eq!("pages wrongly mapped at the start", wrong, 0);
    if child::link().is_some() {
        return; // Its parent's layout ends where its memory does.
    }
    let end = virt_base() + (mapped + 1) * 4096;
    check_eq!(
        "the mapping ends at a multiple of 4 MiB",
        end % (4 << 20),
        0
    );
    check!(
        end > info.pt_base + (info.nr_pt_frames << 12) + (512 << 10),
        "512 KiB of slack follow the boot stack"
    );
}

fn shared_page() {
    let masks = events::shared()
        .vcpu_info
        .iter()
        .filter(|vcpu| vcpu.evtchn_upcall_mask == 1)
        .count();
    check_eq!("vCPUs whose events are masked at the start", masks, 32);
    let time = events::time_of(events::vcpu_address());
    check!(time.tsc_to_system_mul != 0, "time is valid from the start");
    check_eq!("time version is even", time.version & 1, 0);
    let before = events::now_ns();
    check!(events::now_ns() >= before, "time does not go back");
}
