//! What the builder writes into the domain's pages.

use crate::batch::{Batch, Source};
use crate::memory::Memory;
use crate::{BATCH_PAGES, BuildError, Initrd, PAGE, Ring};
use guest_abi::Wire;
use guest_abi::grant::{GTF_PERMIT_ACCESS, GrantEntryV1};
use guest_abi::shared_info::{SharedInfo, VcpuInfo, XEN_LEGACY_MAX_VCPUS};
use guest_abi::start_info::{SIF_VIRT_P2M_4TOOLS, StartInfo};
use image::{LIST_ENTRIES_PER_PAGE, Layout, NO_FRAME};
use kernels::{Kernel, Pages};
use std::mem::offset_of;
use xen::{Access, DomId, Hypervisor};

/// Bits of a page-table entry: present, user, accessed, dirty; and writable.
const ENTRY: u64 = 1 << 0 | 1 << 2 | 1 << 5 | 1 << 6;
const WRITABLE: u64 = 1 << 1;
/// Entries of a table.
const ENTRIES: usize = 512;

/// What is being filled, and how.
pub(crate) struct Contents<'a> {
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) layout: &'a Layout,
    pub(crate) memory: &'a Memory,
}

impl Contents<'_> {
    pub(crate) fn kernel(&self, kernel: &Kernel) -> Result<(), BuildError> {
        let source = match kernel.pages() {
            Pages::File(file) => Source::File(file),
            Pages::Memory(bytes) => Source::Memory(bytes),
        };
        let mut batch = Batch::new(self.hypervisor, self.memory, source, &BuildError::Pages);
        for extent in kernel.extents() {
            batch.add(extent.first_pfn, extent.offset, extent.pages * PAGE)?;
        }
        batch.finish()
    }

    pub(crate) fn initrd(&self, initrd: &Initrd) -> Result<(), BuildError> {
        let unreadable = |source| BuildError::Initrd {
            path: initrd.path.clone(),
            source,
        };
        let source = Source::File(&initrd.file);
        let mut batch = Batch::new(self.hypervisor, self.memory, source, &unreadable);
        batch.add(self.layout.initrd.first, 0, initrd.len)?;
        batch.finish()
    }

    /// The list of the guest's frames, filled up to whole pages.
    pub(crate) fn frame_list(&self) -> Result<(), BuildError> {
        let list = self.layout.list;
        let mut frames = self.memory.frames(0).chain(std::iter::repeat(NO_FRAME));
        let mut page = Vec::with_capacity(PAGE as usize);
        self.pages(list.first, list.pages, |_| {
            page.clear();
            for frame in frames.by_ref().take(LIST_ENTRIES_PER_PAGE as usize) {
                page.extend(frame.to_le_bytes());
            }
            page.clone()
        })
    }

    pub(crate) fn tables(&self) -> Result<(), BuildError> {
        let linear = self.layout.tables();
        let list = self.layout.list_tables();
        let count = linear.pages + list.map_or(0, |list| list.pages);
        // The number of a table among all of them: first those of the linear mapping, then the frame list's.
        let number = |pfn: u64| match list {
            Some(list) if pfn >= list.first => linear.pages + (pfn - list.first),
            _ => pfn - linear.first,
        };
        let mut tables = vec![[0u64; ENTRIES]; count as usize];
        self.layout.links(|link| {
            let writable = if link.writable { WRITABLE } else { 0 };
            let entry = (self.memory.frame(link.to) * PAGE) | ENTRY | writable;
            tables[number(link.table) as usize][link.index as usize] = entry;
        });
        let bytes = |pfn: u64| {
            let table = tables[number(pfn) as usize];
            table.iter().flat_map(|entry| entry.to_le_bytes()).collect()
        };
        self.pages(linear.first, linear.pages, bytes)?;
        match list {
            Some(list) => self.pages(list.first, list.pages, bytes),
            None => Ok(()),
        }
    }

    pub(crate) fn start_info(
        &self,
        store: &Ring,
        console: &Ring,
        shared_info_frame: u64,
        command_line: &[u8],
    ) -> Result<(), BuildError> {
        let mut info = self.layout.start_info();
        info.shared_info = shared_info_frame * PAGE;
        info.flags |= SIF_VIRT_P2M_4TOOLS;
        info.store_mfn = store.frame;
        info.store_evtchn = store.port;
        info.console_mfn = console.frame;
        info.console_evtchn = console.port;
        info.set_cmd_line(command_line)
            .ok_or(BuildError::CommandLine {
                len: command_line.len(),
            })?;
        self.pages(self.layout.start_info, 1, |_| {
            let mut bytes = vec![0; StartInfo::SIZE];
            // Made for its size.
            let _ = info.write_to(&mut bytes);
            bytes
        })
    }

    /// Grants each ring to the domain that serves it, under its reference.
    pub(crate) fn grant(&self, rings: &[(Ring, DomId)]) -> Result<(), BuildError> {
        let table = self.hypervisor.map_grant_table(self.memory.domain(), 1)?;
        for (ring, to) in rings {
            let entry = GrantEntryV1 {
                flags: GTF_PERMIT_ACCESS,
                domid: *to,
                frame: u32::try_from(ring.frame).map_err(|_| BuildError::HighFrame)?,
            };
            let mut bytes = [0; GrantEntryV1::SIZE];
            // Made for its size.
            let _ = entry.write_to(&mut bytes);
            table.write(ring.reference as usize * GrantEntryV1::SIZE, &bytes);
        }
        Ok(())
    }

    /// Masks events for all vCPUs, as a guest expects to find them. The rest of the page is the hypervisor's.
    pub(crate) fn mask_events(&self, shared_info_frame: u64) -> Result<(), BuildError> {
        let page = self.hypervisor.map_frames(
            self.memory.domain(),
            &[shared_info_frame],
            Access::Write,
        )?;
        for vcpu in 0..XEN_LEGACY_MAX_VCPUS {
            let info = offset_of!(SharedInfo, vcpu_info) + vcpu * VcpuInfo::SIZE;
            page.write(info + offset_of!(VcpuInfo, evtchn_upcall_mask), &[1]);
        }
        Ok(())
    }

    /// Writes pages from `first` on, each from its start, with what `contents` says of it.
    fn pages(
        &self,
        first: u64,
        count: u64,
        mut contents: impl FnMut(u64) -> Vec<u8>,
    ) -> Result<(), BuildError> {
        let mut done = 0;
        while done < count {
            let now = (count - done).min(BATCH_PAGES as u64);
            let frames: Vec<u64> = self
                .memory
                .frames(first + done)
                .take(now as usize)
                .collect();
            let mapping = self.memory.map(self.hypervisor, &frames)?;
            for page in 0..now {
                let bytes = contents(first + done + page);
                mapping.write((page * PAGE) as usize, &bytes);
            }
            done += now;
        }
        Ok(())
    }
}
