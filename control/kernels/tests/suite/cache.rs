//! The cache gives back what was put in, or finds out that it cannot.

use crate::elf::{FIRST, Kind, SECOND, elf, segments};
use crate::{Dir, memory};
use kernels::{Cache, Pages};
use proptest::prelude::*;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const LIMIT: u64 = Cache::DEFAULT_LIMIT;

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .map(|dir| dir.map(|item| item.unwrap().path()).collect())
        .unwrap_or_default();
    entries.sort();
    entries
}

/// What the small kernel's memory is.
fn expected() -> Vec<u8> {
    let (first, second) = segments();
    let base = FIRST as usize;
    let end = (SECOND as usize + 0x5000).next_multiple_of(4096);
    let mut memory = vec![0; end - base];
    memory[..first.len()].copy_from_slice(&first);
    let at = SECOND as usize - base;
    memory[at..at + second.len()].copy_from_slice(&second);
    memory
}

#[test]
fn the_second_time_a_kernel_comes_from_the_cache_and_is_the_same() {
    let dir = Dir::new();
    let file = dir.file("vmlinux", &elf(Kind::default()));
    let cached = dir.path().join("cache");
    for hypercall_page in [false, true] {
        fs::write(
            &file,
            elf(Kind {
                hypercall_page,
                plain: hypercall_page,
            }),
        )
        .unwrap();
        let cache = Cache::new(&cached, LIMIT);
        let first = cache.kernel(&file).unwrap();
        assert!(matches!(first.pages(), Pages::Memory(_)));
        assert!(memory(&first) == expected());
        // The same daemon, and another.
        for cache in [&cache, &Cache::new(&cached, LIMIT)] {
            let again = cache.kernel(&file).unwrap();
            assert!(matches!(again.pages(), Pages::File(_)));
            assert_eq!(again.placement(), first.placement());
            assert!(memory(&again) == expected());
        }
    }
    assert_eq!(entries(&cached).len(), 2, "one for each content");
}

#[test]
fn the_same_kernel_under_two_names_is_kept_once() {
    let dir = Dir::new();
    let cached = dir.path().join("cache");
    let cache = Cache::new(&cached, LIMIT);
    for name in ["one", "two"] {
        cache
            .kernel(&dir.file(name, &elf(Kind::default())))
            .unwrap();
    }
    assert_eq!(entries(&cached).len(), 1);
}

#[test]
fn a_file_that_changes_is_another_kernel_at_once() {
    let dir = Dir::new();
    let cache = Cache::new(&dir.path().join("cache"), LIMIT);
    let file = dir.file("vmlinux", &elf(Kind::default()));
    // Long ago, so that its hash is remembered.
    let back = |file: &Path| {
        let then = SystemTime::now() - Duration::from_secs(100);
        File::options()
            .write(true)
            .open(file)
            .and_then(|file| file.set_modified(then))
            .unwrap();
    };
    back(&file);
    assert!(cache.kernel(&file).unwrap().placement().mod_start_pfn);
    let plain = Kind {
        plain: true,
        ..Kind::default()
    };
    fs::write(&file, elf(plain)).unwrap();
    back(&file);
    assert!(!cache.kernel(&file).unwrap().placement().mod_start_pfn);
    fs::write(&file, b"no kernel any more").unwrap();
    assert!(cache.kernel(&file).is_err());
}

#[test]
fn a_cache_that_cannot_be_used_is_done_without() {
    let dir = Dir::new();
    let file = dir.file("vmlinux", &elf(Kind::default()));
    // A file where the directory should be.
    let cache = Cache::new(&file, LIMIT);
    for _ in 0..2 {
        assert!(memory(&cache.kernel(&file).unwrap()) == expected());
    }
    assert_eq!(entries(dir.path()), [file]);
}

