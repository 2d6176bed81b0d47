//! Tables as machines have them, and tables that lie.

use boot_info::{PhysReader, RSDP_LEN, RsdpSource};
use firmware::{Platform, Register, Signal, SleepType, discover, find_s5};
use proptest::prelude::*;
use std::cell::Cell;

const MEMORY: usize = 1 << 20;
const RSDP: usize = 0xf_0000;
const RSDT: usize = 0x1000;
const MADT: usize = 0x2000;
const FADT: usize = 0x3000;
const HPET: usize = 0x4000;
const DSDT: usize = 0x5000;
const XSDT: usize = 0x6000;
const TABLES: [usize; 6] = [RSDT, MADT, FADT, HPET, DSDT, XSDT];

/// A megabyte of physical memory.
#[derive(Clone)]
struct Memory(Vec<u8>);

impl PhysReader for Memory {
    fn read(&self, phys: u64, buf: &mut [u8]) -> bool {
        let Ok(start) = usize::try_from(phys) else {
            return false;
        };
        let found = start
            .checked_add(buf.len())
            .and_then(|end| self.0.get(start..end));
        match found {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }
}

impl Memory {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn table(&mut self, at: usize, signature: &[u8; 4], revision: u8, body: &[u8]) {
        let len = 36 + body.len() as u32;
        self.put(at, signature);
        self.put(at + 4, &len.to_le_bytes());
        self.put(at + 8, &[revision]);
        self.put(at + 36, body);
        self.seal(at);
    }

    /// Makes a table's checksum right, if its length can be.
    fn seal(&mut self, at: usize) {
        let len = u32::from_le_bytes(self.0[at + 4..at + 8].try_into().unwrap()) as usize;
        if let Some(bytes) = self
            .0
            .get_mut(at..at.saturating_add(len))
            .filter(|b| b.len() >= 10)
        {
            bytes[9] = 0;
            bytes[9] = bytes.iter().fold(0u8, |sum, &b| sum.wrapping_sub(b));
        }
    }

    fn root_pointer(&mut self, revision: u8) {
        let mut bytes = [0; RSDP_LEN];
        bytes[..8].copy_from_slice(b"RSD PTR ");
        bytes[15] = revision;
        bytes[16..20].copy_from_slice(&(RSDT as u32).to_le_bytes());
        bytes[8] = bytes[..20]
            .iter()
            .fold(0, |sum: u8, &b| sum.wrapping_sub(b));
        if revision >= 2 {
            bytes[20..24].copy_from_slice(&(RSDP_LEN as u32).to_le_bytes());
            bytes[24..32].copy_from_slice(&(XSDT as u64).to_le_bytes());
            bytes[32] = bytes.iter().fold(0, |sum: u8, &b| sum.wrapping_sub(b));
        }
        self.put(RSDP, &bytes);
    }
}

fn madt() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0xfee0_0000u32.to_le_bytes());
    body.extend(1u32.to_le_bytes());
    // Two CPUs that work, a socket that is empty, an x2APIC CPU.
    body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
    body.extend([0, 8, 1, 1, 1, 0, 0, 0]);
    body.extend([0, 8, 2, 2, 0, 0, 0, 0]);
    body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
    // An IO-APIC, the timer's override, ACPI's own interrupt level-triggered, NMI at input 1 of all.
    body.extend([1, 12, 3, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 0, 2, 0, 0, 0, 0, 0]);
    body.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0f, 0]);
    body.extend([4, 6, 0xff, 0, 0, 1]);
    body
}

fn fadt() -> Vec<u8> {
    let mut body = vec![0; 244 - 36];
    let mut at = |offset: usize, bytes: &[u8]| {
        body[offset - 36..offset - 36 + bytes.len()].copy_from_slice(bytes)
    };
    at(40, &(DSDT as u32).to_le_bytes());
    at(46, &9u16.to_le_bytes());
    at(48, &0xb2u32.to_le_bytes());
    at(52, &[0xf1]);
    at(56, &0x600u32.to_le_bytes());
    at(64, &0x604u32.to_le_bytes());
    at(76, &0x608u32.to_le_bytes());
    at(88, &[4, 2, 0, 4]);
    at(108, &[0x32]);
    at(112, &(1u32 << 10).to_le_bytes());
    // The reset register: port 0xcf9, value 15.
    at(116, &[1, 8, 0, 1]);
    at(120, &0xcf9u64.to_le_bytes());
    at(128, &[15]);
    body
}

