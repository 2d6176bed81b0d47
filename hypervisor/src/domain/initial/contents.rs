//! What the builder writes into the domain's pages: the first page tables and the start-of-day page.

use super::pages::Pages;
use crate::domain::Vcpu;
use crate::layout::PAGE;
use frames::Entry;
use guest_abi::Wire;
use guest_abi::start_info::{SIF_INITDOMAIN, SIF_PRIVILEGED, StartInfo};
use guest_abi::vga::Dom0VgaConsoleInfo;
use image::Layout;

/// Writes the initial tables.
pub(super) fn build_tables(pages: &Pages, map: &Layout) {
    const LINK: u64 = Entry::PRESENT | Entry::USER | Entry::ACCESSED | Entry::DIRTY;
    map.links(|link| {
        let writable = if link.writable { Entry::WRITABLE } else { 0 };
        let entry = (pages.mfn(link.to).0 * PAGE) | LINK | writable;
        pages.write_word(link.table, link.index, entry);
    });
}

/// Writes the page the kernel finds its bearings by.
pub(super) fn start_info(vcpu: &Vcpu, pages: &Pages, map: &Layout, args: &[u8]) {
    let mut si = map.start_info();
    si.shared_info = vcpu.domain.shared_info.0 * PAGE;
    si.flags |= SIF_PRIVILEGED | SIF_INITDOMAIN;
    si.set_dom0_console(StartInfo::SIZE as u32, Dom0VgaConsoleInfo::SIZE as u32);
    // Its length was checked.
    let _ = si.set_cmd_line(args);
    let mut bytes = [0u8; StartInfo::SIZE + Dom0VgaConsoleInfo::SIZE];
    let _ = si.write_to(&mut bytes);
    pages.write(map.start_info * PAGE, &bytes);
}
