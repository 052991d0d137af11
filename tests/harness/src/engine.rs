//! What runs cases: an engine loads a group and answers requests.
//!
//! The runner asks for answers and for what backends received; whether a request went through a proxy or a
//! decision was computed in this process, it cannot tell.

use std::collections::BTreeSet;

use crate::case::{Ability, Case, Expect, Request};
use crate::client::Response;
use crate::group::Group;
use crate::tls::TlsFacts;

/// A way to run cases.
pub trait Engine: Send + Sync {
    /// The name in test names and in the list of known gaps.
    fn name(&self) -> &'static str;

    /// The abilities it has.
    fn abilities(&self) -> BTreeSet<Ability>;

    /// What this engine can see of an expectation: the rest is not checked. All of it, unless it says so.
    fn visible(&self, expect: &Expect) -> Expect {
        expect.clone()
    }

    /// Loads a group.
    ///
    /// # Errors
    ///
    /// Why it cannot be served; each case of the group fails with it.
    fn start(&self, group: &Group) -> Result<Box<dyn Running>, String>;
}

/// A group that is served.
pub trait Running {
    /// A new client, for one case.
    fn session<'a>(&'a self, case: &'a Case) -> Box<dyn Session + 'a>;

    /// What the engine has said about a case, for the message of its failure.
    fn said_about(&self, case: &Case) -> Vec<String>;
}

/// One client, and the sight of the backends.
pub trait Session {
    /// Forgets what the backends received so far.
    fn forget(&mut self);

    /// Sends a request as often at the same time as it says; gives as many answers.
    fn send(&mut self, request: &Request) -> Vec<Result<Answer, String>>;

    /// What a service has received since [`forget`](Self::forget).
    fn received(&mut self, service: &str) -> Vec<Arrived>;

    /// The same, but waits until it is at least this much, and then a moment for more: a copy of a request
    /// may come later than its answer.
    fn wait_received(&mut self, service: &str, at_least: usize) -> Vec<Arrived>;
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// What the handshake came to: nothing for plain HTTP, an error when it failed.
    pub handshake: Option<Result<TlsFacts, String>>,
    /// The response; missing when the handshake failed.
    pub response: Option<Response>,
    /// The endpoint that answered: service and index.
    pub endpoint: Option<(String, usize)>,
    /// The request as that endpoint received it.
    pub arrived: Option<Arrived>,
}

/// A request as a backend received it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrived {
    /// The method.
    pub method: Vec<u8>,
    /// The request target, raw path and query.
    pub target: Vec<u8>,
    /// Header lines in order.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// The beginning of the body.
    pub body: Vec<u8>,
}

/// Why an engine cannot run a case, if so.
pub fn lacks(engine: &dyn Engine, case: &Case) -> Option<String> {
    let has = engine.abilities();
    let missing: Vec<_> = case.abilities().difference(&has).map(|ability| format!("{ability:?}")).collect();
    let blind = || {
        let mut expected = case.requests.iter().map(|request| &request.expect);
        !case.requests.iter().all(|request| request.expect.is_empty())
            && expected.all(|expect| engine.visible(expect).is_empty())
    };
    if missing.is_empty() && blind() {
        return Some(format!("engine {} can see nothing of what is expected", engine.name()));
    }
    (!missing.is_empty()).then(|| format!("engine {} lacks {}", engine.name(), missing.join(", ")))
}
