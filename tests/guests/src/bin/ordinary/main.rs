//! Proves what an ordinary domain is refused: every control call, every operation on behalf of another domain, everything
//! of the machine; whoever it names, and without anything changing.
//!
//! The control domain builds two children. One makes the calls and compares the answers with Xen 4.17's; the other, and
//! the control domain itself, are what they are about. Answers of ours that differ from Xen's on purpose say so where
//! they are.
//!
//! xtask: memory=512M
//! xtask: seconds=120
#![cfg_attr(target_os = "none", no_std, no_main)]

mod calls;
mod complete;
mod links;
mod machine;
mod memory;

use guest_runtime::abi::{Getdomaininfo, ShutdownReason};
use guest_runtime::builder::{self, Child, Plan};
use guest_runtime::link::Step;
use guest_runtime::{Global, check, check_eq, control, guest, hypercall};
use guests::balance::{self, Frames};

guest!(ordinary, main);

/// Domains that a call can be about.
#[derive(Clone, Copy)]
pub struct Ids {
    /// The caller.
    pub own: u16,
    /// The control domain.
    pub control: u16,
    /// An ordinary domain beside the caller.
    pub other: u16,
    /// A number that nobody has.
    pub nobody: u16,
    /// A frame of the other's that is mapped nowhere.
    pub frame: u64,
    /// Whether the hypervisor is ours.
    pub ours: bool,
}

static IDS: Global<Ids> = Global::new(Ids {
    own: 0,
    control: 0,
    other: 0,
    nobody: 0,
    frame: 0,
    ours: false,
});

/// The domains; in the child.
pub fn ids() -> Ids {
    IDS.get()
}

/// What the interface answers: Xen's number, or ours where we differ on purpose.
pub fn either(xen: i64, ours: i64) -> i64 {
    if ids().ours { ours } else { xen }
}

/// Step: notes the domains.
fn meet([own, other, nobody, frame, _]: [u64; 5]) -> i64 {
    IDS.set(Ids {
        own: own as u16,
        control: 0,
        other: other as u16,
        nobody: nobody as u16,
        frame,
        ours: control::is_ours(),
    });
    0
}

fn main() {
    let plan = Plan {
        vcpus: 2,
        ..Plan::SMALL
    };
    let (Some(mut child), Some(mut other)) = (builder::running(plan), builder::running(plan))
    else {
        return;
    };
    let frame = other.mfn(other.unused_page());
    let [own, neighbour] = [child.id, other.id].map(u64::from);
    child.call(meet, [own, neighbour, 0x7000, frame, 0]);
    // The first run makes what is made on first use: ports, tables.
    for round in 0..2 {
        let before = state(&child, &other);
        every_step(&mut child);
        let after = state(&child, &other);
        if round == 1 {
            check_eq!("what there is afterwards", after, before);
        }
        check_eq!("the other still answers", other.call(|_| 7, [0; 5]), 7);
    }
    for mut child in [child, other] {
        child.start(|_| hypercall::shutdown(ShutdownReason::Poweroff), [0; 5]);
        check_eq!(
            "its end",
            child.wait_shutdown(),
            builder::reason(ShutdownReason::Poweroff)
        );
        check!(child.destroy_and_wait(), "it is gone");
    }
}

fn every_step(child: &mut Child) {
    let steps: [(&str, Step); 10] = [
        ("domctl", calls::domctls),
        ("sysctl", calls::sysctls),
        ("platform, machine checks and other families", calls::others),
        ("memory operations", memory::operations),
        ("foreign page tables", memory::page_tables),
        ("event channels", links::ports),
        ("grants", links::grants),
        ("physical devices", machine::devices),
        ("every operation by its row", complete::all),
        ("console, scheduler and instructions", machine::rest),
    ];
    for (what, step) in steps {
        child.check(what, step, [0; 5]);
    }
}

/// What must not change: of either domain what the hypervisor tells, and of the machine which frames are whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    domains: [[u64; 6]; 3],
    frames: Option<Frames>,
}

fn state(child: &Child, other: &Child) -> State {
    let of = |info: Result<Getdomaininfo, i64>| match info {
        Err(error) => [error as u64; 6],
        Ok(info) => [
            u64::from(info.flags & 0xff00_ffcf), // Not whether it runs or sleeps.
            info.tot_pages,
            info.max_pages,
            info.shared_info_frame,
            u64::from(info.nr_online_vcpus),
            u64::from(info.max_vcpu_id),
        ],
    };
    State {
        domains: [control::info(0), child.info(), other.info()].map(of),
        frames: balance::frames(),
    }
}
