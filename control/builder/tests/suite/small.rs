//! What the tests build with the small kernel.

use crate::elf::{Kind, elf};
use builder::{Initrd, Limits, Spec};
use kernels::Kernel;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

pub fn kernel(kind: Kind) -> Kernel {
    Kernel::unpack(elf(kind)).expect("the small kernel is one")
}

/// An initrd in a file that is removed when it is dropped.
pub struct TempInitrd {
    pub path: PathBuf,
    pub initrd: Initrd,
    pub bytes: Vec<u8>,
}

impl TempInitrd {
    pub fn new(len: usize) -> TempInitrd {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("xeno-builder-test-{}-{number}", std::process::id()));
        let bytes: Vec<u8> = (0..len).map(|i| (i % 253) as u8 + 1).collect();
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(&bytes))
            .expect("a temporary file");
        let initrd = Initrd::open(&path).expect("it was just made");
        TempInitrd {
            path,
            initrd,
            bytes,
        }
    }
}

impl Drop for TempInitrd {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A guest of `pages` pages with one vCPU.
pub fn spec<'a>(kernel: &'a Kernel, initrd: Option<&'a Initrd>, pages: u64) -> Spec<'a> {
    Spec {
        kernel,
        initrd,
        command_line: b"console=hvc0",
        pages,
        max_pages: pages,
        vcpus: 1,
        handle: *b"0123456789abcdef",
        limits: Limits::default(),
        console_domain: 0,
        store_domain: 0,
    }
}
