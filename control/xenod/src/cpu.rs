//! CPU time that guests have reserved: from descriptions to the hypervisor, and back.
//!
//! What a guest asked for is in its record, so that it is asked for again when the guest is built again; what is in force
//! only the hypervisor knows.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use xen::{CpuAnswer, CpuRefusal, CpuRules, CpuTerms, DomId, Hypervisor};
use xeno_api::{
    CpuRules as Told, CpuTime, Error, Guest, Kind, Rate, Reservation, Span, USUAL_WEIGHT,
};

/// How long room is waited for that is being given up: that takes a little more than a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// From one time it is asked for to the next.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// What those have who asked for nothing: time that nobody reserved.
const NOTHING_ASKED: Reservation = Reservation::Time {
    slice: Span::ZERO,
    period: Span::SECOND,
    extra: true,
    weight: USUAL_WEIGHT,
};

fn terms(reservation: Reservation) -> CpuTerms {
    match reservation {
        Reservation::Time {
            slice,
            period,
            extra,
            weight,
        } => CpuTerms {
            slice: slice.ns(),
            period: period.ns(),
            in_quanta: false,
            extra,
            weight,
        },
        Reservation::Quanta { quanta, period } => CpuTerms {
            slice: u64::from(quanta),
            period: u64::from(period),
            in_quanta: true,
            extra: false,
            weight: USUAL_WEIGHT,
        },
    }
}

fn told(terms: CpuTerms) -> Reservation {
    Reservation::Time {
        slice: Span::from_ns(terms.slice),
        period: Span::from_ns(terms.period),
        extra: terms.extra,
        weight: terms.weight,
    }
}

/// What the hypervisor says when it keeps no reservations.
fn is_unsupported(error: &xen::Error) -> bool {
    matches!(
        error.errno(),
        Some(guest_abi::Errno::NoSys | guest_abi::Errno::OpNotSupp)
    )
}

/// Reserves CPU time for each vCPU of a guest; with `None`, gives back what it has.
///
/// # Errors
/// One sentence, with the largest amount there is room for if that is why; nothing has changed then.
pub fn reserve(
    hypervisor: &dyn Hypervisor,
    name: &str,
    domain: DomId,
    reservation: Option<Reservation>,
) -> Result<(), Error> {
    let asked = reservation.unwrap_or(NOTHING_ASKED);
    match ask(hypervisor, name, domain, asked)? {
        None => Ok(()),
        Some(refusal) => Err(refused(name, asked, refusal, rules(hypervisor))),
    }
}

/// As [`reserve`], for a guest that is being built: what its predecessor had, or another that has just ended, is waited for
/// if it is going to be enough.
///
/// # Errors
/// As [`reserve`].
pub async fn reserve_soon(
    hypervisor: &dyn Hypervisor,
    name: &str,
    domain: DomId,
    asked: Reservation,
) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask(hypervisor, name, domain, asked)? {
            None => return Ok(()),
            Some(refusal) if is_free_soon(asked, refusal) && Instant::now() < end => {
                sleep(ASK_AGAIN).await;
            }
            Some(refusal) => return Err(refused(name, asked, refusal, rules(hypervisor))),
        }
    }
}

/// Says what a guest may reserve for itself, as its description has it; where it says nothing, that it is nothing. Its part
/// in time that nobody reserved it may make smaller, not larger.
///
/// # Errors
/// One sentence; nothing has changed then.
pub fn allow(hypervisor: &dyn Hypervisor, domain: DomId, guest: &Guest) -> Result<(), Error> {
    let rate = guest.cpu_allowance.unwrap_or(Rate::ZERO);
    let weight = match guest.cpu.unwrap_or(NOTHING_ASKED) {
        Reservation::Time {
            extra: true,
            weight,
            ..
        } if guest.cpu_allowance.is_some() => weight,
        _ => 0,
    };
    match hypervisor.allow_cpu(domain, rate.ns(), weight) {
        Ok(()) => Ok(()),
        Err(error) if is_unsupported(&error) && rate == Rate::ZERO => Ok(()),
        Err(error) if is_unsupported(&error) => Err(unsupported("cpu_allowance", &guest.name)),
        Err(error) => {
            let message = format!("{}: {error}", guest.name);
            Err(Error::new(Kind::Hypervisor, message))
        }
    }
}

