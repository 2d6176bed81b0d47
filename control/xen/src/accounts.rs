//! Who used what, and what ring 0 remembers for the usage record: our own hypervisor's operations, which Xen lacks.

use crate::privcmd::Privcmd;
use crate::{DomId, Result, Xen};
use guest_abi::ledger::{LEDGER_HASH, LEDGER_OF_MACHINE, LedgerEnded, LedgerHead};
use guest_abi::usage::{BOOKS_OF_MACHINE, Books, USAGE_BESIDES, USAGE_OF_DOMAIN, Usage};
use guest_abi::xeno::{XENO_INTERFACE_VERSION, XenoCommand};
use guest_abi::{Errno, Hypercall, Wire};

/// Which of a domain's accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them together.
    All,
    /// A vCPU's.
    Vcpu(u32),
    /// What is in no vCPU's.
    Besides,
}

impl Part {
    fn number(self) -> u32 {
        match self {
            Self::All => USAGE_OF_DOMAIN,
            Self::Vcpu(vcpu) => vcpu,
            Self::Besides => USAGE_BESIDES,
        }
    }
}

/// Accounts. Counters are as `docs/accounting.md` has them.
///
/// Each fails with ENOSYS where no accounts are kept, such as on Xen; with ESRCH for a domain that is not there; and with
/// EPERM outside the control domain.
pub trait Accounts {
    /// What a domain used since it began, or a part of it. Memory is told of all together.
    ///
    /// # Errors
    /// See above; EINVAL for a vCPU that it has not got.
    fn usage(&self, domain: DomId, part: Part) -> Result<Usage>;

    /// What became of all CPUs' time.
    ///
    /// # Errors
    /// See above; EBUSY if a CPU did not answer.
    fn books(&self) -> Result<Books>;

    /// How long a chain of the usage record is, and the hash of its last entry: a domain's, or the machine's.
    ///
    /// # Errors
    /// See above.
    fn ledger_head(&self, of: Option<DomId>) -> Result<LedgerHead>;

    /// Has it remembered that a chain has grown from `from` entries to `count`.
    ///
    /// # Errors
    /// EEXIST if it would not be longer, EXDEV if it has not `from` entries, ENOMEM.
    fn ledger_append(
        &self,
        of: Option<DomId>,
        from: u64,
        count: u64,
        head: [u8; LEDGER_HASH],
    ) -> Result<()>;

    /// How many domains are gone, and the account of the first of them from number `index` on that is remembered.
    ///
    /// # Errors
    /// See above.
    fn ended(&self, index: u64) -> Result<(u64, Option<LedgerEnded>)>;
}

/// Makes a call about a structure; what the structure is then.
fn ask<T: Wire>(
    privcmd: &Privcmd,
    doing: &'static str,
    domain: Option<DomId>,
    command: XenoCommand,
    question: &T,
) -> Result<(Result<i64>, T)> {
    let mut buffer = privcmd.buffers.take()?;
    let place = buffer.put(question);
    let arguments = [u64::from(command.number()), place.address, 0, 0, 0];
    let outcome = privcmd.call(doing, domain, Hypercall::XenoOp, arguments);
    Ok((outcome, buffer.get(place)))
}

fn head_of(of: Option<DomId>) -> LedgerHead {
    LedgerHead {
        version: XENO_INTERFACE_VERSION,
        domid: of.unwrap_or(LEDGER_OF_MACHINE),
        ..LedgerHead::ZERO
    }
}

impl Accounts for Xen {
    fn usage(&self, domain: DomId, part: Part) -> Result<Usage> {
        let question = Usage {
            version: XENO_INTERFACE_VERSION,
            domid: domain,
            vcpu: part.number(),
            ..Usage::ZERO
        };
        let doing = "read what it used";
        let command = XenoCommand::Usage;
        let (outcome, answer) = ask(&self.privcmd, doing, Some(domain), command, &question)?;
        outcome.map(|_| answer)
    }

    fn books(&self) -> Result<Books> {
        let question = Books {
            version: XENO_INTERFACE_VERSION,
            cpu: BOOKS_OF_MACHINE,
            ..Books::ZERO
        };
        let doing = "read the books of the CPUs";
        let (outcome, answer) = ask(&self.privcmd, doing, None, XenoCommand::Books, &question)?;
        outcome.map(|_| answer)
    }

    fn ledger_head(&self, of: Option<DomId>) -> Result<LedgerHead> {
        let doing = "read what is remembered of the usage record";
        let command = XenoCommand::LedgerHead;
        let (outcome, answer) = ask(&self.privcmd, doing, of, command, &head_of(of))?;
        outcome.map(|_| answer)
    }

    fn ledger_append(
        &self,
        of: Option<DomId>,
        from: u64,
        count: u64,
        head: [u8; LEDGER_HASH],
    ) -> Result<()> {
        let grown = LedgerHead {
            from,
            count,
            head,
            ..head_of(of)
        };
        let doing = "have the usage record's growth remembered";
        let command = XenoCommand::LedgerAppend;
        let (outcome, _) = ask(&self.privcmd, doing, of, command, &grown)?;
        outcome.map(drop)
    }

    fn ended(&self, index: u64) -> Result<(u64, Option<LedgerEnded>)> {
        let question = LedgerEnded {
            version: XENO_INTERFACE_VERSION,
            index,
            ..LedgerEnded::ZERO
        };
        let doing = "read what domains used that are gone";
        let command = XenoCommand::LedgerEnded;
        let (outcome, answer) = ask(&self.privcmd, doing, None, command, &question)?;
        match outcome {
            Ok(_) => Ok((answer.ended, Some(answer))),
            Err(error) if error.errno() == Some(Errno::NoEnt) => Ok((answer.ended, None)),
            Err(error) => Err(error),
        }
    }
}
