//! What a domain is shown of its memory, and frames of its that are no memory of its.

use guest_runtime::abi::{
    E820Entry, XenForeignMemoryMap, XenMemAcquireResource, XenMemoryDomain, XenMemoryMap,
    XenVnumaTopologyInfo, errno, memory, mmu,
};
use guest_runtime::builder::Child;
use guest_runtime::window::Window;
use guest_runtime::{Global, check, check_eq, frames};
use guests::accepted;

use crate::{either, memory_op, of, update, with_child, with_list};

/// What the child reads its map into.
static ROOM: Global<[u64; 16]> = Global::new([0; 16]);

pub fn all() {
    with_child(|child| {
        maps(child);
        resources(child);
        let mut who = XenMemoryDomain { domid: child.id };
        check!(
            memory_op(memory::MAXIMUM_GPFN, &mut who) >= 0,
            "its highest page"
        );
        let mut nodes = XenVnumaTopologyInfo {
            domid: child.id,
            ..XenVnumaTopologyInfo::ZERO
        };
        check_eq!(
            "its nodes",
            memory_op(memory::GET_VNUMAINFO, &mut nodes),
            -errno::EOPNOTSUPP
        );
    });
}

/// Step: asks for its map with room for so many entries: the answer, and how many there were.
fn own_map([room, ..]: [u64; 5]) -> i64 {
    let mut words = [0u64; 16];
    let mut map = XenMemoryMap {
        nr_entries: room as u32,
        buffer: words.as_mut_ptr() as u64,
        ..XenMemoryMap::ZERO
    };
    let result = memory_op(memory::MEMORY_MAP, &mut map);
    ROOM.set(words);
    if result == 0 {
        i64::from(map.nr_entries)
    } else {
        result
    }
}

/// Step: a word of what it read.
fn read_word([index, ..]: [u64; 5]) -> i64 {
    ROOM.get()[index as usize % 16] as i64
}

fn set_map(domain: u16, entries: u32, buffer: u64) -> i64 {
    let mut map = XenForeignMemoryMap {
        domid: domain,
        map: XenMemoryMap {
            nr_entries: entries,
            buffer,
            ..XenMemoryMap::ZERO
        },
        ..XenForeignMemoryMap::ZERO
    };
    memory_op(memory::SET_MEMORY_MAP, &mut map)
}

fn maps(child: &mut Child) {
    check_eq!(
        "no map",
        child.call(own_map, [4, 0, 0, 0, 0]),
        -errno::ENOSYS
    );
    let list = [
        E820Entry {
            addr: 0,
            size: 0x20_0000,
            kind: 1,
        },
        E820Entry {
            addr: 0x40_0000,
            size: 0x1000,
            kind: 2,
        },
        E820Entry {
            addr: 0x50_0000,
            size: 0x2000,
            kind: 1,
        },
    ];
    accepted("a map", set_map(child.id, 3, list.as_ptr() as u64));
    check_eq!("all of it", child.call(own_map, [6, 0, 0, 0, 0]), 3);
    check_eq!(
        "its second word",
        child.call(read_word, [1, 0, 0, 0, 0]),
        0x20_0000
    );
    // 20 bytes an entry: the third is at 40.
    check_eq!(
        "of its third entry",
        child.call(read_word, [5, 0, 0, 0, 0]),
        0x50_0000
    );
    check_eq!("two of it", child.call(own_map, [2, 0, 0, 0, 0]), 2);
    check_eq!(
        "nothing of the third",
        child.call(read_word, [5, 0, 0, 0, 0]),
        0
    );
    check_eq!("none of it", child.call(own_map, [0; 5]), 0);
    accepted("another", set_map(child.id, 1, list.as_ptr() as u64));
    check_eq!("which it sees", child.call(own_map, [6, 0, 0, 0, 0]), 1);
    let page = frames::allocate();
    let long = set_map(child.id, 129, page.va());
    check_eq!("too long", long, either(0, -errno::EINVAL));
    accepted("as long as can be", set_map(child.id, 128, page.va()));
    frames::release(page);
    check_eq!(
        "nobody's",
        set_map(0x7000, 1, list.as_ptr() as u64),
        -errno::ESRCH
    );
    check_eq!(
        "from nowhere",
        set_map(child.id, 1, 0xffff_8000_0000_0000),
        -errno::EFAULT
    );
    check_eq!("which changed nothing", child.call(own_map, [0; 5]), 0);
}

fn resource(domain: u16, kind: u16, id: u32, frame: u64, nr_frames: u32, list: u64) -> (i64, u32) {
    let mut want = XenMemAcquireResource {
        domid: domain,
        kind,
        id,
        nr_frames,
        frame,
        frame_list: list,
        ..XenMemAcquireResource::ZERO
    };
    let result = memory_op(memory::ACQUIRE_RESOURCE, &mut want);
    (result, want.nr_frames)
}

fn resources(child: &mut Child) {
    let id = child.id;
    // The builder allows four.
    check_eq!("how many there can be", resource(id, 1, 0, 0, 0, 0), (0, 4));
    with_list(&[0; 8], |page| {
        check_eq!("the first", resource(id, 1, 0, 0, 1, page.va()).0, 0);
        let first = page.read(0);
        check_eq!("all of them", resource(id, 1, 0, 0, 4, page.va()).0, 0);
        check_eq!("the first is the same", page.read(0), first);
        check!(
            page.read(3) != 0 && page.read(3) != first,
            "the last is another"
        );
        check_eq!(
            "the last alone",
            resource(id, 1, 0, 3, 1, page.va() + 32).0,
            0
        );
        check_eq!("which is the same", page.read(4), page.read(3));
        let window = Window::new();
        let slot = window.slot().maddr();
        let flags =
            guest_runtime::page_table::bits::KERNEL_RW | guest_runtime::page_table::bits::NX;
        accepted(
            "mapped",
            update(slot | mmu::NO_TRANSLATE, first << 12 | flags, of(id, None)),
        );
        let _ = window.read(0);
        window.close();
        for (kind, which, frame, count, wanted) in [
            (1, 0, 4, 1, -errno::EINVAL),
            (1, 0, 3, 2, -errno::EINVAL),
            (1, 0, u64::MAX, 1, -errno::EINVAL),
            (1, 1, 0, 1, -errno::EINVAL),
            (1, 2, 0, 1, -errno::EINVAL),
            (0, 0, 0, 1, either(-errno::EINVAL, -errno::EOPNOTSUPP)),
            (7, 0, 0, 1, -errno::EOPNOTSUPP),
        ] {
            let (result, _) = resource(id, kind, which, frame, count, page.va());
            if !check_eq!("what there is not", result, wanted) {
                guest_runtime::say!("  kind {kind}, id {which}, frame {frame:#x}, {count} frames");
            }
        }
        check_eq!(
            "nobody's",
            resource(0x7000, 1, 0, 0, 1, page.va()).0,
            -errno::ESRCH
        );
        check_eq!(
            "our own",
            resource(0, 1, 0, 0, 1, page.va()).0,
            -errno::EPERM
        );
        let nowhere = resource(id, 1, 0, 0, 1, 0xffff_8000_0000_0000).0;
        check_eq!("to nowhere", nowhere, -errno::EFAULT);
    });
}
