//! Tests of `record`.

use super::*;

fn samples() -> Vec<Record> {
    let path = Path::absolute(b"/a/b").unwrap();
    let perms = Perms::parse(&[b"n1", b"r2", b"w3", b"b4"]).unwrap();
    let (value, text): (Arc<[u8]>, Arc<str>) = (Arc::from(*b"v\0w"), Arc::from("/a"));
    vec![
        Record::Change(Change::Create {
            path: path.clone(),
            value: value.clone(),
            perms: perms.clone(),
        }),
        Record::Change(Change::Write {
            path: path.clone(),
            value: value.clone(),
        }),
        Record::Change(Change::SetPerms {
            path: path.clone(),
            perms: perms.clone(),
        }),
        Record::Change(Change::Remove { path }),
        Record::Introduce {
            domid: 7,
            gfn: u64::MAX - 1,
            port: 9,
        },
        Record::Release { domid: 7 },
        Record::Target {
            domid: 7,
            target: 8,
        },
        Record::Shutdown {
            domid: 7,
            told: true,
        },
        Record::Special {
            release: true,
            perms,
        },
        Record::Limit {
            name: "nodes".to_owned(),
            value: 5,
        },
        Record::Watch {
            domid: 7,
            path: text.clone(),
            token: value.clone(),
            relative: true,
            depth: Some(2),
        },
        Record::Watch {
            domid: 7,
            path: text.clone(),
            token: value.clone(),
            relative: false,
            depth: None,
        },
        Record::Unwatch {
            domid: 7,
            path: text,
            token: value.clone(),
        },
        Record::Reset {
            domid: 7,
            wholly: true,
        },
        Record::Begin {
            domid: 7,
            transaction: 3,
        },
        Record::End {
            domid: 7,
            transaction: 3,
        },
        Record::Wait {
            domid: 7,
            event: true,
            message: value.clone(),
        },
        Record::Fold {
            domid: 7,
            message: value.clone(),
        },
        Record::Place {
            domid: 7,
            req_cons: 1,
            rsp_prod: u32::MAX,
            partial: value,
        },
    ]
}

#[test]
fn every_record_comes_back_as_it_was_written() {
    let mut writer = Writer::default();
    samples().iter().for_each(|record| writer.record(record));
    let mut reader = Reader(&writer.0);
    for sample in samples() {
        assert_eq!(reader.record(), Some(sample));
    }
    assert_eq!((reader.record(), reader.0), (None, &[][..]));
}

#[test]
fn no_cut_record_is_read() {
    for sample in samples() {
        let mut writer = Writer::default();
        writer.record(&sample);
        for cut in 0..writer.0.len() {
            assert_eq!(
                Reader(writer.0.get(..cut).unwrap()).record(),
                None,
                "{sample:?} cut at {cut}"
            );
        }
    }
}
