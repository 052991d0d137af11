//! The calls to the host: the proxy-wasm ABI 0.2.1, as far as it is used, with every status as a value.
//!
//! The SDK's own functions panic on a status that they do not expect, and its text forms on bytes that are
//! not UTF-8; a panic ends the VM and with it every request of the worker. So the calls stand here by
//! themselves. What the host calls stands in [`super::contexts`].

#![allow(unsafe_code)]

use std::ptr::null_mut;
use std::time::Duration;

use proxy_wasm::hostcalls::dispatch_http_call;

use crate::decision::Callout;

/// Which list of headers.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Map {
    /// Of the request.
    Request = 0,
    /// Of the answer.
    Response = 2,
    /// Of the answer to a callout.
    Callout = 6,
}

/// A status other than Ok; its number in the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostError(pub i32);

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_header_map_pairs(map: i32, data: *mut *mut u8, size: *mut usize) -> i32;
    fn proxy_set_header_map_pairs(map: i32, data: *const u8, size: usize) -> i32;
    fn proxy_get_header_map_value(
        map: i32,
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> i32;
    fn proxy_define_metric(kind: i32, name: *const u8, name_size: usize, id: *mut u32) -> i32;
    fn proxy_increment_metric(id: u32, offset: i64) -> i32;
    fn proxy_get_buffer_bytes(
        buffer: i32,
        start: usize,
        most: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> i32;
    fn proxy_get_shared_data(
        name: *const u8,
        name_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
        version: *mut u32,
    ) -> i32;
    fn proxy_set_shared_data(
        name: *const u8,
        name_size: usize,
        data: *const u8,
        size: usize,
        version: u32,
    ) -> i32;
    fn proxy_continue_stream(stream: i32) -> i32;
    fn proxy_log(level: i32, message: *const u8, size: usize) -> i32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> i32;
    fn proxy_get_property(path: *const u8, path_size: usize, data: *mut *mut u8, size: *mut usize) -> i32;
    fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> i32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc_status: i32,
    ) -> i32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        data: *mut *mut u8,
        size: *mut usize,
    ) -> i32;
}

/// All headers of a map, in the form of the ABI: see [`super::header_map`].
pub fn headers(map: Map) -> Result<Vec<u8>, HostError> {
    // SAFETY: the host writes an address that it had from `proxy_on_memory_allocate`, and its size.
    returned(|data, size| unsafe { proxy_get_header_map_pairs(map as i32, data, size) })
}

/// The first value of a header.
pub fn header(map: Map, name: &str) -> Result<Vec<u8>, HostError> {
    // SAFETY: as in `headers`; the name is only read.
    returned(|data, size| unsafe {
        proxy_get_header_map_value(map as i32, name.as_ptr(), name.len(), data, size)
    })
}

/// Makes a counter, and gives its number.
pub fn define_counter(name: &str) -> Result<u32, HostError> {
    const COUNTER: i32 = 0;
    let mut id = 0;
    // SAFETY: the host reads the name and writes the number.
    status(unsafe { proxy_define_metric(COUNTER, name.as_ptr(), name.len(), &mut id) })?;
    Ok(id)
}

/// Adds one to a counter.
pub fn increment(id: u32) {
    // SAFETY: no memory is handed over. A number that the host does not know changes nothing.
    let _ = unsafe { proxy_increment_metric(id, 1) };
}

/// Replaces all headers of a map.
pub fn set_headers(map: Map, pairs: &[u8]) -> Result<(), HostError> {
    // SAFETY: the host only reads, within the slice.
    status(unsafe { proxy_set_header_map_pairs(map as i32, pairs.as_ptr(), pairs.len()) })
}

