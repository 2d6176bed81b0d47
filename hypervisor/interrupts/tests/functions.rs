//! What PCI functions say of their messages, and what they are told.

use interrupts::{
    Config, Function, MSI_CAPABILITY, MSIX_CAPABILITY, Message, Msi, Msix, NoMessages,
};

/// One function with 256 bytes of configuration space; where no other is, reads give ones.
struct Machine {
    function: Function,
    space: [u8; 256],
    reads: u32,
}

const HERE: Function = Function::new(3, 0x10);

impl Machine {
    fn new() -> Self {
        let mut machine = Self {
            function: HERE,
            space: [0; 256],
            reads: 0,
        };
        machine.put32(0x00, 0x1042_1af4);
        // Answers in memory; has capabilities.
        machine.put32(0x04, 0x0010_0002);
        machine
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.space[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn get32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.space[at..at + 4].try_into().unwrap())
    }

    /// A list of capabilities: places and their first words, linked in this order.
    fn capabilities(&mut self, list: &[(u8, u8)]) {
        let mut from = 0x34;
        for (at, id) in list {
            self.space[from] = *at;
            self.space[usize::from(*at)] = *id;
            from = usize::from(*at) + 1;
        }
        self.space[from] = 0;
    }

    fn msi(&mut self, control: u16) {
        self.capabilities(&[(0x40, 0x01), (0x50, MSI_CAPABILITY)]);
        self.space[0x52..0x54].copy_from_slice(&control.to_le_bytes());
    }

    fn msix(&mut self, last: u16, table: u32, pending: u32, bars: &[(u8, u32)]) {
        self.capabilities(&[(0x60, MSIX_CAPABILITY)]);
        self.space[0x62..0x64].copy_from_slice(&last.to_le_bytes());
        self.put32(0x64, table);
        self.put32(0x68, pending);
        for (index, bar) in bars {
            self.put32(0x10 + usize::from(*index) * 4, *bar);
        }
    }
}

impl Config for Machine {
    fn read32(&mut self, function: Function, offset: u8) -> u32 {
        self.reads += 1;
        assert!(offset.is_multiple_of(4));
        if function == self.function {
            self.get32(usize::from(offset))
        } else {
            u32::MAX
        }
    }

    fn read16(&mut self, function: Function, offset: u8) -> u16 {
        self.reads += 1;
        assert!(offset.is_multiple_of(2));
        if function != self.function {
            return u16::MAX;
        }
        let at = usize::from(offset);
        u16::from_le_bytes([self.space[at], self.space[at + 1]])
    }

    fn write32(&mut self, function: Function, offset: u8, value: u32) {
        assert!(offset.is_multiple_of(4) && function == self.function);
        self.put32(usize::from(offset), value);
    }

