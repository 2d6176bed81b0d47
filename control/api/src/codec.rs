//! From lines to requests and replies, and back.
//!
//! The bytes come from whoever connects: a line is bounded before it is parsed, and means nothing before all of it
//! has been decoded (A4).

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Error, Kind, Message, Op, Reply, Request};

/// The longest line, with its newline, in bytes. It holds the longest log and the longest list that are sent.
pub const MAX_LINE: usize = 1 << 20;

/// A line that is no request or message. For a request: what to answer, and to whom.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BadLine {
    /// The id, where one could be read.
    pub id: Option<u64>,
    /// What is wrong with it.
    pub error: Error,
}

fn bad(id: Option<u64>, message: String) -> BadLine {
    BadLine {
        id,
        error: Error::new(Kind::BadRequest, message),
    }
}

/// Takes a line apart into its id and the rest.
fn object(line: &[u8]) -> Result<(u64, Map<String, Value>), BadLine> {
    if line.len() > MAX_LINE {
        return Err(bad(
            None,
            format!("the line has {} bytes, more than {MAX_LINE}", line.len()),
        ));
    }
    let value: Value =
        serde_json::from_slice(line).map_err(|error| bad(None, format!("not JSON: {error}")))?;
    let Value::Object(mut object) = value else {
        return Err(bad(
            None,
            "not an object: expected {\"id\":N,\"op\":...}".to_owned(),
        ));
    };
    match object.remove("id") {
        Some(id) => match id.as_u64() {
            Some(id) => Ok((id, object)),
            None => Err(bad(
                None,
                format!("the id {id} is not a whole number from 0"),
            )),
        },
        None => Err(bad(None, "there is no \"id\"".to_owned())),
    }
}

impl Request {
    /// Reads a request from a line, with or without its newline.
    ///
    /// # Errors
    /// When it is not one, or some value in it is out of bounds.
    pub fn decode(line: &[u8]) -> Result<Self, BadLine> {
        let (id, rest) = object(line)?;
        let op: Op = serde_json::from_value(Value::Object(rest))
            .map_err(|error| bad(Some(id), format!("the request is wrong: {error}")))?;
        op.check().map_err(|error| BadLine {
            id: Some(id),
            error,
        })?;
        Ok(Self { id, op })
    }

    /// The line for it, with its newline.
    ///
    /// # Errors
    /// When it would be longer than [`MAX_LINE`].
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            id: u64,
            #[serde(flatten)]
            op: &'a Op,
        }
        encode(&Line {
            id: self.id,
            op: &self.op,
        })
    }
}

impl Op {
    /// What JSON's types alone do not say.
    fn check(&self) -> Result<(), Error> {
        let wrong = |message: String| Err(Error::new(Kind::BadRequest, message));
        match self {
            Self::Create { guest, .. } => guest.check(),
            Self::Input { data, .. } if data.0.len() > Self::MAX_INPUT => wrong(format!(
                "{} bytes of input at once are more than {}",
                data.0.len(),
                Self::MAX_INPUT
            )),
            Self::SchedSet { cpu, .. } => cpu.check().or_else(|bad| wrong(format!("cpu.{bad}"))),
            _ => Ok(()),
        }
    }
}

impl Message {
    /// Reads a message from a line, with or without its newline.
    ///
    /// # Errors
    /// When it is not one.
    pub fn decode(line: &[u8]) -> Result<Self, BadLine> {
        let (id, rest) = object(line)?;
        let reply: Reply = serde_json::from_value(Value::Object(rest))
            .map_err(|error| bad(Some(id), format!("the answer is wrong: {error}")))?;
        Ok(Self { id, reply })
    }

    /// The line for it, with its newline.
    ///
    /// # Errors
    /// When it would be longer than [`MAX_LINE`].
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            id: u64,
            #[serde(flatten)]
            reply: &'a Reply,
        }
        encode(&Line {
            id: self.id,
            reply: &self.reply,
        })
    }
}

/// A line of JSON with its newline.
///
/// # Errors
/// When it would be longer than [`MAX_LINE`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
    let mut line =
        serde_json::to_vec(value).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(Error::new(
            Kind::BadRequest,
            format!("a line of {} bytes is longer than {MAX_LINE}", line.len()),
        ));
    }
    Ok(line)
}

/// Cuts what arrives into lines, keeping at most one line's worth of bytes.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Bytes before this have been looked at and hold no newline.
    searched: usize,
}

impl Lines {
    /// Adds bytes that arrived. Take all lines out before adding more, else more than one line is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next line, without its newline.
    ///
    /// # Errors
    /// When there is more than [`MAX_LINE`] bytes without a newline: nothing after that can be understood, so the
    /// connection is to be closed.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let newline = self.bytes[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n');
        match newline.map(|at| self.searched + at) {
            Some(end) if end < MAX_LINE => {
                let rest = self.bytes.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.bytes, rest);
                line.pop();
                self.searched = 0;
                Ok(Some(line))
            }
            None if self.bytes.len() < MAX_LINE => {
                self.searched = self.bytes.len();
                Ok(None)
            }
            _ => Err(Error::new(
                Kind::BadRequest,
                format!("a line is longer than {MAX_LINE} bytes"),
            )),
        }
    }
}
