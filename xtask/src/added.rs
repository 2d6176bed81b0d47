//! `--add FILE[=PATH]`: a person's own files in the control domain, a kernel to start there for example.
//!
//! # Invariants
//! - A1: what cannot be added as it is said is refused in one sentence before anything is built or started.
//! - A2: no two files go to one place, and none to a place that is hidden once the system runs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::initrd::{self, Part};

/// Where a file goes of which no place is said: where the shell starts.
const HOME: &str = "/root";

/// What is mounted when the system starts hides what lies there. The last is a link to one of them.
const HIDDEN: &[&str] = &["dev", "proc", "run", "sys", "tmp", "var/run"];

/// Of the control domain's memory, the part that all added files together may have: they are in it twice while it
/// starts, packed and unpacked.
const SHARE: u64 = 4;

/// One `--add`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// On the host.
    file: PathBuf,
    /// In the control domain, without the leading slash.
    path: String,
}

impl std::str::FromStr for Added {
    type Err = String;

    /// `FILE`, `FILE=/PATH` or `FILE=/DIRECTORY/`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (file, place) = match text.split_once("=/") {
            Some((file, place)) => (file, format!("/{place}")),
            None => match text.split_once('=') {
                Some((_, place)) if !Path::new(text).exists() => {
                    return Err(format!(
                        "the place `{place}` does not begin with `/`: say where the file is to be in the control domain"
                    ));
                }
                _ => (text, format!("{HOME}/")),
            },
        };
        if file.is_empty() {
            return Err("it names no file: write FILE or FILE=/PATH".to_owned());
        }
        Ok(Self {
            path: path(file, &place)?,
            file: file.into(),
        })
    }
}

/// The place without its leading slash, and with the file's name where a directory is said.
fn path(file: &str, place: &str) -> Result<String, String> {
    let mut path = place.trim_start_matches('/').to_owned();
    if place.ends_with('/') {
        let name = Path::new(file)
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| format!("`{file}` has no name that it could keep there"))?;
        path.push_str(name);
    }
    if path.split('/').any(|word| matches!(word, "" | "." | "..")) {
        return Err(format!(
            "the place `{place}` has an empty part, `.` or `..` in it: write it without"
        ));
    }
    let below = |dir: &&&str| path == **dir || path.starts_with(&format!("{dir}/"));
    if let Some(dir) = HIDDEN.iter().find(below) {
        return Err(format!(
            "the place `{place}` is hidden by what is mounted on /{dir} when the control domain starts: choose another"
        ));
    }
    Ok(path)
}

/// Reads the files; the control domain has `memory_mb`, if that is known.
///
/// # Errors
/// When one cannot be read, they are too large, or two go to one place (A1, A2).
pub fn read(added: &[Added], memory_mb: Option<u64>) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    for Added { file, path } in added {
        let shown = file.display();
        let about =
            std::fs::metadata(file).with_context(|| format!("the file {shown} cannot be added"))?;
        ensure!(
            !about.is_dir(),
            "{shown} is a directory and cannot be added: `--add` takes one file each time"
        );
        ensure!(
            about.is_file(),
            "{shown} is no ordinary file and cannot be added"
        );
        bytes += about.len();
        let room = memory_mb.map_or(u64::MAX, |mb| mb / SHARE);
        if bytes.div_ceil(1 << 20) > room {
            bail!(
                "the files to add are larger than {room}M, which is what the control domain has room for: give it more \
                 memory by `--memory` and `--hv-args dom0_mem=SIZE`, or bring them on a `--disk`"
            );
        }
        check_place(path, parts.iter().map(|part| part.path.as_str()))?;
        ensure!(
            parts.iter().all(|part| part.path != *path),
            "two files are to be added as /{path}"
        );
        let contents =
            std::fs::read(file).with_context(|| format!("the file {shown} cannot be added"))?;
        let executable = about.permissions().mode() & 0o111 != 0;
        parts.push(Part {
            path: path.clone(),
            permissions: if executable { 0o755 } else { 0o644 },
            contents,
        });
    }
    Ok(parts)
}

/// Checks that a file can be there beside those at `others`: it may take the place of one of them.
///
/// # Errors
/// When there is a directory, or a file where a directory has to be.
pub fn check_place<'a>(path: &str, others: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let is_in = |inner: &str, outer: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    ensure!(
        !initrd::DIRECTORIES.contains(&path),
        "nothing can be added as /{path}: that is a directory of the control domain"
    );
    for other in others {
        ensure!(
            !is_in(other, path),
            "nothing can be added as /{path}: that is a directory of the control domain"
        );
        ensure!(
            !is_in(path, other),
            "nothing can be added as /{path}: /{other} is a file of the control domain"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> Result<Added, String> {
        text.parse()
    }

    #[test]
    fn a_file_goes_to_the_shells_directory_or_where_it_is_said() {
        for (text, file, path) in [
            ("../x/vmlinuz", "../x/vmlinuz", "root/vmlinuz"),
            (
                "web.toml=/etc/xeno/web.toml",
                "web.toml",
                "etc/xeno/web.toml",
            ),
            ("a/web.toml=/etc/xeno/", "a/web.toml", "etc/xeno/web.toml"),
            ("x=/a=b", "x", "a=b"),
        ] {
            let wanted = Added {
                file: file.into(),
                path: path.to_owned(),
            };
            assert_eq!(added(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        for (text, told) in [
            ("", "names no file"),
            ("=/boot/x", "names no file"),
            ("no-such-file=boot/x", "does not begin with `/`"),
            ("no-such-file=", "does not begin with `/`"),
            ("x=/boot/../x", "`.` or `..`"),
            ("x=//x/.", "`.` or `..`"),
            ("..=/boot/", "has no name"),
            ("x=/run/x", "mounted on /run"),
            ("x=/var/run/x", "mounted on /var/run"),
            ("x=/tmp/", "mounted on /tmp"),
        ] {
            let said = added(text).expect_err(text);
            assert!(said.contains(told), "{text}: {said}");
        }
    }

    #[test]
    fn what_cannot_be_read_or_has_no_room_is_refused() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let at = |file: &Path, path: &str| Added {
            file: file.to_owned(),
            path: path.to_owned(),
        };
        let parts = read(&[at(&own, "a"), at(&own, "b/c")], Some(4)).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!(
            (parts[1].path.as_str(), parts[1].permissions),
            ("b/c", 0o644)
        );
        let refused: [(&[Added], Option<u64>, &str); 6] = [
            (
                &[at(Path::new("/no/such"), "a")],
                None,
                "/no/such cannot be added",
            ),
            (&[at(Path::new("/"), "a")], None, "is a directory"),
            (&[at(Path::new("/dev/null"), "a")], None, "no ordinary file"),
            (&[at(&own, "a")], Some(3), "larger than 0M"),
            (&[at(&own, "a"), at(&own, "a")], None, "two files"),
            (&[at(&own, "a"), at(&own, "a/b")], None, "/a is a file"),
        ];
        for (files, memory, told) in refused {
            let error = read(files, memory).err().map(|error| format!("{error:#}"));
            assert!(
                error.as_ref().is_some_and(|said| said.contains(told)),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_directory_is_not_replaced() {
        let there = ["etc/xeno/guest1.toml", "bin/busybox"];
        assert!(check_place("etc/xeno/guest1.toml", there).is_ok());
        assert!(check_place("etc/xeno/guest", there).is_ok());
        assert!(check_place("etc/xeno", there).is_err());
        assert!(check_place("usr", there).is_err());
        assert!(check_place("bin/busybox/x", there).is_err());
    }
}
