//! Guests' pages as the store and the consoles see them.

use std::sync::Arc;

use store::Page;
use xen::Mapping;

/// A mapped page.
#[derive(Clone, Debug)]
pub struct MappedPage(pub Arc<Mapping>);

impl MappedPage {
    /// Takes over a mapping, of one page at least.
    pub fn new(mapping: Mapping) -> Self {
        Self(Arc::new(mapping))
    }
}

impl Page for MappedPage {
    fn load(&self, offset: usize) -> u32 {
        self.0.load(offset)
    }

    fn store(&mut self, offset: usize, value: u32) {
        self.0.store(offset, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.0.read(offset, into);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.write(offset, from);
    }
}
