//! `xeno create`: from a file and options to a running guest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xeno_api::{Answer, DescriptionError, Draft, DraftDisk, Guest, Op, Target};

use crate::cli;
use crate::client::{Client, unexpected};
use crate::console;
use crate::failure::Failure;
use crate::show::{out, out_json};

/// More is no description.
const MAX_DESCRIPTION: u64 = 64 << 10;

/// Builds the guest that file and options describe. The daemon is asked only when that is complete.
///
/// # Errors
/// What is wrong with the description, and what the daemon refuses.
pub fn run(
    connect: impl FnOnce() -> Result<Client, Failure>,
    options: &cli::Create,
    json: bool,
) -> Result<(), Failure> {
    let guest = guest(options)?;
    let mut client = connect()?;
    match client.call(Op::Create {
        guest,
        paused: options.paused,
    })? {
        Answer::Created(created) if json => out_json(&created),
        Answer::Created(created) => {
            if !options.console {
                return out(format!("{} is domain {}\n", created.name, created.id));
            }
            let console = cli::Console {
                name: Target::Id(created.id),
                last: None,
                past: false,
                timeout: None,
            };
            console::run(&mut client, &console, false)
        }
        other => Err(unexpected(&other)),
    }
}

fn guest(options: &cli::Create) -> Result<Guest, Failure> {
    let (name, draft) = match &options.file {
        Some(file) => (file.display().to_string(), read(file)?),
        None => ("the command line".to_owned(), Draft::default()),
    };
    let draft = draft.overridden(from_options(options)?);
    let guest = draft
        .finish()
        .map_err(|faults| DescriptionError { file: name, faults })?;
    guest.check()?;
    Ok(guest)
}

fn read(file: &Path) -> Result<Draft, Failure> {
    let shown = file.display().to_string();
    let unreadable = |error| Failure::Unreadable {
        file: shown.clone(),
        error,
    };
    let mut text = String::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened
        .take(MAX_DESCRIPTION + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_DESCRIPTION {
        return Err(unreadable(io::Error::other(format!(
            "it is longer than {} KiB",
            MAX_DESCRIPTION >> 10
        ))));
    }
    let file = std::path::absolute(file).map_err(unreadable)?;
    Ok(Draft::from_toml(
        &text,
        &shown,
        file.parent().unwrap_or(Path::new("/")),
    )?)
}

fn from_options(options: &cli::Create) -> Result<Draft, Failure> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path)
            .map_err(|error| Failure::Options(format!("{}: {error}", path.display())))
    };
    let disk = |disk: &DraftDisk| {
        Ok(DraftDisk {
            file: absolute(&disk.file)?,
            ..disk.clone()
        })
    };
    Ok(Draft {
        name: options.name.clone(),
        kernel: options.kernel.as_ref().map(absolute).transpose()?,
        initrd: options.initrd.as_ref().map(absolute).transpose()?,
        cmdline: options.cmdline.clone(),
        memory: options.memory,
        max_memory: options.max_memory,
        vcpus: options.vcpus,
        cpu: options.cpu,
        cpu_allowance: options.cpu_allowance,
        disks: options
            .disk
            .iter()
            .map(disk)
            .collect::<Result<_, Failure>>()?,
        on_poweroff: options.on_poweroff,
        on_reboot: options.on_reboot,
        on_crash: options.on_crash,
    })
}
