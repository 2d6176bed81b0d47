//! Where the cycles of one CPU went (invariant S6).
//!
//! Time on a CPU is a chain of intervals between boundaries: guest entered, guest left, vCPU switched,
//! idle begun. At each boundary the interval that ends is added to the account of its cause and to no
//! other, and the next begins at the same tick. So the accounts add up exactly, and none of them is what
//! was left over when the others were taken away.
//!
//! Hypervisor time spent for a vCPU (its hypercall, fault, timer, packet) is that vCPU's. Only what is
//! nobody's doing (start-up, stray interrupts) is the machine's own. Time the firmware steals in system
//! management mode shows in no counter and falls on whoever ran.

use crate::rows::Rows;
use crate::{MAX_VCPUS, VcpuHandle, rows_for};

/// What a CPU was doing for a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Running its applications.
    User,
    /// Running its kernel.
    Kernel,
    /// Running the hypervisor on its behalf.
    Hypervisor,
}

/// Whose an interval is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A vCPU's.
    Vcpu(VcpuHandle, Mode),
    /// The hypervisor's own.
    Machine,
    /// Nobody's: the CPU waits.
    Idle,
}

/// The cycles one vCPU used on one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// In its applications.
    pub user: u64,
    /// In its kernel.
    pub kernel: u64,
    /// In the hypervisor, for it.
    pub hypervisor: u64,
}

impl Account {
    /// Nothing used.
    pub const ZERO: Self = Self {
        user: 0,
        kernel: 0,
        hypervisor: 0,
    };

    /// All of it. Wraps only if accounts of many CPUs over a century are added.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.user
            .wrapping_add(self.kernel)
            .wrapping_add(self.hypervisor)
    }

    /// Adds another account, as of the same vCPU on another CPU.
    pub fn add(&mut self, other: &Self) {
        self.user = self.user.wrapping_add(other.user);
        self.kernel = self.kernel.wrapping_add(other.kernel);
        self.hypervisor = self.hypervisor.wrapping_add(other.hypervisor);
    }
}

/// The storage of as many vCPUs' accounts as there can be.
pub type AccountRows<'a> = Rows<'a, Account, { rows_for::<Account>(MAX_VCPUS) }>;

/// The books of one CPU.
pub struct Ledger<'a> {
    accounts: AccountRows<'a>,
    departed: Account,
    machine: u64,
    idle: u64,
    first: u64,
    last: u64,
    cause: Cause,
    backwards: u64,
}

impl<'a> Ledger<'a> {
    /// Opens the books at `now_tsc`, with the machine itself as the cause of the first interval. There is
    /// an account for every vCPU handle; they are set to zero.
    #[must_use]
    pub fn new(accounts: &'a mut [Account], now_tsc: u64) -> Self {
        accounts.fill(Account::ZERO);
        Self {
            accounts: Rows::new(accounts),
            departed: Account::ZERO,
            machine: 0,
            idle: 0,
            first: now_tsc,
            last: now_tsc,
            cause: Cause::Machine,
            backwards: 0,
        }
    }

