//! Kernels from files, and the cache of unpacked ones.

mod cache;
mod elf;
mod refusals;

use kernels::Kernel;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed when it is dropped.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("xeno-kernels-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Dir(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        path
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The memory of a guest with this kernel, from its first page to its last.
fn memory(kernel: &Kernel) -> Vec<u8> {
    let placement = kernel.placement();
    let pages = placement.end_pfn - placement.first_pfn;
    let mut memory = vec![0; (pages * 4096) as usize];
    for extent in kernel.extents() {
        let at = ((extent.first_pfn - placement.first_pfn) * 4096) as usize;
        let len = (extent.pages * 4096) as usize;
        kernel
            .read(extent.offset, &mut memory[at..at + len])
            .expect("its pages can be read");
    }
    memory
}