/// A machine whose tables are all right. Revision 0 has only the old root table.
fn machine(revision: u8) -> Memory {
    let mut memory = Memory(vec![0; MEMORY]);
    let named = [FADT, MADT, HPET];
    let short: Vec<u8> = named
        .iter()
        .flat_map(|&at| (at as u32).to_le_bytes())
        .collect();
    let long: Vec<u8> = named
        .iter()
        .flat_map(|&at| (at as u64).to_le_bytes())
        .collect();
    memory.table(RSDT, b"RSDT", 1, &short);
    memory.table(XSDT, b"XSDT", 1, &long);
    memory.table(MADT, b"APIC", 3, &madt());
    memory.table(FADT, b"FACP", 3, &fadt());
    let mut hpet = vec![0; 20];
    hpet[8..16].copy_from_slice(&0xfed0_0000u64.to_le_bytes());
    memory.table(HPET, b"HPET", 1, &hpet);
    let mut code = vec![0x10; 700];
    code.extend(b"\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00");
    memory.table(DSDT, b"DSDT", 2, &code);
    memory.root_pointer(revision);
    memory
}

fn look(memory: &dyn PhysReader, source: &RsdpSource) -> (Platform, Vec<String>) {
    let mut warnings = Vec::new();
    let platform = discover(source, memory, &mut |w| warnings.push(w.to_string()));
    (platform, warnings)
}

fn scan(memory: &Memory) -> (Platform, Vec<String>) {
    look(memory, &RsdpSource::BiosScan)
}

#[test]
fn a_good_machine_is_read_whole_by_either_root_table() {
    for revision in [0, 2] {
        let (p, warnings) = scan(&machine(revision));
        assert_eq!(warnings, [""; 0]);
        let ids: Vec<_> = p
            .cpus
            .iter()
            .map(|cpu| (cpu.apic_id, cpu.acpi_id, cpu.enabled))
            .collect();
        assert_eq!(ids, [(0, 0, true), (1, 1, true), (256, 7, true)]);
        assert_eq!(p.local_apic, Some(0xfee0_0000));
        assert!(p.has_8259);
        assert_eq!((p.io_apics[0].id, p.io_apics[0].address), (3, 0xfec0_0000));
        assert_eq!(p.isa(0), (2, Signal::default()));
        assert_eq!(
            p.isa(9),
            (
                9,
                Signal {
                    level: true,
                    low: true
                }
            )
        );
        assert_eq!(p.isa(4), (4, Signal::default()));
        assert_eq!((p.local_nmis[0].acpi_id, p.local_nmis[0].line), (None, 1));
        assert_eq!(p.power.pm1a_control, Some(0x604));
        assert_eq!(p.power.pm1b_control, None);
        assert_eq!(p.power.pm1a_event, Some(0x600));
        assert_eq!(p.power.enable, Some((0xb2, 0xf1)));
        assert_eq!(p.power.reset, Some((Register::Port(0xcf9), 15)));
        assert_eq!(p.power.s5, Some(SleepType { a: 5, b: 5 }));
        assert_eq!(p.pm_timer.map(|t| (t.port, t.bits)), Some((0x608, 24)));
        assert_eq!(
            (p.sci, p.century, p.hpet),
            (Some(9), Some(0x32), Some(0xfed0_0000))
        );
    }
}

