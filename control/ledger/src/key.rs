//! Who signs: an Ed25519 key, made on first use and kept where only its owner reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::hash::{from_hex, to_hex};

/// Hexadecimal digits of a signature.
pub const SIGNATURE_HEX: usize = 128;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("the ledger's key {path} cannot be {what}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// What is in it.
    #[error(
        "{0} holds no key (64 hexadecimal digits): move it away to begin with a new one, which changes the public key"
    )]
    Senseless(PathBuf),
    /// Others may read it.
    #[error(
        "others than its owner may read the ledger's key {0}: `chmod 600` it, and do not trust what it signed"
    )]
    Open(PathBuf),
}

/// The key that signs.
pub struct SecretKey(SigningKey);

/// The key that says who signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl SecretKey {
    /// Of these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The one in a file, or a new one that is put there.
    ///
    /// # Errors
    /// When there can be none.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(failed(path, "opened")(error)),
        }
    }

    fn load(path: &Path, mut file: File) -> Result<Self, KeyError> {
        let mode = file.metadata().map_err(failed(path, "looked at"))?.mode();
        if mode & 0o077 != 0 {
            return Err(KeyError::Open(path.to_owned()));
        }
        let mut text = String::new();
        let mut limited = (&mut file).take(200);
        limited
            .read_to_string(&mut text)
            .map_err(failed(path, "read"))?;
        let bytes = from_hex(text.trim_end());
        let bytes = bytes.ok_or_else(|| KeyError::Senseless(path.to_owned()))?;
        Ok(Self::from_bytes(&bytes))
    }

    /// Written whole before it is there under its name: a power cut leaves no half of it.
    fn make(path: &Path) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        let random = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        let random = random.map_err(io::Error::from);
        match random.map_err(failed(path, "made"))? {
            32 => {}
            _ => return Err(failed(path, "made")(io::ErrorKind::UnexpectedEof.into())),
        }
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(failed(&fresh, "written"))?;
        let written = file
            .write_all((to_hex(&bytes) + "\n").as_bytes())
            .and_then(|()| file.sync_all());
        written.map_err(failed(&fresh, "written"))?;
        std::fs::rename(&fresh, path).map_err(failed(path, "put in place"))?;
        crate::files::sync_dir_of(path).map_err(failed(path, "put in place"))?;
        Ok(Self::from_bytes(&bytes))
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_HEX / 2] {
        self.0.sign(message).to_bytes()
    }

    /// Its other half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
}

fn failed<'a>(path: &'a Path, what: &'static str) -> impl FnOnce(io::Error) -> KeyError + 'a {
    move |source| KeyError::File {
        path: path.to_owned(),
        what,
        source,
    }
}

/// A text that is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no public key: expected the 64 hexadecimal digits that `xeno ledger key` shows")]
pub struct BadKey;

impl std::str::FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let bytes = from_hex(text.trim()).ok_or(BadKey)?;
        VerifyingKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| BadKey)
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(&to_hex(self.0.as_bytes()))
    }
}

impl PublicKey {
    /// Whether this key's other half signed the message. Strict: of the forms of a signature that others take, one.
    pub fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_HEX / 2]) -> bool {
        let signature = Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).is_ok()
    }
}
