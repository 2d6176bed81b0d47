//! Guests' descriptions in TOML files.
//!
//! The text is walked key by key rather than handed to a derive, so that whatever is wrong is told with the file, the
//! line, the key and what was expected; and all of it at once.

mod cpu;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::guest::{self, check_command_line, check_memory, check_vcpus};
use crate::{Access, Disk, Draft, DraftDisk, Guest, OnStop, Size};

/// One thing that is wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; none if it is about something that is not there.
    pub line: Option<usize>,
    /// The key, such as `memory` or `disks[0].mode`; empty if the text is not TOML.
    pub key: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

/// A description that cannot be used, and all that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptionError {
    /// The file's name, as the person gave it.
    pub file: String,
    /// At least one.
    pub faults: Vec<Fault>,
}

impl std::error::Error for DescriptionError {}

impl fmt::Display for DescriptionError {
    /// One line a fault: `web.toml:3: memory: ...`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Fault { line, key, problem }) in self.faults.iter().enumerate() {
            let newline = if place == 0 { "" } else { "\n" };
            write!(out, "{newline}{}:", self.file)?;
            if let Some(line) = line {
                write!(out, "{line}:")?;
            }
            if !key.is_empty() {
                write!(out, " {key}:")?;
            }
            write!(out, " {problem}")?;
        }
        Ok(())
    }
}

impl Guest {
    /// Reads a description from the text of a TOML file. `file` is what errors call it; paths in it start from `dir`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_toml(text: &str, file: &str, dir: &Path) -> Result<Self, DescriptionError> {
        let draft = Draft::from_toml(text, file, dir)?;
        draft.finish().map_err(|faults| DescriptionError {
            file: file.to_owned(),
            faults,
        })
    }
}

impl Draft {
    /// Reads what a TOML file says. Keys may be missing; none may be unknown or wrong.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_toml(text: &str, file: &str, dir: &Path) -> Result<Self, DescriptionError> {
        let mut reader = Reader {
            text,
            dir,
            faults: Vec::new(),
        };
        let mut draft = Self::default();
        match DeTable::parse(text) {
            Ok(table) => reader.guest(table.get_ref(), &mut draft),
            Err(error) => {
                let problem = error.message().lines().collect::<Vec<_>>().join(", ");
                reader.fault(error.span(), "", format!("this is not TOML: {problem}"));
            }
        }
        if reader.faults.is_empty() {
            Ok(draft)
        } else {
            Err(DescriptionError {
                file: file.to_owned(),
                faults: reader.faults,
            })
        }
    }
}

/// Walks the text and notes what is wrong.
struct Reader<'a> {
    text: &'a str,
    dir: &'a Path,
    faults: Vec<Fault>,
}

/// The keys of a description, as told when one is unknown.
const KEYS: &[&str] = &[
    "name",
    "kernel",
    "initrd",
    "cmdline",
    "memory",
    "max_memory",
    "vcpus",
    "cpu",
    "cpu_allowance",
    "disks",
    "on_poweroff",
    "on_reboot",
    "on_crash",
];

/// The keys of a disk.
const DISK_KEYS: &[&str] = &["file", "mode", "device"];

