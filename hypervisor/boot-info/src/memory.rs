//! The memory map, made sane.
//!
//! Firmware maps come unsorted, overlapping, with empty entries and with entries that wrap around; this one does not
//! (invariant B2 of the crate). Regions are painted one by one onto a sorted list: usable memory first, then
//! everything that restricts it, so that when the list is full, whatever is given up is given up from usable memory
//! (B3).
//!
//! The regions are `bootloader_api`'s [`MemoryRegion`]: an honest start, end and kind that other Rust kernels and
//! tools know. Its kinds name no ACPI or bad memory, but carry the firmware's own number, which [`RegionKind`] reads.
//! The rest of that crate's `BootInfo` does not serve: it has no module list, command line or EFI tables, and its
//! image builder needs a nightly compiler.

use arrayvec::ArrayVec;
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};

/// The most regions kept. Large servers under UEFI report up to about 150.
pub const MAX_REGIONS: usize = 256;
/// One more than the highest physical address x86-64 can have.
pub const PHYSICAL_LIMIT: u64 = 1 << 52;
/// Bytes in a page frame.
pub const PAGE_SIZE: u64 = 4096;

/// What a stretch of physical memory is for. Ordered: where two claims meet, the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionKind {
    /// RAM, free to use.
    Usable,
    /// RAM that we have put to use ourselves ([`MemoryMap::claim`]).
    Claimed,
    /// ACPI tables: RAM once they have been read.
    AcpiReclaimable,
    /// ACPI's own storage; keep out.
    AcpiNvs,
    /// Devices, firmware, or a kind we do not know; keep out.
    Reserved,
    /// Broken memory; keep out.
    Bad,
}

impl RegionKind {
    /// The kind of an E820 (BIOS, Multiboot) entry.
    pub fn from_e820(number: u32) -> Self {
        match number {
            1 => RegionKind::Usable,
            3 => RegionKind::AcpiReclaimable,
            4 => RegionKind::AcpiNvs,
            5 => RegionKind::Bad,
            _ => RegionKind::Reserved,
        }
    }

    /// The kind of a UEFI memory descriptor, boot services being over: their memory and the loader's is usable, and
    /// what the loader left there for us is ours to claim.
    pub fn from_efi(number: u32) -> Self {
        match number {
            1..=4 | 7 => RegionKind::Usable,
            8 => RegionKind::Bad,
            9 => RegionKind::AcpiReclaimable,
            10 => RegionKind::AcpiNvs,
            _ => RegionKind::Reserved,
        }
    }

    /// The E820 number to report to a guest. Claimed memory is reserved there: it is RAM, but not the guest's.
    pub fn e820(self) -> u32 {
        match self {
            RegionKind::Usable => 1,
            RegionKind::Claimed | RegionKind::Reserved => 2,
            RegionKind::AcpiReclaimable => 3,
            RegionKind::AcpiNvs => 4,
            RegionKind::Bad => 5,
        }
    }
}

impl From<MemoryRegionKind> for RegionKind {
    fn from(kind: MemoryRegionKind) -> Self {
        match kind {
            MemoryRegionKind::Usable => RegionKind::Usable,
            MemoryRegionKind::Bootloader => RegionKind::Claimed,
            MemoryRegionKind::UnknownBios(number) => RegionKind::from_e820(number),
            MemoryRegionKind::UnknownUefi(number) => RegionKind::from_efi(number),
            _ => RegionKind::Reserved,
        }
    }
}

impl From<RegionKind> for MemoryRegionKind {
    fn from(kind: RegionKind) -> Self {
        match kind {
            RegionKind::Usable => MemoryRegionKind::Usable,
            RegionKind::Claimed => MemoryRegionKind::Bootloader,
            other => MemoryRegionKind::UnknownBios(other.e820()),
        }
    }
}

/// One region, its kind decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Just past the last byte.
    pub end: u64,
    /// What it is.
    pub kind: RegionKind,
}

