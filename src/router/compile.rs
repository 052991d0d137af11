//! From a configuration to a table. Faults of the whole refuse the configuration, with their JSON path;
//! broken expressions are found when their host is first asked for, and refuse.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::balancing::{self, CompiledBalancing};
use super::hosts::{Hosts, InvalidHost};
use super::parts::{
    Document, Draft, HostTable, HostTables, MOST_PARTS, Part, RULE_NUMBERS, part_key, part_of,
};
use super::policies::{boxed, error_status, status};
use super::table::{
    CompiledAction, CompiledBlock, CompiledClientCertificate, CompiledHost, CompiledLocation,
    CompiledPolicies, CompiledRule, Fault, HeaderBuffers, HeaderPattern, LocationKind, RoutingTable,
};
use crate::config::{
    Action, Alias, Balancing, Block, ClientCertificate, ConfigError, Credentials, Global, Host, Location,
    PartNumber, PluginConfig, Rule, VerifyClient,
};
use crate::password::PasswordHash;
use crate::policy::{ApiKeyCheck, ApiKeys, ClientAddress};
use crate::regex::{self, Options, Regex};

/// User name to hash, shared by the policies that refer to one list.
pub(super) type Users = Rc<HashMap<Box<[u8]>, PasswordHash>>;

/// Compiles a configuration that is one document.
///
/// # Errors
///
/// [`ConfigError::Inconsistent`], with the JSON path of what refers to nothing or cannot be.
pub fn compile(config: PluginConfig) -> Result<RoutingTable, ConfigError> {
    match compile_document(config)? {
        Document::Whole(draft) => draft
            .complete(|_, _| None)
            .map_err(|_| inconsistent("parts", "these parts of the configuration are not here")),
        Document::Part(_) => Err(inconsistent("part", "this is only a part of a configuration")),
    }
}

/// Compiles a document: a configuration, or a part of one.
///
/// # Errors
///
/// As [`compile`].
pub fn compile_document(config: PluginConfig) -> Result<Document, ConfigError> {
    let PluginConfig {
        version: _,
        generation,
        global,
        credentials,
        api_keys,
        policies,
        balancing,
        hosts,
        parts,
        part,
    } = config;
    let generation: Box<str> = generation.chars().filter(|c| !c.is_control()).collect::<String>().into();
    if parts.len() > MOST_PARTS {
        return Err(inconsistent("parts", format!("there are more than {MOST_PARTS}")));
    }
    let mut compiler = Compiler::default();
    if let Some(PartNumber { number, of }) = part {
        if number >= of || usize::try_from(of).is_ok_and(|of| of > MOST_PARTS) {
            return Err(inconsistent("part", format!("there is no part {number} of {of}")));
        }
        if global != Global::default() || !parts.is_empty() {
            return Err(inconsistent("part", "a part has hosts, and neither `global` nor `parts`"));
        }
        compiler.rules = number.saturating_add(1).saturating_mul(RULE_NUMBERS);
    }
    compiler.last_rule = compiler.rules.saturating_add(RULE_NUMBERS.saturating_sub(1));
    let users = compiler.credentials(credentials);
    let keys = compiler.api_keys(api_keys);
    let mut shared = Shared { policies: Vec::with_capacity(policies.len()), balancing: Vec::new() };
    for (index, set) in policies.into_iter().enumerate() {
        let compiled = compiler.policies(&format!("policies[{index}]"), set, &users, &keys)?;
        shared.policies.push(Rc::new(compiled));
    }
    for (index, balancing) in balancing.into_iter().enumerate() {
        let compiled = compiler.balancing(&format!("balancing[{index}]"), balancing)?;
        shared.balancing.push(Rc::new(compiled));
    }
    let own = compiler.hosts(hosts, part, &shared)?;
    if let Some(PartNumber { number, of }) = part {
        return Ok(Document::Part(Rc::new(Part { number, of, generation, hosts: own })));
    }
    let Global {
        connection_header,
        forwarded,
        block,
        header_line_bytes,
        header_buffers,
        request_headers,
        hidden_headers,
        response_headers,
        underscores_in_headers,
        no_request_id,
        redirect_status,
        rate_status,
        connection_status,
        hsts,
        statistics,
        log_fields,
    } = global;
    if let Some(hsts) = &hsts {
        text("global.hsts", hsts)?;
    }
    let client = ClientAddress::compile(&forwarded).map_err(|(index, reason)| {
        inconsistent(format!("global.forwarded.trustedProxies[{index}]"), reason)
    })?;
    let request_headers = compiler.headers("global.requestHeaders", request_headers)?;
    let response_headers = compiler.headers("global.responseHeaders", response_headers)?;
    let mut table = RoutingTable {
        generation,
        connection_header,
        underscores_in_headers,
        no_request_id,
        client,
        block: block.map(compile_block).transpose()?,
        header_buffers: HeaderBuffers {
            count: header_buffers.unwrap_or(4) as usize,
            bytes: header_line_bytes.unwrap_or(8192) as usize,
        },
        request_headers,
        hidden_headers: boxed(hidden_headers),
        response_headers,
        redirect_status: status("global.redirectStatus", redirect_status.unwrap_or(308))?,
        rate_status: error_status("global.rateStatus", rate_status.unwrap_or(503))?,
        connection_status: error_status("global.connectionStatus", connection_status.unwrap_or(503))?,
        hsts: hsts.map(Into::into),
        needs_clock: own.needs_clock || compiler.needs_clock,
        hosts: HostTables { own, parts: Box::default() },
        statistics,
        log_fields,
    };
    table.hosts.own.faults.append(&mut compiler.faults);
    let parts = parts.into_iter().map(Into::into).collect();
    Ok(Document::Whole(Box::new(Draft { table, parts })))
}