    /// Handles there are accounts for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.accounts.len()
    }

    /// Adds a row of accounts, for the handles that follow. False if it cannot be.
    pub fn add_row(&mut self, row: &'a mut [Account]) -> bool {
        row.fill(Account::ZERO);
        self.accounts.add(row)
    }

    /// A boundary: what went on until `now_tsc` is charged to its cause, and `to` begins.
    ///
    /// A time stamp before the last boundary charges nothing and is counted in [`Self::backwards`]; the
    /// interval that begins then begins at the last boundary. A handle without an account is charged to
    /// the machine.
    #[inline]
    pub fn switch(&mut self, now_tsc: u64, to: Cause) {
        let cycles = match now_tsc.checked_sub(self.last) {
            Some(cycles) => {
                self.last = now_tsc;
                cycles
            }
            None => {
                self.backwards = self.backwards.wrapping_add(1);
                0
            }
        };
        let account = match self.cause {
            Cause::Idle => &mut self.idle,
            Cause::Machine => &mut self.machine,
            Cause::Vcpu(vcpu, mode) => match (self.accounts.get_mut(vcpu.index()), mode) {
                (Some(account), Mode::User) => &mut account.user,
                (Some(account), Mode::Kernel) => &mut account.kernel,
                (Some(account), Mode::Hypervisor) => &mut account.hypervisor,
                (None, _) => &mut self.machine,
            },
        };
        // Cannot wrap: all accounts together are the last boundary less the first (S6).
        *account = account.wrapping_add(cycles);
        self.cause = to;
    }

    /// The boundaries of a stretch in a guest, all at once: the hypervisor worked for `vcpu` until `left_tsc`, the
    /// guest then ran for `user` cycles in its applications and the rest in its kernel, and came back at `back_tsc`,
    /// since when the hypervisor works for it again. The same as four calls of [`Self::switch`], and used instead
    /// where time stamps and cause are in that order; otherwise it is those four calls.
    #[inline]
    pub fn guest_ran(&mut self, vcpu: VcpuHandle, left_tsc: u64, user: u64, back_tsc: u64) {
        let worked = left_tsc.wrapping_sub(self.last);
        let ran = back_tsc.wrapping_sub(left_tsc);
        let in_order = self.cause == Cause::Vcpu(vcpu, Mode::Hypervisor)
            && self.last <= left_tsc
            && left_tsc <= back_tsc
            && user <= ran;
        match self.accounts.get_mut(vcpu.index()) {
            Some(account) if in_order => {
                account.hypervisor = account.hypervisor.wrapping_add(worked);
                account.user = account.user.wrapping_add(user);
                account.kernel = account.kernel.wrapping_add(ran.wrapping_sub(user));
                self.last = back_tsc;
            }
            _ => {
                self.switch(left_tsc, Cause::Vcpu(vcpu, Mode::User));
                self.switch(left_tsc.wrapping_add(user), Cause::Vcpu(vcpu, Mode::Kernel));
                self.switch(back_tsc, Cause::Vcpu(vcpu, Mode::Hypervisor));
            }
        }
    }

    /// A boundary that changes nothing: brings the accounts up to date before they are read.
    pub fn settle(&mut self, now_tsc: u64) {
        self.switch(now_tsc, self.cause);
    }

    /// The account of a vCPU up to the last boundary; `None` for a handle without one.
    #[must_use]
    pub fn account(&self, vcpu: VcpuHandle) -> Option<Account> {
        self.accounts.get(vcpu.index()).copied()
    }

    /// Closes the account of a vCPU that is gone and answers what it held, so that its slot can be used
    /// again. The sum of all such stays in [`Self::departed`].
    pub fn close(&mut self, vcpu: VcpuHandle) -> Account {
        let Some(account) = self.accounts.get_mut(vcpu.index()) else {
            return Account::ZERO;
        };
        let closed = core::mem::take(account);
        self.departed.add(&closed);
        closed
    }

    /// What vCPUs used whose accounts are closed.
    #[must_use]
    pub fn departed(&self) -> Account {
        self.departed
    }

    /// Cycles of the hypervisor itself.
    #[must_use]
    pub fn machine(&self) -> u64 {
        self.machine
    }

    /// Cycles in which the CPU waited.
    #[must_use]
    pub fn idle(&self) -> u64 {
        self.idle
    }

    /// The first boundary and the last.
    #[must_use]
    pub fn boundaries(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// Whose the open interval is.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// How many time stamps lay before the boundary they followed.
    #[must_use]
    pub fn backwards(&self) -> u64 {
        self.backwards
    }

    /// All accounts added up. O(accounts): for audits, not for hot paths.
    #[must_use]
    pub fn collect_sum(&self) -> u64 {
        let open = self
            .accounts
            .iter()
            .fold(0_u64, |sum, account| sum.wrapping_add(account.total()));
        open.wrapping_add(self.departed.total())
            .wrapping_add(self.machine)
            .wrapping_add(self.idle)
    }

    /// S6: true unless a cycle was lost or counted twice.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.last.checked_sub(self.first) == Some(self.collect_sum())
    }
}
