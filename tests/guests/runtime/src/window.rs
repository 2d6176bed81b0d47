//! Windows: pages of ours at whose address a frame of another domain is looked at.

use crate::abi::mmuext;
use crate::control;
use crate::frames::{self, Page};
use crate::page_table::{self, bits};
use crate::{hypercall, page_table::Slot};

/// A page whose address shows a frame of another domain while it is [`Window::show`]n, and is nothing otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    page: Page,
}

impl Window {
    /// A window that shows nothing. It costs one page of the pool.
    pub fn new() -> Self {
        let page = frames::allocate();
        let result = page_table::hide(page);
        assert!(result == 0, "a page of ours could not be hidden: {result}");
        Self { page }
    }

    /// Where it is.
    pub fn va(&self) -> u64 {
        self.page.va()
    }

    /// The entry that it hangs on.
    pub fn slot(&self) -> Slot {
        page_table::slot(self.page.va()).expect("pages of the pool have tables")
    }

    /// Shows a frame of `domain` with these bits; what was shown is shown no more.
    pub fn show_as(&self, domain: u16, mfn: u64, flags: u64) -> i64 {
        match control::map_foreign(self.slot().maddr(), mfn << 12 | flags, domain) {
            0 => hypercall::mmuext(mmuext::INVLPG_LOCAL, self.page.va(), 0),
            error => error,
        }
    }

    /// Shows a frame of `domain`, writable.
    pub fn show(&self, domain: u16, mfn: u64) -> i64 {
        self.show_as(domain, mfn, bits::KERNEL_RW | bits::NX)
    }

    /// Shows nothing.
    pub fn hide(&self) -> i64 {
        page_table::hide(self.page)
    }

    /// Gives the window's page back to the pool; what it showed is shown no more.
    pub fn close(self) {
        let result = page_table::unprotect(self.page);
        assert!(
            result == 0,
            "a page of ours could not be mapped again: {result}"
        );
        frames::release(self.page);
    }

    /// Reads the 8-byte word `index` of what is shown.
    pub fn read(&self, index: usize) -> u64 {
        self.page.read(index)
    }

    /// Writes the 8-byte word `index` of what is shown.
    pub fn write(&self, index: usize, value: u64) {
        self.page.write(index, value);
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}
