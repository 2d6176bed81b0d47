//! `xenod`: the daemon of the control domain. See `docs/control.md`.
#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kernels::Cache;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use xen::{Hypervisor, OwnStore, Xen};
use xeno_api::Size;

use xenod::accounting::{Place, Which};
use xenod::builders::Cached;
use xenod::daemon::{Daemon, Fatal, Parts};
use xenod::devices::Kernel;
use xenod::state::StateDir;
use xenod::{accounting, api, log, ports, store_socket};

const USAGE: &str = "usage: xenod [--state DIR] [--cache DIR] [--socket PATH] [--store-socket PATH] [--ledger DIR]
             [--interval SECONDS] [--keep SIZE|all]

The daemon of the control domain: builds, serves and ends guests, and serves the store.

  --state DIR           what it knows, for its successor (default: /var/lib/xeno)
  --cache DIR           unpacked kernels (default: /var/cache/xeno)
  --socket PATH         where it is commanded (default: /run/xeno/xenod.sock)
  --store-socket PATH   where tools reach the store (default: /run/xenstored/socket)
  --ledger DIR          the usage record: put it on a disk (default: ledger in the state directory)
  --interval SECONDS    from one entry of a domain in it to the next, 1 to 3600 (default: 10)
  --keep SIZE|all       how much of it: then the oldest files are removed, and it says so; from 64K on (default: 4G)

It stays in the foreground and logs to standard error. It may be killed and started again at any moment: running
guests go on.";

struct Options {
    state: PathBuf,
    cache: PathBuf,
    socket: PathBuf,
    store_socket: PathBuf,
    ledger: Option<PathBuf>,
    interval: Duration,
    keep: Option<u64>,
}

/// The least of the usage record that can be kept.
const LEAST_KEPT: u64 = 64 << 10;
/// What is kept of it if nobody says how much.
const USUALLY_KEPT: u64 = 4 << 30;

/// Bytes of the usage record to keep; none for all of it.
fn keep(text: &OsStr) -> Option<Option<u64>> {
    match text.to_str()? {
        "all" => Some(None),
        size => {
            let bytes = size.parse().ok().map(Size::bytes)?;
            (bytes >= LEAST_KEPT).then_some(Some(bytes))
        }
    }
}

