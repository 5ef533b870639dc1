//! From nothing to the first result: `optwasm run` as a process, with a small module whose native
//! code is cached, its job run in that process.
//!
//! Floor: the same program as it prints its version.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, SamplingMode};
use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples;
use optwasm_tests::cluster::Place;
use optwasm_tests::guests;

/// Builds the command and returns where it is.
fn build() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "optwasm"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .status();
    assert!(
        built.expect("cargo can be run").success(),
        "the command is built"
    );
    // This program is in `target/release/deps`, whatever the target directory is called.
    let here = std::env::current_exe().expect("this program has a path");
    let release = here
        .ancestors()
        .nth(2)
        .expect("it is in a folder of the target directory");
    release.join(format!("optwasm{}", std::env::consts::EXE_SUFFIX))
}

fn main() {
    let place = Place::new(build());
    let module = guests::path("noop");
    let module = module.to_str().expect("the path is text");
    let input = place.file("input", "");
    let input = input.to_str().expect("the path is text");
    let run = || {
        place.run(["run", "--local", module, input]).ok();
    };
    // Compiles the module.
    run();

    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .sample_size(20)
        .configure_from_args();
    let mut group = criterion.benchmark_group("startup");
    group.sampling_mode(SamplingMode::Flat);
    let version = samples::each(&mut group, "floor: optwasm --version", || {
        place.run(["--version"]).ok();
    });
    let first = samples::each(&mut group, "optwasm run", run);
    group.finish();

    let mut report = Report::new();
    let floor = Value::Seconds(version.median());
    report.line("optwasm --version", floor, None, None);
    let reach = Some(Value::Seconds(0.1));
    report.line(
        "optwasm run, p50",
        Value::Seconds(first.median()),
        Some(floor),
        reach,
    );
    let p99 = Value::Seconds(first.quantile(0.99));
    report.line("optwasm run, p99", p99, Some(floor), None);
    report.print("Nothing to first result");
}