/// What rules refer to by position.
struct Shared {
    policies: Vec<Rc<CompiledPolicies>>,
    balancing: Vec<Rc<CompiledBalancing>>,
}

/// A request looks for a host only in the part that its name tells.
fn belongs(host: &Host, PartNumber { number, of }: PartNumber) -> bool {
    let of = usize::try_from(of).unwrap_or(usize::MAX);
    let own = usize::try_from(number) == Ok(part_of(part_key(&host.name), of));
    own && host.name != "*" && host.aliases.is_empty()
}

pub(super) fn inconsistent(path: impl Into<String>, reason: impl Into<String>) -> ConfigError {
    ConfigError::Inconsistent { path: path.into(), reason: reason.into() }
}

fn compile_block(block: Block) -> Result<CompiledBlock, ConfigError> {
    let patterns = |name: &str, list: Vec<String>| {
        let compile = |(index, text): (usize, String)| {
            pattern(&text)
                .map_err(|error| inconsistent(format!("global.block.{name}[{index}]"), error.to_string()))
        };
        list.into_iter().enumerate().map(compile).collect::<Result<Box<[_]>, _>>()
    };
    Ok(CompiledBlock {
        user_agents: patterns("userAgents", block.user_agents)?,
        referers: patterns("referers", block.referers)?,
    })
}

/// Says whether the filter understands an entry of [`Block`].
///
/// # Errors
///
/// What is wrong with the expression.
pub fn check_pattern(text: &str) -> Result<(), regex::Error> {
    pattern(text).map(drop)
}

fn pattern(text: &str) -> Result<HeaderPattern, regex::Error> {
    let Some(expression) = text.strip_prefix('~') else {
        return Ok(HeaderPattern::Text(text.as_bytes().into()));
    };
    let (expression, options) = match expression.strip_prefix('*') {
        Some(expression) => (expression, Options::CASELESS),
        None => (expression, Options::default()),
    };
    Regex::new(expression, options).map(|regex| HeaderPattern::Expression(Box::new(regex)))
}

/// Checks what goes into a header as it stands.
pub(super) fn text(at: &str, text: &str) -> Result<(), ConfigError> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(inconsistent(at, "control characters are not allowed here"));
    }
    Ok(())
}

/// What is gathered on the way.
#[derive(Default)]
pub(super) struct Compiler {
    /// Names of variables of scripts, by number.
    pub(super) variables: Vec<Box<str>>,
    faults: Vec<Fault>,
    /// The number of the last rule so far, and the last number that there is.
    rules: u32,
    last_rule: u32,
    pub(super) needs_clock: bool,
}

/// Compiles an expression of a snippet.
pub(super) fn regex(at: &str, pattern: &str, caseless: bool) -> Result<Box<Regex>, ConfigError> {
    Regex::new(pattern, Options { caseless })
        .map(Box::new)
        .map_err(|error| inconsistent(at, error.to_string()))
}

impl Compiler {
    /// A hash that cannot be read makes a user who cannot log in: the list as a whole still protects.
    fn credentials(
        &mut self,
        credentials: std::collections::BTreeMap<String, Credentials>,
    ) -> HashMap<String, (u64, Users)> {
        let mut lists = HashMap::with_capacity(credentials.len());
        // Lists of other documents have other numbers.
        let first = u64::from(self.rules) << 32;
        for (list, (name, Credentials { users })) in (first..).zip(credentials) {
            let mut hashes = HashMap::with_capacity(users.len());
            for (user, hash) in users {
                match PasswordHash::parse(&hash) {
                    Ok(hash) => {
                        self.needs_clock |= hash.is_slow();
                        hashes.insert(user.into_bytes().into(), hash);
                    }
                    Err(error) => self.faults.push(Fault {
                        path: format!("credentials[{name:?}].users[{user:?}]"),
                        reason: error.to_string(),
                    }),
                }
            }
            lists.insert(name, (list, Rc::new(hashes)));
        }
        lists
    }

