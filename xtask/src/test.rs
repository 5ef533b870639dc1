//! `cargo xtask test`: everything that must hold before a change lands.

use std::time::Instant;

use anyhow::Result;

use crate::cargo;

fn run_step(name: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let begun = Instant::now();
    let mut command = cargo(args);
    command.envs(env.iter().copied());
    crate::run(&mut command)?;
    eprintln!("{name}: {} s", begun.elapsed().as_secs());
    Ok(())
}

pub fn run() -> Result<()> {
    run_step("format", &["fmt", "--all", "--check"], &[])?;
    run_step(
        "lints",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    // The client without wasmtime is a configuration of its own.
    run_step(
        "client alone",
        &[
            "clippy",
            "--package",
            "optwasm-client",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        &[],
    )?;
    run_step(
        "documentation",
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--locked",
            "--document-private-items",
        ],
        &[("RUSTDOCFLAGS", "-D warnings")],
    )?;
    // Benchmarks are built by the lints and run by `cargo bench`.
    run_step(
        "tests",
        &[
            "test",
            "--workspace",
            "--all-features",
            "--locked",
            "--exclude",
            "optwasm-benches",
        ],
        &[],
    )?;
    crate::clients::run_short()
}
