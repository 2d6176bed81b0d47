//! What is refused as a disk, and what is not.

use std::io::Write;
use std::path::PathBuf;

use super::*;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("xenod-disk-{name}-{}", std::process::id()));
        let _there_was_none = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, contents: &[u8]) -> Disk {
        let path = self.0.join(name);
        File::create(&path).unwrap().write_all(contents).unwrap();
        disk(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}

fn disk(file: PathBuf) -> Disk {
    Disk {
        file,
        mode: Access::ReadWrite,
        device: "xvda".to_owned(),
    }
}

fn refused(disk: &Disk) -> String {
    let error = open(disk).unwrap_err();
    assert!(
        error.message.contains(&disk.file.display().to_string()),
        "names the file: {error}"
    );
    error.message
}

#[test]
fn a_raw_file_is_taken_and_known_by_whatever_path() {
    let dir = Dir::new("raw");
    let raw = dir.file("raw", &[0; 4096]);
    let (hard, soft) = (dir.0.join("hard"), dir.0.join("soft"));
    std::fs::hard_link(&raw.file, &hard).unwrap();
    std::os::unix::fs::symlink(&raw.file, &soft).unwrap();
    let identity = open(&raw).unwrap().identity;
    assert_eq!(open(&disk(hard)).unwrap().identity, identity);
    assert_eq!(open(&disk(soft)).unwrap().identity, identity);
    assert_ne!(
        open(&dir.file("other", &[0; 512])).unwrap().identity,
        identity
    );
}

#[test]
fn each_refusal_names_the_remedy() {
    let dir = Dir::new("refused");
    assert!(refused(&disk(dir.0.join("missing"))).contains("truncate -s 1G"));
    assert!(refused(&disk(dir.0.clone())).contains("is a directory"));
    assert!(refused(&disk("/dev/null".into())).contains("neither a file nor a block device"));
    assert!(refused(&dir.file("empty", b"")).contains("is empty"));
    assert!(refused(&dir.file("odd", &[0; 1000])).contains("truncate -s 1024"));
    let mut header = b"QFI\xfb".to_vec();
    header.resize(1 << 16, 0);
    let qcow2 = refused(&dir.file("image.qcow2", &header));
    assert!(
        qcow2.contains("qcow2") && qcow2.contains("qemu-img convert -O raw"),
        "{qcow2}"
    );
}

#[test]
fn what_is_written_is_nobody_elses() {
    use Access::{ReadOnly, ReadWrite};
    let identity = Identity::File {
        device: 1,
        inode: 2,
    };
    let other = Identity::File {
        device: 1,
        inode: 3,
    };
    let check = |identity, mode, held| {
        let uses = [Use {
            identity: Identity::File {
                device: 1,
                inode: 2,
            },
            mode: held,
            guest: "web",
        }];
        check_free(Path::new("/d"), identity, mode, uses)
    };
    assert!(check(identity, ReadOnly, ReadOnly).is_ok());
    assert!(check(other, ReadWrite, ReadWrite).is_ok());
    for (mode, held) in [
        (ReadOnly, ReadWrite),
        (ReadWrite, ReadOnly),
        (ReadWrite, ReadWrite),
    ] {
        let error = check(identity, mode, held).unwrap_err();
        assert_eq!(error.kind, Kind::Busy);
        assert!(
            error.message.contains("/d") && error.message.contains("web"),
            "{error}"
        );
    }
}

#[test]
fn a_partition_is_a_part_of_its_disk_and_of_nothing_else() {
    let whole = Identity::Block {
        number: 0x800,
        part_of: None,
    };
    let part = |number| Identity::Block {
        number,
        part_of: Some(0x800),
    };
    let other = Identity::Block {
        number: 0x810,
        part_of: None,
    };
    let file = Identity::File {
        device: 0,
        inode: 0x800,
    };
    assert!(whole.overlaps(whole) && part(0x801).overlaps(part(0x801)));
    assert!(whole.overlaps(part(0x801)) && part(0x801).overlaps(whole));
    assert!(!part(0x801).overlaps(part(0x802)));
    assert!(!whole.overlaps(other) && !part(0x801).overlaps(other));
    assert!(!file.overlaps(whole) && !whole.overlaps(file));
}

#[test]
fn every_format_with_a_header_is_named() {
    let dir = Dir::new("formats");
    for (offset, magic, format) in FORMATS {
        let mut image = vec![0; 4096];
        let at = usize::try_from(*offset).unwrap();
        image[at..at + magic.len()].copy_from_slice(magic);
        let said = refused(&dir.file("image", &image));
        assert!(said.contains(&format!("is a {format} image")), "{said}");
    }
}
