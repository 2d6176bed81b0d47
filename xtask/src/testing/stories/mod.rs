//! The stock kernel on our ring 0, told as short stories over its serial console.
//!
//! A story is a row of [`STORIES`]: which machine, which form of the kernel, which way of booting, and a script.
//! A new case is one row more. What is typed, and how a story ends, is in `scripts`.

mod scripts;

pub use scripts::{BOOT_LIMIT, GLANCE, power_off};

use std::path::Path;

use anyhow::Result;

use crate::qemu::{Boot, CPU, Machine, Module, merge_words};
use crate::testing::console_shell::Shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::testing::{Context, check_cpus_started};
use crate::{iso, provision, run};
use scripts::{COMMANDS, PROCESSORS, reboot};

/// The form in which the kernel is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    /// Unpacked on the host: the quickest to boot.
    Elf,
    /// As the distribution ships it.
    BzImage,
}

/// How the hypervisor is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By the emulator itself, multiboot1.
    Direct,
    /// From a CD through GRUB under SeaBIOS, multiboot2.
    Iso,
    /// From the same CD under OVMF.
    Uefi,
}

/// What is done at the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Everything in [`COMMANDS`], time, Ctrl-C, then power off.
    Tour,
    /// A look around, then power off.
    Glance,
    /// A look around, then `reboot`, until the machine starts again.
    Reboot,
    /// With four vCPUs: what several processors are for, one of them taken away and brought back, then power off.
    Processors,
}

struct Story {
    tier: Tier,
    way: Way,
    kernel: Kernel,
    isolate: &'static str,
    memory: &'static str,
    dom0_memory: &'static str,
    model: &'static str,
    cpu: &'static str,
    smp: u32,
    script: Script,
}

const fn story(
    tier: Tier,
    way: Way,
    kernel: Kernel,
    isolate: &'static str,
    script: Script,
) -> Story {
    Story {
        tier,
        way,
        kernel,
        isolate,
        memory: "1G",
        dom0_memory: "512M",
        model: "pc",
        cpu: CPU,
        smp: 1,
        script,
    }
}

const fn sized(
    tier: Tier,
    isolate: &'static str,
    memory: &'static str,
    dom0_memory: &'static str,
) -> Story {
    Story {
        memory,
        dom0_memory,
        ..story(tier, Way::Direct, Kernel::Elf, isolate, Script::Glance)
    }
}

const STORIES: &[Story] = &[
    story(Tier::Quick, Way::Direct, Kernel::Elf, "yes", Script::Tour),
    story(
        Tier::Quick,
        Way::Direct,
        Kernel::Elf,
        "yes",
        Script::Processors,
    ),
    story(
        Tier::Normal,
        Way::Direct,
        Kernel::Elf,
        "no",
        Script::Processors,
    ),
    story(Tier::Quick, Way::Direct, Kernel::Elf, "no", Script::Glance),
    story(Tier::Normal, Way::Direct, Kernel::Elf, "no", Script::Tour),
    story(
        Tier::Normal,
        Way::Direct,
        Kernel::BzImage,
        "yes",
        Script::Reboot,
    ),
    story(
        Tier::Normal,
        Way::Iso,
        Kernel::BzImage,
        "yes",
        Script::Glance,
    ),
    sized(Tier::Normal, "yes", "512M", "320M"),
    story(
        Tier::Full,
        Way::Direct,
        Kernel::BzImage,
        "no",
        Script::Reboot,
    ),
    story(
        Tier::Full,
        Way::Direct,
        Kernel::BzImage,
        "yes",
        Script::Tour,
    ),
    story(Tier::Full, Way::Iso, Kernel::BzImage, "no", Script::Tour),
    story(Tier::Full, Way::Iso, Kernel::BzImage, "yes", Script::Reboot),
    story(
        Tier::Full,
        Way::Uefi,
        Kernel::BzImage,
        "yes",
        Script::Glance,
    ),
    sized(Tier::Full, "no", "512M", "320M"),
    sized(Tier::Full, "yes", "4G", "2G"),
    sized(Tier::Full, "no", "4G", "2G"),
    sized(Tier::Full, "yes", "20G", "1G"),
    sized(Tier::Full, "no", "20G", "1G"),
    Story {
        model: "q35",
        ..story(Tier::Full, Way::Direct, Kernel::Elf, "yes", Script::Glance)
    },
    // Several processors, and as many vCPUs or more or fewer.
    Story {
        smp: 2,
        ..story(
            Tier::Normal,
            Way::Direct,
            Kernel::Elf,
            "yes",
            Script::Processors,
        )
    },
    Story {
        smp: 4,
        ..story(
            Tier::Normal,
            Way::Direct,
            Kernel::Elf,
            "no",
            Script::Processors,
        )
    },
    Story {
        smp: 8,
        ..story(
            Tier::Full,
            Way::Direct,
            Kernel::Elf,
            "yes",
            Script::Processors,
        )
    },
    Story {
        smp: 4,
        ..story(Tier::Full, Way::Direct, Kernel::Elf, "yes", Script::Tour)
    },
    Story {
        smp: 4,
        model: "q35",
        ..story(Tier::Normal, Way::Direct, Kernel::Elf, "no", Script::Glance)
    },
    Story {
        smp: 4,
        ..story(Tier::Full, Way::Iso, Kernel::BzImage, "no", Script::Reboot)
    },
    Story {
        smp: 4,
        model: "q35",
        ..story(
            Tier::Full,
            Way::Uefi,
            Kernel::BzImage,
            "yes",
            Script::Glance,
        )
    },
    // With SMAP, which is used or left alone as the emulator's version demands.
    Story {
        cpu: "max",
        ..story(Tier::Normal, Way::Direct, Kernel::Elf, "no", Script::Glance)
    },
    Story {
        cpu: "max",
        ..story(Tier::Full, Way::Direct, Kernel::Elf, "yes", Script::Tour)
    },
];

