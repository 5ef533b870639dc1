//! The bundle against the demonstration data, and the modules' form.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use optwasm_bundle::model::{Options, Solution};
use optwasm_bundle::{Kind, Unsolved, detect, find, plugins};
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

/// What the plugin's library, built natively, makes of the file; of `highs`, which is not built
/// natively, the plugin that stands in for it.
fn native(plugin: &str, bytes: &[u8]) -> Solution {
    match plugin {
        "highs" => optwasm_plugin_linear::solve(bytes).unwrap(),
        "conic" => optwasm_plugin_conic::solve(bytes, &Default::default()).unwrap(),
        "least-squares" => optwasm_plugin_least_squares::solve(bytes).unwrap(),
        "nlp" => optwasm_plugin_nlp::solve(bytes, Options::default(), |_| ()).unwrap(),
        "opf" => optwasm_plugin_opf::solve(bytes, Options::default()).unwrap(),
        "sat" => optwasm_plugin_sat::solve(bytes, Options::default()).unwrap(),
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
            (None, None) => assert_eq!(solution.values.is_empty(), entry.status != "sat"),
            other => panic!("{}: {other:?}", entry.name),
        }
        assert_eq!(Solution::from_cbor(&solution.to_cbor()).unwrap(), solution);
    }
}

#[test]
fn plugins_are_detected_by_content() {
    for (entry, bytes) in demonstration() {
        let plugin = detect(&bytes, None).unwrap_or_else(|why| panic!("{}: {why}", entry.name));
        assert_eq!(plugin.name(), entry.plugin, "{}", entry.name);
    }
    let name = |bytes: &[u8], file| detect(bytes, file).ok().map(|plugin| plugin.name());
    for (text, expected) in [
        (
            "NAME x\nROWS\n N c\nCOLUMNS\n QUADOBJ c 1\nENDATA\n",
            Some("highs"),
        ),
        (
            "NAME x\nROWS\n N c\nCOLUMNS\n x c 1\nQUADOBJ\n x x 1\nENDATA\n",
            Some("conic"),
        ),
        ("max\n x \\ [ in a comment ]\nst\n", Some("highs")),
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
    assert_eq!(name(b"?", Some("a/b.MPS")), Some("highs"));
    assert_eq!(name(b"?", Some("b.dat-s")), Some("conic"));
    assert_eq!(name(b"?", Some("b.txt")), None);
    assert_eq!(name(b"VER\n1\n", Some("b.mps")), Some("conic"));
}

#[test]
fn plugins_are_found_by_name() {
    for plugin in plugins() {
        assert_eq!(find(plugin.name()).unwrap().manifest, plugin.manifest);
        assert_eq!(blake3::hash(plugin.wasm).as_bytes(), &plugin.id);
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
        assert!(start, "{}", plugin.name());
        assert!(
            sections.iter().any(|name| name == "name"),
            "{}: {sections:?}",
            plugin.name()
        );
        assert!(
            sections.iter().any(|name| name == "optwasm:abi"),
            "{}",
            plugin.name()
        );
        assert!(
            !sections.iter().any(|name| name.starts_with(".debug")),
            "{}",
            plugin.name()
        );
    }
}

#[test]
fn what_no_plugin_solves_is_named() {
    let why = |text: &str| detect(text.as_bytes(), None).unwrap_err().to_string();
    assert_eq!(
        why("min\n [ x^2 ] / 2\nst\n c: x + y >= 1\ngeneral\n x\nend\n"),
        "it is a mixed-integer quadratic program, which no plugin here solves"
    );
    assert_eq!(detect(b"hello", None).unwrap_err(), Unsolved::UnknownFormat);
}

#[test]
fn manifests_are_whole() {
    let mut names: Vec<&str> = plugins().iter().map(|plugin| plugin.name()).collect();
    for plugin in plugins() {
        let manifest = &plugin.manifest;
        let name = plugin.name();
        for text in [
            &manifest.summary,
            &manifest.solves,
            &manifest.returns,
            &manifest.solver,
        ] {
            assert!(!text.is_empty(), "{name}");
        }
        assert!(
            !manifest.formats.is_empty() && !manifest.statuses.is_empty(),
            "{name}"
        );
        for status in &manifest.statuses {
            let known: Result<optwasm_bundle::model::Status, _> =
                serde_json::from_value(status.as_str().into());
            assert!(known.is_ok(), "{name}: {status}");
        }
        for option in &manifest.options {
            if option.default.is_some() {
                assert!(
                    option.takes(&option.default_text()),
                    "{name}: {}",
                    option.name
                );
            }
            assert_eq!(
                option.kind == Kind::Choice,
                !option.choices.is_empty(),
                "{name}"
            );
            let misspelt = manifest.check(&format!("{}x", option.name), "1");
            assert!(
                misspelt.is_err() || manifest.other_options,
                "{name}: {}",
                option.name
            );
        }
        // Licences that a weak copyleft or more comes with are named, and nowhere else.
        let copyleft = plugin.linked.iter().any(|linked| {
            ["GPL", "EPL", "MPL"]
                .iter()
                .any(|word| linked.licence.contains(word))
        });
        assert_eq!(copyleft, manifest.licence.contains("EPL"), "{name}");
        assert!(
            plugin
                .linked
                .iter()
                .all(|linked| linked.licence != "unknown"),
            "{name}"
        );
        assert!(plugin.linked.len() > 3, "{name}: {:?}", plugin.linked);
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), plugins().len());
}

/// Every option that a manifest lists is taken by the plugin, with its default, and changes nothing.
#[test]
fn defaults_are_what_plugins_do_without_options() {
    let options = |plugin: &str| {
        let options = find(plugin).unwrap().manifest.options.iter();
        let given = options.filter(|option| option.default.is_some());
        let given: Vec<String> = given
            .map(|option| format!("{}={}", option.name, option.default_text()))
            .collect();
        Options::parse(given).unwrap()
    };
    let lp = b"max\n obj: 2 x + 3 y\nst\n c: x + 3 y <= 6\nbounds\n x <= 3\nend\n";
    let settings = optwasm_plugin_conic::Settings::from_options(options("conic")).unwrap();
    assert_eq!(settings, Default::default());
    let settings = optwasm_plugin_least_squares::Settings::from_options(options("least-squares"));
    assert_eq!(settings.unwrap(), Default::default());
    assert_eq!(
        optwasm_plugin_linear::solve_reporting(lp, options("linear"), |_| ()).unwrap(),
        optwasm_plugin_linear::solve(lp).unwrap()
    );
}
