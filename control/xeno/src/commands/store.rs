//! `xeno store`.

use std::io::{self, IsTerminal};

use xeno_api::{Answer, Data, Event, Op};

use super::done;
use crate::cli::Store;
use crate::client::{Client, News, unexpected};
use crate::failure::Failure;
use crate::show::{self, out, out_json, out_json_line, printable};

/// Does what was asked of the store.
///
/// # Errors
/// As [`Client::call`].
pub fn run(client: &mut Client, verb: Store, json: bool) -> Result<(), Failure> {
    match verb {
        Store::Read { path } => {
            let value = read(client, path)?;
            if json {
                return out_json(&serde_json::json!({ "value": value }));
            }
            // A guest may have written it (X2); a pipe gets exactly what is there.
            if io::stdout().is_terminal() {
                out(show::printable_lines(&value.0) + "\n")
            } else {
                out([&value.0[..], b"\n"].concat())
            }
        }
        Store::Write { path, value } => done(
            client,
            Op::StoreWrite {
                path,
                value: Data::from(value),
            },
        ),
        Store::List {
            path,
            recursive: false,
        } => {
            let names = names(client, path)?;
            if json {
                return out_json(&names);
            }
            out(names
                .iter()
                .map(|name| printable(name) + "\n")
                .collect::<String>())
        }
        Store::List {
            path,
            recursive: true,
        } => tree(client, path, json),
        Store::Rm { path } => done(client, Op::StoreRemove { path }),
        Store::Watch { path, count } => watch(client, path, count, json),
    }
}

fn read(client: &mut Client, path: String) -> Result<Data, Failure> {
    match client.call(Op::StoreRead { path })? {
        Answer::Value { value } => Ok(value),
        other => Err(unexpected(&other)),
    }
}

fn names(client: &mut Client, path: String) -> Result<Vec<String>, Failure> {
    match client.call(Op::StoreList { path })? {
        Answer::Names { names } => Ok(names),
        other => Err(unexpected(&other)),
    }
}

/// Everything below a path, as `path = "value"`; what vanishes meanwhile is left out.
fn tree(client: &mut Client, root: String, json: bool) -> Result<(), Failure> {
    let mut waiting = vec![root];
    let mut first = true;
    while let Some(path) = waiting.pop() {
        let (value, below) = match (read(client, path.clone()), names(client, path.clone())) {
            (Ok(value), Ok(below)) => (value, below),
            (Err(Failure::Refused(_)), _) | (_, Err(Failure::Refused(_))) if !first => continue,
            (Err(failure), _) | (_, Err(failure)) => return Err(failure),
        };
        first = false;
        if json {
            out_json_line(&serde_json::json!({ "path": path, "value": value }))?;
        } else {
            out(format!(
                "{} = \"{}\"\n",
                printable(&path),
                value.0.escape_ascii()
            ))?;
        }
        let parent = path.trim_end_matches('/');
        waiting.extend(below.iter().rev().map(|name| format!("{parent}/{name}")));
    }
    Ok(())
}

fn watch(client: &mut Client, path: String, count: Option<u64>, json: bool) -> Result<(), Failure> {
    let (stream, _) = client.open(Op::StoreWatch { path })?;
    let mut seen = 0;
    while count.is_none_or(|count| seen < count) {
        match client.news(stream)? {
            News::Event(Event::Changed { path }) => {
                seen += 1;
                if json {
                    out_json_line(&serde_json::json!({ "path": path }))?;
                } else {
                    out(printable(&path) + "\n")?;
                }
            }
            News::Event(_) => {}
            News::End => return Ok(()),
        }
    }
    Ok(())
}
