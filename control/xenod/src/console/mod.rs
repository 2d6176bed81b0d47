//! Guests' consoles: the ring in a shared page, and what came out of it, kept whether or not anybody watches.
//!
//! # Invariants
//! - C1: each byte that a guest published is kept exactly once, whenever the process is killed. It is in the file
//!   before the ring's index moves, and the file's length says up to which index the ring was read.
//! - C2: what is kept of a guest is bounded: [`kept::KEPT_BYTES`] in memory, about twice that in the file.
//! - C3: the guest writes the page while we look. Its two indexes are read once and checked; our own two are never
//!   read back while the process lives. An index that makes no sense ends that guest's console and nothing else.
//! - C4: who watches holds a place in what is kept and nothing else, so a watcher that does not read costs nothing:
//!   what it missed is told to it as a number of bytes.

pub mod kept;
mod ring;

pub use ring::{Ring, RingFault};

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store::Page;
use tokio::sync::watch;

use kept::{Kept, KeptFile};

/// Bytes typed that wait for room in the ring. More are not taken.
const TYPED_BYTES: usize = 4 << 10;

/// What sessions see of a console: they read what is kept at their own pace, and hear when there is more.
#[derive(Clone, Debug)]
pub struct Screen {
    kept: Arc<Mutex<Kept>>,
    /// The offset behind the last byte, and whether more can come.
    news: watch::Receiver<News>,
}

/// How far a console is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The offset behind the last byte.
    pub end: u64,
    /// Nothing more comes: the guest is gone.
    pub closed: bool,
}

impl Screen {
    /// What is kept.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes were printed, and how many watch.
    pub fn measure(&self) -> (u64, u32) {
        // The console itself holds one, and so does whoever asks.
        let watchers = Arc::strong_count(&self.kept).saturating_sub(2);
        (
            self.kept().end(),
            u32::try_from(watchers).unwrap_or(u32::MAX),
        )
    }

    /// To be told of more.
    pub fn news(&self) -> watch::Receiver<News> {
        self.news.clone()
    }
}

/// A guest's console.
pub struct Console {
    ring: Option<(Ring, Box<dyn Page + Send>)>,
    file: KeptFile,
    screen: Screen,
    tell: watch::Sender<News>,
    typed: Vec<u8>,
    /// The file could not be written, and that was told.
    unkept: bool,
}

/// What a look at a console came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whether the guest is to be signalled: something moved in the ring.
    pub signal: bool,
    /// Whether the guest may have written more meanwhile.
    pub more: bool,
}

/// What a guest prints is kept in memory only.
#[derive(Debug)]
pub struct Unkept {
    /// What the look came to all the same.
    pub served: Served,
    /// Why the file was not written.
    pub source: std::io::Error,
}

impl Console {
    /// The console whose text is kept in the file `path`: what is there already, of an earlier process, is taken up.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let (file, kept) = KeptFile::open(path)?;
        let (tell, news) = watch::channel(News {
            end: kept.end(),
            closed: false,
        });
        Ok(Self {
            ring: None,
            file,
            screen: Screen {
                kept: Arc::new(Mutex::new(kept)),
                news,
            },
            tell,
            typed: Vec::new(),
            unkept: false,
        })
    }

    /// Connects the ring in `page` of a guest that ran while no daemon did.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn attach(&mut self, mut page: Box<dyn Page + Send>) -> std::io::Result<()> {
        let ring = Ring::attach(self.file.ring_index(), page.as_mut());
        if ring.out_cons() != self.file.ring_index() {
            self.file.begin_ring(ring.out_cons(), &self.screen.kept)?;
        }
        self.ring = Some((ring, page));
        Ok(())
    }

    /// Connects the ring in `page` of a guest that was just built.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn attach_fresh(&mut self, page: Box<dyn Page + Send>) -> std::io::Result<()> {
        self.file.begin_ring(0, &self.screen.kept)?;
        self.attach(page)
    }

    /// Says something to those who watch, now or later.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note(&mut self, words: &str) -> std::io::Result<()> {
        let words = format!("\r\n[xenod: {words}]\r\n");
        self.file.note(words.as_bytes(), &self.screen.kept)?;
        self.tell_end();
        Ok(())
    }

    /// Whether a ring is connected.
    pub fn attached(&self) -> bool {
        self.ring.is_some()
    }

    /// Lets go of the ring's page. What is kept stays.
    pub fn detach(&mut self) {
        self.ring = None;
        self.typed.clear();
    }

    /// Tells those who watch that nothing more comes.
    pub fn close(&mut self) {
        self.detach();
        self.tell.send_modify(|news| news.closed = true);
    }

    /// For a session that watches.
    pub fn screen(&self) -> Screen {
        self.screen.clone()
    }

    /// Takes what the guest wrote, once around the ring at most, and gives it what was typed.
    ///
    /// # Errors
    /// When the file cannot be written for the first time since it could. The text is kept in memory all the same, and
    /// the ring moves on: a guest does not stop because the control domain's disk is full.
    pub fn serve(&mut self) -> Result<Served, Unkept> {
        let nothing = Served {
            signal: false,
            more: false,
        };
        let Some((ring, page)) = &mut self.ring else {
            return Ok(nothing);
        };
        let page = page.as_mut();
        let (mut served, mut outcome) = (nothing, Ok(()));
        match ring.written(page) {
            Ok(text) if text.is_empty() => {}
            Ok(text) => {
                outcome = self.file.append(&text, &self.screen.kept);
                ring.taken(text.len(), page);
                served = Served {
                    signal: true,
                    more: true,
                };
            }
            Err(fault) => {
                let words = format!("\r\n[xenod: {fault}; nothing more is read from it]\r\n");
                outcome = self.file.note(words.as_bytes(), &self.screen.kept);
            }
        }
        let given = ring.give(&self.typed, page);
        self.typed.drain(..given);
        served.signal |= given > 0;
        self.tell_end();
        match outcome {
            Ok(()) => {
                // A look at an empty ring wrote nothing, and says nothing of the file.
                self.unkept &= !served.more;
                Ok(served)
            }
            Err(_) if self.unkept => Ok(served),
            Err(source) => {
                self.unkept = true;
                Err(Unkept { served, source })
            }
        }
    }

    fn tell_end(&mut self) {
        let end = self.screen.kept().end();
        self.tell
            .send_if_modified(|news| std::mem::replace(&mut news.end, end) != end);
    }

    /// Takes what was typed, as much as there is room for; answers how many bytes. `serve` brings them on.
    pub fn type_in(&mut self, bytes: &[u8]) -> usize {
        if self.ring.is_none() {
            return 0;
        }
        let room = TYPED_BYTES - self.typed.len();
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.typed.extend_from_slice(taken);
        taken.len()
    }
}

#[cfg(test)]
mod tests;
