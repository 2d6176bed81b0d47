//! The disks of a story, as files on the host.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::qemu::{Bus, Disk};
use crate::shell;

/// The three disks of a story: a file system, a source, and what it is copied to.
pub struct Disks {
    files: [PathBuf; 3],
}

impl Disks {
    /// Makes them anew in `dir`, under a story's name.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn make(dir: &Path, name: &str, mebibytes: u64) -> Result<Self> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("{} cannot be made", dir.display()))?;
        let stem: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let files = ["ext4", "source", "copy"].map(|part| dir.join(format!("{stem}-{part}.img")));
        let [ext4, source, copy] = &files;
        for (file, size) in [(ext4, 64), (source, mebibytes), (copy, mebibytes)] {
            // Empty but for holes: it costs no disk until it is written.
            let _ = std::fs::remove_file(file);
            std::fs::File::create(file)?.set_len(size << 20)?;
        }
        let mke2fs = shell::which("mke2fs").context("there is no mke2fs: install e2fsprogs")?;
        shell::read(
            Command::new(mke2fs)
                .args(["-q", "-t", "ext4", "-F"])
                .arg(ext4),
        )?;
        fill(source, mebibytes)?;
        Ok(Self { files })
    }

    /// As a machine's disks, in this order.
    pub fn list(&self) -> Vec<Disk> {
        let [ext4, source, copy] = &self.files;
        [
            (Bus::Virtio, ext4),
            (Bus::Virtio, source),
            (Bus::Ahci, copy),
        ]
        .map(|(bus, file)| Disk {
            bus,
            file: file.clone(),
            log: None,
        })
        .to_vec()
    }

    /// The copy is the source, byte for byte, as the host sees them.
    ///
    /// # Errors
    /// When it is not, or a file cannot be read.
    pub fn compare(&self) -> Result<()> {
        let [_, source, copy] = &self.files;
        let (mut a, mut b) = (std::fs::File::open(source)?, std::fs::File::open(copy)?);
        let mut buffers = (vec![0_u8; 1 << 20], vec![0_u8; 1 << 20]);
        loop {
            let (n, m) = (a.read(&mut buffers.0)?, b.read(&mut buffers.1)?);
            ensure!(
                n == m && buffers.0[..n] == buffers.1[..m],
                "the copied disk's file differs from its source's"
            );
            if n == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes them.
    pub fn remove(&self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Fills a file with numbers that do not repeat and do not compress.
fn fill(file: &Path, mebibytes: u64) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0_u8; 1 << 20];
    for _ in 0..mebibytes {
        for word in block.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        out.write_all(&block)?;
    }
    out.flush()?;
    Ok(())
}