#[test]
fn a_loaders_copy_serves_and_a_bad_copy_is_replaced_by_the_scan() {
    let memory = machine(2);
    let mut bytes: [u8; RSDP_LEN] = memory.0[RSDP..RSDP + RSDP_LEN].try_into().unwrap();
    let mut elsewhere = memory.clone();
    elsewhere.0[RSDP] = 0;
    let (p, _) = look(&elsewhere, &RsdpSource::Copy { bytes, len: 36 });
    assert_eq!(p.cpus.len(), 3);
    bytes[10] ^= 1;
    let (p, _) = look(&memory, &RsdpSource::Copy { bytes, len: 36 });
    assert_eq!(p.cpus.len(), 3);
}

#[test]
fn a_short_copy_of_a_long_pointer_still_leads_to_the_old_root_table() {
    let mut memory = machine(2);
    let bytes: [u8; RSDP_LEN] = memory.0[RSDP..RSDP + RSDP_LEN].try_into().unwrap();
    memory.0[XSDT] = b'?';
    let (p, _) = look(&memory, &RsdpSource::Copy { bytes, len: 20 });
    assert_eq!(p.cpus.len(), 3);
}

#[test]
fn without_a_root_pointer_there_is_one_warning_and_an_empty_platform() {
    let (p, warnings) = scan(&Memory(vec![0; MEMORY]));
    assert_eq!(p, Platform::default());
    assert_eq!(warnings.len(), 1);
}

#[test]
fn a_bad_checksum_costs_one_warning_and_that_table_only() {
    let mut memory = machine(0);
    memory.0[MADT + 40] ^= 0x80;
    let (p, warnings) = scan(&memory);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("APIC") && warnings[0].contains("checksum"));
    assert!(p.cpus.is_empty() && p.hpet.is_some() && p.power.s5.is_some());
}

#[test]
fn an_absurd_length_costs_one_warning_and_that_table_only() {
    for length in [0u32, 35, 5 << 20, u32::MAX] {
        let mut memory = machine(0);
        memory.put(HPET + 4, &length.to_le_bytes());
        let (p, warnings) = scan(&memory);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(p.hpet.is_none() && p.cpus.len() == 3);
    }
}

