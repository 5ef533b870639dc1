//! What bad input gets: one clear line, an exit code, and nothing lost or left running.

use std::fs;
use std::net::UdpSocket;

use crate::{data, guest, place};

#[test]
fn modules_that_are_none_or_for_something_else() {
    let place = place();
    let good = fs::read(guest("noop")).unwrap();
    let truncated = place.file("truncated.wasm", &good[..good.len() / 2]);
    place
        .run(["run", "--local", &truncated.display().to_string()])
        .fails(26, "not a valid WebAssembly module");
    let text = place.file("text.wasm", "hello");
    place
        .run(["check", &text.display().to_string()])
        .fails(26, "not a WebAssembly module");
    let wat = |source: &str| wat::parse_str(source).unwrap();
    let start = r#"(memory (export "memory") 1) (func (export "_start")))"#;
    for (source, message) in [
        (
            r#"(module (import "env" "f" (func))"#,
            "a C symbol was not linked",
        ),
        (
            r#"(module (import "optwasm_v1" "teleport" (func))"#,
            "a newer SDK",
        ),
        (
            r#"(module (import "wasi_unstable" "fd_write" (func))"#,
            "preview 0",
        ),
        (r#"(module (import "wbg" "f" (func))"#, "wasm-bindgen"),
    ] {
        let module = place.file("other.wasm", wat(&format!("{source} {start}")));
        let module = module.display().to_string();
        place.run(["check", &module]).fails(26, message);
        place.run(["run", "--local", &module]).fails(26, message);
    }
    // ABI 2 in the section that names the ABI: {"abi": 2}.
    let section = r#"(module (@custom "optwasm:abi" "\a1\63abi\02")"#;
    let module = place.file("abi2.wasm", wat(&format!("{section} {start}")));
    place
        .run(["check", &module.display().to_string()])
        .fails(26, "guest ABI 2");
}

#[test]
fn problem_files_that_are_damaged() {
    let place = crate::place_with_solvers();
    let mps = fs::read_to_string(data("afiro.mps")).unwrap();
    let damaged = place.file("damaged.mps", mps.replacen("X01", "X01 X01 X01", 1));
    let ran = place.run(["solve", "--local", &damaged.display().to_string()]);
    ran.fails(20, "line");
    let nonsense = place.file("nonsense.txt", "once upon a time");
    place
        .run(["solve", "--local", &nonsense.display().to_string()])
        .fails(2, "no plugin reads");
}

#[test]
fn inputs_that_are_too_large() {
    let place = place();
    let path = place.file("huge", "");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    // Sparse: it has no blocks on disk.
    file.set_len(4 << 30).unwrap();
    let echo = guest("echo");
    place
        .run(["run", "--local", &echo, &path.display().to_string()])
        .fails(2, "an input may have 2.00 GiB");
    // A problem may have less: what reads it takes several times its size.
    let path = place.file("huge.mps", "NAME huge\n");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(2 << 30).unwrap();
    let path = path.display().to_string();
    place
        .run(["solve", "--local", &path])
        .fails(2, "an input may have 512.00 MiB");
}

#[test]
fn tokens_that_are_wrong() {
    let place = place();
    let _coordinator = place.coordinator(&[]);
    let address = place.address();
    let jobs = |token: &str| {
        let file = place.file("token", token);
        place.run([
            "jobs",
            "--connect",
            &address,
            "--token-file",
            &file.display().to_string(),
        ])
    };
    let good = place.run(["token", "create", "client"]).ok();
    jobs(&good).ok();
    jobs("hello").fails(5, "not an optwasm token");
    jobs(&good[..good.len() - 3]).fails(5, "damaged");
    let short = place
        .run(["token", "create", "client", "--expires", "1s"])
        .ok();
    std::thread::sleep(std::time::Duration::from_millis(2100));
    jobs(&short).fails(5, "expired");
    let inspected = place
        .command(["token", "inspect"])
        .env("OPTWASM_TOKEN", good.trim())
        .output()
        .unwrap();
    let inspected = String::from_utf8(inspected.stdout).unwrap();
    let name = inspected
        .lines()
        .find_map(|line| line.strip_prefix("name:"))
        .unwrap()
        .trim();
    place.run(["token", "revoke", name]).ok();
    jobs(&good).fails(5, "revoked");
    // A token for workers is of no use to a client.
    let worker = fs::read_to_string(place.state().join("worker.token")).unwrap();
    jobs(&worker).fails(5, "role `worker`");
    // Another coordinator's token.
    let other = crate::place();
    let _other_coordinator = other.coordinator(&[]);
    let foreign = other.run(["token", "create", "client"]).ok();
    jobs(&foreign).fails(5, "not the one");
    // Secrets are not on any process's screen.
    assert!(!place.run(["workers", "-vv"]).stderr().contains("optwasm1_"));
}

#[test]
fn addresses_and_directories_that_are_taken() {
    let place = place();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    place
        .run(["coordinator", "--listen", &address])
        .fails(2, "cannot listen");
    let _coordinator = place.coordinator(&[]);
    place
        .run(["coordinator", "--listen", "127.0.0.1:0"])
        .fails(10, "another coordinator is running");
    // The first is unharmed.
    place.run(["jobs"]).ok();
    // Something that is no coordinator.
    let token = place.file("token", place.run(["token", "create", "client"]).ok());
    let token = token.display().to_string();
    place
        .run(["jobs", "--connect", &address, "--token-file", &token])
        .fails(4, "no coordinator answers");
    place
        .run([
            "jobs",
            "--connect",
            "no.such.host.invalid:1",
            "--token-file",
            &token,
        ])
        .fails(4, "no.such.host.invalid");
}

#[test]
fn a_cache_directory_that_takes_nothing() {
    let place = place();
    // The cache would lie in a folder that is a file.
    fs::create_dir(place.path().join(".cache")).unwrap();
    place.file(".cache/optwasm", "");
    let ran = place.run(["solve", "--local", &data("afiro.mps")]);
    assert!(ran.ok().contains("optimal"));
    assert!(ran.stderr().contains("not cached"), "{}", ran.stderr());
}
