//! What guests wrote, kept: in memory for those who watch, and in a file for the next process.
//!
//! The file is eight bytes that name its form, the offset of its first byte of text among all there ever was (u64),
//! the offset at which the present ring began (u64), and the text. A write that a kill cut short leaves a shorter
//! text, which is still a true one (C1).

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes of text kept for each guest.
pub const KEPT_BYTES: usize = 128 << 10;

const FORM: &[u8; 8] = b"xenocon1";
const HEAD_BYTES: usize = 24;

/// The last bytes of a text that only grows.
#[derive(Debug, Default)]
pub struct Kept {
    /// The offset behind the last byte.
    end: u64,
    bytes: VecDeque<u8>,
}

/// A piece of what is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// Bytes that were asked for and are not kept any more.
    pub missed: u64,
    /// The bytes behind them.
    pub bytes: Vec<u8>,
    /// The offset to ask for next.
    pub next: u64,
}

impl Kept {
    /// The offset behind the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The offset of the first byte that is still kept.
    pub fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// At most `most` bytes from the offset `from` on.
    pub fn read(&self, from: u64, most: usize) -> Piece {
        let at = from.clamp(self.start(), self.end);
        let skip = (at - self.start()) as usize;
        let bytes: Vec<u8> = self.bytes.iter().skip(skip).take(most).copied().collect();
        Piece {
            missed: at.saturating_sub(from),
            next: at + bytes.len() as u64,
            bytes,
        }
    }

    /// The last whole lines, at most `most` of them, for a message.
    pub fn last_lines(&self, most: usize) -> Vec<String> {
        let text: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(most))
            .map(|line| line.chars().filter(|c| !c.is_control()).collect())
            .collect()
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend(text);
        self.end += text.len() as u64;
        let over = self.bytes.len().saturating_sub(KEPT_BYTES);
        self.bytes.drain(..over);
    }
}

/// The file.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    file: File,
    start: u64,
    text_bytes: u64,
    /// Where the present ring's index 0 is.
    ring_base: u64,
}

impl KeptFile {
    /// Opens the file at `path`, or makes it. Answers it and the last of what is in it.
    pub fn open(path: &Path) -> io::Result<(Self, Kept)> {
        let (start, ring_base, text) = match File::open(path) {
            Ok(mut file) => {
                let mut contents = Vec::new();
                file.read_to_end(&mut contents)?;
                parse(&contents).unwrap_or_default()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        let mut kept = Kept {
            end: start,
            bytes: VecDeque::new(),
        };
        kept.push(&text);
        let file = Self::write_anew(path, &kept, ring_base)?;
        Ok((file, kept))
    }

    /// How far the ring was read: its index behind the last byte that is kept.
    pub fn ring_index(&self) -> u32 {
        // Indexes run freely in 32 bits.
        (self.start + self.text_bytes).wrapping_sub(self.ring_base) as u32
    }

    /// Keeps what came from the ring, in the file first.
    pub fn append(&mut self, text: &[u8], kept: &Mutex<Kept>) -> io::Result<()> {
        let written = self.file.write_all(text);
        self.text_bytes += text.len() as u64;
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(text);
        written?;
        if self.text_bytes > 2 * KEPT_BYTES as u64 {
            *self = Self::write_anew(&self.path, &kept, self.ring_base)?;
        }
        Ok(())
    }

    /// Keeps words that did not come from the ring.
    pub fn note(&mut self, words: &[u8], kept: &Mutex<Kept>) -> io::Result<()> {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(words);
        let ring_base = self.ring_base.wrapping_add(words.len() as u64);
        *self = Self::write_anew(&self.path, &kept, ring_base)?;
        Ok(())
    }

    /// From here on what is kept comes from a ring whose index is `index` now.
    pub fn begin_ring(&mut self, index: u32, kept: &Mutex<Kept>) -> io::Result<()> {
        let kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        let ring_base = kept.end().wrapping_sub(u64::from(index));
        *self = Self::write_anew(&self.path, &kept, ring_base)?;
        Ok(())
    }

    /// From here on nothing can be written.
    #[cfg(test)]
    pub fn fill_the_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }

    fn write_anew(path: &Path, kept: &Kept, ring_base: u64) -> io::Result<Self> {
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        let (front, back) = kept.bytes.as_slices();
        let (start, base) = (kept.start().to_le_bytes(), ring_base.to_le_bytes());
        file.write_all(&[FORM.as_slice(), &start, &base, front, back].concat())?;
        std::fs::rename(&fresh, path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            start: kept.start(),
            text_bytes: kept.bytes.len() as u64,
            ring_base,
        })
    }
}

/// Offset of the first byte, offset of the ring's beginning, and the text. `None` if it is no such file.
fn parse(contents: &[u8]) -> Option<(u64, u64, Vec<u8>)> {
    let (head, text) = contents.split_at_checked(HEAD_BYTES)?;
    let (start, base) = head.strip_prefix(FORM)?.split_first_chunk()?;
    Some((
        u64::from_le_bytes(*start),
        u64::from_le_bytes(*base.first_chunk()?),
        text.to_vec(),
    ))
}
