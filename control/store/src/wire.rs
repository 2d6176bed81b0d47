//! Messages: their header, and the strings inside their payload.

use guest_abi::wire::Wire;
use guest_abi::xenstore::{XENSTORE_PAYLOAD_MAX, XsdMessage, XsdSockmsg};

use crate::Errno;

/// Bytes of a message's header.
pub const HEADER_BYTES: usize = <XsdSockmsg as Wire>::SIZE;
/// Bytes a message carries at most behind its header.
pub const PAYLOAD_MAX: usize = XENSTORE_PAYLOAD_MAX as usize;

/// One request as it came: nothing of it is believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The operation's number, known or not.
    pub kind: u32,
    /// Given back in the reply.
    pub req_id: u32,
    /// The transaction, or 0.
    pub tx_id: u32,
    /// At most [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
}

/// A client's stream can no longer be followed: it announced a payload over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message announces a payload of {announced} bytes; at most {PAYLOAD_MAX} are allowed")]
pub struct TooLong {
    /// Bytes announced.
    pub announced: u32,
}

impl Request {
    /// The first message of `bytes` and how many bytes it took; `None` if it is not complete.
    pub fn take_from(bytes: &[u8]) -> Result<Option<(Self, usize)>, TooLong> {
        let Some(needed) = Self::bytes_needed(bytes)? else {
            return Ok(None);
        };
        let (Some(header), Some(payload)) = (
            XsdSockmsg::read_from(bytes),
            bytes.get(HEADER_BYTES..needed),
        ) else {
            return Ok(None);
        };
        let request = Self {
            kind: header.kind,
            req_id: header.req_id,
            tx_id: header.tx_id,
            payload: payload.to_vec(),
        };
        Ok(Some((request, needed)))
    }

    /// The size in bytes of the message that `bytes` begin; `None` while its header is not complete.
    pub fn bytes_needed(bytes: &[u8]) -> Result<Option<usize>, TooLong> {
        match XsdSockmsg::read_from(bytes) {
            None => Ok(None),
            Some(header) if header.len > XENSTORE_PAYLOAD_MAX => Err(TooLong {
                announced: header.len,
            }),
            Some(header) => Ok(Some(HEADER_BYTES + header.len as usize)),
        }
    }
}

/// A whole message. A payload over the limit is a bug of ours: callers check.
pub fn message(kind: u32, req_id: u32, tx_id: u32, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= PAYLOAD_MAX);
    let header = XsdSockmsg {
        kind,
        req_id,
        tx_id,
        len: payload.len() as u32,
    };
    let mut bytes = vec![0; HEADER_BYTES];
    let written = header.write_to(&mut bytes);
    debug_assert!(written.is_some());
    bytes.extend_from_slice(payload);
    bytes
}

/// The message that tells of `path` with the watch's `token`; `None` if it does not fit into a message.
pub(crate) fn event(path: &[u8], token: &[u8]) -> Option<Vec<u8>> {
    if path.len() + token.len() + 2 > PAYLOAD_MAX {
        return None;
    }
    let payload = [path, b"\0", token, b"\0"].concat();
    Some(message(XsdMessage::WatchEvent.number(), 0, 0, &payload))
}

/// The one string of a payload that is exactly one NUL-terminated string.
pub(crate) fn one_string(payload: &[u8]) -> Result<&[u8], Errno> {
    match payload.split_last() {
        Some((0, text)) if !text.contains(&0) => Ok(text),
        _ => Err(Errno::Einval),
    }
}

/// The NUL-terminated strings of a payload. What follows the last NUL is left out.
pub(crate) fn strings(payload: &[u8]) -> Vec<&[u8]> {
    let mut parts: Vec<&[u8]> = payload.split(|byte| *byte == 0).collect();
    parts.pop();
    parts
}

/// The first NUL-terminated string, and all bytes behind its NUL.
pub(crate) fn string_and_rest(payload: &[u8]) -> Result<(&[u8], &[u8]), Errno> {
    let nul = payload
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(Errno::Einval)?;
    match (payload.get(..nul), payload.get(nul + 1..)) {
        (Some(text), Some(rest)) => Ok((text, rest)),
        _ => Err(Errno::Einval),
    }
}

/// An unsigned decimal number with digits only.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was_sent() {
        let bytes = message(2, 0x0102_0304, 9, b"/a\0");
        assert_eq!(
            bytes.get(..HEADER_BYTES).unwrap(),
            [2, 0, 0, 0, 4, 3, 2, 1, 9, 0, 0, 0, 3, 0, 0, 0]
        );
        let (request, used) = Request::take_from(&bytes).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        assert_eq!(
            (request.kind, request.req_id, request.tx_id),
            (2, 0x0102_0304, 9)
        );
        assert_eq!(request.payload, b"/a\0");
    }

    #[test]
    fn every_cut_of_a_message_is_incomplete() {
        let bytes = message(2, 1, 0, b"/a\0");
        for cut in 0..bytes.len() {
            assert_eq!(Request::take_from(bytes.get(..cut).unwrap()), Ok(None));
        }
    }

    #[test]
    fn an_announced_length_over_the_limit_is_told_from_the_header_alone() {
        let mut bytes = message(2, 1, 0, &[]);
        bytes.splice(12..16, 4097u32.to_le_bytes());
        assert_eq!(Request::take_from(&bytes), Err(TooLong { announced: 4097 }));
        bytes.splice(12..16, 4096u32.to_le_bytes());
        assert_eq!(Request::take_from(&bytes), Ok(None));
    }

    #[test]
    fn strings_are_what_their_terminators_say() {
        assert_eq!(one_string(b"abc\0"), Ok(&b"abc"[..]));
        assert_eq!(one_string(b"\0"), Ok(&b""[..]));
        for bad in [&b""[..], b"a", b"a\0b", b"a\0b\0"] {
            assert_eq!(one_string(bad), Err(Errno::Einval));
        }
        assert_eq!(strings(b"a\0\0b\0c"), [&b"a"[..], b"", b"b"]);
        assert!(strings(b"").is_empty());
        assert_eq!(string_and_rest(b"a\0b\0c"), Ok((&b"a"[..], &b"b\0c"[..])));
        assert_eq!(decimal(b"012"), Some(12));
        for bad in [&b""[..], b"-1", b"+1", b"1x", b"99999999999999999999"] {
            assert_eq!(decimal(bad), None);
        }
    }
}
