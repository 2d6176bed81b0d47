//! Firmware of both kinds, and firmware that lies.
//!
//! Two tables. [`MATRIX`]: the CD boots to a shell and powers off under each firmware, on each machine, with one
//! processor and with four. [`LIES`]: what firmware says is missing or wrong; the boot goes on with what is left, and one
//! line says so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use crate::extras::{self, Extra};
use crate::qemu::{Boot, Bus, Disk, Machine, Module, SYMBOLS_NAME, merge_words};
use crate::run::{self, Firmware};
use crate::testing::Context;
use crate::testing::console_shell::Shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::{iso, provision};

/// From power-on to a prompt.
const BOOT_LIMIT: Duration = Duration::from_secs(240);
const AT_ONCE: Duration = Duration::from_secs(30);

struct Place {
    tier: Tier,
    firmware: Firmware,
    model: &'static str,
    smp: u32,
    isolate: &'static str,
}

const fn place(
    tier: Tier,
    firmware: Firmware,
    model: &'static str,
    smp: u32,
    isolate: &'static str,
) -> Place {
    Place {
        tier,
        firmware,
        model,
        smp,
        isolate,
    }
}

/// The first two have every value once.
const MATRIX: &[Place] = &[
    place(Tier::Normal, Firmware::Bios, "q35", 4, "no"),
    place(Tier::Normal, Firmware::Uefi, "pc", 1, "yes"),
    place(Tier::Full, Firmware::Bios, "pc", 1, "yes"),
    place(Tier::Full, Firmware::Bios, "pc", 4, "yes"),
    place(Tier::Full, Firmware::Bios, "q35", 1, "no"),
    place(Tier::Full, Firmware::Uefi, "pc", 4, "no"),
    place(Tier::Full, Firmware::Uefi, "q35", 1, "no"),
    place(Tier::Full, Firmware::Uefi, "q35", 4, "yes"),
];

/// What is wrong.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// There is no ACPI at all, or no PCI either: the machine model says so.
    Machine(&'static str),
    /// The table of interrupt controllers and processors says this.
    Controllers(fn() -> Vec<u8>),
    /// So many boot modules more than ours.
    Modules(usize),
}

struct Row {
    name: &'static str,
    lie: Lie,
    /// More words for the kernel.
    append: &'static str,
    /// The line that must be there, once.
    wanted: &'static str,
    /// How the emulator ends: 0, or through its exit device where the machine cannot be turned off.
    status: i32,
    /// Whether a disk, by messages, must be there to be read.
    disk: bool,
}

const fn lie(name: &'static str, lie: Lie, wanted: &'static str) -> Row {
    Row {
        name,
        lie,
        append: "",
        wanted,
        status: 0,
        disk: false,
    }
}

/// What the exit device makes of the value that says failure.
const FAILURE: i32 = 67;

const LIES: &[Row] = &[
    // Without ACPI a stock kernel counts its interrupts from 0: the clock's would be the console's.
    Row {
        append: "initcall_blacklist=cmos_init",
        status: FAILURE,
        ..lie(
            "no ACPI",
            Lie::Machine("pc,acpi=off"),
            "ACPI: no usable root table",
        )
    },
    Row {
        append: "initcall_blacklist=cmos_init",
        status: FAILURE,
        ..lie(
            "no ACPI and no PCI",
            Lie::Machine("isapc"),
            "ACPI: no usable root table",
        )
    },
    Row {
        disk: true,
        ..lie(
            "an IO-APIC where none is",
            Lie::Controllers(|| controllers(0xfed8_0000, &[(0, 1)])),
            "IO-APIC 0 at 0xfed80000 .*its interrupts stay off",
        )
    },
    lie(
        "an IO-APIC in the middle of memory",
        Lie::Controllers(|| controllers(0x0300_0000, &[(0, 1)])),
        "IO-APIC 0 at 0x3000000 is in the middle of memory",
    ),
    lie(
        "a processor that does not exist",
        Lie::Controllers(|| controllers(IO_APIC, &[(0, 1), (77, 1)])),
        "ACPI: 2 CPUs",
    ),
    lie(
        "more processors than there is room for",
        Lie::Controllers(|| {
            let sockets: Vec<(u32, u32)> = (0..400)
                .map(|id| (id, if id == 0 { 1 } else { 2 }))
                .collect();
            controllers(IO_APIC, &sockets)
        }),
        "ACPI: 144 entries did not fit",
    ),
    lie(
        "a table with a bad checksum",
        Lie::Controllers(|| {
            let mut table = controllers(IO_APIC, &[(0, 1)]);
            table[9] ^= 0xff;
            table
        }),
        "ACPI: table APIC .*bad checksum",
    ),
    lie(
        "more boot modules than are kept",
        Lie::Modules(9),
        "left out: [0-9]+ modules",
    ),
];

