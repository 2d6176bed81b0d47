//! What the daemon can be asked.

use serde::{Deserialize, Serialize};

use crate::{Data, Guest, Rate, Reservation, Size, Span, Target};

/// An operation with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Op {
    /// Opens the conversation. Answer: [`Answer::Hello`](crate::Answer::Hello).
    Hello {
        /// The version the client speaks: [`VERSION`](crate::VERSION).
        version: u32,
        /// The client's name and version, for the daemon's log.
        client: String,
    },
    /// What daemon, hypervisor and machine there are. Answer: `machine`.
    Version {},
    /// Builds a domain and, unless `paused`, lets it run. Answer: `created`.
    Create {
        /// What to build; paths are absolute.
        guest: Guest,
        /// Leave it paused.
        #[serde(default)]
        paused: bool,
    },
    /// All domains, the control domain first. Answer: `domains`.
    List {},
    /// All there is to know about one domain. Answer: `domain`.
    Info {
        /// Which.
        domain: Target,
    },
    /// Opens a stream of what a guest prints. Answer: `attached`; events: `output`, `lost`.
    Console {
        /// Which.
        domain: Target,
        /// At most this many bytes of what was printed before come first; none if absent means all that is kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scrollback_bytes: Option<u64>,
        /// End the stream after what was printed before, rather than wait for more.
        #[serde(default)]
        only_past: bool,
    },
    /// Types into a console. Answered (`done`) once all of it is with the guest or queued for it; while the guest
    /// does not read, that may take long, so one input at a time is how a client is slowed down.
    Input {
        /// The id of the `console` request.
        to: u64,
        /// At most [`Op::MAX_INPUT`] bytes.
        data: Data,
    },
    /// Ends a stream of this connection. Answer: `done`; the stream gets its `end`.
    Cancel {
        /// The id of the request that opened it.
        of: u64,
    },
    /// Stops a domain's vCPUs from running. Answer: `done`.
    Pause {
        /// Which.
        domain: Target,
    },
    /// Lets them run again. Answer: `done`.
    Unpause {
        /// Which.
        domain: Target,
    },
    /// Asks a guest's kernel to power off. Answer: `done`, at once or, with `wait_s`, when it has and is gone.
    Shutdown {
        /// Which.
        domain: Target,
        /// Answer only when the domain has ended, or with `timed-out` after as many seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_s: Option<u32>,
    },
    /// Asks a guest's kernel to reboot. Answer: `done`, at once or, with `wait_s`, when its successor runs.
    Reboot {
        /// Which.
        domain: Target,
        /// As for `shutdown`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_s: Option<u32>,
    },
    /// Ends a domain now and takes back everything. Answer: `destroyed`.
    Destroy {
        /// Which.
        domain: Target,
    },
    /// The hypervisor's log. Answer: `log`.
    Dmesg {
        /// Empty it.
        #[serde(default)]
        clear: bool,
    },
    /// What every domain has used so far. Answer: `usage`.
    Usage {},
    /// What each vCPU of a domain has used so far. Answer: `usage-of`.
    UsageOf {
        /// Which.
        domain: Target,
    },
    /// Changes how much memory a running guest has. Answer: `done` when it has been asked; the guest follows.
    SetMemory {
        /// Which.
        domain: Target,
        /// Its new memory.
        memory: Size,
    },
    /// Changes how many vCPUs a running guest has.
    SetVcpus {
        /// Which.
        domain: Target,
        /// How many shall be on line.
        vcpus: u32,
    },
    /// Changes what CPU time each vCPU of a guest has reserved, from their next periods on. Answer: `done`.
    SchedSet {
        /// Which.
        domain: Target,
        /// What it shall have, in the place of what it had.
        cpu: Reservation,
    },
    /// Changes what a guest may reserve for itself. Answer: `done`.
    SchedAllow {
        /// Which.
        domain: Target,
        /// All its vCPUs together.
        allowance: Rate,
    },
    /// What holds for all reservations, and another quantum from now on if one is given. Answer: `cpu-rules`.
    SchedRules {
        /// The machine's quantum; reservations that were made stay as they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quantum: Option<Span>,
    },
    /// What CPU time a domain has reserved. Answer: `cpu-time`.
    SchedShow {
        /// Which.
        domain: Target,
    },
    /// Removes the oldest files of the usage record, which says so. At least one of the two. Answer: `pruned`.
    PruneLedger {
        /// Those that hold only entries before this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        /// As many as it takes so that all together have no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep: Option<Size>,
    },
    /// A value of the store. Answer: `value`.
    StoreRead {
        /// An absolute store path.
        path: String,
    },
    /// Sets a value of the store; its parents are made. Answer: `done`.
    StoreWrite {
        /// An absolute store path.
        path: String,
        /// Its new value.
        value: Data,
    },
    /// What is below a path of the store, one level. Answer: `names`.
    StoreList {
        /// An absolute store path.
        path: String,
    },
    /// Removes a path of the store and what is below. Answer: `done`.
    StoreRemove {
        /// An absolute store path.
        path: String,
    },
    /// Opens a stream of changes at and below a path. Answer: `done`; events: `changed`, the first at once.
    StoreWatch {
        /// An absolute store path, or a special one such as `@introduceDomain`.
        path: String,
    },
    /// Opens a stream of what happens to domains. Answer: `done`; events: `domain`.
    Events {},
}

impl Op {
    /// The most bytes of one [`Op::Input`].
    pub const MAX_INPUT: usize = 64 << 10;

    /// Whether its answer is followed by events and an end (A3).
    pub fn opens_stream(&self) -> bool {
        matches!(
            self,
            Self::Console { .. } | Self::StoreWatch { .. } | Self::Events {}
        )
    }
}

/// A request: what to do, and the client's number for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Comes back with each answer.
    pub id: u64,
    /// What to do.
    pub op: Op,
}