/// A property of the request or its connection; its parts are separated by NUL.
pub fn property(path: &str) -> Result<Vec<u8>, HostError> {
    // SAFETY: as in `headers`; the path is only read.
    returned(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Leaves a value in the filter state of the request, as `wasm.NAME`.
pub fn set_property(name: &str, value: &[u8]) -> Result<(), HostError> {
    // SAFETY: the host only reads, within the slices.
    status(unsafe { proxy_set_property(name.as_ptr(), name.len(), value.as_ptr(), value.len()) })
}

/// Answers the request here. `headers` is in the form of the ABI.
pub fn send_local_response(code: u16, details: &str, headers: &[u8], body: &[u8]) -> Result<(), HostError> {
    /// No gRPC status of our own: Envoy derives one from the HTTP status.
    const NO_GRPC_STATUS: i32 = -1;
    // SAFETY: the host only reads, within the slices.
    status(unsafe {
        proxy_send_local_response(
            u32::from(code),
            details.as_ptr(),
            details.len(),
            body.as_ptr(),
            body.len(),
            headers.as_ptr(),
            headers.len(),
            NO_GRPC_STATUS,
        )
    })
}

/// The body of the answer to a callout.
pub fn callout_body(size: usize) -> Result<Vec<u8>, HostError> {
    const CALLOUT_BODY: i32 = 4;
    // SAFETY: as in `headers`.
    returned(|data, read| unsafe { proxy_get_buffer_bytes(CALLOUT_BODY, 0, size, data, read) })
}

/// An entry of the data that all workers share, and its version; empty where there is none yet.
pub fn shared_data(name: &[u8]) -> Result<(Vec<u8>, u32), HostError> {
    const NOT_FOUND: i32 = 1;
    /// A version that no entry has. To the host 0 would mean to write whatever is there.
    const NEW: u32 = u32::MAX;
    let mut version = 0;
    // SAFETY: as in `headers`; the name is only read, and the version is written to a variable that lives on.
    let found = returned(|data, size| unsafe {
        proxy_get_shared_data(name.as_ptr(), name.len(), data, size, &mut version)
    });
    match found {
        Ok(bytes) => Ok((bytes, version)),
        Err(HostError(NOT_FOUND)) => Ok((Vec::new(), NEW)),
        Err(error) => Err(error),
    }
}

/// Writes an entry of the data that all workers share, unless it has got another version; says whether.
pub fn set_shared_data(name: &[u8], bytes: &[u8], version: u32) -> Result<bool, HostError> {
    const CAS_MISMATCH: i32 = 8;
    // SAFETY: the host only reads, within the slices.
    let written = status(unsafe {
        proxy_set_shared_data(name.as_ptr(), name.len(), bytes.as_ptr(), bytes.len(), version)
    });
    match written {
        Ok(()) => Ok(true),
        Err(HostError(CAS_MISMATCH)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets a request go on that was paused.
pub fn continue_request() -> Result<(), HostError> {
    const REQUEST: i32 = 0;
    // SAFETY: no memory is handed over.
    status(unsafe { proxy_continue_stream(REQUEST) })
}

/// Asks a service; its answer comes to `on_http_call_response`. Fails where there is no such cluster.
pub fn call(callout: &Callout<'_>) -> Result<(), HostError> {
    // SAFETY: the SDK takes text and only copies its bytes; header values of clients need not be UTF-8. Its own
    // call is used since it alone leads the answer back to this context.
    let text = |bytes| unsafe { std::str::from_utf8_unchecked(bytes) };
    let headers = callout.headers.iter().map(|(name, value)| (&**name, text(&**value))).collect();
    let timeout = Duration::from_millis(u64::from(callout.timeout_ms));
    dispatch_http_call(&callout.cluster, headers, None, Vec::new(), timeout)
        .map(drop)
        .map_err(|status| HostError(status as i32))
}

/// The plugin configuration, of which the host told the size.
pub fn plugin_configuration(size: usize) -> Result<Vec<u8>, HostError> {
    const PLUGIN_CONFIGURATION: i32 = 7;
    // SAFETY: as in `headers`.
    returned(|data, read| unsafe { proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, data, read) })
}

/// Has `on_tick` of the root called time and again.
pub fn set_tick_period(period: Duration) -> Result<(), HostError> {
    // SAFETY: no memory is handed over.
    status(unsafe {
        proxy_set_tick_period_milliseconds(u32::try_from(period.as_millis()).unwrap_or(u32::MAX))
    })
}

/// Has what is logged come to the host's log. A panic's message gets there by itself, as standard error.
pub fn log_to_host() {
    // Fails where it was done before.
    let _ = log::set_logger(&HostLog);
    log::set_max_level(log::LevelFilter::Info);
}

struct HostLog;

impl log::Log for HostLog {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        let level = match record.level() {
            log::Level::Trace => 0,
            log::Level::Debug => 1,
            log::Level::Info => 2,
            log::Level::Warn => 3,
            log::Level::Error => 4,
        };
        let message = record.args().to_string();
        // SAFETY: the host only reads, within the text.
        let _ = unsafe { proxy_log(level, message.as_ptr(), message.len()) };
    }

    fn flush(&self) {}
}

/// Has Envoy look the route up again: since 1.33 it does not do so by itself when headers change.
pub fn clear_route_cache() -> Result<(), HostError> {
    const NAME: &str = "clear_route_cache";
    // SAFETY: as in `headers`.
    returned(|data, size| unsafe {
        proxy_call_foreign_function(NAME.as_ptr(), NAME.len(), null_mut(), 0, data, size)
    })
    .map(drop)
}

fn status(status: i32) -> Result<(), HostError> {
    if status == 0 { Ok(()) } else { Err(HostError(status)) }
}

/// Takes over what a call gives back.
fn returned(call: impl FnOnce(*mut *mut u8, *mut usize) -> i32) -> Result<Vec<u8>, HostError> {
    let mut data = null_mut();
    let mut size = 0;
    status(call(&mut data, &mut size))?;
    if data.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the SDK's `proxy_on_memory_allocate` made the memory as a `Vec` of this capacity, and the host
    // filled it and gave it up.
    Ok(unsafe { Vec::from_raw_parts(data, size, size) })
}
