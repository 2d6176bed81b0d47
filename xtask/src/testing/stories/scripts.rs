//! What the stories type at the shell and what must come of it, and the ends they come to.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::testing::console_shell::{Try, a_try};
use crate::testing::serial::Session;
use crate::testing::{EXIT_BY_PORT_AT_LEAST, check_last_words};

/// Enough to see that the right thing runs.
pub const GLANCE: &[Try] = &[
    a_try("uname -a", r"^Linux xeno \d+\.\d+.* x86_64 GNU/Linux", 20),
    a_try("cat /sys/hypervisor/type", r"^xen$", 20),
];

/// What a person would try first, and a little more than that.
pub(super) const COMMANDS: &[Try] = &[
    a_try("cat /proc/cpuinfo", r"(?m)^model name\s*: \S", 20),
    a_try("cat /proc/interrupts", r"(?m)^ *\d+: +[1-9]\d* .*timer", 20),
    a_try("free -m", r"(?m)^Mem: +[1-9]", 20),
    a_try(
        r#"echo $((6 * 7)) $(awk 'BEGIN { printf "%.4f", 355 / 113 }')"#,
        r"^42 3\.1416$",
        20,
    ),
    a_try(
        "i=0; while [ $i -lt 1000 ] && /bin/true; do i=$((i+1)); done; echo ran $i",
        r"(?m)^ran 1000$",
        240,
    ),
    a_try(
        "dd if=/dev/zero of=/tmp/zeros bs=64k count=256 2>/dev/null; md5sum < /tmp/zeros; rm /tmp/zeros",
        r"2c7ab85a893283e98c931e9511add182",
        120,
    ),
    a_try(
        "dd if=/dev/zero bs=4k count=256 2>/dev/null | gzip -c | gzip -dc | wc -c",
        r"(?m)^1048576$",
        60,
    ),
    a_try(
        "sh -c 'kill -SEGV $$'; echo status $?",
        r"(?m)^status 139$",
        20,
    ),
];

/// What shows that four vCPUs work, together and one by one. (A count of one is no count of ten.)
pub(super) const PROCESSORS: &[Try] = &[
    // What the kernel says from here on is looked for at the end, and is no answer to what is typed.
    a_try(
        "dmesg -n 1; grep -c ^processor /proc/cpuinfo",
        r"(?m)^4$",
        20,
    ),
    a_try("cat /sys/devices/system/cpu/online", r"(?m)^0-3$", 20),
    // Four at a time, each of which has something to do and says what it came to.
    a_try(
        r#"for n in 1 2 3 4; do (i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo $i > /tmp/$n) & done; wait; cat /tmp/[1-4] | sort | uniq -c"#,
        r"(?m)^ *4 3000$",
        120,
    ),
    // Each on a processor of its own choice, and there it stays.
    a_try(
        r#"for n in 0 1 2 3; do taskset -c $n sh -c 'cut -d" " -f39 /proc/self/stat'; done | tr '\n' ' '"#,
        r"(?m)^0 1 2 3 ?$",
        60,
    ),
    a_try(
        "i=0; while [ $i -lt 10 ]; do echo 0 > /sys/devices/system/cpu/cpu1/online || break; grep -c ^processor /proc/cpuinfo; echo 1 > /sys/devices/system/cpu/cpu1/online || break; i=$((i+1)); done | sort | uniq -c; cat /sys/devices/system/cpu/online",
        r"(?m)^ *10 3$[\s\S]*^0-3$",
        180,
    ),
    a_try(
        r#"taskset -c 1 sh -c 'cut -d" " -f39 /proc/self/stat'"#,
        r"(?m)^1$",
        20,
    ),
    a_try(
        "grep -E '(RES|CAL|xen-percpu|resched|callfunc)' /proc/interrupts | head -20",
        r"(?m)^ *\d+:.*(resched|callfunc)",
        20,
    ),
    a_try(
        "dmesg | grep -iE 'failed|mismatch|firmware bug|stalls|lockup' | grep -vE 'TSC calibration|consistency check|MCE device|CPU numbers'; echo seen",
        r"^\s*seen\s*$",
        20,
    ),
];

/// From power-on to a prompt; the packed form spends most of it unpacking under emulation.
pub const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// Types `poweroff`, and sees the emulator end well and the hypervisor say that all is right.
///
/// # Errors
/// With what went otherwise.
pub fn power_off(session: &mut Session) -> Result<()> {
    session.send("poweroff\n")?;
    let status = session
        .wait(Duration::from_secs(60))
        .context("after poweroff")?;
    ensure!(
        status == 0,
        "the emulator ended with status {status} after poweroff{}",
        if status >= EXIT_BY_PORT_AT_LEAST {
            " (through its exit device, as for a failure)"
        } else {
            ""
        }
    );
    check_last_words(&session.text()).map_err(anyhow::Error::msg)
}

pub(super) fn reboot(session: &mut Session) -> Result<()> {
    session.send("reboot\n")?;
    session
        .expect("Linux version ", BOOT_LIMIT)
        .context("after reboot the kernel did not start again")?;
    Ok(())
}
