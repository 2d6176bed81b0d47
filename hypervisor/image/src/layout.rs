//! Where everything of a guest goes, in pages of its own: the layout that ring 0 builds the initial domain by, and the
//! control domain every other.
//!
//! From page 0, linear from the kernel's VIRT_BASE:
//! room below the kernel | kernel | (initrd, frame list, if the kernel wants them mapped) | start_info | store ring,
//! console ring | page tables | boot stack | up to 4 MiB alignment — all of that mapped — then initrd and frame list
//! where the kernel takes them unmapped, and the rest of its memory.

use crate::tables::{Link, Tables, Tree};
use crate::{ImageError, Placement};
use guest_abi::segment::is_guest_range;
use guest_abi::start_info::{SIF_MOD_START_PFN, StartInfo};

const PAGE: u64 = 4096;
/// Entries of the frame list in a page; Linux reads whole pages of it.
pub const LIST_ENTRIES_PER_PAGE: u64 = PAGE / 8;
/// What the frame list says of a page that does not exist.
pub const NO_FRAME: u64 = !0;
/// Pages of 4 MiB, to which the linear mapping is rounded up.
const ALIGN: u64 = 1024;
/// Pages of 512 KiB, which it has at least behind the stack.
const SLACK: u64 = 128;

/// Whether the guest gets rings for a console and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rings {
    /// It has neither: it is the control domain, whose console is the machine's and which makes its store.
    None,
    /// It has both.
    StoreAndConsole,
}

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first one.
    pub first: u64,
    /// How many.
    pub pages: u64,
}

impl Run {
    /// One past the last.
    pub fn end(&self) -> u64 {
        self.first + self.pages
    }
}

/// Why a guest cannot be laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutError {
    /// Its kernel asks for what cannot be.
    Image(ImageError),
    /// It has too few pages.
    TooFewPages {
        /// Pages it needs at least.
        need: u64,
        /// Pages it has.
        have: u64,
    },
}

impl From<ImageError> for LayoutError {
    fn from(error: ImageError) -> Self {
        LayoutError::Image(error)
    }
}

/// Where everything goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The kernel.
    pub kernel: Placement,
    /// Pages of the guest.
    pub pages: u64,
    /// The initrd.
    pub initrd: Run,
    /// Bytes of the initrd.
    pub initrd_len: u64,
    /// The list of its frames, [`LIST_ENTRIES_PER_PAGE`] a page.
    pub list: Run,
    /// The page it finds its bearings by.
    pub start_info: u64,
    /// The store's ring and the console's, if it has them.
    pub rings: Option<(u64, u64)>,
    /// The stack it starts on, one page.
    pub stack: u64,
    /// One past the last page of the linear mapping.
    pub mapped_end: u64,
    /// One past the last page that anything is in.
    pub end: u64,
    tree: Tree,
}

