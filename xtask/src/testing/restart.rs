//! A control domain that crashes: it is built anew, the machine restarts or it stays halted, as `dom0_crash=` says.
//!
//! That nothing of a crashed domain stays behind is also tried by the guest `restarted`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::extras::{self, Extra};
use crate::qemu::{Boot, Machine, Module, merge_words};
use crate::testing::console_shell::{Shell, a_try};
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::testing::stories::{BOOT_LIMIT, power_off};
use crate::testing::{BUILT_ANEW as ANEW, Context, EXIT_BY_PORT_AT_LEAST, RING0_CRASHED};
use crate::{iso, run, shell};

/// What the hypervisor says when all of a crashed domain was given back.
const ALL_BACK: &str = "free as before it was built";

type Act = fn(&mut Session) -> Result<String>;

/// A way for a crash to end.
struct Ending {
    tier: Tier,
    name: &'static str,
    hypervisor: &'static str,
    /// The guest that crashes at once; the stock kernel without one.
    guest: Option<&'static str>,
    act: Act,
}

const ENDINGS: &[Ending] = &[
    Ending {
        tier: Tier::Normal,
        name: "restart after a kernel's panic (isolate=yes)",
        hypervisor: "dom0_crash=restart isolate=yes",
        guest: None,
        act: panic_and_second_boot,
    },
    Ending {
        tier: Tier::Normal,
        name: "restart after a kernel's panic (isolate=no, two vCPUs)",
        hypervisor: "dom0_crash=restart isolate=no dom0_max_vcpus=2",
        guest: None,
        act: panic_and_second_boot,
    },
    Ending {
        tier: Tier::Normal,
        name: "restart while disks write to memory",
        hypervisor: "dom0_crash=restart isolate=yes",
        guest: None,
        act: disks_let_go,
    },
    Ending {
        tier: Tier::Quick,
        name: "restart of what crashes at once ends",
        hypervisor: "dom0_crash=restart",
        guest: Some("asked_crashes"),
        act: ends_in_one_sentence,
    },
    Ending {
        tier: Tier::Quick,
        name: "restart with guests, who are destroyed first",
        hypervisor: "dom0_crash=restart",
        guest: Some("restarted_with_guests"),
        act: guests_go_first,
    },
    Ending {
        tier: Tier::Quick,
        name: "restart of what the hypervisor crashes ends",
        hypervisor: "dom0_crash=restart isolate=no",
        guest: Some("bad_stack_crashes"),
        act: ends_in_one_sentence,
    },
    Ending {
        tier: Tier::Quick,
        name: "restart of the machine after a crash",
        hypervisor: "dom0_crash=reboot",
        guest: Some("asked_crashes"),
        act: machine_restarts,
    },
    Ending {
        tier: Tier::Quick,
        name: "restart is not wanted and the machine stays halted",
        hypervisor: "dom0_crash=halt exit_port=0xf8",
        guest: Some("asked_crashes"),
        act: stays_halted,
    },
];

/// One case for each ending.
pub fn cases() -> Vec<Case> {
    ENDINGS
        .iter()
        .map(|ending| Case {
            name: ending.name.to_owned(),
            tier: ending.tier,
            stage: Stage::Machine,
            needs: match ending.guest {
                Some(_) => Needs::Guests,
                None => Needs::System,
            },
            run: Box::new(move |context| ending.play(context)),
        })
        .collect()
}

impl Ending {
    fn play(&self, context: &Context) -> Outcome {
        let session = self
            .machine(context)
            .and_then(|m| Session::start(&context.tree, &m, self.name));
        serial::played(session, &context.tree, self.act)
    }

    fn machine(&self, context: &Context) -> Result<Machine> {
        let (kernel, initrd, memory, dom0_memory) = match self.guest {
            Some(guest) => {
                let kernel = Module::new(context.tree.guests().join(guest), "");
                (kernel, None, "256M", "128M")
            }
            None => {
                let system = context.stock()?;
                let kernel = Module::new(&system.vmlinux, run::KERNEL_ARGUMENTS);
                let initrd =
                    extras::initrd(&context.tree, &[Extra::Drivers], Some(&system.vmlinuz))?;
                (kernel, Some(initrd), "1G", "512M")
            }
        };
        let contents = iso::Contents {
            hypervisor_arguments: merge_words(
                &run::hypervisor_arguments(dom0_memory),
                self.hypervisor,
            ),
            kernel,
            initrd,
        };
        let modules = run::direct(&context.tree, &contents, None);
        let extra = match self.guest {
            Some(_) => Vec::new(),
            None => disks(context)?,
        };
        Ok(Machine {
            memory: memory.to_owned(),
            extra,
            ..Machine::new(Boot::Direct(modules))
        })
    }
}

/// Two disks with the same contents, each behind a controller that is a bus master; nothing is written to them.
fn disks(context: &Context) -> Result<Vec<String>> {
    let file = context.tree.out().join("restart-disk.img");
    let contents: Vec<u8> = (0..16_u32 << 18)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    shell::write_if_changed(&file, &contents)?;
    let drive = |id: &str| {
        let name = file.display().to_string().replace(',', ",,");
        format!("file={name},if=none,id={id},format=raw,snapshot=on")
    };
    let words = [
        "-drive",
        &drive("one"),
        "-device",
        "virtio-blk-pci,drive=one",
        "-drive",
        &drive("two"),
        "-device",
        "ahci,id=ahci",
        "-device",
        "ide-hd,drive=two,bus=ahci.0",
    ];
    Ok(words.map(str::to_owned).to_vec())
}