/// One case for each row of both tables.
pub fn cases() -> Vec<Case> {
    let matrix = MATRIX.iter().map(|place| Case {
        name: place.name(),
        tier: place.tier,
        stage: Stage::Machine,
        needs: match place.firmware {
            Firmware::Bios => Needs::Image,
            Firmware::Uefi => Needs::Uefi,
        },
        run: Box::new(move |context| {
            outcome(context, &place.name(), place.machine(context), |session| {
                power_off(session, 0)
            })
        }),
    });
    let lies = LIES.iter().map(|row| Case {
        name: format!("firmware: {}", row.name),
        tier: Tier::Normal,
        stage: Stage::Machine,
        needs: match row.lie {
            Lie::Controllers(_) => Needs::Image,
            Lie::Machine(_) | Lie::Modules(_) => Needs::System,
        },
        run: Box::new(move |context| {
            let name = format!("firmware {}", row.name);
            outcome(context, &name, row.machine(context), |session| {
                row.act(session)
            })
        }),
    });
    matrix.chain(lies).collect()
}

fn outcome(
    context: &Context,
    name: &str,
    machine: Result<Machine>,
    act: impl FnOnce(&mut Session) -> Result<()>,
) -> Outcome {
    let started = machine.and_then(|machine| Session::start(&context.tree, &machine, name));
    serial::played(started, &context.tree, |session| {
        act(session)?;
        Ok(String::new())
    })
}

fn power_off(session: &mut Session, wanted: i32) -> Result<()> {
    Shell::at_prompt(session, BOOT_LIMIT)?.kernel_has_no_complaint()?;
    session.send("poweroff\n")?;
    let status = session.wait(Duration::from_secs(60)).context("power off")?;
    ensure!(
        status == wanted,
        "the emulator ended with status {status}, where {wanted} was expected"
    );
    Ok(())
}

fn contents(context: &Context, isolate: &str, append: &str) -> Result<iso::Contents> {
    let system = context.stock()?;
    Ok(iso::Contents {
        hypervisor_arguments: merge_words(
            &run::hypervisor_arguments("512M"),
            &format!("isolate={isolate}"),
        ),
        kernel: Module::new(&system.vmlinuz, merge_words(run::KERNEL_ARGUMENTS, append)),
        initrd: Some(system.initrd.clone()),
    })
}

impl Place {
    fn name(&self) -> String {
        let firmware = match self.firmware {
            Firmware::Bios => "SeaBIOS",
            Firmware::Uefi => "UEFI",
        };
        format!(
            "firmware: boot and power off ({firmware}, {}, {} processors, isolate={})",
            self.model, self.smp, self.isolate
        )
    }

    fn machine(&self, context: &Context) -> Result<Machine> {
        // The image of the stories, which has the same in it.
        let image = context
            .tree
            .out()
            .join(format!("test-isolate-{}.iso", self.isolate));
        context.build_image_once(&contents(context, self.isolate, "")?, &image)?;
        let uefi = match self.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => Some(
                provision::ovmf()
                    .context("there is no OVMF firmware")?
                    .to_path_buf(),
            ),
        };
        Ok(Machine {
            model: self.model.to_owned(),
            smp: self.smp,
            ..Machine::new(Boot::Iso { image, uefi })
        })
    }
}

impl Row {
    fn machine(&self, context: &Context) -> Result<Machine> {
        let mut contents = contents(context, "yes", self.append)?;
        let mut disks = Vec::new();
        let dir = context.tree.out().join("firmware");
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        if self.disk {
            contents.initrd = Some(extras::initrd(
                &context.tree,
                &[Extra::Drivers],
                Some(&contents.kernel.file),
            )?);
            let file = dir.join("disk.img");
            std::fs::File::create(&file)?.set_len(16 << 20)?;
            disks.push(Disk {
                bus: Bus::Virtio,
                file,
                log: None,
            });
        }
        let mut machine = Machine::new(self.boot(context, &contents, &dir)?);
        if let Lie::Machine(model) = self.lie {
            machine.model = model.to_owned();
        }
        machine.disks = disks;
        Ok(machine)
    }

