//! Writes a new project, as `optwasm new` does:
//! `cargo run -p optwasm-toolchain --example new -- DIRECTORY`.

use std::path::PathBuf;

use optwasm_toolchain::{GuestToolchain, Origin, template};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("missing argument: directory")?,
    );
    let name = dir
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or("the directory has no name")?;
    let toolchain = GuestToolchain::find()?;
    let rustc = (toolchain.origin() != Origin::Ordinary).then(|| toolchain.rustc());
    template::write(name, &dir, rustc)?;
    Ok(())
}
