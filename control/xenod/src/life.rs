//! What is decided about a guest's life: values in, values out.
//!
//! ```text
//!   create ──▶ Building ──▶ Alive ──▶ Ending(gone) ──▶ nothing
//!                 │  ▲        │
//!                 │  └────────┴─ Ending(restart)      it asked for a reboot, or its description says so
//!                 └──▶ Ending(gone)                   a step failed, or the daemon was killed meanwhile
//! ```

use serde::{Deserialize, Serialize};
use xen::{DomainInfo, ShutdownReason};
use xeno_api::{Guest, Life, OnStop, StopReason};

use crate::state::Then;

/// What to do about a guest, now that its domain is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it lives.
    Live,
    /// It has stopped and stays, to be looked at.
    Stay(StopReason),
    /// It is taken down, for this reason.
    End(StopReason, Then),
}

/// What the daemon was asked to do with a guest, that is not done yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// Nothing.
    #[default]
    Nothing,
    /// To power off.
    Shutdown,
    /// To reboot.
    Reboot,
}

/// A guest that has run for so many seconds has started.
pub const STARTED_S: u64 = 120;

/// What follows from how a guest's domain is. `info` is none if the domain is gone, or not this guest's.
pub fn next(guest: &Guest, asked: Asked, info: Option<&DomainInfo>) -> Next {
    let Some(info) = info.filter(|info| !info.dying) else {
        // Somebody else destroyed it.
        return Next::End(StopReason::Destroyed, Then::Gone);
    };
    let Some(reason) = info.shutdown else {
        return Next::Live;
    };
    let reason = stop_reason(reason);
    let rule = match (reason, asked) {
        // Whoever asked for it meant it, whatever the description says of a guest that does so by itself.
        (StopReason::Reboot | StopReason::Poweroff, Asked::Reboot) => OnStop::Restart,
        (StopReason::Poweroff, Asked::Shutdown) if guest.on_poweroff == OnStop::Restart => {
            OnStop::Destroy
        }
        (StopReason::Reboot | StopReason::SoftReset, _) => guest.on_reboot,
        (StopReason::Poweroff | StopReason::Destroyed, _) => guest.on_poweroff,
        (StopReason::Crash | StopReason::Watchdog, _) => guest.on_crash,
        (StopReason::Suspend, _) => OnStop::Preserve,
    };
    match rule {
        OnStop::Destroy => Next::End(reason, Then::Gone),
        OnStop::Restart => Next::End(reason, Then::Restart),
        OnStop::Preserve => Next::Stay(reason),
    }
}

/// How a domain ended, as the API has it.
pub fn stop_reason(reason: ShutdownReason) -> StopReason {
    match reason {
        ShutdownReason::Poweroff => StopReason::Poweroff,
        ShutdownReason::Reboot => StopReason::Reboot,
        ShutdownReason::Suspend => StopReason::Suspend,
        ShutdownReason::Watchdog => StopReason::Watchdog,
        ShutdownReason::SoftReset => StopReason::SoftReset,
        // A number that means nothing is a kernel gone wrong.
        ShutdownReason::Crash | ShutdownReason::Other(_) => StopReason::Crash,
    }
}

/// Where a domain is in its life, as the API has it, and how it ended.
pub fn of_domain(info: &DomainInfo) -> (Life, Option<StopReason>) {
    let reason = info.shutdown.map(stop_reason);
    let life = match reason {
        _ if info.dying => Life::Dying,
        Some(StopReason::Crash | StopReason::Watchdog) => Life::Crashed,
        Some(_) => Life::ShutDown,
        None if info.paused => Life::Paused,
        None if info.blocked && !info.running => Life::Idle,
        None => Life::Running,
    };
    (life, reason)
}

/// What a guest that has run for so many seconds is asked to do, as its kernel has it.
///
/// One that may still be starting is asked to power off where it is to reboot, and built again all the same: Linux 6.1
/// hears no further request after one to reboot, so one that came before its first process listened would be lost for
/// good, and one to power off can be made again.
pub fn request(asked: Asked, age_s: u64) -> Option<&'static str> {
    match asked {
        Asked::Nothing => None,
        Asked::Reboot if age_s >= STARTED_S => Some("reboot"),
        Asked::Reboot | Asked::Shutdown => Some("poweroff"),
    }
}