    fn boot(&self, context: &Context, contents: &iso::Contents, dir: &Path) -> Result<Boot> {
        let direct = run::direct(&context.tree, contents, context.other_hypervisor.as_deref());
        match self.lie {
            Lie::Machine(_) => Ok(Boot::Direct(direct)),
            Lie::Modules(count) => {
                let mut direct = direct;
                let one_more: PathBuf = context.tree.symbols();
                for _ in 0..count {
                    direct.modules.push(Module::new(&one_more, SYMBOLS_NAME));
                }
                Ok(Boot::Direct(direct))
            }
            Lie::Controllers(table) => {
                let image = dir.join(format!("{}.iso", self.name.replace(' ', "-")));
                iso::build_with_tables(&context.tree, contents, &[("APIC", table())], &image)?;
                Ok(Boot::Iso { image, uefi: None })
            }
        }
    }

    fn act(&self, session: &mut Session) -> Result<()> {
        if self.disk {
            let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
            let said = shell.output_of("dd if=/dev/vda of=/dev/null bs=1M 2>&1", AT_ONCE)?;
            ensure!(
                said.contains("16+0 records out"),
                "the disk was not read: `{said}`"
            );
            shell.kernel_has_no_complaint()?;
            session.send("poweroff\n")?;
            let status = session.wait(Duration::from_secs(60)).context("power off")?;
            ensure!(
                status == self.status,
                "the emulator ended with status {status}"
            );
        } else {
            power_off(session, self.status)?;
        }
        let wanted = Regex::new(self.wanted)?;
        let console = session.text();
        let said = console
            .lines()
            .filter(|line| line.contains("(xeno)") && wanted.is_match(line))
            .count();
        ensure!(said == 1, "`{}` was said {said} times", self.wanted);
        Ok(())
    }
}

/// Where the machine's IO-APIC is.
const IO_APIC: u32 = 0xfec0_0000;

/// A table of interrupt controllers and processors (`APIC`): one IO-APIC at an address, the usual overrides, and
/// processors by id and flags (1 enabled, 2 could be plugged in).
fn controllers(io_apic: u32, processors: &[(u32, u32)]) -> Vec<u8> {
    let mut table = b"APIC".to_vec();
    table.extend_from_slice(&[0; 4]); // length, when it is known
    table.extend_from_slice(&[1, 0]); // revision, checksum
    table.extend_from_slice(b"XENO  TEST    ");
    table.extend_from_slice(&[1, 0, 0, 0]);
    table.extend_from_slice(b"XENO");
    table.extend_from_slice(&[1, 0, 0, 0]);
    table.extend_from_slice(&0xfee0_0000_u32.to_le_bytes());
    table.extend_from_slice(&1_u32.to_le_bytes()); // there is a pair of 8259s
    for &(id, flags) in processors {
        if let (0..=254, Ok(byte)) = (id, u8::try_from(id)) {
            table.extend_from_slice(&[0, 8, byte, byte]);
            table.extend_from_slice(&flags.to_le_bytes());
        } else {
            table.extend_from_slice(&[9, 16, 0, 0]);
            for word in [id, flags, id] {
                table.extend_from_slice(&word.to_le_bytes());
            }
        }
    }
    table.extend_from_slice(&[1, 12, 0, 0]);
    table.extend_from_slice(&io_apic.to_le_bytes());
    table.extend_from_slice(&0_u32.to_le_bytes());
    for (irq, gsi, signal) in [
        (0_u8, 2_u8, 0_u8),
        (5, 5, 13),
        (9, 9, 13),
        (10, 10, 13),
        (11, 11, 13),
    ] {
        table.extend_from_slice(&[2, 10, 0, irq, gsi, 0, 0, 0, signal, 0]);
    }
    table.extend_from_slice(&[4, 6, 0xff, 0, 0, 1]);
    let length = u32::try_from(table.len()).unwrap_or_default();
    table[4..8].copy_from_slice(&length.to_le_bytes());
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_controllers_sums_to_zero_and_says_its_length() {
        let table = controllers(IO_APIC, &[(0, 1), (300, 2)]);
        assert_eq!(table.iter().fold(0_u8, |s, b| s.wrapping_add(*b)), 0);
        assert_eq!(table[4..8], (table.len() as u32).to_le_bytes());
        // Header and two words, a short and a long processor, an IO-APIC, five overrides, an NMI line.
        assert_eq!(table.len(), 44 + 8 + 16 + 12 + 5 * 10 + 6);
    }

    #[test]
    fn every_row_has_a_pattern_that_is_one() {
        for row in LIES {
            Regex::new(row.wanted).unwrap();
        }
    }
}
