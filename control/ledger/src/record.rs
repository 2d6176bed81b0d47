//! Entries and their form: a line of text with a signature and a JSON object.

use serde::{Deserialize, Serialize};

pub use crate::hash::{BadHash, Hash};
use crate::hash::{from_hex, to_hex};
use crate::key::{PublicKey, SIGNATURE_HEX, SecretKey};

/// The version of the form.
pub const VERSION: u32 = 1;

/// A number wider than JSON's readers take: in decimal digits, as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Wide(pub u128);

impl TryFrom<String> for Wide {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<Wide> for String {
    fn from(wide: Wide) -> Self {
        wide.0.to_string()
    }
}

/// How long a chain is: its last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last entry's number; as many there are.
    pub n: u64,
    /// Its hash.
    pub hash: Hash,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub v: u32,
    /// Its number, from 1 on.
    pub n: u64,
    /// The hash of the entry before it.
    pub prev: Hash,
    /// When, by the control domain's clock: milliseconds since 1970.
    pub t: u64,
    /// What it says.
    #[serde(flatten)]
    pub what: What,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum What {
    /// The first entry of a file: what one has to know to go on from here.
    Segment(Segment),
    /// A daemon began to keep the record.
    Start(Start),
    /// What a domain used.
    Domain(Box<Domain>),
    /// What became of the machine's time.
    Machine(Machine),
    /// For some time nothing was recorded.
    Gap(Gap),
    /// Domains came and went of which no account was left to record.
    Missed(Missed),
    /// The oldest entries are removed on purpose: this is on the disk before they go.
    Pruned(Pruned),
    /// The daemon ended in order: nothing comes after this until another starts.
    Stop {},
}

/// See [`What::Segment`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The number of the entry with which the machine's run began; 0 before there was one.
    pub machine: u64,
    /// How many domains that are gone have been recorded as such in this run.
    pub ended: u64,
    /// The chains of domains that go on, by serial.
    pub open: Vec<Open>,
    /// Entries that are not here, where there are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// What was said last of entries that were removed on purpose, if any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
}

/// A domain's chain that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which domain.
    pub serial: u64,
    /// Its entries so far.
    pub k: u64,
    /// The hash of the last.
    pub head: Hash,
}

/// Entries were there and are not: the daemon found that out when it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The first that is lost.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Why it is thought so.
    pub why: String,
}

/// See [`What::Start`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Whether ring 0 remembered nothing: the machine has started since the last entry, if there is one.
    pub fresh: bool,
    /// The control domain's boot.
    pub boot: String,
    /// Bytes of an entry that was not whole, cut off.
    pub torn: u64,
    /// Milliseconds from one entry of a domain to the next.
    pub interval: u64,
}

/// See [`What::Domain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The number of the entry with which the machine's run began.
    pub machine: u64,
    /// The domain's number.
    pub id: u16,
    /// Which of all domains of the machine's run it is.
    pub serial: u64,
    /// Its handle.
    pub uuid: String,
    /// Its name, if the daemon knows it.
    pub name: Option<String>,
    /// Its place in the domain's own chain, from 1 on.
    pub k: u64,
    /// The hash of the entry before it in that chain.
    pub prior: Hash,
    /// In its last entry: which of the domains that are gone it is, from 0 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// What it used from its beginning until now.
    pub used: Account,
}

/// Causes of the hypervisor's work.
pub const CAUSES: usize = 6;
/// Their names, in order.
pub const CAUSE_NAMES: [&str; CAUSES] = ["call", "fault", "interrupt", "timer", "device", "switch"];

/// What a domain used since it began: cycles of the time-stamp counter, frames of 4 KiB (`docs/accounting.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// When it was read, in cycles.
    pub at: u64,
    /// Cycles a second.
    pub hz: u64,
    /// In applications.
    pub user: u64,
    /// In its kernel.
    pub kernel: u64,
    /// In the hypervisor, by cause: [`CAUSE_NAMES`].
    pub hypervisor: [u64; CAUSES],
    /// Of all those: in reserved time.
    pub guaranteed: u64,
    /// Of all those: in time nobody had reserved.
    pub extra: u64,
    /// Of all those: while none of its vCPUs was in hand.
    pub elsewhere: u64,
    /// It could run, and did not.
    pub stolen: u64,
    /// How often a CPU was given to it.
    pub switches: u64,
    /// Frames it has.
    pub frames: u64,
    /// The most it had.
    pub frames_peak: u64,
    /// Frames times cycles.
    pub frame_cycles: Wide,
    /// The hypervisor's frames because of it.
    pub overhead: u64,
    /// The most there were.
    pub overhead_peak: u64,
    /// Those times cycles.
    pub overhead_cycles: Wide,
    /// Events that it sent. This and what follows is left out where it is 0: entries are written in one way only, and
    /// those of before it was counted stay good.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events_sent: u64,
    /// Events that became pending on its ports.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub events_received: u64,
    /// Uses of grants that it began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub grants_used: u64,
    /// Uses of its grants that anybody began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub grants_lent: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Account {
    /// All cycles but the stolen ones.
    pub fn cycles(&self) -> u64 {
        let own = self.user.wrapping_add(self.kernel);
        let all = self.hypervisor.iter();
        all.fold(own, |sum, cycles| sum.wrapping_add(*cycles))
    }

    /// The counters that an entry leaves out.
    pub fn counters_left_out(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let later = [
            ("events_sent", self.events_sent),
            ("events_received", self.events_received),
            ("grants_used", self.grants_used),
            ("grants_lent", self.grants_lent),
        ];
        later.into_iter().filter(|(_, count)| is_zero(count))
    }
}

