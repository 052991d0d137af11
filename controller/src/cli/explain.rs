//! `ingress-wasm explain`: which rule takes a request, why, and what the backend gets. The engine that
//! decides is the one in the filter.

mod division;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use ingress_wasm::config::{PathMatching, PathType};
use ingress_wasm::decision::{
    Admission, Callout, CalloutAnswer, Connection, Decision, ENDPOINT_HEADER, Edit, HeaderLine, RequestView,
    Scheme, SessionChange, SessionPlan, apply_edits,
};
use ingress_wasm::policy::{State, counted, decide, resume};
use ingress_wasm::router::path::parse_target;
use ingress_wasm::router::{
    self, CompiledAction, CompiledRule, HostMatch, PathMatch, RoutingTable, Scratch, Selection,
};
use ingress_wasm_translate::output::Endpoint;
use serde::Serialize;

use self::division::Division;
use super::{Format, InputArgs};
use crate::terminal::{Style, Terminal};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The request: a method, if it is not GET, and a URL
    #[arg(long, value_name = "'METHOD URL'")]
    request: String,
    /// A header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "'NAME: VALUE'")]
    headers: Vec<String>,
    /// Take it that every Service that an Ingress names is there, as `run --demo-backends` does
    #[arg(long)]
    demo_backends: bool,
    /// The address from which the request comes
    #[arg(long, value_name = "ADDRESS", default_value = "192.0.2.1")]
    from: std::net::IpAddr,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A request as the command line gives it.
struct Request {
    scheme: Scheme,
    port: u16,
    /// Names in lower case, pseudo headers included.
    lines: Vec<(String, String)>,
}

