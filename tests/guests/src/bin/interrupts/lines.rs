//! A level line: masked from its interrupt to the guest's end of interrupt, for as long as the device asserts it.

use guest_runtime::abi::errno;
use guest_runtime::abi::physdev::{IrqStatusQuery, PhysdevOp, SetupGsi, XENIRQSTAT_NEEDS_EOI};
use guest_runtime::{check, check_eq};
use guests::accepted;
use guests::channels::close;

use crate::machine::{Teacher, arrives, bind, end_of_interrupt, line, map, physdev, unmap};

fn set_up(gsi: i32) -> i64 {
    // Level, active high: as this emulator wires its PCI lines.
    let mut request = SetupGsi {
        gsi,
        triggering: 1,
        polarity: 0,
        ..Default::default()
    };
    physdev(PhysdevOp::SetupGsi, &mut request)
}

fn status(pirq: i32) -> u32 {
    let mut query = IrqStatusQuery {
        irq: pirq as u32,
        flags: u32::MAX,
    };
    accepted(
        "irq_status_query",
        physdev(PhysdevOp::IrqStatusQuery, &mut query),
    );
    query.flags
}

pub fn all() {
    let device = Teacher::new(0x10);
    check!(device.is_there(), "the device in slot 0x10 answers");
    let gsi = (device.function.read(0x3c) & 0xff) as i32;
    check_eq!("a line's number is its own", map(line(gsi)), Ok(gsi));
    accepted("its signal", set_up(gsi));
    check_eq!("its signal again", set_up(gsi), -errno::EEXIST);
    check_eq!("it wants an end", status(gsi), XENIRQSTAT_NEEDS_EOI);
    for round in 0..2 {
        let port = match bind(gsi) {
            Ok(port) => port,
            Err(error) => return guest_runtime::check::fail(format_args!("bind: {error}")),
        };
        check_eq!("bound twice", bind(gsi), Err(-errno::EEXIST));
        check!(!arrives(port), "nothing was asked for");
        device.interrupt();
        check!(arrives(port), "the line's interrupt");
        check!(
            !arrives(port),
            "asserted, and no end told: no second interrupt"
        );
        for _ in 0..3 {
            accepted("an end", end_of_interrupt(gsi));
            check!(arrives(port), "still asserted: another interrupt");
        }
        device.acknowledge();
        accepted("the last end", end_of_interrupt(gsi));
        check!(!arrives(port), "not asserted: no interrupt");
        accepted("an end of nothing", end_of_interrupt(gsi));
        device.interrupt();
        check!(arrives(port), "the next interrupt");
        if round == 0 {
            device.acknowledge();
            accepted("its end", end_of_interrupt(gsi));
        }
        // The second time it is closed with the line asserted and no end told.
        accepted("close", close(port));
        device.interrupt();
        check!(!arrives(port), "nobody listens");
        device.acknowledge();
    }
    accepted("a line is unmapped and keeps its number", unmap(gsi));
}
