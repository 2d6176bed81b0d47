//! What a console promises, tried with a guest that is a few lines here.

use std::sync::{Arc, Mutex};

use store::Page;

use super::kept::KEPT_BYTES;
use super::{Console, News};

/// A page that two sides share.
#[derive(Clone)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![0; 4096])))
    }
}

impl Page for Shared {
    fn load(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&mut self, offset: usize, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.0.lock().unwrap()[offset..offset + into.len()]);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.0.lock().unwrap()[offset..offset + from.len()].copy_from_slice(from);
    }
}

const OUT: usize = 0x400;
const IN_CONS: usize = 0xc00;
const IN_PROD: usize = 0xc04;
const OUT_CONS: usize = 0xc08;
const OUT_PROD: usize = 0xc0c;

/// The guest's side: writes as much as there is room for.
fn guest_writes(page: &mut Shared, text: &[u8]) -> usize {
    let (prod, cons) = (page.load(OUT_PROD), page.load(OUT_CONS));
    let room = 2048 - prod.wrapping_sub(cons) as usize;
    let count = text.len().min(room);
    for (at, byte) in text[..count].iter().enumerate() {
        page.write(OUT + (prod as usize + at) % 2048, &[*byte]);
    }
    page.store(OUT_PROD, prod.wrapping_add(count as u32));
    count
}

fn guest_reads(page: &mut Shared) -> Vec<u8> {
    let (prod, mut cons) = (page.load(IN_PROD), page.load(IN_CONS));
    let mut read = Vec::new();
    while cons != prod {
        let mut byte = [0];
        page.read(cons as usize % 1024, &mut byte);
        read.extend(byte);
        cons = cons.wrapping_add(1);
    }
    page.store(IN_CONS, cons);
    read
}

struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("xenod-console-{name}-{}", std::process::id()));
        let _there_was_none = std::fs::remove_file(&path);
        Self(path)
    }

    fn open(&self, page: &Shared) -> Console {
        let mut console = Console::open(&self.0).unwrap();
        console.attach(Box::new(page.clone())).unwrap();
        console
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_file(&self.0);
    }
}

fn all(console: &Console) -> Vec<u8> {
    console.screen().kept().read(0, usize::MAX).bytes
}

#[test]
fn text_is_kept_though_nobody_watches() {
    let (place, mut page) = (Place::new("nobody"), Shared::new());
    let mut console = place.open(&page);
    let text: Vec<u8> = (0..5000u32).map(|n| b'a' + (n % 26) as u8).collect();
    let mut rest = &text[..];
    while !rest.is_empty() {
        rest = &rest[guest_writes(&mut page, rest)..];
        assert!(console.serve().unwrap().signal);
    }
    assert_eq!(all(&console), text);
    let idle = console.serve().unwrap();
    assert!(!idle.signal && !idle.more);
}

#[test]
fn each_byte_is_kept_once_wherever_the_process_ends() {
    let (place, mut page) = (Place::new("killed"), Shared::new());
    let mut written: Vec<u8> = Vec::new();
    for round in 0..200u32 {
        let mut console = place.open(&page);
        let text = format!("line {round} {}\n", "x".repeat(round as usize * 7 % 1500));
        let count = guest_writes(&mut page, text.as_bytes());
        written.extend(&text.as_bytes()[..count]);
        let unmoved = page.load(OUT_CONS);
        console.serve().unwrap();
        if round % 3 == 0 {
            // Killed after the file was written and before the index was published.
            page.store(OUT_CONS, unmoved);
        }
    }
    let console = place.open(&page);
    assert!(written.len() > KEPT_BYTES);
    assert_eq!(page.load(OUT_CONS) as usize, written.len());
    assert_eq!(all(&console), written[written.len() - KEPT_BYTES..]);
}

#[test]
fn what_is_kept_is_bounded_and_a_late_watcher_learns_what_it_missed() {
    let (place, mut page) = (Place::new("bounded"), Shared::new());
    let mut console = place.open(&page);
    let mut written = 0;
    while written < 5 * KEPT_BYTES {
        written += guest_writes(&mut page, &[b'y'; 2048]);
        console.serve().unwrap();
    }
    assert!(std::fs::metadata(&place.0).unwrap().len() <= 2 * KEPT_BYTES as u64 + 4096);
    let piece = console.screen().kept().read(100, 10);
    assert_eq!(piece.missed as usize, written - KEPT_BYTES - 100);
    assert_eq!(piece.bytes.len(), 10);
    assert_eq!(piece.next, 100 + piece.missed + 10);
}

