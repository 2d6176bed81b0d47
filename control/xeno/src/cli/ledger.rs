//! `xeno usage` and `xeno ledger` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ledger::record::Head;
use xeno_api::{Size, Target};

/// `xeno usage`.
#[derive(Args, Debug)]
pub struct Usage {
    /// The domains, each in full; without one all, in a table
    pub name: Vec<Target>,
}

/// `xeno ledger`.
#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Find out whether the usage record is whole, and which tail of it nobody can vouch for
    ///
    /// Signatures and hashes tell what was altered or taken out; ring 0, asked directly, and heads that were noted tell
    /// whether the end was cut off or an older copy put in the place of all of it.
    Verify(Verify),
    /// Show what it says
    Show(Show),
    /// Have the daemon remove the oldest files of it
    ///
    /// Whole files go, the oldest first, and the record says up to where, with the hash of the last entry that goes: so `verify`
    /// tells them from files that others removed. Copy away before what is to be kept elsewhere.
    Prune(Prune),
    /// Print the public key that its entries are signed with
    Key {
        /// Where it is.
        #[command(flatten)]
        files: Files,
    },
    /// Print how long it is and the hash of its last entry: note it, for `verify --head`
    Head {
        /// Where it is.
        #[command(flatten)]
        files: Files,
    },
}

/// Where the record is.
#[derive(Args, Debug)]
pub struct Files {
    /// The daemon's state directory
    #[arg(long, value_name = "DIR", default_value = "/var/lib/xeno")]
    pub state: PathBuf,
    /// The record's directory [default: ledger in the state directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// One file of it, or several, instead; the first entry there need not be entry 1
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    pub file: Vec<PathBuf>,
    /// The public key, or a file that holds it [default: ledger.pub in the state directory]
    #[arg(long, value_name = "KEY|FILE")]
    pub key: Option<String>,
}

/// `xeno ledger verify`.
#[derive(Args, Debug)]
pub struct Verify {
    /// Where it is.
    #[command(flatten)]
    pub files: Files,
    /// The first entry there has to be: those before were put away
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub first: u64,
    /// A head that was noted. May be given again
    #[arg(long, value_name = "N:HASH", value_parser = head)]
    pub head: Vec<Head>,
    /// Do not ask ring 0: the record is another machine's, or of another time
    #[arg(long)]
    pub offline: bool,
}

/// `xeno ledger prune`.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct Prune {
    /// Files go that hold only entries before this one
    #[arg(long, value_name = "N")]
    pub before: Option<u64>,
    /// Files go until all together have no more than this, such as 512M
    #[arg(long, value_name = "SIZE")]
    pub keep: Option<Size>,
}

/// `xeno ledger show`.
#[derive(Args, Debug)]
pub struct Show {
    /// Where it is.
    #[command(flatten)]
    pub files: Files,
    /// At most so many entries, the last
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Only entries of this domain: its name, number or UUID
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
}

/// Reads `N:HASH`.
fn head(text: &str) -> Result<Head, String> {
    let wrong = || "expected N:HASH, as `xeno ledger head` prints it".to_owned();
    let (n, hash) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Head {
        n: n.parse().map_err(|_| wrong())?,
        hash: hash.parse().map_err(|_| wrong())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        assert_eq!(head(&format!("7:{hash}")).unwrap().n, 7);
        for text in ["", "7", "7:", ":ab", "-1:ab", &format!("7:{hash}0")] {
            assert!(head(text).is_err(), "{text}");
        }
    }
}