/// What is said of a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    request: String,
    /// The host entry, and how it took the request; none where no Ingress names the host.
    host: Option<HostExplanation>,
    /// The path that rules are matched against.
    matched_path: String,
    candidates: Vec<CandidateExplanation>,
    /// It is counted against the limits of its rule first; what follows holds for a request within them.
    counted: bool,
    /// The service that is asked first; the outcome is the one after it has agreed (with 200).
    #[serde(skip_serializing_if = "Option::is_none")]
    asks: Option<AskExplanation>,
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AskExplanation {
    cluster: String,
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HostExplanation {
    name: String,
    matched: &'static str,
    paths: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CandidateExplanation {
    ingress: String,
    path: String,
    path_type: &'static str,
    action: String,
    matches: bool,
    wins: bool,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Outcome {
    /// It goes to a backend.
    Forward {
        service: String,
        cluster: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        route_profile: Option<String>,
        method: String,
        target: String,
        headers: Vec<(String, String)>,
        response_edits: Vec<String>,
        /// Statuses that another Service answers instead.
        #[serde(skip_serializing_if = "Option::is_none")]
        error_pages: Option<ErrorPagesExplanation>,
        /// Where a copy goes, and its path and query.
        #[serde(skip_serializing_if = "Option::is_none")]
        mirror: Option<Box<MirrorExplanation>>,
        /// How the rule's requests are divided.
        #[serde(skip_serializing_if = "Option::is_none")]
        division: Option<Box<Division>>,
    },
    /// The filter answers.
    Reply { status: u16, reason: String, details: &'static str, headers: Vec<(String, String)> },
}

/// Where a copy of the request goes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MirrorExplanation {
    cluster: String,
    /// Path and query.
    target: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorPagesExplanation {
    statuses: Vec<u16>,
    /// The cluster that answers; none: a page with the status 404.
    cluster: Option<String>,
}

/// Explains a request.
pub fn explain(args: &ExplainArgs, terminal: &Terminal) -> anyhow::Result<ExitCode> {
    let request = match Request::parse(&args.request, &args.headers) {
        Ok(request) => request,
        Err(error) => {
            terminal.failure(&error);
            return Ok(ExitCode::from(super::WRONG_USAGE));
        }
    };
    let (_, mut catalog) = args.input.load();
    let mut options = args.input.options();
    if args.demo_backends {
        let (snapshot, _) = catalog.snapshot();
        for name in ingress_wasm_translate::referenced_backends(&snapshot, &options) {
            // An address that nobody is asked at: a Service without one would be dead.
            let endpoint = Endpoint { address: "127.0.0.1".to_owned(), port: 80 };
            options.backends.entry(name).or_insert_with(|| vec![endpoint]);
        }
    }
    let translation = catalog.translate(&options);
    terminal.diagnostics(&translation.diagnostics, args.input.verbose);
    let matching: Vec<(String, PathMatching)> =
        translation.config.hosts.iter().map(|host| (host.name.clone(), host.path_matching)).collect();
    let exit = terminal.exit_code(&translation.diagnostics);
    let table = router::compile(translation.config)?;
    let explanation = explanation(&table, &matching, &request, args)?;
    let bytes = match args.format {
        Format::Json => {
            let mut bytes = serde_json::to_vec_pretty(&explanation)?;
            bytes.push(b'\n');
            bytes
        }
        Format::Text => text(&explanation, &terminal.for_stdout()).into_bytes(),
    };
    super::write_output(None, &bytes)?;
    Ok(exit)
}

impl Request {
    fn parse(request: &str, headers: &[String]) -> anyhow::Result<Self> {
        let form = "write the request as 'GET http://host/path'";
        let (method, url) = request.trim().split_once(' ').unwrap_or(("GET", request.trim()));
        let (scheme, rest) = url.trim().split_once("://").context(form)?;
        let (scheme, port) = match scheme {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            _ => bail!("{form}: the scheme is http or https"),
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).context(form)?;
        if authority.is_empty() {
            bail!("{form}: the host is missing");
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let port_of = |authority: &str| authority.rsplit_once(':')?.1.parse::<u16>().ok();
        let mut lines = vec![
            (":method".to_owned(), method.to_ascii_uppercase()),
            (":path".to_owned(), target),
            (":authority".to_owned(), authority.to_owned()),
        ];
        for header in headers {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("write the header {header:?} as 'Name: value'"))?;
            let name = name.trim().to_ascii_lowercase();
            let name = if name == "host" { ":authority".to_owned() } else { name };
            if name.starts_with(':') {
                lines.retain(|(found, _)| *found != name);
            }
            lines.push((name, value.trim().to_owned()));
        }
        Ok(Request { scheme, port: port_of(authority).unwrap_or(port), lines })
    }
}

fn explanation(
    table: &RoutingTable,
    matching: &[(String, PathMatching)],
    request: &Request,
    args: &ExplainArgs,
) -> anyhow::Result<Explanation> {
    let lines: Vec<HeaderLine<'_>> =
        request.lines.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let peer = args.from.to_string();
    let connection = Connection { scheme: request.scheme, port: request.port, peer: peer.as_bytes() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    // The same request is explained in the same words each time.
    let random = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
    let view = RequestView { headers: &lines, connection, now_ms, random };
    let path = parse_target(view.target()).map(|target| target.path.into_owned()).unwrap_or_default();
    let host = router::find_host(table, view.authority()).map(|(host, how)| {
        let name = host.name.to_string();
        let expressions = matching.contains(&(name.clone(), PathMatching::Expressions));
        HostExplanation {
            name,
            matched: match how {
                HostMatch::Exact => "exact",
                HostMatch::Alias => "alias",
                HostMatch::Wildcard => "wildcard",
                HostMatch::Any => "any host",
            },
            paths: if expressions { "regular expressions, longest text first" } else { "elements" },
        }
    });
    let mut scratch = Scratch::default();
    let selection = router::select(table, view.authority(), &path, &mut scratch);
    let winner = match &selection {
        Selection::Rule(selected) | Selection::Refuse(selected) => Some((selected.rule, selected.path_match)),
        _ => None,
    };
    let candidates = router::candidates(table, view.authority(), &path);
    let candidates = candidates.iter().map(|candidate| candidate_explanation(candidate, winner)).collect();
    let mut state = State::new([0; 32]);
    let rule = winner.map(|(rule, _)| rule);
    let agreement: [HeaderLine<'_>; 1] = [(b":status", b"200")];
    let agreed = CalloutAnswer::Answered { headers: &agreement, body: b"" };
    let mut decision = decide(table, &view, &mut state);
    let counted_first = matches!(decision, Decision::Count(_));
    if counted_first {
        decision = counted(table, &view, Admission::Admitted, &mut state);
    }
    let asks = match &decision {
        Decision::Ask(callout) => Some(ask_explanation(callout)),
        _ => None,
    };
    if asks.is_some() {
        decision = resume(table, &view, &agreed, &mut state);
    }
    let outcome = outcome(&view, rule, decision);
    let request = format!(
        "{} {}://{}{}",
        String::from_utf8_lossy(view.method()),
        request.scheme.as_str(),
        String::from_utf8_lossy(view.authority()),
        String::from_utf8_lossy(view.target())
    );
    Ok(Explanation {
        request,
        host,
        matched_path: String::from_utf8_lossy(&path).into_owned(),
        candidates,
        counted: counted_first,
        asks,
        outcome,
    })
}

fn ask_explanation(callout: &Callout<'_>) -> AskExplanation {
    let mut headers: Vec<(String, String)> = callout
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let mut take = |name: &str| {
        let position = headers.iter().position(|(found, _)| found == name);
        position.map(|position| headers.remove(position).1).unwrap_or_default()
    };
    let (method, host, target) = (take(":method"), take(":authority"), take(":path"));
    AskExplanation { cluster: callout.cluster.to_string(), method, host, target, headers }
}

fn candidate_explanation(
    candidate: &router::Candidate<'_>,
    winner: Option<(&CompiledRule, PathMatch)>,
) -> CandidateExplanation {
    let rule = candidate.rule;
    let won = winner.filter(|(winner, _)| std::ptr::eq(*winner, rule)).map(|(_, how)| how);
    let reason = match (won, candidate.matches) {
        (Some(PathMatch::Exact), _) => "wins: it is exactly this path".to_owned(),
        (Some(PathMatch::Prefix), true) => "wins: the longest prefix".to_owned(),
        (Some(PathMatch::Prefix), false) => {
            "refuses: its expression is broken, and the path begins like it".to_owned()
        }
        (Some(PathMatch::MissingSlash), _) => {
            "wins: redirects to the path with a slash, as nginx does".to_owned()
        }
        (Some(PathMatch::Expression(_)), _) => "wins: the first expression that matches".to_owned(),
        (None, true) => match winner {
            Some((winner, _)) if winner.path.len() == rule.path.len() => {
                "matches, but comes later".to_owned()
            }
            Some((winner, PathMatch::Exact)) if rule.path_type == PathType::Prefix => {
                format!("matches, but `{}` is exact", winner.path)
            }
            Some((winner, _)) => format!("matches, but `{}` is longer", winner.path),
            None => "matches".to_owned(),
        },
        (None, false) => "does not match".to_owned(),
    };
    CandidateExplanation {
        ingress: rule.ingress.to_string(),
        path: rule.path.to_string(),
        path_type: match rule.path_type {
            PathType::Exact => "Exact",
            PathType::Prefix => "Prefix",
        },
        action: action(&rule.action),
        matches: candidate.matches,
        wins: won.is_some(),
        reason,
    }
}

fn action(action: &CompiledAction) -> String {
    match action {
        CompiledAction::Forward { .. } => action.service().unwrap_or_default().to_owned(),
        CompiledAction::StandIn { cluster, service } => format!("{cluster}, in place of {service}"),
        CompiledAction::Respond { status, .. } => status.to_string(),
    }
}

/// The status of the filter's own that a Service for errors is to answer, if the request goes to one.
fn answers_for<'a>(rule: &CompiledRule, cluster: &str, headers: &'a [(String, String)]) -> Option<&'a str> {
    let CompiledAction::Forward { cluster: own, .. } = &rule.action else { return None };
    let code = headers.iter().find(|(name, _)| name == "x-code")?;
    (**own != *cluster).then_some(&code.1)
}

fn outcome(view: &RequestView<'_>, rule: Option<&CompiledRule>, decision: Decision<'_>) -> Outcome {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match decision {
        Decision::Ask(_) | Decision::Count(_) => Outcome::Reply {
            status: 500,
            reason: "a service would be asked for the second time".to_owned(),
            details: "ask",
            headers: Vec::new(),
        },
        Decision::Forward(forward) => {
            let mut headers: Vec<(String, String)> =
                apply_edits(view.headers, &forward.edits).iter().map(|(n, v)| (text(n), text(v))).collect();
            let mut take = |name: &str| {
                let position = headers.iter().position(|(found, _)| found == name)?;
                Some(headers.remove(position).1)
            };
            let cluster = take(ingress_wasm::decision::CLUSTER_HEADER).unwrap_or_default();
            take(ingress_wasm::decision::HASH_HEADER);
            take(ENDPOINT_HEADER);
            // The name of the default one is empty.
            let route_profile = take(ingress_wasm::decision::PROFILE_HEADER)
                .map(|name| name.trim_end_matches(ingress_wasm::decision::SESSION_SUFFIX).to_owned())
                .filter(|name| !name.is_empty());
            let target = take(":path").unwrap_or_default();
            let method = take(":method").unwrap_or_default();
            let host = take(":authority").unwrap_or_default();
            headers.insert(0, ("host".to_owned(), host));
            let division = Division::of(rule, forward.split);
            let mirror = rule.and_then(|rule| rule.policies.mirror.as_ref());
            let mirror = mirror.zip(forward.mirror.as_deref()).map(|(mirror, target)| MirrorExplanation {
                cluster: mirror.cluster.to_string(),
                target: text(target),
            });
            let canary = division.as_ref().and_then(|division| division.canary.as_ref());
            let canary = canary.filter(|canary| canary.chosen).map(|canary| canary.service.clone());
            let service = canary.or_else(|| {
                let rule = rule?;
                Some(match answers_for(rule, &cluster, &headers) {
                    Some(status) => format!("{cluster}, for the error {status} of {}", action(&rule.action)),
                    None => action(&rule.action),
                })
            });
            Outcome::Forward {
                service: service.unwrap_or_default(),
                cluster,
                mirror: mirror.map(Box::new),
                division: division.map(Box::new),
                route_profile,
                method,
                target,
                headers,
                response_edits: forward
                    .on_response
                    .iter()
                    .filter(|edit| !matches!(edit, Edit::Remove(name) if name == ENDPOINT_HEADER))
                    .chain(&forward.on_success)
                    .map(edit)
                    .chain(forward.session.as_ref().map(session))
                    .collect(),
                error_pages: forward.on_error.map(|plan| ErrorPagesExplanation {
                    statuses: plan.statuses.to_vec(),
                    cluster: plan.callout.map(|callout| callout.cluster.into_owned()),
                }),
            }
        }
        Decision::Reply(reply) => {
            let denied = rule.and_then(|rule| rule.policies.denied.as_deref());
            let responds = rule.and_then(|rule| match &rule.action {
                CompiledAction::Respond { reason, .. } => Some(&**reason),
                CompiledAction::Forward { .. } | CompiledAction::StandIn { .. } => None,
            });
            Outcome::Reply {
                status: reply.status,
                reason: denied.or(responds).unwrap_or_default().to_owned(),
                details: reply.details,
                headers: reply.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            }
        }
    }
}

/// The cookie that depends on which endpoint answers.
fn session(plan: &SessionPlan) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (before, after) = &plan.around;
    let when = match plan.when {
        SessionChange::Other => "where the client is not bound to the endpoint that answers",
        SessionChange::Gone => "where the endpoint of the client is not there any more",
        SessionChange::Failed => "where the endpoint of the client fails",
    };
    let usual = plan.otherwise.as_ref().map(|cookie| format!("add set-cookie: {}; ", text(cookie)));
    let cookie = format!("add set-cookie: {}ENDPOINT{} ({when})", text(before), text(after));
    usual.unwrap_or_default() + &cookie
}

fn edit(change: &Edit<'_>) -> String {
    match change {
        Edit::Set(name, value) => format!("set {name}: {}", String::from_utf8_lossy(value)),
        Edit::Add(name, value) => format!("add {name}: {}", String::from_utf8_lossy(value)),
        Edit::Remove(name) => format!("remove {name}"),
        Edit::RemoveAll(name) => format!("remove {name}*"),
        Edit::For(answers, change) => {
            let mut shown = edit(change);
            if !answers.statuses.is_empty() {
                shown.push_str(&format!(" (only with a status of {:?})", answers.statuses));
            }
            if !answers.types.is_empty() {
                shown.push_str(&format!(" (only with a type of {:?})", answers.types));
            }
            shown
        }
    }
}

fn text(explanation: &Explanation, terminal: &Terminal) -> String {
    let mut out = String::new();
    let label = |name: &str| terminal.paint(Style::Cyan, &format!("{name:>10}"));
    let _ = writeln!(out, "{} {}", label("request"), terminal.paint(Style::Bold, &explanation.request));
    match &explanation.host {
        Some(host) => {
            let _ = writeln!(
                out,
                "{} {} ({}); paths are read as {}",
                label("host"),
                host.name,
                host.matched,
                host.paths
            );
        }
        None => {
            let _ = writeln!(out, "{} no Ingress names it", label("host"));
        }
    }
    let _ = writeln!(out, "{} {}", label("path"), explanation.matched_path);
    let width = explanation.candidates.iter().map(|candidate| candidate.path.len()).max().unwrap_or(0);
    for (index, candidate) in explanation.candidates.iter().enumerate() {
        let sign = match (candidate.wins, candidate.matches) {
            (true, _) => terminal.paint(Style::Green, "✓"),
            (false, true) => terminal.paint(Style::Yellow, "·"),
            (false, false) => terminal.paint(Style::Dim, "-"),
        };
        let _ = writeln!(
            out,
            "{} {sign} {:width$}  {:6}  {} → {}  {}",
            label(if index == 0 { "rules" } else { "" }),
            candidate.path,
            candidate.path_type,
            if candidate.ingress.is_empty() { "built in" } else { &candidate.ingress },
            candidate.action,
            terminal.paint(Style::Dim, &candidate.reason)
        );
    }
    if explanation.counted {
        let _ = writeln!(
            out,
            "{} against the limits of the rule; what follows holds for a request within them",
            label("counted")
        );
    }
    if let Some(AskExplanation { cluster, method, host, target, headers }) = &explanation.asks {
        let _ = writeln!(out, "{} {cluster}: {method} {target}", label("asks"));
        let _ = writeln!(out, "{} host: {host}", label(""));
        for (name, value) in headers {
            let _ = writeln!(out, "{} {name}: {value}", label(""));
        }
        let _ = writeln!(out, "{} and goes on where the answer is 200:", label(""));
    }
    match &explanation.outcome {
        Outcome::Forward {
            service,
            cluster,
            route_profile,
            method,
            target,
            headers,
            response_edits,
            error_pages,
            mirror,
            division,
        } => {
            let _ = writeln!(
                out,
                "{} {} (cluster {cluster})",
                label("backend"),
                terminal.paint(Style::Bold, service)
            );
            for (name, line) in division.iter().flat_map(|division| division.lines()) {
                let _ = writeln!(out, "{} {line}", label(name));
            }
            if let Some(profile) = route_profile {
                let _ = writeln!(out, "{} {profile}", label("route"));
            }
            let _ = writeln!(out, "{} {method} {target}", label("receives"));
            for (name, value) in headers {
                let _ = writeln!(out, "{} {name}: {value}", label(""));
            }
            if let Some(copy) = mirror {
                let _ = writeln!(out, "{} {method} {} to {}", label("copy"), copy.target, copy.cluster);
            }
            for (index, edit) in response_edits.iter().enumerate() {
                let _ = writeln!(out, "{} {edit}", label(if index == 0 { "answer" } else { "" }));
            }
            if let Some(ErrorPagesExplanation { statuses, cluster }) = error_pages {
                let statuses: Vec<String> = statuses.iter().map(u16::to_string).collect();
                let by = cluster.as_deref().unwrap_or("a page with the status 404");
                let _ = writeln!(out, "{} {} are replaced by {by}", label("errors"), statuses.join(", "));
            }
        }
        Outcome::Reply { status, reason, details, headers } => {
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let status = terminal.paint(Style::Bold, &status.to_string());
            let _ = writeln!(out, "{} {status} from the filter ({details}){reason}", label("answer"));
            for (name, value) in headers {
                let _ = writeln!(out, "{} {name}: {value}", label(""));
            }
        }
    }
    out
}
