//! Runs cases on engines and reports each case and engine as one named test.
//!
//! It takes the command line that `cargo test` passes on. Only what is asked for is loaded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Completion, Conclusion, Failed, Trial};

use crate::case::{Case, CaseFile, Request, load};
use crate::engine::{Arrived, Engine, Running, Session, lacks};
use crate::expect::{check_answer, check_reached, check_totals, describe, times};
use crate::group::{Group, Member, group};
use crate::known::Known;

/// How many groups run at the same time.
const AT_ONCE: usize = 2;

/// How many faults of one request are reported.
const FAULTS_SHOWN: usize = 12;

/// What came of a case on an engine: nothing when it passed, or what differs.
pub type Outcome = Result<(), String>;

/// Runs the cases of `tests/conformance`, or of the file or folder that `$INGRESS_WASM_CASES` names.
pub fn main(engines: Vec<Arc<dyn Engine>>) -> Conclusion {
    let arguments = Arguments::from_args();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let by_hand = std::env::var_os("INGRESS_WASM_CASES").map(PathBuf::from);
    let files = load(by_hand.as_deref().unwrap_or(&tests.join("conformance")));
    let known = Known::load(&tests.join("known.toml"));
    let (files, known) = match (files, known) {
        (Ok(files), Ok(known)) => (files, known),
        (Err(error), _) | (_, Err(error)) => {
            let broken = Trial::test("case-files-and-list", || Err(Failed::from(error)));
            return libtest_mimic::run(&arguments, vec![broken]);
        }
    };
    let complete = by_hand.is_none();
    run(&arguments, &engines, files, &known, complete)
}

/// Runs the cases that the arguments ask for. `complete`: the files are all there are, so that the list of
/// known gaps can be checked against them.
pub fn run(
    arguments: &Arguments,
    engines: &[Arc<dyn Engine>],
    files: Vec<CaseFile>,
    known: &Known,
    complete: bool,
) -> Conclusion {
    let (trials, queue) = prepare(arguments, engines, files, known, complete);
    let queue = Mutex::new(queue);
    let work = || {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(job) = job else { return };
            // A test that is still waiting for its outcome learns of a panic from the dropped sender.
            let _ = catch_unwind(AssertUnwindSafe(|| job.run()));
        }
    };
    // The scope ends when the last group has been put away: the last outcome is known before that.
    std::thread::scope(|scope| {
        for _ in 0..arguments.test_threads.unwrap_or(AT_ONCE).clamp(1, AT_ONCE) {
            scope.spawn(work);
        }
        libtest_mimic::run(arguments, trials)
    })
}

/// The tests, and the groups that bring about their outcomes.
fn prepare(
    arguments: &Arguments,
    engines: &[Arc<dyn Engine>],
    files: Vec<CaseFile>,
    known: &Known,
    complete: bool,
) -> (Vec<Trial>, VecDeque<Job>) {
    let mut trials = Vec::new();
    let mut queue = VecDeque::new();
    for engine in engines {
        let mut senders = BTreeMap::new();
        for case in files.iter().flat_map(|file| &file.cases) {
            let (sender, receiver) = channel();
            let lacks = lacks(&**engine, case);
            let runs = lacks.is_none();
            let trial = trial(&**engine, case, lacks, known, receiver);
            if runs && !arguments.list && !arguments.is_filtered_out(&trial) && !arguments.is_ignored(&trial)
            {
                senders.insert(case.name.clone(), sender);
            }
            trials.push(trial);
        }
        let mut wanted = files.clone();
        wanted.iter_mut().for_each(|file| file.cases.retain(|case| senders.contains_key(&case.name)));
        let requests = wanted.iter_mut().flat_map(|file| &mut file.cases).flat_map(|case| &mut case.requests);
        requests.for_each(|request| request.expect = engine.visible(&request.expect));
        for group in group(wanted) {
            let of_group =
                group.cases.iter().filter_map(|member| senders.remove(&member.case.name)).collect();
            queue.push_back(Job { engine: Arc::clone(engine), group, senders: of_group });
        }
    }
    if complete {
        let names = files.iter().flat_map(|file| &file.cases).map(|case| case.name.as_str()).collect();
        let unknown =
            known.unknown(&engines.iter().map(|engine| engine.name()).collect::<BTreeSet<_>>(), &names);
        trials.push(Trial::test("list-of-known-gaps", move || match unknown.as_slice() {
            [] => Ok(()),
            names => Err(format!("no such case or engine: {}", names.join(", ")).into()),
        }));
    }
    (trials, queue)
}

