//! `xeno ledger`: the usage record is read from its files and held against what ring 0 remembers, without the daemon; who
//! keeps it is asked to remove what is old.

mod show;
mod verify;
mod words;

use std::io;
use std::path::{Path, PathBuf};

use ledger::PublicKey;
use ledger::files::{EXTENSION, segments};
use ledger::record;
use xeno_api::{Answer, Op};

use crate::cli::ledger::{Files, Ledger, Prune};
use crate::client::{Client, unexpected};
use crate::failure::Failure;
use crate::show::{out, out_json};

/// Does what is asked.
///
/// # Errors
/// When the files cannot be read, and when the record is not whole; what the daemon refuses.
pub fn run(
    connect: impl FnOnce() -> Result<Client, Failure>,
    verb: &Ledger,
    json: bool,
) -> Result<(), Failure> {
    match verb {
        Ledger::Verify(options) => verify::run(options, json),
        Ledger::Show(options) => show::run(options, json),
        Ledger::Prune(options) => prune(&mut connect()?, options, json),
        Ledger::Key { files } => {
            let key = key(files)?;
            match json {
                true => out_json(&serde_json::json!({ "key": key.to_string() })),
                false => out(format!("{key}\n")),
            }
        }
        Ledger::Head { files } => head(files, json),
    }
}

fn dir(files: &Files) -> PathBuf {
    let usual = || files.state.join("ledger");
    files.dir.clone().unwrap_or_else(usual)
}

/// The files, in order.
fn paths(files: &Files) -> Result<Vec<(u64, PathBuf)>, Failure> {
    if files.file.is_empty() {
        return segments(&dir(files)).map_err(|error| Failure::Io {
            what: format!("the usage record {} cannot be read", error.path.display()),
            error: error.source,
        });
    }
    let numbered = files.file.iter().map(|path| {
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let named = path.extension().is_some_and(|own| own == EXTENSION);
        let number = number.filter(|_| named).ok_or_else(|| {
            let shown = path.display();
            Failure::Options(format!(
                "{shown} is not named as a file of the usage record: expected such as 000000000001.{EXTENSION}"
            ))
        });
        number.map(|number| (number, path.clone()))
    });
    let mut numbered: Vec<_> = numbered.collect::<Result<_, _>>()?;
    numbered.sort_unstable();
    Ok(numbered)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let what = format!("{} cannot be read", path.display());
    std::fs::read(path).map_err(Failure::io(what))
}

/// None if there is no such file any more: the daemon removes old ones.
fn still_there(contents: Result<Vec<u8>, Failure>) -> Result<Option<Vec<u8>>, Failure> {
    match contents {
        Err(Failure::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        contents => contents.map(Some),
    }
}

/// The key that is given, in a file or not, or that is beside the record.
fn key(files: &Files) -> Result<PublicKey, Failure> {
    let path = match &files.key {
        Some(text) if text.len() == 64 && !Path::new(text).exists() => {
            return text
                .parse()
                .map_err(|error: ledger::key::BadKey| Failure::Options(error.to_string()));
        }
        Some(path) => PathBuf::from(path),
        None => files.state.join("ledger.pub"),
    };
    let text = String::from_utf8_lossy(&read(&path)?).into_owned();
    text.parse().map_err(|error: ledger::key::BadKey| {
        Failure::io(path.display().to_string())(io::Error::other(error))
    })
}

fn head(files: &Files, json: bool) -> Result<(), Failure> {
    let key = key(files)?;
    for (_, path) in paths(files)?.iter().rev() {
        let contents = read(path)?;
        let last = contents.split(|byte| *byte == b'\n').rev();
        let mut last = last.filter_map(|line| Some((line, record::read_line(line, &key).ok()?)));
        let Some((line, entry)) = last.next() else {
            continue;
        };
        let signature = line.get(..ledger::key::SIGNATURE_HEX).unwrap_or_default();
        let n = entry.record.n;
        return match json {
            true => out_json(&serde_json::json!({
                "n": n,
                "hash": entry.hash,
                "signature": String::from_utf8_lossy(signature),
                "key": key.to_string(),
            })),
            false => out(format!("{n}:{}\n", entry.hash)),
        };
    }
    Err(Failure::Options(
        "there is no entry that is signed with this key".to_owned(),
    ))
}

fn prune(client: &mut Client, options: &Prune, json: bool) -> Result<(), Failure> {
    let Prune { before, keep } = *options;
    match client.call(Op::PruneLedger { before, keep })? {
        Answer::Pruned { pruned } if json => out_json(&serde_json::json!({ "pruned": pruned })),
        Answer::Pruned { pruned: None } => out("nothing is removed\n"),
        Answer::Pruned {
            pruned: Some(pruned),
        } => out(words::pruned(&pruned)),
        other => Err(unexpected(&other)),
    }
}
