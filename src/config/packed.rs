//! A plugin configuration in few bytes, for places that take no large ones, such as objects of an API server:
//! `{"version":1,"compressed":"…"}` with the configuration as JSON, compressed (DEFLATE, RFC 1951), in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::inflate::inflate;
use super::json::Reader;
use super::{ConfigError, SCHEMA_VERSION};

/// Beyond this a configuration is refused, in bytes: what unpacks to more is a mistake or an attack.
const LIMIT: usize = 256 * 1024 * 1024;

/// The configuration that a document holds compressed; none where it is not of this form.
///
/// # Errors
///
/// [`ConfigError::Malformed`] where it is and cannot be unpacked.
pub fn unpack(document: &[u8]) -> Result<Option<Vec<u8>>, ConfigError> {
    let mut compressed = None;
    let mut version = None;
    let mut reader = Reader::new(document);
    let read = reader.object(&mut |reader, key| match key {
        "version" => {
            version = Some(reader.number(u64::MAX)?);
            Ok(true)
        }
        "compressed" => {
            compressed = Some(reader.string()?);
            Ok(true)
        }
        _ => Ok(false),
    });
    let (Some(compressed), Ok(())) = (compressed, read.and_then(|()| reader.end())) else { return Ok(None) };
    if version != Some(u64::from(SCHEMA_VERSION)) {
        return Ok(None);
    }
    let fault = |reason: &str| ConfigError::Malformed { path: "compressed".into(), reason: reason.into() };
    let bytes = STANDARD.decode(compressed).map_err(|_| fault("not base64"))?;
    inflate(&bytes, LIMIT).map(Some).ok_or_else(|| fault("cannot be decompressed"))
}
