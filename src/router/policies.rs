//! From a set of policies to its compiled form, so that nothing is left to parse when a request comes.

use std::collections::HashMap;
use std::rc::Rc;

use super::compile::{Compiler, Users, inconsistent, text};
use super::table::{
    CompiledAddresses, CompiledBasicAuth, CompiledErrorPages, CompiledGlobalLimit, CompiledLimits,
    CompiledMirror, CompiledPolicies, CompiledRedirect, CompiledRewrite,
};
use crate::config::{
    Addresses, ConfigError, ErrorPages, GlobalLimit, HeaderEdit, Limits, Mirror, PolicySet, Redirect,
    Replacement, Rewrite,
};
use crate::decision::{AnswerRewrite, LIMIT_HEADERS};
use crate::limits::Rate;
use crate::policy::{
    ApiKeyCheck, ApiKeys, Cors, ExternalAuthCheck, HeaderTemplate, NetworkSet, Template, challenge,
};

impl Compiler {
    pub(super) fn global_limit(
        &mut self,
        at: &str,
        limit: GlobalLimit,
    ) -> Result<CompiledGlobalLimit, ConfigError> {
        let GlobalLimit { values, limit, exempt } = limit;
        let most = LIMIT_HEADERS.len().saturating_sub(1);
        if values.is_empty() || values.len() > most {
            return Err(inconsistent(at, format!("has {} values, not 1 to {most}", values.len())));
        }
        let mut templates = Vec::with_capacity(values.len());
        for (position, value) in values.iter().enumerate() {
            templates.push(self.template(&format!("{at}.values[{position}]"), value)?);
        }
        Ok(CompiledGlobalLimit {
            values: templates.into(),
            limit: limit.map(Into::into),
            exempt: networks(&format!("{at}.exempt"), &exempt)?,
        })
    }

    pub(super) fn policies(
        &mut self,
        at: &str,
        set: PolicySet,
        users: &HashMap<String, (u64, Users)>,
        keys: &HashMap<String, ApiKeys>,
    ) -> Result<CompiledPolicies, ConfigError> {
        let PolicySet {
            denied,
            max_body_bytes,
            limits,
            global_limit,
            addresses,
            satisfy_any,
            basic_auth,
            api_key,
            cors,
            external_auth,
            redirect,
            relative_redirects,
            tls_redirect,
            rewrite,
            original_uri_header,
            error_pages,
            request_headers,
            response_headers,
            location_rewrite,
            cookie_domain_rewrite,
            cookie_path_rewrite,
            tls_cluster_suffix,
            mirror,
            hidden_headers,
            script,
            route_profile,
        } = set;
        let rewrites = [&location_rewrite, &cookie_domain_rewrite, &cookie_path_rewrite];
        for (rewrite, name) in
            rewrites.into_iter().zip(["locationRewrite", "cookieDomainRewrite", "cookiePathRewrite"])
        {
            if let Some(Replacement { to, .. }) = rewrite {
                text(&format!("{at}.{name}.to"), to)?;
            }
        }
        let rewrites_answers = rewrites.iter().any(|rewrite| rewrite.is_some());
        let answer_rewrite = rewrites_answers.then(|| {
            Rc::new(AnswerRewrite {
                location: location_rewrite.map(pair),
                cookie_domain: cookie_domain_rewrite.map(pair),
                cookie_path: cookie_path_rewrite.map(pair),
            })
        });
        let redirect = match redirect {
            None => None,
            Some(Redirect { url, status: code }) => {
                text(&format!("{at}.redirect.url"), &url)?;
                let status = status(&format!("{at}.redirect.status"), code)?;
                Some(CompiledRedirect { url: url.into(), status })
            }
        };
        if let Some(cors) = &cors {
            for value in [&cors.methods, &cors.headers, &cors.expose_headers, &cors.max_age] {
                text(&format!("{at}.cors"), value)?;
            }
        }
        let basic_auth = match basic_auth {
            None => None,
            Some(auth) => {
                let Some((list, users)) = users.get(&auth.credentials) else {
                    let reason = format!("there are no credentials named `{}`", auth.credentials);
                    return Err(inconsistent(format!("{at}.basicAuth.credentials"), reason));
                };
                Some(CompiledBasicAuth {
                    challenge: challenge(&auth.realm),
                    list: *list,
                    users: users.clone(),
                })
            }
        };
        let api_key = match api_key {
            None => None,
            Some(auth) => match keys.get(&auth.keys) {
                Some(keys) => Some(ApiKeyCheck::compile(auth, keys.clone())),
                None => {
                    let reason = format!("there are no keys named `{}`", auth.keys);
                    return Err(inconsistent(format!("{at}.apiKey.keys"), reason));
                }
            },
        };
        let external_auth = match external_auth {
            None => None,
            Some(auth) => {
                let check = ExternalAuthCheck::compile(auth)
                    .map_err(|(field, reason)| inconsistent(format!("{at}.externalAuth.{field}"), reason))?;
                self.needs_clock |= check.needs_clock();
                Some(check)
            }
        };
        let rewrite = match rewrite {
            None => None,
            Some(Rewrite::Prefix { target }) => {
                Some(CompiledRewrite::Prefix { target: target.trim_end_matches('/').into() })
            }
            Some(Rewrite::Path { target, forwarded_prefix }) => Some(CompiledRewrite::Path {
                target: self.template(&format!("{at}.rewrite.target"), &target)?,
                forwarded_prefix: match forwarded_prefix.as_str() {
                    "" => None,
                    prefix => Some(self.template(&format!("{at}.rewrite.forwardedPrefix"), prefix)?),
                },
            }),
        };
        let mirror = match mirror {
            None => None,
            Some(Mirror { cluster, target }) => Some(CompiledMirror {
                cluster: cluster.into(),
                target: self.template(&format!("{at}.mirror.target"), &target)?,
            }),
        };
        Ok(CompiledPolicies {
            denied: denied.map(Into::into),
            max_body_bytes,
            limits: match limits {
                Some(limits) => Some(compile_limits(&format!("{at}.limits"), &limits)?),
                None => None,
            },
            global_limit: match global_limit {
                Some(limit) => Some(self.global_limit(&format!("{at}.globalLimit"), limit)?),
                None => None,
            },
            addresses: match addresses {
                Some(addresses) => Some(compile_addresses(&format!("{at}.addresses"), &addresses)?),
                None => None,
            },
            satisfy_any,
            basic_auth,
            api_key,
            cors: cors.map(Cors::compile),
            external_auth,
            redirect,
            relative_redirects,
            tls_redirect,
            rewrite,
            original_uri_header,
            error_pages: error_pages.map(|ErrorPages { statuses, cluster, keep_backend_errors }| {
                CompiledErrorPages {
                    statuses: statuses.into(),
                    cluster: cluster.map(Into::into),
                    keep_backend_errors,
                }
            }),
            request_headers: self.headers(&format!("{at}.requestHeaders"), request_headers)?,
            response_headers: self.headers(&format!("{at}.responseHeaders"), response_headers)?,
            answer_rewrite,
            tls_cluster_suffix: tls_cluster_suffix.map(Into::into),
            mirror,
            hidden_headers: hidden_headers.map(boxed),
            script: script.map(|script| self.script(&format!("{at}.script"), script)).transpose()?,
            route_profile: route_profile.map(Into::into),
        })
    }

