//! Traditional DES crypt: two characters of salt and eleven of digest, and only the first eight characters of a
//! password count. Broken for decades, but `htpasswd -d` still makes it and nginx still takes it.
//!
//! Written for size: bits are moved one by one by the tables of FIPS 46-3.

use subtle::ConstantTimeEq as _;

use super::encoding::{character, is_encoded, value};

const INITIAL: [u8; 64] = [
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4, 62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48,
    40, 32, 24, 16, 8, 57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3, 61, 53, 45, 37, 29, 21,
    13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
];

const FINAL: [u8; 64] = [
    40, 8, 48, 16, 56, 24, 64, 32, 39, 7, 47, 15, 55, 23, 63, 31, 38, 6, 46, 14, 54, 22, 62, 30, 37, 5, 45,
    13, 53, 21, 61, 29, 36, 4, 44, 12, 52, 20, 60, 28, 35, 3, 43, 11, 51, 19, 59, 27, 34, 2, 42, 10, 50, 18,
    58, 26, 33, 1, 41, 9, 49, 17, 57, 25,
];

const EXPANSION: [u8; 48] = [
    32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17, 16, 17, 18, 19, 20,
    21, 20, 21, 22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
];

const PERMUTATION: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10, 2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6,
    22, 11, 4, 25,
];

const CHOICE_1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44,
    36, 63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20,
    12, 4,
];

const CHOICE_2: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2, 41, 52, 31, 37,
    47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];

/// The eight boxes, each four rows of sixteen, a hexadecimal digit for each entry.
const BOXES: [[u64; 4]; 8] = [
    [0xe4d1_2fb8_3a6c_5907, 0x0f74_e2d1_a6cb_9538, 0x41e8_d62b_fc97_3a50, 0xfc82_4917_5b3e_a06d],
    [0xf18e_6b34_972d_c05a, 0x3d47_f28e_c01a_69b5, 0x0e7b_a4d1_58c6_932f, 0xd8a1_3f42_b67c_05e9],
    [0xa09e_63f5_1dc7_b428, 0xd709_346a_285e_cbf1, 0xd649_8f30_b12c_5ae7, 0x1ad0_6987_4fe3_b52c],
    [0x7de3_069a_1285_bc4f, 0xd8b5_6f03_472c_1ae9, 0xa690_cb7d_f13e_5284, 0x3f06_a1d8_945b_c72e],
    [0x2c41_7ab6_853f_d0e9, 0xeb2c_47d1_50fa_3986, 0x421b_ad78_f9c5_630e, 0xb8c7_1e2d_6f09_a453],
    [0xc1af_9268_0d34_e75b, 0xaf42_7c95_61de_0b38, 0x9ef5_28c3_704a_1db6, 0x432c_95fa_be17_608d],
    [0x4b2e_f08d_3c97_5a61, 0xd0b7_491a_e35c_2f86, 0x14bd_c37e_af68_0592, 0x6bd8_14a7_950f_e23c],
    [0xd284_6fb1_a93e_50c7, 0x1fd8_a374_c56b_0e92, 0x7b41_9ce2_06ad_f358, 0x21e7_4a8d_fc90_356b],
];

/// Places by which the halves of the key move before each round.
const ROTATIONS: [u32; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];

#[derive(Clone, PartialEq, Eq)]
pub(super) struct DesCrypt {
    /// Bits of the expanded half that change places with those 24 further.
    salt: u64,
    encoded: [u8; 11],
}

impl DesCrypt {
    /// Parses thirteen characters; none for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if !is_encoded(text, 13) {
            return None;
        }
        let (salt, encoded) = text.as_bytes().split_first_chunk::<2>()?;
        let [low, high] = salt.map(|byte| value(byte).unwrap_or_default());
        // The lowest bit of the salt is the first bit of the half, so its twelve bits are turned round.
        let bits = (low | (high << 6)).reverse_bits() >> 20;
        Some(DesCrypt { salt: u64::from(bits) << 12, encoded: encoded.try_into().ok()? })
    }

    pub fn verify(&self, password: &[u8]) -> bool {
        let mut key = [0; 8];
        // Seven bits of each character count; the eighth is the parity that DES passes over.
        key.iter_mut().zip(password).for_each(|(key, byte)| *key = byte << 1);
        let keys = round_keys(u64::from_be_bytes(key));
        let block = (0..25).fold(0, |block, _| self.encrypt(block, &keys));
        // 64 bits and two zeros make eleven characters, the highest bits first.
        let bits = u128::from(block) << 2;
        let encoded: [u8; 11] = std::array::from_fn(|index| {
            let shift = u32::try_from(index).unwrap_or_default().wrapping_mul(6);
            character(u32::try_from(bits.wrapping_shr(60u32.wrapping_sub(shift)) & 63).unwrap_or_default())
        });
        encoded.ct_eq(&self.encoded).into()
    }

    fn encrypt(&self, block: u64, keys: &[u64; 16]) -> u64 {
        let block = permute(block, 64, &INITIAL);
        let (mut left, mut right) = (block >> 32, block & 0xffff_ffff);
        for key in keys {
            let mixed = left ^ self.round(right, *key);
            (left, right) = (right, mixed);
        }
        permute((right << 32) | left, 64, &FINAL)
    }

    fn round(&self, half: u64, key: u64) -> u64 {
        let expanded = permute(half, 32, &EXPANSION);
        let swapped = ((expanded >> 24) ^ expanded) & self.salt;
        let mut bits = (expanded ^ swapped ^ (swapped << 24) ^ key) << 16;
        let mut output = 0;
        for rows in &BOXES {
            bits = bits.rotate_left(6);
            let row = usize::try_from(((bits >> 4) & 2) | (bits & 1)).unwrap_or_default();
            let column = u32::try_from((bits >> 1) & 15).unwrap_or_default();
            let entries = rows.get(row).copied().unwrap_or_default();
            output = (output << 4) | (entries.rotate_left(column.wrapping_mul(4).wrapping_add(4)) & 15);
        }
        permute(output, 32, &PERMUTATION)
    }
}

/// Bits of the input, which is of so many bits, in the order of a table that counts from 1 at the highest.
fn permute(input: u64, width: u32, table: &[u8]) -> u64 {
    table.iter().fold(0, |output, place| {
        (output << 1) | (input.wrapping_shr(width.wrapping_sub(u32::from(*place))) & 1)
    })
}

fn round_keys(key: u64) -> [u64; 16] {
    const HALF: u64 = 0xfff_ffff;
    let chosen = permute(key, 64, &CHOICE_1);
    let (mut left, mut right) = (chosen >> 28, chosen & HALF);
    ROTATIONS.map(|places| {
        let rotate =
            |half: u64| (half.wrapping_shl(places) | half.wrapping_shr(28u32.wrapping_sub(places))) & HALF;
        (left, right) = (rotate(left), rotate(right));
        permute((left << 28) | right, 56, &CHOICE_2)
    })
}
