//! What is wrong with what we are given is said in one sentence, and the machine stops with a failing status.
//!
//! Never a silent hang, never a reboot loop, never a crash of ring 0. A case is a row of [`CASES`]: the modules, the
//! machine, and the one line that must be on the console, once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use crate::kernel;
use crate::qemu::{Boot, CPU, Machine, Module, Modules, SYMBOLS_NAME, merge_words};
use crate::run;
use crate::shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial;
use crate::testing::{Context, EXIT_BY_PORT_AT_LEAST, RING0_CRASHED};

/// The first boot module.
#[derive(Clone, Copy, Debug)]
enum Kernel {
    /// Not there at all.
    None,
    /// Only the symbol table, which is no kernel.
    OnlySymbols,
    /// A text.
    Text,
    /// An ELF file of this machine number, without Xen notes.
    BareElf(u16),
    /// The stock kernel's first half, packed or unpacked.
    Half(Form),
    /// The stock kernel with damage in the middle of its payload.
    DamagedPayload,
    /// The stock kernel as it should be.
    Stock,
}

/// The form of the stock kernel.
#[derive(Clone, Copy, Debug)]
enum Form {
    Packed,
    Unpacked,
}

struct Bad {
    name: &'static str,
    kernel: Kernel,
    /// Size of an initial file system of zeros, in MiB; 0 for none.
    initrd_mib: u64,
    hypervisor_arguments: &'static str,
    memory: &'static str,
    cpu: &'static str,
    /// The line that must be there, once; case does not matter.
    wanted: &'static str,
}

const X86_64: u16 = 62;
const AARCH64: u16 = 183;

const fn bad(name: &'static str, kernel: Kernel, wanted: &'static str) -> Bad {
    Bad {
        name,
        kernel,
        initrd_mib: 0,
        hypervisor_arguments: "",
        memory: "1G",
        cpu: CPU,
        wanted,
    }
}

const CASES: &[Bad] = &[
    bad("no module", Kernel::None, r"\bno\b.*(kernel|module)"),
    bad(
        "only the symbol table",
        Kernel::OnlySymbols,
        r"\bno\b.*(kernel|module)",
    ),
    bad(
        "a kernel that is a text",
        Kernel::Text,
        r"is not a .*kernel",
    ),
    bad(
        "a kernel without Xen notes",
        Kernel::BareElf(X86_64),
        r"no xen notes",
    ),
    bad(
        "a kernel for another architecture",
        Kernel::BareElf(AARCH64),
        r"for another architecture",
    ),
    bad(
        "a truncated bzImage",
        Kernel::Half(Form::Packed),
        r"is truncated",
    ),
    bad(
        "a truncated ELF kernel",
        Kernel::Half(Form::Unpacked),
        r"is truncated",
    ),
    bad(
        "a corrupt payload",
        Kernel::DamagedPayload,
        r"corrupt payload",
    ),
    Bad {
        hypervisor_arguments: "dom0_mem=8G",
        ..bad(
            "a domain larger than memory",
            Kernel::Stock,
            r"dom0_mem.*(memory|free|has|only)",
        )
    },
    Bad {
        initrd_mib: 400,
        hypervisor_arguments: "dom0_mem=256M",
        ..bad(
            "an initrd larger than the domain",
            Kernel::Stock,
            r"dom0_mem is too small.*initrd|(initrd|module 2).*(larger|fit|room|memory)",
        )
    },
    Bad {
        memory: "40M",
        hypervisor_arguments: "dom0_mem=16M",
        ..bad(
            "too little memory for the kernel",
            Kernel::Stock,
            r"does not fit.*memory",
        )
    },
    Bad {
        memory: "6M",
        hypervisor_arguments: "dom0_mem=1M",
        ..bad(
            "too little memory to start",
            Kernel::None,
            r"too little memory",
        )
    },
    Bad {
        cpu: "qemu64,-nx",
        ..bad(
            "a processor without no-execute pages",
            Kernel::Stock,
            r"\bnx\b|no-execute|execute-disable",
        )
    },
    Bad {
        cpu: "qemu32",
        ..bad(
            "a processor without 64-bit mode",
            Kernel::Stock,
            r"64-bit|long mode",
        )
    },
];

/// From power-on to the sentence; a bzImage is unpacked before its check sum can disagree.
const LIMIT: Duration = Duration::from_secs(90);

/// One case for each row.
pub fn cases() -> Vec<Case> {
    CASES
        .iter()
        .map(|bad| Case {
            name: format!("bad input: {}", bad.name),
            tier: Tier::Quick,
            stage: Stage::Machine,
            needs: match bad.kernel {
                Kernel::None | Kernel::OnlySymbols | Kernel::Text | Kernel::BareElf(_) => {
                    Needs::Hypervisor
                }
                Kernel::Half(_) | Kernel::DamagedPayload | Kernel::Stock => Needs::System,
            },
            run: Box::new(move |context| bad.run(context)),
        })
        .collect()
}

impl Bad {
    fn run(&self, context: &Context) -> Outcome {
        let machine = match self.machine(context) {
            Ok(machine) => machine,
            Err(error) => return Outcome::failed("not started", format!("{error:#}")),
        };
        let log = format!("bad input {}", self.name);
        serial::judged(&context.tree, &machine, &log, LIMIT, |console, status| {
            self.judge(console, status)
        })
    }