    fn write16(&mut self, function: Function, offset: u8, value: u16) {
        assert!(offset.is_multiple_of(2) && function == self.function);
        let at = usize::from(offset);
        self.space[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
}

const WIDE: u16 = 1 << 7;
const MASKABLE: u16 = 1 << 8;

#[test]
fn a_message_names_one_cpu_and_a_vector_and_nothing_else() {
    let message = Message::new(5, 0x41).unwrap();
    // Fixed delivery (0), by edge (0), physical destination (0).
    assert_eq!((message.address, message.data), (0xfee0_5000, 0x41));
    assert_eq!(Message::new(255, 0x41), None);
    assert_eq!(Message::new(0, 15), None);
}

#[test]
fn the_long_form_is_told_both_halves_and_the_short_one_its_own() {
    for (control, data_at) in [(WIDE, 0x5c), (0, 0x58)] {
        let mut machine = Machine::new();
        // Sending several, enabled: only one is wanted, and whether it sends is not touched.
        machine.msi(control | 3 << 4 | 1);
        let msi = Msi::of(&mut machine, HERE).unwrap();
        msi.program(&mut machine, Message::new(2, 0x77).unwrap());
        assert_eq!(machine.get32(0x54), 0xfee0_2000);
        assert_eq!(machine.get32(data_at) & 0xffff, 0x77);
        assert_eq!(machine.get32(0x50) >> 16, u32::from(control | 1));
        assert!(!msi.is_maskable());
    }
}

#[test]
fn a_maskable_message_is_told_while_it_is_masked() {
    let mut machine = Machine::new();
    machine.msi(WIDE | MASKABLE);
    let msi = Msi::of(&mut machine, HERE).unwrap();
    msi.program(&mut machine, Message::new(0, 0x30).unwrap());
    assert_eq!(machine.get32(0x60), 1);
    msi.mask(&mut machine, false);
    assert_eq!(machine.get32(0x60), 0);
    msi.mask(&mut machine, true);
    assert_eq!(machine.get32(0x60), 1);
}

#[test]
fn sending_is_turned_off_and_on_and_says_what_it_was() {
    let mut machine = Machine::new();
    machine.msi(WIDE | 1);
    let msi = Msi::of(&mut machine, HERE).unwrap();
    assert!(msi.enable(&mut machine, false));
    assert_eq!(machine.get32(0x50) >> 16 & 1, 0);
    assert!(!msi.enable(&mut machine, true));
    assert_eq!(machine.get32(0x50) >> 16 & 1, 1);
}

#[test]
fn the_registers_that_say_what_is_sent_are_known_and_the_control_word_is_not_one() {
    let mut machine = Machine::new();
    machine.msi(WIDE | MASKABLE);
    let msi = Msi::of(&mut machine, HERE).unwrap();
    for offset in [0x54, 0x57, 0x58, 0x5c, 0x60, 0x64, 0x67] {
        assert!(msi.is_message_register(offset, 1), "{offset:#x}");
    }
    for offset in [0x50, 0x52, 0x53, 0x68, 0x04, 0xff] {
        assert!(!msi.is_message_register(offset, 1), "{offset:#x}");
    }
    // A write that reaches into them.
    assert!(msi.is_message_register(0x52, 4));
    machine.msi(0);
    let short = Msi::of(&mut machine, HERE).unwrap();
    assert!(short.is_message_register(0x59, 1) && !short.is_message_register(0x5a, 1));
}

#[test]
fn functions_that_are_not_there_or_send_nothing_are_refused() {
    let mut machine = Machine::new();
    machine.msi(0);
    let elsewhere = Function::new(3, 0x18);
    assert_eq!(Msi::of(&mut machine, elsewhere), Err(NoMessages::NoDevice));
    assert_eq!(Msix::of(&mut machine, HERE, 0), Err(NoMessages::NoDevice));
    // The status register says that there is no list.
    machine.put32(0x04, 2);
    assert_eq!(Msi::of(&mut machine, HERE), Err(NoMessages::NoDevice));
}

#[test]
fn a_list_that_goes_round_or_leaves_the_space_ends() {
    for list in [
        &[(0x40, 1), (0x48, 2), (0x40, 1)][..],
        &[(0xfc, 9), (0x44, 3), (0xfc, 9)],
    ] {
        let mut machine = Machine::new();
        machine.capabilities(list);
        let (last, _) = list[list.len() - 2];
        machine.space[usize::from(last) + 1] = list[0].0;
        machine.reads = 0;
        assert_eq!(Msi::of(&mut machine, HERE), Err(NoMessages::NoDevice));
        assert!(machine.reads < 100, "{} reads", machine.reads);
    }
    // A pointer into the header.
    let mut machine = Machine::new();
    machine.capabilities(&[(0x10, MSI_CAPABILITY)]);
    assert_eq!(Msi::of(&mut machine, HERE), Err(NoMessages::NoDevice));
}

#[test]
fn a_table_lies_where_its_base_address_register_says() {
    let mut machine = Machine::new();
    machine.msix(3, 0x2000 | 1, 0x800 | 1, &[(1, 0xfebd_0000)]);
    let msix = Msix::of(&mut machine, HERE, 0x1234_0000).unwrap();
    assert_eq!(
        (msix.entries, msix.table, msix.pending),
        (4, 0xfebd_2000, 0xfebd_0800)
    );
    assert_eq!(msix.entry(3), Ok(0xfebd_2030));
    assert_eq!(msix.entry(4), Err(NoMessages::NoEntry));
    assert_eq!(msix.table_range(), 0xfebd_2000..0xfebd_2040);
    assert!(msix.is_reachable(&mut machine));
    machine.put32(0x04, 0x0010_0000);
    assert!(!msix.is_reachable(&mut machine));
}

#[test]
fn a_wide_base_address_has_two_halves() {
    let mut machine = Machine::new();
    machine.msix(0, 0x10 | 2, 0x20 | 2, &[(2, 0x4000_000c), (3, 0x9)]);
    let msix = Msix::of(&mut machine, HERE, 0).unwrap();
    assert_eq!(msix.table, 0x9_4000_0010);
    // The last register of a header has no second half.
    machine.msix(0, 0x10 | 5, 0x20 | 5, &[(5, 0x4000_0004)]);
    assert_eq!(Msix::of(&mut machine, HERE, 0), Err(NoMessages::NoTable));
}

#[test]
fn a_virtual_functions_table_lies_where_the_caller_says() {
    let mut machine = Machine::new();
    machine.msix(7, 0x3000, 0x3800, &[(0, 0)]);
    let msix = Msix::of(&mut machine, HERE, 0xd000_0000).unwrap();
    assert_eq!(msix.table, 0xd000_3000);
    // Nobody says.
    assert_eq!(Msix::of(&mut machine, HERE, 0), Err(NoMessages::NoTable));
    // Beyond what any CPU can address.
    assert_eq!(
        Msix::of(&mut machine, HERE, u64::MAX - 8),
        Err(NoMessages::NoTable)
    );
}

#[test]
fn a_table_behind_ports_or_behind_no_register_is_none() {
    let mut machine = Machine::new();
    machine.msix(0, 0, 0, &[(0, 0xc001)]);
    assert_eq!(Msix::of(&mut machine, HERE, 0), Err(NoMessages::NoTable));
    machine.msix(0, 6, 6, &[]);
    assert_eq!(Msix::of(&mut machine, HERE, 0), Err(NoMessages::NoTable));
    // A bridge has two registers.
    machine.space[0x0e] = 1;
    machine.msix(0, 2, 2, &[(2, 0xfe00_0000)]);
    assert_eq!(Msix::of(&mut machine, HERE, 0), Err(NoMessages::NoTable));
}

#[test]
fn addresses_in_the_configuration_port_name_their_functions() {
    let function = Function::new(3, 0x15);
    assert_eq!(function.address(0x53), 0x8003_1550);
    assert_eq!(Function::of_address(0x8003_1550), Some((function, 0x50)));
    assert_eq!(Function::of_address(0x0003_1550), None);
    // With more offset bits it is another register.
    assert_eq!(Function::of_address(0x8103_1550), None);
    assert_eq!(function.to_string(), "03:02.5");
}
