//! What the control domain's daemon (`xenod`) and whoever commands it (`xeno`, tests) say to each other, and how a
//! guest is described. Types and text only: no sockets, no files, no hypervisor.
//!
//! # The conversation
//! A stream socket ([`SOCKET`]), one JSON object a line, both ways, at most [`MAX_LINE`] bytes each.
//!
//! ```text
//!   > {"id":0,"op":"hello","version":1,"client":"xeno 0.1.0"}
//!   < {"id":0,"ok":{"is":"hello","version":1,"daemon":"xenod 0.1.0"}}
//!   > {"id":1,"op":"pause","domain":"web"}
//!   < {"id":1,"error":{"kind":"not-found","message":"there is no domain \"web\""}}
//!   > {"id":2,"op":"console","domain":3}
//!   < {"id":2,"ok":{"is":"attached","skipped_bytes":0}}
//!   < {"id":2,"event":{"is":"output","data":"Linux version 6.1 ...\r\n"}}
//!   > {"id":3,"op":"input","to":2,"data":"ls\r"}
//!   < {"id":3,"ok":{"is":"done"}}
//!   < {"id":2,"end":{"why":"gone"}}
//! ```
//!
//! # Invariants
//! - A1: the first request is `hello`; anything else before it, or a version the daemon does not speak, is refused
//!   and the daemon closes the connection after saying so.
//! - A2: each request gets exactly one `ok` or `error`, with its own id. Answers may come in any order; ids are the
//!   client's, each used once while it is open.
//! - A3: only a request that [opens a stream](Op::opens_stream) is followed by `event`s, all after its `ok`; then
//!   exactly one `end`, unless the connection closes first. [`Op::Cancel`] asks for the end.
//! - A4: what either end cannot decode it never acts on in part: unknown operations, unknown or missing
//!   arguments and values out of bounds are refused before anything is done.
//! - A5: a watcher that does not read costs the daemon a bounded amount of memory: it is told how much it lost.
//!
//! [`Guest`] is a guest's description: the same fields in a TOML file ([`Guest::from_toml`]) and in the `create`
//! request.

#![forbid(unsafe_code)]

/// Has serde read and write a type as its text: what `FromStr` reads and `Display` writes. For types with
/// `#[serde(try_from = "String", into = "String")]`.
macro_rules! written_as_text {
    ($what:ty, $error:ty) => {
        impl TryFrom<String> for $what {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$what> for String {
            fn from(what: $what) -> Self {
                what.to_string()
            }
        }
    };
}

mod codec;
mod data;
mod description;
mod draft;
mod error;
mod guest;
mod name;
mod rate;
mod reply;
mod request;
mod reservation;
mod size;
mod span;
mod used;
mod words;

pub use codec::{BadLine, Lines, MAX_LINE, encode};
pub use data::Data;
pub use description::{DescriptionError, Fault};
pub use draft::{Draft, DraftDisk};
pub use error::{Error, Kind};
pub use guest::{Access, Disk, Guest, MAX_DISKS, MAX_VCPUS, OnStop};
pub use ledger::record::{Account, CAUSE_NAMES, Machine as MachineTime, Pruned};
pub use name::{BadName, CONTROL_DOMAIN, Name, Target};
pub use rate::{BadRate, Rate};
pub use reply::{
    Answer, Created, DiskInfo, DomainInfo, End, EndReason, Event, Io, Life, MachineInfo, Message,
    Reply, StopReason, Summary, VcpuInfo,
};
pub use request::{Op, Request};
pub use reservation::{BadReservation, Reservation, USUAL_WEIGHT};
pub use size::{BadSize, Size};
pub use span::{BadSpan, Span};
pub use used::{CpuRules, CpuTime, DomainUsage, PartUsage, Usage};
pub use words::BadWord;

/// The version of the conversation described here. Both ends must have the same.
pub const VERSION: u32 = 1;

/// Where the daemon listens.
pub const SOCKET: &str = "/run/xeno/xenod.sock";

/// A domain's number.
pub type DomId = u16;