/// One case for each story.
pub fn cases() -> Vec<Case> {
    STORIES
        .iter()
        .map(|story| Case {
            name: story.name(),
            tier: story.tier,
            stage: Stage::Machine,
            needs: match story.way {
                Way::Direct => Needs::System,
                Way::Iso => Needs::Image,
                Way::Uefi => Needs::Uefi,
            },
            run: Box::new(move |context| story.play(context)),
        })
        .collect()
}

impl Story {
    fn name(&self) -> String {
        let script = match self.script {
            Script::Tour => "a tour of the shell",
            Script::Glance => "boot and power off",
            Script::Reboot => "boot and reboot",
            Script::Processors => "four vCPUs",
        };
        let way = match self.way {
            Way::Direct => "emulator's loader",
            Way::Iso => "CD under SeaBIOS",
            Way::Uefi => "CD under UEFI",
        };
        let kernel = if self.kernel == Kernel::Elf {
            "ELF"
        } else {
            "bzImage"
        };
        let unusual = |word: &str, usual: &str| match word == usual {
            true => String::new(),
            false => format!(", {word}"),
        };
        let smp = match self.smp {
            1 => String::new(),
            smp => format!(", {smp} processors"),
        };
        let model = unusual(self.model, "pc") + &unusual(self.cpu, CPU) + &smp;
        format!(
            "story {script} ({way}, {kernel}, {}{model}, isolate={})",
            self.memory, self.isolate
        )
    }

    fn play(&self, context: &Context) -> Outcome {
        if let Some(reason) = self.impossible_here() {
            return Outcome::skipped(reason);
        }
        let started = self
            .machine(context)
            .and_then(|m| Session::start(&context.tree, &m, &self.name()));
        serial::played(started, &context.tree, |session| self.act(session))
    }

    /// The words that ask for its vCPUs.
    fn vcpus(&self) -> &'static str {
        match self.script {
            Script::Processors => " dom0_max_vcpus=4",
            _ => "",
        }
    }

    /// A machine larger than ours would swap, or be refused.
    fn impossible_here(&self) -> Option<String> {
        let wanted_gib: u64 = self.memory.strip_suffix('G')?.parse().ok()?;
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        let have_gib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / (1024 * 1024);
        (have_gib < wanted_gib)
            .then(|| format!("a machine of {} on one of {have_gib} GiB", self.memory))
    }

    fn machine(&self, context: &Context) -> Result<Machine> {
        let system = context.stock()?;
        let kernel = if self.kernel == Kernel::Elf {
            &system.vmlinux
        } else {
            &system.vmlinuz
        };
        let contents = iso::Contents {
            hypervisor_arguments: merge_words(
                &run::hypervisor_arguments(self.dom0_memory),
                &format!("isolate={}{}", self.isolate, self.vcpus()),
            ),
            kernel: Module::new(kernel, run::KERNEL_ARGUMENTS),
            initrd: Some(system.initrd.clone()),
        };
        let boot = match self.way {
            Way::Direct => context.direct(&contents),
            Way::Iso | Way::Uefi => {
                let image = context
                    .tree
                    .out()
                    .join(format!("test-isolate-{}.iso", self.isolate));
                context.build_image_once(&contents, &image)?;
                let uefi = (self.way == Way::Uefi)
                    .then(provision::ovmf)
                    .flatten()
                    .map(Path::to_path_buf);
                Boot::Iso { image, uefi }
            }
        };
        Ok(Machine {
            memory: self.memory.to_owned(),
            model: self.model.to_owned(),
            cpu: self.cpu.to_owned(),
            smp: self.smp,
            // A machine that resets where nobody asked for it ends, and is found out by how it ended.
            no_reboot: self.script != Script::Reboot,
            ..Machine::new(boot)
        })
    }

    fn act(&self, session: &mut Session) -> Result<String> {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        let booted = shell.seconds_to_prompt();
        shell.try_all(GLANCE)?;
        if self.script == Script::Tour {
            shell.try_all(COMMANDS)?;
            shell.time_passes_as_it_should()?;
            shell.ctrl_c_interrupts()?;
        }
        if self.script == Script::Processors {
            shell.try_all(PROCESSORS)?;
        }
        shell.kernel_has_no_complaint()?;
        check_cpus_started(&session.text(), self.smp).map_err(anyhow::Error::msg)?;
        match self.script {
            Script::Reboot => reboot(session)?,
            Script::Tour | Script::Glance | Script::Processors => power_off(session)?,
        }
        Ok(format!("prompt after {booted:.1} s"))
    }
}
