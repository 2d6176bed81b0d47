//! The command line. The help texts, the completions and the manual pages all come from here.

pub mod ledger;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use xeno_api::{
    Access, Disk, DraftDisk, Name, OnStop, Rate, Reservation, SOCKET, Size, Span, Target,
};

use crate::failure::EXIT_CODES;

/// Create, list, watch and end the guests of this machine.
///
/// A guest is another kernel in a domain of its own. It is described by a short TOML file, or by options.
#[derive(Debug, Parser)]
#[command(name = "xeno", version, disable_help_subcommand = true, after_help = "`xeno --help` says what the exit codes mean.", after_long_help = EXIT_CODES)]
pub struct Arguments {
    /// Answer in JSON on standard output, and tell failures in JSON on standard error
    #[arg(long, global = true)]
    pub json: bool,
    /// The daemon's socket
    #[arg(long, global = true, value_name = "FILE", env = "XENO_SOCKET", default_value = SOCKET, hide_env = true)]
    pub socket: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build a guest and let it run
    Create(Create),
    /// List all domains
    #[command(visible_alias = "ls")]
    List,
    /// Show all there is to know about a domain, or about the machine
    Info {
        /// The domain; without one, the machine
        name: Option<Target>,
    },
    /// Talk to a guest's console: first what it printed before, then what it prints; Ctrl-] leaves
    Console(Console),
    /// Stop a domain from running, keeping it as it is
    Pause {
        /// The domains
        #[arg(required = true)]
        name: Vec<Target>,
    },
    /// Let a paused domain run
    Unpause {
        /// The domains
        #[arg(required = true)]
        name: Vec<Target>,
    },
    /// Ask a guest to power off
    Shutdown(Ask),
    /// Ask a guest to reboot
    Reboot(Ask),
    /// End a domain now, and take back everything it has
    Destroy {
        /// The domains
        #[arg(required = true)]
        name: Vec<Target>,
    },
    /// Show the hypervisor's log
    Dmesg {
        /// Empty it afterwards
        #[arg(long)]
        clear: bool,
    },
    /// Show live what each domain uses: CPU, memory, disks
    Top(Top),
    /// Show what domains used since they began, by cause, to the cycle
    Usage(ledger::Usage),
    /// Verify and show the record of what domains used
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Read and change the store in which front and back ends meet
    #[command(subcommand)]
    Store(Store),
    /// Change a running guest: memory=SIZE, vcpus=N
    Set {
        /// The domain
        name: Target,
        /// What to change
        #[arg(required = true, value_name = "memory=SIZE|vcpus=N")]
        settings: Vec<Setting>,
    },
    /// Reserve CPU time for a guest, and show what is reserved
    #[command(subcommand)]
    Sched(Sched),
    /// Show what happens to domains as it happens
    Events,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// `xeno create`.
#[derive(Args, Debug)]
pub struct Create {
    /// The guest's description (TOML). Options win over what it says
    #[arg(required_unless_present_all = ["kernel", "memory", "name"])]
    pub file: Option<PathBuf>,
    /// What it is called
    #[arg(long)]
    pub name: Option<Name>,
    /// Its kernel: a bzImage or an ELF file
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Its initial file system
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Its kernel's command line [default: console=hvc0]
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub cmdline: Option<String>,
    /// Its memory, such as 96M
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<Size>,
    /// The most memory it can be given later [default: its memory]
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<Size>,
    /// Its vCPUs [default: 1]
    #[arg(long, value_name = "N")]
    pub vcpus: Option<u32>,
    /// The CPU time that each of its vCPUs has reserved, such as slice=5ms,period=20ms [default: none; they share what
    /// nobody reserved]
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub cpu: Option<Reservation>,
    /// What it may reserve for itself, in percent of one processor, such as 40% [default: nothing]
    #[arg(long, value_name = "RATE")]
    pub cpu_allowance: Option<Rate>,
    /// A disk: a raw image or a block device; `ro` or `rw` [default: rw]; a name [default: the first free of xvda to
    /// xvdz]. May be given again
    #[arg(long, value_name = "FILE[,ro|rw][,DEVICE]", value_parser = disk)]
    pub disk: Vec<DraftDisk>,
    /// What happens when it powers off: destroy, restart, preserve [default: destroy]
    #[arg(long, value_name = "WHAT")]
    pub on_poweroff: Option<OnStop>,
    /// What happens when it asks for a reboot [default: restart]
    #[arg(long, value_name = "WHAT")]
    pub on_reboot: Option<OnStop>,
    /// What happens when it crashes [default: destroy]
    #[arg(long, value_name = "WHAT")]
    pub on_crash: Option<OnStop>,
    /// Leave it paused
    #[arg(long)]
    pub paused: bool,
    /// Go on with its console
    #[arg(long, short, conflicts_with = "json")]
    pub console: bool,
}

/// `xeno console`.
#[derive(Args, Debug)]
pub struct Console {
    /// The domain
    pub name: Target,
    /// Show at most so many bytes of what was printed before, rather than all that is kept
    #[arg(long, value_name = "BYTES")]
    pub last: Option<u64>,
    /// Show only what was printed before
    #[arg(long)]
    pub past: bool,
    /// Leave after so many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
}

/// `xeno shutdown`, `xeno reboot`.
#[derive(Args, Debug)]
pub struct Ask {
    /// The domains
    #[arg(required = true)]
    pub name: Vec<Target>,
    /// Wait until it has happened
    #[arg(long, short)]
    pub wait: bool,
    /// How many seconds to wait at most
    #[arg(long, value_name = "S", default_value_t = 60, requires = "wait")]
    pub timeout: u32,
}

/// `xeno top`.
#[derive(Args, Debug)]
pub struct Top {
    /// Seconds from one look to the next
    #[arg(long, short, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub delay: f64,
    /// Print tables, one after the other, instead of filling the screen; --json prints an object a line
    #[arg(long, short)]
    pub batch: bool,
    /// End after so many looks
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// What the domains are sorted by
    #[arg(long, short, default_value = "id")]
    pub sort: Sort,
    /// Show what the CPU time went to, by cause, and memory; the key `u` changes to that and back
    #[arg(long, short)]
    pub usage: bool,
}

/// What `xeno top` sorts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// By number
    #[default]
    Id,
    /// By name
    Name,
    /// Most CPU first
    Cpu,
    /// Most memory first
    Memory,
    /// Most disk and network bytes first
    Io,
}

