//! `optwasm new`: what it writes builds and runs at once.

use std::process::Command;

use crate::place;

#[test]
fn a_new_project_builds_and_runs() {
    let place = place();
    let printed = place.run(["new", "my-job"]).ok();
    assert!(printed.contains("cargo wasm"), "{printed}");
    let project = place.path().join("my-job");
    // With the caches of whoever runs the tests: the project's dependencies come from there.
    let mut build = Command::new(env!("CARGO"));
    build.arg("wasm").current_dir(&project);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && text != "CARGO_HOME"
            || text == "RUSTC"
            || text == "RUSTFLAGS"
        {
            build.env_remove(&name);
        }
    }
    let built = build.output().unwrap();
    let log = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{log}");
    let module = project.join("target/wasm32-wasip1/release/my-job.wasm");
    let module = module.display().to_string();
    let input = project.join("input.json").display().to_string();
    let ran = place.run(["run", "--local", &module, "--json", &input]);
    let answer: serde_json::Value = serde_json::from_str(&ran.ok()).unwrap();
    assert!(answer["objective"].is_number(), "{answer}");

    place.run(["new", "my-job"]).fails(2, "exists");
    place.run(["new", "not a name"]).fails(2, "name");
}