type Value<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn fault(&mut self, span: Option<Range<usize>>, key: &str, problem: String) {
        let line = span.map(|span| {
            let before = self.text.as_bytes().iter().take(span.start);
            1 + before.filter(|byte| **byte == b'\n').count()
        });
        self.faults.push(Fault {
            line,
            key: key.to_owned(),
            problem,
        });
    }

    fn guest(&mut self, table: &DeTable<'_>, draft: &mut Draft) {
        for (spanned, value) in table {
            let key = spanned.get_ref().as_ref();
            match key {
                "name" => draft.name = self.parsed(key, value, "a name, such as \"web\""),
                "kernel" => draft.kernel = self.path(key, value),
                "initrd" => draft.initrd = self.path(key, value),
                "cmdline" => {
                    draft.cmdline = self
                        .text(key, value, "the kernel's words in quotes")
                        .map(str::to_owned);
                    if let Some(Err(problem)) = draft.cmdline.as_deref().map(check_command_line) {
                        self.fault(Some(value.span()), key, problem);
                    }
                }
                "memory" => draft.memory = self.size(key, value),
                "max_memory" => draft.max_memory = self.size(key, value),
                "vcpus" => draft.vcpus = self.vcpus(key, value),
                "cpu" => draft.cpu = self.cpu(key, value),
                "cpu_allowance" => {
                    draft.cpu_allowance = self.parsed(key, value, "a rate, such as \"40%\"");
                }
                "disks" => draft.disks = self.disks(value),
                "on_poweroff" => draft.on_poweroff = self.on_stop(key, value),
                "on_reboot" => draft.on_reboot = self.on_stop(key, value),
                "on_crash" => draft.on_crash = self.on_stop(key, value),
                _ => self.unknown("", spanned.span(), key, KEYS),
            }
        }
    }

    fn unknown(&mut self, inside: &str, span: Range<usize>, key: &str, known: &[&str]) {
        let shown: String = key.chars().take(40).collect();
        self.fault(
            Some(span),
            &format!("{inside}{shown}"),
            format!("no such key: expected one of {}", known.join(", ")),
        );
    }

    fn text<'v>(&mut self, key: &str, value: &'v Value<'_>, expected: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let found = value.get_ref().type_str();
            self.fault(
                Some(value.span()),
                key,
                format!("expected {expected}, found {} {found}", article(found)),
            );
        }
        text
    }

    fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &str,
        value: &Value<'_>,
        expected: &str,
    ) -> Option<T> {
        match self.text(key, value, expected)?.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(Some(value.span()), key, error.to_string());
                None
            }
        }
    }

    fn size(&mut self, key: &str, value: &Value<'_>) -> Option<Size> {
        let size = self.parsed(key, value, "a size in quotes, such as \"96M\"")?;
        if let Err(problem) = check_memory(size) {
            self.fault(Some(value.span()), key, problem);
        }
        Some(size)
    }

    fn path(&mut self, key: &str, value: &Value<'_>) -> Option<PathBuf> {
        let text = self.text(key, value, "a path in quotes")?;
        if text.is_empty() || text.contains('\0') {
            self.fault(Some(value.span()), key, format!("{text:?} is not a path"));
        }
        Some(self.dir.join(text))
    }

    fn vcpus(&mut self, key: &str, value: &Value<'_>) -> Option<u32> {
        let number = value
            .get_ref()
            .as_integer()
            .map(|i| i64::from_str_radix(i.as_str(), i.radix()));
        let checked = match number {
            Some(Ok(number)) => u64::try_from(number).map_err(|_| number.to_string()),
            Some(Err(_)) => Err("this number".to_owned()),
            None => {
                let found = value.get_ref().type_str();
                self.fault(
                    Some(value.span()),
                    key,
                    format!("expected a number, found {} {found}", article(found)),
                );
                return None;
            }
        };
        let checked = checked
            .map_err(|shown| {
                format!(
                    "{shown} is out of range: expected 1 to {}",
                    guest::MAX_VCPUS
                )
            })
            .and_then(check_vcpus);
        match checked {
            Ok(vcpus) => Some(vcpus),
            Err(problem) => {
                self.fault(Some(value.span()), key, problem);
                None
            }
        }
    }

    fn on_stop(&mut self, key: &str, value: &Value<'_>) -> Option<OnStop> {
        self.parsed(key, value, "\"destroy\", \"restart\" or \"preserve\"")
    }

    fn disks(&mut self, value: &Value<'_>) -> Vec<DraftDisk> {
        const EXPECTED: &str = "a list of disks, such as [{ file = \"web.img\" }]";
        let Some(list) = value.get_ref().as_array() else {
            let found = value.get_ref().type_str();
            self.fault(
                Some(value.span()),
                "disks",
                format!("expected {EXPECTED}, found {} {found}", article(found)),
            );
            return Vec::new();
        };
        let disks = list.iter().enumerate();
        disks
            .filter_map(|(place, value)| self.disk(&format!("disks[{place}]"), value))
            .collect()
    }

    fn disk(&mut self, place: &str, value: &Value<'_>) -> Option<DraftDisk> {
        let Some(table) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            let problem = format!(
                "expected a disk, such as {{ file = \"web.img\" }}, found {} {found}",
                article(found)
            );
            self.fault(Some(value.span()), place, problem);
            return None;
        };
        let (mut file, mut mode, mut device) = (None, None, None);
        for (spanned, value) in table {
            let key = format!("{place}.{}", spanned.get_ref());
            match spanned.get_ref().as_ref() {
                "file" => file = Some(self.path(&key, value)),
                "mode" => mode = self.parsed(&key, value, "\"ro\" or \"rw\""),
                "device" => {
                    device = self
                        .text(&key, value, "a disk's name, such as \"xvda\"")
                        .map(str::to_owned);
                    if let Some(name) = device.as_deref().filter(|name| Disk::index(name).is_none())
                    {
                        let problem =
                            format!("{name:?} is not a disk: expected \"xvda\" to \"xvdz\"");
                        self.fault(Some(value.span()), &key, problem);
                    }
                }
                other => self.unknown(&format!("{place}."), spanned.span(), other, DISK_KEYS),
            }
        }
        if file.is_none() {
            self.fault(
                Some(value.span()),
                &format!("{place}.file"),
                "it is missing: expected a path".to_owned(),
            );
        }
        Some(DraftDisk {
            file: file.flatten()?,
            mode: mode.unwrap_or_else(Access::default_of_disks),
            device,
        })
    }
}

fn article(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}