/// See [`What::Machine`]: cycles of all CPUs since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// CPUs.
    pub cpus: u32,
    /// Cycles a second.
    pub hz: u64,
    /// All that passed.
    pub elapsed: u64,
    /// Nobody had anything to do.
    pub idle: u64,
    /// The hypervisor's own work.
    pub own: u64,
    /// For domains.
    pub sold: u64,
    /// Of that, for domains that are there.
    pub held: u64,
    /// For domains that are gone.
    pub departed: u64,
}

/// See [`What::Gap`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// From when on, as [`Record::t`].
    pub since: u64,
    /// Why.
    pub why: String,
}

/// See [`What::Missed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// The first of them among those that are gone.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// See [`What::Pruned`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The last entry that is removed, with all before it; the next is the first of a file.
    pub last: u64,
    /// Its hash: who kept what was removed can hold it against this.
    pub hash: Hash,
    /// Whether somebody asked for it; else the record had become longer than is kept.
    pub asked: bool,
    /// How many things were wrong with all that was removed up to there, as `verify` counts them.
    pub faults: u64,
}

/// What is signed about an entry: a line of text.
pub fn statement(n: u64, hash: &Hash) -> String {
    format!("xeno-ledger {VERSION} {n} {hash}\n")
}

/// Why a line is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// It does not look like one.
    #[error("it is no entry: {0}")]
    Form(String),
    /// It does, and was not signed with this key.
    #[error("its signature is not by this key")]
    Signature,
}

/// An entry as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub record: Record,
    /// Its hash.
    pub hash: Hash,
}

impl Record {
    /// The line for it, with its newline, and its hash.
    ///
    /// # Errors
    /// Never, of what this crate makes.
    pub fn to_line(&self, key: &SecretKey) -> Result<(Vec<u8>, Hash), serde_json::Error> {
        let object = serde_json::to_vec(self)?;
        let hash = Hash::of(&object);
        let signature = key.sign(statement(self.n, &hash).as_bytes());
        let mut line = to_hex(&signature).into_bytes();
        line.push(b' ');
        line.extend(object);
        line.push(b'\n');
        Ok((line, hash))
    }
}

/// Reads a line, without its newline.
///
/// # Errors
/// Why it is no entry, or not one signed with this key.
pub fn read_line(line: &[u8], key: &PublicKey) -> Result<Entry, BadLine> {
    let (entry, signature) = split(line)?;
    let said = statement(entry.record.n, &entry.hash);
    match key.verifies(said.as_bytes(), &signature) {
        true => Ok(entry),
        false => Err(BadLine::Signature),
    }
}

/// As [`read_line`], without looking at the signature.
///
/// # Errors
/// As [`read_line`].
pub fn split(line: &[u8]) -> Result<(Entry, [u8; SIGNATURE_HEX / 2]), BadLine> {
    let form = |what: &str| BadLine::Form(what.to_owned());
    let (signature, rest) = line
        .split_at_checked(SIGNATURE_HEX)
        .ok_or_else(|| form("it is too short"))?;
    let signature = std::str::from_utf8(signature).ok().and_then(from_hex);
    let signature = signature.ok_or_else(|| form("it does not begin with a signature"))?;
    let object = rest
        .strip_prefix(b" ")
        .ok_or_else(|| form("no space follows the signature"))?;
    let record: Record =
        serde_json::from_slice(object).map_err(|error| BadLine::Form(error.to_string()))?;
    if record.v != VERSION {
        return Err(BadLine::Form(format!("its version is {}", record.v)));
    }
    // L3.
    if serde_json::to_vec(&record).ok().as_deref() != Some(object) {
        return Err(form("it is not written as entries are"));
    }
    let hash = Hash::of(object);
    Ok((Entry { record, hash }, signature))
}