impl From<MemoryRegion> for Region {
    fn from(region: MemoryRegion) -> Self {
        Region {
            start: region.start,
            end: region.end,
            kind: region.kind.into(),
        }
    }
}

/// A region as the firmware tells it: nothing about it is believed yet.
#[derive(Clone, Copy, Debug)]
pub struct FirmwareRegion {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// What it is said to be.
    pub kind: RegionKind,
}

/// The machine's physical memory: sorted, disjoint, nothing empty, equal neighbours merged.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    regions: ArrayVec<MemoryRegion, MAX_REGIONS>,
    dropped: u32,
}

impl MemoryMap {
    /// A map of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a map of what firmware tells. `walk` presents every entry to its argument and must do so each time it
    /// is called: usable memory is painted first, then what restricts it.
    pub fn from_firmware(walk: impl Fn(&mut dyn FnMut(FirmwareRegion))) -> Self {
        let mut map = Self::new();
        walk(&mut |raw| {
            if raw.kind == RegionKind::Usable {
                map.paint_firmware(raw);
            }
        });
        walk(&mut |raw| {
            if raw.kind != RegionKind::Usable {
                map.paint_firmware(raw);
            }
        });
        map
    }

    /// Makes a map of the two sizes that loaders tell where there is no map: KiB from address 0 and from 1 MiB on.
    pub(crate) fn from_sizes(lower_kib: u32, upper_kib: u32) -> Self {
        // The number for memory below 1 MiB cannot say more than 640 KiB and still be true.
        let runs = [(0, lower_kib.min(640)), (1 << 20, upper_kib)];
        Self::from_firmware(|visit| {
            for (start, kib) in runs {
                visit(FirmwareRegion {
                    start,
                    len: u64::from(kib) * 1024,
                    kind: RegionKind::Usable,
                });
            }
        })
    }

    /// The regions, lowest first.
    pub fn regions(&self) -> &[MemoryRegion] {
        &self.regions
    }

