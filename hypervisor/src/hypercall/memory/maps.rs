//! Maps of memory: the machine's, what a domain is shown of its own, and where the machine-to-pseudophysical table is.

use crate::domain::Guest;
use crate::domain::allotment::{MAP_BYTES, MAP_ENTRIES};
use crate::hypercall::{Outcome, Stop, subject};
use crate::layout::M2P_GUEST;
use crate::memory::{frame_table, m2p};
use crate::{boot, device};
use guest_abi::memory::{
    E820_RESERVED, E820Entry, XenForeignMemoryMap, XenMachphysMapping, XenMachphysMfnList,
    XenMemoryMap,
};
use guest_abi::{Errno, Wire};

/// Where the machine-to-pseudophysical table is, and how far it goes.
pub(super) fn machphys_mapping(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let max_mfn = frame_table::end().saturating_sub(1);
    let mapping = XenMachphysMapping {
        v_start: M2P_GUEST,
        v_end: (M2P_GUEST + (max_mfn + 1) * 8).next_multiple_of(2 << 20),
        max_mfn,
    };
    g.memory().put(arg, &mapping)?;
    Ok(0)
}

/// The first frame of every 2 MiB of that table, for tools that map it.
pub(super) fn machphys_frames(g: &mut Guest<'_>, arg: u64) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let mut list: XenMachphysMfnList = g.memory().value(arg)?;
    g.memory().check_writable(arg, XenMachphysMfnList::SIZE)?;
    let mut last = 0;
    let mut written = 0;
    for frame in m2p::pieces().take(list.max_extents as usize) {
        g.spend_here();
        // Where there is no memory there is no part of the table: the one before stands for it.
        last = frame.map_or(last, |frame| frame.0);
        let at = list.extent_start.wrapping_add(u64::from(written) * 8);
        g.memory().put(at, &last)?;
        written += 1;
    }
    list.nr_extents = written;
    g.memory().put(arg, &list)?;
    Ok(0)
}

/// The caller's own map, if it was given one.
pub(super) fn memory_map(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let mut want: XenMemoryMap = g.memory().value(arg)?;
    g.memory().check_writable(arg, XenMemoryMap::SIZE)?;
    let mut bytes = [0u8; MAP_BYTES];
    let room = (want.nr_entries as usize).min(MAP_ENTRIES) * E820Entry::SIZE;
    let room = bytes.get_mut(..room).ok_or(Errno::Inval)?;
    let len = g.dom.copy_map(room).ok_or(Errno::NoSys)?;
    let entries = room.get(..len).unwrap_or_default();
    g.memory().write(want.buffer, entries)?;
    want.nr_entries = (len / E820Entry::SIZE) as u32;
    g.memory().put(arg, &want)?;
    Ok(0)
}

/// Gives a domain a map to be shown.
pub(super) fn set_memory_map(g: &mut Guest<'_>, arg: u64) -> Outcome {
    let want: XenForeignMemoryMap = g.memory().value(arg)?;
    if want.map.nr_entries as usize > MAP_ENTRIES {
        return Err(Errno::Inval.into());
    }
    let dom = subject(g, want.domid)?;
    let mut bytes = [0u8; MAP_BYTES];
    let entries = bytes
        .get_mut(..want.map.nr_entries as usize * E820Entry::SIZE)
        .ok_or(Errno::Inval)?;
    g.memory().read(want.map.buffer, entries)?;
    dom.set_map(entries)?;
    Ok(0)
}

/// The machine's map as the control domain may use it: with the interrupt controllers' pages reserved.
pub(super) fn machine_map(g: &mut Guest<'_>, arg: u64) -> Outcome {
    if !g.dom.privileged {
        return Err(Errno::Perm.into());
    }
    let mut map: XenMemoryMap = g.memory().value(arg)?;
    let mut written = 0u32;
    let mut put = |start: u64, end: u64, kind: u32| -> Result<(), Stop> {
        if written < map.nr_entries && start < end {
            let entry = E820Entry {
                addr: start,
                size: end - start,
                kind,
            };
            let at = map
                .buffer
                .wrapping_add(u64::from(written) * E820Entry::SIZE as u64);
            g.memory().put(at, &entry)?;
            written += 1;
        }
        Ok(())
    };
    let controllers = device::controller_ranges();
    let mut next = 0;
    for region in boot::boot_info().memory.iter() {
        while let Some(&(start, end)) = controllers.get(next).filter(|c| c.0 < region.start) {
            put(start, end.min(region.start), E820_RESERVED)?;
            next += 1;
        }
        while controllers.get(next).is_some_and(|c| c.0 < region.end) {
            next += 1;
        }
        put(region.start, region.end, region.kind.e820())?;
    }
    for &(start, end) in controllers.get(next..).unwrap_or_default() {
        put(start, end, E820_RESERVED)?;
    }
    map.nr_entries = written;
    g.memory().put(arg, &map)?;
    Ok(0)
}
