//! The options of the ConfigMap for TLS with clients.
//!
//! Deliberately knows nothing of certificates.

use crate::annotations::{InvalidValue, Value, config_option};
use crate::ciphers::{CipherList, cipher_list};
use crate::diagnostic::Diagnostic;
use crate::objects::{ConfigMap, Kind, ObjectRef, Snapshot};
use crate::output::Options;
use crate::report::Report;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.0.
    V1_0,
    /// TLS 1.1.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// How TLS is spoken with clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The oldest version.
    pub oldest: TlsVersion,
    /// The newest version.
    pub newest: TlsVersion,
    /// Ciphers for versions before 1.3, by OpenSSL's names, in order of preference; none: Envoy's own list,
    /// which holds those of ingress-nginx that BoringSSL has.
    pub ciphers: Vec<&'static str>,
    /// HTTP/2 is offered.
    pub http2: bool,
    /// Handshakes for hosts that no Ingress names are refused.
    pub reject_unknown: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        TlsSettings {
            oldest: TlsVersion::V1_2,
            newest: TlsVersion::V1_3,
            ciphers: Vec::new(),
            http2: true,
            reject_unknown: false,
        }
    }
}

/// The names that `ssl-protocols` may hold.
pub(crate) const PROTOCOLS: &[&str] = &["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

/// Reads the options from the ConfigMap that the options name, if it is there. What is absent or invalid has
/// its default; of invalid values the check of the ConfigMap tells.
pub fn read(snapshot: &Snapshot, options: &Options, report: &mut Report) -> TlsSettings {
    let mut settings = TlsSettings::default();
    let Some(map) = options.config_map.as_ref().and_then(|name| snapshot.config_maps.get(name)) else {
        return settings;
    };
    let value = |name: &str| {
        let text = map.data.get(name)?;
        config_option(name).ok_or(InvalidValue::Malformed).and_then(|option| option.value.parse(text)).ok()
    };
    if let Some(Value::Bool(on)) = value("use-http2") {
        settings.http2 = on;
    }
    if let Some(Value::Bool(on)) = value("ssl-reject-handshake") {
        settings.reject_unknown = on;
    }
    if let Some(Value::List(names)) = value("ssl-protocols") {
        protocols(map, &names, &mut settings, report);
    }
    if let Some(text) = map.data.get("ssl-ciphers") {
        ciphers(map, text, &mut settings, report);
    }
    settings
}

fn tell(map: &ConfigMap, name: &str, diagnostic: Diagnostic, report: &mut Report) {
    let object = ObjectRef { kind: Kind::ConfigMap, name: map.metadata.name.clone() };
    let found = map.data.get(name).map_or("", String::as_str);
    report.add(
        diagnostic.field(format!("data[\"{name}\"]"), found).object(object, map.metadata.source.clone()),
    );
}

fn protocols(map: &ConfigMap, names: &[String], settings: &mut TlsSettings, report: &mut Report) {
    const VERSIONS: [TlsVersion; 4] =
        [TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2, TlsVersion::V1_3];
    let is_asked = |name: &&str| names.iter().any(|asked| asked == *name);
    let asked: Vec<TlsVersion> = PROTOCOLS
        .iter()
        .zip(VERSIONS)
        .filter(|(name, _)| is_asked(name))
        .map(|(_, version)| version)
        .collect();
    let (Some(oldest), Some(newest)) = (asked.first(), asked.last()) else { return };
    (settings.oldest, settings.newest) = (*oldest, *newest);
    if VERSIONS.iter().filter(|version| (*oldest..=*newest).contains(*version)).count() != asked.len() {
        let consequence =
            "versions between the oldest and the newest cannot be left out: they are offered too";
        let diagnostic = Diagnostic::warning("ssl-protocols-gap", consequence)
            .remedy("name versions that follow one another");
        tell(map, "ssl-protocols", diagnostic, report);
    }
}

fn ciphers(map: &ConfigMap, text: &str, settings: &mut TlsSettings, report: &mut Report) {
    let CipherList { ciphers, unknown } = cipher_list(text);
    settings.ciphers = ciphers;
    if unknown.is_empty() {
        return;
    }
    let consequence = if settings.ciphers.is_empty() {
        "none of these ciphers is known: Envoy's own list holds".to_owned()
    } else {
        format!("not available and left out: {}", unknown.join(", "))
    };
    let diagnostic = Diagnostic::warning("ssl-ciphers-unknown", consequence)
        .remedy("use ciphers with AES-GCM or ChaCha20, by OpenSSL's names");
    tell(map, "ssl-ciphers", diagnostic, report);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read_from(name: &str, value: &str) -> (TlsSettings, Vec<String>) {
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {name: value},
            "metadata": {"namespace": "ingress-nginx", "name": "ingress-nginx-controller"},
        });
        let loaded = crate::manifest::read(&"map.json".into(), &text.to_string());
        let mut snapshot = Snapshot::default();
        loaded.objects.into_iter().for_each(|object| drop(snapshot.insert(object)));
        let mut report = Report::default();
        let settings = read(&snapshot, &Options::default(), &mut report);
        (settings, report.finish().0.iter().map(|diagnostic| diagnostic.consequence.clone()).collect())
    }

    #[test]
    fn versions() {
        use TlsVersion::*;
        let cases: &[(&str, TlsVersion, TlsVersion, usize)] = &[
            ("", V1_2, V1_3, 0),
            ("TLSv1.3", V1_3, V1_3, 0),
            ("TLSv1.3 TLSv1.2", V1_2, V1_3, 0),
            ("TLSv1 TLSv1.1 TLSv1.2 TLSv1.3", V1_0, V1_3, 0),
            ("TLSv1.1 TLSv1.3", V1_1, V1_3, 1),
            ("SSLv3", V1_2, V1_3, 0),
        ];
        for (value, oldest, newest, told) in cases {
            let (settings, diagnostics) = read_from("ssl-protocols", value);
            assert_eq!(
                (settings.oldest, settings.newest, diagnostics.len()),
                (*oldest, *newest, *told),
                "{value}"
            );
        }
    }

    #[test]
    fn lists_of_ciphers() {
        let (own, none): (&[&str], &str) = (&[], "none of these ciphers is known: Envoy's own list holds");
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", own, &[]),
            ("AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256", &["AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256"], &[]),
            (
                "AES128-SHA:DHE-RSA-AES128-GCM-SHA256",
                &["AES128-SHA"],
                &["not available and left out: DHE-RSA-AES128-GCM-SHA256"],
            ),
            ("DHE:!aNULL", own, &[none]),
        ];
        for (value, ciphers, told) in cases {
            let (settings, diagnostics) = read_from("ssl-ciphers", value);
            assert_eq!((&*settings.ciphers, &*diagnostics), (*ciphers, &*told.map_owned()), "{value}");
        }
    }

    trait MapOwned {
        fn map_owned(&self) -> Vec<String>;
    }

    impl MapOwned for &[&str] {
        fn map_owned(&self) -> Vec<String> {
            self.iter().map(|text| (*text).to_owned()).collect()
        }
    }

    #[test]
    fn switches() {
        let default = TlsSettings::default();
        let cases = BTreeMap::from([
            (("use-http2", "false"), TlsSettings { http2: false, ..default.clone() }),
            (("use-http2", "nonsense"), default.clone()),
            (("ssl-reject-handshake", "true"), TlsSettings { reject_unknown: true, ..default }),
        ]);
        for ((name, value), expected) in cases {
            assert_eq!(read_from(name, value).0, expected, "{name}: {value}");
        }
    }
}
