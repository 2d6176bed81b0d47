//! Copies from files and memory into pages of the domain, many pages to a mapping.

use crate::memory::Memory;
use crate::{BATCH_PAGES, BuildError, PAGE};
use std::fs::File;
use std::io;
use xen::{Hypervisor, Mapping};

/// Where bytes come from.
pub(crate) enum Source<'a> {
    File(&'a File),
    Memory(&'a [u8]),
}

impl Source<'_> {
    fn copy(&self, from: u64, len: usize, to: &Mapping, at: usize) -> io::Result<()> {
        match self {
            Source::File(file) => to.read_file(at, file, from, len),
            Source::Memory(bytes) => {
                let bytes = usize::try_from(from)
                    .ok()
                    .and_then(|from| bytes.get(from..)?.get(..len))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                to.write(at, bytes);
                Ok(())
            }
        }
    }
}

/// A piece to be copied, from a page's start on.
struct Piece {
    /// Its place in the mapping.
    at: usize,
    from: u64,
    len: usize,
}

/// Pieces that wait for a full mapping.
pub(crate) struct Batch<'a> {
    hypervisor: &'a dyn Hypervisor,
    memory: &'a Memory,
    source: Source<'a>,
    /// How to tell of a source that cannot be read.
    unreadable: &'a dyn Fn(io::Error) -> BuildError,
    frames: Vec<u64>,
    pieces: Vec<Piece>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        hypervisor: &'a dyn Hypervisor,
        memory: &'a Memory,
        source: Source<'a>,
        unreadable: &'a dyn Fn(io::Error) -> BuildError,
    ) -> Batch<'a> {
        Batch {
            hypervisor,
            memory,
            source,
            unreadable,
            frames: Vec::with_capacity(BATCH_PAGES),
            pieces: Vec::new(),
        }
    }

    /// Copies `len` bytes from `from` in the source to the pages from `pfn` on, now or with [`Batch::finish`].
    pub(crate) fn add(&mut self, pfn: u64, from: u64, len: u64) -> Result<(), BuildError> {
        let mut done = 0;
        while done < len {
            let room = (BATCH_PAGES - self.frames.len()) as u64 * PAGE;
            let now = (len - done).min(room);
            self.pieces.push(Piece {
                at: self.frames.len() * PAGE as usize,
                from: from + done,
                len: now as usize,
            });
            let pages = now.div_ceil(PAGE) as usize;
            let frames = self.memory.frames(pfn + done / PAGE).take(pages);
            self.frames.extend(frames);
            done += now;
            if self.frames.len() == BATCH_PAGES {
                self.finish()?;
            }
        }
        Ok(())
    }

    /// Copies what waits.
    pub(crate) fn finish(&mut self) -> Result<(), BuildError> {
        if self.frames.is_empty() {
            return Ok(());
        }
        let mapping = self.memory.map(self.hypervisor, &self.frames)?;
        for piece in self.pieces.drain(..) {
            self.source
                .copy(piece.from, piece.len, &mapping, piece.at)
                .map_err(self.unreadable)?;
        }
        self.frames.clear();
        Ok(())
    }
}
