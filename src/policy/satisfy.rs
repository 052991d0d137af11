//! Which checks a request has to pass: all of them, or any one (nginx `satisfy`).
//!
//! The checks are asked in nginx's order: the address, the password, the service. One whose opinion has to be
//! fetched first, as that of a service, is asked for it only while the matter is not [`Satisfy::settled`].

use crate::decision::Reply;

/// What one check says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion<'a> {
    /// It has been passed.
    Passed,
    /// It has nothing to say: some addresses are refused, and this is none of them.
    Silent,
    /// It has not been passed, and nothing can be done about it (403).
    Refused(Reply<'a>),
    /// It has not been passed; with other credentials it could be (401, or the way to where one gets them).
    Challenged(Reply<'a>),
    /// The check itself has failed (500): nobody is let in whatever the others say.
    Failed(Reply<'a>),
}

/// The checks so far.
#[derive(Debug)]
pub struct Satisfy<'a> {
    any: bool,
    passed: bool,
    failed: bool,
    challenged: bool,
    reply: Option<Reply<'a>>,
}

impl<'a> Satisfy<'a> {
    /// No check yet. `any`: one that is passed suffices.
    pub fn new(any: bool) -> Self {
        Satisfy { any, passed: false, failed: false, challenged: false, reply: None }
    }

    /// Nothing that a further check says can change the outcome.
    pub fn settled(&self) -> bool {
        self.failed || if self.any { self.passed } else { self.reply.is_some() }
    }

    /// Takes what the next check says; it is not asked where the matter is settled. Of several refusals one that
    /// asks for credentials counts before one that does not, and of those the last.
    pub fn hear(&mut self, check: impl FnOnce() -> Opinion<'a>) {
        if self.settled() {
            return;
        }
        match check() {
            Opinion::Silent => {}
            Opinion::Passed => self.passed = true,
            Opinion::Refused(reply) => {
                self.reply.get_or_insert(reply);
            }
            Opinion::Challenged(reply) => {
                self.challenged = true;
                self.reply = Some(reply);
            }
            Opinion::Failed(reply) => {
                self.failed = true;
                self.reply = Some(reply);
            }
        }
    }

    /// The outcome.
    ///
    /// # Errors
    ///
    /// The answer to a request that is not let in.
    pub fn verdict(self) -> Result<(), Reply<'a>> {
        match self.reply {
            Some(_) if self.any && self.passed && !self.failed => Ok(()),
            Some(reply) => Err(reply),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;
    use crate::policy::page;

    /// `0`: silent, `200`: passed, `302` and `401`: challenged, `500`: failed.
    fn opinion(status: u16) -> Opinion<'static> {
        match status {
            0 => Opinion::Silent,
            200 => Opinion::Passed,
            302 | 401 => Opinion::Challenged(page(status, "test")),
            500 => Opinion::Failed(page(status, "test")),
            status => Opinion::Refused(page(status, "test")),
        }
    }

    #[test]
    fn all_or_any() {
        let cases: [(&[u16], Option<u16>, Option<u16>); 15] = [
            (&[], None, None),
            (&[0], None, None),
            (&[200], None, None),
            (&[403], Some(403), Some(403)),
            (&[200, 401], Some(401), None),
            (&[401, 200], Some(401), None),
            (&[403, 200], Some(403), None),
            (&[403, 401], Some(403), Some(401)),
            (&[401, 403], Some(401), Some(401)),
            (&[0, 401], Some(401), Some(401)),
            (&[403, 0], Some(403), Some(403)),
            (&[403, 401, 200], Some(403), None),
            (&[401, 302], Some(401), Some(302)),
            (&[403, 500, 200], Some(403), Some(500)),
            (&[200, 500], Some(500), None),
        ];
        for (opinions, all, any) in cases {
            for (is_any, expected) in [(false, all), (true, any)] {
                let mut satisfy = Satisfy::new(is_any);
                opinions.iter().for_each(|status| satisfy.hear(|| opinion(*status)));
                let found = satisfy.verdict().err().map(|reply| reply.status);
                assert_eq!(found, expected, "{opinions:?}, any: {is_any}");
            }
        }
    }

    #[test]
    fn what_is_settled_is_not_asked() {
        let cases =
            [(false, 200, true), (false, 403, false), (true, 200, false), (true, 403, true), (true, 0, true)];
        for (any, first, asked) in cases {
            let mut satisfy = Satisfy::new(any);
            satisfy.hear(|| opinion(first));
            let mut heard = false;
            satisfy.hear(|| {
                heard = true;
                Opinion::Silent
            });
            assert_eq!(heard, asked, "{first}, any: {any}");
        }
    }
}