/// Seconds that make sense from one entry to the next.
fn interval(text: &OsStr) -> Option<Duration> {
    let seconds: u64 = text.to_str()?.parse().ok()?;
    (1..=3600)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

/// The options, or what to say instead of starting, and with which status.
fn options(mut words: impl Iterator<Item = OsString>) -> Result<Options, (String, u8)> {
    let mut options = Options {
        state: "/var/lib/xeno".into(),
        cache: "/var/cache/xeno".into(),
        socket: xeno_api::SOCKET.into(),
        store_socket: "/run/xenstored/socket".into(),
        ledger: None,
        interval: Duration::from_secs(10),
        keep: Some(USUALLY_KEPT),
    };
    while let Some(word) = words.next() {
        if word == "--interval" || word == "--keep" {
            let given = words.next().unwrap_or_default();
            let wrong = |what: &str| {
                let (word, given) = (word.to_string_lossy(), given.to_string_lossy());
                (format!("xenod: {word} {given}: {what}\n{USAGE}"), 2)
            };
            match word == "--keep" {
                true => {
                    let what = "expected `all`, or a size such as 512M, 64K at least";
                    options.keep = keep(&given).ok_or_else(|| wrong(what))?;
                }
                false => {
                    let what = "expected whole seconds from 1 to 3600";
                    options.interval = interval(&given).ok_or_else(|| wrong(what))?;
                }
            }
            continue;
        }
        let place = match word.to_str() {
            Some("--state") => &mut options.state,
            Some("--cache") => &mut options.cache,
            Some("--socket") => &mut options.socket,
            Some("--store-socket") => &mut options.store_socket,
            Some("--ledger") => options.ledger.get_or_insert_default(),
            Some("--help" | "-h") => return Err((USAGE.to_owned(), 0)),
            Some("--version" | "-V") => {
                return Err((concat!("xenod ", env!("CARGO_PKG_VERSION")).to_owned(), 0));
            }
            _ => {
                let shown = word.to_string_lossy();
                return Err((format!("xenod: unknown option {shown}\n{USAGE}"), 2));
            }
        };
        let Some(value) = words.next() else {
            let shown = word.to_string_lossy();
            return Err((format!("xenod: {shown} needs a path behind it\n{USAGE}"), 2));
        };
        *place = value.into();
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err((words, 0)) => {
            println!("{words}");
            return ExitCode::SUCCESS;
        }
        Err((words, status)) => {
            eprintln!("{words}");
            return ExitCode::from(status);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(error);
            ExitCode::FAILURE
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Fatal {
    move |source| Fatal::System { what, source }
}

fn run(options: Options) -> Result<(), Fatal> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(system("which boot this is cannot be read"))?;
    let state = StateDir::open(&options.state, boot.trim())?;
    let xen = Arc::new(Xen::open()?);
    let parts = Parts {
        channels: Arc::from(xen.event_channels()?),
        own_store: OwnStore::open()?,
        builder: Arc::new(Cached {
            hypervisor: Arc::clone(&xen) as Arc<dyn Hypervisor>,
            cache: Cache::new(&options.cache, Cache::DEFAULT_LIMIT),
        }),
        devices: Arc::new(Kernel),
        ledger: Place {
            dir: options
                .ledger
                .clone()
                .unwrap_or_else(|| options.state.join("ledger")),
            key: options.state.join("ledger.key"),
            interval: options.interval,
            keep: options.keep,
            boot: boot.trim().to_owned(),
        },
        hypervisor: xen,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("the daemon's runtime cannot be made"))?;
    LocalSet::new().block_on(&runtime, serve(options, state, parts))
}

/// Serves until it is asked to end, or cannot go on.
async fn serve(options: Options, state: StateDir, parts: Parts) -> Result<(), Fatal> {
    let mut asked = signal(SignalKind::terminate()).map_err(system("signals cannot be taken"))?;
    let daemon = Daemon::start(state, parts)?;
    let failed = daemon.store.borrow().failed();
    let store_listener = api::listen(&options.store_socket)?;
    let listener = api::listen(&options.socket)?;
    tokio::task::spawn_local(store_socket::serve(Rc::clone(&daemon), store_listener));
    tokio::task::spawn_local(api::serve(Rc::clone(&daemon), listener));
    tokio::task::spawn_local(accounting::serve(Rc::clone(&daemon)));
    log::line(format!("ready: {}", options.socket.display()));
    let ended = tokio::select! {
        outcome = ports::serve(Rc::clone(&daemon)) => {
            outcome.map_err(system("the event device cannot be waited for"))
        }
        () = failed.notified() => {
            let failure = daemon.store.borrow_mut().failure();
            failure.map_or(Ok(()), |error| Err(error.into()))
        }
        // Guests run on without it, and its successor takes them up.
        _ = asked.recv() => {
            log::line("asked to end: guests run on");
            Ok(())
        }
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    daemon.record(Which::Stop).await;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Options, (String, u8)> {
        options(words.iter().map(OsString::from))
    }

    #[test]
    fn how_much_of_the_usage_record_is_kept_is_a_size_or_all() {
        let kept = |words: &[&str]| read(words).map(|options| options.keep).ok();
        assert_eq!(kept(&[]), Some(Some(USUALLY_KEPT)));
        assert_eq!(kept(&["--keep", "64K"]), Some(Some(LEAST_KEPT)));
        assert_eq!(kept(&["--keep", "all"]), Some(None));
        for wrong in ["", "60K", "4", "0", "-1G", "none"] {
            let (words, status) = read(&["--keep", wrong]).err().unwrap();
            assert_eq!(status, 2);
            assert!(
                words.contains(&format!("--keep {wrong}: expected")),
                "{words}"
            );
        }
    }

    #[test]
    fn an_interval_is_whole_seconds_up_to_an_hour() {
        let interval = |text: &str| {
            read(&["--interval", text])
                .map(|options| options.interval)
                .ok()
        };
        assert_eq!(interval("3600"), Some(Duration::from_secs(3600)));
        for wrong in ["", "0", "3601", "1.5", "-1", "10s"] {
            assert_eq!(interval(wrong), None, "{wrong}");
        }
    }
}
