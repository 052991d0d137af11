//! Verification of passwords against htpasswd hashes, in every format that nginx's `auth_basic` takes (its
//! own and those of `crypt(3)`), and a memory of what was verified so that slow hashes run once.
//!
//! Deliberately knows nothing of files of users, requests, clocks and randomness: times and keys are handed
//! in. Runs inside a worker of the proxy, where nothing may panic and no hash may take seconds.

mod bcrypt;
mod budget;
mod cache;
mod des_crypt;
mod encoding;
mod md5_crypt;
mod sha_crypt;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use bcrypt::Bcrypt;
pub use budget::{HashBudget, Postponed};
pub use cache::VerifiedCache;
use des_crypt::DesCrypt;
use md5_crypt::Md5Crypt;
use sha_crypt::ShaCrypt;

/// Longest password that is tried against a hash of `crypt(3)` or `$apr1$`, in bytes; longer ones do not
/// match. It is the bound of libxcrypt; without one, a client could make a worker hash for seconds.
pub const LONGEST_CRYPT_PASSWORD: usize = 511;

/// A hash out of an htpasswd file, parsed. Neither `Debug` nor anything else shows its content.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Hash);

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    /// `{PLAIN}`
    Plain(Box<[u8]>),
    /// `{SHA}`, and `{SSHA}` with a salt after the password.
    Sha1 { digest: [u8; 20], salt: Box<[u8]> },
    /// `$apr1$` and `$1$`
    Md5Crypt(Md5Crypt),
    /// `$5$` and `$6$`
    ShaCrypt(ShaCrypt),
    /// `$2a$`, `$2b$` and `$2y$`
    Bcrypt(Bcrypt),
    /// No marker at all.
    Des(DesCrypt),
}

/// The formats of hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{PLAIN}`: the password itself.
    Plain,
    /// `{SHA}`: SHA-1.
    Sha,
    /// `{SSHA}`: SHA-1 with salt.
    SaltedSha,
    /// `$apr1$`: Apache's variant of MD5 crypt.
    Apr1,
    /// `$1$`: MD5 crypt.
    Md5Crypt,
    /// `$5$`: SHA-256 crypt.
    Sha256Crypt,
    /// `$6$`: SHA-512 crypt.
    Sha512Crypt,
    /// `$2a$`, `$2b$`, `$2y$`: bcrypt.
    Bcrypt,
    /// Thirteen characters without a marker: traditional DES crypt.
    DesCrypt,
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Format::Plain => "{PLAIN}",
            Format::Sha => "{SHA}",
            Format::SaltedSha => "{SSHA}",
            Format::Apr1 => "$apr1$",
            Format::Md5Crypt => "$1$",
            Format::Sha256Crypt => "$5$",
            Format::Sha512Crypt => "$6$",
            Format::Bcrypt => "bcrypt",
            Format::DesCrypt => "DES crypt",
        })
    }
}

/// Why a text is no hash to verify against. Holds nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidPasswordHash {
    /// There is nothing.
    Empty,
    /// None of the formats: an unknown marker, or a text without one that is not DES crypt either (often a
    /// password in plain text).
    UnknownFormat,
    /// The marker of a format, and then not what belongs to it. nginx would find that no password matches.
    Malformed(Format),
    /// It would take so long that a worker stalls: bcrypt with a cost over 15, SHA crypt with more than
    /// 1,000,000 rounds.
    TooSlow(Format),
}

impl fmt::Display for InvalidPasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidPasswordHash::Empty => formatter.write_str("the password hash is empty"),
            InvalidPasswordHash::UnknownFormat => formatter.write_str("unknown format of a password hash"),
            InvalidPasswordHash::Malformed(format) => write!(formatter, "malformed {format} password hash"),
            InvalidPasswordHash::TooSlow(format) => {
                write!(formatter, "the {format} password hash takes too long to verify")
            }
        }
    }
}

impl std::error::Error for InvalidPasswordHash {}

