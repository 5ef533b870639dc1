//! Builds the test guests for wasm32-wasip1, in Rust and in C, and tells `guests.rs` where they are.

use std::path::{Path, PathBuf};

use optwasm_toolchain::{GuestBuild, GuestToolchain, sources};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let root = here.parent().ok_or("the manifest has no folder")?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // A folder `out` lies four levels below the target directory, whose guests are shared by all
    // profiles of the surrounding build.
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is too short")?;

    let toolchain = GuestToolchain::find()?;
    let modules = GuestBuild::new(root)
        .package("optwasm-test-guests")
        .profile("guest")
        .target_dir(target.join("guests"))
        .build(&toolchain)?;
    let folder = modules.first().and_then(|module| module.parent());
    let folder = folder.ok_or("there are no test guests")?;
    println!("cargo:rustc-env=OPTWASM_TEST_GUESTS={}", folder.display());
    for source in modules.iter().flat_map(|module| sources(module)) {
        watch(&source);
    }
    watch(&here.join("guests"));

    let source = here.join("guests/c/echo.c");
    let include = root.join("guest-sdk/c");
    watch(&include.join("optwasm.h"));
    if let Some(c) = toolchain.c() {
        let module = out.join("c-echo.wasm");
        c.compile(&[source], &[include.as_path()], &module)?;
        println!("cargo:rustc-env=OPTWASM_TEST_C_GUEST={}", module.display());
    } else {
        println!("cargo:warning=no C compiler for wasm32-wasi: the C guest is not tested");
    }
    watch(&root.join("Cargo.lock"));
    println!("cargo:rerun-if-env-changed=OPTWASM_GUEST_RUSTC");
    Ok(())
}

fn watch(path: &Path) {
    println!("cargo:rerun-if-changed={}", path.display());
}
