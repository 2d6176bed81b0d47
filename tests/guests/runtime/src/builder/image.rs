//! A child's pages: where each lies, and what is written into it.
//!
//! The layout is that of the interface for an ordinary domain: the image at its own addresses, behind it start_info,
//! store page, console page, the link page, page tables, boot stack, and the list of frames; all of it in one linear
//! mapping from the image's base on, page tables read-only.

use core::mem::offset_of;

use super::{Child, Plan};
use crate::abi::{
    CODE64, DATA, StartInfo, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext, VcpuInfo, Wire, mmu,
};
use crate::context::flags;
use crate::entry::start_info;
use crate::frames::{self, Page, virt_base};
use crate::page_table::{self, bits};
use crate::window::Window;
use crate::{Global, check, control, link};

/// Pages whose numbers a list of one page holds.
const LIST: u64 = 512;
/// Lists that a child may have.
pub const LISTS: usize = 4;
/// Most pages a child may be built with.
pub const MOST_PAGES: u64 = LIST * LISTS as u64;
/// Bytes of data that differ from zero at the start, at most.
const MOST_DATA: usize = 16 * 1024;

unsafe extern "C" {
    static guest_entry: u8;
    static guest_image_start: u8;
    static guest_image_end: u8;
    static guest_data_start: u8;
    static guest_bss_start: u8;
}

/// The image's data as the linker made it, kept before anything writes there.
static PRISTINE: Global<[u64; MOST_DATA / 8]> = Global::new([0; MOST_DATA / 8]);

fn data_bytes() -> u64 {
    &raw const guest_bss_start as u64 - &raw const guest_data_start as u64
}

/// Keeps the image's data for children, before anything writes there. What does not fit is no child's: [`super::build`]
/// asserts that it did.
pub(crate) fn keep_data() {
    let start = &raw const guest_data_start as *const u64;
    let words = (data_bytes() as usize / 8).min(MOST_DATA / 8);
    for word in 0..words {
        // SAFETY: in the image's data on one side and in the array on the other; both are words of one's own.
        unsafe {
            let value = start.add(word).read_volatile();
            PRISTINE
                .as_ptr()
                .cast::<u64>()
                .add(word)
                .write_volatile(value);
        }
    }
}

/// The word at `address` of the image, as a domain finds it that starts with it.
fn image_word(address: u64) -> u64 {
    let data = &raw const guest_data_start as u64;
    if address >= &raw const guest_bss_start as u64 {
        return 0;
    }
    let place = match address.checked_sub(data) {
        Some(offset) => PRISTINE.as_ptr() as u64 + offset,
        None => address,
    };
    // SAFETY: in the image, or in what was kept of its data.
    unsafe { (place as *const u64).read_volatile() }
}

/// Where a child's pages are: pseudo-physical numbers.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Pages of the child.
    pub pages: u64,
    image: u64,
    image_end: u64,
}

impl Layout {
    /// The layout of a child with so many pages.
    pub fn new(pages: u64) -> Self {
        assert!(
            data_bytes() as usize <= MOST_DATA,
            "the image's data is more than was kept"
        );
        let layout = Self {
            pages,
            image: Page::at(&raw const guest_image_start as u64).pfn,
            image_end: Page::at(&raw const guest_image_end as u64 + 4095).pfn,
        };
        assert!(
            pages <= MOST_PAGES && layout.list() + layout.lists() <= pages,
            "a child of {pages} pages has no room for the image, or is too large"
        );
        layout
    }

    fn lists(&self) -> u64 {
        self.pages.div_ceil(LIST)
    }

    fn start_info(&self) -> u64 {
        self.image_end
    }

    /// The store's page.
    pub fn store(&self) -> u64 {
        self.image_end + 1
    }

    /// The console's page.
    pub fn console(&self) -> u64 {
        self.image_end + 2
    }

    /// The page shared with the parent.
    pub fn link(&self) -> u64 {
        self.image_end + 3
    }

    /// The root table; the tables of levels 3 and 2 and those of level 1 follow.
    pub fn tables(&self) -> u64 {
        self.image_end + 4
    }

    fn table_pages(&self) -> u64 {
        3 + self.lists()
    }

    fn stack(&self) -> u64 {
        self.tables() + self.table_pages()
    }

    fn list(&self) -> u64 {
        self.stack() + 1
    }

    fn va(pfn: u64) -> u64 {
        Page { pfn }.va()
    }
}

impl Child {
    /// Populates one half of its memory, and notes which frames they are.
    pub(super) fn populate(&mut self, half: u64) -> i64 {
        let pages = self.layout.pages;
        let (from, end) = [(0, pages / 2), (pages / 2, pages)][half as usize];
        let mut at = from;
        while at < end {
            let list = *self.lists[(at / LIST) as usize].get_or_insert_with(frames::allocate);
            let count = (LIST - at % LIST).min(end - at);
            for pfn in at..at + count {
                list.write((pfn % LIST) as usize, pfn);
            }
            let address = list.va() + 8 * (at % LIST);
            let result = control::reservation(
                crate::abi::memory::POPULATE_PHYSMAP,
                self.id,
                address,
                count,
            );
            if result != count as i64 {
                return result;
            }
            at += count;
        }
        0
    }

