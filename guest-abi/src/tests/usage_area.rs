use super::*;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

extern crate std;

const VCPUS: usize = 30;

/// An area as a hypervisor would make it.
fn area() -> Vec<AtomicU64> {
    let frames = usage_area_frames(VCPUS);
    let words: Vec<_> = (0..frames * FRAME_BYTES / 8)
        .map(|_| AtomicU64::new(0))
        .collect();
    let head = UsageHead {
        magic: USAGE_AREA_MAGIC,
        version: USAGE_AREA_VERSION,
        nr_frames: frames as u32,
        nr_vcpus: VCPUS as u32,
        rows_at: USAGE_HEAD_BYTES as u32,
        row_bytes: USAGE_ROW_BYTES as u32,
        ..UsageHead::ZERO
    };
    put(&words, 0, &head);
    words
}

fn put<T: Wire>(words: &[AtomicU64], at: usize, value: &T) {
    let mut bytes = [0; USAGE_HEAD_BYTES];
    assert_eq!(value.write_to(&mut bytes), Some(()));
    for (word, bytes) in words[at / 8..at / 8 + T::SIZE / 8]
        .iter()
        .zip(bytes.as_chunks::<8>().0)
    {
        word.store(u64::from_le_bytes(*bytes), Relaxed);
    }
}

fn row_at(vcpu: usize) -> usize {
    USAGE_HEAD_BYTES + vcpu * USAGE_ROW_BYTES
}

#[test]
fn an_area_has_as_many_frames_as_its_rows_need() {
    assert_eq!(usage_area_frames(1), 1);
    assert_eq!(usage_area_frames(22), 1);
    assert_eq!(usage_area_frames(23), 2);
    assert_eq!(usage_area_frames(64), 3);
}

#[test]
fn what_is_no_area_or_a_later_one_or_cut_short_is_refused() {
    let words = area();
    assert!(UsageArea::new(&words).is_some());
    assert!(UsageArea::new(&[]).is_none());
    assert!(
        UsageArea::new(&words[..512]).is_none(),
        "the last rows are missing"
    );
    for (at, wrong) in [
        (0, 0),
        (8, 2),
        (0x28, 8),
        (0x28, 1 << 32 | 513),
        (0x24, u64::MAX),
    ] {
        let words = area();
        words[at / 8].store(wrong, Relaxed);
        assert!(UsageArea::new(&words).is_none(), "{wrong:#x} at {at:#x}");
    }
}

#[test]
fn each_vcpu_has_its_row_and_others_none() {
    let words = area();
    for vcpu in 0..VCPUS {
        let row = UsageRow {
            user: vcpu as u64 + 1,
            ..UsageRow::ZERO
        };
        put(&words, row_at(vcpu), &row);
    }
    let area = UsageArea::new(&words).unwrap();
    for vcpu in 0..VCPUS as u32 {
        assert_eq!(area.row(vcpu).unwrap().user, u64::from(vcpu) + 1);
    }
    assert_eq!(area.row(VCPUS as u32), None);
    assert_eq!(area.row(u32::MAX), None);
}

#[test]
fn what_a_cpu_did_since_counts_while_the_vcpu_is_on_it() {
    let row = UsageRow {
        cpu: 3,
        open_since: 100,
        user: 1,
        kernel: 2,
        hypervisor: [3, 4, 5, 6, 7, 8],
        ..UsageRow::ZERO
    };
    assert_eq!(
        (row.on_cpu(), row.used(), row.used_at(110)),
        (Some(3), 36, 46)
    );
    assert_eq!(row.used_at(90), 36, "counters of CPUs may differ");
    let put_away = UsageRow {
        cpu: USAGE_AREA_NO_CPU,
        ..row
    };
    assert_eq!((put_away.on_cpu(), put_away.used_at(110)), (None, 36));
}

#[test]
fn waiting_counts_while_it_lasts() {
    let waited = UsageRow {
        stolen: 40,
        ..UsageRow::ZERO
    };
    assert_eq!((waited.waits(), waited.stolen_at(1000)), (false, 40));
    let waits = UsageRow {
        stolen: 40_u64.wrapping_sub(1000),
        ..UsageRow::ZERO
    };
    assert_eq!(
        (waits.waits(), waits.stolen_at(1000), waits.stolen_at(1007)),
        (true, 40, 47)
    );
}

#[test]
fn memory_is_counted_on_to_the_moment_of_reading() {
    let held = UsageHeld {
        now: 7,
        over_time: [u64::MAX, 1],
        until: 100,
        ..UsageHeld::ZERO
    };
    assert_eq!(held.over_time_at(100), (1 << 65) - 1);
    assert_eq!(held.over_time_at(103), (1 << 65) - 1 + 21);
    assert_eq!(held.over_time_at(99), (1 << 65) - 1);
}

#[test]
fn no_row_is_read_half_written() {
    let words = area();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let row = &words[row_at(2) / 8..];
            let mut seq = 0_u64;
            for n in 1..20_000_u64 {
                row[0].store(seq + 1, Relaxed);
                fence(core::sync::atomic::Ordering::Release);
                for word in &row[1..12] {
                    word.store(n, Relaxed);
                }
                seq += 2;
                row[0].store(seq, core::sync::atomic::Ordering::Release);
            }
            over.store(true, Relaxed);
        });
        let area = UsageArea::new(&words).unwrap();
        let mut last = 0;
        while !over.load(Relaxed) {
            let row = area.row(2).unwrap();
            assert_eq!(
                (row.user, row.kernel, row.extra),
                (row.open_since, row.user, row.user)
            );
            assert!(row.user >= last);
            last = row.user;
        }
    });
}
