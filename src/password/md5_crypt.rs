//! MD5 crypt by Poul-Henning Kamp (`$1$`), and Apache's variant of it, which differs in its name alone.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;

use super::encoding::{encode, is_encoded};
use super::{Format, InvalidPasswordHash};

/// Characters of an encoded digest.
const LENGTH: usize = 22;

/// Order of the bytes in the encoded digest.
const ORDER: [[u8; 3]; 6] = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5], [255, 255, 11]];

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Md5Crypt {
    apache: bool,
    salt: Box<[u8]>,
    encoded: Box<[u8]>,
}

impl Md5Crypt {
    /// Parses what stands after the marker: at most eight characters of salt, `$`, the digest.
    pub fn parse(text: &str, format: Format) -> Result<Self, InvalidPasswordHash> {
        let (salt, encoded) = text.split_once('$').ok_or(InvalidPasswordHash::Malformed(format))?;
        if salt.len() > 8 || !is_encoded(encoded, LENGTH) {
            return Err(InvalidPasswordHash::Malformed(format));
        }
        let (salt, encoded) = (salt.as_bytes().into(), encoded.as_bytes().into());
        Ok(Md5Crypt { apache: format == Format::Apr1, salt, encoded })
    }

    pub fn format(&self) -> Format {
        if self.apache { Format::Apr1 } else { Format::Md5Crypt }
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        encode(&self.digest(password), &ORDER, LENGTH).ct_eq(&self.encoded).into()
    }

    fn digest(&self, password: &[u8]) -> [u8; 16] {
        let magic: &[u8] = if self.apache { b"$apr1$" } else { b"$1$" };
        let salt = &self.salt;
        let alternate =
            Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();

        let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
        for block in password.chunks(alternate.len()) {
            first.update(alternate.get(..block.len()).unwrap_or_default());
        }
        // For each bit of the length: a NUL, or the first byte of the password. So it always was.
        let mut bits = password.len();
        while bits > 0 {
            first.update(if bits & 1 == 1 { &[0] } else { password.get(..1).unwrap_or_default() });
            bits >>= 1;
        }
        let mut digest: [u8; 16] = first.finalize().into();

        for round in 0..1000u32 {
            let odd = round & 1 == 1;
            let mut next = Md5::new();
            next.update(if odd { password } else { &digest });
            if round % 3 != 0 {
                next.update(salt);
            }
            if round % 7 != 0 {
                next.update(password);
            }
            next.update(if odd { &digest } else { password });
            digest = next.finalize().into();
        }
        digest
    }
}
