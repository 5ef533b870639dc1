//! What the sandbox costs solvers: the plugins' modules under fuel and all limits, over the same
//! source compiled for this machine, on problems with published answers.
//!
//! Both sides read the same bytes and must come to the same status and, to eight digits, the same
//! objective; branch and cut may take other paths, as the last digits of floating-point sums decide
//! them. Rounds of the two are interleaved, so that a busy machine slows both.
//!
//! HiGHS is compared only where `OPTWASM_NATIVE_HIGHS=1` was set when this was built, since it takes
//! minutes to compile. The larger instances are those that the crate `highs-sys` carries.
//!
//! An argument chooses problems by a part of their names: `-- NLP`.
//! `OPTWASM_MODULES=DIR:DIR…` measures modules built otherwise as well, `DIR/highs.wasm` and so on. That is
//! how the flags in `plugins/bundle/list.rs` were chosen.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use optwasm_benches::report::{Report, Value};
use optwasm_benches::samples::Samples;
use optwasm_bundle::model::nl::{
    Expression, NlConstraint, NlModel, NlObjective, NlVariable, Operator,
};
use optwasm_bundle::model::{Options, Solution};
use optwasm_protocol::{ContentId, Outcome, Payload, Profile};
use optwasm_sandbox::{Control, Job, Prepared, Sandbox, SandboxConfig};

/// Time for one problem, and how often it is run in it, at least and at most.
const SECONDS: f64 = 6.0;
const ROUNDS: std::ops::RangeInclusive<usize> = 5..=100;

/// What the geometric mean over the sets LP, MILP, conic and NLP is to stay below.
const REACH: f64 = 1.4;

struct Problem {
    name: String,
    plugin: &'static str,
    input: Bytes,
}

fn main() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data");
    let instances = highs_instances();
    let file = |plugin, folder: &Path, name: &str| Problem {
        name: name.to_owned(),
        plugin,
        input: std::fs::read(folder.join(name))
            .expect("the problem is there")
            .into(),
    };
    let of_highs = |names: &[&str]| -> Vec<Problem> {
        let there = instances
            .iter()
            .flat_map(|folder| names.iter().map(move |name| (folder, name)));
        there
            .map(|(folder, name)| file("highs", folder, name))
            .collect()
    };
    let opf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/opf/tests/data");
    let mut conic = vec![
        file("conic", &data, "theta-c5.dat-s"),
        file("conic", &data, "adlittle.mps"),
    ];
    conic.extend(instances.iter().flat_map(|folder| {
        ["25fv47.mps", "stair.mps", "greenbea.mps"].map(|name| file("conic", folder, name))
    }));
    let sets = [
        (
            "LP",
            of_highs(&[
                "25fv47.mps",
                "80bau3b.mps",
                "greenbea.mps",
                "perold.mps",
                "stair.mps",
            ]),
        ),
        (
            "MILP",
            of_highs(&[
                "flugpl.mps",
                "lseu.mps",
                "p0548.mps",
                "bell5.mps",
                "egout.mps",
                "rgn.mps",
            ]),
        ),
        ("conic", conic),
        (
            "NLP",
            vec![
                van_der_pol(400),
                van_der_pol(3000),
                file("opf", &opf, "pglib_opf_case14_ieee.m"),
            ],
        ),
    ];
    let sat = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/sat/tests/data");
    let others = [
        (
            "small LP and MILP",
            ["adlittle.mps", "egout.mps"]
                .map(|name| file("linear", &data, name))
                .into(),
        ),
        (
            "fits",
            ["MGH09.dat", "Thurber.dat"]
                .map(|name| file("least-squares", &data, name))
                .into(),
        ),
        ("SAT", vec![file("sat", &sat, "sgen1_unsat_57_0.cnf")]),
    ];
    let filter = std::env::args().skip(1).find(|part| !part.starts_with('-'));
    let sandbox = Sandbox::new(SandboxConfig::new(1)).expect("the sandbox starts");
    let mut report = Report::new();
    let mut all = Vec::new();
    let goal = sets.each_ref().map(|(set, _)| *set);
    for (set, problems) in sets.into_iter().chain(others) {
        let mut ratios = Vec::new();
        for problem in problems {
            let name = format!("{set}: {}", problem.name);
            if filter.as_ref().is_some_and(|part| !name.contains(part)) {
                continue;
            }
            let Some(times) = compare(&sandbox, &problem) else {
                eprintln!(
                    "{}: the plugin {} is not built natively",
                    problem.name, problem.plugin
                );
                continue;
            };
            let floor = Some(Value::Seconds(times.native));
            ratios.push(times.wasm / times.native);
            report.line(&name, Value::Seconds(times.wasm), floor, None);
            for (module, seconds) in times.others {
                let name = format!("  {}", module.display());
                report.line(&name, Value::Seconds(seconds), floor, None);
            }
        }
        if !ratios.is_empty() {
            let mean = geometric_mean(&ratios);
            report.line(
                &format!("{set}: geometric mean"),
                Value::Ratio(mean),
                None,
                None,
            );
            if goal.contains(&set) {
                all.push(mean);
            }
        }
    }
    if !all.is_empty() {
        let mean = geometric_mean(&all);
        let reach = Some(Value::Ratio(REACH));
        report.line(
            "geometric mean of the sets",
            Value::Ratio(mean),
            None,
            reach,
        );
    }
    report.print("Solvers: metered WebAssembly (floor: the same source for this machine)");
}