fn unsupported(key: &str, name: &impl std::fmt::Display) -> Error {
    Error::new(
        Kind::Unsupported,
        format!(
            "this hypervisor does not keep reservations of CPU time yet: \
             leave `{key}` out of the description of {name}"
        ),
    )
}

/// Whether there is going to be room for what was asked.
fn is_free_soon(asked: Reservation, refusal: CpuRefusal) -> bool {
    let slice = terms(asked).slice;
    matches!(refusal, CpuRefusal::NoRoom { largest_slice_soon, .. } if largest_slice_soon >= slice)
}

/// Asks the hypervisor; a refusal that it gives reasons for is no error yet.
fn ask(
    hypervisor: &dyn Hypervisor,
    name: &str,
    domain: DomId,
    asked: Reservation,
) -> Result<Option<CpuRefusal>, Error> {
    match hypervisor.set_cpu_terms(domain, terms(asked)) {
        Ok(CpuAnswer::Granted { .. }) => Ok(None),
        Ok(CpuAnswer::Refused(refusal)) => Ok(Some(refusal)),
        Err(error) if is_unsupported(&error) => Err(unsupported("cpu", &name)),
        Err(error) => Err(Error::new(Kind::Hypervisor, format!("{name}: {error}"))),
    }
}

/// What holds for reservations, as far as can be told.
fn rules(hypervisor: &dyn Hypervisor) -> Option<CpuRules> {
    hypervisor.cpu_rules(None).ok()
}

fn refused(name: &str, asked: Reservation, refusal: CpuRefusal, rules: Option<CpuRules>) -> Error {
    let in_unit = |amount: u64| match asked {
        Reservation::Time { .. } => Span::from_ns(amount).to_string(),
        Reservation::Quanta { .. } if amount == 1 => "1 quantum".to_owned(),
        Reservation::Quanta { .. } => format!("{amount} quanta"),
    };
    let (kind, why) = match refusal {
        CpuRefusal::NoRoom {
            largest_slice,
            largest_slice_soon,
            vcpu,
        } => {
            let most = match (largest_slice, largest_slice_soon) {
                (0, 0) => "none is free with this period".to_owned(),
                (now, soon) if soon > now => format!(
                    "at most {} can be had now, {} in a second or two",
                    in_unit(now),
                    in_unit(soon)
                ),
                (now, _) => format!("at most {} can be had", in_unit(now)),
            };
            (
                Kind::NoTime,
                format!("no processor has so much left for vCPU {vcpu}; {most}"),
            )
        }
        CpuRefusal::NoCpu => (
            Kind::State,
            "it may run on no processor there is: change its affinity".to_owned(),
        ),
        CpuRefusal::Period => (
            Kind::Description,
            match rules {
                Some(rules) => format!(
                    "the period is out of this machine's range: choose one from {} to {}{}",
                    Span::from_ns(rules.shortest_period),
                    Span::from_ns(rules.longest_period),
                    quantum(asked, &rules)
                ),
                None => "the period is out of this machine's range".to_owned(),
            },
        ),
        CpuRefusal::TooShort => (
            Kind::Description,
            match rules {
                Some(rules) => format!(
                    "the slice is shorter than this machine can keep: choose {} or more",
                    Span::from_ns(rules.section)
                ),
                None => "the slice is shorter than this machine can keep: choose a longer one"
                    .to_owned(),
            },
        ),
        CpuRefusal::Senseless(reason) => (
            Kind::Description,
            format!("the hypervisor finds no sense in it (reason {reason})"),
        ),
    };
    Error::new(kind, format!("{name} cannot have {asked}: {why}"))
}

/// What a quantum is, for who asked for some.
fn quantum(asked: Reservation, rules: &CpuRules) -> String {
    match asked {
        Reservation::Time { .. } => String::new(),
        Reservation::Quanta { .. } => format!("; a quantum is {}", Span::from_ns(rules.quantum)),
    }
}

