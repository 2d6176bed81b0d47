//! A distribution's own kernel, where one is at hand: `XENOSERVER_VMLINUZ` names the file. Says what it skips.

use image::{Compression, Container, ElfKernel, Scratch};
use std::time::Instant;

#[test]
fn a_stock_kernel_unpacks_and_is_placed_by_its_notes() {
    let Some(path) = std::env::var_os("XENOSERVER_VMLINUZ") else {
        eprintln!("skipped: XENOSERVER_VMLINUZ names no kernel");
        return;
    };
    let file = std::fs::read(path).unwrap();
    let Container::BzImage(bz) = Container::identify(&file).unwrap() else {
        panic!("not a bzImage")
    };
    println!(
        "protocol {:#06x}, {}",
        bz.protocol_version(),
        bz.kernel_version()
    );
    let payload = bz.payload();
    assert!(matches!(
        payload.compression(),
        Compression::Xz | Compression::Gzip
    ));

    let mut kernel = vec![0; payload.uncompressed_len().unwrap()];
    let mut scratch = Box::new(Scratch::new());
    let start = Instant::now();
    assert_eq!(
        payload.decompress(&mut kernel, &mut scratch),
        Ok(kernel.len())
    );
    println!(
        "{} bytes from {} in {:?}",
        kernel.len(),
        payload.compressed_len(),
        start.elapsed()
    );

    let elf = ElfKernel::parse(&kernel).unwrap();
    let notes = elf.xen_notes().unwrap();
    notes.check_interface().unwrap();
    notes.check_initial_domain().unwrap();
    let placement = elf.placement(&notes).unwrap();
    println!("{notes:#x?}\n{placement:#x?}");
    assert_eq!(placement.virt_base, 0xffff_ffff_8000_0000);
    assert_eq!(placement.init_p2m, Some(0x80_0000_0000));
    assert!(placement.mod_start_pfn);
    for load in elf.loads(&placement) {
        assert!(load.start >= placement.first_pfn << 12);
        assert!(load.start + load.mem_len <= placement.end_pfn << 12);
    }
}
