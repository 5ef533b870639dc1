//! Gives the guest a stack that pounce's recursion over deep expressions fits.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("wasm32") {
        // 16 MiB instead of 1; only what is used of it becomes real memory.
        println!("cargo::rustc-link-arg-bins=-zstack-size=16777216");
    }
}
