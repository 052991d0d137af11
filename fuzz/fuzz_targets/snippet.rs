//! A snippet of nginx configuration: what is read, written and read again is the same, and what comes of it is taken
//! by the filter.
#![no_main]

use ingress_wasm_translate::snippet::{Compiler, Directive, Place, parse, print, script};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(mut directives) = parse(text) else { return };
    for place in [Place::Http, Place::Server, Place::Location] {
        let mut compiler = Compiler::new(place, Vec::new(), &["host"]);
        compiler.add(&directives);
        let compiled = compiler.finish();
        let script = script(&compiled, &[], &compiled.maps);
        let config = serde_json::json!({"version": 1, "policies": [{"script": script.unwrap_or_default()}]});
        let config = ingress_wasm::config::from_slice(config.to_string().as_bytes()).expect("reads");
        ingress_wasm::router::compile(config).expect("compiles");
    }
    let printed = print(&directives);
    let mut again = parse(&printed).expect("what is written can be read");
    forget_lines(&mut again);
    forget_lines(&mut directives);
    assert_eq!(again, directives, "{printed}");
});

fn forget_lines(directives: &mut [Directive]) {
    for directive in directives {
        directive.line = 0;
        forget_lines(directive.block.as_deref_mut().unwrap_or_default());
    }
}
