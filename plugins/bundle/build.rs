//! Builds the plugins for wasm32-wasip1 and tells `lib.rs` where they are.

use std::path::{Path, PathBuf};

use optwasm_toolchain::{GuestBuild, GuestToolchain, sources};

/// The names of the plugins and of the probe, which are those of their folders and binaries.
const PLUGINS: [&str; 4] = ["linear", "conic", "least-squares", "probe"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let plugins = here.parent().ok_or("the manifest has no folder")?;
    let root = plugins.parent().ok_or("the plugins have no folder")?;
    // A folder `out` lies four levels below the target directory. Outside of it,
    // all profiles of the surrounding build share the modules.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is too short")?;

    let toolchain = GuestToolchain::find()?;
    for name in PLUGINS {
        let modules = GuestBuild::new(root)
            .package(format!("optwasm-plugin-{name}"))
            .bin(name)
            .profile("guest")
            .target_dir(target.join("guests"))
            .build(&toolchain)?;
        let [module] = modules.as_slice() else {
            return Err(format!("plugin {name} has {} modules", modules.len()).into());
        };
        let variable = name.to_uppercase().replace('-', "_");
        println!(
            "cargo:rustc-env=OPTWASM_PLUGIN_{variable}={}",
            module.display()
        );
        for source in sources(module) {
            watch(&source);
        }
        watch(&plugins.join(name).join("Cargo.toml"));
    }
    watch(&root.join("Cargo.toml"));
    watch(&root.join("Cargo.lock"));
    println!("cargo:rerun-if-env-changed=OPTWASM_GUEST_RUSTC");
    Ok(())
}

fn watch(path: &Path) {
    println!("cargo:rerun-if-changed={}", path.display());
}
