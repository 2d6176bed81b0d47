//! What the builder writes into the domain's pages: the first page tables and the start-of-day page.

use super::pages::Pages;
use super::plan::Map;
use crate::domain::Vcpu;
use crate::layout::PAGE;
use crate::memory::{m2p, phys};
use frames::Entry;
use guest_abi::Wire;
use guest_abi::start_info::{SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED, StartInfo};
use guest_abi::vga::Dom0VgaConsoleInfo;

/// Writes the initial tables; returns the page of the root.
pub(super) fn build_tables(pages: &Pages, map: &Map) -> u64 {
    let table_link =
        Entry::PRESENT | Entry::WRITABLE | Entry::USER | Entry::ACCESSED | Entry::DIRTY;
    let tables = map.tables;
    let base = map.kernel.virt_base;
    let link = |table: u64, index: u64, to: u64| {
        pages.write_word(table, index & 511, (pages.mfn(to).0 * PAGE) | table_link);
    };
    let table_pages = tables.first..tables.first + tables.count();
    for pfn in 0..map.mapped_end {
        let va = base + pfn * PAGE;
        let [l3, l2, l1] = tables.way(va);
        if pfn == 0 || va.is_multiple_of(1 << 21) {
            link(tables.first, va >> 39, l3);
            link(l3, va >> 30, l2);
            link(l2, va >> 21, l1);
        }
        let writable = if table_pages.contains(&pfn) {
            0
        } else {
            Entry::WRITABLE
        };
        let leaf = Entry::PRESENT | writable | Entry::USER | Entry::ACCESSED | Entry::DIRTY;
        pages.write_word(l1, va >> 12 & 511, (pages.mfn(pfn).0 * PAGE) | leaf);
    }
    if let Some(list_base) = map.kernel.init_p2m {
        map_list(pages, map, list_base, table_link);
    }
    tables.first
}

/// The frame list at the address the kernel wants, below tables of its own.
fn map_list(pages: &Pages, map: &Map, base: u64, link: u64) {
    let mut next = map.list.0 + map.list.1;
    let end = next + map.list_tables;
    let mut descend = |table: u64, index: u64| {
        let place = pages.mfn(table).0 * PAGE + (index & 511) * 8;
        let entry = Entry(phys::read_u64(place));
        if entry.is_present() {
            return m2p::get(entry.mfn());
        }
        assert!(next < end, "plan() counts the tables");
        let fresh = next;
        next += 1;
        phys::write_u64(place, (pages.mfn(fresh).0 * PAGE) | link);
        fresh
    };
    for i in 0..map.list.1 {
        let va = base + i * PAGE;
        let l3 = descend(map.tables.first, va >> 39);
        let l2 = descend(l3, va >> 30);
        let l1 = descend(l2, va >> 21);
        pages.write_word(
            l1,
            va >> 12 & 511,
            (pages.mfn(map.list.0 + i).0 * PAGE) | link,
        );
    }
}

/// Writes the page the kernel finds its bearings by.
pub(super) fn start_info(
    vcpu: &Vcpu,
    pages: &Pages,
    map: &Map,
    args: &[u8],
    initrd_len: u64,
    frames: u64,
) {
    let virt = |pfn: u64| map.kernel.virt_base + pfn * PAGE;
    let mut si = StartInfo::ZERO;
    si.set_magic();
    si.nr_pages = frames;
    si.shared_info = vcpu.domain.shared_info.0 * PAGE;
    si.flags = SIF_PRIVILEGED | SIF_INITDOMAIN;
    si.set_dom0_console(StartInfo::SIZE as u32, Dom0VgaConsoleInfo::SIZE as u32);
    si.pt_base = virt(map.tables.first);
    si.nr_pt_frames = map.tables.count();
    si.mfn_list = map.kernel.init_p2m.unwrap_or_else(|| virt(map.list.0));
    if map.kernel.init_p2m.is_some() {
        si.first_p2m_pfn = map.list.0;
        si.nr_p2m_frames = map.list.1 + map.list_tables;
    }
    if initrd_len != 0 {
        si.mod_len = initrd_len;
        si.mod_start = if map.kernel.mod_start_pfn {
            si.flags |= SIF_MOD_START_PFN;
            map.initrd.0
        } else {
            virt(map.initrd.0)
        };
    }
    // Its length was checked.
    let _ = si.set_cmd_line(args);
    let mut bytes = [0u8; StartInfo::SIZE + Dom0VgaConsoleInfo::SIZE];
    let _ = si.write_to(&mut bytes);
    pages.write(map.start_info * PAGE, &bytes);
}
