//! A guest that is built is what it should be, seen from inside and from outside.

use crate::elf::{ENTRY, FIRST, INIT_P2M, Kind, SECOND, SECOND_LEN, VIRT_BASE, segments};
use crate::small::{TempInitrd, kernel, spec};
use builder::{Built, build};
use guest_abi::Wire;
use guest_abi::context::{VGCF_IN_KERNEL, VGCF_ONLINE, xen_cr3_to_pfn};
use guest_abi::start_info::{SIF_MOD_START_PFN, SIF_VIRT_P2M_4TOOLS, StartInfo};
use xen::fake::Fake;
use xen::{Access, DomId, Hypervisor, State};

const PAGE: u64 = 4096;

/// What the guest's first vCPU sees.
struct Inside<'a> {
    fake: &'a Fake,
    domain: DomId,
    root: u64,
}

impl Inside<'_> {
    fn of(fake: &Fake, domain: DomId) -> Inside<'_> {
        let context = fake.look(domain).unwrap().contexts[&0].clone();
        Inside {
            fake,
            domain,
            root: xen_cr3_to_pfn(context.ctrlreg[3]),
        }
    }

    /// The frame an address is mapped to, and whether it can be written.
    fn walk(&self, address: u64) -> Option<(u64, bool)> {
        let mut frame = self.root;
        let mut writable = true;
        for shift in [39, 30, 21, 12] {
            let mut entry = [0; 8];
            let at = (address >> shift & 511) * 8;
            self.fake.read_frame(frame, at as usize, &mut entry);
            let entry = u64::from_le_bytes(entry);
            if entry & 1 == 0 {
                return None;
            }
            writable &= entry & 2 != 0;
            frame = (entry & 0x000f_ffff_ffff_f000) >> 12;
        }
        Some((frame, writable))
    }

    fn read(&self, address: u64, len: usize) -> Vec<u8> {
        (address..address + len as u64)
            .map(|at| {
                let (frame, _) = self.walk(at).expect("it is mapped");
                let mut byte = [0];
                self.fake.read_frame(frame, (at % PAGE) as usize, &mut byte);
                byte[0]
            })
            .collect()
    }

    fn start_info(&self) -> StartInfo {
        let context = self.fake.look(self.domain).unwrap().contexts[&0].clone();
        let bytes = self.read(context.user_regs.rsi, StartInfo::SIZE);
        StartInfo::read_from(&bytes).unwrap()
    }
}

fn build_with(kind: Kind, initrd: &TempInitrd, pages: u64, large: bool) -> (Fake, Built) {
    let fake = Fake::new(pages + 300);
    fake.set_large_extents(large);
    let kernel = kernel(kind);
    let mut spec = spec(&kernel, Some(&initrd.initrd), pages);
    spec.vcpus = 3;
    spec.max_pages = pages + 50;
    let built = build(&fake, &spec).unwrap();
    (fake, built)
}

