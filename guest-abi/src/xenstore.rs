//! The store's transport: a ring in a shared page, and the header of a message.

use crate::wire::{operations, wire_struct};

/// Bytes of each direction of the ring.
pub const XENSTORE_RING_SIZE: u32 = 1024;
/// Bytes a message may carry behind its header.
pub const XENSTORE_PAYLOAD_MAX: u32 = 4096;
/// Bytes of an absolute path.
pub const XENSTORE_ABS_PATH_MAX: u32 = 3072;
/// Bytes of a path relative to the domain's own.
pub const XENSTORE_REL_PATH_MAX: u32 = 2048;
/// `server_features`: the ring can be connected anew.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// `server_features`: the ring has its error field.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// `connection`: all is well.
pub const XENSTORE_CONNECTED: u32 = 0;
/// `connection`: the guest asks for a new connection.
pub const XENSTORE_RECONNECT: u32 = 1;
/// `error`: none.
pub const XENSTORE_ERROR_NONE: u32 = 0;
/// `error`: the communication failed.
pub const XENSTORE_ERROR_COMM: u32 = 1;
/// `error`: an index makes no sense.
pub const XENSTORE_ERROR_RINGIDX: u32 = 2;
/// `error`: a message makes no sense.
pub const XENSTORE_ERROR_PROTO: u32 = 3;

wire_struct! {
    /// The head of the store's page. Indexes run freely; a byte's place is its index modulo
    /// [`XENSTORE_RING_SIZE`].
    pub struct XenstoreDomainInterface: 2076 {
        /// Requests to the store.
        0x000 req: [u8; 1024],
        /// Replies, and events of watches.
        0x400 rsp: [u8; 1024],
        /// Read so far of `req`, by the store.
        0x800 req_cons: u32,
        /// Written so far to `req`, by the domain.
        0x804 req_prod: u32,
        /// Read so far of `rsp`, by the domain.
        0x808 rsp_cons: u32,
        /// Written so far to `rsp`, by the store.
        0x80c rsp_prod: u32,
        /// `XENSTORE_SERVER_FEATURE_*`.
        0x810 server_features: u32,
        /// `XENSTORE_CONNECTED` or `XENSTORE_RECONNECT`.
        0x814 connection: u32,
        /// `XENSTORE_ERROR_*`.
        0x818 error: u32,
    }
    /// The header of a message.
    pub struct XsdSockmsg: 16 {
        /// A number of [`XsdMessage`].
        0x00 kind: u32,
        /// Chosen by the client; the reply has the same.
        0x04 req_id: u32,
        /// The transaction, or 0.
        0x08 tx_id: u32,
        /// Bytes that follow.
        0x0c len: u32,
    }
}

operations! {
    /// Types of messages. `name()` is the interface's name without `XS_`.
    pub enum XsdMessage: u32 {
        /// Control of the store itself.
        Control "CONTROL" = 0,
        /// List a node's children.
        Directory "DIRECTORY" = 1,
        /// Read a node.
        Read "READ" = 2,
        /// Read a node's permissions.
        GetPerms "GET_PERMS" = 3,
        /// Watch a path.
        Watch "WATCH" = 4,
        /// Stop watching.
        Unwatch "UNWATCH" = 5,
        /// Start a transaction.
        TransactionStart "TRANSACTION_START" = 6,
        /// End a transaction.
        TransactionEnd "TRANSACTION_END" = 7,
        /// Introduce a domain.
        Introduce "INTRODUCE" = 8,
        /// Forget a domain.
        Release "RELEASE" = 9,
        /// A domain's own path.
        GetDomainPath "GET_DOMAIN_PATH" = 10,
        /// Write a node.
        Write "WRITE" = 11,
        /// Make a node.
        Mkdir "MKDIR" = 12,
        /// Remove a node.
        Rm "RM" = 13,
        /// Set a node's permissions.
        SetPerms "SET_PERMS" = 14,
        /// A watch fired.
        WatchEvent "WATCH_EVENT" = 15,
        /// The request failed.
        Error "ERROR" = 16,
        /// Whether a domain was introduced.
        IsDomainIntroduced "IS_DOMAIN_INTRODUCED" = 17,
        /// Clear a domain's shutdown flag.
        Resume "RESUME" = 18,
        /// Let one domain act for another.
        SetTarget "SET_TARGET" = 19,
        /// Remove all of the client's watches.
        ResetWatches "RESET_WATCHES" = 21,
        /// List a node's children in parts.
        DirectoryPart "DIRECTORY_PART" = 22,
    }
}

operations! {
    /// States of a split device driver, as the store holds them in decimal. `name()` is the interface's name
    /// without `XenbusState`.
    pub enum XenbusState: u32 {
        /// Not known.
        Unknown "Unknown" = 0,
        /// Setting up.
        Initialising "Initialising" = 1,
        /// Set up as far as is possible without the other side.
        InitWait "InitWait" = 2,
        /// Waiting for the other side.
        Initialised "Initialised" = 3,
        /// In use.
        Connected "Connected" = 4,
        /// On the way out.
        Closing "Closing" = 5,
        /// Gone.
        Closed "Closed" = 6,
        /// Changing.
        Reconfiguring "Reconfiguring" = 7,
        /// Changed.
        Reconfigured "Reconfigured" = 8,
    }
}
