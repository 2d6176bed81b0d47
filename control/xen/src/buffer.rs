//! Memory that hypercalls read and write: pages of `/dev/xen/hypercall`, which stay where they are (X2).
//!
//! The hypervisor walks the page tables as it finds them, and fails with EFAULT where a page is away for a moment, as
//! the kernel may have it with ordinary memory.

use crate::{Error, Mapping, PAGE, Result, sys};
use guest_abi::Wire;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

/// Bytes of a buffer: enough for the largest structure (a vCPU's context) and for lists in reasonable pieces.
pub(crate) const BUFFER: usize = 4 * PAGE;
/// Elements of 8 bytes in the largest list that is passed at once; the rest of the buffer is for the call.
pub(crate) const LIST: usize = 1024;
/// Buffers that are kept for the next call.
const KEPT: usize = 4;

const PATH: &str = "/dev/xen/hypercall";

/// Where buffers come from.
#[derive(Debug)]
pub(crate) struct Buffers {
    device: File,
    free: Mutex<Vec<Mapping>>,
}

/// A buffer, filled from its start on, and given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Buffer<'a> {
    from: &'a Buffers,
    memory: Option<Mapping>,
    used: usize,
}

/// Something in a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    offset: usize,
    /// What the hypervisor is told.
    pub(crate) address: u64,
}

impl Buffers {
    pub(crate) fn open() -> Result<Buffers> {
        let device = crate::open::device(PATH)?;
        Ok(Buffers {
            device,
            free: Mutex::new(Vec::new()),
        })
    }

    pub(crate) fn take(&self) -> Result<Buffer<'_>> {
        let free = self.free().pop();
        let memory = match free {
            Some(memory) => memory,
            None => self.new_memory()?,
        };
        Ok(Buffer {
            from: self,
            memory: Some(memory),
            used: 0,
        })
    }

    fn new_memory(&self) -> Result<Mapping> {
        let base = sys::map(self.device.as_fd(), BUFFER, 0, true).map_err(|e| {
            let number = e.raw_os_error().unwrap_or(libc::EIO);
            Error::refused("get memory for a hypercall", None, number)
        })?;
        // SAFETY: just mapped to be written, and nobody else knows of it.
        Ok(unsafe { Mapping::new(base, BUFFER, true, None) })
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<Mapping>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut free = self.from.free();
        if free.len() < KEPT {
            free.extend(self.memory.take());
        }
    }
}

impl Buffer<'_> {
    fn memory(&self) -> &Mapping {
        // There from `take` to `drop`.
        self.memory.as_ref().expect("a buffer has memory")
    }

    /// Takes room of `len` bytes, which is as it was left.
    pub(crate) fn room(&mut self, len: usize) -> Place {
        let offset = self.used.next_multiple_of(8);
        assert!(
            offset + len <= BUFFER,
            "the arguments of a hypercall do not fit its buffer"
        );
        self.used = offset + len;
        Place {
            offset,
            address: self.memory().address() + offset as u64,
        }
    }

    /// Puts a structure in.
    pub(crate) fn put<T: Wire>(&mut self, value: &T) -> Place {
        let place = self.room(T::SIZE);
        self.set(place, value);
        place
    }

    /// Puts a list in.
    pub(crate) fn put_list<T: Wire>(&mut self, values: &[T]) -> Place {
        let place = self.room(values.len() * T::SIZE);
        for (i, value) in values.iter().enumerate() {
            self.set(place.at(i * T::SIZE), value);
        }
        place
    }

    fn set<T: Wire>(&self, place: Place, value: &T) {
        let mut bytes = vec![0; T::SIZE];
        value.write_to(&mut bytes).expect("made for its size");
        self.memory().write(place.offset, &bytes);
    }

    /// Reads a structure back.
    pub(crate) fn get<T: Wire>(&self, place: Place) -> T {
        let mut bytes = vec![0; T::SIZE];
        self.read(place, &mut bytes);
        T::read_from(&bytes).expect("made for its size")
    }

    /// Reads bytes back.
    pub(crate) fn read(&self, place: Place, to: &mut [u8]) {
        self.memory().read(place.offset, to);
    }
}

impl Place {
    /// What is `bytes` further on.
    pub(crate) fn at(self, bytes: usize) -> Place {
        Place {
            offset: self.offset + bytes,
            address: self.address + bytes as u64,
        }
    }
}
