//! How much memory the machine has, how much of it the control domain, and how many guests start: what was asked for,
//! or what fits together where it was not.

use anyhow::{Context, Result};

use crate::domains;
use crate::run::options::Options;

/// The guests that `run` starts unless another number is asked for.
const USUAL_GUESTS: u32 = 2;

/// The least memory in MiB that has room for them beside the control domain.
const USUAL_MEMORY_MB: u64 = 1024;

/// How many guests are started: as many as were asked for, or the usual number where nothing speaks against them.
pub(super) fn guests(options: &Options) -> u32 {
    let payload = &options.payload;
    let room = options
        .memory
        .as_deref()
        .and_then(megabytes)
        .unwrap_or(USUAL_MEMORY_MB)
        >= USUAL_MEMORY_MB;
    let plain = payload.kernel.is_some() || payload.initrd.is_some() || !room;
    payload
        .guests
        .unwrap_or(if plain { 0 } else { USUAL_GUESTS })
}

/// The machine's memory: what was asked for, or what the guests need beside the control domain's half a gigabyte.
pub(super) fn memory(options: &Options) -> String {
    let guests = u64::from(guests(options)) * domains::GUEST_COST_MB;
    let usual = (512 + 64 + guests)
        .next_multiple_of(256)
        .max(USUAL_MEMORY_MB);
    options
        .memory
        .clone()
        .unwrap_or_else(|| format!("{usual}M"))
}

/// Half a gigabyte for the initial domain, or what fits beside the hypervisor on a small machine.
pub(super) fn dom0_memory(memory: &str) -> Result<String> {
    let megabytes = megabytes(memory)
        .with_context(|| format!("`--memory {memory}` is not a size: write it as 512M or 4G"))?;
    Ok(if megabytes >= 1024 {
        "512M".to_owned()
    } else {
        format!("{}M", megabytes * 5 / 8)
    })
}

/// A size as the emulator writes it (`512`, `512M`, `4G`), in MiB.
pub(super) fn megabytes(size: &str) -> Option<u64> {
    let (digits, unit) = size.split_at(
        size.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(size.len()),
    );
    let factor = match unit {
        "" | "M" | "m" | "MB" => 1,
        "G" | "g" | "GB" => 1024,
        _ => return None,
    };
    digits
        .parse::<u64>()
        .ok()?
        .checked_mul(factor)
        .filter(|&m| m > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_the_emulator_reads_them() {
        assert_eq!(megabytes("512"), Some(512));
        assert_eq!(megabytes("512M"), Some(512));
        assert_eq!(megabytes("4G"), Some(4096));
        assert_eq!(megabytes("4T"), None);
        assert_eq!(megabytes("0"), None);
        assert_eq!(megabytes(""), None);
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn guests_of(words: &[&str]) -> u32 {
        let line = <Line as clap::Parser>::parse_from(["run"].iter().chain(words));
        guests(&line.options)
    }

    #[test]
    fn two_guests_start_where_nothing_speaks_against_them() {
        assert_eq!(guests_of(&[]), 2);
        assert_eq!(guests_of(&["--memory", "4G", "--net"]), 2);
        assert_eq!(guests_of(&["--memory", "512M"]), 0);
        assert_eq!(guests_of(&["--kernel", "mine"]), 0);
        assert_eq!(guests_of(&["--initrd", "mine"]), 0);
        assert_eq!(guests_of(&["--guests", "0"]), 0);
        assert_eq!(guests_of(&["--guests", "5"]), 5);
    }

    #[test]
    fn a_small_machine_leaves_room_for_the_hypervisor() {
        assert_eq!(dom0_memory("1G").unwrap(), "512M");
        assert_eq!(dom0_memory("512M").unwrap(), "320M");
    }
}
