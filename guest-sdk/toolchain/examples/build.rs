//! Builds the binaries of a package for wasm32-wasip1:
//! `cargo run -p optwasm-toolchain --example build -- DIRECTORY PROFILE TARGET_DIR`.

use optwasm_toolchain::{GuestBuild, GuestToolchain};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing argument: {what}"));
    let build = GuestBuild::new(next("directory of the package")?)
        .profile(next("profile")?)
        .target_dir(next("target directory")?)
        .show_output(true);
    for module in build.build(&GuestToolchain::find()?)? {
        println!("{}", module.display());
    }
    Ok(())
}
