//! A new project builds and passes its tests as its README says.

use std::path::Path;
use std::process::Command;

use optwasm_toolchain::{GuestToolchain, Origin, template};

/// Runs cargo in the project, as a person in a terminal would: with nothing of this test's cargo.
fn cargo(toolchain: &GuestToolchain, project: &Path, arguments: &[&str]) {
    let mut command = Command::new(toolchain.cargo());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if (name.starts_with("CARGO") && name != "CARGO_HOME") || name.starts_with("RUSTC") {
            command.env_remove(name);
        }
    }
    // Dependencies are built once for all runs of this test.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-project");
    let output = command
        .current_dir(project)
        .env("CARGO_TARGET_DIR", target)
        .args(arguments)
        .output()
        .expect("cargo starts: it is running this test");
    assert!(
        output.status.success(),
        "cargo {arguments:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_new_project_builds_for_wasm_and_tests_natively() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("new-job");
    let toolchain = GuestToolchain::find().unwrap();
    let rustc = (toolchain.origin() != Origin::Ordinary).then(|| toolchain.rustc());
    template::write("new-job", &project, rustc).unwrap();

    cargo(&toolchain, &project, &["wasm"]);
    let module = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("new-project/wasm32-wasip1/release/new-job.wasm");
    let bytes = std::fs::read(module).unwrap();
    assert_eq!(&bytes[..4], b"\0asm");
    let has = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(has(b"output_write") && has(b"optwasm:abi") && has(b"Solution"));

    cargo(&toolchain, &project, &["test"]);
}
