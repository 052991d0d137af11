//! What happens when processes end.

use std::time::Duration;

use ingress_wasm_tests::client::{Target, WireRequest, once};
use ingress_wasm_tests::product::{alive, descendants};
use ingress_wasm_tests::site::Backend;

use crate::support::{SOON, Served, eventually, expect_status, ingress, serve};

fn web() -> Result<Served, String> {
    serve(&[Backend::new("web", 1)], &ingress("web", "web", &[]))
}

/// The process of Envoy. Its main thread is named after its file.
fn envoy(served: &Served) -> Option<i32> {
    let children = descendants(served.product.pid());
    children.into_iter().find(|(_, name)| name.starts_with("envoy")).map(|(pid, _)| pid)
}

pub fn killed_envoy_comes_back() -> Result<(), String> {
    let served = web()?;
    expect_status(&served.get("web.example", "/")?, 200, "before")?;
    let first = envoy(&served).ok_or("there is no Envoy below the product")?;
    let killed = rustix::process::Pid::from_raw(first).ok_or("no process number")?;
    rustix::process::kill_process(killed, rustix::process::Signal::KILL)
        .map_err(|error| error.to_string())?;
    eventually("the end of the killed Envoy", SOON, || !alive(first))?;
    let request = WireRequest::new("GET", "web.example", "/");
    let answers = || once(&served.http(), &request).is_ok_and(|response| response.status == 200);
    eventually("an answer of the next Envoy", SOON, answers)?;
    let second = envoy(&served).ok_or("there is an answer, but no Envoy below the product")?;
    assert_ne!(first, second);
    // The next one has to follow changes as the first did.
    let mark = served.product.stdout_mark();
    let both = [ingress("web", "web", &[]), ingress("more", "web", &[])].concat();
    served.site.write("site.yaml", &both).map_err(|error| error.to_string())?;
    served.product.wait_stdout(mark, "reloaded", SOON)?;
    expect_status(&served.get("more.example", "/")?, 200, "a host added after the return")
}

pub fn end_leaves_nothing_behind() -> Result<(), String> {
    let served = web()?;
    expect_status(&served.get("web.example", "/")?, 200, "before")?;
    let children = descendants(served.product.pid());
    assert!(!children.is_empty(), "there is no Envoy below the product");
    served.product.terminate();
    let limit = Duration::from_secs(5);
    let status = served.product.wait_end(limit).ok_or("the product did not end in 5 s")?;
    assert!(status.success(), "it ended with {status}\n{}", served.product.stderr_tail());
    for (pid, name) in children {
        assert!(!alive(pid), "{name} ({pid}) has outlived the product");
    }
    let closed = once(&Target::plain(served.product.http), &WireRequest::new("GET", "web.example", "/"));
    assert!(closed.is_err(), "somebody still answers: {closed:?}");
    let left = std::fs::read_dir(served.site.temporary()).map_err(|error| error.to_string())?;
    let left: Vec<_> = left.filter_map(|entry| Some(entry.ok()?.path())).collect();
    assert!(left.is_empty(), "temporary files are left: {left:?}");
    Ok(())
}
