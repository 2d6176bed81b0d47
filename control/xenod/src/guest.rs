//! A guest as the daemon holds it: what others see of it, and how they ask something of it.
//!
//! One task owns a guest's life (`task`). Others enqueue an order and wait for its answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use xen::{DomId, Port};
use xeno_api::{Error, Kind, Rate, Reservation, Size, StopReason};

use crate::console::Console;
use crate::state::Record;
use crate::uuid::Uuid;

/// Something to be done with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop its vCPUs.
    Pause,
    /// Let them run.
    Unpause,
    /// Ask its kernel to power off or reboot; answered then, or after it has, within so long.
    Stop {
        /// Which of the two.
        reboot: bool,
        /// How long to wait.
        wait: Option<Duration>,
    },
    /// End it now.
    Destroy,
    /// Change how much memory it has.
    SetMemory(Size),
    /// Change how many vCPUs it has on line.
    SetVcpus(u32),
    /// Change what CPU time it has reserved.
    SetCpu(Reservation),
    /// Change what it may reserve for itself.
    AllowCpu(Rate),
}

/// A guest that was asked to stop is asked again.
#[derive(Clone, Copy, Debug)]
pub struct Again {
    /// When.
    pub next: Instant,
    /// When there is no point any more.
    pub end: Instant,
    /// When what it does is not taken for what it was asked any more.
    pub forget: Instant,
}

/// What became of an order: for [`Order::Destroy`], whether the domain lingers.
pub type Outcome = Result<bool, Error>;

/// An order and where its outcome goes.
pub struct Mail {
    /// What.
    pub order: Order,
    /// Where to.
    pub answer: oneshot::Sender<Outcome>,
}

/// Orders that may wait for a guest.
pub const ORDERS: usize = 64;

/// A guest.
pub struct Guest {
    /// Its handle.
    pub uuid: Uuid,
    /// What is in the state directory about it.
    pub record: RefCell<Record>,
    /// Its console.
    pub console: RefCell<Console>,
    /// Our end of its console's event channel.
    pub console_port: Cell<Option<Port>>,
    /// It stopped and is kept, for this reason.
    pub stopped: Cell<Option<StopReason>>,
    /// Until when it is asked again, if it did not do it, and when it is next.
    pub again: Cell<Option<Again>>,
    /// Notified when the hypervisor has news of its domain.
    pub news: Notify,
    /// Where orders go.
    pub orders: mpsc::Sender<Mail>,
}

impl Guest {
    /// A guest and the place where its orders arrive.
    pub fn new(record: Record, console: Console) -> (Rc<Self>, mpsc::Receiver<Mail>) {
        let (orders, mailbox) = mpsc::channel(ORDERS);
        let guest = Self {
            uuid: record.uuid,
            record: RefCell::new(record),
            console: RefCell::new(console),
            console_port: Cell::new(None),
            stopped: Cell::new(None),
            again: Cell::new(None),
            news: Notify::new(),
            orders,
        };
        (Rc::new(guest), mailbox)
    }

    /// What it is called.
    pub fn name(&self) -> String {
        self.record.borrow().guest.name.to_string()
    }

    /// Its domain, while there is one.
    pub fn domain(&self) -> Option<DomId> {
        self.record.borrow().built.map(|built| built.domain)
    }

    /// Has an order carried out.
    ///
    /// # Errors
    /// What became of it.
    pub async fn order(&self, order: Order) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let ended = || {
            let name = self.name();
            Error::new(Kind::NotFound, format!("{name} has just ended"))
        };
        match self.orders.try_send(Mail { order, answer }) {
            Ok(()) => outcome.await.map_err(|_| ended())?,
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ended()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Error::new(
                Kind::Busy,
                format!("too much is asked of {} at the same time", self.name()),
            )),
        }
    }
}