#[test]
fn an_entry_that_would_not_end_ends_the_walk_and_keeps_what_came_before() {
    for length in [0, 1, 200] {
        let mut memory = machine(0);
        // The third entry's length.
        memory.0[MADT + 44 + 16 + 1] = length;
        memory.seal(MADT);
        let (p, warnings) = scan(&memory);
        assert_eq!(p.cpus.len(), 2);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}

#[test]
fn an_entry_too_short_for_its_kind_is_passed_over() {
    let mut memory = machine(0);
    let mut body = 0u64.to_le_bytes().to_vec();
    body.extend([0, 4, 0, 0]);
    body.extend([0, 8, 5, 5, 1, 0, 0, 0]);
    memory.table(MADT, b"APIC", 3, &body);
    let (p, warnings) = scan(&memory);
    assert_eq!((p.cpus.len(), warnings.len()), (1, 1));
    assert_eq!(p.local_apic, None);
}

#[test]
fn more_cpus_than_there_is_room_for_are_counted() {
    let mut memory = machine(0);
    let mut body = 0u64.to_le_bytes().to_vec();
    for id in 0..300u32 {
        body.extend([9, 16, 0, 0]);
        body.extend(id.to_le_bytes());
        body.extend(1u32.to_le_bytes());
        body.extend(id.to_le_bytes());
    }
    // Where there is room for it.
    let place = 0x8_0000;
    memory.table(place, b"APIC", 3, &body);
    memory.put(RSDT + 40, &(place as u32).to_le_bytes());
    memory.seal(RSDT);
    let (p, warnings) = scan(&memory);
    assert_eq!((p.cpus.len(), p.dropped), (firmware::MAX_CPUS, 44));
    assert!(warnings.iter().any(|w| w.contains("did not fit")));
}

#[test]
fn a_register_block_length_that_overflows_is_no_panic() {
    let mut memory = machine(0);
    memory.put(FADT + 88, &[255; 6]);
    memory.seal(FADT);
    let (p, warnings) = scan(&memory);
    assert_eq!(p.power.pm1a_control, Some(0x604));
    assert_eq!(warnings.len(), 6);
}

fn s5_of(code: &[u8]) -> Option<SleepType> {
    let mut table = vec![0; 36];
    table.extend(code);
    find_s5(&mut |offset, buf| {
        let start = usize::try_from(offset).unwrap();
        match table.get(start..start + buf.len()) {
            Some(bytes) => {
                buf.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    })
}

#[test]
fn the_sleep_type_is_found_in_each_form_compilers_write() {
    let found = |a, b| Some(SleepType { a, b });
    assert_eq!(
        s5_of(b"\x08_S5_\x12\x07\x04\x0a\x07\x0a\x06\x00\x00"),
        found(7, 6)
    );
    assert_eq!(
        s5_of(b"\x08\\_S5_\x12\x06\x04\x00\x00\x00\x00"),
        found(0, 0)
    );
    assert_eq!(
        s5_of(b"\x08_S5_\x12\x0a\x04\x01\x0b\x05\x00\x00\x00"),
        found(1, 5)
    );
    assert_eq!(
        s5_of(b"\x08_S5_\x12\x4a\x00\x02\x0c\x05\x00\x00\x00\x01"),
        found(5, 1)
    );
    assert_eq!(s5_of(b"\x08_S5_\x12\x04\x01\x0a\x05"), found(5, 5));
}

#[test]
fn a_name_that_only_looks_like_the_sleep_type_is_passed_over() {
    assert_eq!(s5_of(b"xx_S5_\x12\x06\x04\x01\x01"), None);
    assert_eq!(s5_of(b"\x08_S5_\x70\x06\x04\x01\x01"), None);
    assert_eq!(s5_of(b"\x08_S5_\x12\x06\x04\x0a"), None);
    assert_eq!(s5_of(b"\x08_S5_\x12\x03\x00"), None);
    assert_eq!(s5_of(b""), None);
}

#[test]
fn the_sleep_type_is_found_wherever_it_lies_in_the_table() {
    for before in 0..600 {
        let mut code = vec![0xa0; before];
        code.extend(b"\x08_S5_\x12\x04\x02\x01\x01");
        assert_eq!(s5_of(&code), Some(SleepType { a: 1, b: 1 }), "{before}");
    }
}

/// Memory that can be read only so often, and not at all in one place.
struct Failing<'a> {
    memory: &'a Memory,
    left: Cell<u32>,
    hole: u64,
}

impl PhysReader for Failing<'_> {
    fn read(&self, phys: u64, buf: &mut [u8]) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        let in_hole = phys <= self.hole && self.hole - phys < buf.len() as u64;
        left > 0 && !in_hole && self.memory.read(phys, buf)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_change_to_the_tables_makes_reading_them_panic_or_hang(
        revision in prop_oneof![Just(0u8), Just(2)],
        changes in prop::collection::vec((0usize..TABLES.len(), 0usize..300, any::<u8>()), 0..24),
        sealed: bool,
    ) {
        let mut memory = machine(revision);
        for (table, offset, value) in changes {
            memory.0[TABLES[table] + offset] = value;
        }
        if sealed {
            TABLES.iter().for_each(|&at| memory.seal(at));
        }
        let (platform, _) = scan(&memory);
        prop_assert!(platform.power.pm1a_control != Some(0));
        prop_assert!(platform.io_apics.iter().all(|io_apic| io_apic.address != 0));
        prop_assert!(platform.local_nmis.iter().all(|nmi| nmi.line < 2));
        prop_assert!(platform.overrides.iter().all(|o| o.irq < 16));
    }

    #[test]
    fn memory_that_stops_answering_is_no_panic(left in 0u32..400, hole in 0u64..0x8000) {
        let memory = machine(2);
        let failing = Failing { memory: &memory, left: Cell::new(left), hole };
        let _ = look(&failing, &RsdpSource::BiosScan);
    }

    #[test]
    fn no_byte_code_makes_the_search_panic_or_hang(code in prop::collection::vec(
        prop_oneof![any::<u8>(), Just(0x08), Just(b'_'), Just(b'S'), Just(b'5'), Just(0x12), Just(0x0a)], 0..600)) {
        let _ = s5_of(&code);
    }
}
