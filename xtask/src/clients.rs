//! `cargo xtask clients [NAME…]`: other people's tests and tools, with this project as their solver.
//!
//! Each script `tests/clients/NAME.py` runs in a Python environment with the packages that
//! `tests/clients/requirements.txt` pins, with links to the command on its PATH under the names that
//! modelling tools know. It prints what it found and fails where that is less than it should be.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, root, run};

/// Those that are quick enough to be part of every test run.
const SHORT: [&str; 3] = ["pulp_suite", "pyomo_models", "cvxpy_suite"];

/// Runs the scripts named; all of them if none is.
pub fn run_named(names: &[String]) -> Result<()> {
    let scripts = if names.is_empty() {
        all()?
    } else {
        names.to_vec()
    };
    run_scripts(&scripts)
}

/// Runs the short ones; leaves them out, with a word, where there is no Python to run them.
pub fn run_short() -> Result<()> {
    let venv = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .output();
    if !venv.is_ok_and(|output| output.status.success()) {
        eprintln!("client tests are left out: there is no python3 with venv");
        return Ok(());
    }
    run_scripts(&SHORT.map(str::to_owned))
}

fn all() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let name = path.file_stem().context("a file without a name")?;
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    root().join("tests/clients")
}

fn run_scripts(names: &[String]) -> Result<()> {
    // What tests are built with, so that nothing is built twice.
    run(&mut cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--locked",
        "--exclude",
        "optwasm-benches",
        "--no-run",
    ]))?;
    let program = root().join("target/debug/optwasm");
    let python = environment()?;
    let links = root().join("target/clients/bin");
    run(Command::new(&program).arg("link").arg(&links))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [links.clone()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    )?;
    let mut failed = Vec::new();
    for name in names {
        // What the tools write goes where nobody minds.
        let work = root().join("target/clients/work").join(name);
        if work.exists() {
            std::fs::remove_dir_all(&work)?;
        }
        std::fs::create_dir_all(&work)?;
        let script = folder().join(format!("{name}.py"));
        let mut command = Command::new(&python);
        command
            .arg(&script)
            .current_dir(&work)
            .env("PATH", &path)
            .env("PYTHONPATH", root().join("python"))
            .env("OPTWASM", &program)
            .env("OPTWASM_LINKS", &links)
            .env("OPTWASM_TEST_DATA", root().join("tests/data"))
            .env("OPTWASM_DIR", work.join("state"))
            .env("OPTWASM_CACHE_DIR", root().join("target/clients/cache"))
            .env_remove("OPTWASM_CONNECT");
        if let Err(error) = run(&mut command) {
            eprintln!("{error}");
            failed.push(name.as_str());
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// A Python with the packages that are needed, made once for each list of them.
fn environment() -> Result<PathBuf> {
    let requirements = folder().join("requirements.txt");
    let wanted = std::fs::read(&requirements)?;
    let venv = root().join("target/clients/venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if venv.exists() {
        std::fs::remove_dir_all(&venv)?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        .context("client tests need python3 with venv")?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]);
    run(pip.arg("--requirement").arg(&requirements))?;
    std::fs::write(&stamp, wanted)?;
    Ok(python)
}
