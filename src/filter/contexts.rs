//! What the host calls: the contexts of the proxy-wasm SDK, each callback handed to the room that it is about.
//!
//! The SDK exports every callback of the ABI, and the host makes each call that a module exports. Those that are not
//! here do nothing: bodies of answers and trailers are not looked at, and nothing waits when a request ends.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use super::host;
use super::http::Http;
use super::root::Root;

proxy_wasm::main! {{
    host::log_to_host();
    proxy_wasm::set_root_context(|_| Box::new(Root::new()));
}}

impl Context for Root {}

impl RootContext for Root {
    fn on_vm_start(&mut self, _: usize) -> bool {
        Root::on_vm_start(self)
    }

    fn on_configure(&mut self, size: usize) -> bool {
        Root::on_configure(self, size)
    }

    fn on_tick(&mut self) {
        Root::on_tick(self);
    }

    fn create_http_context(&self, _: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Root::create_http_context(self)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        self.on_delete();
    }
}

impl Context for Http {
    fn on_http_call_response(&mut self, _: u32, headers: usize, body: usize, _: usize) {
        Http::on_http_call_response(self, headers, body);
    }
}

impl HttpContext for Http {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        Http::on_http_request_headers(self)
    }

    fn on_http_request_body(&mut self, size: usize, _: bool) -> Action {
        Http::on_http_request_body(self, size)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        Http::on_http_response_headers(self)
    }
}
