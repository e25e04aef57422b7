//! Evidence as one short word: a status has room for 4 kB, and every bit must come back after a restart.
//!
//! The word is the `postcard` encoding (numbers as they are, counts by their size), deflated, in base64. The shape is that
//! of the state that holds it, and changes with its schema number.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use miniz_oxide::{deflate::compress_to_vec, inflate::decompress_to_vec_with_limit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser};

/// How hard the compressor tries: beyond this, time is lost and no octet won.
const LEVEL: u8 = 6;
/// Most octets that a word may stand for: a damaged one may not fill the memory.
const LARGEST: usize = 1 << 20;

/// The word of a value.
pub(crate) fn pack<T: Serialize>(value: &T) -> Result<String, postcard::Error> {
    let plain = postcard::to_allocvec(value)?;
    Ok(STANDARD_NO_PAD.encode(compress_to_vec(&plain, LEVEL)))
}

/// The value of a word.
pub(crate) fn unpack<T: DeserializeOwned>(word: &str) -> Result<T, String> {
    let bytes = STANDARD_NO_PAD
        .decode(word)
        .map_err(|e| format!("is no base64: {e}"))?;
    let plain =
        decompress_to_vec_with_limit(&bytes, LARGEST).map_err(|e| format!("is no deflated data: {e}"))?;
    postcard::from_bytes(&plain).map_err(|e| format!("is no evidence of this version: {e}"))
}

/// For `#[serde(with)]`.
pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    pack(value).map_err(ser::Error::custom)?.serialize(to)
}

/// For `#[serde(with)]`.
pub(crate) fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    unpack(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_comes_back() {
        let value = (0.1f64 + 0.2, u64::MAX, vec![Some(-0.0f64), None], "p".to_owned());
        let word = pack(&value).unwrap();
        assert_eq!(unpack::<(f64, u64, Vec<Option<f64>>, String)>(&word), Ok(value));
    }

    #[test]
    fn a_damaged_word_is_refused() {
        assert!(unpack::<u64>("?").is_err());
        assert!(unpack::<(f64, f64)>("AAAA").is_err());
    }
}
