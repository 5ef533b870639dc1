//! `cargo xtask audit`: dependencies against `deny.toml`.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, root, run as run_command};

/// The release of cargo-deny that is installed where there is none.
const CARGO_DENY: &str = "0.18.9";

pub fn run() -> Result<()> {
    let installed = Command::new("cargo-deny").arg("--version").output();
    let program = match installed {
        Ok(output) if output.status.success() => "cargo-deny".into(),
        // Into the target directory, so that nothing of the user's changes.
        _ => {
            let into = root().join("target/tools");
            let program = into.join("bin/cargo-deny");
            if !program.exists() {
                let into = into.to_string_lossy().into_owned();
                let version = format!("cargo-deny@{CARGO_DENY}");
                run_command(&mut cargo(&[
                    "install", &version, "--locked", "--root", &into,
                ]))?;
            }
            program
        }
    };
    let deny = |checks: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("check").args(checks).current_dir(root());
        command
    };
    run_command(&mut deny(&["licenses", "bans", "sources"]))?;
    // The database of advisories lies elsewhere; without a network to it, say so and go on.
    let fetched = Command::new(&program)
        .args(["fetch", "db"])
        .current_dir(root())
        .output()?;
    if !fetched.status.success() {
        eprintln!("the database of advisories is not reachable: advisories were not checked");
        return Ok(());
    }
    run_command(&mut deny(&["advisories"]))
}
