//! `xeno top`: what each domain uses, live.

mod columns;
mod rates;
mod screen;
mod view;

use std::time::{Duration, Instant};

use xeno_api::{Answer, Op, Usage};

use crate::cli;
use crate::client::{Client, unexpected};
use crate::failure::Failure;
use crate::show::{out, out_json_line};
use columns::Columns;
use rates::Sample;

/// Looks again and again, on the screen or in a batch.
///
/// # Errors
/// As [`Client::call`].
pub fn run(client: &mut Client, options: &cli::Top, json: bool) -> Result<(), Failure> {
    if options.batch || json {
        batch(client, options, json)
    } else {
        screen::run(client, options)
    }
}

/// Looks once. Guests do not mind when the daemon is started again, and neither does who watches them.
fn usage(client: &mut Client) -> Result<Usage, Failure> {
    let answer = match client.call(Op::Usage {}) {
        Err(Failure::Gone(_)) => {
            client.reconnect()?;
            client.call(Op::Usage {})?
        }
        other => other?,
    };
    match answer {
        Answer::Usage(usage) => Ok(usage),
        other => Err(unexpected(&other)),
    }
}

/// The columns that were asked for.
fn columns_of(options: &cli::Top) -> Columns {
    match options.usage {
        true => Columns::Usage,
        false => Columns::Devices,
    }
}

fn batch(client: &mut Client, options: &cli::Top, json: bool) -> Result<(), Failure> {
    let delay = Duration::from_secs_f64(options.delay);
    let columns = columns_of(options);
    let mut before = usage(client)?;
    let mut next = Instant::now();
    let mut looks = 0;
    while options.count.is_none_or(|count| looks < count) {
        next += delay;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let now = usage(client)?;
        let mut sample = Sample::between(&before, &now);
        sample.sort(options.sort);
        if json {
            out_json_line(&sample)?;
        } else {
            let gap = if looks == 0 { "" } else { "\n" };
            out(format!("{gap}{}\n{}", sample.head(), sample.table(columns)))?;
        }
        before = now;
        looks += 1;
    }
    Ok(())
}
