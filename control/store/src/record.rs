//! What is remembered of the store beyond the process: records, and their bytes.
//!
//! A record says what became so, not what was asked, so that taking it in again decides nothing. Only what
//! outlives the process is recorded: a socket's watches and transactions are gone with its connection.
//!
//! The form of a record is a byte for its kind and then its fields: integers little-endian, byte strings with
//! their length (u32) before them. The form is private to one version of the program and its successor.

use std::sync::Arc;

use crate::perms::{Access, Perm};
use crate::tree::Change;
use crate::{DomId, Path, Perms};

/// One thing that became so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// A change of the tree.
    Change(Change),
    /// A domain was introduced, or again with another port.
    Introduce { domid: DomId, gfn: u64, port: u32 },
    /// A domain's connection ended.
    Release { domid: DomId },
    /// A domain may act for another.
    Target { domid: DomId, target: DomId },
    /// A domain's shutdown was told of, or (`false`) may be told of again.
    Shutdown { domid: DomId, told: bool },
    /// Who may hear of a special event.
    Special { release: bool, perms: Perms },
    /// A limit.
    Limit { name: String, value: u32 },
    /// A domain watches.
    Watch {
        domid: DomId,
        path: Arc<str>,
        token: Arc<[u8]>,
        relative: bool,
        depth: Option<u32>,
    },
    /// A domain no longer watches.
    Unwatch {
        domid: DomId,
        path: Arc<str>,
        token: Arc<[u8]>,
    },
    /// A domain's watches and transactions are gone; with `wholly`, what waited on its ring too.
    Reset { domid: DomId, wholly: bool },
    /// A domain's transaction is open.
    Begin { domid: DomId, transaction: u32 },
    /// It no longer is.
    End { domid: DomId, transaction: u32 },
    /// A message waits for a domain.
    Wait {
        domid: DomId,
        event: bool,
        message: Arc<[u8]>,
    },
    /// An event that stands for others waits for room.
    Fold { domid: DomId, message: Arc<[u8]> },
    /// The place of a domain's ring: read up to `req_cons`, of which `partial` is the beginning of a message,
    /// and written up to `rsp_prod`, the place of the first byte that waits.
    Place {
        domid: DomId,
        req_cons: u32,
        rsp_prod: u32,
        partial: Arc<[u8]>,
    },
}

/// Where records are written.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        // Everything that is recorded is bounded by a message.
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
        self
    }

    fn perms(&mut self, perms: &Perms) -> &mut Self {
        self.u32(perms.entries().len() as u32);
        for perm in perms.entries() {
            self.u8(perm.access as u8).u16(perm.domid);
        }
        self
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Create { path, value, perms } => {
                self.u8(0)
                    .bytes(path.as_str().as_bytes())
                    .bytes(value)
                    .perms(perms);
            }
            Change::Write { path, value } => {
                self.u8(1).bytes(path.as_str().as_bytes()).bytes(value);
            }
            Change::SetPerms { path, perms } => {
                self.u8(2).bytes(path.as_str().as_bytes()).perms(perms);
            }
            Change::Remove { path } => {
                self.u8(3).bytes(path.as_str().as_bytes());
            }
        }
    }

    pub fn record(&mut self, record: &Record) {
        match record {
            Record::Change(change) => self.change(change),
            Record::Introduce { domid, gfn, port } => {
                self.u8(4)
                    .u16(*domid)
                    .0
                    .extend_from_slice(&gfn.to_le_bytes());
                self.u32(*port);
            }
            Record::Release { domid } => {
                self.u8(5).u16(*domid);
            }
            Record::Target { domid, target } => {
                self.u8(6).u16(*domid).u16(*target);
            }
            Record::Shutdown { domid, told } => {
                self.u8(7).u16(*domid).u8(u8::from(*told));
            }
            Record::Special { release, perms } => {
                self.u8(8).u8(u8::from(*release)).perms(perms);
            }
            Record::Limit { name, value } => {
                self.u8(9).bytes(name.as_bytes()).u32(*value);
            }
            Record::Watch {
                domid,
                path,
                token,
                relative,
                depth,
            } => {
                self.u8(10)
                    .u16(*domid)
                    .bytes(path.as_bytes())
                    .bytes(token)
                    .u8(u8::from(*relative));
                self.u8(u8::from(depth.is_some())).u32(depth.unwrap_or(0));
            }
            Record::Unwatch { domid, path, token } => {
                self.u8(11).u16(*domid).bytes(path.as_bytes()).bytes(token);
            }
            Record::Reset { domid, wholly } => {
                self.u8(12).u16(*domid).u8(u8::from(*wholly));
            }
            Record::Begin { domid, transaction } => {
                self.u8(13).u16(*domid).u32(*transaction);
            }
            Record::End { domid, transaction } => {
                self.u8(14).u16(*domid).u32(*transaction);
            }
            Record::Wait {
                domid,
                event,
                message,
            } => {
                self.u8(15).u16(*domid).u8(u8::from(*event)).bytes(message);
            }
            Record::Fold { domid, message } => {
                self.u8(16).u16(*domid).bytes(message);
            }
            Record::Place {
                domid,
                req_cons,
                rsp_prod,
                partial,
            } => {
                self.u8(17)
                    .u16(*domid)
                    .u32(*req_cons)
                    .u32(*rsp_prod)
                    .bytes(partial);
            }
        }
    }
}

