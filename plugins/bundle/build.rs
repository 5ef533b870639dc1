//! Builds the plugins for wasm32-wasip1 and writes down where they are, with their manifests and
//! the licences of what is linked into them.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use optwasm_toolchain::{GuestBuild, GuestToolchain, sources};

mod list;

use list::{AS_ALL, PLUGINS, Unroll};

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let plugins = here.parent().ok_or("the manifest has no folder")?;
    let root = plugins.parent().ok_or("the plugins have no folder")?;
    // A folder `out` lies four levels below the target directory. Outside of it,
    // all profiles of the surrounding build share the modules.
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let target = out.ancestors().nth(4).ok_or("OUT_DIR is too short")?;

    let toolchain = GuestToolchain::find()?;
    let build = |name: &str, unroll: Unroll| -> Result<PathBuf, Box<dyn Error>> {
        let build = GuestBuild::new(root)
            .package(format!("optwasm-plugin-{name}"))
            .bin(name)
            .profile("guest")
            .target_dir(target.join("guests"));
        let modules = list::unrolled(build, unroll).build(&toolchain)?;
        let [module] = modules.as_slice() else {
            return Err(format!("plugin {name} has {} modules", modules.len()).into());
        };
        for source in sources(module) {
            watch(&source);
        }
        watch(&plugins.join(name).join("Cargo.toml"));
        Ok(module.clone())
    };
    let mut list = String::from("&[\n");
    for (name, unroll) in PLUGINS {
        if name == "highs" && !toolchain.c().is_some_and(|c| c.has_cpp()) {
            println!(
                "cargo::warning=the plugin highs is left out: there is no C++ compiler for \
                 wasm32-wasi. `cargo xtask setup` gets one on Debian."
            );
            continue;
        }
        let module = build(name, unroll)?;
        let manifest = plugins.join(name).join("plugin.toml");
        watch(&manifest);
        let crates = toolchain.linked_crates(root, &format!("optwasm-plugin-{name}"))?;
        let id = blake3::hash(&std::fs::read(&module)?);
        writeln!(
            list,
            "    Built {{ manifest: include_str!({manifest:?}), crates: {crates:?}, \
             wasm: include_bytes!({module:?}), id: {:?} }},",
            id.as_bytes()
        )?;
    }
    list.push(']');
    std::fs::write(out.join("plugins.rs"), list)?;
    let probe = build("probe", AS_ALL)?;
    std::fs::write(
        out.join("probe.id"),
        blake3::hash(&std::fs::read(&probe)?).as_bytes(),
    )?;
    println!("cargo::rustc-env=OPTWASM_PLUGIN_PROBE={}", probe.display());
    watch(&root.join("Cargo.toml"));
    watch(&root.join("Cargo.lock"));
    println!("cargo::rerun-if-env-changed=OPTWASM_GUEST_RUSTC");
    Ok(())
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
