//! What child to build, how far, and where that ended.

use crate::child;

/// The steps of building a domain, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Stage {
    Nothing,
    Created,
    HasVcpus,
    HasMaximum,
    HasHalfItsMemory,
    HasMemory,
    HasContents,
    HasTables,
    HasPinnedTables,
    HasPorts,
    HasSharedInfo,
    HasContext,
    Linked,
}

impl Stage {
    /// All, in their order.
    pub const ALL: [Self; 13] = [
        Self::Nothing,
        Self::Created,
        Self::HasVcpus,
        Self::HasMaximum,
        Self::HasHalfItsMemory,
        Self::HasMemory,
        Self::HasContents,
        Self::HasTables,
        Self::HasPinnedTables,
        Self::HasPorts,
        Self::HasSharedInfo,
        Self::HasContext,
        Self::Linked,
    ];
}

/// What child to build.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Its pages, at most [`MOST_PAGES`](super::MOST_PAGES); the image and what belongs to it must fit.
    pub pages: u64,
    /// The vCPUs it may have; the first is brought up.
    pub vcpus: u32,
    /// What it runs after the runtime's own start.
    pub entry: fn(),
    /// The last stage that is reached.
    pub until: Stage,
}

impl Plan {
    /// A child of 2 MiB with one vCPU that serves steps.
    pub const SMALL: Self = Self {
        pages: 512,
        vcpus: 1,
        entry: child::serve,
        until: Stage::Linked,
    };
}

/// Which stage could not be reached, and the hypervisor's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotBuilt {
    /// The stage.
    pub stage: Stage,
    /// A negative error number, or a number of extents that was less than was asked for.
    pub result: i64,
}
