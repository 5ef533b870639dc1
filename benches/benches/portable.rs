//! What canonical NaNs cost: the solvers' plugins on the test problems, `portable` over `strict`.
//!
//! Both profiles burn the same fuel on the same problem, which is asserted, so the time per unit of
//! work is what differs. Runs of the two are interleaved, so that a busy machine slows both.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples::Samples;
use optwasm_protocol::{ContentId, Profile};
use optwasm_sandbox::{Control, Job, Sandbox, SandboxConfig, Setup};

/// The test problems that take each plugin longest.
const PROBLEMS: [(&str, &[&str]); 3] = [
    (
        "linear",
        &[
            "adlittle.mps",
            "egout.mps",
            "gt2.mps",
            "klein1.mps",
            "lseu.mps",
        ],
    ),
    (
        "conic",
        &[
            "adlittle.mps",
            "afiro.mps",
            "hs35.lp",
            "fermat.cbf",
            "theta-c5.dat-s",
        ],
    ),
    (
        "least-squares",
        &["BoxBOD.dat", "MGH09.dat", "Misra1a.dat", "Thurber.dat"],
    ),
];

/// Time for one problem, and how often it is run in it, at least and at most.
const SECONDS: f64 = 4.0;
const ROUNDS: std::ops::RangeInclusive<usize> = 5..=400;

const PROFILES: [Profile; 2] = [Profile::Strict, Profile::Portable];

/// Medians of the seconds that the two profiles take.
fn compare(sandbox: &Sandbox, plugin: &str, input: &Bytes) -> [f64; 2] {
    let module = optwasm_bundle::find(plugin)
        .expect("the plugin is built in")
        .wasm;
    let setups = PROFILES.map(|profile| {
        let prepared = sandbox.prepare(ContentId::of(module), module, profile);
        let setup = Setup {
            profile,
            ..Setup::default()
        };
        (prepared.expect("plugins are acceptable"), Arc::new(setup))
    });
    let mut times = [Samples::default(), Samples::default()];
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < *ROUNDS.start()
        || (rounds < *ROUNDS.end() && begun.elapsed().as_secs_f64() < SECONDS)
    {
        let mut results = Vec::new();
        for ((prepared, setup), times) in setups.iter().zip(&mut times) {
            let mut job = Job::new(input.clone());
            job.setup = setup.clone();
            let one = Instant::now();
            let report = sandbox.run(prepared, job, &Control::new());
            times.add(one.elapsed());
            results.push((report.fuel, report.outcome));
        }
        assert_eq!(results[0], results[1], "the profiles do the same work");
        rounds += 1;
    }
    times.map(|times| times.median())
}

fn main() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let sandbox = Sandbox::new(SandboxConfig::new(1)).expect("the sandbox starts");
    let mut report = Report::new();
    for (plugin, files) in PROBLEMS {
        let mut sums = [0.0; 2];
        for file in files {
            let input = std::fs::read(data.join(file)).expect("the test problem is there");
            let [strict, portable] = compare(&sandbox, plugin, &input.into());
            sums[0] += strict;
            sums[1] += portable;
            let (strict, portable) = (Value::Seconds(strict), Value::Seconds(portable));
            report.line(&format!("{plugin}: {file}"), portable, Some(strict), None);
        }
        let [strict, portable] = sums.map(Value::Seconds);
        report.line(
            &format!("{plugin}: sum of medians"),
            portable,
            Some(strict),
            None,
        );
    }
    report.print("Canonical NaNs: `portable` (floor: `strict`)");
}
