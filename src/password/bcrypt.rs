//! bcrypt by Provos and Mazières, on the `blowfish` crate. `$2a$`, `$2b$` and `$2y$` name the same algorithm;
//! `$2x$`, which repeats an old bug, is not taken.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use blowfish::Blowfish;
use subtle::ConstantTimeEq as _;

use super::{Format, InvalidPasswordHash};

const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

/// Highest cost that is taken: about two seconds of a worker inside the proxy, each further step doubles it.
const HIGHEST_COST: u32 = 15;

/// Bytes of a password that count.
const PASSWORD_BYTES: usize = 72;

/// Bytes of the digest that are kept in the text.
const DIGEST_BYTES: usize = 23;

/// What is encrypted: "OrpheanBeholderScryDoubt".
const TEXT: [[u32; 2]; 3] =
    [[0x4f72_7068, 0x6561_6e42], [0x6568_6f6c, 0x6465_7253], [0x6372_7944, 0x6f75_6274]];

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Bcrypt {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; DIGEST_BYTES],
}

impl Bcrypt {
    /// The binary logarithm of the number of rounds.
    pub fn cost(&self) -> u32 {
        self.cost
    }

    /// Parses what stands after the marker: two digits of cost, `$`, 22 characters of salt, 31 of digest.
    pub fn parse(text: &str) -> Result<Self, InvalidPasswordHash> {
        const MALFORMED: InvalidPasswordHash = InvalidPasswordHash::Malformed(Format::Bcrypt);
        let (cost, encoded) = text.split_once('$').ok_or(MALFORMED)?;
        if cost.len() != 2 || !cost.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(MALFORMED);
        }
        let cost: u32 = cost.parse().map_err(|_| MALFORMED)?;
        let (salt, digest) = encoded.split_at_checked(22).ok_or(MALFORMED)?;
        let salt = ENGINE.decode(salt).ok().and_then(|salt| salt.try_into().ok()).ok_or(MALFORMED)?;
        let digest = ENGINE.decode(digest).ok().and_then(|digest| digest.try_into().ok()).ok_or(MALFORMED)?;
        match cost {
            4..=HIGHEST_COST => Ok(Bcrypt { cost, salt, digest }),
            16..=31 => Err(InvalidPasswordHash::TooSlow(Format::Bcrypt)),
            _ => Err(MALFORMED),
        }
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        // The key is the password with its NUL byte, of which the first 72 bytes count.
        let key: Vec<u8> = password.iter().copied().chain([0]).take(PASSWORD_BYTES).collect();
        let mut state = Blowfish::bc_init_state();
        state.salted_expand_key(&self.salt, &key);
        for _ in 0..1u32.wrapping_shl(self.cost) {
            state.bc_expand_key(&key);
            state.bc_expand_key(&self.salt);
        }
        let mut computed = Vec::with_capacity(24);
        for block in TEXT {
            let encrypted = (0..64).fold(block, |block, _| state.bc_encrypt(block));
            computed.extend(encrypted.into_iter().flat_map(u32::to_be_bytes));
        }
        computed.truncate(DIGEST_BYTES);
        computed.ct_eq(&self.digest).into()
    }
}
