//! What a guest asks of its machine, in comments of its source file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::testing::runner::Tier;
use crate::tree::Tree;

/// What a guest asks of its machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// Its machine's memory, as the emulator takes it.
    pub memory: String,
    pub(super) tier: Option<Tier>,
    pub(super) dom0_memory: String,
    pub(super) smp: u32,
    /// How many CPUs run its vCPUs where it is tried on several, and the tier in which it is.
    pub(super) parallel: Vec<(u32, Tier)>,
    pub(super) limit: Duration,
    /// Words of its own command line.
    pub append: String,
    /// Words of the hypervisor's.
    pub hypervisor: String,
    pub(super) counted_clock: bool,
    pub(super) devices: Vec<String>,
    /// It is a guest of a control domain, and no initial domain.
    pub(super) ordinary: bool,
}

impl Default for Wants {
    fn default() -> Self {
        Self {
            memory: "256M".to_owned(),
            tier: None,
            dom0_memory: "128M".to_owned(),
            smp: 1,
            parallel: Vec::new(),
            limit: Duration::from_secs(60),
            append: String::new(),
            hypervisor: String::new(),
            counted_clock: true,
            devices: Vec::new(),
            ordinary: false,
        }
    }
}

/// What a guest of the tree asks of its machine.
///
/// # Errors
/// When it asks for something unknown.
pub fn wants(tree: &Tree, name: &str) -> Result<Wants> {
    read_wants(&tree.root().join("tests/guests/src/bin"), name)
}

fn read_wants(source: &Path, name: &str) -> Result<Wants> {
    let files = [
        source.join(format!("{name}.rs")),
        source.join(name).join("main.rs"),
    ];
    let text = files
        .iter()
        .find_map(|f| std::fs::read_to_string(f).ok())
        .unwrap_or_default();
    parse_wants(&text).with_context(|| format!("the guest {name} asks for something unknown"))
}

fn parse_wants(text: &str) -> Result<Wants> {
    let mut wants = Wants::default();
    for line in text
        .lines()
        .filter_map(|l| l.trim().strip_prefix("//! xtask:"))
    {
        let (key, value) = line
            .trim()
            .split_once('=')
            .context("a line `xtask:` has no `key=value`")?;
        let text = || value.to_owned();
        match key {
            "memory" => wants.memory = text(),
            "dom0_mem" => wants.dom0_memory = text(),
            "smp" => wants.smp = value.parse().context("`smp` is not a number")?,
            "parallel" | "parallel_full" => {
                let cpus = value.parse().context("`parallel` is not a number")?;
                let is_full = key != "parallel";
                let tier = if is_full { Tier::Full } else { Tier::Normal };
                wants.parallel.push((cpus, tier));
            }
            "seconds" => {
                wants.limit =
                    Duration::from_secs(value.parse().context("`seconds` is not a number")?)
            }
            "tier" => match value {
                "full" => wants.tier = Some(Tier::Full),
                _ => bail!("`tier` is `full` or not given"),
            },
            "append" => wants.append = text(),
            "hv" => wants.hypervisor = text(),
            "device" => wants.devices.push(text()),
            "domain" => match value {
                "ordinary" => wants.ordinary = true,
                _ => bail!("`domain` is `ordinary` or not given"),
            },
            "clock" => match value {
                "host" => wants.counted_clock = false,
                _ => bail!("`clock` is `host` or not given"),
            },
            _ => bail!("there is no `xtask: {key}`"),
        }
    }
    Ok(wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_asks_for_its_machine_in_comments() {
        let wants =
            parse_wants("//! Words.\n//! xtask: memory=1G\n//! xtask: append=a=b c\n").unwrap();
        assert_eq!(
            (wants.memory.as_str(), wants.append.as_str()),
            ("1G", "a=b c")
        );
        assert!(!wants.ordinary && parse_wants("//! xtask: domain=ordinary").unwrap().ordinary);
        assert!(parse_wants("//! xtask: colour=red").is_err());
    }
}