#[test]
fn the_kernel_starts_at_its_entry_with_everything_where_it_expects_it() {
    let initrd = TempInitrd::new(10_000);
    for large in [true, false] {
        let (fake, built) = build_with(Kind::default(), &initrd, 2000, large);
        let domain = fake.look(built.domain).unwrap();
        let context = &domain.contexts[&0];
        assert_eq!(context.user_regs.rip, ENTRY);
        assert_eq!(context.flags, VGCF_IN_KERNEL | VGCF_ONLINE);
        assert_eq!(
            (context.user_regs.cs, context.user_regs.ss),
            (0xe033, 0xe02b)
        );
        let inside = Inside::of(&fake, built.domain);
        assert!(inside.walk(context.user_regs.rsp - 8).unwrap().1);
        let (first, second) = segments();
        assert_eq!(inside.read(VIRT_BASE + FIRST, first.len()), first);
        assert_eq!(inside.read(VIRT_BASE + SECOND, second.len()), second);
        let rest = SECOND_LEN as usize - second.len();
        let behind = inside.read(VIRT_BASE + SECOND + second.len() as u64, rest);
        assert!(behind.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_start_of_day_page_tells_the_truth() {
    let initrd = TempInitrd::new(10_000);
    let (fake, built) = build_with(Kind::default(), &initrd, 2000, true);
    let domain = fake.look(built.domain).unwrap();
    let inside = Inside::of(&fake, built.domain);
    let info = inside.start_info();
    assert!(info.magic.starts_with(b"xen-3.0-x86_64\0"));
    assert_eq!(info.nr_pages, 2000);
    assert_eq!(info.shared_info, domain.shared_info * PAGE);
    assert_eq!(info.flags, SIF_MOD_START_PFN | SIF_VIRT_P2M_4TOOLS);
    assert_eq!(
        (info.store_mfn, info.store_evtchn),
        (built.store.frame, built.store.port)
    );
    assert_eq!(
        (info.console_mfn, info.console_evtchn),
        (built.console.frame, built.console.port)
    );
    assert!(info.cmd_line.starts_with(b"console=hvc0\0"));
    let mut module = vec![0; info.mod_len as usize];
    for (i, page) in module.chunks_mut(PAGE as usize).enumerate() {
        fake.read(built.domain, info.mod_start + i as u64, 0, page);
    }
    assert_eq!(module, initrd.bytes);
    // The tables are where it says, and the guest cannot write them.
    for table in 0..info.nr_pt_frames {
        let (_, writable) = inside.walk(info.pt_base + table * PAGE).unwrap();
        assert!(!writable);
    }
    assert_eq!(inside.walk(info.pt_base).unwrap().0, inside.root);
}

#[test]
fn the_frame_list_names_every_frame_and_ends_with_none() {
    let initrd = TempInitrd::new(100);
    for large in [true, false] {
        let (fake, built) = build_with(Kind::default(), &initrd, 2000, large);
        let domain = fake.look(built.domain).unwrap();
        let inside = Inside::of(&fake, built.domain);
        let info = inside.start_info();
        assert_eq!(info.mfn_list, INIT_P2M);
        let list = inside.read(INIT_P2M, 2048 * 8);
        for (pfn, entry) in list.chunks_exact(8).enumerate() {
            let frame = u64::from_le_bytes(entry.try_into().unwrap());
            let expected = domain.frames.get(&(pfn as u64)).copied();
            assert_eq!(frame, expected.unwrap_or(u64::MAX));
        }
    }
}

#[test]
fn a_kernel_without_wishes_gets_initrd_and_list_mapped_behind_it() {
    let initrd = TempInitrd::new(5000);
    let kind = Kind {
        plain: true,
        hypercall_page: true,
    };
    let (fake, built) = build_with(kind, &initrd, 2000, true);
    let inside = Inside::of(&fake, built.domain);
    let info = inside.start_info();
    assert_eq!(
        inside.read(info.mod_start, initrd.bytes.len()),
        initrd.bytes
    );
    let first = inside.read(info.mfn_list, 8);
    let domain = fake.look(built.domain).unwrap();
    assert_eq!(first, domain.frames[&0].to_le_bytes());
    // The stubs went over what the file had there.
    let page = domain.frames[&((FIRST + 0x2000) / PAGE)];
    assert_eq!(domain.hypercall_pages, [page]);
    assert_eq!(inside.read(VIRT_BASE + FIRST + 0x2000, 4), [0xcc; 4]);
}

#[test]
fn its_rings_are_granted_and_its_ports_wait_for_the_control_domain() {
    let initrd = TempInitrd::new(100);
    let (fake, built) = build_with(Kind::default(), &initrd, 2000, true);
    for ring in [built.store, built.console] {
        let mapped = fake
            .map_grants(built.domain, &[ring.reference], Access::Write)
            .unwrap();
        mapped.write(100, b"hello");
        let mut seen = [0; 5];
        fake.read_frame(ring.frame, 100, &mut seen);
        assert_eq!(&seen, b"hello");
    }
    let events = fake.event_channels().unwrap();
    let console = events
        .bind_interdomain(built.domain, built.console.port)
        .unwrap();
    fake.notify(built.domain, built.console.port);
    assert_eq!(events.pending().unwrap(), [console]);
    assert!(fake.map_grants(built.domain, &[2], Access::Read).is_err());
}

#[test]
fn it_is_paused_with_its_memory_its_map_and_all_events_masked() {
    let initrd = TempInitrd::new(100);
    let (fake, built) = build_with(Kind::default(), &initrd, 2000, true);
    let info = fake.domain(built.domain).unwrap().unwrap();
    assert_eq!(info.state(), State::Paused);
    assert_eq!((info.pages, info.max_pages), (2000, 2050));
    assert_eq!(&info.handle, b"0123456789abcdef");
    let domain = fake.look(built.domain).unwrap();
    assert_eq!((domain.vcpus, domain.mappings), (3, 0));
    let size = domain.memory_map[0].size;
    assert_eq!(size, 2050 * PAGE);
    for vcpu in 0..32 {
        let mut word = [0; 2];
        fake.read_frame(domain.shared_info, vcpu * 64, &mut word);
        assert_eq!(word, [0, 1]);
    }
    fake.destroy(built.domain).unwrap();
    assert_eq!(fake.leftovers(), Vec::<String>::new());
}

#[test]
fn sixty_four_vcpus_are_built() {
    let fake = Fake::new(3000);
    let kernel = kernel(Kind::default());
    let mut spec = spec(&kernel, None, 1500);
    spec.vcpus = 64;
    let built = build(&fake, &spec).unwrap();
    assert_eq!(fake.look(built.domain).unwrap().vcpus, 64);
}
