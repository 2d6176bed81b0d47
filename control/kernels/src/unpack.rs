//! From the bytes of a file to a [`Kernel`] in memory.

use crate::kernel::{Extent, Kernel, PAGE, Pages};
use image::{Container, ElfKernel, ImageError, Load, Placement, Scratch};

/// Unpacks and checks a kernel.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unpack(file: Vec<u8>) -> Result<Kernel, ImageError> {
    let elf = elf_bytes(file)?;
    let kernel = ElfKernel::parse(&elf)?;
    let notes = kernel.xen_notes()?;
    notes.check_interface()?;
    let placement = kernel.placement(&notes)?;
    let mut loads: Vec<Load<'_>> = kernel.loads(&placement).collect();
    loads.sort_unstable_by_key(|load| load.start);
    let Split { extents, tail } = split(&elf, &loads, &placement);
    let mut bytes = elf;
    bytes.extend(tail);
    Ok(Kernel::new(placement, extents, Pages::Memory(bytes)))
}

/// The ELF file: the file itself, or what is in it.
fn elf_bytes(file: Vec<u8>) -> Result<Vec<u8>, ImageError> {
    match Container::identify(&file)? {
        Container::Elf(_) => Ok(file),
        Container::BzImage(image) => {
            let payload = image.payload();
            let len = payload.uncompressed_len()?;
            let mut out = vec![0; len];
            let mut scratch = Box::new(Scratch::new());
            payload.decompress(&mut out, &mut scratch)?;
            Ok(out)
        }
    }
}

/// The pages of a kernel in its file, and pages that had to be put together and go behind it.
struct Split {
    extents: Vec<Extent>,
    tail: Vec<u8>,
}

/// Finds the pages that are not empty. Those whose bytes lie in the file as they are stay there.
fn split(elf: &[u8], loads: &[Load<'_>], placement: &Placement) -> Split {
    let mut split = Split {
        extents: Vec::new(),
        tail: Vec::new(),
    };
    let mut rest = loads;
    for pfn in placement.first_pfn..placement.end_pfn {
        let start = pfn * PAGE;
        while let [first, others @ ..] = rest
            && first.start + first.data.len() as u64 <= start
        {
            rest = others;
        }
        let end = start + PAGE;
        match rest {
            [] => break,
            [first, ..] if first.start >= end => {}
            [first, ..] if first.start <= start && end <= first.start + first.data.len() as u64 => {
                let at = (start - first.start) as usize;
                let page = &first.data[at..at + PAGE as usize];
                if !is_zero(page) {
                    // Its bytes are a part of the file's.
                    let offset = page.as_ptr().addr() - elf.as_ptr().addr();
                    split.add(pfn, offset as u64);
                }
            }
            _ => {
                let page = assemble(rest, start);
                if !is_zero(&page) {
                    let offset = elf.len() + split.tail.len();
                    split.tail.extend(page);
                    split.add(pfn, offset as u64);
                }
            }
        }
    }
    split
}

impl Split {
    fn add(&mut self, pfn: u64, offset: u64) {
        match self.extents.last_mut() {
            Some(last)
                if last.first_pfn + last.pages == pfn
                    && last.offset + last.pages * PAGE == offset =>
            {
                last.pages += 1;
            }
            _ => self.extents.push(Extent {
                first_pfn: pfn,
                pages: 1,
                offset,
            }),
        }
    }
}

/// The page at `start` out of the pieces that have a part of it.
fn assemble(loads: &[Load<'_>], start: u64) -> [u8; PAGE as usize] {
    let mut page = [0; PAGE as usize];
    let end = start + PAGE;
    for load in loads.iter().take_while(|load| load.start < end) {
        let from = load.start.max(start);
        let to = (load.start + load.data.len() as u64).min(end);
        if from < to {
            let data = &load.data[(from - load.start) as usize..(to - load.start) as usize];
            page[(from - start) as usize..(to - start) as usize].copy_from_slice(data);
        }
    }
    page
}

fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(first_pfn: u64, end_pfn: u64) -> Placement {
        Placement {
            virt_base: 0,
            paddr_offset: 0,
            entry: 0,
            first_pfn,
            end_pfn,
            hypercall_pfn: None,
            init_p2m: None,
            mod_start_pfn: true,
        }
    }

    /// What the domain's memory would hold.
    fn put_together(elf: &[u8], loads: &[Load<'_>], placement: &Placement) -> Vec<u8> {
        let Split { extents, tail } = split(elf, loads, placement);
        let mut bytes = elf.to_vec();
        bytes.extend(tail);
        let mut memory = vec![0; (placement.end_pfn * PAGE) as usize];
        for extent in extents {
            let from = &bytes[extent.offset as usize..][..(extent.pages * PAGE) as usize];
            let to = (extent.first_pfn * PAGE) as usize;
            memory[to..to + from.len()].copy_from_slice(from);
        }
        memory
    }

    #[test]
    fn pieces_come_out_where_they_belong_whether_or_not_they_share_pages() {
        let elf: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8 + 1).collect();
        let load = |start, from: usize, len: usize, mem_len| Load {
            start,
            mem_len,
            data: &elf[from..from + len],
        };
        let loads = [
            load(0x1000, 0x1000, 0x2000, 0x2000),
            load(0x3010, 0x10, 0x20, 0x100),
            load(0x3110, 0x110, 0xef0, 0xef0),
            load(0x4000, 0x200, 0x1801, 0x3000),
            load(0x7fff, 0x300, 2, 2),
            load(0x9000, 0x400, 0, 0x1000),
        ];
        let placement = placement(1, 10);
        let memory = put_together(&elf, &loads, &placement);
        let mut expected = vec![0; memory.len()];
        for load in &loads {
            expected[load.start as usize..load.start as usize + load.data.len()]
                .copy_from_slice(load.data);
        }
        assert!(memory == expected);
    }

    #[test]
    fn empty_pages_are_left_out() {
        let mut elf = vec![0; 0x5000];
        elf[0x1fff] = 1;
        elf[0x4000] = 1;
        let loads = [Load {
            start: 0x10_0000,
            mem_len: 0x6000,
            data: &elf,
        }];
        let Split { extents, tail } = split(&elf, &loads, &placement(0x100, 0x106));
        assert!(tail.is_empty());
        let pages: Vec<u64> = extents.iter().map(|e| e.first_pfn).collect();
        assert_eq!(pages, [0x101, 0x104]);
    }
}
