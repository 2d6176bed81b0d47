//! Kernels: each release that the distribution offers, in each form that a kernel comes in, in both address-space
//! forms, from power-on to the shell and off again; and forms that are refused, which say so in one sentence.
//!
//! The whole matrix is the full tier; the smaller tier covers each value once. A release that apt does not offer here is
//! skipped with that reason.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::kernel::{self, Packing, Release};
use crate::qemu::{Machine, Module, merge_words};
use crate::testing::console_shell::Shell;
use crate::testing::runner::{Case, Needs, Outcome, Stage, Tier};
use crate::testing::serial::{self, Session};
use crate::testing::stories::{BOOT_LIMIT, GLANCE, power_off};
use crate::testing::{Context, EXIT_BY_PORT_AT_LEAST, RING0_CRASHED};
use crate::{iso, run, shell};

/// What the first boot module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The ELF file inside.
    Elf,
    /// As the distribution packed it.
    Shipped,
    /// Packed in another way.
    Repacked(Packing),
}

#[derive(Clone, Copy)]
struct Row {
    release: Release,
    form: Form,
    isolate: &'static str,
}

const RELEASES: [Release; 2] = [Release::Stable, Release::Newer];
const FORMS: [Form; 6] = [
    Form::Elf,
    Form::Shipped,
    Form::Repacked(Packing::Gzip),
    Form::Repacked(Packing::Xz),
    Form::Repacked(Packing::Zstd),
    Form::Repacked(Packing::Lz4),
];

/// Rows of the smaller tier: beside the stories, which boot 6.1 as it is shipped, every release, packing and
/// address-space form once.
const COVER: [(Release, Form, &str); 4] = [
    (Release::Newer, Form::Elf, "no"),
    (Release::Newer, Form::Shipped, "yes"),
    (Release::Stable, Form::Repacked(Packing::Gzip), "yes"),
    (Release::Stable, Form::Repacked(Packing::Lz4), "no"),
];

/// A payload that is named and refused: its first bytes, and its name.
const REFUSED: [(&[u8], &str); 3] = [
    (b"BZh91AY&SY", "bzip2"),
    (b"\x5d\0\0\0\x04\xff\xff\xff\xff", "lzma"),
    (b"\x89LZO\0\r\n\x1a\n", "lzo"),
];

/// From power-on to the sentence.
const REFUSAL_LIMIT: Duration = Duration::from_secs(60);

/// One case for each row.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for release in RELEASES {
        for form in FORMS {
            for isolate in ["yes", "no"] {
                let row = Row {
                    release,
                    form,
                    isolate,
                };
                let cover = COVER.contains(&(release, form, isolate));
                cases.push(Case {
                    name: row.name(),
                    tier: if cover { Tier::Normal } else { Tier::Full },
                    stage: Stage::Machine,
                    needs: Needs::Kernels,
                    run: Box::new(move |context| row.run(context)),
                });
            }
        }
    }
    cases.extend(REFUSED.iter().map(|&(magic, name)| Case {
        name: format!("kernel packed with {name} is refused"),
        tier: Tier::Normal,
        stage: Stage::Machine,
        needs: Needs::System,
        run: Box::new(move |context| match refused(context, magic, name) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::failed("not started", format!("{error:#}")),
        }),
    }));
    cases
}

impl Row {
    fn name(self) -> String {
        let form = match self.form {
            Form::Elf => "ELF".to_owned(),
            Form::Shipped => "bzImage".to_owned(),
            Form::Repacked(packing) => format!("bzImage by {}", packing.name()),
        };
        format!(
            "kernel {} boots and powers off ({form}, isolate={})",
            self.release.series(),
            self.isolate
        )
    }

    fn run(self, context: &Context) -> Outcome {
        let shipped = match kernel::release(&context.tree, self.release) {
            Ok(shipped) => shipped,
            Err(reason) => return Outcome::skipped(format!("{reason:#}")),
        };
        let file = match self.form {
            Form::Elf => kernel::unpacked(&shipped),
            Form::Shipped => Ok(shipped),
            Form::Repacked(packing) => kernel::repacked(&shipped, packing),
        };
        let started = file
            .and_then(|file| machine(context, file, self.isolate))
            .and_then(|machine| Session::start(&context.tree, &machine, &self.name()));
        serial::played(started, &context.tree, |session| self.act(session))
    }

