//! `xeno ledger verify`: whether a usage record is whole, and who vouches for it.

use std::io;

use ledger::PublicKey;
use ledger::record::{Hash, Head, Open};
use ledger::verify::{Against, Report, Verifier};
use serde::Serialize;
use xen::{Accounts as _, Hypervisor as _, Xen};

use super::words::told;
use super::{key, paths, read, still_there};
use crate::cli::ledger::Verify;
use crate::failure::{Failure, NOT_WHOLE};
use crate::show::{out, out_json};

/// What ring 0 remembers.
struct Remembered {
    head: Option<Head>,
    open: Vec<Open>,
}

/// Asks ring 0; the files are to be read after this.
fn ask_ring0() -> Result<Remembered, xen::Error> {
    let xen = Xen::open()?;
    let of = |count, hash| {
        let hash = Hash(hash);
        (count > 0).then_some(Head { n: count, hash })
    };
    let head = xen.ledger_head(None)?;
    let mut remembered = Remembered {
        head: of(head.count, head.head),
        open: Vec::new(),
    };
    for info in xen.domains()? {
        match xen.ledger_head(Some(info.domain)) {
            Ok(own) => remembered
                .open
                .extend(of(own.count, own.head).map(|head| Open {
                    serial: own.serial,
                    k: head.n,
                    head: head.hash,
                })),
            Err(error) if error.is_no_domain() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(remembered)
}

/// How ring 0 was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ring0 {
    /// It was not to be.
    NotAsked,
    /// It remembers nothing.
    Nothing,
    /// It remembers so much.
    Remembers,
}

/// How often the record is read from its beginning at most, where files go meanwhile.
const TRIES: usize = 5;

/// Looks, and says what was found.
///
/// # Errors
/// When ring 0 cannot be asked or the files cannot be read, and when the record is not whole.
pub fn run(options: &Verify, json: bool) -> Result<(), Failure> {
    let key = key(&options.files)?;
    let mut tries = (0..TRIES).map(|_| look(options, key));
    let found = tries.find_map(Result::transpose).transpose()?;
    let Some((report, ring0)) = found else {
        let what = "files of the usage record go faster than they can be read";
        return Err(Failure::Io {
            what: what.to_owned(),
            error: io::ErrorKind::NotFound.into(),
        });
    };
    if json {
        #[derive(Serialize)]
        struct Told<'a> {
            whole: bool,
            key: String,
            ring0: Ring0,
            #[serde(flatten)]
            report: &'a Report,
        }
        out_json(&Told {
            whole: report.is_whole(),
            key: key.to_string(),
            ring0,
            report: &report,
        })?;
    } else {
        out(told(&report, ring0))?;
    }
    match report.is_whole() {
        true => Ok(()),
        false => Err(Failure::Told(NOT_WHOLE)),
    }
}

/// Reads it once; none if a file that was there is gone.
fn look(options: &Verify, key: PublicKey) -> Result<Option<(Report, Ring0)>, Failure> {
    let mut against = Against {
        first: options.first,
        noted: options.head.clone(),
        ..Against::default()
    };
    let mut ring0 = Ring0::NotAsked;
    // Single files say nothing about the others.
    let single = !options.files.file.is_empty();
    if !options.offline && !single {
        let remembered = ask_ring0().map_err(|error| {
            Failure::io("ring 0 cannot be asked; `--offline` does without")(io::Error::other(error))
        })?;
        ring0 = match remembered.head {
            Some(_) => Ring0::Remembers,
            None => Ring0::Nothing,
        };
        (against.ring0, against.open) = (remembered.head, remembered.open);
    }
    let paths = paths(&options.files)?;
    if single && options.first <= 1 {
        against.first = paths.first().map_or(1, |(number, _)| *number);
    }
    let mut verifier = Verifier::new(key, &against);
    for (index, (number, path)) in paths.iter().enumerate() {
        let contents = match single {
            true => read(path)?,
            false => match still_there(read(path))? {
                Some(contents) => contents,
                None => return Ok(None),
            },
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        verifier.file(*number, &name, &contents, index + 1 == paths.len());
    }
    Ok(Some((verifier.end(), ring0)))
}
