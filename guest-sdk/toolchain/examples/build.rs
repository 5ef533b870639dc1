//! Builds the binaries of a package for wasm32-wasip1:
//! `cargo run -p optwasm-toolchain --example build -- DIRECTORY PROFILE TARGET_DIR [UNROLL]`.

use optwasm_toolchain::{GuestBuild, GuestToolchain};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing argument: {what}"));
    let [directory, profile, target] = [
        next("directory of the package")?,
        next("profile")?,
        next("target directory")?,
    ];
    let mut build = GuestBuild::new(directory)
        .profile(profile)
        .target_dir(target)
        .show_output(true);
    if let Some(count) = arguments.next() {
        build = build.unroll(count.parse()?);
    }
    for module in build.build(&GuestToolchain::find()?)? {
        println!("{}", module.display());
    }
    Ok(())
}
