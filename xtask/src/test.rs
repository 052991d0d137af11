//! `cargo xtask test`: every test, from native ones to those against a real Envoy, in steps.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::args::{self, Arg, Args};
use crate::product::Listen;
use crate::ui::{self, Style};
use crate::{demo, envoy, kubernetes, nginx, oci, process, product, repository, tools};

const HELP: &str = "\
Runs every test: native ones, those of the decision engine in Node and beside a real nginx, and those that
drive the product with a real Envoy. Fetches what they need the first time.

Usage: cargo xtask test [OPTIONS] [FILTER]

Arguments:
  FILTER          only tests whose name contains it; steps without tests are left out then

Options:
  --no-e2e        only what needs no Envoy
  --envoy-version X  with this Envoy: 1.36, the oldest supported, or 1.40; without, a subset runs with the oldest too
  --keep-going    go on after a step that failed";

/// The package of the end-to-end tests.
const END_TO_END: &str = "ingress-wasm-tests";

/// The test of that package which needs an nginx, and no Envoy.
const AGAINST_NGINX: &str = "decides_as_nginx_does";

/// What runs with the oldest Envoy as well: beginnings of the names of conformance cases.
const OLDEST_CASES: [&str; 4] = ["envoy::k8s-", "envoy::tls-", "envoy::route-", "envoy::headers-"];

#[derive(Default)]
struct Options {
    no_e2e: bool,
    keep_going: bool,
    envoy: Option<PathBuf>,
    filter: Option<String>,
}

/// `cargo xtask test`
pub fn run(mut args: Args) -> Result<bool> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        match arg {
            Arg::Option(name) if args::is_help(&name) => {
                println!("{HELP}");
                return Ok(true);
            }
            Arg::Option(name) if name == "--no-e2e" => options.no_e2e = true,
            Arg::Option(name) if name == "--keep-going" => options.keep_going = true,
            Arg::Option(name) if name == "--envoy-version" => {
                options.envoy = Some(envoy::of_version(&args.value::<String>(&name)?)?);
            }
            Arg::Word(word) if options.filter.is_none() => options.filter = Some(word),
            other => return Err(args::unknown("test", &other).into()),
        }
    }
    let mut report = Report::default();
    let mut run = Run { options, built: None };
    for step in STEPS {
        let stopped = report.failed() && !run.options.keep_going;
        if stopped || !step.wanted(&run.options) {
            continue;
        }
        ui::heading(step.name);
        let start = Instant::now();
        let outcome = (step.run)(&mut run);
        if let Err(error) = &outcome {
            ui::error(&format!("{error:#}"));
        }
        report.lines.push(Line {
            name: step.name,
            took: start.elapsed(),
            outcome: outcome.unwrap_or_else(Outcome::broken),
        });
    }
    report.print();
    if let Some(filter) = &run.options.filter
        && report.totals() == (0, 0)
    {
        bail!("no test's name contains `{filter}`");
    }
    Ok(!report.failed())
}

/// A part of the whole, with its own heading and line in the summary.
struct Step {
    name: &'static str,
    /// Needs an Envoy.
    end_to_end: bool,
    /// Runs tests that a filter can pick from, or is needed for such.
    filtered: bool,
    run: fn(&mut Run) -> Result<Outcome>,
}

impl Step {
    fn wanted(&self, options: &Options) -> bool {
        !(self.end_to_end && options.no_e2e || !self.filtered && options.filter.is_some())
    }
}