/// Reads records. Every method answers `None` at the end of the bytes or where they make no sense.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.first_chunk().copied()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.u8()? != 0)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<Arc<[u8]>> {
        let length = self.u32()?;
        self.take(length as usize).map(Arc::from)
    }

    fn text(&mut self) -> Option<Arc<str>> {
        let length = self.u32()?;
        std::str::from_utf8(self.take(length as usize)?)
            .ok()
            .map(Arc::from)
    }

    fn path(&mut self) -> Option<Path> {
        let length = self.u32()?;
        Path::absolute(self.take(length as usize)?).ok()
    }

    fn perms(&mut self) -> Option<Perms> {
        let count = self.u32()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            let access = match self.u8()? {
                0 => Access::None,
                1 => Access::Read,
                2 => Access::Write,
                3 => Access::Both,
                _ => return None,
            };
            entries.push(Perm {
                access,
                domid: self.u16()?,
            });
        }
        Perms::new(&entries)
    }

    pub fn record(&mut self) -> Option<Record> {
        Some(match self.u8()? {
            0 => Record::Change(Change::Create {
                path: self.path()?,
                value: self.bytes()?,
                perms: self.perms()?,
            }),
            1 => Record::Change(Change::Write {
                path: self.path()?,
                value: self.bytes()?,
            }),
            2 => Record::Change(Change::SetPerms {
                path: self.path()?,
                perms: self.perms()?,
            }),
            3 => Record::Change(Change::Remove { path: self.path()? }),
            4 => Record::Introduce {
                domid: self.u16()?,
                gfn: self.array().map(u64::from_le_bytes)?,
                port: self.u32()?,
            },
            5 => Record::Release { domid: self.u16()? },
            6 => Record::Target {
                domid: self.u16()?,
                target: self.u16()?,
            },
            7 => Record::Shutdown {
                domid: self.u16()?,
                told: self.flag()?,
            },
            8 => Record::Special {
                release: self.flag()?,
                perms: self.perms()?,
            },
            9 => Record::Limit {
                name: self.text()?.to_string(),
                value: self.u32()?,
            },
            10 => self.watch()?,
            11 => Record::Unwatch {
                domid: self.u16()?,
                path: self.text()?,
                token: self.bytes()?,
            },
            12 => Record::Reset {
                domid: self.u16()?,
                wholly: self.flag()?,
            },
            13 => Record::Begin {
                domid: self.u16()?,
                transaction: self.u32()?,
            },
            14 => Record::End {
                domid: self.u16()?,
                transaction: self.u32()?,
            },
            15 => Record::Wait {
                domid: self.u16()?,
                event: self.flag()?,
                message: self.bytes()?,
            },
            16 => Record::Fold {
                domid: self.u16()?,
                message: self.bytes()?,
            },
            17 => Record::Place {
                domid: self.u16()?,
                req_cons: self.u32()?,
                rsp_prod: self.u32()?,
                partial: self.bytes()?,
            },
            _ => return None,
        })
    }

    fn watch(&mut self) -> Option<Record> {
        let (domid, path, token) = (self.u16()?, self.text()?, self.bytes()?);
        let relative = self.flag()?;
        let depth = match (self.flag()?, self.u32()?) {
            (true, depth) => Some(depth),
            (false, _) => None,
        };
        Some(Record::Watch {
            domid,
            path,
            token,
            relative,
            depth,
        })
    }
}

#[cfg(test)]
mod tests;
