//! Tries to get at its host; answers how each attempt failed.

use std::collections::BTreeMap;
use std::{env, fs, net, process};

/// Errors of attempts by name, empty for what succeeded.
#[optwasm_guest::job]
fn compute(path: String) -> BTreeMap<String, String> {
    let said = |result: Result<(), String>| result.err().unwrap_or_default();
    let tries = [
        ("read", fs::read(&path).map(drop).map_err(|e| e.to_string())),
        ("write", fs::write(&path, "x").map_err(|e| e.to_string())),
        (
            "connect",
            net::TcpStream::connect("127.0.0.1:22")
                .map(drop)
                .map_err(|e| e.to_string()),
        ),
        (
            "run",
            process::Command::new("/bin/sh")
                .spawn()
                .map(drop)
                .map_err(|e| e.to_string()),
        ),
        (
            "environment",
            match env::vars().count() {
                0 => Err("nothing in it".to_owned()),
                _ => Ok(()),
            },
        ),
    ];
    tries
        .map(|(name, result)| (name.to_owned(), said(result)))
        .into()
}
