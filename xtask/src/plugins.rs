//! `cargo xtask plugins [--twice]`: builds the plugins' modules and says what they are.
//!
//! The inputs are pinned: crates by `Cargo.lock`, HiGHS by `plugins/highs/upstream/Cargo.lock`. With
//! `--twice` everything is built a second time in another folder, and must come out the same.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use optwasm_toolchain::{GuestBuild, GuestToolchain};

use crate::root;

#[path = "../../plugins/bundle/list.rs"]
mod list;

pub fn run(twice: bool) -> Result<()> {
    let toolchain = GuestToolchain::find()?;
    let first = build(&toolchain, &root().join("target/guests"))?;
    for module in &first {
        let bytes = std::fs::read(module)?;
        let name = module.file_stem().unwrap_or_default().to_string_lossy();
        println!(
            "{name:14} {:>9} bytes  {}",
            bytes.len(),
            blake3::hash(&bytes)
        );
    }
    if !twice {
        return Ok(());
    }
    let other = root().join("target/guests-again");
    if other.exists() {
        std::fs::remove_dir_all(&other)?;
    }
    let second = build(&toolchain, &other)?;
    for (one, two) in first.iter().zip(&second) {
        if std::fs::read(one)? != std::fs::read(two)? {
            bail!("{} and {} differ", one.display(), two.display());
        }
    }
    println!("the same bytes, twice");
    std::fs::remove_dir_all(&other)?;
    Ok(())
}

/// Builds every plugin; returns the modules.
fn build(toolchain: &GuestToolchain, target: &Path) -> Result<Vec<PathBuf>> {
    let mut modules = Vec::new();
    for (name, unroll) in list::PLUGINS {
        if name == "highs" && !toolchain.c().is_some_and(|c| c.has_cpp()) {
            println!("highs is left out: there is no C++ compiler for wasm32-wasi");
            continue;
        }
        eprintln!("building {name}");
        let build = GuestBuild::new(root())
            .package(format!("optwasm-plugin-{name}"))
            .bin(name)
            .profile("guest")
            .target_dir(target);
        modules.extend(list::unrolled(build, unroll).build(toolchain)?);
    }
    Ok(modules)
}
