//! The state directory: what the daemon knows and its successor must know too.
//!
//! ```text
//!   STATE/lock              held while a daemon runs
//!   STATE/boot              the boot of the control domain that all of this is about
//!   STATE/store             the store's journal
//!   STATE/guests/UUID.json  a guest: what it is made of, and where in its life it is
//!   STATE/consoles/UUID     what its console printed
//! ```
//!
//! # Invariants
//! - S1: a guest's record is there before anything exists for that guest, and until nothing does. So whatever a killed
//!   daemon left half-done is found by a record.
//! - S2: a record is replaced in one step (rename): it is the old one or the new one.
//! - S3: nothing here outlives the boot of the control domain, because no guest does.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xen::DomId;
use xeno_api::Guest;

use crate::disk::Identity;
use crate::life::Asked;
use crate::uuid::Uuid;

/// Where in its life a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Being built: not yet unpaused. What there is of it is taken back after a restart.
    Building,
    /// Built.
    Alive,
    /// Being taken down. This is carried on with after a restart.
    Ending {
        /// What comes then.
        then: Then,
    },
}

/// What comes after a guest was taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Nothing.
    Gone,
    /// It is built again.
    Restart,
}

/// A ring of a guest's: how to reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingRecord {
    /// The machine frame.
    pub frame: u64,
    /// The guest's port.
    pub port: u32,
    /// The grant.
    pub reference: u32,
}

impl From<builder::Ring> for RingRecord {
    fn from(ring: builder::Ring) -> Self {
        Self {
            frame: ring.frame,
            port: ring.port,
            reference: ring.reference,
        }
    }
}

/// What is known of a guest once it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Its domain.
    pub domain: DomId,
    /// Its console.
    pub console: RingRecord,
    /// Its way to the store.
    pub store: RingRecord,
    /// When, in seconds since 1970.
    pub since_s: u64,
}

/// A guest's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The handle of its domain, the same each time it is built.
    pub uuid: Uuid,
    /// What it is made of.
    pub guest: Guest,
    /// Where in its life it is.
    pub phase: Phase,
    /// Its disks' files or devices, in the order of the description.
    pub disks: Vec<Identity>,
    /// Its domain, while there is one.
    pub built: Option<Built>,
    /// What it was asked to do and has not done yet.
    #[serde(default)]
    pub asked: Asked,
}

/// What can be wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("the state directory's {path} cannot be {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Read, written ...
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Another daemon has it.
    #[error(
        "another xenod runs on the state directory {0}: end it first, or name another with --state"
    )]
    InUse(PathBuf),
    /// A record makes no sense.
    #[error(
        "the record {path} makes no sense ({source}): move it away, and destroy its domain by hand"
    )]
    Record {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

/// The open state directory.
pub struct StateDir {
    root: PathBuf,
    /// Locked.
    _lock: File,
    #[cfg(test)]
    before_each_write: Option<Box<dyn Fn()>>,
}

impl StateDir {
    /// Opens the directory, or makes it. If it is about another boot than `boot`, it is emptied.
    ///
    /// # Errors
    /// When it cannot be used, or another daemon uses it.
    pub fn open(root: &Path, boot: &str) -> Result<Self, StateError> {
        make_dir(root)?;
        let lock = lock(root)?;
        let state = Self {
            root: root.to_owned(),
            _lock: lock,
            #[cfg(test)]
            before_each_write: None,
        };
        let known = root.join("boot");
        if std::fs::read(&known).ok().as_deref() != Some(boot.as_bytes()) {
            state.empty()?;
            state.replace(&known, boot.as_bytes())?;
        }
        make_dir(&root.join("guests"))?;
        make_dir(&root.join("consoles"))?;
        Ok(state)
    }

    /// Lets a test kill the daemon before anything is written.
    #[cfg(test)]
    pub fn before_each_write(&mut self, act: impl Fn() + 'static) {
        self.before_each_write = Some(Box::new(act));
    }

    /// Each change of the directory comes by here.
    fn about_to_write(&self) {
        #[cfg(test)]
        if let Some(act) = &self.before_each_write {
            act();
        }
    }

    fn empty(&self) -> Result<(), StateError> {
        for dir in ["guests", "consoles"] {
            let dir = self.root.join(dir);
            absent_is_fine(std::fs::remove_dir_all(&dir)).map_err(failed(&dir, "removed"))?;
        }
        let journal = self.journal();
        absent_is_fine(std::fs::remove_file(&journal)).map_err(failed(&journal, "removed"))
    }

    /// Where the store's journal is.
    pub fn journal(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Where what a guest's console printed is kept.
    pub fn console(&self, uuid: Uuid) -> PathBuf {
        self.root.join("consoles").join(uuid.to_string())
    }

    /// All guests' records.
    ///
    /// # Errors
    /// When one cannot be read or makes no sense.
    pub fn records(&self) -> Result<Vec<Record>, StateError> {
        let dir = self.root.join("guests");
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&dir).map_err(failed(&dir, "read"))? {
            let path = entry.map_err(failed(&dir, "read"))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read(&path).map_err(failed(&path, "read"))?;
            let record = serde_json::from_slice(&text)
                .map_err(|source| StateError::Record { path, source })?;
            records.push(record);
        }
        Ok(records)
    }

    /// Puts a record in the place of the one there was (S2).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, record: &Record) -> Result<(), StateError> {
        let path = self.record(record.uuid);
        let text = serde_json::to_vec(record).map_err(|source| StateError::Record {
            path: path.clone(),
            source,
        })?;
        self.replace(&path, &text)
    }

    /// Forgets a guest, and what its console printed.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn forget(&self, uuid: Uuid) -> Result<(), StateError> {
        // The record last (S1).
        for path in [self.console(uuid), self.record(uuid)] {
            self.about_to_write();
            absent_is_fine(std::fs::remove_file(&path)).map_err(failed(&path, "removed"))?;
        }
        Ok(())
    }

    /// Removes consoles that belong to no record.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn sweep(&self, records: &[Record]) -> Result<(), StateError> {
        let dir = self.root.join("consoles");
        for entry in std::fs::read_dir(&dir).map_err(failed(&dir, "read"))? {
            let path = entry.map_err(failed(&dir, "read"))?.path();
            let known = records
                .iter()
                .any(|record| self.console(record.uuid) == path);
            if !known {
                absent_is_fine(std::fs::remove_file(&path)).map_err(failed(&path, "removed"))?;
            }
        }
        Ok(())
    }

    fn record(&self, uuid: Uuid) -> PathBuf {
        self.root.join("guests").join(format!("{uuid}.json"))
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), StateError> {
        self.about_to_write();
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(failed(&fresh, "written"))?;
        file.write_all(contents)
            .map_err(failed(&fresh, "written"))?;
        std::fs::rename(&fresh, path).map_err(failed(path, "replaced"))
    }
}

fn failed<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> StateError + 'a {
    move |source| StateError::File {
        path: path.to_owned(),
        what,
        source,
    }
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn make_dir(path: &Path) -> Result<(), StateError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed(path, "made"))
}

fn lock(root: &Path) -> Result<File, StateError> {
    let path = root.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed(&path, "opened"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse(root.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(&path, "locked")(source)),
    }
}