#[test]
fn the_cache_stays_below_its_limit_and_keeps_what_was_used_last() {
    let dir = Dir::new();
    let cached = dir.path().join("cache");
    let file = |n: u8| {
        let mut bytes = elf(Kind::default());
        bytes.push(n);
        dir.file(&format!("vmlinux{n}"), &bytes)
    };
    let len = {
        let cache = Cache::new(&cached, LIMIT);
        cache.kernel(&file(0)).unwrap();
        fs::metadata(&entries(&cached)[0]).unwrap().len()
    };
    let oldest = entries(&cached)[0].clone();
    let cache = Cache::new(&cached, 2 * len);
    let age = |path: &Path, seconds| {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        File::open(path)
            .and_then(|file| file.set_modified(then))
            .unwrap();
    };
    age(&oldest, 500);
    cache.kernel(&file(1)).unwrap();
    let second = entries(&cached).into_iter().find(|path| *path != oldest);
    age(&second.clone().unwrap(), 400);
    // Used again, so the other is the older one now.
    cache.kernel(&file(0)).unwrap();
    cache.kernel(&file(2)).unwrap();
    let left = entries(&cached);
    assert_eq!(left.len(), 2);
    assert!(left.contains(&oldest) && !left.contains(&second.unwrap()));
    // One that is larger than the limit is kept alone.
    let cache = Cache::new(&cached, 1);
    cache.kernel(&file(3)).unwrap();
    assert_eq!(entries(&cached).len(), 1);
}

#[test]
fn what_others_left_unfinished_is_cleared_away_when_it_is_old() {
    let dir = Dir::new();
    let cached = dir.path().join("cache");
    fs::create_dir(&cached).unwrap();
    for (name, seconds) in [("1-0.tmp", 7200), ("2-0.tmp", 10), ("README", 7200)] {
        let path = cached.join(name);
        fs::write(&path, b"x").unwrap();
        File::open(&path)
            .and_then(|file| file.set_modified(SystemTime::now() - Duration::from_secs(seconds)))
            .unwrap();
    }
    let file = dir.file("vmlinux", &elf(Kind::default()));
    Cache::new(&cached, LIMIT).kernel(&file).unwrap();
    let left: Vec<bool> = ["1-0.tmp", "2-0.tmp", "README"]
        .map(|name| cached.join(name).exists())
        .to_vec();
    assert_eq!(left, [false, true, true]);
}

#[test]
fn many_at_once_get_the_same_kernel() {
    let dir = Dir::new();
    let file = dir.file("vmlinux", &elf(Kind::default()));
    let cached = dir.path().join("cache");
    let cache = Cache::new(&cached, LIMIT);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(memory(&cache.kernel(&file).unwrap()) == expected()));
        }
    });
    assert_eq!(entries(&cached).len(), 1);
}

#[derive(Clone, Debug)]
enum Harm {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Empty,
}

fn harms() -> impl Strategy<Value = Harm> {
    prop_oneof![
        (any::<prop::sample::Index>(), 1..=255u8).prop_map(|(at, bits)| Harm::Flip(at, bits)),
        any::<prop::sample::Index>().prop_map(Harm::Cut),
        Just(Harm::Empty),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_harmed_entry_is_found_out_and_made_anew(harm in harms()) {
        let dir = Dir::new();
        let file = dir.file("vmlinux", &elf(Kind::default()));
        let cached = dir.path().join("cache");
        let cache = Cache::new(&cached, LIMIT);
        cache.kernel(&file).unwrap();
        let entry = entries(&cached)[0].clone();
        let whole = fs::read(&entry).unwrap();
        let mut bytes = whole.clone();
        match harm {
            Harm::Flip(at, bits) => bytes[at.index(whole.len())] ^= bits,
            Harm::Cut(at) => bytes.truncate(at.index(whole.len())),
            Harm::Empty => bytes.clear(),
        }
        fs::write(&entry, &bytes).unwrap();
        let again = cache.kernel(&file).unwrap();
        prop_assert!(matches!(again.pages(), Pages::Memory(_)), "it was believed");
        prop_assert!(memory(&again) == expected());
        prop_assert!(fs::read(&entry).unwrap() == whole);
    }
}