/// `xeno store`.
#[derive(Debug, Subcommand)]
pub enum Store {
    /// Print a value
    Read {
        /// Such as /local/domain/1/name
        path: String,
    },
    /// Set a value
    Write {
        /// Where
        path: String,
        /// The new value
        value: String,
    },
    /// List what is below a path
    #[command(visible_alias = "ls")]
    List {
        /// Where
        #[arg(default_value = "/")]
        path: String,
        /// All levels, with values
        #[arg(long, short)]
        recursive: bool,
    },
    /// Remove a path and what is below it
    Rm {
        /// Which
        path: String,
    },
    /// Print each path that changes, until Ctrl-C
    Watch {
        /// At and below this
        path: String,
        /// End after so many changes (the first is told at once)
        #[arg(long, short = 'n', value_name = "N")]
        count: Option<u64>,
    },
}

/// `xeno sched`.
#[derive(Debug, Subcommand)]
pub enum Sched {
    /// Change what CPU time each vCPU of a guest has reserved, from their next periods on
    ///
    /// All of it is said anew: what is not named is not kept. The hypervisor refuses what it cannot promise, and says
    /// the most that it can.
    Set {
        /// The domain
        name: Target,
        /// slice=TIME period=TIME [extra=true [weight=N]]; or quanta=N period=N, in quanta of the machine; or extra=true
        /// [weight=N], for time that nobody reserved alone
        #[arg(required = true, value_name = "KEY=VALUE")]
        terms: Vec<String>,
    },
    /// Change what a guest may reserve for itself, all its vCPUs together
    ///
    /// It asks by /dev/xeno, or by the hypercall behind that. What it has reserved already stays.
    Allow {
        /// The domain
        name: Target,
        /// In percent of one processor, such as 40% or 150%; 0% for nothing
        #[arg(value_name = "RATE")]
        allowance: Rate,
    },
    /// Show what CPU time a domain has reserved
    Show {
        /// The domain
        name: Target,
    },
    /// Show what holds for all reservations: the quantum, the range of periods, what nobody can reserve
    Rules {
        /// Make this the quantum, such as 1ms; reservations that were made stay as they are
        #[arg(long, value_name = "TIME")]
        quantum: Option<Span>,
    },
}

/// One of `xeno set`'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `memory=SIZE`.
    Memory(Size),
    /// `vcpus=N`.
    Vcpus(u32),
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("memory", size)) => size
                .parse()
                .map(Self::Memory)
                .map_err(|error: xeno_api::BadSize| error.to_string()),
            Some(("vcpus", number)) => number
                .parse()
                .map(Self::Vcpus)
                .map_err(|_| format!("{number:?} is not a number of vCPUs")),
            _ => Err("expected memory=SIZE or vcpus=N, such as memory=128M".to_owned()),
        }
    }
}

/// Reads `FILE[,ro|rw][,DEVICE]`. A file with a comma in its name needs a description file.
fn disk(text: &str) -> Result<DraftDisk, String> {
    let mut words = text.split(',');
    let file = words.next().unwrap_or_default();
    if file.is_empty() {
        return Err("expected a file first, such as web.img,ro,xvdb".to_owned());
    }
    let mut disk = DraftDisk {
        file: file.into(),
        mode: Access::ReadWrite,
        device: None,
    };
    for word in words {
        if let Ok(mode) = word.parse() {
            disk.mode = mode;
        } else if Disk::index(word).is_some() {
            disk.device = Some(word.to_owned());
        } else {
            return Err(format!(
                "{word:?} is not known: expected \"ro\", \"rw\" or a disk from \"xvda\" to \"xvdz\""
            ));
        }
    }
    Ok(disk)
}

/// Seconds that make sense between two looks.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds from 0.1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_disk_is_a_file_with_a_mode_and_a_name_in_any_order() {
        let plain = disk("a.img").unwrap();
        assert_eq!((plain.mode, plain.device), (Access::ReadWrite, None));
        for text in ["/dev/vg/web,ro,xvdb", "/dev/vg/web,xvdb,ro"] {
            let full = disk(text).unwrap();
            assert_eq!(
                (full.mode, full.device.as_deref()),
                (Access::ReadOnly, Some("xvdb"))
            );
        }
        for text in ["", ",ro", "a.img,w", "a.img,sda", "a.img,"] {
            assert!(disk(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_are_memory_and_vcpus() {
        assert_eq!("vcpus=2".parse(), Ok(Setting::Vcpus(2)));
        assert_eq!(
            "memory=4M".parse(),
            Ok(Setting::Memory("4M".parse().unwrap()))
        );
        for text in ["memory", "memory=4", "vcpus=x", "cpus=1"] {
            assert!(text.parse::<Setting>().is_err(), "{text}");
        }
    }
}
