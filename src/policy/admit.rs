//! Who may come in: the checks of ingress-nginx in its order, all of which have to be passed, or any one.

use super::external_auth::{Admission, Verdict, opinion};
use super::satisfy::{Opinion, Satisfy};
use super::{Facts, State, access, basic_auth, script};
use crate::decision::{Callout, Reply};
use crate::router::{CompiledPolicies, RoutingTable};

/// Why a request does not go on.
#[derive(Debug)]
pub enum Refusal<'a> {
    /// A service has to be asked first.
    Ask(Callout<'a>),
    /// It is not let in.
    Reply(Reply<'a>),
}

/// What the lists of addresses say, and the lines of snippets: nginx reads both as one list, of which the first
/// line that fits counts.
fn by_address<'a>(policies: &CompiledPolicies, facts: &Facts<'a>) -> Opinion<'a> {
    let lists = policies.addresses.as_ref();
    match lists.map_or(Opinion::Silent, |lists| access::check_address(lists, &facts.client)) {
        Opinion::Silent => {
            policies.script.as_ref().map_or(Opinion::Silent, |script| script::check_address(script, facts))
        }
        opinion => opinion,
    }
}

/// Lets a request in, with what it takes along.
///
/// # Errors
///
/// [`Refusal`]
pub fn admit<'a>(
    table: &'a RoutingTable,
    facts: &Facts<'a>,
    policies: &'a CompiledPolicies,
    state: &mut State,
) -> Result<Admission, Refusal<'a>> {
    let mut satisfy = Satisfy::new(policies.satisfy_any);
    let mut admission = Admission::default();
    if policies.addresses.is_some() || policies.script.is_some() {
        satisfy.hear(|| by_address(policies, facts));
    }
    if let Some(auth) = &policies.basic_auth {
        satisfy.hear(|| basic_auth::check(auth, facts, &mut state.passwords));
    }
    let mut client = None;
    if let Some(auth) = &policies.api_key {
        satisfy.hear(|| {
            client = auth.client(facts);
            auth.opinion(client)
        });
    }
    if let Some(auth) = &policies.external_auth {
        // Even where nobody has to be asked, no client says what the service would.
        admission = auth.admission(&[]);
        if !satisfy.settled() {
            match auth.check(table, facts, &mut state.answers) {
                Verdict::Ask(callout) => return Err(Refusal::Ask(callout)),
                Verdict::Pass(found) => {
                    admission = found;
                    satisfy.hear(|| Opinion::Passed);
                }
                Verdict::Refuse(reply) => satisfy.hear(|| opinion(reply)),
            }
        }
    }
    let refused = |reply| match &policies.external_auth {
        Some(auth) => auth.sign_in_instead_of(reply, facts),
        None => reply,
    };
    satisfy.verdict().map_err(|reply| Refusal::Reply(refused(reply)))?;
    if let Some(auth) = &policies.api_key {
        admission.request.extend(auth.tell(client));
    }
    Ok(admission)
}