/// The test of one case on one engine; its outcome comes through the channel.
fn trial(
    engine: &dyn Engine,
    case: &Case,
    lacks: Option<String>,
    known: &Known,
    receiver: Receiver<Outcome>,
) -> Trial {
    let name = format!("{}::{}", engine.name(), case.name);
    let reason = known.reason(engine.name(), &case.name).map(str::to_owned);
    let kind = if reason.is_some() { "known" } else { "" };
    let runner = move || {
        if let Some(lacks) = lacks {
            return Ok(Completion::ignored_with(lacks));
        }
        let outcome =
            receiver.recv().unwrap_or_else(|_| Err("the runner itself failed, see above".to_owned()));
        match (outcome, reason) {
            (Ok(()), None) => Ok(Completion::Completed),
            (Err(message), Some(reason)) => match unsaid(&reason, &message) {
                None => Ok(Completion::Completed),
                Some(code) => {
                    let fault =
                        format!("the product does not say {code} of it, as the list of known gaps has it");
                    Err(format!("{fault}\n{message}").into())
                }
            },
            (Err(message), None) => Err(Failed::from(message)),
            (Ok(()), Some(reason)) => {
                Err(format!("it now passes: take it off the list of known gaps (there: {reason})").into())
            }
        }
    };
    Trial::ignorable_test(name, runner).with_kind(kind)
}

/// The code of a diagnostic that a reason begins with, in brackets, and that is not in the message.
fn unsaid<'r>(reason: &'r str, message: &str) -> Option<&'r str> {
    let code = reason.split_inclusive(']').next().filter(|code| code.starts_with('['))?;
    (!message.contains(code)).then_some(code)
}

/// A group on an engine, and where its outcomes go, in the order of its cases.
struct Job {
    engine: Arc<dyn Engine>,
    group: Group,
    senders: Vec<Sender<Outcome>>,
}

impl Job {
    fn run(self) {
        let running = self.engine.start(&self.group);
        for (member, sender) in self.group.cases.iter().zip(self.senders) {
            let outcome = match &running {
                Ok(running) => run_case(&**running, member),
                Err(error) => Err(format!("{error}\n(loaded with {} cases)", self.group.cases.len())),
            };
            // Nobody waits when the tests have ended before: that is fine.
            let _ = sender.send(outcome);
        }
    }
}

/// Runs one case.
///
/// # Errors
///
/// What differs from the expectation, request by request.
pub fn run_case(running: &dyn Running, member: &Member) -> Outcome {
    let mut session = running.session(&member.case);
    let mut message = String::new();
    for (index, request) in member.case.requests.iter().enumerate() {
        let fault = run_request(&mut *session, request, member);
        if let Some(fault) = fault {
            message.push_str(&format!("request {}: {} {}\n", index + 1, request.method, request.url));
            message.push_str(&indented(&fault));
        }
    }
    if message.is_empty() {
        return Ok(());
    }
    let said = running.said_about(&member.case);
    if !said.is_empty() {
        message.push_str(&format!("the engine said:\n{}", indented(&said.join("\n"))));
    }
    Err(format!("{message}source: {}", member.case.source))
}

/// Sends a request as often as it says; tells what differs.
fn run_request(session: &mut dyn Session, request: &Request, member: &Member) -> Option<String> {
    let expect = &request.expect;
    session.forget();
    let mut answers = Vec::new();
    // Each fault with the number of answers that have it, in the order of their first appearance.
    let mut faults: Vec<(String, usize)> = Vec::new();
    let mut first_bad = None;
    for _ in 0..request.repeat {
        for answer in session.send(request) {
            let found = match answer {
                Err(error) => vec![error],
                Ok(answer) => {
                    let reached = match expect.backend {
                        Some(None) => reached(session, member),
                        _ => Vec::new(),
                    };
                    let found = check_answer(expect, &answer, &reached);
                    if !found.is_empty() {
                        first_bad.get_or_insert_with(|| answer.clone());
                    }
                    answers.push(answer);
                    found
                }
            };
            for fault in found {
                match faults.iter_mut().find(|(known, _)| *known == fault) {
                    Some((_, count)) => *count += 1,
                    None => faults.push((fault, 1)),
                }
            }
        }
    }
    let totals = check_totals(expect, &answers).into_iter();
    faults.extend(totals.map(|fault| (fault, 1)));
    for wanted in expect.all_reached() {
        let received = session.wait_received(&wanted.backend, times(&wanted).0);
        faults.extend(check_reached(&wanted, &received).into_iter().map(|fault| (fault, 1)));
    }
    if faults.is_empty() {
        return None;
    }
    let mut lines: Vec<String> = faults
        .iter()
        .take(FAULTS_SHOWN)
        .map(|(fault, count)| if *count > 1 { format!("{fault} ({count} times)") } else { fault.clone() })
        .collect();
    if faults.len() > FAULTS_SHOWN {
        lines.push(format!("… and {} more", faults.len() - FAULTS_SHOWN));
    }
    lines.extend(first_bad.or(answers.pop()).map(|answer| indented(&describe(&answer))));
    Some(lines.join("\n"))
}