/// Medians of the seconds that a problem takes.
struct Times {
    native: f64,
    wasm: f64,
    /// With the modules of each folder of `OPTWASM_MODULES`.
    others: Vec<(PathBuf, f64)>,
}

/// Measures a problem; `None` where the plugin is not built natively.
fn compare(sandbox: &Sandbox, problem: &Problem) -> Option<Times> {
    let expected = native(problem)?;
    let plugin = optwasm_bundle::find(problem.plugin)?;
    let others = std::env::var_os("OPTWASM_MODULES").unwrap_or_default();
    let others: Vec<PathBuf> = std::env::split_paths(&others)
        .map(|folder| folder.join(format!("{}.wasm", problem.plugin)))
        .filter(|module| module.exists())
        .collect();
    let modules: Vec<Prepared> = std::iter::once(plugin.wasm.to_vec())
        .chain(
            others
                .iter()
                .map(|path| std::fs::read(path).expect("it is there")),
        )
        .map(|wasm| {
            let prepared = sandbox.prepare(ContentId::of(&wasm), &wasm, Profile::Strict);
            prepared.expect("plugins are acceptable")
        })
        .collect();

    let mut native_times = Samples::default();
    let mut times = vec![Samples::default(); modules.len()];
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < *ROUNDS.start()
        || (rounds < *ROUNDS.end() && begun.elapsed().as_secs_f64() < SECONDS)
    {
        let one = Instant::now();
        native(problem)?;
        native_times.add(one.elapsed());
        for (module, times) in modules.iter().zip(&mut times) {
            let one = Instant::now();
            let report = sandbox.run(module, Job::new(problem.input.clone()), &Control::new());
            times.add(one.elapsed());
            let Outcome::Ok(Payload::Inline(output)) = report.outcome else {
                panic!("{}: {}", problem.name, report.outcome);
            };
            let found = Solution::from_cbor(&output).expect("plugins return solutions");
            assert_eq!(found.status, expected.status, "{}", problem.name);
            let values = found.objective.zip(expected.objective);
            let same = values.is_none_or(|(a, b)| (a - b).abs() <= 1e-4 * b.abs().max(1.0));
            assert!(same, "{}: {values:?}", problem.name);
        }
        rounds += 1;
    }
    let mut medians = times.iter().map(Samples::median);
    Some(Times {
        native: native_times.median(),
        wasm: medians.next()?,
        others: others.into_iter().zip(medians).collect(),
    })
}

