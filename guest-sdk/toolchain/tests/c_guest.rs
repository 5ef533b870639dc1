//! A guest in C compiles against the SDK's header.

use std::path::Path;

use optwasm_toolchain::GuestToolchain;

#[test]
fn the_c_guest_compiles_and_imports_the_abi() {
    let toolchain = GuestToolchain::find().unwrap();
    let Some(c) = toolchain.c() else {
        eprintln!("no C compiler for guests on this machine: nothing to check");
        return;
    };
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("echo.wasm");
    let source = crates.join("../../tests/guests/c/echo.c");
    c.compile(&[&source], &[&crates.join("../c")], &module)
        .unwrap();
    let bytes = std::fs::read(&module).unwrap();
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"optwasm_v1") && has(b"output_write") && has(b"blob_open"));

    let broken = folder.path().join("broken.c");
    std::fs::write(&broken, "int main(void) { return undeclared; }").unwrap();
    let error = c.compile(&[&broken], &[], &module).unwrap_err().to_string();
    assert!(error.contains("undeclared"), "{error}");
}
