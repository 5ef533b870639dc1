//! Development tasks.
//!
//! ```text
//! cargo xtask setup             what building needs beyond cargo: a guest toolchain, kept per user
//! cargo xtask demo              setup; a coordinator, two workers, real problems, published answers
//! cargo xtask test              setup; format, lints, documentation, every test
//! cargo xtask plugins [--twice] setup; the plugins' modules: sizes and hashes; built twice, the same
//! cargo xtask clients [NAME…]   setup; the tests of modelling tools, with this as their solver
//! cargo xtask s3                the store's blobs against a server that speaks S3
//! cargo xtask audit             licences, bans, sources and advisories of all dependencies
//! ```

mod audit;
mod clients;
mod demo;
mod plugins;
mod s3;
mod test;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use optwasm_toolchain::GuestToolchain;

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let rest: Vec<String> = std::env::args().skip(2).collect();
    let result = match task.as_str() {
        "setup" => setup(),
        "demo" => setup().and_then(|()| demo::run()),
        "test" => setup().and_then(|()| test::run()),
        "plugins" => setup().and_then(|()| plugins::run(rest.iter().any(|word| word == "--twice"))),
        "clients" => setup().and_then(|()| clients::run_named(&rest)),
        "s3" => s3::run_tests(),
        "audit" => audit::run(),
        _ => {
            eprintln!("usage: cargo xtask setup|demo|test|plugins|clients|s3|audit");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Finds or installs the guest toolchain.
fn setup() -> Result<()> {
    let toolchain = GuestToolchain::install(&mut |step| eprintln!("setup: {step}"))
        .context("no guest toolchain")?;
    eprintln!("setup: guests are built by {}", toolchain.rustc().display());
    Ok(())
}

/// The repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The cargo that runs this, in the repository.
fn cargo(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end and fails where it fails.
fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {command:?}");
    let status = command.status().with_context(|| format!("{command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}
