//! Bytes that are usually text: consoles and store values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes of any value. In JSON a string where they are UTF-8, else `{"base64":"..."}`, so that nothing is lost and
/// what is text reads as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Data(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a string, or an object with the one field \"base64\""
)]
enum Form<'a> {
    Text(std::borrow::Cow<'a, str>),
    Base64(Base64),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base64 {
    base64: String,
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => Form::Text(text.into()),
            Err(_) => Form::Base64(Base64 {
                base64: STANDARD.encode(&self.0),
            }),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into_owned().into_bytes())),
            Form::Base64(Base64 { base64 }) => {
                STANDARD.decode(base64).map(Self).map_err(D::Error::custom)
            }
        }
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "\"{}\"", self.0.escape_ascii())
    }
}

impl<T: Into<Vec<u8>>> From<T> for Data {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_reads_as_text_and_nothing_is_lost() {
        assert_eq!(
            serde_json::to_string(&Data::from("a\r\nü")).unwrap(),
            "\"a\\r\\nü\""
        );
        let bytes: Vec<u8> = (0..=255).collect();
        let json = serde_json::to_string(&Data(bytes.clone())).unwrap();
        assert_eq!(serde_json::from_str::<Data>(&json).unwrap().0, bytes);
    }

    #[test]
    fn another_form_is_refused() {
        for json in [
            "1",
            "{}",
            "{\"base64\":\"?\"}",
            "{\"base64\":\"\",\"x\":1}",
            "[1]",
        ] {
            assert!(serde_json::from_str::<Data>(json).is_err(), "{json}");
        }
    }
}
