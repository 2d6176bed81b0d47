//! Files that are no kernel for us are refused in a sentence that names them.

use crate::Dir;
use crate::elf::{Kind, elf};
use kernels::Cache;
use std::path::Path;

fn refusal(cache: &Cache, file: &Path) -> String {
    let error = cache.kernel(file).unwrap_err().to_string();
    assert!(!error.ends_with('.') && !error.contains('\n'), "{error}");
    error.replace(file.to_str().unwrap(), "FILE")
}

#[test]
fn each_refusal_names_the_file_and_what_is_wrong_with_it() {
    let dir = Dir::new();
    let cached = dir.path().join("cache");
    let cache = Cache::new(&cached, Cache::DEFAULT_LIMIT);
    assert_eq!(
        refusal(&cache, &dir.path().join("none")),
        "the kernel FILE cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        refusal(&cache, dir.path()),
        "the kernel FILE is not a regular file: name a vmlinuz"
    );
    assert_eq!(
        refusal(&cache, Path::new("/dev/null")),
        "the kernel FILE is not a regular file: name a vmlinuz"
    );
    let text = dir.file("text", b"#!/bin/sh\n");
    assert_eq!(
        refusal(&cache, &text),
        "the kernel FILE is not a Linux bzImage or ELF kernel: give a distribution's /boot/vmlinuz"
    );
    let whole = elf(Kind::default());
    let cut = dir.file("cut", &whole[..whole.len() - 300]);
    assert!(refusal(&cache, &cut).starts_with("the kernel FILE is truncated"));
    let huge = dir.file("huge", b"");
    std::fs::File::options()
        .write(true)
        .open(&huge)
        .and_then(|file| file.set_len(1 << 40))
        .unwrap();
    assert_eq!(
        refusal(&cache, &huge),
        "the kernel FILE has 1099511627776 bytes, more than any kernel: name a vmlinuz"
    );
    assert!(!cached.exists(), "nothing is kept of them");
}