/// What holds for all reservations, after this is made the machine's quantum if one is given.
///
/// # Errors
/// One sentence.
pub fn all_rules(hypervisor: &dyn Hypervisor, quantum: Option<Span>) -> Result<Told, Error> {
    match hypervisor.cpu_rules(quantum.map(Span::ns)) {
        Ok(rules) => Ok(Told {
            quantum: Span::from_ns(rules.quantum),
            section: Span::from_ns(rules.section),
            shortest_period: Span::from_ns(rules.shortest_period),
            longest_period: Span::from_ns(rules.longest_period),
            reserve_ppm: rules.reserve_ppm,
            cpus: rules.cpus,
        }),
        Err(error) if is_unsupported(&error) => {
            let what = "this hypervisor does not keep reservations of CPU time";
            Err(Error::new(Kind::Unsupported, what))
        }
        Err(error) => match (error.errno(), quantum, rules(hypervisor)) {
            (Some(guest_abi::Errno::Range), Some(quantum), Some(rules)) => Err(Error::new(
                Kind::BadRequest,
                format!(
                    "{quantum} is no quantum for this machine: choose one from {} to 1s",
                    Span::from_ns(rules.section)
                ),
            )),
            _ => Err(Error::new(Kind::Hypervisor, error.to_string())),
        },
    }
}

/// What a domain has, and what it `asked` for if it is a guest of ours.
///
/// # Errors
/// The hypervisor's, but for that it keeps no reservations: that is told.
pub fn show(
    hypervisor: &dyn Hypervisor,
    domain: DomId,
    asked: Option<Reservation>,
) -> Result<CpuTime, Error> {
    match hypervisor.cpu_terms(domain) {
        Ok(has) => Ok(CpuTime {
            asked,
            in_force: Some(told(has.terms)),
            allowed: Some(Rate::from_ns(has.allowed)),
            coming: has.coming.map(|(terms, _)| told(terms)),
            vcpus: has.vcpus,
            alike: has.alike,
            cpu: has.cpu,
        }),
        Err(error) if is_unsupported(&error) => Ok(CpuTime {
            asked,
            ..CpuTime::default()
        }),
        Err(error) => Err(Error::new(Kind::Hypervisor, error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_can_be_had_in_the_unit_of_the_question() {
        let no_room = |now, soon| CpuRefusal::NoRoom {
            largest_slice: now,
            largest_slice_soon: soon,
            vcpu: 1,
        };
        let time = "slice=5ms,period=20ms".parse().unwrap();
        let error = refused("web", time, no_room(3_000_000, 4_000_000), None);
        assert_eq!(
            (error.kind, error.message.as_str()),
            (
                Kind::NoTime,
                "web cannot have 5ms in every 20ms, no more: no processor has so much left for vCPU 1; \
                 at most 3ms can be had now, 4ms in a second or two"
            )
        );
        let quanta = "quanta=5,period=10".parse().unwrap();
        let error = refused("web", quanta, no_room(2, 2), None);
        assert!(
            error.message.ends_with("; at most 2 quanta can be had"),
            "{error}"
        );
        let error = refused("web", time, no_room(0, 0), None);
        assert!(
            error.message.ends_with("none is free with this period"),
            "{error}"
        );
    }

    #[test]
    fn room_is_waited_for_only_if_there_is_going_to_be_enough() {
        let asked = "slice=5ms,period=20ms".parse().unwrap();
        for (soon, waits) in [(4_999_999, false), (5_000_000, true)] {
            let refusal = CpuRefusal::NoRoom {
                largest_slice: 0,
                largest_slice_soon: soon,
                vcpu: 0,
            };
            assert_eq!(is_free_soon(asked, refusal), waits);
        }
        assert!(!is_free_soon(asked, CpuRefusal::NoCpu));
    }

    #[test]
    fn what_is_asked_for_is_what_the_hypervisor_is_told() {
        let reservation = "slice=5ms,period=20ms,extra=true,weight=7".parse().unwrap();
        assert_eq!(told(terms(reservation)), reservation);
        let quanta = terms("quanta=2,period=10".parse().unwrap());
        assert!(quanta.in_quanta && !quanta.extra);
        assert_eq!((quanta.slice, quanta.period), (2, 10));
    }
}