/// Which of the services that a request may be forwarded to have received something. A backend that was asked
/// for an error does not count: its answer is replaced where no backend is expected to answer.
fn reached(session: &mut dyn Session, member: &Member) -> Vec<String> {
    let asked_for_error = |arrived: &Arrived| {
        let is_error = |code: &[u8]| matches!(code.first(), Some(b'4' | b'5'));
        const STATUS: &[u8] = b"/status/";
        let at = arrived.target.windows(STATUS.len()).position(|window| window == STATUS);
        at.and_then(|at| arrived.target.get(at + STATUS.len()..)).is_some_and(is_error)
    };
    let mut was_reached = |service: &&String| !session.received(service).iter().all(asked_for_error);
    member.facts.backends.iter().filter(|service| was_reached(service)).cloned().collect()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Ability, parse};
    use crate::engine::{Answer, Arrived};

    /// Answers everything with this status and reaches nobody.
    struct Always(u16);

    impl Engine for Always {
        fn name(&self) -> &'static str {
            "always"
        }
        fn abilities(&self) -> BTreeSet<Ability> {
            BTreeSet::new()
        }
        fn start(&self, _: &Group) -> Result<Box<dyn Running>, String> {
            assert_ne!(self.0, 0, "an engine that fails by itself");
            Ok(Box::new(Always(self.0)))
        }
    }

    impl Running for Always {
        fn session<'a>(&'a self, _: &'a Case) -> Box<dyn Session + 'a> {
            Box::new(Always(self.0))
        }
        fn said_about(&self, _: &Case) -> Vec<String> {
            Vec::new()
        }
    }

    impl Session for Always {
        fn forget(&mut self) {}
        fn send(&mut self, _: &Request) -> Vec<Result<Answer, String>> {
            let response = crate::client::Response { status: self.0, headers: Vec::new(), body: Vec::new() };
            vec![Ok(Answer { response: Some(response), ..Answer::default() })]
        }
        fn received(&mut self, _: &str) -> Vec<Arrived> {
            Vec::new()
        }
        fn wait_received(&mut self, _: &str, _: usize) -> Vec<Arrived> {
            Vec::new()
        }
    }

    /// Passed, failed and ignored tests with the case `one` expecting 200 and `two` needing an ability.
    fn totals(status: u16, known: &str) -> (u64, u64, u64) {
        let case = |name: &str, needs: &str| {
            format!(
                "- {{name: {name}, source: s, area: x, needs: [{needs}], manifests: '', \
                 requests: [{{url: 'http://{name}/', expect: {{status: 200}}}}]}}\n"
            )
        };
        let cases = parse(&format!("{}{}", case("one", ""), case("two", "digest"))).unwrap();
        let files = vec![CaseFile { path: "a.yaml".into(), cases }];
        let folder = tempfile::tempdir().unwrap();
        let (list, log) = (folder.path().join("known.toml"), folder.path().join("log"));
        std::fs::write(&list, known).unwrap();
        let known = Known::load(&list).unwrap();
        let logfile = Some(log.to_string_lossy().into_owned());
        let arguments = Arguments { logfile, ..Arguments::default() };
        let conclusion = run(&arguments, &[Arc::new(Always(status))], files, &known, true);
        (conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored)
    }

    #[test]
    fn outcomes_and_the_list_of_known_gaps() {
        let gap = |case: &str, engine: &str| {
            format!("[[known]]\ncase = '{case}'\nengine = '{engine}'\nreason = 'because'\n")
        };
        // The check of the list itself is a test as well.
        let cases = [
            (200, String::new(), (2, 0, 1)),
            (404, String::new(), (1, 1, 1)),
            (404, gap("one", "always"), (2, 0, 1)),
            (200, gap("one", "always"), (1, 1, 1)),
            (200, gap("nobody", "always"), (1, 1, 1)),
            (200, gap("one", "nobody"), (1, 1, 1)),
            (200, gap("two", "always"), (2, 0, 1)),
            (0, String::new(), (1, 1, 1)),
        ];
        for (status, known, expected) in cases {
            assert_eq!(totals(status, &known), expected, "{status} with {known:?}");
        }
    }
}
