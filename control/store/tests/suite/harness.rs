//! A machine with pages in memory, and clients that speak the protocol to a service on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;
use store::{ClientId, DomId, Errno, Limits, Machine, Page, Recovery, Service};

pub use crate::guest::*;

pub type Memory = Rc<RefCell<Vec<u8>>>;

/// How many more writes to pages and signals happen before the process dies; `None`: it lives.
pub type Fuse = Rc<Cell<Option<u32>>>;

/// What the panic says by which a test kills the service.
pub const KILLED: &str = "killed by the test";

pub struct TestPage {
    memory: Memory,
    fuse: Fuse,
}

impl TestPage {
    fn burn(&self) {
        if let Some(left) = self.fuse.get() {
            if left == 0 {
                std::panic::panic_any(KILLED);
            }
            self.fuse.set(Some(left - 1));
        }
    }
}

impl Page for TestPage {
    fn load(&self, offset: usize) -> u32 {
        word(&self.memory, offset)
    }

    fn store(&mut self, offset: usize, value: u32) {
        self.burn();
        if offset == REQ_CONS {
            // The domain reuses the room at once, as another CPU may.
            let read = word(&self.memory, REQ_CONS);
            for at in 0..value.wrapping_sub(read).min(1_024) {
                self.memory.borrow_mut()[read.wrapping_add(at) as usize % 1_024] = 0xee;
            }
        }
        set_word(&self.memory, offset, value);
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.memory.borrow()[offset..offset + into.len()]);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.burn();
        self.memory.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}

pub fn word(memory: &Memory, offset: usize) -> u32 {
    u32::from_le_bytes(memory.borrow()[offset..offset + 4].try_into().unwrap())
}

pub fn set_word(memory: &Memory, offset: usize, value: u32) {
    memory.borrow_mut()[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

/// The machine: its pages outlive the service.
#[derive(Clone, Default)]
pub struct Board {
    pub pages: Rc<RefCell<BTreeMap<DomId, Memory>>>,
    pub fuse: Fuse,
    pub log: Rc<RefCell<Vec<String>>>,
}

impl Machine for Board {
    type Page = TestPage;

    fn map(&mut self, domid: DomId, _gfn: u64, _port: u32) -> Result<TestPage, Errno> {
        let memory = self
            .pages
            .borrow()
            .get(&domid)
            .cloned()
            .ok_or(Errno::Einval)?;
        Ok(TestPage {
            memory,
            fuse: Rc::clone(&self.fuse),
        })
    }

    fn unmap(&mut self, _domid: DomId) {}

    fn notify(&mut self, domid: DomId) {
        if let Ok(page) = self.map(domid, 0, 0) {
            page.burn();
        }
    }

    fn log(&mut self, line: &str) {
        self.log.borrow_mut().push(line.to_owned());
    }
}

/// A service on a board, and the control domain's socket to it.
pub struct World {
    pub board: Board,
    pub service: Service<Board>,
    pub control: ClientId,
    journal: Option<PathBuf>,
    next_request: u32,
}

/// What an answer says: its payload, or the name of the error.
pub type Answer = Result<Vec<u8>, String>;

impl World {
    pub fn new() -> Self {
        Self::start(Board::default(), None, Limits::default()).0
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self::start(Board::default(), None, limits).0
    }

    pub fn with_journal(path: PathBuf) -> Self {
        Self::start(Board::default(), Some(path), Limits::default()).0
    }

    fn start(board: Board, journal: Option<PathBuf>, limits: Limits) -> (Self, Recovery) {
        let (mut service, recovery) =
            Service::start(limits, journal.as_deref(), board.clone()).unwrap();
        let control = service.connect();
        (
            Self {
                board,
                service,
                control,
                journal,
                next_request: 0,
            },
            recovery,
        )
    }

    /// Drops the service as it is and starts another from the journal.
    pub fn restart(self) -> (Self, Recovery) {
        let Self {
            board,
            service,
            journal,
            ..
        } = self;
        drop(service);
        board.fuse.set(None);
        Self::start(board, journal, Limits::default())
    }

    /// A domain with a ring, introduced, owner of its own node.
    pub fn guest(&mut self, domid: DomId) -> Guest {
        let guest = self.bare_guest(domid);
        let home = format!("/local/domain/{domid}\0");
        assert_eq!(self.ask(Op::Mkdir, home.as_bytes()), ok());
        assert_eq!(
            self.ask(Op::SetPerms, format!("{home}n{domid}\0").as_bytes()),
            ok()
        );
        guest
    }

    /// A domain with a ring, introduced.
    pub fn bare_guest(&mut self, domid: DomId) -> Guest {
        let memory = Rc::new(RefCell::new(vec![0xaa; 4096]));
        // A ring need not start at zero, and this one wraps early.
        for offset in [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD] {
            set_word(&memory, offset, u32::MAX - 700);
        }
        set_word(&memory, CONNECTION, 0);
        self.board
            .pages
            .borrow_mut()
            .insert(domid, Rc::clone(&memory));
        let introduce = format!("{domid}\x00100\x007\0");
        assert_eq!(self.ask(Op::Introduce, introduce.as_bytes()), ok());
        Guest {
            domid,
            memory,
            next_request: 0,
            inbox: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The control domain's request.
    pub fn ask(&mut self, op: Op, payload: &[u8]) -> Answer {
        self.ask_in(op, 0, payload)
    }

    pub fn ask_in(&mut self, op: Op, tx: u32, payload: &[u8]) -> Answer {
        self.ask_as(self.control, op, tx, payload)
    }

    pub fn ask_as(&mut self, client: ClientId, op: Op, tx: u32, payload: &[u8]) -> Answer {
        self.next_request += 1;
        let mut input = message(op.number(), self.next_request, tx, payload);
        self.service.feed(client, &mut input, 1).unwrap().unwrap();
        assert!(input.is_empty(), "a request was not taken");
        let mut output = self.service.take_output(client, usize::MAX);
        let messages = split(&mut output);
        let answers: Vec<_> = messages
            .into_iter()
            .filter(|message| message.kind != Op::WatchEvent.number())
            .collect();
        let [answer] = &answers[..] else {
            panic!("{} answers", answers.len())
        };
        assert_eq!((answer.req_id, answer.tx_id), (self.next_request, tx));
        answer.outcome(op)
    }

    /// Everything below `/`: path, value, entries.
    pub fn dump(&mut self) -> Vec<(String, Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut below = vec!["/".to_owned()];
        while let Some(path) = below.pop() {
            let named = [path.as_bytes(), b"\0"].concat();
            let value = self.ask(Op::Read, &named).unwrap();
            let perms = self.ask(Op::GetPerms, &named).unwrap();
            for name in strings(&self.ask(Op::Directory, &named).unwrap()) {
                below.push(if path == "/" {
                    format!("/{name}")
                } else {
                    format!("{path}/{name}")
                });
            }
            found.push((path, value, perms));
        }
        found.sort();
        found
    }

    /// The store's own check of its sums.
    pub fn check(&mut self) {
        assert_eq!(self.ask(Op::Control, b"check\0"), Ok(b"OK\0".to_vec()));
    }
}

/// A file for a journal, removed with the value. Where there is a file system in memory it is there, as the daemon's
/// is: a disk's waits for the disk when a file is replaced.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(name: &str) -> Self {
        let memory = PathBuf::from("/dev/shm");
        let directory = if memory.is_dir() {
            memory
        } else {
            env!("CARGO_TARGET_TMPDIR").into()
        };
        let path = directory.join(format!("store-{name}-{}", std::process::id()));
        let _there_was_none = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}