    fn judge(&self, console: &str, status: i32) -> Result<String> {
        let wanted = Regex::new(&format!("(?i){}", self.wanted))?;
        let lines: Vec<&str> = console
            .lines()
            .filter(|line| wanted.is_match(line) && is_ours(line))
            .collect();
        ensure!(
            !lines.is_empty(),
            "no line says `{}` (status {status})",
            self.wanted
        );
        ensure!(
            lines.len() == 1,
            "{} lines say `{}`, where one should",
            lines.len(),
            self.wanted
        );
        ensure!(
            status >= EXIT_BY_PORT_AT_LEAST,
            "the emulator ended with status {status}, where the exit device should have said that it failed"
        );
        let crashed = console.contains(RING0_CRASHED);
        ensure!(
            !crashed,
            "the hypervisor crashed instead of saying what is wrong"
        );
        Ok(lines
            .first()
            .map(|line| line.trim().to_owned())
            .unwrap_or_default())
    }

    fn machine(&self, context: &Context) -> Result<Machine> {
        let dir = context.tree.out().join("bad-input");
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        let mut modules = Vec::new();
        if let Some(kernel) = self.kernel.file(context, &dir.join(file_name(self.name)))? {
            modules.push(Module::new(kernel, run::KERNEL_ARGUMENTS));
        }
        if self.initrd_mib != 0 {
            let initrd = dir.join(format!("initrd-{}M", self.initrd_mib));
            // A file without blocks of its own: it costs no disk.
            std::fs::File::create(&initrd)?.set_len(self.initrd_mib * 1024 * 1024)?;
            modules.push(Module::new(initrd, ""));
        }
        if !matches!(self.kernel, Kernel::None) {
            modules.push(Module::new(context.tree.symbols(), SYMBOLS_NAME));
        }
        let defaults = run::hypervisor_arguments("512M");
        let modules = Modules {
            hypervisor: None,
            hypervisor_arguments: merge_words(&defaults, self.hypervisor_arguments),
            modules,
        };
        Ok(Machine {
            memory: self.memory.to_owned(),
            cpu: self.cpu.to_owned(),
            ..Machine::new(Boot::Direct(modules))
        })
    }
}

/// Lines that repeat the command line are no sentence about it.
fn is_ours(line: &str) -> bool {
    !line.contains("console=com1")
}

fn file_name(case: &str) -> String {
    case.replace(' ', "-")
}

impl Kernel {
    /// The module's file; made where it is not simply there.
    fn file(self, context: &Context, aside: &Path) -> Result<Option<PathBuf>> {
        let contents = match self {
            Self::None | Self::OnlySymbols => return Ok(None),
            Self::Stock => return Ok(Some(context.stock()?.vmlinuz.clone())),
            Self::Text => b"This is a letter, not a kernel.\n".repeat(2048),
            Self::BareElf(machine) => bare_elf(machine),
            Self::Half(form) => {
                let system = context.stock()?;
                let whole = match form {
                    Form::Packed => std::fs::read(&system.vmlinuz)?,
                    Form::Unpacked => std::fs::read(&system.vmlinux)?,
                };
                whole.get(..whole.len() / 2).unwrap_or_default().to_vec()
            }
            Self::DamagedPayload => damaged(&std::fs::read(&context.stock()?.vmlinuz)?)?,
        };
        shell::write_if_changed(aside, &contents)?;
        Ok(Some(aside.to_path_buf()))
    }
}

/// The kernel with some bits of its payload turned over, three quarters into it.
fn damaged(vmlinuz: &[u8]) -> Result<Vec<u8>> {
    let range = kernel::payload_range(vmlinuz).context("the stock kernel is not a bzImage")?;
    let at = range.start + range.len() / 4 * 3;
    let mut damaged = vmlinuz.to_vec();
    for byte in damaged
        .get_mut(at..at + 16)
        .context("the payload is too short")?
    {
        *byte ^= 0x5a;
    }
    Ok(damaged)
}

/// A well-formed ELF executable of one page that nobody should start.
fn bare_elf(machine: u16) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut elf = vec![0_u8; 8192];
    let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(0x10, &2_u16.to_le_bytes()); // an executable
    put(0x12, &machine.to_le_bytes());
    put(0x14, &1_u32.to_le_bytes());
    put(0x18, &(0xffff_ffff_8100_0000 + HEADERS).to_le_bytes());
    put(0x20, &64_u64.to_le_bytes()); // program headers follow
    put(0x34, &64_u16.to_le_bytes());
    put(0x36, &56_u16.to_le_bytes());
    put(0x38, &1_u16.to_le_bytes());
    put(64, &1_u32.to_le_bytes()); // one segment to load
    put(68, &5_u32.to_le_bytes());
    put(80, &0xffff_ffff_8100_0000_u64.to_le_bytes());
    put(88, &0x100_0000_u64.to_le_bytes());
    put(96, &4096_u64.to_le_bytes());
    put(104, &4096_u64.to_le_bytes());
    put(112, &4096_u64.to_le_bytes());
    put(usize::try_from(HEADERS).unwrap_or_default(), &[0xeb, 0xfe]); // for ever
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sentence_and_a_failing_status_are_asked_for() {
        let case = bad("x", Kernel::None, r"\bno\b.*kernel");
        assert!(case.judge("There is no kernel: give one.\n", 3).is_ok());
        assert!(case.judge("There is no kernel: give one.\n", 0).is_err());
        assert!(
            case.judge("There is no kernel.\nNo kernel, I say.\n", 3)
                .is_err()
        );
        assert!(case.judge("Nothing.\n", 3).is_err());
    }

    #[test]
    fn every_row_has_a_pattern_that_is_one() {
        for case in CASES {
            Regex::new(case.wanted).unwrap();
        }
    }
}