    /// The regions, lowest first, their kinds decoded.
    pub fn iter(&self) -> impl Iterator<Item = Region> + '_ {
        self.regions.iter().copied().map(Region::from)
    }

    /// Entries that were impossible, and regions given up for want of room.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Usable memory in whole page frames: `(first, end)` frame numbers, lowest first. A page that is only partly
    /// usable is not.
    pub fn usable_frames(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.iter()
            .filter(|region| region.kind == RegionKind::Usable)
            .filter_map(|region| {
                let first = region.start.div_ceil(PAGE_SIZE);
                let end = region.end / PAGE_SIZE;
                (first < end).then_some((first, end))
            })
    }

    /// Usable memory in bytes, whole pages only.
    pub fn usable_bytes(&self) -> u64 {
        self.usable_frames()
            .map(|(first, end)| (end - first) * PAGE_SIZE)
            .sum()
    }

    /// One more than the highest frame that is RAM of any sort (usable, claimed or ACPI tables): what a frame table
    /// must reach to.
    pub fn ram_end_frame(&self) -> u64 {
        self.iter()
            .filter(|region| region.kind <= RegionKind::AcpiNvs)
            .map(|region| region.end.div_ceil(PAGE_SIZE))
            .max()
            .unwrap_or(0)
    }

    /// The kind of the byte at `address`; `None` where the map says nothing.
    pub fn kind_at(&self, address: u64) -> Option<RegionKind> {
        self.iter()
            .find(|region| region.start <= address && address < region.end)
            .map(|region| region.kind)
    }

    /// Takes `[start, end)` out of usable memory, widened to whole pages: our image, a module, a table.
    pub fn claim(&mut self, start: u64, end: u64) {
        if start < end {
            let end = end.saturating_add(PAGE_SIZE - 1) & !(PAGE_SIZE - 1);
            self.paint(
                start & !(PAGE_SIZE - 1),
                end.min(PHYSICAL_LIMIT),
                RegionKind::Claimed,
            );
        }
    }

    /// Paints one firmware entry, or drops it. Usable memory that wraps around or lies beyond the architecture's
    /// addresses is a lie; what keeps us out of somewhere is believed as far as it can be.
    fn paint_firmware(&mut self, raw: FirmwareRegion) {
        let end = match raw.start.checked_add(raw.len) {
            Some(end) => end,
            None if raw.kind == RegionKind::Usable => return self.drop_one(),
            None => PHYSICAL_LIMIT,
        };
        if raw.start >= PHYSICAL_LIMIT && raw.len > 0 {
            return self.drop_one();
        }
        self.paint(raw.start, end.min(PHYSICAL_LIMIT), raw.kind);
    }

    fn drop_one(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }

    /// Gives `[start, end)` the kind `kind` wherever no greater kind holds already.
    fn paint(&mut self, start: u64, end: u64, kind: RegionKind) {
        let mut cursor = start;
        let mut index = self.regions.partition_point(|region| region.end <= start);
        while cursor < end {
            let below = self
                .regions
                .get(index)
                .copied()
                .filter(|region| region.start < end);
            cursor = match below {
                Some(region) if region.start <= cursor => {
                    let stop = region.end.min(end);
                    if RegionKind::from(region.kind) < kind {
                        index = self.repaint(index, region, cursor, stop, kind);
                    } else {
                        index += 1;
                    }
                    stop
                }
                gap => {
                    let stop = gap.map_or(end, |region| region.start);
                    if self.insert(index, cursor, stop, kind) {
                        index += 1;
                    }
                    stop
                }
            };
        }
        self.merge_neighbours();
    }

    /// Inserts a region into a gap before `index`. A full map drops it: the gap stays a hole, which nobody uses.
    fn insert(&mut self, index: usize, start: u64, end: u64, kind: RegionKind) -> bool {
        let fits = self
            .regions
            .try_insert(
                index,
                MemoryRegion {
                    start,
                    end,
                    kind: kind.into(),
                },
            )
            .is_ok();
        if !fits {
            self.drop_one();
        }
        fits
    }

    /// Gives the part `[start, stop)` of the region at `index` a greater kind. Returns the index after that part.
    fn repaint(
        &mut self,
        index: usize,
        old: MemoryRegion,
        start: u64,
        stop: u64,
        kind: RegionKind,
    ) -> usize {
        let before = MemoryRegion { end: start, ..old };
        let painted = MemoryRegion {
            start,
            end: stop,
            kind: kind.into(),
        };
        let after = MemoryRegion { start: stop, ..old };
        let pieces: ArrayVec<MemoryRegion, 3> = [before, painted, after]
            .into_iter()
            .filter(|piece| piece.start < piece.end)
            .collect();
        if self.regions.remaining_capacity() + 1 < pieces.len() {
            // No room to split: keep the larger of what is left on either side, and let the rest become a hole.
            self.drop_one();
            let keep = if before.end - before.start >= after.end - after.start {
                before
            } else {
                after
            };
            if let Some(slot) = self.regions.get_mut(index) {
                *slot = keep;
            }
            // When the higher side was kept, the cursor stands at its start and the next round steps over it.
            return if keep == before { index + 1 } else { index };
        }
        self.regions.remove(index);
        for (offset, piece) in pieces.iter().enumerate() {
            self.regions.insert(index + offset, *piece);
        }
        index + if before.start < before.end { 2 } else { 1 }
    }

    /// Joins adjacent regions of one kind.
    fn merge_neighbours(&mut self) {
        let mut merged: Option<(usize, MemoryRegion)> = None;
        let mut kept = 0;
        for index in 0..self.regions.len() {
            let Some(region) = self.regions.get(index).copied() else {
                break;
            };
            match &mut merged {
                Some((slot, last)) if last.end == region.start && last.kind == region.kind => {
                    last.end = region.end;
                    if let Some(place) = self.regions.get_mut(*slot) {
                        *place = *last;
                    }
                }
                _ => {
                    if let Some(place) = self.regions.get_mut(kept) {
                        *place = region;
                    }
                    merged = Some((kept, region));
                    kept += 1;
                }
            }
        }
        self.regions.truncate(kept);
    }
}
