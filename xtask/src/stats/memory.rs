//! What ring 0 keeps of a machine's memory: started on one, it says so itself (`ring 0 keeps …`).

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::qemu::{Boot, Machine, Module, Modules};
use crate::shell;
use crate::tree::Tree;

/// The machine that the limits speak of has so much memory, and one CPU.
pub const MACHINE_BYTES: u64 = 4 << 30;
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes by use, in ring 0's own words.
pub type Uses = BTreeMap<String, u64>;

/// Starts the hypervisor with the test guest `hello` and reads what it keeps.
///
/// # Errors
/// When the machine cannot be started, does not end, or says nothing of it.
pub fn measure(tree: &Tree) -> Result<Uses> {
    let modules = Modules {
        hypervisor: None,
        hypervisor_arguments: "console=com1 dom0_mem=128M exit_port=0xf4".to_owned(),
        modules: vec![Module::new(tree.guests().join("hello"), "")],
    };
    let machine = Machine {
        memory: "4G".to_owned(),
        ..Machine::new(Boot::Direct(modules))
    };
    let mut child = machine
        .command(tree)?
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("qemu-system-x86_64 cannot be started")?;
    // A few kilobytes: the pipe holds them until the machine has ended.
    let deadline = Instant::now() + LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            crate::run::end(&mut child)?;
            bail!("the machine did not end within {} seconds", LIMIT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let console = child.wait_with_output()?.stdout;
    let console = String::from_utf8_lossy(&console);
    parse(&console).with_context(|| {
        format!(
            "ring 0 does not say what memory it keeps: {}",
            shell::tail(&console, 5)
        )
    })
}

/// `ring 0 keeps 43140 KiB: frame table 32768, M2P 8192, …`.
fn parse(console: &str) -> Option<Uses> {
    let line = console.lines().find(|l| l.contains("ring 0 keeps "))?;
    let (_, list) = line.split_once("KiB: ")?;
    list.split(',')
        .map(|one| {
            let (name, kib) = one.trim().rsplit_once(' ')?;
            Some((name.to_owned(), kib.parse::<u64>().ok()? << 10))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_use_is_read_in_bytes() {
        let uses = parse(
            "x\r\n(xeno) ring 0 keeps 7 KiB: frame table 4, M2P 2, domains and devices 1\r\n",
        )
        .unwrap();
        assert_eq!(uses["frame table"], 4096);
        assert_eq!(uses["domains and devices"], 1024);
        assert!(parse("nothing").is_none());
    }
}