    /// As [`Compiler::credentials`]: a digest that cannot be read makes a client without a key, and so does a name
    /// that no header can hold.
    fn api_keys(
        &mut self,
        lists: std::collections::BTreeMap<String, Credentials>,
    ) -> HashMap<String, ApiKeys> {
        let mut keys = HashMap::with_capacity(lists.len());
        for (name, Credentials { users }) in lists {
            let mut list = Vec::with_capacity(users.len());
            for (client, digest) in users {
                let reason = match ApiKeyCheck::digest(&digest) {
                    // It becomes a header to the backend.
                    _ if client.bytes().any(|byte| byte.is_ascii_control()) => {
                        "the name holds control characters"
                    }
                    Some(digest) => {
                        list.push((digest, client.into_bytes().into()));
                        continue;
                    }
                    None => "the digest is not 64 hexadecimal digits",
                };
                let path = format!("apiKeys[{name:?}].users[{client:?}]");
                self.faults.push(Fault { path, reason: reason.to_owned() });
            }
            keys.insert(name, list.into());
        }
        keys
    }

    fn balancing(&mut self, at: &str, balancing: Balancing) -> Result<CompiledBalancing, ConfigError> {
        let (compiled, faults) = balancing::compile(at, balancing)?;
        self.needs_clock |= compiled.needs_clock();
        self.faults.extend(faults);
        Ok(compiled)
    }

    /// An expression that cannot be matched lets nobody in.
    fn client_certificate(
        &mut self,
        at: &str,
        settings: ClientCertificate,
    ) -> Result<CompiledClientCertificate, ConfigError> {
        let ClientCertificate { mut verify, subject, error_page, pass_certificate } = settings;
        if let Some(page) = &error_page {
            text(&format!("{at}.errorPage"), page)?;
        }
        let subject = subject.and_then(|subject| {
            let compiled = Regex::new(&subject, Options::default());
            compiled
                .map_err(|error| {
                    verify = VerifyClient::Refuse;
                    self.faults.push(Fault { path: format!("{at}.subject"), reason: error.to_string() });
                })
                .ok()
        });
        self.needs_clock |= verify == VerifyClient::OptionalNoCa;
        Ok(CompiledClientCertificate {
            verify,
            subject,
            error_page: error_page.map(Into::into),
            pass_certificate,
        })
    }

    /// `at` is only asked where there is a fault: most of a configuration is rules.
    fn rule(
        &mut self,
        at: &dyn Fn() -> String,
        rule: Rule,
        shared: &Shared,
    ) -> Result<CompiledRule, ConfigError> {
        let Some(policies) = shared.policies.get(rule.policies).cloned() else {
            let (count, number) = (shared.policies.len(), rule.policies);
            let reason = format!("there are {count} sets of policies, this names number {number}");
            return Err(inconsistent(format!("{}.policies", at()), reason));
        };
        let action = match rule.action {
            Action::Forward { cluster, service, balancing } => {
                let balancing = match balancing {
                    None => None,
                    Some(position) => Some(shared.balancing.get(position).cloned().ok_or_else(|| {
                        let count = shared.balancing.len();
                        let reason = format!("there are {count} of them, this names number {position}");
                        inconsistent(format!("{}.action.balancing", at()), reason)
                    })?),
                };
                let service = (!service.is_empty()).then(|| service.into());
                CompiledAction::Forward { cluster: cluster.into(), service, balancing }
            }
            Action::StandIn { cluster, service } => {
                CompiledAction::StandIn { cluster: cluster.into(), service: service.into() }
            }
            Action::Respond { status, reason } if (200..600).contains(&status) => {
                CompiledAction::Respond { status, reason: reason.into() }
            }
            Action::Respond { status, .. } => {
                let reason = format!("{status} is not a status between 200 and 599");
                return Err(inconsistent(format!("{}.action.status", at()), reason));
            }
        };
        if self.rules >= self.last_rule {
            return Err(inconsistent(at(), format!("there are more than {RULE_NUMBERS} rules")));
        }
        self.rules = self.rules.saturating_add(1);
        Ok(CompiledRule {
            number: self.rules,
            ingress: rule.ingress.into(),
            path: rule.path.into(),
            path_type: rule.path_type,
            policies,
            action,
        })
    }

