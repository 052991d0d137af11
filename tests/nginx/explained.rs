//! The differences to nginx that are on purpose, each with its reason. Everything else is a defect.

use crate::generate::Request;
use crate::outcome::Outcome;
use crate::scene::{Ingress, Path, Scene};

/// A kind of difference.
pub struct Explained {
    pub name: &'static str,
    #[allow(dead_code, reason = "for those who read this table")]
    pub reason: &'static str,
    /// Whether it explains why two outcomes are not the same.
    applies: fn(&Difference<'_>) -> bool,
}

struct Difference<'a> {
    scene: &'a Scene,
    request: &'a Request,
    here: &'a Outcome,
    nginx: &'a Outcome,
}

/// All of them.
pub const EXPLAINED: [Explained; 10] = [
    Explained {
        name: "Host with a comma",
        reason: "Envoy joins two Host lines by one, and nginx answers 400 to two lines",
        applies: |difference| difference.request.host.contains(&b',') && difference.here.status == 400,
    },
    Explained {
        name: "health check",
        reason: "ingress-nginx answers every path that begins with /healthz, and none where the rules for all \
                 hosts are expressions; here it is /healthz itself, always",
        applies: |difference| {
            let is_check = |outcome: &Outcome| outcome.rule.as_deref() == Some("- exact 2f6865616c74687a");
            is_check(difference.here) != is_check(difference.nginx)
        },
    },
    Explained {
        name: "Exact that ends in a slash",
        reason: "nginx sends /foo to /foo/ for an Exact rule /foo/ too; by the Ingress specification an Exact \
                 rule has no say in other paths",
        applies: |difference| {
            difference.nginx.status == 301
                && difference.nginx.is_exact()
                && difference.here.rule != difference.nginx.rule
        },
    },
    Explained {
        name: "target equal to the path",
        reason: "ingress-nginx splits a Prefix path in two, of which one is no longer equal to its rewrite-target \
                 and is rewritten, as is its location for what no path takes, and reads all paths of the host as \
                 expressions; here it is no rewrite",
        applies: |difference| {
            let same = |(ingress, path): (&Ingress, &Path)| ingress.annotations.rewrite_target == path.text;
            difference.scene.paths().any(same)
        },
    },
    Explained {
        name: "default backend and a rule for every host",
        reason: "ingress-nginx has no use for the default backend of such an Ingress; by the Ingress specification \
                 it takes what the rules do not",
        applies: |difference| {
            difference.nginx.rule.as_deref() == Some("- prefix 2f")
                && difference.here.is_default(difference.scene)
        },
    },
    Explained {
        name: "default backend beside a rule for /",
        reason: "in ingress-nginx the default backend of an Ingress without rules hides the rule for / of every \
                 host; by the Ingress specification it takes what the rules do not",
        applies: |difference| {
            let is_root =
                |outcome: &Outcome| outcome.rule.as_ref().is_some_and(|rule| rule.ends_with(" prefix 2f"));
            let Difference { scene, here, nginx, .. } = difference;
            let owner = |name: &str| scene.ingresses.iter().find(|ingress| ingress.name() == name);
            let from = nginx.rule.as_deref().and_then(|rule| owner(rule.split(' ').next()?));
            // A redirect of the hidden rule's host leaves no rule to be seen.
            let hidden = is_root(here) || here.rule.is_none();
            hidden && is_root(nginx) && from.is_some_and(|ingress| ingress.rules.is_empty())
        },
    },
    Explained {
        name: "IPv6 address in a redirect to HTTPS",
        reason: "ingress-nginx cuts the host at its first colon, within the address",
        applies: |difference| {
            difference.request.host.starts_with(b"[")
                && difference
                    .nginx
                    .location
                    .as_ref()
                    .is_some_and(|location| location.starts_with(b"https://[/"))
        },
    },
    Explained {
        name: "control characters in X-Forwarded-Prefix",
        reason: "nginx sends them as they are, which no backend should see; here they are escaped",
        applies: |difference| {
            let Difference { here, nginx, .. } = difference;
            let raw: Vec<u8> = (1..b' ').fold(here.forwarded_prefix.clone(), |text, byte| {
                let escape = format!("%{byte:02X}").into_bytes();
                replaced(&text, &escape, byte)
            });
            // What reads the header takes white space at its ends for none of it.
            let read = Outcome { forwarded_prefix: raw.trim_ascii().to_vec(), ..(*here).clone() };
            here.forwarded_prefix != nginx.forwarded_prefix && read == **nginx
        },
    },
    Explained {
        name: "port of the redirect between two names",
        reason: "ingress-nginx names the port of its listener; here it is the one that the client used",
        applies: |difference| {
            let Difference { request, here, nginx, .. } = difference;
            let Some(own) = here.location.as_ref().filter(|_| here.status == 308) else { return false };
            let port =
                request.host.iter().position(|byte| *byte == b':').map_or(&[][..], |at| &request.host[at..]);
            let with_port = |location: &Vec<u8>, port: &[u8]| {
                let text = location.strip_prefix(b"http://")?;
                let at = text.windows(port.len().max(1)).position(|part| part.starts_with(port))?;
                Some((text[..at].to_vec(), text[at + port.len()..].to_vec()))
            };
            match nginx.location.as_ref().and_then(|location| with_port(location, b":80")) {
                Some((host, rest)) => *own == [b"http://", &*host, port, &*rest].concat(),
                None => false,
            }
        },
    },
    Explained {
        name: "target without a slash",
        reason: "nginx asks the backend for a target that begins with no slash, or answers 500 where it is empty; \
                 here it gets the slash that HTTP asks for",
        applies: |difference| {
            let Difference { here, nginx, .. } = difference;
            let own = here.target.as_deref().unwrap_or_default();
            match &nginx.target {
                Some(target) => !target.starts_with(b"/") && own.strip_prefix(b"/") == Some(target),
                // Where no path takes the request there is no backend, and the target is never made.
                None if here.target.is_none() => {
                    nginx.status == 500 && here.status == 404 && difference.scene.rewrites()
                }
                None => nginx.status == 500 && (own == b"/" || own.starts_with(b"/?")),
            }
        },
    },
];