    /// Writes one of its pages, word by word.
    fn write_page(&self, window: &Window, pfn: u64, word: impl Fn(usize) -> u64) -> i64 {
        let result = window.show(self.id, self.mfn(pfn));
        if result == 0 {
            for index in 0..512 {
                window.write(index, word(index));
            }
        }
        result
    }

    /// Writes the image, and zeros to every other page: a fresh frame need not be clean.
    pub(super) fn fill(&mut self, _: &Plan, window: &Window) -> i64 {
        for pfn in 0..self.layout.pages {
            let inside = (self.layout.image..self.layout.image_end).contains(&pfn);
            let result = self.write_page(window, pfn, |index| match inside {
                true => image_word(Layout::va(pfn) + 8 * index as u64),
                false => 0,
            });
            if result != 0 {
                return result;
            }
        }
        0
    }

    /// Writes its page tables and its list of frames.
    pub(super) fn write_tables(&mut self, window: &Window) -> i64 {
        let layout = self.layout;
        let root = layout.tables();
        let first = root + 3;
        let tables = root..root + layout.table_pages();
        let address = |pfn: u64| self.mfn(pfn) << 12;
        let upper = |level: u32, index: usize| match page_table::index(virt_base(), level) == index
        {
            true => address(root + 5 - u64::from(level)) | bits::TABLE,
            false => 0,
        };
        let mut result = self.write_page(window, root, |index| upper(4, index));
        result |= self.write_page(window, root + 1, |index| upper(3, index));
        result |= self.write_page(window, root + 2, |index| {
            match index.checked_sub(page_table::index(virt_base(), 2)) {
                Some(at) if (at as u64) < layout.lists() => {
                    address(first + at as u64) | bits::TABLE
                }
                _ => 0,
            }
        });
        for list in 0..layout.lists() {
            result |= self.write_page(window, first + list, |index| {
                let pfn = LIST * list + index as u64;
                match pfn < layout.pages {
                    true if tables.contains(&pfn) => address(pfn) | bits::KERNEL_RO,
                    true => address(pfn) | bits::KERNEL_RW,
                    false => 0,
                }
            });
            result |= self.write_page(window, layout.list() + list, |index| {
                let pfn = LIST * list + index as u64;
                if pfn < layout.pages { self.mfn(pfn) } else { 0 }
            });
        }
        // Not writable here any more before it becomes tables there.
        if result == 0 { window.hide() } else { result }
    }

    /// Writes shared_info, start_info and the link page.
    pub(super) fn finish_pages(&mut self, plan: &Plan, window: &Window) -> i64 {
        let shared = match control::info(self.id) {
            Ok(info) => info.shared_info_frame,
            Err(error) => return error,
        };
        let result = window.show(self.id, shared);
        if result != 0 {
            return result;
        }
        let mask = offset_of!(VcpuInfo, evtchn_upcall_mask);
        for vcpu in 0..32 {
            let at = VcpuInfo::SIZE * vcpu;
            window.write(at / 8, window.read(at / 8) | 1 << (8 * mask));
        }
        let info = self.start_info(shared);
        let mut bytes = [0; 4096];
        let _ = info.write_to(&mut bytes);
        let result = self.write_page(window, self.layout.start_info(), |index| {
            u64::read_from(&bytes[8 * index..]).unwrap_or(0)
        });
        if result != 0 {
            return result;
        }
        let name = check::name();
        self.write_page(window, self.layout.link(), |index| match index {
            link::MAGIC => link::MAGIC_VALUE,
            link::ENTRY => plan.entry as usize as u64,
            link::PORT => u64::from(self.ports[2]),
            link::NAME => name.as_ptr() as u64,
            at if at == link::NAME + 1 => name.len() as u64,
            _ => 0,
        })
    }

    fn start_info(&self, shared: u64) -> StartInfo {
        let layout = &self.layout;
        let mut info = StartInfo {
            nr_pages: layout.pages,
            shared_info: shared << 12,
            store_mfn: self.mfn(layout.store()),
            store_evtchn: self.ports[0],
            console_mfn: self.mfn(layout.console()),
            console_evtchn: self.ports[1],
            pt_base: Layout::va(layout.tables()),
            nr_pt_frames: layout.table_pages(),
            mfn_list: Layout::va(layout.list()),
            mod_start: Layout::va(layout.link()),
            mod_len: 4096,
            cmd_line: start_info().cmd_line,
            ..StartInfo::ZERO
        };
        info.set_magic();
        info
    }

    /// The state its first vCPU starts from.
    pub fn context(&self) -> VcpuGuestContext {
        let mut context = VcpuGuestContext::ZERO;
        context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
        let stack = Layout::va(self.layout.stack() + 1);
        let registers = &mut context.user_regs;
        registers.rip = &raw const guest_entry as u64;
        registers.cs = CODE64;
        registers.ss = DATA;
        registers.rsp = stack;
        registers.rsi = Layout::va(self.layout.start_info());
        registers.rflags = flags::IF;
        context.kernel_ss = u64::from(DATA);
        context.kernel_sp = stack;
        context.ctrlreg[3] = self.root() << 12;
        context
    }

    pub(super) fn set_context(&mut self) -> i64 {
        control::set_context(self.id, 0, &self.context())
    }

    /// The number that belongs to a frame of the child's, in the machine's list: sets it by the interface's own call.
    pub fn set_number(&self, mfn: u64, pfn: u64) -> i64 {
        control::map_foreign(mfn << 12 | mmu::MACHPHYS, pfn, self.id)
    }
}