    /// The hosts of a document and their names.
    fn hosts(
        &mut self,
        hosts: Vec<Host>,
        part: Option<PartNumber>,
        shared: &Shared,
    ) -> Result<HostTable, ConfigError> {
        let (mut names, mut certificates) = (Hosts::default(), Hosts::default());
        let mut compiled = Vec::with_capacity(hosts.len());
        let mut aliases = Vec::new();
        for (index, mut host) in hosts.into_iter().enumerate() {
            names.insert(&host.name, index).map_err(|error| {
                let reason = match error {
                    InvalidHost::Duplicate => format!("host `{}` stands here for the second time", host.name),
                    InvalidHost::Malformed | InvalidHost::Expression(_) => {
                        format!("`{}` is neither a host name in lower case, nor `*.name`, nor `*`", host.name)
                    }
                };
                inconsistent(format!("hosts[{index}].name"), reason)
            })?;
            if part.is_some_and(|part| !belongs(&host, part)) {
                let reason = format!("host `{}` does not belong to this part", host.name);
                return Err(inconsistent(format!("hosts[{index}]"), reason));
            }
            if host.tls {
                // The name has just been found good.
                let _ = certificates.insert(&host.name, index);
            }
            aliases.extend(std::mem::take(&mut host.aliases).into_iter().enumerate().map(|a| (index, a)));
            compiled.push(self.host(index, host, shared)?);
        }
        // No alias takes a name from a host, whatever their order.
        for (index, (position, Alias { name, tls })) in aliases {
            match names.insert_alias(&name, index) {
                Ok(()) if tls => {
                    let _ = certificates.insert(&name, index);
                }
                Ok(()) => {}
                Err(error) => self.faults.push(Fault {
                    path: format!("hosts[{index}].aliases[{position}].name"),
                    reason: error.to_string(),
                }),
            }
        }
        let mut limits = shared.policies.iter().filter_map(|set| set.limits.as_ref());
        Ok(HostTable {
            names,
            certificates,
            hosts: compiled.into(),
            faults: std::mem::take(&mut self.faults),
            needs_clock: self.needs_clock,
            counts_connections: limits.any(|limits| limits.connections.is_some()),
        })
    }

    fn host(&mut self, index: usize, host: Host, shared: &Shared) -> Result<CompiledHost, ConfigError> {
        let Host {
            name,
            path_matching,
            app_root,
            tls: _,
            aliases: _,
            redirect_to,
            client_certificate,
            script,
            locations,
            rules,
        } = host;
        if let Some(to) = &redirect_to {
            text(&format!("hosts[{index}].redirectTo"), to)?;
        }
        // It becomes a header of an answer: a line break in it would start another.
        if app_root.as_ref().is_some_and(|target| target.contains(|c: char| c.is_control())) {
            return Err(inconsistent(format!("hosts[{index}].appRoot"), "it holds control characters"));
        }
        let client_certificate = match client_certificate {
            None => None,
            Some(settings) => {
                let at = format!("hosts[{index}].clientCertificate");
                Some(Box::new(self.client_certificate(&at, settings)?))
            }
        };
        let mut compiled = Vec::with_capacity(rules.len());
        let first_rule = self.rules.saturating_add(1);
        for (position, rule) in rules.into_iter().enumerate() {
            compiled.push(self.rule(&|| format!("hosts[{index}].rules[{position}]"), rule, shared)?);
        }
        let script =
            script.map(|script| self.script(&format!("hosts[{index}].script"), script)).transpose()?;
        let mut before = Vec::with_capacity(locations.len());
        for (position, Location { modifier, rule }) in locations.into_iter().enumerate() {
            let at = format!("hosts[{index}].locations[{position}]");
            let kind = match modifier.as_str() {
                "=" => LocationKind::Exact,
                "" => LocationKind::Beginning(false),
                "^~" => LocationKind::Beginning(true),
                "~" => LocationKind::Expression(regex(&at, &rule.path, false)?),
                "~*" => LocationKind::Expression(regex(&at, &rule.path, true)?),
                other => return Err(inconsistent(at, format!("`{other}` is no modifier"))),
            };
            before.push(CompiledLocation { kind, rule: self.rule(&|| format!("{at}.rule"), rule, shared)? });
        }
        Ok(CompiledHost {
            name: name.into(),
            app_root: app_root.map(Into::into),
            redirect_to: redirect_to.map(Into::into),
            first_rule,
            client_certificate,
            script,
            locations: before.into(),
            rules: compiled.into(),
            path_matching,
            paths: OnceCell::new(),
        })
    }
}