impl Layout {
    /// Lays a guest out, and says what does not fit.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn plan(
        kernel: Placement,
        initrd_len: u64,
        pages: u64,
        rings: Rings,
    ) -> Result<Layout, LayoutError> {
        let layout = Layout::unchecked(kernel, initrd_len, pages, rings)?;
        if layout.end <= pages {
            return Ok(layout);
        }
        // With more pages the frame list is longer.
        let mut need = layout.end;
        loop {
            let end = Layout::unchecked(kernel, initrd_len, need, rings)?.end;
            if end <= need {
                return Err(LayoutError::TooFewPages { need, have: pages });
            }
            need = end;
        }
    }

    /// The layout, whether or not the guest has so many pages.
    fn unchecked(
        kernel: Placement,
        initrd_len: u64,
        pages: u64,
        rings: Rings,
    ) -> Result<Layout, LayoutError> {
        let initrd_pages = initrd_len.div_ceil(PAGE);
        let list_pages = pages.div_ceil(LIST_ENTRIES_PER_PAGE);
        let mut mapped = Taker(kernel.end_pfn);
        let mapped_initrd = (!kernel.mod_start_pfn).then(|| mapped.take(initrd_pages));
        let mapped_list = kernel.init_p2m.is_none().then(|| mapped.take(list_pages));
        let start_info = mapped.take(1).first;
        let rings = match rings {
            Rings::None => None,
            Rings::StoreAndConsole => Some((mapped.take(1).first, mapped.take(1).first)),
        };
        let root = mapped.take(1).first;
        let (linear, mapped_end) = linear_tables(kernel.virt_base, root + 1)?;
        let stack = linear.first + linear.count();
        let mut unmapped = Taker(mapped_end);
        let initrd = mapped_initrd.unwrap_or_else(|| unmapped.take(initrd_pages));
        let list = mapped_list.unwrap_or_else(|| unmapped.take(list_pages));
        let list_tables = match kernel.init_p2m {
            None => None,
            Some(base) => {
                let bytes = list_pages.max(1).saturating_mul(PAGE);
                // Neither range wraps; the linear one was checked.
                let apart = base.wrapping_sub(kernel.virt_base) >= mapped_end * PAGE
                    && kernel.virt_base.wrapping_sub(base) >= bytes;
                if !is_guest_range(base, bytes) || !apart {
                    return Err(ImageError::BadNote { note: "INIT_P2M" }.into());
                }
                // As many as if it shared none with the linear mapping.
                let tables = Tables::covering(list.end(), base, base + (bytes - 1));
                unmapped.take(tables.count());
                Some(tables)
            }
        };
        Ok(Layout {
            kernel,
            pages,
            initrd,
            initrd_len,
            list,
            start_info,
            rings,
            stack,
            mapped_end,
            end: unmapped.0,
            tree: Tree {
                root,
                linear,
                list: list_tables,
            },
        })
    }

    /// The page of the root table.
    pub fn root(&self) -> u64 {
        self.tree.root
    }

    /// The tables of the linear mapping, the root first.
    pub fn tables(&self) -> Run {
        Run {
            first: self.tree.root,
            pages: 1 + self.tree.linear.count(),
        }
    }

    /// The tables that map the frame list where the kernel wants it, if it does; directly behind the list.
    pub fn list_tables(&self) -> Option<Run> {
        self.tree.list.map(|tables| Run {
            first: tables.first,
            pages: tables.count(),
        })
    }

    /// The address of a page in the linear mapping.
    pub fn virt(&self, pfn: u64) -> u64 {
        self.kernel.virt_base + pfn * PAGE
    }

    /// Tells every entry of every table once: parents before children, then what is mapped, in order of address. What
    /// it does not tell is zero. Tables are not writable for the guest where it sees them.
    pub fn links(&self, mut link: impl FnMut(Link)) {
        let tables = self.tables();
        let is_table = |pfn: u64| pfn >= tables.first && pfn < tables.end();
        self.tree.table_links(&mut link);
        let base = self.kernel.virt_base;
        self.tree
            .page_links(base, 0, self.mapped_end, |pfn| !is_table(pfn), &mut link);
        if let Some(base) = self.kernel.init_p2m {
            self.tree
                .page_links(base, self.list.first, self.list.pages, |_| true, &mut link);
        }
    }

    /// What the guest is told of all this when it starts. What depends on frames, ports or who the guest is, and its
    /// command line, is the caller's to add.
    pub fn start_info(&self) -> StartInfo {
        let mut info = StartInfo::ZERO;
        info.set_magic();
        info.nr_pages = self.pages;
        info.pt_base = self.virt(self.root());
        info.nr_pt_frames = self.tables().pages;
        info.mfn_list = match self.kernel.init_p2m {
            Some(base) => base,
            None => self.virt(self.list.first),
        };
        if let Some(tables) = self.list_tables() {
            info.first_p2m_pfn = self.list.first;
            info.nr_p2m_frames = self.list.pages + tables.pages;
        }
        if self.initrd_len != 0 {
            info.mod_len = self.initrd_len;
            info.mod_start = match self.kernel.mod_start_pfn {
                true => self.initrd.first,
                false => self.virt(self.initrd.first),
            };
            if self.kernel.mod_start_pfn {
                info.flags |= SIF_MOD_START_PFN;
            }
        }
        info
    }
}

/// The next page that nothing is in.
struct Taker(u64);

impl Taker {
    fn take(&mut self, pages: u64) -> Run {
        let first = self.0;
        self.0 = first.saturating_add(pages);
        Run { first, pages }
    }
}

/// The tables of the linear mapping, from page `first` on, and where it ends. They map themselves, so their number is
/// found by trying.
fn linear_tables(base: u64, first: u64) -> Result<(Tables, u64), LayoutError> {
    let mut tables = Tables::covering(first, base, base);
    loop {
        let stack_end = first.saturating_add(tables.count() + 1);
        // To a boundary of addresses, not of pages.
        let base_page = base / PAGE;
        let mut end = base_page
            .saturating_add(stack_end)
            .checked_next_multiple_of(ALIGN)
            .unwrap_or(u64::MAX)
            - base_page;
        if end - stack_end < SLACK {
            end = end.saturating_add(ALIGN);
        }
        let len = end.saturating_mul(PAGE);
        if !is_guest_range(base, len) {
            return Err(ImageError::TooLarge { len }.into());
        }
        // Cannot wrap: a range that ends at the very top ends at the last address.
        let need = Tables::covering(first, base, base + (len - 1));
        if need.count() <= tables.count() {
            return Ok((tables, end));
        }
        tables = need;
    }
}
