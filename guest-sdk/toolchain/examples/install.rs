//! Installs the guest toolchain, as `cargo xtask setup` does, and says where it is.

fn main() -> Result<(), optwasm_toolchain::ToolchainError> {
    let toolchain = optwasm_toolchain::GuestToolchain::install(&mut |line| eprintln!("{line}"))?;
    println!("{}", toolchain.rustc().display());
    Ok(())
}
