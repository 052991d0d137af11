//! SHA crypt by Ulrich Drepper (`$5$`, `$6$`): the format; the algorithm is that of the `sha-crypt` crate.

use ::sha_crypt::{Params, sha256_crypt, sha512_crypt};
use subtle::ConstantTimeEq as _;

use super::encoding::{encode, is_encoded};
use super::{Format, InvalidPasswordHash};

/// Rounds where none are written.
const DEFAULT_ROUNDS: u32 = 5_000;
/// Fewest rounds. glibc raises fewer to it and libxcrypt refuses them: either way nothing matches.
const FEWEST_ROUNDS: u32 = 1_000;
/// Most rounds that are taken: about half a second of a worker.
const MOST_ROUNDS: u32 = 1_000_000;

/// Order of the bytes in an encoded SHA-256 digest.
const ORDER_256: [[u8; 3]; 11] = [
    [0, 10, 20],
    [21, 1, 11],
    [12, 22, 2],
    [3, 13, 23],
    [24, 4, 14],
    [15, 25, 5],
    [6, 16, 26],
    [27, 7, 17],
    [18, 28, 8],
    [9, 19, 29],
    [255, 31, 30],
];

/// Order of the bytes in an encoded SHA-512 digest.
const ORDER_512: [[u8; 3]; 22] = [
    [0, 21, 42],
    [22, 43, 1],
    [44, 2, 23],
    [3, 24, 45],
    [25, 46, 4],
    [47, 5, 26],
    [6, 27, 48],
    [28, 49, 7],
    [50, 8, 29],
    [9, 30, 51],
    [31, 52, 10],
    [53, 11, 32],
    [12, 33, 54],
    [34, 55, 13],
    [56, 14, 35],
    [15, 36, 57],
    [37, 58, 16],
    [59, 17, 38],
    [18, 39, 60],
    [40, 61, 19],
    [62, 20, 41],
    [255, 255, 63],
];

/// Characters of the encoded digests.
const LENGTH_256: usize = 43;
const LENGTH_512: usize = 86;

#[derive(Clone, PartialEq, Eq)]
pub(super) struct ShaCrypt {
    long: bool,
    rounds: u32,
    salt: Box<[u8]>,
    encoded: Box<[u8]>,
}

impl ShaCrypt {
    /// How often it iterates.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Parses what stands after the marker: `rounds=N$` or nothing, at most 16 bytes of salt, `$`, the digest.
    pub fn parse(text: &str, format: Format) -> Result<Self, InvalidPasswordHash> {
        let malformed = InvalidPasswordHash::Malformed(format);
        let (rounds, rest) = match text.strip_prefix("rounds=") {
            Some(text) => {
                let (number, rest) = text.split_once('$').ok_or(malformed)?;
                (parse_rounds(number, format)?, rest)
            }
            None => (DEFAULT_ROUNDS, text),
        };
        let long = format == Format::Sha512Crypt;
        let (salt, encoded) = rest.split_once('$').ok_or(malformed)?;
        if salt.len() > 16 || !is_encoded(encoded, if long { LENGTH_512 } else { LENGTH_256 }) {
            return Err(malformed);
        }
        Ok(ShaCrypt { long, rounds, salt: salt.as_bytes().into(), encoded: encoded.as_bytes().into() })
    }

    pub fn format(&self) -> Format {
        if self.long { Format::Sha512Crypt } else { Format::Sha256Crypt }
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        // In range since it was parsed; no password would match otherwise.
        let Ok(params) = Params::new(self.rounds) else { return false };
        let encoded = if self.long {
            encode(&sha512_crypt(password, &self.salt, params), &ORDER_512, LENGTH_512)
        } else {
            encode(&sha256_crypt(password, &self.salt, params), &ORDER_256, LENGTH_256)
        };
        encoded.ct_eq(&self.encoded).into()
    }
}

/// A number as `crypt(3)` writes it: it compares texts, so `05000` is not 5000.
fn parse_rounds(number: &str, format: Format) -> Result<u32, InvalidPasswordHash> {
    let plain = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
    if !plain || number.is_empty() {
        return Err(InvalidPasswordHash::Malformed(format));
    }
    match number.parse::<u32>() {
        Ok(rounds) if rounds < FEWEST_ROUNDS => Err(InvalidPasswordHash::Malformed(format)),
        Ok(rounds) if rounds <= MOST_ROUNDS => Ok(rounds),
        _ => Err(InvalidPasswordHash::TooSlow(format)),
    }
}