#[test]
fn an_index_that_makes_no_sense_ends_this_console_only() {
    let (place, mut page) = (Place::new("hostile"), Shared::new());
    let mut console = place.open(&page);
    guest_writes(&mut page, b"before");
    console.serve().unwrap();
    page.store(OUT_PROD, 0x8000_0000);
    assert!(!console.serve().unwrap().signal);
    let text = String::from_utf8(all(&console)).unwrap();
    assert!(
        text.starts_with("before") && text.contains("makes no sense"),
        "{text}"
    );
    page.store(OUT_PROD, 8);
    assert!(!console.serve().unwrap().signal);
    assert_eq!(all(&console), text.as_bytes(), "said once");
    page.store(IN_CONS, 77);
    console.type_in(b"x");
    console.serve().unwrap();
    assert_eq!(page.load(IN_PROD), 0);
}

#[test]
fn what_is_typed_arrives_in_order_and_waits_for_room() {
    let (place, mut page) = (Place::new("typed"), Shared::new());
    let mut console = place.open(&page);
    let typed: Vec<u8> = (0..3000u32).map(|n| n as u8).collect();
    assert_eq!(console.type_in(&typed), 3000);
    let mut read = Vec::new();
    for _ in 0..3 {
        assert!(console.serve().unwrap().signal);
        read.extend(guest_reads(&mut page));
    }
    assert_eq!(read, typed);
    assert!(console.type_in(&[0; 9000]) < 9000, "bounded");
}

#[test]
fn watchers_hear_of_more_and_of_the_end() {
    let (place, mut page) = (Place::new("watch"), Shared::new());
    let mut console = place.open(&page);
    let mut news = console.screen().news();
    guest_writes(&mut page, b"hello\r\nworld\r\n");
    console.serve().unwrap();
    assert!(news.has_changed().unwrap());
    let seen = *news.borrow_and_update();
    assert_eq!(
        seen,
        News {
            end: 14,
            closed: false
        }
    );
    assert_eq!(console.screen().kept().last_lines(1), ["world"]);
    console.close();
    assert!(news.borrow_and_update().closed);
    assert_eq!(console.type_in(b"x"), 0);
}

#[test]
fn a_guest_that_is_built_again_goes_on_behind_what_was_printed_before() {
    let (place, mut page) = (Place::new("again"), Shared::new());
    let mut console = place.open(&page);
    guest_writes(&mut page, b"first life\n");
    console.serve().unwrap();
    console.detach();
    console.note("web rebooted").unwrap();
    let mut page = Shared::new();
    console.attach_fresh(Box::new(page.clone())).unwrap();
    guest_writes(&mut page, b"second life\n");
    console.serve().unwrap();
    drop(console);
    let mut console = place.open(&page);
    guest_writes(&mut page, b"goes on\n");
    console.serve().unwrap();
    let text = String::from_utf8(all(&console)).unwrap();
    assert_eq!(
        text,
        "first life\n\r\n[xenod: web rebooted]\r\nsecond life\ngoes on\n"
    );
}

#[test]
fn a_lost_file_does_not_stop_a_guest() {
    let (place, mut page) = (Place::new("lost"), Shared::new());
    let mut console = place.open(&page);
    for _ in 0..5 {
        guest_writes(&mut page, &[b'x'; 2000]);
        console.serve().unwrap();
    }
    drop(console);
    std::fs::remove_file(&place.0).unwrap();
    guest_writes(&mut page, b"later");
    let mut console = place.open(&page);
    console.serve().unwrap();
    assert_eq!(all(&console), b"later");
}

#[test]
fn a_full_disk_is_told_once_and_the_guest_goes_on() {
    // Every write to it fails as on a full disk.
    let (place, mut page) = (Place::new("full"), Shared::new());
    let mut console = place.open(&page);
    console.file.fill_the_disk();
    for round in 0..3 {
        guest_writes(&mut page, b"more\n");
        let served = match console.serve() {
            Ok(served) => served,
            Err(unkept) => {
                assert_eq!(round, 0, "told again");
                unkept.served
            }
        };
        assert!(served.signal, "the guest hears that there is room");
    }
    assert_eq!(all(&console), b"more\nmore\nmore\n");
}