/// A crash in the midst of reads: the controllers are stopped, and work as well for the next life.
fn disks_let_go(session: &mut Session) -> Result<String> {
    const SUMS: &str = "md5sum /dev/vda /dev/sda";
    const LIMIT: Duration = Duration::from_secs(120);
    let before = Shell::at_prompt(session, BOOT_LIMIT)?.output_of(SUMS, LIMIT)?;
    session.send(
        "dd if=/dev/vda of=/dev/null bs=64k & dd if=/dev/sda of=/dev/null bs=64k & sleep 0.1; \
         echo c > /proc/sysrq-trigger\n",
    )?;
    session.expect("devices: 2 functions were bus masters", LIMIT)?;
    session.expect(ALL_BACK, LIMIT)?;
    session.expect("audit: all counts of", LIMIT)?;
    session.expect(ANEW, LIMIT)?;
    let mut shell = Shell::at_prompt(session, BOOT_LIMIT).context("the second time")?;
    let after = shell.output_of(SUMS, LIMIT)?;
    ensure!(
        before == after && before.contains("/dev/sda") && before.contains("/dev/vda"),
        "the disks held `{before}`, and hold `{after}`"
    );
    shell.kernel_has_no_complaint()?;
    power_off(session)?;
    Ok("both disks read twice".to_owned())
}

/// A shell, a panic, and a second shell on the same machine that has lost nothing.
fn panic_and_second_boot(session: &mut Session) -> Result<String> {
    {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        shell.try_all(&[a_try("cat /sys/hypervisor/type", r"^xen$", 20)])?;
    }
    session.send("echo c > /proc/sysrq-trigger\n")?;
    session
        .expect("sysrq triggered crash", Duration::from_secs(30))
        .context("the kernel did not panic")?;
    session
        .expect(ALL_BACK, Duration::from_secs(60))
        .context("the crashed domain was not given back whole")?;
    session
        .expect("audit: all counts of", Duration::from_secs(60))
        .context("the counts were not right after it was gone")?;
    session.expect(ANEW, Duration::from_secs(60))?;
    let mut shell = Shell::at_prompt(session, BOOT_LIMIT).context("the second time")?;
    shell.try_all(&[
        a_try("cat /sys/hypervisor/type", r"^xen$", 20),
        a_try("cat /proc/interrupts", r"(?m)^ *\d+: +[1-9]\d* .*timer", 20),
        a_try(
            "dd if=/dev/zero bs=64k count=256 2>/dev/null | md5sum",
            r"2c7ab85a893283e98c931e9511add182",
            60,
        ),
    ])?;
    shell.kernel_has_no_complaint()?;
    power_off(session)?;
    Ok("two boots".to_owned())
}

/// Each guest goes, with a line that says so, before the control domain; then all is free.
fn guests_go_first(session: &mut Session) -> Result<String> {
    const GOES: &str = "is destroyed with the control domain";
    const LIMIT: Duration = Duration::from_secs(60);
    session.expect("the control domain is gone", LIMIT)?;
    let mut gone = 0;
    // The first is gone by then: it was there to have a vCPU on each processor.
    for id in [2, 3, 4, 5, 6, 7, 5000] {
        session
            .expect(&format!("domain {id} {GOES}"), LIMIT)
            .with_context(|| format!("domain {id} was not destroyed first"))?;
        gone += 1;
    }
    session.expect(ALL_BACK, LIMIT)?;
    session.expect("audit: all counts of", LIMIT)?;
    session.expect(ANEW, LIMIT)?;
    session.expect("GUEST PASS restarted_with_guests", LIMIT)?;
    Ok(format!("{gone} guests destroyed"))
}

/// Three times anew, each time whole; then one sentence and a failing end.
fn ends_in_one_sentence(session: &mut Session) -> Result<String> {
    let status = session.wait(Duration::from_secs(60))?;
    let console = session.text();
    let count = |what: &str| console.matches(what).count();
    ensure!(
        status >= EXIT_BY_PORT_AT_LEAST,
        "the emulator ended with status {status}"
    );
    ensure!(
        !console.contains(RING0_CRASHED),
        "the hypervisor itself crashed"
    );
    ensure!(
        (count(ANEW), count(ALL_BACK)) == (3, 3),
        "built anew {} times, given back whole {} times",
        count(ANEW),
        count(ALL_BACK)
    );
    ensure!(
        count("crashed 4 times within a minute and is not built again") == 1,
        "no sentence says why it ends"
    );
    Ok(format!("status {status}"))
}

/// A reset, which the emulator was told to end at.
fn machine_restarts(session: &mut Session) -> Result<String> {
    let status = session.wait(Duration::from_secs(60))?;
    ensure!(
        status == 0,
        "the emulator ended with status {status} instead of by a reset"
    );
    ensure!(!session.text().contains(ANEW), "the domain was built anew");
    ensure!(
        session.text().contains("the control domain is gone"),
        "nobody said that the control domain is gone"
    );
    Ok(String::new())
}

fn stays_halted(session: &mut Session) -> Result<String> {
    session.expect(
        "halted; restart the machine by hand",
        Duration::from_secs(60),
    )?;
    ensure!(
        session.wait(Duration::from_secs(8)).is_err(),
        "the machine did not stay halted"
    );
    ensure!(!session.text().contains(ANEW), "the domain was built anew");
    Ok(String::new())
}
