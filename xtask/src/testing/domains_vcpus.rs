//! A stock guest with two vCPUs: one is taken down and up again while it runs, as the store says.
//!
//! Taken down it is by the guest's kernel. One that comes back the kernel only shows: it is a program of the guest's that
//! puts it on line, as a rule of udev's would.

use anyhow::{Result, ensure};

use crate::testing::guided::Guided;

/// Numbers that it cannot have, the exit code, and what is said.
const WRONG: &[(&str, u8, &str)] = &[
    ("vcpus=0", 5, "1 to 2 on line, not 0"),
    ("vcpus=3", 5, "1 to 2 on line, not 3"),
    ("vcpus=two", 2, "\"two\" is not a number of vCPUs"),
];

/// Has it boot with both, changes how many are on line, and ends it.
pub fn two(guided: &mut Guided<'_>) -> Result<()> {
    guided.done("story guest pair --vcpus 2")?;
    guided.guest_is_up("pair")?;
    on_line(guided, 2)?;
    for (setting, code, told) in WRONG {
        let said = guided.output(&format!("xeno set pair {setting}; echo code=$?"))?;
        ensure!(
            said.contains(told) && said.trim().ends_with(&format!("code={code}")),
            "`xeno set pair {setting}` says {said:?}, not {code} with {told:?}"
        );
    }
    on_line(guided, 2)?;
    for vcpus in [1, 2] {
        guided.done(&format!("xeno set pair vcpus={vcpus}"))?;
        on_line(guided, vcpus)?;
    }
    guided.done("xeno destroy pair")?;
    guided.alone()
}

/// Waits until so many of the two are on line, for the hypervisor and for the guest's own kernel.
fn on_line(guided: &mut Guided<'_>, vcpus: u32) -> Result<()> {
    guided.until(&format!(
        "xeno info pair | grep -q \"^vcpus  *{vcpus} of at most 2\""
    ))?;
    let off = guided.output("xeno info pair | grep -c \"^vcpu [01] .*off line\"")?;
    ensure!(
        off.trim() == (2 - vcpus).to_string(),
        "with {vcpus} vCPUs on line {off} are said to be off line"
    );
    // Counted, as an answer of before is still among what the console printed.
    let asked = guided.done("echo $((asked += 1))")?;
    guided.at_guest(
        "pair",
        &format!(
            "until [ $(grep -c ^processor /proc/cpuinfo) = {vcpus} ]; do sleep 1; done; echo cp''us {vcpus} {asked}"
        ),
        &format!("cpus {vcpus} {asked}"),
    )
}
