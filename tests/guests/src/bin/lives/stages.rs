//! Children that end before they are whole.

use guest_runtime::abi::domctl::{
    Createdomain, XEN_DOMINF_DYING, XEN_DOMINF_PAUSED, XEN_DOMINF_SHUTDOWN,
};
use guest_runtime::abi::{DomctlCommand, errno};
use guest_runtime::builder::{self, NotBuilt, Plan, Stage};
use guest_runtime::{check, check_eq, child, control, events, say};

/// Builds up to each stage, looks at the child, and destroys it.
pub fn every_stage() {
    for stage in Stage::ALL.into_iter().skip(1) {
        let plan = Plan {
            until: stage,
            ..Plan::SMALL
        };
        let child = match builder::build(plan) {
            Ok(child) => child,
            Err(error) => {
                check_eq!("a child is built", Some(error), None);
                continue;
            }
        };
        look(&child, stage);
        if !check!(child.destroy_and_wait(), "a half-built child is gone") {
            say!("  it was built up to {stage:?}");
        }
    }
}

fn look(child: &builder::Child, stage: Stage) {
    let Ok(info) = child.info() else {
        check!(false, "a half-built child is listed");
        return;
    };
    let states = XEN_DOMINF_PAUSED | XEN_DOMINF_DYING | XEN_DOMINF_SHUTDOWN;
    check_eq!("it is paused", info.flags & states, XEN_DOMINF_PAUSED);
    let pages = match stage {
        stage if stage < Stage::HasHalfItsMemory => 0,
        Stage::HasHalfItsMemory => Plan::SMALL.pages / 2,
        _ => Plan::SMALL.pages,
    };
    check_eq!("its frames", info.tot_pages, pages);
    if stage >= Stage::HasMaximum {
        check!(
            (pages.max(Plan::SMALL.pages)..=Plan::SMALL.pages + 4).contains(&info.max_pages),
            "its most frames"
        );
    }
    let online = u32::from(stage >= Stage::HasContext);
    check_eq!("its vCPUs that are up", info.nr_online_vcpus, online);
}

/// A child without a state, or without anything, may be let run: nothing comes of it.
pub fn half_built_runs() {
    for stage in [
        Stage::Created,
        Stage::HasVcpus,
        Stage::HasMemory,
        Stage::HasPinnedTables,
        Stage::HasSharedInfo,
    ] {
        let plan = Plan {
            until: stage,
            ..Plan::SMALL
        };
        let Ok(child) = builder::build(plan) else {
            check!(false, "a child is built");
            continue;
        };
        // Xen refuses this to a domain that has no vCPUs.
        let result = child.run();
        let wanted = if stage < Stage::HasVcpus {
            -errno::EINVAL
        } else {
            0
        };
        check!(
            result == wanted || result == 0,
            "unpausing a half-built child"
        );
        child::wait(&[], events::now_ns() + 2_000_000);
        let time = child.info().map_or(u64::MAX, |info| info.cpu_time);
        check_eq!("the time it ran", time, 0);
        check!(child.destroy_and_wait(), "it is gone");
    }
}

/// Children that cannot be built leave nothing.
pub fn refused_builds() {
    // No vCPU, more than there can be, flags and numbers that mean nothing.
    let ordinary = control::ordinary(1);
    for (what, wanted) in [
        (
            "no vCPUs",
            Createdomain {
                max_vcpus: 0,
                ..ordinary
            },
        ),
        (
            "unknown flags",
            Createdomain {
                flags: 1 << 31,
                ..ordinary
            },
        ),
        (
            "a fully virtualized one without its devices",
            Createdomain {
                flags: 1 << 1,
                ..ordinary
            },
        ),
        (
            "too many vCPUs",
            Createdomain {
                max_vcpus: 1 << 20,
                ..ordinary
            },
        ),
    ] {
        match control::create(&wanted) {
            Err(error) => {
                check_eq!(what, error, -errno::EINVAL);
            }
            Ok(id) => {
                check!(false, what);
                control::destroy(id);
            }
        }
    }
    // More vCPUs than were said.
    if let Ok(id) = control::create(&ordinary) {
        check_eq!(
            "other vCPUs than said",
            control::max_vcpus(id, 2),
            -errno::EINVAL
        );
        check_eq!("its end", control::destroy(id), 0);
        check!(builder::is_gone_soon(id), "it is gone");
    }
    // Destroyed before the rest: every stage meets a domain that is not there.
    let created = control::create(&ordinary);
    if let Ok(id) = created {
        control::destroy(id);
        check!(builder::is_gone_soon(id), "it is gone");
        let built = builder::build_in(
            Plan {
                until: Stage::Nothing,
                ..Plan::SMALL
            },
            created,
        );
        check!(
            built.is_ok(),
            "a child that is not there is built no further"
        );
        for result in [
            control::max_vcpus(id, 1),
            control::max_mem(id, 512),
            control::simple(DomctlCommand::Unpausedomain, id),
            control::destroy(id),
        ] {
            check_eq!("a call about a domain that has gone", result, -errno::ESRCH);
        }
        let refused = NotBuilt {
            stage: Stage::Created,
            result: -errno::ENOMEM,
        };
        let unmade = builder::build_in(Plan::SMALL, Err(-errno::ENOMEM));
        check_eq!("no domain", unmade.err(), Some(refused));
    }
}