    pub(super) fn template(&mut self, at: &str, text: &str) -> Result<Template, ConfigError> {
        let template = Template::parse(text).map_err(|error| inconsistent(at, error.to_string()))?;
        self.needs_clock |= template.needs_clock();
        Ok(template)
    }

    pub(super) fn headers(
        &mut self,
        at: &str,
        edits: Vec<HeaderEdit>,
    ) -> Result<Box<[HeaderTemplate]>, ConfigError> {
        let compile = |(index, edit): (usize, HeaderEdit)| {
            let template = HeaderTemplate::compile(edit)
                .map_err(|error| inconsistent(format!("{at}[{index}]"), error.to_string()))?;
            self.needs_clock |= template.needs_clock();
            Ok(template)
        };
        edits.into_iter().enumerate().map(compile).collect()
    }
}

/// Checks the status of a redirect.
pub(super) fn status(at: &str, status: u16) -> Result<u16, ConfigError> {
    if (300..=308).contains(&status) {
        return Ok(status);
    }
    Err(inconsistent(at, format!("{status} is not a status between 300 and 308")))
}

/// Checks the status of an error.
pub(super) fn error_status(at: &str, status: u16) -> Result<u16, ConfigError> {
    if (400..=599).contains(&status) {
        return Ok(status);
    }
    Err(inconsistent(at, format!("{status} is not a status between 400 and 599")))
}

fn compile_limits(at: &str, limits: &Limits) -> Result<CompiledLimits, ConfigError> {
    let rate = |limit: u32, seconds: u32, burst: u32| {
        let per_second = limit.saturating_mul(1000).checked_div(seconds).unwrap_or(0);
        (limit > 0).then_some(Rate { per_second, burst: burst.saturating_mul(1000) })
    };
    Ok(CompiledLimits {
        rates: [
            rate(limits.per_second, 1, limits.per_second_burst),
            rate(limits.per_minute, 60, limits.per_minute_burst),
        ],
        connections: (limits.connections > 0).then_some(limits.connections),
        exempt: networks(&format!("{at}.exempt"), &limits.exempt)?,
    })
}

/// Reads a list of networks.
fn networks(at: &str, list: &[String]) -> Result<NetworkSet, ConfigError> {
    NetworkSet::parse(list).map_err(|(index, reason)| inconsistent(format!("{at}[{index}]"), reason))
}

fn compile_addresses(at: &str, addresses: &Addresses) -> Result<CompiledAddresses, ConfigError> {
    let Addresses { allow, deny } = addresses;
    let allowed = networks(&format!("{at}.allow"), allow)?;
    Ok(CompiledAddresses {
        allow: (!allow.is_empty()).then_some(allowed),
        deny: networks(&format!("{at}.deny"), deny)?,
    })
}

/// Names of headers.
pub(super) fn boxed(names: Vec<String>) -> Box<[Box<str>]> {
    names.into_iter().map(|name| name.to_ascii_lowercase().into()).collect()
}

fn pair(Replacement { from, to }: Replacement) -> (Box<str>, Box<str>) {
    (from.into(), to.into())
}
