//! `cargo xtask demo`: the main job on real input, as a user would do it by hand.
//!
//! Starts a coordinator and two workers as processes of their own, has them solve the problems of
//! `tests/data`, and compares every answer with the published one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

use crate::{cargo, root, run as run_command};

/// How long a process may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with its handle.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the demo's coordinator lives.
struct Demo {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Demo {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("OPTWASM_DIR", self.dir.path().join("state"))
            .env_remove("OPTWASM_CONNECT")
            .env_remove("OPTWASM_TOKEN")
            .env_remove("OPTWASM_TOKEN_FILE");
        command
    }

    fn start(&self, args: &[&str]) -> Result<Running> {
        let mut command = self.command(args);
        let log = fs::File::create(self.dir.path().join(args.join("-")))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        eprintln!("$ optwasm {}", args.join(" "));
        Ok(Running(command.spawn()?))
    }

    fn workers(&self) -> usize {
        let output = self.command(&["workers", "--output", "json"]).output();
        let parsed = output
            .ok()
            .and_then(|o| serde_json::from_slice::<Json>(&o.stdout).ok());
        parsed
            .and_then(|json| json["workers"].as_array().map(Vec::len))
            .unwrap_or(0)
    }
}

pub fn run() -> Result<()> {
    run_command(&mut cargo(&["build", "--locked", "--package", "optwasm"]))?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let demo = Demo {
        program: target.join("debug/optwasm"),
        dir: tempfile::tempdir()?,
    };
    let data = root().join("tests/data");
    let manifest = fs::read(data.join("manifest.json")).context("tests/data/manifest.json")?;
    let problems: Vec<Json> = serde_json::from_slice(&manifest)?;

    let _coordinator = demo.start(&["coordinator", "--listen", "127.0.0.1:0"])?;
    wait_for("the coordinator", || {
        demo.dir.path().join("state/access.json").exists()
    })?;
    let _workers = [
        demo.start(&["worker", "--slots", "1", "--name", "ada"])?,
        demo.start(&["worker", "--slots", "1", "--name", "bob"])?,
    ];
    wait_for("the workers", || demo.workers() == 2)?;

    let answers = solve(&demo, &data, &problems)?;
    let wrong = compare(&problems, &answers)?;
    run_command(&mut demo.command(&["workers"]))?;
    run_command(&mut demo.command(&["jobs"]))?;
    run_command(&mut demo.command(&["shutdown"]))?;
    if wrong > 0 {
        bail!(
            "{wrong} of {} answers differ from the published ones",
            problems.len()
        );
    }
    println!("{} problems, all as published", problems.len());
    Ok(())
}

fn wait_for(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !ready() {
        if begun.elapsed() > PATIENCE {
            bail!("{what} did not come up");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Solves all problems in one call; returns the answers in the order of the problems.
fn solve(demo: &Demo, data: &Path, problems: &[Json]) -> Result<Vec<Json>> {
    let files = problems
        .iter()
        .filter_map(|problem| problem["file"].as_str());
    let files: Vec<String> = files.map(|f| data.join(f).display().to_string()).collect();
    let mut args = vec!["solve", "--output", "jsonl", "--name", "demo"];
    args.extend(files.iter().map(String::as_str));
    eprintln!("$ optwasm solve --output jsonl --name demo tests/data/...");
    // Progress goes to the terminal, answers come here.
    let output = demo.command(&args).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("optwasm solve failed: {}", output.status);
    }
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let answers: Vec<Json> = lines
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()?;
    // They come as the solves end.
    let of = |file: &String| answers.iter().find(|answer| answer["file"] == **file);
    files
        .iter()
        .map(|file| {
            of(file)
                .cloned()
                .with_context(|| format!("no answer for {file}"))
        })
        .collect()
}

/// Prints every answer beside the published one; returns how many differ.
fn compare(problems: &[Json], answers: &[Json]) -> Result<usize> {
    if answers.len() != problems.len() {
        bail!("{} answers to {} problems", answers.len(), problems.len());
    }
    println!(
        "{:<12} {:<13} {:<11} {:>22} {:>22} {:>14} {:>9} {:<6}",
        "PROBLEM", "PLUGIN", "STATUS", "OBJECTIVE", "PUBLISHED", "FUEL", "MS", "WORKER"
    );
    let mut wrong = 0;
    for (problem, answer) in problems.iter().zip(answers) {
        let right = is_right(problem, answer);
        wrong += usize::from(!right);
        let text = |value: &Json| value.as_str().unwrap_or("-").to_owned();
        let number = |value: &Json| {
            value
                .as_f64()
                .map_or_else(|| "-".to_owned(), |v| format!("{v:.9}"))
        };
        println!(
            "{:<12} {:<13} {:<11} {:>22} {:>22} {:>14} {:>9.1} {:<6} {}",
            text(&problem["name"]),
            text(&answer["plugin"]),
            text(&answer["status"]),
            number(&answer["objective"]),
            number(&problem["objective"]),
            answer["fuel"].as_u64().unwrap_or(0),
            answer["wall_us"].as_f64().unwrap_or(0.0) / 1e3,
            text(&answer["worker"]),
            if right { "" } else { "WRONG" },
        );
    }
    Ok(wrong)
}

fn is_right(problem: &Json, answer: &Json) -> bool {
    let status = answer["status"].as_str().unwrap_or_default();
    match (problem["status"].as_str(), problem["objective"].as_f64()) {
        (Some("infeasible"), _) => matches!(status, "infeasible" | "infeasible_or_unbounded"),
        (Some(expected), Some(published)) => {
            let tolerance = problem["rtol"].as_f64().unwrap_or(0.0) * published.abs().max(1.0);
            let objective = answer["objective"].as_f64().unwrap_or(f64::NAN);
            status == expected && (objective - published).abs() <= tolerance
        }
        (Some(expected), None) => status == expected,
        (None, _) => false,
    }
}
