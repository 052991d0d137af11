//! What the host calls: the proxy-wasm ABI 0.2.1, and of its callbacks only those that do something.
//!
//! The host makes every call that a module exports, for every request. The SDK exports all of them, and whatever is
//! linked with it is exported too; so they stand here by themselves. What is left out on purpose: bodies of answers
//! and trailers are not looked at, nothing is asked to wait when a request ends (`proxy_on_done`), and nothing is
//! written then (`proxy_on_log`). A host takes each of these as done where there is no such export.

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::host;
use super::http::Http;
use super::root::Root;

/// What becomes of a stream after a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Action {
    /// It goes on.
    Continue = 0,
    /// It waits.
    Pause = 1,
}

/// Contexts by the numbers that the host gives them, one after the other.
type Contexts<T> = RefCell<HashMap<u32, T, BuildHasherDefault<Spread>>>;

thread_local! {
    static ROOTS: Contexts<Root> = RefCell::default();
    static STREAMS: Contexts<Box<Http>> = RefCell::default();
    /// The stream that is being called; 0 where none is.
    static CURRENT: Cell<u32> = const { Cell::new(0) };
    /// The streams that wait for a service, by the number of the question: the host hands all answers to the root.
    static WAITING: Contexts<u32> = RefCell::default();
}

/// Spreads numbers that follow each other over a table. They are the host's own, so that nobody can choose them.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// Calls a stream; none where there is no such stream. It is taken out meanwhile: a call to the host may come back
/// here before it returns.
fn stream<T>(context: u32, call: impl FnOnce(&mut Http) -> T) -> Option<T> {
    let mut stream = STREAMS.with_borrow_mut(|streams| streams.remove(&context))?;
    CURRENT.set(context);
    let result = call(&mut stream);
    CURRENT.set(0);
    STREAMS.with_borrow_mut(|streams| streams.insert(context, stream));
    Some(result)
}

/// Has the answer to a question come to the stream that is being called.
pub fn answer_to_current(question: u32) {
    WAITING.with_borrow_mut(|waiting| waiting.insert(question, CURRENT.get()));
}

/// Calls a root, as [`stream`].
fn root<T>(context: u32, call: impl FnOnce(&mut Root) -> T) -> Option<T> {
    let mut root = ROOTS.with_borrow_mut(|roots| roots.remove(&context))?;
    let result = call(&mut root);
    ROOTS.with_borrow_mut(|roots| roots.insert(context, root));
    Some(result)
}

unsafe extern "C" {
    fn __wasm_call_ctors();
}

// SAFETY, for all exports: the names are the ABI's, and nothing else in the module has them.

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn _initialize() {
    // SAFETY: the linker makes this function, and the host calls `_initialize` once, before anything else.
    unsafe { __wasm_call_ctors() };
    host::log_to_host();
}

/// Memory for what the host hands over; see `returned` in [`super::host`].
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(Box::<[u8]>::new_uninit_slice(size)).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    if parent == 0 {
        ROOTS.with_borrow_mut(|roots| roots.insert(context, Root::new()));
    } else if let Some(stream) = root(parent, |root| root.create_http_context()) {
        STREAMS.with_borrow_mut(|streams| streams.insert(context, Box::new(stream)));
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(context: u32, _: usize) -> i32 {
    root(context, |root| root.on_vm_start()).unwrap_or(false).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, size: usize) -> i32 {
    root(context, |root| root.on_configure(size)).unwrap_or(false).into()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    root(context, Root::on_tick);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _: usize, _: i32) -> Action {
    // A request that was never announced is decided as one without a configuration: it is refused.
    stream(context, Http::on_http_request_headers)
        .unwrap_or_else(|| Http::new(None).on_http_request_headers())
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: usize, _: i32) -> Action {
    stream(context, |stream| stream.on_http_request_body(size)).unwrap_or(Action::Continue)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _: usize, _: i32) -> Action {
    stream(context, Http::on_http_response_headers).unwrap_or(Action::Continue)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(_: u32, question: u32, headers: usize, body: usize, _: usize) {
    let Some(context) = WAITING.with_borrow_mut(|waiting| waiting.remove(&question)) else { return };
    stream(context, |stream| {
        // What follows is about the stream, not about the root that was called. It fails for one that has ended.
        if host::set_effective_context(context).is_ok() {
            stream.on_http_call_response(headers, body);
        }
    });
}

/// Not by `with_borrow_mut` alone: what is dropped calls the host, and the map is not borrowed meanwhile.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    drop(STREAMS.with_borrow_mut(|streams| streams.remove(&context)));
    if let Some(root) = ROOTS.with_borrow_mut(|roots| roots.remove(&context)) {
        root.on_delete();
    }
}
