//! Messages: what a function sends is ring 0's to say, by registers (MSI) and by table (MSI-X).

use guest_runtime::abi::errno;
use guest_runtime::abi::physdev::{IrqStatusQuery, MapPirq, PciDevice, PciDeviceAdd, PhysdevOp};
use guest_runtime::instructions;
use guest_runtime::{check, check_eq};
use guests::accepted;
use guests::channels::close;

use crate::machine::{Function, Registers, Teacher, arrives, bind, map, message, physdev, unmap};

/// Messages go to the local APICs' window, as a vector that devices may have.
fn is_ours(address: u32, data: u32) -> bool {
    address & 0xfff0_0000 == 0xfee0_0000 && (0x30..=0xef).contains(&data)
}

pub fn all() {
    by_registers();
    by_table();
}

fn by_registers() {
    let device = Teacher::new(0x11);
    check!(device.is_there(), "the device in slot 0x11 answers");
    let function = device.function;
    let Some(at) = function.capability(0x05) else {
        return guest_runtime::check::fail(format_args!("the device sends no messages"));
    };
    let pirq = match map(message(function)) {
        Ok(pirq) => pirq,
        Err(error) => return guest_runtime::check::fail(format_args!("map: {error}")),
    };
    check!(pirq >= 256, "a message's number lies above the lines'");
    let told = || (function.read(at + 4), function.read(at + 12) & 0xffff);
    let before = told();
    check!(
        is_ours(before.0, before.1),
        "the device was told where to send"
    );
    function.write(at + 4, 0xfee0_1000);
    function.write(at + 12, 0x0002);
    check_eq!("what the guest writes there", told(), before);
    check_eq!("mapped twice", map(message(function)), Err(-errno::EEXIST));
    let mut query = IrqStatusQuery {
        irq: pirq as u32,
        flags: u32::MAX,
    };
    accepted(
        "irq_status_query",
        physdev(PhysdevOp::IrqStatusQuery, &mut query),
    );
    check_eq!("a message wants no end", query.flags, 0);
    // Sending is the guest's to turn on.
    function.write(at, function.read(at) | 1 << 16);
    check_eq!("it sends", function.read(at) >> 16 & 1, 1);
    device.interrupt();
    let port = match bind(pirq) {
        Ok(port) => port,
        Err(error) => return guest_runtime::check::fail(format_args!("bind: {error}")),
    };
    for _ in 0..3 {
        device.interrupt();
        check!(arrives(port), "a message");
        check!(!arrives(port), "comes once");
    }
    let mut named = PciDevice {
        devfn: function.0,
        ..Default::default()
    };
    accepted("restore", physdev(PhysdevOp::RestoreMsiExt, &mut named));
    check_eq!("the same was told again", told(), before);
    device.interrupt();
    check!(arrives(port), "a message after that");
    accepted("unmap while it is bound", unmap(pirq));
    check_eq!("it sends no more", function.read(at) >> 16 & 1, 0);
    check_eq!("unmapped twice", unmap(pirq), -errno::EINVAL);
    accepted("close", close(port));
    check_eq!("bind of what is not mapped", bind(pirq), Err(-errno::EPERM));
    function.write(at + 4, 0xfee0_1000);
    check_eq!("its registers are the guest's again", told().0, 0xfee0_1000);
    device.acknowledge();
}

fn by_table() {
    let function = Function::slot(0x12);
    let Some(at) = function.capability(0x11) else {
        return guest_runtime::check::fail(format_args!("no device with a table in slot 0x12"));
    };
    function.enable();
    let place = function.read(at + 4);
    let base = u64::from(function.read(0x10 + 4 * (place & 7) as u8) & !0xf);
    let offset = u64::from(place & !7);
    let mut add = PciDeviceAdd {
        devfn: function.0,
        ..Default::default()
    };
    accepted("pci_device_add", physdev(PhysdevOp::PciDeviceAdd, &mut add));
    let page = Registers::map(0, base + offset);
    check!(
        !page.is_writable(),
        "a table is mapped, but not to be written"
    );
    let table = offset & 0xfff;
    let entry = |n: u64| [0, 4, 8, 12].map(|word| page.read(table + n * 16 + word));
    let request = |entry_nr| MapPirq {
        entry_nr,
        table_base: base,
        ..message(function)
    };
    let last = (function.read(at) >> 16 & 0x7ff) as i32;
    check_eq!(
        "an entry beyond the table",
        map(request(last + 1)),
        Err(-errno::EINVAL)
    );
    check_eq!("an entry below it", map(request(-1)), Err(-errno::EINVAL));
    let pirq = match map(request(0)) {
        Ok(pirq) => pirq,
        Err(error) => return guest_runtime::check::fail(format_args!("map: {error}")),
    };
    let told = entry(0);
    check!(
        is_ours(told[0], told[2]),
        "the device was told where to send"
    );
    check_eq!("and is held back", told[3] & 1, 1);
    check_eq!("mapped twice", map(request(0)), Err(-errno::EEXIST));
    writes_are_dropped(page, table);
    check_eq!("what is in the table after that", entry(0), told);
    let Ok(other) = map(request(1)) else {
        return guest_runtime::check::fail(format_args!("the second entry"));
    };
    check!(entry(1)[2] != told[2] && other != pirq, "each has its own");
    match bind(pirq) {
        Ok(port) => {
            check_eq!("bound: let go", entry(0)[3] & 1, 0);
            accepted("close", close(port));
            check_eq!("closed: held back", entry(0)[3] & 1, 1);
        }
        Err(error) => guest_runtime::check::fail(format_args!("bind: {error}")),
    }
    let mut named = PciDevice {
        devfn: function.0,
        ..Default::default()
    };
    accepted(
        "the function goes",
        physdev(PhysdevOp::PciDeviceRemove, &mut named),
    );
    check_eq!(
        "its numbers with it",
        (unmap(pirq), unmap(other)),
        (-errno::EINVAL, -errno::EINVAL)
    );
}

/// Stores of each width and form, none of which faults or changes anything.
fn writes_are_dropped(page: Registers, table: u64) {
    use core::arch::asm;
    page.write(table, 0xfee0_1000);
    page.write(table + 12, 0);
    // SAFETY: stores to a device's table, which the hypervisor drops; no memory of Rust's is there.
    unsafe {
        instructions::store(page.at(table + 8), 0x0000_0000_0000_0002);
        asm!("mov byte ptr [{0}], 2", in(reg) page.at(table + 8), options(nostack));
        asm!("mov word ptr [{0}], 2", in(reg) page.at(table + 8), options(nostack));
        asm!("mov dword ptr [{0}], 2", in(reg) page.at(table + 8), options(nostack));
        asm!("mov qword ptr [{0}], 2", in(reg) page.at(table + 8), options(nostack));
        asm!("mov byte ptr [{0}], {1}", in(reg) page.at(table + 8), in(reg_byte) 2u8, options(nostack));
        asm!("mov word ptr [{0}], {1:x}", in(reg) page.at(table + 8), in(reg) 2u16, options(nostack));
    }
}