const STEPS: [Step; 13] = [
    Step { name: "targets and tools", end_to_end: false, filtered: true, run: Run::tools },
    Step { name: "native tests", end_to_end: false, filtered: true, run: Run::native },
    Step { name: "the engine in Node", end_to_end: false, filtered: true, run: Run::web },
    Step { name: "the engine beside a real nginx", end_to_end: false, filtered: true, run: Run::nginx },
    Step { name: "chart and manifests", end_to_end: false, filtered: false, run: Run::kubernetes },
    Step { name: "filter and product", end_to_end: true, filtered: true, run: Run::build },
    Step { name: "end to end, with Envoy", end_to_end: true, filtered: true, run: Run::end_to_end },
    Step { name: "with the oldest Envoy", end_to_end: true, filtered: false, run: Run::oldest },
    Step { name: "OCI image layout", end_to_end: true, filtered: false, run: Run::oci },
    Step { name: "demonstration in containers", end_to_end: true, filtered: false, run: Run::compose },
    Step { name: "objects of Istio against its CRDs", end_to_end: true, filtered: false, run: Run::istio },
    Step { name: "fuzz targets compile", end_to_end: false, filtered: false, run: Run::fuzz },
    Step { name: "demo", end_to_end: true, filtered: false, run: Run::demo },
];

/// What steps hand on to later ones.
struct Run {
    options: Options,
    built: Option<Built>,
}

struct Built {
    product: PathBuf,
    envoy: PathBuf,
}

impl Run {
    fn tools(&mut self) -> Result<Outcome> {
        tools::targets()?;
        tools::web()?;
        if !self.options.no_e2e {
            println!("Envoy: {}", repository::shown(&self.envoy()?));
        }
        Ok(Outcome::default())
    }

    fn envoy(&self) -> Result<PathBuf> {
        self.options.envoy.clone().map_or_else(envoy::find, Ok)
    }

    fn native(&mut self) -> Result<Outcome> {
        self.tests(process::cargo().args(["test", "--workspace", "--exclude", END_TO_END]))
    }

    fn web(&mut self) -> Result<Outcome> {
        let tools = tools::web()?;
        self.tests(
            process::cargo()
                // Without doc tests: the native step has run them.
                .args(["test", "--package", "ingress-wasm", "--target", "wasm32-unknown-unknown", "--tests"])
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", tools.runner)
                .env("PATH", tools.path),
        )
    }

    /// Without an nginx it is left out, and said to be.
    fn nginx(&mut self) -> Result<Outcome> {
        let nginx = match nginx::find() {
            Ok(nginx) => nginx,
            Err(error) => {
                ui::note(&format!("{error:#}"));
                return Ok(Outcome::skipped("no nginx on the PATH, and none could be fetched"));
            }
        };
        println!("nginx: {}", repository::shown(&nginx));
        self.tests(
            process::cargo().args(["test", "--package", END_TO_END, "--test", "nginx"]).env("NGINX", nginx),
        )
    }

    fn kubernetes(&mut self) -> Result<Outcome> {
        match kubernetes::python() {
            Ok(python) => kubernetes::check(&python, false).map(|()| Outcome::default()),
            Err(error) => {
                ui::note(&format!("{error:#}"));
                Ok(Outcome::skipped("Helm and the schemas of Kubernetes could not be fetched"))
            }
        }
    }

    fn build(&mut self) -> Result<Outcome> {
        let product = product::build()?;
        let filter = product::build_filter()?;
        println!("filter: {}", ui::bytes(crate::size::of(&filter)?));
        self.built = Some(Built { product, envoy: self.envoy()? });
        Ok(Outcome::default())
    }

    fn built(&self) -> Result<&Built> {
        self.built.as_ref().context("not run: the product was not built")
    }

    fn end_to_end(&mut self) -> Result<Outcome> {
        let built = self.built()?;
        let mut cargo = process::cargo();
        cargo.args(["test", "--package", END_TO_END]);
        // That one has a step of its own.
        cargo.args(["--no-fail-fast", "--", "--skip", AGAINST_NGINX]);
        cargo.env("INGRESS_WASM_BIN", &built.product).env("ENVOY", &built.envoy);
        self.tests(&mut cargo)
    }

