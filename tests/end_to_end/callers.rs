//! The command under other names: as HiGHS's executable and as a solver of AMPL's kind.

use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::process::Output;
use std::time::{Duration, Instant};

use optwasm_tests::cluster::{Place, wait_for};
use serde_json::Value as Json;

use crate::{data, place_with_solvers};

/// Runs the command as `name`, to its end.
fn call(place: &Place, name: &str, args: &[&str]) -> Output {
    place.command(args).arg0(name).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A knapsack with several limits, which takes branch and cut for ever, and whose optimum is bounded
/// by the sum of all profits.
fn hard(seed: u64) -> String {
    let mut state = seed;
    let mut random = |below: u64| {
        // Numerical Recipes' quick generator; any would do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % below
    };
    let mut text = String::from("max\n obj:");
    for j in 0..120 {
        let _ = write!(text, " + {} x{j}", 500 + random(500));
    }
    text.push_str("\nst\n");
    for i in 0..20 {
        let _ = write!(text, " c{i}:");
        for j in 0..120 {
            let _ = write!(text, " + {} x{j}", 1 + random(1000));
        }
        text.push_str(" <= 20000\n");
    }
    text.push_str("binary\n");
    for j in 0..120 {
        let _ = writeln!(text, " x{j}");
    }
    text.push_str("end\n");
    text
}

#[test]
fn highs_writes_what_highs_writes() {
    let place = place_with_solvers();
    place.file(
        "small.lp",
        "max\n obj: 2 x + 3 y\nst\n c1: x + y <= 4\n c2: x + 3 y <= 6\nbounds\n x <= 3\nend\n",
    );
    place.file(
        "options",
        "# a comment\nsolution_file = small.sol\nlog_file=small.log\nmip_rel_gap = 0.01\n",
    );
    let ran = call(&place, "highs", &["small.lp", "--options_file=options"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let log = std::fs::read_to_string(place.path().join("small.log")).unwrap();
    assert_eq!(log.trim_end(), stdout(&ran).trim_end());
    assert!(log.contains("Model status        : Optimal"), "{log}");
    // Written by HiGHS 1.15.1's own executable.
    assert_eq!(
        std::fs::read_to_string(place.path().join("small.sol")).unwrap(),
        "Model status\nOptimal\n\n# Primal solution values\nFeasible\nObjective 9\n# Columns 2\n\
         x 3\ny 1\n# Rows 2\nc1 4\nc2 6\n\n# Dual solution values\nFeasible\n# Columns 2\nx 1\n\
         y 0\n# Rows 2\nc1 0\nc2 1\n\n# Basis\nHiGHS_basis_file v2\nValid\n# Columns 2\nx 2\ny 1\n\
         # Rows 2\nc1 1\nc2 2\n"
    );
    for (args, code, text) in [
        (&["--version"][..], 0, "HiGHS version 1.15.0"),
        (&["missing.mps"], 255, "File does not exist: missing.mps"),
        (
            &["small.lp", "--mip_rel_gab=1"],
            255,
            "did you mean `mip_rel_gap`?",
        ),
        (
            &["small.lp", "--time_limit=soon"],
            255,
            "Cannot read value \"soon\"",
        ),
        (
            &["small.lp", "more.lp"],
            255,
            "Multiple files not supported",
        ),
        (&[], 255, "Please specify filename"),
    ] {
        let ran = call(&place, "highs", args);
        assert_eq!(ran.status.code(), Some(code), "{args:?}: {ran:?}");
        assert!(stdout(&ran).contains(text), "{args:?}: {ran:?}");
    }
    // A call that fails leaves no log of an earlier one behind.
    let log = std::fs::read_to_string(place.path().join("HiGHS.log")).unwrap();
    assert!(!log.contains("Optimal"), "{log}");
    place.file(
        "broken.mps",
        "NAME x\nROWS\n N obj\n L c1\nCOLUMNS\n x c2 1\nENDATA\n",
    );
    let ran = call(&place, "highs", &["broken.mps"]);
    assert_eq!(ran.status.code(), Some(255));
    assert!(stdout(&ran).contains("line 6: unknown row `c2`"), "{ran:?}");
}

#[test]
fn a_time_limit_gives_the_best_solution_and_its_bound() {
    let place = place_with_solvers();
    place.file("hard.lp", hard(1));
    // So that what is timed is not compiling.
    let ran = call(&place, "highs", &["hard.lp", "--time_limit=0.001"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    let begun = Instant::now();
    let args = ["hard.lp", "--time_limit=3", "--solution_file=hard.sol"];
    let ran = call(&place, "highs", &args);
    let took = begun.elapsed();
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert!(
        took >= Duration::from_secs(3) && took < Duration::from_secs(30),
        "{took:?}"
    );
    let log = stdout(&ran);
    assert!(
        log.contains("Status            Time limit reached"),
        "{log}"
    );
    assert!(log.contains("Solution status   feasible"), "{log}");
    let solution = std::fs::read_to_string(place.path().join("hard.sol")).unwrap();
    assert!(
        solution.starts_with("Model status\nTime limit reached\n"),
        "{solution}"
    );
    assert!(solution.contains("\nFeasible\nObjective "), "{solution}");

    let answer = place
        .run([
            "solve",
            "--local",
            "hard.lp",
            "--time-limit",
            "3s",
            "--output",
            "json",
        ])
        .json();
    assert_eq!(answer["status"], "time_limit", "{answer}");
    let (objective, bound) = (
        answer["objective"].as_f64().unwrap(),
        answer["bound"].as_f64().unwrap(),
    );
    assert!(
        0.0 < objective && objective < bound && bound < 120.0 * 1000.0,
        "{answer}"
    );
    // The same with a budget of fuel, which is the same wherever it runs.
    let by_fuel = || {
        place
            .run([
                "solve",
                "--local",
                "hard.lp",
                "--fuel-for-best",
                "5G",
                "--output",
                "json",
            ])
            .json()
    };
    let (first, second) = (by_fuel(), by_fuel());
    assert_eq!(first["status"], "fuel_limit", "{first}");
    assert_eq!(first["outcome"], "ok");
    assert!(
        first["objective"].as_f64().unwrap() < first["bound"].as_f64().unwrap(),
        "{first}"
    );
    assert_eq!(first["objective"], second["objective"]);
    assert_eq!(first["fuel"], second["fuel"]);
}

#[test]
fn sixty_four_callers_at_once_get_their_own_answers() {
    let place = place_with_solvers();
    let _coordinator = place.coordinator(&[]);
    let _workers = [place.worker("a", &[]), place.worker("b", &[])];
    let callers: Vec<_> = (0..64)
        .map(|n| {
            let model = format!(
                "max\n obj: x + y\nst\n c: x + 2 y <= {}\nbounds\n x <= 1\nend\n",
                3 + 2 * n
            );
            place.file(&format!("m{n}.lp"), model);
            let solution = format!("--solution_file=m{n}.sol");
            let log = format!("--log_file=m{n}.log");
            let mut command = place.command([&format!("m{n}.lp"), &solution, &log]);
            command.arg0("highs").stdout(std::process::Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    for (n, mut caller) in callers.into_iter().enumerate() {
        assert!(caller.wait().unwrap().success(), "caller {n}");
        let text = std::fs::read_to_string(place.path().join(format!("m{n}.sol"))).unwrap();
        // x = 1 and y = 1 + n.
        let objective = format!("\nObjective {}\n", 2 + n);
        assert!(text.contains(&objective), "caller {n}: {text}");
    }
}

#[test]
fn a_caller_that_dies_takes_its_job_with_it() {
    let place = place_with_solvers();
    let _coordinator = place.coordinator(&[]);
    let _worker = place.worker("a", &[]);
    place.file("hard.lp", hard(2));
    let jobs = || -> Vec<Json> {
        let jobs = place.run(["jobs", "--output", "json"]).json();
        jobs["batches"].as_array().unwrap().clone()
    };
    for (count, signal) in ["TERM", "KILL"].into_iter().enumerate() {
        let mut command = place.command(["hard.lp"]);
        let mut caller = command.arg0("highs").spawn().unwrap();
        wait_for("the job's start", || {
            jobs().iter().any(|batch| batch["running"] == 1)
        });
        let pid = rustix::process::Pid::from_child(&caller);
        let signal = match signal {
            "TERM" => rustix::process::Signal::TERM,
            _ => rustix::process::Signal::KILL,
        };
        rustix::process::kill_process(pid, signal).unwrap();
        caller.wait().unwrap();
        wait_for("the job's end", || {
            let cancelled = |batch: &&Json| batch["outcomes"]["cancelled"] == 1;
            jobs().iter().filter(cancelled).count() == count + 1
        });
    }
}

#[test]
fn ampl_stubs_are_answered_beside_them() {
    let place = place_with_solvers();
    let stub = |name: &str| {
        let source = format!(
            "{}/../../plugins/nlp/tests/data/{name}.nl",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::copy(source, place.path().join(format!("{name}.nl"))).unwrap();
    };
    for name in ["hs71", "infeasible", "unbounded"] {
        stub(name);
    }
    let sol =
        |name: &str| std::fs::read_to_string(place.path().join(format!("{name}.sol"))).unwrap();
    let ran = call(
        &place,
        "optwasm-ampl",
        &["hs71", "-AMPL", "tol=1e-9", "timelimit=None"],
    );
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(
        stdout(&ran).contains("optimal; objective 17.0140"),
        "{ran:?}"
    );
    assert!(sol("hs71").contains("\nobjno 0 0\n"), "{}", sol("hs71"));
    // By the link's name, with the file's whole name, and options from the environment.
    let mut command = place.command(["hs71.nl", "-AMPL"]);
    command.arg0("ipopt").env("ipopt_options", "max_iter=2");
    let ran = command.output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(sol("hs71").contains("\nobjno 0 400\n"), "{}", sol("hs71"));
    let stub = place.path().join("hs71.nl").display().to_string();
    let early = [
        "solve",
        "--local",
        &stub,
        "--fuel-for-best",
        "1",
        "--output",
        "json",
    ];
    let early = place.run(early).json();
    assert_eq!(early["status"], "fuel_limit", "{early}");
    assert_eq!(early["iterations"], 0);
    for (name, hundreds) in [("infeasible", "2"), ("unbounded", "3")] {
        let ran = call(&place, "optwasm-ampl", &[name, "-AMPL"]);
        assert_eq!(ran.status.code(), Some(0), "{ran:?}");
        let code = format!("\nobjno 0 {hundreds}");
        assert!(sol(name).contains(&code), "{}", sol(name));
    }
    let version = stdout(&call(&place, "ipopt", &["--version"]));
    assert!(version.starts_with("Ipopt 3."), "{version}");
    assert!(stdout(&call(&place, "optwasm-ampl", &["-v"])).contains(env!("CARGO_PKG_VERSION")));

    let ran = call(&place, "optwasm-ampl", &["missing", "-AMPL"]);
    assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    let ran = call(&place, "optwasm-ampl", &["hs71", "-AMPL", "max_itr=3"]);
    assert_eq!(ran.status.code(), Some(2), "{ran:?}");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(said.contains("did you mean `max_iter`?"), "{said}");
}

#[test]
fn links_are_made_and_replaced() {
    let place = place_with_solvers();
    for _ in 0..2 {
        let made = place.run(["link", "bin"]).ok();
        assert_eq!(made.lines().count(), 3, "{made}");
    }
    let highs = place.path().join("bin/highs");
    let ran = std::process::Command::new(&highs)
        .arg("--version")
        .output()
        .unwrap();
    assert!(stdout(&ran).starts_with("HiGHS version"));
    place.file("bin/mine", "");
    place.run(["link", "bin", "mine"]).fails(2, "is no link");
    place
        .run(["link", "bin", "a/b"])
        .fails(2, "no name for a program");
    let ran = place
        .command(["-v"])
        .arg0(data("x/baron"))
        .output()
        .unwrap();
    assert!(stdout(&ran).starts_with("baron "), "{ran:?}");
}
