//! Filters that compress answers, as the ConfigMap asks for.

use ingress_wasm_translate::connections::{ClientConnections, Compression};

use super::pb::{Any, brotli, compressor, core, gzip, hcm, number, pack_any};

/// The filters, Brotli first: where a client likes both as much, that is taken, as by nginx.
pub(super) fn compressors(clients: &ClientConnections) -> impl Iterator<Item = hcm::HttpFilter> {
    let brotli = clients.brotli.as_ref().map(|how| filter("brotli", how, brotli_library(how), true));
    let gzip = clients.gzip.as_ref().map(|how| filter("gzip", how, gzip_library(how), false));
    brotli.into_iter().chain(gzip)
}

fn filter(format: &str, how: &Compression, library: Any, choose_first: bool) -> hcm::HttpFilter {
    use compressor::compressor::{CommonDirectionConfig, ResponseDirectionConfig};

    // The field that replaces `content_type` is one that older Envoys do not know.
    #[expect(deprecated, reason = "see above")]
    let common = CommonDirectionConfig {
        min_content_length: number(how.min_length),
        content_type: how.types.clone(),
        ..CommonDirectionConfig::default()
    };
    let config = compressor::Compressor {
        compressor_library: Some(core::TypedExtensionConfig {
            name: format.to_owned(),
            typed_config: Some(library),
        }),
        choose_first,
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: Some(common),
            // As nginx does: the content is the same, the bytes are not.
            weaken_etag_on_compress: true,
            ..ResponseDirectionConfig::default()
        }),
        ..compressor::Compressor::default()
    };
    hcm::HttpFilter {
        name: format!("envoy.filters.http.compressor.{format}"),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack_any(config))),
        ..hcm::HttpFilter::default()
    }
}

fn brotli_library(how: &Compression) -> Any {
    pack_any(brotli::Brotli { quality: number(how.level), ..brotli::Brotli::default() })
}

fn gzip_library(how: &Compression) -> Any {
    use gzip::gzip::CompressionLevel;

    let level = i32::try_from(how.level).ok().and_then(|level| CompressionLevel::try_from(level).ok());
    pack_any(gzip::Gzip {
        compression_level: level.unwrap_or(CompressionLevel::DefaultCompression).into(),
        ..gzip::Gzip::default()
    })
}