/// What the plugin's library makes of the problem.
fn native(problem: &Problem) -> Option<Solution> {
    let options = Options::default();
    let input = &problem.input;
    Some(match problem.plugin {
        "highs" if !optwasm_plugin_highs::LINKED => return None,
        "highs" => optwasm_plugin_highs::solve(input, options, &mut ()).expect("it is solved"),
        "conic" => optwasm_plugin_conic::solve(input, &Default::default()).expect("it is solved"),
        "nlp" => optwasm_plugin_nlp::solve(input, options, |_| ()).expect("it is solved"),
        "linear" => optwasm_plugin_linear::solve(input).expect("it is solved"),
        "least-squares" => optwasm_plugin_least_squares::solve(input).expect("it is fitted"),
        "sat" => optwasm_plugin_sat::solve(input, options).expect("it is solved"),
        "opf" => optwasm_plugin_opf::solve(input, options).expect("it is solved"),
        other => panic!("no plugin {other}"),
    })
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// The folder of instances that comes with the source of HiGHS, where cargo can tell.
fn highs_instances() -> Option<PathBuf> {
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/highs/upstream/Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "metadata",
            "--locked",
            "--format-version=1",
            "--manifest-path",
        ])
        .arg(manifest)
        .output()
        .ok()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let mut packages = metadata["packages"].as_array()?.iter();
    let upstream = packages.find(|package| package["name"] == "highs-sys")?;
    let folder = Path::new(upstream["manifest_path"].as_str()?).parent()?;
    Some(folder.join("HiGHS/check/instances"))
}

/// Optimal control of the Van der Pol oscillator over `steps` Euler steps of ten time units:
/// x₁' = (1 − x₂²)x₁ − x₂ + u, x₂' = x₁, from (0, 1), with u in [−0.3, 1] and least x₁² + x₂² + u².
fn van_der_pol(steps: usize) -> Problem {
    let h = 10.0 / steps as f64;
    let [x1, x2, u] = [0, 1, 2].map(|which| move |step: usize| 3 * step + which);
    let mut model = NlModel::default();
    // As AMPL writes them.
    model.options = vec![1, 1, 0];
    for step in 0..=steps {
        for (lower, upper, start) in [
            (f64::NEG_INFINITY, f64::INFINITY, 0.0),
            (f64::NEG_INFINITY, f64::INFINITY, 1.0),
            (-0.3, 1.0, 0.0),
        ] {
            let at_start = step == 0 && lower != -0.3;
            model.variables.push(NlVariable {
                lower: if at_start { start } else { lower },
                upper: if at_start { start } else { upper },
                integer: false,
                start,
            });
        }
    }
    let product = |a: Expression, b: Expression| Expression::operation(Operator::Multiply, [a, b]);
    let equation = |linear: Vec<(usize, f64)>, expression: Expression| NlConstraint {
        linear,
        expression,
        lower: 0.0,
        upper: 0.0,
        dual_start: 0.0,
    };
    for k in 0..steps {
        // x₁' − x₁ − h((1 − x₂²)x₁ − x₂ + u) = 0
        let square = product(Expression::variable(x2(k)), Expression::variable(x2(k)));
        let cubic = product(square, Expression::variable(x1(k)));
        let linear = vec![(x1(k), -1.0 - h), (x2(k), h), (u(k), -h), (x1(k + 1), 1.0)];
        model
            .constraints
            .push(equation(linear, product(Expression::number(h), cubic)));
        let linear = vec![(x1(k), -h), (x2(k), -1.0), (x2(k + 1), 1.0)];
        model
            .constraints
            .push(equation(linear, Expression::default()));
    }
    let squares = (0..3 * (steps + 1)).map(|j| {
        let square = product(Expression::variable(j), Expression::variable(j));
        product(Expression::number(h), square)
    });
    model.objectives.push(NlObjective {
        expression: Expression::operation(Operator::Sum, squares),
        ..NlObjective::default()
    });
    Problem {
        name: format!("Van der Pol control, {steps} steps"),
        plugin: "nlp",
        input: model.write_text().expect("there are no integers").into(),
    }
}
