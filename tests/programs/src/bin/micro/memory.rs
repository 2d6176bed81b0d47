//! Mappings and page faults.

use crate::measure::{FEW, ROUNDS, least, tell};
use crate::pages;
use programs::calls::{self, Access, PAGE, Sharing};
use programs::now;
use programs::sys::{self, Errno};

const MIB: usize = 1 << 20;
/// What one L1 table maps.
const REGION: usize = 2 * MIB;

/// Measures them.
pub fn all() -> Result<(), Errno> {
    protection()?;
    least("mmap-munmap-untouched", ROUNDS, 1, || {
        let place = calls::map(MIB, Access::Write, Sharing::Private, None)?;
        calls::unmap(place, MIB)
    })?;
    least("touch-unmap-page", FEW, (MIB / PAGE) as u64, || {
        let place = calls::map(MIB, Access::Write, Sharing::Private, None)?;
        pages::touch(place, MIB, PAGE);
        calls::unmap(place, MIB)
    })?;
    const REGIONS: usize = 16;
    least("touch-1-page-in-2-MiB", FEW, REGIONS as u64, || {
        let place = calls::map(REGIONS * REGION, Access::Write, Sharing::Private, None)?;
        pages::touch(place, REGIONS * REGION, REGION);
        calls::unmap(place, REGIONS * REGION)
    })?;
    let file = calls::open_to_read(c"/bin/busybox")?;
    least("file-map-unmap-page", FEW, (MIB / PAGE) as u64, || {
        let place = calls::map(MIB, Access::Read, Sharing::Shared, Some(file))?;
        pages::look(place, MIB);
        calls::unmap(place, MIB)
    })?;
    calls::close(file)?;
    copy_on_write()
}

fn protection() -> Result<(), Errno> {
    for (name, bytes) in [("mprotect-pair-page", PAGE), ("mprotect-pair-MiB", MIB)] {
        let place = calls::map(bytes, Access::Write, Sharing::Private, None)?;
        pages::touch(place, bytes, PAGE);
        least(name, FEW, 1, || {
            calls::protect(place, bytes, Access::Read)?;
            calls::protect(place, bytes, Access::Write)?;
            // A change of rights that nothing used would leave the entry as it was.
            pages::touch(place, bytes, PAGE);
            Ok(())
        })?;
        calls::unmap(place, bytes)?;
    }
    Ok(())
}

/// A child writes to each of the pages that it shares with its parent, and tells the ticks through a shared page.
fn copy_on_write() -> Result<(), Errno> {
    const PAGES: usize = 256;
    let told = calls::map(PAGE, Access::Write, Sharing::Shared, None)?;
    let place = calls::map(PAGES * PAGE, Access::Write, Sharing::Private, None)?;
    pages::touch(told, PAGE, PAGE);
    pages::touch(place, PAGES * PAGE, PAGE);
    let mut least = u64::MAX;
    for _ in 0..FEW {
        let child = calls::fork()?;
        if child == 0 {
            let start = now();
            pages::touch(place, PAGES * PAGE, PAGE);
            let ticks = now() - start;
            // SAFETY: the shared page, mapped above; the parent reads it after this process ended.
            unsafe { (told as *mut u64).write_volatile(ticks) };
            sys::exit(0);
        }
        calls::wait(child)?;
        // SAFETY: as above.
        least = least.min(unsafe { (told as *const u64).read_volatile() });
    }
    tell("copy-on-write-page", least, PAGES as u64);
    calls::unmap(place, PAGES * PAGE)?;
    calls::unmap(told, PAGE)
}
