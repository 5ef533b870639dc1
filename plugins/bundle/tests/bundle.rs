//! The bundle against the demonstration data, and the modules' form.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use optwasm_bundle::{detect, find, plugins, solution::Solution};
use serde::Deserialize;
use wasmparser::{Parser, Payload};

#[derive(Deserialize)]
struct Entry {
    name: String,
    file: String,
    plugin: String,
    status: String,
    objective: Option<f64>,
    rtol: f64,
}

/// The manifest's entries, each with the content of its file.
fn demonstration() -> Vec<(Entry, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    let manifest = std::fs::read(folder.join("manifest.json")).unwrap();
    let entries: Vec<Entry> = serde_json::from_slice(&manifest).unwrap();
    let content = |entry: &Entry| std::fs::read(folder.join(&entry.file)).unwrap();
    entries
        .into_iter()
        .map(|entry| {
            let bytes = content(&entry);
            (entry, bytes)
        })
        .collect()
}

/// What the plugin's library, built natively, makes of the file.
fn native(plugin: &str, bytes: &[u8]) -> Solution {
    match plugin {
        "linear" => optwasm_plugin_linear::solve(bytes).unwrap(),
        "conic" => optwasm_plugin_conic::solve(bytes).unwrap(),
        "least-squares" => optwasm_plugin_least_squares::solve(bytes).unwrap(),
        other => panic!("no plugin {other}"),
    }
}

#[test]
fn published_answers_are_found() {
    let entries = demonstration();
    assert!(entries.len() >= 12);
    for (entry, bytes) in entries {
        let solution = native(&entry.plugin, &bytes);
        assert_eq!(solution.status.as_str(), entry.status, "{}", entry.name);
        match (solution.objective, entry.objective) {
            (Some(found), Some(expected)) => {
                let error = (found - expected).abs() / expected.abs().max(1.0);
                assert!(
                    error <= entry.rtol,
                    "{}: {found}, expected {expected}",
                    entry.name
                );
                assert_eq!(solution.values.len(), solution.variables.len());
            }
            (None, None) => assert!(solution.values.is_empty()),
            other => panic!("{}: {other:?}", entry.name),
        }
        assert_eq!(Solution::from_cbor(&solution.to_cbor()).unwrap(), solution);
    }
}

#[test]
fn plugins_are_detected_by_content() {
    for (entry, bytes) in demonstration() {
        let plugin = detect(&bytes, None).unwrap_or_else(|| panic!("{}", entry.name));
        assert_eq!(plugin.name, entry.plugin, "{}", entry.name);
    }
    let name = |bytes: &[u8], file| detect(bytes, file).map(|plugin| plugin.name);
    for (text, expected) in [
        (
            "NAME x\nROWS\n N c\nCOLUMNS\n QUADOBJ c 1\nENDATA\n",
            Some("linear"),
        ),
        (
            "NAME x\nROWS\n N c\nCOLUMNS\n x c 1\nQUADOBJ\n x x 1\nENDATA\n",
            Some("conic"),
        ),
        ("max\n x \\ [ in a comment ]\nst\n", Some("linear")),
        ("max\n [ x^2 ] / 2\nst\n", Some("conic")),
        (
            "{\"model\": \"y=a\", \"data\": {}, \"start\": {}}",
            Some("least-squares"),
        ),
        ("{\"other\": 1}", None),
        ("hello", None),
        ("", None),
    ] {
        assert_eq!(name(text.as_bytes(), None), expected, "{text}");
    }
    assert_eq!(
        name(b"\xa3\x65modely=a\x64data\x65start", None),
        Some("least-squares")
    );
    // The file's name counts only where the content says nothing.
    assert_eq!(name(b"?", Some("a/b.MPS")), Some("linear"));
    assert_eq!(name(b"?", Some("b.dat-s")), Some("conic"));
    assert_eq!(name(b"?", Some("b.txt")), None);
    assert_eq!(name(b"VER\n1\n", Some("b.mps")), Some("conic"));
}

#[test]
fn plugins_are_found_by_name() {
    for plugin in plugins() {
        assert_eq!(find(plugin.name).unwrap().summary, plugin.summary);
        assert!(!plugin.formats.is_empty());
    }
    assert!(find("nonsense").is_none());
}

#[test]
fn modules_are_jobs_with_names_and_without_debug_information() {
    for plugin in plugins() {
        let mut sections = Vec::new();
        let mut start = false;
        for payload in Parser::new(0).parse_all(plugin.wasm) {
            match payload.unwrap() {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let module = import.unwrap().module;
                        assert!(
                            ["wasi_snapshot_preview1", "optwasm_v1"].contains(&module),
                            "{module}"
                        );
                    }
                }
                Payload::ExportSection(exports) => {
                    start |= exports
                        .into_iter()
                        .any(|export| export.unwrap().name == "_start");
                }
                Payload::CustomSection(custom) => sections.push(custom.name().to_owned()),
                _ => {}
            }
        }
        assert!(start, "{}", plugin.name);
        assert!(
            sections.iter().any(|name| name == "name"),
            "{}: {sections:?}",
            plugin.name
        );
        assert!(
            sections.iter().any(|name| name == "optwasm:abi"),
            "{}",
            plugin.name
        );
        assert!(
            !sections.iter().any(|name| name.starts_with(".debug")),
            "{}",
            plugin.name
        );
    }
}
