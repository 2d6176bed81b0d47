//! `xeno sched`: what CPU time guests have reserved.

use std::fmt::Write;

use xeno_api::{Answer, CpuRules, CpuTime, Op, Rate, Reservation};

use crate::cli::Sched;
use crate::client::{Client, unexpected};
use crate::failure::Failure;
use crate::show;

/// Changes or shows it. The daemon is asked only for what makes sense.
///
/// # Errors
/// Terms that make none, and what the daemon refuses.
pub fn run(
    connect: impl FnOnce() -> Result<Client, Failure>,
    verb: &Sched,
    json: bool,
) -> Result<(), Failure> {
    match verb {
        Sched::Set { name, terms } => {
            let (domain, cpu) = (name.clone(), read(terms)?);
            done(connect, Op::SchedSet { domain, cpu }, json)
        }
        Sched::Allow { name, allowance } => {
            let (domain, allowance) = (name.clone(), *allowance);
            done(connect, Op::SchedAllow { domain, allowance }, json)
        }
        Sched::Show { name } => {
            let domain = name.clone();
            match connect()?.call(Op::SchedShow { domain })? {
                Answer::CpuTime(time) if json => show::out_json(&time),
                Answer::CpuTime(time) => show::out(text(&time)),
                other => Err(unexpected(&other)),
            }
        }
        Sched::Rules { quantum } => {
            let quantum = *quantum;
            match connect()?.call(Op::SchedRules { quantum })? {
                Answer::CpuRules(rules) if json => show::out_json(&rules),
                Answer::CpuRules(rules) => show::out(rules_text(&rules)),
                other => Err(unexpected(&other)),
            }
        }
    }
}

/// Asks for what has no answer but that it is done.
fn done(
    connect: impl FnOnce() -> Result<Client, Failure>,
    op: Op,
    json: bool,
) -> Result<(), Failure> {
    super::done(&mut connect()?, op)?;
    if json {
        show::out_json(&serde_json::json!({}))?;
    }
    Ok(())
}

/// Words of the command line, each with one key or several.
fn read(terms: &[String]) -> Result<Reservation, Failure> {
    let text = terms.join(",");
    text.parse()
        .map_err(|error: xeno_api::BadReservation| Failure::Options(error.to_string()))
}

fn text(time: &CpuTime) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<12} {value}");
    };
    let words = |reservation: Option<Reservation>, none: &str| {
        reservation.map_or_else(|| none.to_owned(), |reservation| reservation.to_string())
    };
    line("asked for", words(time.asked, "nothing"));
    let none = "nothing: this hypervisor keeps no reservations yet";
    line("in force", words(time.in_force, none));
    if let Some(coming) = time.coming {
        line("next period", coming.to_string());
    }
    if let Some(allowed) = time.allowed.filter(|allowed| *allowed != Rate::ZERO) {
        line("may reserve", format!("{allowed} of a processor"));
    }
    if time.in_force.is_some() {
        let alike = match time.vcpus - time.alike.min(time.vcpus) {
            0 => format!("{}, each the same", time.vcpus),
            others => format!("{}, of which {others} have something else", time.vcpus),
        };
        line("vcpus", alike);
    }
    if let Some(cpu) = time.cpu {
        line("processor", cpu.to_string());
    }
    text
}

fn rules_text(rules: &CpuRules) -> String {
    let percent = f64::from(rules.reserve_ppm) / 10_000.0;
    let of = match rules.cpus {
        1 => "the processor".to_owned(),
        cpus => format!("each of {cpus} processors"),
    };
    format!(
        "quantum      {}\n\
         periods      {} to {}\n\
         slices       from {} on\n\
         not to have  {percent}% of {of}\n",
        rules.quantum, rules.shortest_period, rules.longest_period, rules.section
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn terms_are_words_or_one_word() {
        let several = read(&words(&["slice=5ms", "period=20ms"])).unwrap();
        let single = read(&words(&["slice=5ms,period=20ms"])).unwrap();
        assert_eq!(several, single);
        let error = read(&words(&["slice=5ms"])).unwrap_err();
        assert_eq!(error.code(), 2);
        assert!(
            error.to_string().starts_with("period: it is missing"),
            "{error}"
        );
    }

    #[test]
    fn rules_are_told_in_words() {
        let span = |text: &str| text.parse().unwrap();
        let rules = CpuRules {
            quantum: span("10ms"),
            section: span("20us"),
            shortest_period: span("200us"),
            longest_period: span("1s"),
            reserve_ppm: 20_000,
            cpus: 4,
        };
        assert_eq!(
            rules_text(&rules),
            "quantum      10ms\n\
             periods      200us to 1s\n\
             slices       from 20us on\n\
             not to have  2% of each of 4 processors\n"
        );
        let alone = rules_text(&CpuRules { cpus: 1, ..rules });
        assert!(
            alone.ends_with("not to have  2% of the processor\n"),
            "{alone}"
        );
    }

    #[test]
    fn what_is_not_kept_is_said() {
        let mut time = CpuTime {
            asked: Some("slice=5ms,period=20ms".parse().unwrap()),
            ..CpuTime::default()
        };
        assert_eq!(
            text(&time),
            "asked for    5ms in every 20ms, no more\n\
             in force     nothing: this hypervisor keeps no reservations yet\n"
        );
        time.in_force = time.asked;
        time.coming = Some("extra=true".parse().unwrap());
        time.allowed = Some("40%".parse().unwrap());
        (time.vcpus, time.alike, time.cpu) = (4, 3, Some(1));
        let shown = text(&time);
        assert!(
            shown.contains("in force     5ms in every 20ms, no more\n"),
            "{shown}"
        );
        assert!(shown.contains("next period  time that nobody reserved by weight 256\n"));
        assert!(shown.contains("vcpus        4, of which 1 have something else\n"));
        assert!(shown.contains("may reserve  40% of a processor\n"));
        assert!(shown.contains("processor    1\n"));
    }
}