/// Words for how a guest ended.
pub fn words(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Poweroff => "powered off",
        StopReason::Reboot => "rebooted",
        StopReason::Suspend => "suspended itself",
        StopReason::Crash => "crashed",
        StopReason::Watchdog => "was ended by its watchdog",
        StopReason::SoftReset => "reset itself",
        StopReason::Destroyed => "was destroyed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(rules: &str) -> Guest {
        let text = format!("name = \"web\"\nkernel = \"/k\"\nmemory = \"64M\"\n{rules}");
        Guest::from_toml(&text, "web.toml", std::path::Path::new("/")).unwrap()
    }

    fn info(shutdown: Option<ShutdownReason>) -> DomainInfo {
        DomainInfo {
            domain: 1,
            handle: [0; 16],
            dying: false,
            paused: false,
            blocked: false,
            running: true,
            shutdown,
            pages: 1,
            max_pages: 1,
            shared_info_frame: 1,
            cpu_time_ns: 0,
            online_vcpus: 1,
            max_vcpu_id: Some(0),
        }
    }

    #[test]
    fn a_guest_that_runs_lives_and_one_that_is_gone_ends() {
        let web = guest("");
        assert_eq!(next(&web, Asked::Nothing, Some(&info(None))), Next::Live);
        let gone = Next::End(StopReason::Destroyed, Then::Gone);
        assert_eq!(next(&web, Asked::Reboot, None), gone);
        let dying = DomainInfo {
            dying: true,
            ..info(None)
        };
        assert_eq!(next(&web, Asked::Nothing, Some(&dying)), gone);
    }

    #[test]
    fn the_description_says_what_follows_a_stop() {
        use ShutdownReason::{Crash, Other, Poweroff, Reboot, Suspend};
        let (plain, other) = (
            guest(""),
            guest("on_poweroff = \"restart\"\non_reboot = \"preserve\"\non_crash = \"restart\""),
        );
        let after = |guest, asked, reason| next(guest, asked, Some(&info(Some(reason))));
        use Asked::Nothing;
        let end = Next::End;
        assert_eq!(
            after(&plain, Nothing, Poweroff),
            end(StopReason::Poweroff, Then::Gone)
        );
        assert_eq!(
            after(&plain, Nothing, Reboot),
            end(StopReason::Reboot, Then::Restart)
        );
        assert_eq!(
            after(&plain, Nothing, Crash),
            end(StopReason::Crash, Then::Gone)
        );
        assert_eq!(
            after(&plain, Nothing, Other(77)),
            end(StopReason::Crash, Then::Gone)
        );
        assert_eq!(
            after(&plain, Nothing, Suspend),
            Next::Stay(StopReason::Suspend)
        );
        assert_eq!(
            after(&other, Nothing, Poweroff),
            end(StopReason::Poweroff, Then::Restart)
        );
        assert_eq!(
            after(&other, Nothing, Reboot),
            Next::Stay(StopReason::Reboot)
        );
        assert_eq!(
            after(&other, Nothing, Crash),
            end(StopReason::Crash, Then::Restart)
        );
    }

    #[test]
    fn what_was_asked_for_is_what_happens() {
        let other = guest("on_poweroff = \"restart\"\non_reboot = \"preserve\"");
        let after = |asked, reason| next(&other, asked, Some(&info(Some(reason))));
        assert_eq!(
            after(Asked::Shutdown, ShutdownReason::Poweroff),
            Next::End(StopReason::Poweroff, Then::Gone)
        );
        assert_eq!(
            after(Asked::Reboot, ShutdownReason::Poweroff),
            Next::End(StopReason::Poweroff, Then::Restart)
        );
        assert_eq!(request(Asked::Reboot, STARTED_S - 1), Some("poweroff"));
        assert_eq!(request(Asked::Reboot, STARTED_S), Some("reboot"));
        assert_eq!(request(Asked::Shutdown, STARTED_S), Some("poweroff"));
        assert_eq!(
            after(Asked::Reboot, ShutdownReason::Reboot),
            Next::End(StopReason::Reboot, Then::Restart)
        );
    }
}
