//! Encoded messages as JSON that people read: the canonical form, with the field names of Envoy's
//! documentation and the content of each `Any` in place.
//!
//! The descriptors are those of the crate that has the types; both come from the same files.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

/// Why a message cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ToJsonError {
    /// Its type is not among those that this binary knows.
    #[error("no descriptor for {0}")]
    UnknownType(String),
    /// The bytes are not of that type.
    #[error("not a message of its type: {0}")]
    Decode(#[from] prost::DecodeError),
    /// It has no JSON form, as when an `Any` in it is of an unknown type.
    #[error("no JSON form: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The descriptors in this binary cannot be read.
    #[error("descriptors: {0}")]
    Descriptors(String),
}

static DESCRIPTORS: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/envoy.binpb")).as_slice())
        .map_err(|error| error.to_string())
});

/// The JSON form of an encoded message. `type_url` is its full name, with or without a prefix such as
/// `type.googleapis.com/`.
///
/// # Errors
///
/// [`ToJsonError`]: unknown types, bytes of another type.
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<serde_json::Value, ToJsonError> {
    let pool = DESCRIPTORS.as_ref().map_err(|error| ToJsonError::Descriptors(error.clone()))?;
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let descriptor =
        pool.get_message_by_name(name).ok_or_else(|| ToJsonError::UnknownType(name.to_owned()))?;
    let message = DynamicMessage::decode(descriptor, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

#[cfg(test)]
mod tests {
    use super::super::pb::{Duration, StringValue, core, pack_any};
    use super::*;

    #[test]
    fn expands_what_is_packed() {
        let inner = pack_any(core::TypedExtensionConfig {
            name: "x".to_owned(),
            typed_config: Some(pack_any(StringValue { value: "{\"version\":1}".to_owned() })),
        });
        let json = to_json(&inner.type_url, &inner.value).expect("known");
        assert_eq!(
            json.to_string(),
            r#"{"name":"x","typed_config":{"@type":"type.googleapis.com/google.protobuf.StringValue","value":"{\"version\":1}"}}"#
        );
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("type.googleapis.com/envoy.Nonsense", b"", "no descriptor for envoy.Nonsense"),
            ("google.protobuf.StringValue", b"\xff", "not a message of its type"),
        ];
        for (type_url, bytes, expected) in cases {
            let error = to_json(type_url, bytes).expect_err(type_url).to_string();
            assert!(error.contains(expected), "{type_url}: {error}");
        }
        let foreign = envoy_types::pb::google::protobuf::Any { type_url: "x/y.Z".to_owned(), value: vec![] };
        let packed =
            pack_any(core::TypedExtensionConfig { name: "x".to_owned(), typed_config: Some(foreign) });
        assert!(to_json(&packed.type_url, &packed.value).is_err(), "an Any of an unknown type");
    }

    #[test]
    fn durations_are_those_of_people() {
        let packed = pack_any(Duration { seconds: 5, nanos: 250_000_000 });
        assert_eq!(to_json(&packed.type_url, &packed.value).expect("known"), "5.250s");
    }
}