/// The name of the difference that explains why two outcomes are not the same.
pub fn explanation(
    scene: &Scene,
    request: &Request,
    here: &Outcome,
    nginx: &Outcome,
) -> Option<&'static str> {
    let difference = Difference { scene, request, here, nginx };
    EXPLAINED.iter().find(|explained| (explained.applies)(&difference)).map(|explained| explained.name)
}

/// The text with a byte in place of each occurrence of `from`.
fn replaced(text: &[u8], from: &[u8], to: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let length = if rest.starts_with(from) { from.len() } else { 1 };
        out.push(if length == from.len() { to } else { first });
        rest = &rest[length..];
    }
    out
}

impl Outcome {
    fn is_exact(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.contains(" exact "))
    }

    /// The default backend of an Ingress with rules answers.
    fn is_default(&self, scene: &Scene) -> bool {
        let Some((ingress, "prefix 2f")) = self.rule.as_deref().and_then(|rule| rule.split_once(' ')) else {
            return false;
        };
        scene.ingresses.iter().any(|found| found.name() == ingress && found.default_backend.is_some())
    }
}

impl Scene {
    fn rewrites(&self) -> bool {
        self.ingresses.iter().any(|ingress| !ingress.annotations.rewrite_target.is_empty())
    }

    fn paths(&self) -> impl Iterator<Item = (&Ingress, &Path)> {
        let rules =
            self.ingresses.iter().flat_map(|ingress| ingress.rules.iter().map(move |rule| (ingress, rule)));
        rules.flat_map(|(ingress, rule)| rule.paths.iter().map(move |path| (ingress, path)))
    }
}
