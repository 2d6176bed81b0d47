//! The verbs: each asks the daemon and shows what it says.

mod create;
mod info;
pub mod ledger;
mod pages;
mod sched;
mod store;
mod usage;

use xeno_api::{Answer, Op, Target};

use crate::cli::{Arguments, Ask, Setting, Verb};
use crate::client::{Client, News, unexpected};
use crate::failure::Failure;
use crate::show;
use crate::{console, top};

/// Does what the command line says.
///
/// # Errors
/// Why it was not done.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { json, socket, verb } = arguments;
    let connect = || Client::connect(&socket);
    match verb {
        Verb::Create(options) => create::run(connect, &options, json),
        Verb::List => list(&mut connect()?, json),
        Verb::Info { name: Some(name) } => info::domain(&mut connect()?, name, json),
        Verb::Info { name: None } => info::machine(&mut connect()?, json),
        Verb::Console(options) => console::run(&mut connect()?, &options, json),
        Verb::Pause { name } => each(&mut connect()?, name, json, |domain| Op::Pause { domain }),
        Verb::Unpause { name } => {
            each(&mut connect()?, name, json, |domain| Op::Unpause { domain })
        }
        Verb::Shutdown(Ask {
            name,
            wait,
            timeout,
        }) => {
            let wait_s = wait.then_some(timeout);
            each(&mut connect()?, name, json, |domain| Op::Shutdown {
                domain,
                wait_s,
            })
        }
        Verb::Reboot(Ask {
            name,
            wait,
            timeout,
        }) => {
            let wait_s = wait.then_some(timeout);
            each(&mut connect()?, name, json, |domain| Op::Reboot {
                domain,
                wait_s,
            })
        }
        Verb::Destroy { name } => {
            each(&mut connect()?, name, json, |domain| Op::Destroy { domain })
        }
        Verb::Dmesg { clear } => dmesg(&mut connect()?, clear, json),
        Verb::Top(options) => top::run(&mut connect()?, &options, json),
        Verb::Usage(options) => usage::run(&mut connect()?, &options.name, json),
        Verb::Ledger(verb) => ledger::run(connect, &verb, json),
        Verb::Store(verb) => store::run(&mut connect()?, verb, json),
        Verb::Set { name, settings } => set(&mut connect()?, &name, settings, json),
        Verb::Sched(verb) => sched::run(connect, &verb, json),
        Verb::Events => events(&mut connect()?, json),
        Verb::Completions { shell } => pages::completions(shell),
        Verb::Man { directory } => pages::manual(&directory),
    }
}

/// Asks for something that has nothing to say when it is done.
fn done(client: &mut Client, op: Op) -> Result<(), Failure> {
    match client.call(op)? {
        Answer::Done {} => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Does the same to several domains; one that fails does not keep the others from it, and the first failure's code
/// is the exit code.
fn each(
    client: &mut Client,
    names: Vec<Target>,
    json: bool,
    op: impl Fn(Target) -> Op,
) -> Result<(), Failure> {
    let single = names.len() == 1;
    let mut first = None;
    for name in names {
        let failure = match client.call(op(name.clone())) {
            Ok(Answer::Done {}) => continue,
            Ok(Answer::Destroyed { lingers }) => {
                if json {
                    show::out_json_line(
                        &serde_json::json!({ "domain": name, "lingers": lingers }),
                    )?;
                } else if lingers {
                    eprintln!(
                        "xeno: {name} stays listed as dying until others let go of its memory"
                    );
                }
                continue;
            }
            Ok(other) => unexpected(&other),
            Err(failure) => failure,
        };
        if single || !matches!(failure, Failure::Refused(_)) {
            return Err(failure);
        }
        failure.say(json);
        first.get_or_insert(failure.code());
    }
    first.map_or(Ok(()), |code| Err(Failure::Told(code)))
}

fn list(client: &mut Client, json: bool) -> Result<(), Failure> {
    match client.call(Op::List {})? {
        Answer::Domains { domains } if json => show::out_json(&domains),
        Answer::Domains { domains } => show::out(show::domains(&domains)),
        other => Err(unexpected(&other)),
    }
}

fn dmesg(client: &mut Client, clear: bool, json: bool) -> Result<(), Failure> {
    match client.call(Op::Dmesg { clear })? {
        Answer::Log { text } if json => show::out_json(&serde_json::json!({ "text": text })),
        Answer::Log { text } => {
            let end = if text.is_empty() || text.ends_with('\n') {
                ""
            } else {
                "\n"
            };
            show::out(show::printable_lines(text.as_bytes()) + end)
        }
        other => Err(unexpected(&other)),
    }
}

fn set(
    client: &mut Client,
    name: &Target,
    settings: Vec<Setting>,
    json: bool,
) -> Result<(), Failure> {
    for setting in settings {
        let op = match setting {
            Setting::Memory(memory) => Op::SetMemory {
                domain: name.clone(),
                memory,
            },
            Setting::Vcpus(vcpus) => Op::SetVcpus {
                domain: name.clone(),
                vcpus,
            },
        };
        done(client, op)?;
    }
    if json {
        show::out_json(&serde_json::json!({}))?;
    }
    Ok(())
}

fn events(client: &mut Client, json: bool) -> Result<(), Failure> {
    let (stream, _) = client.open(Op::Events {})?;
    loop {
        match client.news(stream)? {
            News::Event(event) if json => show::out_json_line(&event)?,
            News::Event(xeno_api::Event::Domain { domain, gone }) => {
                let state = if gone {
                    "gone".to_owned()
                } else {
                    show::state(&domain)
                };
                show::out(format!("{} {} {state}\n", domain.id, show::name(&domain)))?;
            }
            News::Event(_) => {}
            News::End => return Ok(()),
        }
    }
}