    fn act(self, session: &mut Session) -> Result<String> {
        let mut shell = Shell::at_prompt(session, BOOT_LIMIT)?;
        let booted = shell.seconds_to_prompt();
        shell.try_all(GLANCE)?;
        let version = shell.output_of("uname -r", Duration::from_secs(20))?;
        ensure!(
            version
                .trim()
                .starts_with(&format!("{}.", self.release.series())),
            "this is Linux {}, not {}",
            version.trim(),
            self.release.series()
        );
        shell.kernel_has_no_complaint()?;
        power_off(session)?;
        Ok(format!("{}: prompt after {booted:.1} s", version.trim()))
    }
}

fn machine(context: &Context, file: PathBuf, isolate: &str) -> Result<Machine> {
    let system = context.stock()?;
    let contents = iso::Contents {
        hypervisor_arguments: merge_words(
            &run::hypervisor_arguments("512M"),
            &format!("isolate={isolate}"),
        ),
        kernel: Module::new(file, run::KERNEL_ARGUMENTS),
        initrd: Some(system.initrd.clone()),
    };
    Ok(Machine {
        no_reboot: true,
        ..Machine::new(context.direct(&contents))
    })
}

/// Boots the stock kernel with a payload that begins like `name`'s, and asks for the sentence.
fn refused(context: &Context, magic: &[u8], name: &str) -> Result<Outcome> {
    let system = context.stock()?;
    let mut payload = magic.to_vec();
    payload.resize(4096, 0x55);
    payload.extend(0x10_0000_u32.to_le_bytes());
    let image = kernel::with_payload(&std::fs::read(&system.vmlinuz)?, &payload)
        .context("the stock kernel is not a bzImage")?;
    let file = context.tree.out().join(format!("bad-input/vmlinuz.{name}"));
    shell::write_if_changed(&file, &image)?;
    let machine = machine(context, file, "yes")?;
    let log = format!("kernel packed with {name}");
    let mut session = Session::start(&context.tree, &machine, &log)?;
    let judged = session
        .wait(REFUSAL_LIMIT)
        .and_then(|status| sentence(&session.text(), name, status));
    Ok(match judged {
        Ok(sentence) => Outcome::passed(sentence),
        Err(error) => Outcome::failed(format!("{error:#}"), session.report(&context.tree)),
    })
}

/// The one line that names the format, and a failing status.
fn sentence(console: &str, name: &str, status: i32) -> Result<String> {
    let wanted = format!("is compressed with {name}, which is not supported");
    let lines: Vec<&str> = console.lines().filter(|l| l.contains(&wanted)).collect();
    ensure!(
        lines.len() == 1,
        "{} lines say `{wanted}`, where one should (status {status})",
        lines.len()
    );
    ensure!(
        status >= EXIT_BY_PORT_AT_LEAST && !console.contains(RING0_CRASHED),
        "the machine did not end as a failure should (status {status})"
    );
    Ok(lines.concat().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_tier_covers_each_value_of_the_matrix() {
        for release in RELEASES {
            assert!(COVER.iter().any(|row| row.0 == release));
        }
        for packing in [Packing::Gzip, Packing::Lz4] {
            assert!(COVER.iter().any(|row| row.1 == Form::Repacked(packing)));
        }
        for isolate in ["yes", "no"] {
            assert!(COVER.iter().any(|row| row.2 == isolate));
        }
        assert_eq!(
            cases().iter().filter(|c| c.tier == Tier::Normal).count(),
            COVER.len() + REFUSED.len()
        );
    }

    #[test]
    fn a_refusal_names_the_format_once_and_fails() {
        let good = "(xeno) module 1 (the kernel) is compressed with lzo, which is not supported: x";
        assert!(sentence(good, "lzo", 3).is_ok());
        assert!(sentence(good, "lzo", 0).is_err());
        assert!(sentence(good, "lzma", 3).is_err());
        assert!(sentence(&format!("{good}\n{good}"), "lzo", 3).is_err());
    }
}