    /// A subset, with the oldest Envoy that is supported: every kind of thing that Envoy is told, once.
    fn oldest(&mut self) -> Result<Outcome> {
        if self.options.envoy.is_some() {
            return Ok(Outcome::skipped("--envoy-version"));
        }
        let built = self.built()?;
        let envoy = match envoy::oldest() {
            Ok(envoy) => envoy,
            Err(error) => {
                ui::note(&format!("{error:#}"));
                return Ok(Outcome::skipped("the oldest Envoy could not be fetched"));
            }
        };
        let mut all = Outcome::default();
        for cases in OLDEST_CASES {
            let mut cargo = process::cargo();
            cargo.args(["test", "--package", END_TO_END, "--test", "conformance", "--", cases]);
            cargo.env("INGRESS_WASM_BIN", &built.product).env("ENVOY", &envoy);
            let outcome = self.tests(&mut cargo)?;
            all.ok &= outcome.ok;
            all.passed += outcome.passed;
            all.failed += outcome.failed;
        }
        Ok(all)
    }

    fn oci(&mut self) -> Result<Outcome> {
        oci::write(&product::build_filter()?, &repository::root().join("target/oci"))?;
        Ok(Outcome::default())
    }

    /// The commands of the compose file, without containers.
    fn compose(&mut self) -> Result<Outcome> {
        let built = self.built()?;
        let python = match kubernetes::python() {
            Ok(python) => python,
            Err(error) => {
                ui::note(&format!("{error:#}"));
                return Ok(Outcome::skipped("the Python package for YAML could not be fetched"));
            }
        };
        if !process::succeeds(Command::new("curl").arg("--version")) {
            return Ok(Outcome::skipped("needs curl"));
        }
        let script = repository::root().join("xtask/src/compose.py");
        let mut check = Command::new(python);
        check.arg(script).arg(repository::root()).arg(&built.product).arg(&built.envoy);
        let ok = check.stdin(Stdio::null()).status().context("start Python")?.success();
        Ok(Outcome { ok, ..Outcome::default() })
    }

    /// The types of Istio's objects live in a workspace of their own.
    fn istio(&mut self) -> Result<Outcome> {
        let built = self.built()?;
        let mut cargo = process::cargo();
        cargo.args(["test", "--manifest-path"]).arg(repository::root().join("istio/check/Cargo.toml"));
        cargo.env("INGRESS_WASM_BIN", &built.product);
        self.tests(&mut cargo)
    }

    /// They live in a workspace of their own, and their engine is C++: compiled where that is at hand.
    fn fuzz(&mut self) -> Result<Outcome> {
        let manifest = repository::root().join("fuzz/Cargo.toml");
        if !manifest.is_file() {
            return Ok(Outcome::skipped("there are none"));
        }
        if !process::succeeds(Command::new("c++").arg("--version")) {
            return Ok(Outcome::skipped("needs a C++ compiler"));
        }
        process::run(process::cargo().args(["check", "--quiet", "--manifest-path"]).arg(manifest))?;
        Ok(Outcome::default())
    }

    fn demo(&mut self) -> Result<Outcome> {
        let built = self.built()?;
        let interrupted = process::interrupts()?;
        let tally = demo::serve(&built.product, &built.envoy, Listen::FREE, false, &interrupted)?;
        Ok(Outcome {
            ok: tally.failed == 0,
            passed: tally.passed.into(),
            failed: tally.failed.into(),
            skipped: None,
        })
    }

    /// Runs a `cargo test`, passing on what it prints and counting its results.
    fn tests(&self, cargo: &mut Command) -> Result<Outcome> {
        if cargo.get_args().all(|arg| arg != "--") {
            // Every test binary of a step runs, so that the count is whole.
            cargo.args(["--no-fail-fast", "--"]);
        }
        if let Some(filter) = &self.options.filter {
            cargo.arg(filter);
        }
        let shown = process::shown(cargo);
        let mut child =
            cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| shown.clone())?;
        let mut outcome = Outcome::default();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.context("read what the tests print")?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                if let Some((passed, failed)) = counts(&line) {
                    outcome.passed += passed;
                    outcome.failed += failed;
                }
            }
        }
        outcome.ok = child.wait().context("wait")?.success();
        if outcome.ok && outcome.failed > 0 {
            bail!("`{shown}` succeeded although tests failed");
        }
        Ok(outcome)
    }
}

