//! Wrong calls: each is refused with the error a kernel is used to, and changes nothing.

use guest_runtime::abi::errno;
use guest_runtime::abi::physdev::{
    Apic, Eoi, GetFreePirq, Irq, IrqStatusQuery, MapPirq, PciDevice, PhysdevOp, SetupGsi,
};
use guest_runtime::check_eq;
use guests::{accepted, refused};

use crate::machine::{Function, LINE, MESSAGES, bind, line, map, message, physdev, unmap};

const NOBODY: Function = Function::slot(0x1e);
const DEVICE: Function = Function::slot(0x11);

pub fn all() {
    mappings();
    numbers();
    calls();
}

fn mappings() {
    let all = [
        ("a message of nobody", message(NOBODY), errno::ENODEV),
        (
            "of another segment",
            MapPirq {
                bus: 1 << 16,
                ..message(DEVICE)
            },
            errno::ENODEV,
        ),
        (
            "of a function without a table",
            MapPirq {
                table_base: 0xfeb0_0000,
                ..message(DEVICE)
            },
            errno::ENODEV,
        ),
        (
            "with an interrupt of the caller's choice",
            MapPirq {
                index: 40,
                ..message(DEVICE)
            },
            errno::EPERM,
        ),
        (
            "for a line's number",
            MapPirq {
                pirq: 20,
                ..message(DEVICE)
            },
            errno::EINVAL,
        ),
        (
            "for a number beyond all",
            MapPirq {
                pirq: 100_000,
                ..message(DEVICE)
            },
            errno::EINVAL,
        ),
        (
            "two in a row",
            MapPirq {
                kind: MESSAGES,
                entry_nr: 2,
                ..message(DEVICE)
            },
            errno::EOPNOTSUPP,
        ),
        (
            "none in a row",
            MapPirq {
                kind: MESSAGES,
                entry_nr: 0,
                ..message(DEVICE)
            },
            errno::EDOM,
        ),
        (
            "too many in a row",
            MapPirq {
                kind: MESSAGES,
                entry_nr: 33,
                ..message(DEVICE)
            },
            errno::EDOM,
        ),
        (
            "of no known type",
            MapPirq {
                kind: 17,
                ..message(DEVICE)
            },
            errno::EINVAL,
        ),
        (
            "for another domain",
            MapPirq {
                domid: 77,
                ..message(DEVICE)
            },
            errno::ESRCH,
        ),
        ("a line that is not there", line(200), errno::EINVAL),
        ("a line below zero", line(-5), errno::EINVAL),
        (
            "a line by another's number",
            MapPirq {
                kind: LINE,
                pirq: 9,
                ..line(10)
            },
            errno::EINVAL,
        ),
    ];
    for (what, request, error) in all {
        check_eq!(what, map(request), Err(-error));
    }
    let one = MapPirq {
        kind: MESSAGES,
        entry_nr: 1,
        ..message(DEVICE)
    };
    match map(one) {
        Ok(pirq) => {
            accepted("one in a row, unmapped", unmap(pirq));
        }
        Err(error) => guest_runtime::check::fail(format_args!("one in a row: {error}")),
    }
}

fn numbers() {
    for pirq in [200, 256, 400, 100_000, i32::MAX, -1] {
        let error = if (0..448).contains(&pirq) {
            errno::EPERM
        } else {
            errno::EINVAL
        };
        check_eq!("bind", bind(pirq), Err(-error));
        check_eq!("unmap", unmap(pirq), -errno::EINVAL);
    }
    // The serial port's: ring 0 listens to it.
    check_eq!("bind of ring 0's line", bind(4), Err(-errno::EPERM));
    for number in [448u32, 1 << 16, u32::MAX] {
        check_eq!(
            "an end",
            physdev(PhysdevOp::Eoi, &mut Eoi { irq: number }),
            -errno::EINVAL
        );
        let mut query = IrqStatusQuery {
            irq: number,
            flags: 0,
        };
        check_eq!(
            "a query",
            physdev(PhysdevOp::IrqStatusQuery, &mut query),
            -errno::EINVAL
        );
        let mut irq = Irq {
            irq: number,
            vector: 0,
        };
        accepted(
            "a vector, whatever for",
            physdev(PhysdevOp::AllocIrqVector, &mut irq),
        );
    }
    for gsi in [-1, 200, i32::MAX] {
        let mut request = SetupGsi {
            gsi,
            ..Default::default()
        };
        check_eq!(
            "a signal",
            physdev(PhysdevOp::SetupGsi, &mut request),
            -errno::EINVAL
        );
    }
    let mut free = GetFreePirq { kind: 3, pirq: 0 };
    accepted("a free number", physdev(PhysdevOp::GetFreePirq, &mut free));
    guest_runtime::check!((256..448).contains(&free.pirq), "it is a message's");
    let mut of_lines = GetFreePirq { kind: 1, pirq: 0 };
    accepted(
        "a free line",
        physdev(PhysdevOp::GetFreePirq, &mut of_lines),
    );
    guest_runtime::check!(
        (16..256).contains(&of_lines.pirq),
        "it is a line of no old device's"
    );
    let mut of_neither = GetFreePirq { kind: 2, pirq: 0 };
    check_eq!(
        "a free number of no type",
        physdev(PhysdevOp::GetFreePirq, &mut of_neither),
        -errno::EINVAL
    );
}

fn calls() {
    let mut apic = Apic {
        apic_physbase: 0xfec0_0000,
        reg: 1,
        value: 0,
    };
    accepted(
        "the IO-APIC's version",
        physdev(PhysdevOp::ApicRead, &mut apic),
    );
    check_eq!("its pins", apic.value >> 16 & 0xff, 23);
    apic.reg = 0x10;
    check_eq!(
        "its pins' routes",
        physdev(PhysdevOp::ApicRead, &mut apic),
        -errno::EINVAL
    );
    refused("a write to it", physdev(PhysdevOp::ApicWrite, &mut apic));
    apic = Apic {
        apic_physbase: 0xfee0_0000,
        ..apic
    };
    check_eq!(
        "a controller elsewhere",
        physdev(PhysdevOp::ApicRead, &mut apic),
        -errno::EINVAL
    );
    let mut elsewhere = PciDevice {
        seg: 1,
        ..Default::default()
    };
    for operation in [
        PhysdevOp::PciDeviceRemove,
        PhysdevOp::RestoreMsiExt,
        PhysdevOp::PrepareMsix,
    ] {
        check_eq!(
            "a function of another segment",
            physdev(operation, &mut elsewhere),
            -errno::ENODEV
        );
    }
    let mut page = [0u64; 1];
    check_eq!(
        "a page of bits",
        physdev(PhysdevOp::PirqEoiGmfnV2, &mut page),
        -errno::ENOSYS
    );
    // Nothing there to read.
    let call = |operation: PhysdevOp| {
        guest_runtime::hypercall::call(
            guest_runtime::abi::nr::PHYSDEV_OP,
            [
                u64::from(operation.number()),
                0xffff_8800_dead_0000,
                0,
                0,
                0,
            ],
        )
    };
    for operation in [
        PhysdevOp::MapPirq,
        PhysdevOp::UnmapPirq,
        PhysdevOp::Eoi,
        PhysdevOp::SetupGsi,
        PhysdevOp::GetFreePirq,
        PhysdevOp::PciDeviceAdd,
        PhysdevOp::PrepareMsix,
        PhysdevOp::PciMmcfgReserved,
    ] {
        check_eq!("an argument nowhere", call(operation), -errno::EFAULT);
    }
}