impl PasswordHash {
    /// Parses the hash of one htpasswd line, without user name and line break.
    ///
    /// # Errors
    /// See [`InvalidPasswordHash`]; no password would match such a hash in nginx, save for
    /// [`InvalidPasswordHash::TooSlow`].
    pub fn parse(text: &str) -> Result<PasswordHash, InvalidPasswordHash> {
        if text.is_empty() {
            return Err(InvalidPasswordHash::Empty);
        }
        let after = |marker| text.strip_prefix(marker);
        let hash = if let Some(plain) = after("{PLAIN}") {
            Hash::Plain(plain.as_bytes().into())
        } else if let Some(encoded) = after("{SHA}") {
            sha1(encoded, false).ok_or(InvalidPasswordHash::Malformed(Format::Sha))?
        } else if let Some(encoded) = after("{SSHA}") {
            sha1(encoded, true).ok_or(InvalidPasswordHash::Malformed(Format::SaltedSha))?
        } else if let Some(rest) = after("$apr1$") {
            Hash::Md5Crypt(Md5Crypt::parse(rest, Format::Apr1)?)
        } else if let Some(rest) = after("$1$") {
            Hash::Md5Crypt(Md5Crypt::parse(rest, Format::Md5Crypt)?)
        } else if let Some(rest) = after("$5$") {
            Hash::ShaCrypt(ShaCrypt::parse(rest, Format::Sha256Crypt)?)
        } else if let Some(rest) = after("$6$") {
            Hash::ShaCrypt(ShaCrypt::parse(rest, Format::Sha512Crypt)?)
        } else if let Some(rest) = after("$2a$").or(after("$2b$")).or(after("$2y$")) {
            Hash::Bcrypt(Bcrypt::parse(rest)?)
        } else {
            Hash::Des(DesCrypt::parse(text).ok_or(InvalidPasswordHash::UnknownFormat)?)
        };
        Ok(PasswordHash(hash))
    }

    /// Whether the password is the one. It ends at its first NUL byte, as it does in nginx, which hands it on
    /// as a C string. Digests are compared in constant time.
    pub fn verify(&self, password: &[u8]) -> bool {
        let password = password.split(|byte| *byte == 0).next().unwrap_or_default();
        if password.len() > LONGEST_CRYPT_PASSWORD && !matches!(self.0, Hash::Plain(_) | Hash::Sha1 { .. }) {
            return false;
        }
        match &self.0 {
            Hash::Plain(plain) => plain.ct_eq(password).into(),
            Hash::Sha1 { digest, salt } => {
                let computed: [u8; 20] =
                    Sha1::new().chain_update(password).chain_update(salt).finalize().into();
                computed.ct_eq(digest).into()
            }
            Hash::Md5Crypt(hash) => hash.verify(password),
            Hash::ShaCrypt(hash) => hash.verify(password),
            Hash::Bcrypt(hash) => hash.verify(password),
            Hash::Des(hash) => hash.verify(password),
        }
    }

    /// Whether verifying takes so long (a tenth of a millisecond and more: every format that iterates) that
    /// the caller should remember verified passwords, see [`VerifiedCache`].
    pub fn is_slow(&self) -> bool {
        !matches!(self.0, Hash::Plain(_) | Hash::Sha1 { .. })
    }

    /// About how long verifying takes inside the proxy, in microseconds.
    pub fn work_us(&self) -> u64 {
        match &self.0 {
            Hash::Plain(_) | Hash::Sha1 { .. } => 1,
            Hash::Md5Crypt(_) => 1_000,
            Hash::ShaCrypt(hash) => u64::from(hash.rounds()).saturating_mul(3) / 2,
            Hash::Bcrypt(hash) => 70_u64.saturating_mul(1_u64.checked_shl(hash.cost()).unwrap_or(u64::MAX)),
            Hash::Des(_) => 500,
        }
    }

    /// Its format.
    pub fn format(&self) -> Format {
        match &self.0 {
            Hash::Plain(_) => Format::Plain,
            Hash::Sha1 { salt, .. } if salt.is_empty() => Format::Sha,
            Hash::Sha1 { .. } => Format::SaltedSha,
            Hash::Md5Crypt(hash) => hash.format(),
            Hash::ShaCrypt(hash) => hash.format(),
            Hash::Bcrypt(_) => Format::Bcrypt,
            Hash::Des(_) => Format::DesCrypt,
        }
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PasswordHash({})", self.format())
    }
}

/// A SHA-1 digest in base64, with or without a salt after it.
fn sha1(encoded: &str, salted: bool) -> Option<Hash> {
    let decoded = STANDARD.decode(encoded).ok()?;
    let (digest, salt) = decoded.split_first_chunk::<20>()?;
    (salted || salt.is_empty()).then(|| Hash::Sha1 { digest: *digest, salt: salt.into() })
}
