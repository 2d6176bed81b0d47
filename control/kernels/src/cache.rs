//! Unpacked kernels by what is in them.

use crate::entry::{self, Hash, Unusable};
use crate::{Kernel, KernelError};
use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The largest file that is read: no kernel is packed to so many bytes.
const MAX_FILE: u64 = image::MAX_KERNEL_LEN;
/// How long a file must have been left alone for its hash to be remembered: longer than any file system's clock tick.
const SETTLED: Duration = Duration::from_secs(2);
/// How old a half-written entry is before somebody else clears it away.
const ABANDONED: Duration = Duration::from_secs(3600);
const SUFFIX: &str = ".kernel";
const UNFINISHED: &str = ".tmp";

/// A directory of unpacked kernels, each under the BLAKE3 hash of the file it came from.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    limit: u64,
    /// Hashes of files that have not changed since.
    known: Mutex<HashMap<PathBuf, (Stamp, Hash)>>,
    /// Makes names of unfinished entries different.
    written: AtomicU64,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether the file has been left alone long enough that another change would show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let (seconds, _) = self.changed;
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or(0));
        now.duration_since(changed)
            .is_ok_and(|since| since > SETTLED)
    }
}

impl Cache {
    /// Bytes that the cache may hold unless others are chosen.
    pub const DEFAULT_LIMIT: u64 = 256 << 20;

    /// A cache in `dir`, which is made when it is needed, of at most `limit` bytes.
    pub fn new(dir: &Path, limit: u64) -> Cache {
        Cache {
            dir: dir.to_owned(),
            limit,
            known: Mutex::new(HashMap::new()),
            written: AtomicU64::new(0),
        }
    }

    /// The kernel in a file, from the cache if it is there.
    ///
    /// # Errors
    /// [`KernelError`] if the file is not a kernel for us. That the cache cannot be used is no error (K3).
    pub fn kernel(&self, path: &Path) -> Result<Kernel, KernelError> {
        let unreadable = |source| KernelError::Unreadable {
            path: path.to_owned(),
            source,
        };
        // Before it is opened, which waits if it is a pipe that nobody writes to.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(KernelError::NotAFile {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.len() > MAX_FILE {
            return Err(KernelError::TooLarge {
                path: path.to_owned(),
                len: metadata.len(),
            });
        }
        let stamp = Stamp::of(&metadata);
        if let Some(hash) = self.known_hash(path, &stamp)
            && let Some(kernel) = self.find(&hash)
        {
            return Ok(kernel);
        }
        let mut bytes = Vec::with_capacity(metadata.len() as usize);
        // A file that grows meanwhile is cut, and then no kernel.
        (&file)
            .take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        let hash: Hash = *blake3::hash(&bytes).as_bytes();
        if stamp.is_settled(SystemTime::now()) {
            self.known().insert(path.to_owned(), (stamp, hash));
        }
        if let Some(kernel) = self.find(&hash) {
            return Ok(kernel);
        }
        let kernel = Kernel::unpack(bytes).map_err(|source| KernelError::Image {
            path: path.to_owned(),
            source,
        })?;
        // K3: without the cache the next guest waits longer, and that is all.
        let _ = self.add(&hash, &kernel);
        Ok(kernel)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Stamp, Hash)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known_hash(&self, path: &Path, stamp: &Stamp) -> Option<Hash> {
        self.known()
            .get(path)
            .filter(|(then, _)| then == stamp)
            .map(|(_, hash)| *hash)
    }

    fn place(&self, hash: &Hash) -> PathBuf {
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(name + SUFFIX)
    }

    /// The entry of a hash. One that is corrupt is removed.
    fn find(&self, hash: &Hash) -> Option<Kernel> {
        let place = self.place(hash);
        let file = File::open(&place).ok()?;
        // So that it is known when it was last used; it is kept longer for that (K4).
        let _ = file.set_modified(SystemTime::now());
        match entry::read(file, hash) {
            Ok(kernel) => Some(kernel),
            Err(Unusable::Corrupt) => {
                let _ = fs::remove_file(&place);
                None
            }
            Err(Unusable::File) => None,
        }
    }

    /// Puts a kernel in, in one step (K2), and then makes room (K4).
    fn add(&self, hash: &Hash, kernel: &Kernel) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let place = self.place(hash);
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self
            .dir
            .join(format!("{}-{number}{UNFINISHED}", std::process::id()));
        let result = File::create_new(&unfinished)
            .and_then(|file| entry::write(&file, hash, kernel))
            .and_then(|()| fs::rename(&unfinished, &place));
        if result.is_err() {
            let _ = fs::remove_file(&unfinished);
            return result;
        }
        self.make_room(&place)
    }

    /// Removes what is over the limit, oldest use first but never `newest`, and what others left unfinished.
    fn make_room(&self, newest: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        let mut total = 0;
        for item in fs::read_dir(&self.dir)? {
            let path = item?.path();
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let name = path.to_string_lossy();
            let modified = metadata.modified()?;
            if name.ends_with(UNFINISHED) {
                if modified.elapsed().is_ok_and(|age| age > ABANDONED) {
                    fs::remove_file(&path)?;
                }
            } else if name.ends_with(SUFFIX) {
                total += metadata.len();
                entries.push((modified, metadata.len(), path));
            }
        }
        entries.sort();
        for (_, len, path) in entries {
            if total <= self.limit {
                break;
            }
            if path != newest {
                fs::remove_file(&path)?;
                total -= len;
            }
        }
        Ok(())
    }
}