/// Passed and failed of the line with which a test binary ends.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (_, rest) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers = rest.split("; ").map(|part| part.split_once(' '));
    let mut next = |word| match numbers.next()?? {
        (number, found) if found == word => number.parse().ok(),
        _ => None,
    };
    Some((next("passed")?, next("failed")?))
}

/// What came of a step.
struct Outcome {
    ok: bool,
    passed: u64,
    failed: u64,
    /// Why it was not run.
    skipped: Option<&'static str>,
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome { ok: true, passed: 0, failed: 0, skipped: None }
    }
}

impl Outcome {
    fn skipped(why: &'static str) -> Self {
        Outcome { skipped: Some(why), ..Outcome::default() }
    }

    fn broken(_: anyhow::Error) -> Self {
        Outcome { ok: false, ..Outcome::default() }
    }

    /// Failed tests; a step that failed otherwise (it did not compile) counts as one.
    fn faults(&self) -> u64 {
        if self.ok { 0 } else { self.failed.max(1) }
    }
}

struct Line {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

#[derive(Default)]
struct Report {
    lines: Vec<Line>,
}

impl Report {
    fn failed(&self) -> bool {
        self.lines.iter().any(|line| !line.outcome.ok)
    }

    /// Passed and failed over all steps.
    fn totals(&self) -> (u64, u64) {
        self.lines.iter().fold((0, 0), |(passed, failed), line| {
            (passed + line.outcome.passed, failed + line.outcome.faults())
        })
    }

    fn print(&self) {
        ui::heading("summary");
        let rows: Vec<Vec<String>> = self
            .lines
            .iter()
            .map(|Line { name, took, outcome }| {
                let result = match outcome {
                    Outcome { skipped: Some(why), .. } => format!("skipped: {why}"),
                    Outcome { ok: true, passed: 0, .. } => "ok".to_owned(),
                    Outcome { ok: true, passed, .. } => format!("{passed} passed"),
                    Outcome { passed: 0, failed: 0, .. } => "FAILED".to_owned(),
                    Outcome { passed, failed, .. } => format!("{passed} passed, {failed} FAILED"),
                };
                vec![(*name).to_owned(), result, ui::seconds(*took)]
            })
            .collect();
        ui::table(&rows);
        let left_out = STEPS.len() - self.lines.len();
        if left_out > 0 {
            println!("  {left_out} of {} steps not run", STEPS.len());
        }
        let (passed, failed) = self.totals();
        let style = if failed == 0 { Style::Good } else { Style::Bad };
        println!("\n{}", ui::paint(style, &format!("{passed} passed, {failed} failed")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_results() {
        for (line, expected) in [
            (
                "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                Some((12, 0)),
            ),
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 filtered out; finished in 0.01s",
                Some((3, 2)),
            ),
            ("test a::b ... ok", None),
            ("test result: something else", None),
        ] {
            assert_eq!(counts(line), expected, "{line}");
        }
    }

    #[test]
    fn a_step_that_breaks_counts_as_one_failure() {
        let line = |outcome| Line { name: "", took: Duration::ZERO, outcome };
        let report = Report {
            lines: vec![
                line(Outcome { passed: 7, ..Outcome::default() }),
                line(Outcome { ok: false, passed: 3, failed: 2, skipped: None }),
                line(Outcome::broken(anyhow::anyhow!("x"))),
                line(Outcome::skipped("x")),
            ],
        };
        assert_eq!(report.totals(), (10, 3));
        assert!(report.failed());
    }
}
