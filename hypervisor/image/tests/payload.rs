//! Packed payloads: what goes in comes out, what is damaged is told, and nothing hurts.

mod common;

use common::{
    bzimage, code, gzip_payload, kernel, lz4_payload, packed_by, xz, xz_payload,
    xz_payload_in_blocks, zstd_payload, zstd_payload_plain,
};
use image::{BzImage, Compression, Container, ElfKernel, ImageError, Payload, Scratch};
use lzma_rust2::{CheckType, FilterType, XzOptions};
use proptest::prelude::*;

fn unpack(payload: &[u8]) -> Result<Vec<u8>, ImageError> {
    let payload = Payload::new(payload);
    // A mutated length may be anything; the room the caller has is not.
    let mut out = vec![0xee; payload.uncompressed_len()?.min(1 << 20)];
    let len = payload.decompress(&mut out, &mut Scratch::new())?;
    assert_eq!(len, out.len());
    Ok(out)
}

/// Packed in every form that is understood.
fn every_form(data: &[u8]) -> [Vec<u8>; 5] {
    [
        xz_payload(data),
        gzip_payload(data),
        zstd_payload(data),
        zstd_payload_plain(data),
        lz4_payload(data),
    ]
}

#[test]
fn a_boot_image_gives_back_the_kernel_that_was_put_in() {
    for (payload, compression) in [
        (xz_payload(&kernel()), Compression::Xz),
        (gzip_payload(&kernel()), Compression::Gzip),
        (zstd_payload(&kernel()), Compression::Zstd),
        (lz4_payload(&kernel()), Compression::Lz4),
    ] {
        let file = bzimage(&payload);
        let Ok(Container::BzImage(image)) = Container::identify(&file) else {
            panic!("not recognised")
        };
        assert_eq!(image.protocol_version(), 0x020f);
        assert_eq!(image.kernel_version(), "6.1.0-test");
        assert_eq!(image.payload().compression(), compression);
        assert_eq!(image.payload().compressed_len(), payload.len());
        let unpacked = unpack(&payload).unwrap();
        assert_eq!(unpacked, kernel());
        assert!(ElfKernel::parse(&unpacked).is_ok());
    }
}

#[test]
fn setup_sectors_of_zero_mean_four() {
    let mut file = bzimage(&xz_payload(b"kernel"));
    file[0x1f1] = 0;
    file.splice(0x600..0x600, vec![0; 2 * 512]);
    let image = BzImage::parse(&file).unwrap();
    assert_eq!(image.payload().compression(), Compression::Xz);
}

#[test]
fn machine_code_survives_the_filter() {
    for seed in 1..20 {
        let code = code(60_000, 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed));
        assert_eq!(unpack(&xz_payload(&code)).unwrap(), code, "seed {seed}");
    }
}

#[test]
fn the_filter_may_begin_at_any_address() {
    let code = code(10_000, 77);
    let mut options = XzOptions::with_preset(3);
    options.set_check_sum_type(CheckType::Crc32);
    options.prepend_pre_filter(FilterType::BcjX86, 0x1234_5000);
    let mut payload = xz(&code, options);
    payload.extend((code.len() as u32).to_le_bytes());
    assert_eq!(unpack(&payload).unwrap(), code);
}

#[test]
fn many_blocks_and_all_literal_and_position_bits_are_read() {
    let code = code(64_321, 5);
    for (lc, lp, pb) in [
        (3, 0, 2),
        (0, 0, 0),
        (4, 0, 4),
        (0, 4, 1),
        (1, 3, 3),
        (2, 2, 0),
    ] {
        assert_eq!(
            unpack(&xz_payload_in_blocks(&code, lc, lp, pb)).unwrap(),
            code,
            "{lc} {lp} {pb}"
        );
    }
}

