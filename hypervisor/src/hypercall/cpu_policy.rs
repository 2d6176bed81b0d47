//! What CPUID shows as the two lists that tool stacks read and write: of leaves, and of registers.

use crate::arch::cpu::CpuidResult;
use crate::domain::Guest;
use guest_abi::domctl::{CpuidLeaf, MsrEntry, XEN_CPUID_NO_SUBLEAF};
use guest_abi::{Errno, Wire};

/// The most leaves and registers that a list has.
pub const MAX_LEAVES: u32 = 160;
pub const MAX_MSRS: u32 = 2;

/// Registers that are part of a policy, all of whose bits are hidden.
const MSRS: [u32; MAX_MSRS as usize] = [0xce, 0x10a];
/// Leaves that depend on ECX, and how many answers of each are told.
const WITH_SUBLEAVES: [(u32, u32); 4] = [(4, 6), (7, 2), (0xb, 2), (0xd, 63)];
/// Highest leaves that a policy has.
const MAX_BASIC: u32 = 0x1c;
const MAX_EXTENDED: u32 = 0x8000_0021;
/// The interface's own: only how many there are is told.
const INTERFACE: [u32; 2] = [0x4000_0000, 0x4000_0100];

/// The caller's two lists.
pub struct Lists {
    pub leaves: u64,
    pub nr_leaves: u32,
    pub msrs: u64,
    pub nr_msrs: u32,
}

/// How much was written.
pub struct Written {
    pub nr_leaves: u32,
    pub nr_msrs: u32,
}

fn put_list<T: Wire>(
    g: &Guest<'_>,
    at: u64,
    room: u32,
    most: u32,
    all: impl Iterator<Item = T>,
) -> Result<u32, Errno> {
    if at == 0 {
        return Ok(most);
    }
    let mut written = 0;
    for entry in all {
        if written == room {
            return Err(Errno::NoBufs);
        }
        let place = at.wrapping_add(u64::from(written) * T::SIZE as u64);
        g.memory().put(place, &entry)?;
        written += 1;
    }
    Ok(written)
}

/// Every leaf that says something, in order.
fn leaves(ask: impl Fn(u32, u32) -> CpuidResult + Copy) -> impl Iterator<Item = CpuidLeaf> {
    let basic = 0..=ask(0, 0).eax.min(MAX_BASIC);
    let extended = 0x8000_0000..=ask(0x8000_0000, 0).eax.min(MAX_EXTENDED);
    let all = basic.chain(INTERFACE).chain(extended);
    all.flat_map(move |leaf| {
        let subleaves = WITH_SUBLEAVES.iter().find(|(with, _)| *with == leaf);
        let count = subleaves.map_or(1, |(_, count)| *count);
        (0..count).filter_map(move |sub| {
            // Of the interface's leaves only their number may be chosen, and it is not.
            let r = match INTERFACE.contains(&leaf) {
                true => CpuidResult {
                    eax: 0,
                    ebx: 0,
                    ecx: 0,
                    edx: 0,
                },
                false => ask(leaf, sub),
            };
            let says = sub == 0 || (r.eax | r.ebx | r.ecx | r.edx) != 0;
            says.then_some(CpuidLeaf {
                leaf,
                subleaf: match subleaves {
                    Some(_) => sub,
                    None => XEN_CPUID_NO_SUBLEAF,
                },
                a: r.eax,
                b: r.ebx,
                c: r.ecx,
                d: r.edx,
            })
        })
    })
}

/// Writes what `ask` says into the lists; a list that is nowhere is only told how long it may get.
pub fn write(
    g: &mut Guest<'_>,
    ask: impl Fn(u32, u32) -> CpuidResult + Copy,
    lists: &Lists,
) -> Result<Written, Errno> {
    let registers = MSRS.iter().map(|idx| MsrEntry {
        idx: *idx,
        ..MsrEntry::ZERO
    });
    let written = Written {
        nr_leaves: put_list(g, lists.leaves, lists.nr_leaves, MAX_LEAVES, leaves(ask))?,
        nr_msrs: put_list(g, lists.msrs, lists.nr_msrs, MAX_MSRS, registers)?,
    };
    // Each is an instruction that ring 0 may have to wait for.
    g.charge(u64::from(MAX_LEAVES));
    Ok(written)
}

/// Looks whether the lists can be a policy, as far as their form goes.
pub fn look(g: &mut Guest<'_>, lists: &Lists) -> Result<(), Errno> {
    if lists.nr_leaves > MAX_LEAVES || lists.nr_msrs > MAX_MSRS {
        return Err(Errno::TooBig);
    }
    for i in 0..u64::from(lists.nr_leaves) {
        let at = lists.leaves.wrapping_add(i * CpuidLeaf::SIZE as u64);
        let _: CpuidLeaf = g.memory().value(at)?;
    }
    for i in 0..u64::from(lists.nr_msrs) {
        let at = lists.msrs.wrapping_add(i * MsrEntry::SIZE as u64);
        let entry: MsrEntry = g.memory().value(at)?;
        if entry.flags != 0 {
            return Err(Errno::Inval);
        }
    }
    g.charge(u64::from(lists.nr_leaves));
    Ok(())
}
