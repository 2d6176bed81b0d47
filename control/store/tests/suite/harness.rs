//! A machine with pages in memory, and clients that speak the protocol to a service on it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use guest_abi::xenstore::XsdMessage as Op;
use store::wire::message;
use store::{ClientId, DomId, Errno, Limits, Machine, Page, Pumped, Recovery, Service};

pub type Memory = Rc<RefCell<Vec<u8>>>;

/// How many more writes to pages happen before the process dies; `None`: it lives.
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

    fn notify(&mut self, _domid: DomId) {}

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

pub const REQ_CONS: usize = 2048;
pub const REQ_PROD: usize = 2052;
pub const RSP_CONS: usize = 2056;
pub const RSP_PROD: usize = 2060;
pub const FEATURES: usize = 2064;
pub const CONNECTION: usize = 2068;
pub const ERROR: usize = 2072;

#[derive(Debug)]
pub struct Message {
    pub kind: u32,
    pub req_id: u32,
    pub tx_id: u32,
    pub payload: Vec<u8>,
}

impl Message {
    pub fn outcome(&self, op: Op) -> Answer {
        if self.kind == Op::Error.number() {
            return Err(strings(&self.payload).remove(0));
        }
        assert_eq!(self.kind, op.number());
        Ok(self.payload.clone())
    }
}

/// The whole messages at the front, taken out.
pub fn split(bytes: &mut Vec<u8>) -> Vec<Message> {
    let mut messages = Vec::new();
    while bytes.len() >= 16 {
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let end = 16 + field(12) as usize;
        if bytes.len() < end {
            break;
        }
        let payload = bytes[16..end].to_vec();
        messages.push(Message {
            kind: field(0),
            req_id: field(4),
            tx_id: field(8),
            payload,
        });
        bytes.drain(..end);
    }
    messages
}

pub fn strings(payload: &[u8]) -> Vec<String> {
    let mut parts: Vec<String> = payload
        .split(|byte| *byte == 0)
        .map(|part| String::from_utf8(part.to_vec()).unwrap())
        .collect();
    parts.pop();
    parts
}

pub fn ok() -> Answer {
    Ok(b"OK\0".to_vec())
}

pub fn error(name: &str) -> Answer {
    Err(name.to_owned())
}

/// A domain's kernel: the other side of a ring.
pub struct Guest {
    pub domid: DomId,
    pub memory: Memory,
    pub next_request: u32,
    pub inbox: Vec<u8>,
    pub events: Vec<(String, String)>,
}

impl Guest {
    /// Writes as much as there is room for; answers how much that was.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let prod = word(&self.memory, REQ_PROD);
        let room = 1024 - prod.wrapping_sub(word(&self.memory, REQ_CONS)) as usize;
        let bytes = &bytes[..bytes.len().min(room)];
        for (at, byte) in bytes.iter().enumerate() {
            self.memory.borrow_mut()[prod.wrapping_add(at as u32) as usize % 1024] = *byte;
        }
        set_word(
            &self.memory,
            REQ_PROD,
            prod.wrapping_add(bytes.len() as u32),
        );
        bytes.len()
    }

    /// Reads all there is; answers how much that was.
    pub fn read(&mut self) -> usize {
        let (cons, prod) = (word(&self.memory, RSP_CONS), word(&self.memory, RSP_PROD));
        let count = prod.wrapping_sub(cons);
        for at in 0..count {
            let byte = self.memory.borrow()[1024 + cons.wrapping_add(at) as usize % 1024];
            self.inbox.push(byte);
        }
        set_word(&self.memory, RSP_CONS, prod);
        count as usize
    }

    /// Sends a request and reads until its answer is there. Events on the way are kept.
    pub fn ask(&mut self, world: &mut World, op: Op, payload: &[u8]) -> Answer {
        self.ask_in(world, op, 0, payload)
    }

    pub fn ask_in(&mut self, world: &mut World, op: Op, tx: u32, payload: &[u8]) -> Answer {
        self.next_request += 1;
        let bytes = message(op.number(), self.next_request, tx, payload);
        let mut sent = 0;
        for _ in 0..1_000 {
            sent += self.write(&bytes[sent..]);
            assert!(
                !matches!(
                    world.service.pump(self.domid, 4).unwrap(),
                    Pumped::Faulty(_)
                ),
                "the ring is dead"
            );
            self.read();
            if let Some(answer) = self.answers().pop() {
                assert_eq!((answer.req_id, answer.tx_id), (self.next_request, tx));
                return answer.outcome(op);
            }
        }
        panic!("no answer to {op:?}");
    }

    /// The answers that came; events are put aside.
    pub fn answers(&mut self) -> Vec<Message> {
        let mut answers = Vec::new();
        for message in split(&mut self.inbox) {
            if message.kind == Op::WatchEvent.number() {
                assert_eq!((message.req_id, message.tx_id), (0, 0));
                let parts = strings(&message.payload);
                self.events.push((parts[0].clone(), parts[1].clone()));
            } else {
                answers.push(message);
            }
        }
        answers
    }

    /// All events since the last call.
    pub fn events(&mut self, world: &mut World) -> Vec<(String, String)> {
        loop {
            world.service.pump(self.domid, 4).unwrap();
            if self.read() == 0 {
                break;
            }
        }
        assert!(self.answers().is_empty(), "an answer to nothing");
        std::mem::take(&mut self.events)
    }

    /// Begins a transaction.
    pub fn begin(&mut self, world: &mut World) -> u32 {
        strings(&self.ask(world, Op::TransactionStart, b"\0").unwrap())
            .remove(0)
            .parse()
            .unwrap()
    }
}

/// A file for a journal, removed with the value.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(name: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = directory.join(format!("{name}-{}", std::process::id()));
        let _there_was_none = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}