#[test]
fn bytes_that_do_not_pack_are_kept_plain_and_long_runs_are_read() {
    let mut state = 1u64;
    let noise: Vec<u8> = (0..200_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let mixed = [noise.clone(), vec![0; 3_000_000], noise].concat();
    let packed = xz_payload(&mixed);
    let mut out = vec![0; mixed.len()];
    assert_eq!(
        Payload::new(&packed).decompress(&mut out, &mut Scratch::new()),
        Ok(mixed.len())
    );
    assert!(out == mixed);
}

/// Every level of the reference tool: each has other tables, block sizes, literal and offset codes.
#[test]
fn what_the_reference_tools_pack_is_unpacked() {
    let mut data = code(700_000, 21);
    // Runs, text-like and incompressible stretches, matches from far back.
    data.extend(vec![7; 300_000]);
    data.extend((0..200_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8 & 0x1f));
    let noise = (0..150_000u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
    data.extend(noise);
    data.extend_from_within(..600_000);
    let mut words: Vec<Vec<String>> = (1..20).map(|l| vec![format!("-{l}")]).collect();
    words.push(vec!["--ultra".into(), "-22".into()]);
    words.push(vec!["--fast=5".into()]);
    words.push(vec!["-3".into(), "--long=27".into(), "--no-check".into()]);
    for words in words {
        let mut all = vec!["-qc"];
        all.extend(words.iter().map(String::as_str));
        let Some(payload) = packed_by("zstd", &all, &data) else {
            eprintln!("skipped: there is no zstd here");
            break;
        };
        let mut out = vec![0; data.len()];
        let done = Payload::new(&payload).decompress(&mut out, &mut Scratch::new());
        assert_eq!(done, Ok(data.len()), "zstd {words:?}");
        assert!(out == data, "zstd {words:?}");
    }
    for level in ["-1", "-9", "-12"] {
        let big = data.repeat(5);
        assert!(big.len() > 8 << 20, "more than one block");
        let Some(payload) = packed_by("lz4", &["-qlc", level], &big) else {
            eprintln!("skipped: there is no lz4 here");
            break;
        };
        let mut out = vec![0; big.len()];
        let done = Payload::new(&payload).decompress(&mut out, &mut Scratch::new());
        assert_eq!(done, Ok(big.len()), "lz4 {level}");
        assert!(out == big, "lz4 {level}");
    }
}

#[test]
fn lz4_frames_may_follow_each_other_and_short_blocks_may_not() {
    let (one, two) = (code(5_000, 1), code(3_000, 2));
    let frame = |data: &[u8]| {
        let payload = lz4_payload(data);
        payload[..payload.len() - 4].to_vec()
    };
    let len = 8_000u32.to_le_bytes();
    let both = [&frame(&one)[..], &frame(&two), &len].concat();
    assert_eq!(unpack(&both).unwrap(), [&one[..], &two].concat());
    let joined = [&frame(&one)[..], &frame(&two)[4..], &len].concat();
    assert!(unpack(&joined).is_err());
}

#[test]
fn nothing_may_follow_a_zstd_frame() {
    let data = code(3_000, 2);
    let payload = zstd_payload(&data);
    let frame = &payload[..payload.len() - 4];
    for more in [&[0][..], frame] {
        let payload = [frame, more, &3_000u32.to_le_bytes()].concat();
        assert!(unpack(&payload).is_err());
    }
}

#[test]
fn tables_may_be_used_again_even_after_a_failure() {
    let code = code(5_000, 3);
    let mut scratch = Scratch::new();
    for _ in 0..2 {
        for good in [xz_payload(&code), gzip_payload(&code), zstd_payload(&code)] {
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 0x55;
            let mut out = vec![0; code.len()];
            assert!(
                Payload::new(&bad)
                    .decompress(&mut out, &mut scratch)
                    .is_err()
            );
            assert_eq!(
                Payload::new(&good).decompress(&mut out, &mut scratch),
                Ok(code.len())
            );
            assert_eq!(out, code);
        }
    }
}

#[test]
fn every_single_flipped_bit_of_a_stream_is_found() {
    let code = code(600, 9);
    let gzip = gzip_payload(&code);
    // In gzip, the optional header fields are covered by no check, nor is what pads the stream's last byte.
    let gzip_checked = 37..gzip.len() - 9;
    let [plain, blocks] = [xz_payload(&code), xz_payload_in_blocks(&code, 3, 0, 2)];
    let zstd = zstd_payload(&code);
    let zstd_blocks = zstd_payload_plain(&code);
    // A window's size says nothing that is needed, and one bit of the descriptor means nothing.
    let zstd_checked = |payload: &[u8]| 6..payload.len();
    for (payload, checked) in [
        (&zstd, zstd_checked(&zstd)),
        (&zstd_blocks, zstd_checked(&zstd_blocks)),
        (&plain, 0..plain.len()),
        (&blocks, 0..blocks.len()),
        (&gzip, gzip_checked),
    ] {
        for bit in checked.start * 8..checked.end * 8 {
            let mut damaged = payload.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // In zstd, bits that pad a table's description mean nothing.
            let harmless = payload.starts_with(&[0x28, 0xb5])
                && unpack(&damaged).as_deref() == Ok(code.as_slice());
            assert!(
                unpack(&damaged).is_err() || harmless,
                "bit {bit} of {}",
                payload.len() * 8
            );
        }
    }
}

#[test]
fn a_stream_cut_short_anywhere_is_refused() {
    let code = code(600, 9);
    for payload in every_form(&code) {
        for len in 0..payload.len() - 4 {
            // The length is put behind the cut, so that only the stream is wrong.
            let mut cut = payload[..len].to_vec();
            cut.extend((code.len() as u32).to_le_bytes());
            assert!(unpack(&cut).is_err(), "{len} of {}", payload.len());
        }
    }
}

#[test]
fn a_wrong_length_is_refused_whichever_way_it_is_wrong() {
    let code = code(600, 9);
    for payload in every_form(&code) {
        for wrong in [0, 599, 601, 1 << 20, u32::MAX] {
            let mut payload = payload.clone();
            let at = payload.len() - 4;
            payload[at..].copy_from_slice(&u32::to_le_bytes(wrong));
            assert!(unpack(&payload).is_err(), "{wrong}");
        }
        let mut small = vec![0; 599];
        let refused = Payload::new(&payload).decompress(&mut small, &mut Scratch::new());
        assert_eq!(refused, Err(ImageError::TooLarge { len: 600 }));
    }
}

#[test]
fn formats_that_are_not_unpacked_are_named() {
    let named = |magic: &[u8]| match unpack(&[magic, &[1; 64]].concat()) {
        Err(error @ ImageError::UnsupportedCompression(_)) => error.to_string(),
        other => panic!("{other:?}"),
    };
    for (magic, name) in [
        (&b"\x04\x22\x4d\x18"[..], "lz4 in its newer frame"),
        (b"BZh9", "bzip2"),
        (b"\x5d\0\0\0", "lzma"),
        (b"\x89LZO", "lzo"),
        (b"????", "unknown"),
    ] {
        assert!(named(magic).contains(name), "{name}");
    }
    let mut options = XzOptions::with_preset(1);
    options.set_check_sum_type(CheckType::Sha256);
    let mut payload = xz(b"data", options);
    payload.extend(4u32.to_le_bytes());
    assert!(matches!(
        unpack(&payload),
        Err(ImageError::UnsupportedCompression(_))
    ));
    let mut options = XzOptions::with_preset(1);
    options.set_check_sum_type(CheckType::Crc32);
    options.prepend_pre_filter(FilterType::Delta, 1);
    let mut payload = xz(b"data", options);
    payload.extend(4u32.to_le_bytes());
    assert!(matches!(
        unpack(&payload),
        Err(ImageError::UnsupportedCompression(_))
    ));
}

/// Puts a stream's own check sums right again, so that damage reaches the decoder behind them.
fn mend(payload: &mut [u8]) {
    let header_len = (usize::from(payload[12]) + 1) * 4 - 4;
    let end = 12 + header_len;
    if end + 4 <= payload.len() {
        let crc = common::crc32(&payload[12..end]);
        payload[end..end + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// A zstd payload whose frame promises no check sum, so that damage reaches what is behind the decoder.
fn without_check_sum(payload: &[u8]) -> Vec<u8> {
    let mut bare = payload[..payload.len() - 8].to_vec();
    assert_eq!(bare[4] & 4, 4);
    bare[4] &= !4;
    bare.extend(&payload[payload.len() - 4..]);
    bare
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_packed_is_unpacked(
        len in 0usize..20_000, seed in any::<u64>(), lc in 0u32..5, pb in 0u32..5,
    ) {
        let data = code(len + 1, seed);
        prop_assert_eq!(unpack(&xz_payload(&data)).unwrap(), &data[..]);
        prop_assert_eq!(unpack(&xz_payload_in_blocks(&data, lc, 4 - lc, pb)).unwrap(), &data[..]);
        prop_assert_eq!(unpack(&gzip_payload(&data)).unwrap(), &data[..]);
        prop_assert_eq!(unpack(&zstd_payload(&data)).unwrap(), &data[..]);
        prop_assert_eq!(unpack(&lz4_payload(&data)).unwrap(), &data[..]);
    }

    #[test]
    fn a_mutated_stream_never_hurts(
        seed in any::<u64>(),
        format in 0usize..6,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
        mended in any::<bool>(),
    ) {
        let data = code(4_000, seed);
        let mut payload = match format {
            0 => xz_payload(&data),
            1 => xz_payload_in_blocks(&data, 2, 1, 3),
            2 => zstd_payload(&data),
            3 => without_check_sum(&zstd_payload(&data)),
            4 => lz4_payload(&data),
            _ => gzip_payload(&data),
        };
        for (index, byte) in changes {
            let place = index.index(payload.len());
            payload[place] = byte;
        }
        if mended && format < 2 {
            mend(&mut payload);
        }
        if let Some(cut) = cut {
            let len = cut.index(payload.len());
            payload.truncate(len);
        }
        if let Ok(unpacked) = unpack(&payload) {
            // Where there is no check sum, damage may be a kernel too.
            prop_assert!(unpacked == data || matches!(format, 3 | 4), "damage that the check sums did not find");
        }
    }

    #[test]
    fn any_bytes_after_a_good_start_never_hurt(noise in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let data = code(4_000, 1);
        let good = xz_payload(&data);
        let _ = unpack(&[&good[..24], &noise].concat());
        let _ = unpack(&[&gzip_payload(&data)[..37], &noise].concat());
        let _ = unpack(&[&zstd_payload(&data)[..9], &noise].concat());
        let _ = unpack(&[&lz4_payload(&data)[..8], &noise].concat());
    }

    #[test]
    fn a_mutated_boot_image_never_hurts(
        changes in prop::collection::vec((0usize..0x300, any::<u8>()), 1..8),
        len in 0usize..3_000,
    ) {
        let mut file = bzimage(&xz_payload(&kernel()));
        for (place, byte) in changes {
            file[place] = byte;
        }
        file.truncate(len.max(0x300));
        if let Ok(Container::BzImage(image)) = Container::identify(&file) {
            let _ = image.kernel_version();
            let payload = image.payload();
            prop_assert!(payload.compressed_len() <= file.len());
        }
    }
}
