//! New projects: the template in `guest-sdk/template` and a copy of the SDK.
//!
//! All files are compiled into this crate, so that an installed `optwasm` needs no checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{TARGET, ToolchainError};

/// Longest project name, in bytes: longer ones make unwieldy file names.
const LONGEST_NAME: usize = 64;

/// Where the SDK lies inside a project.
const SDK_FOLDER: &str = "optwasm-guest";

macro_rules! files {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../", $folder, $path)))),*]
    };
}

/// Files of the project itself; `{{name}}` in them becomes the project's name.
const PROJECT: &[(&str, &str)] = files!("template/":
    ".cargo/config.toml",
    ".gitignore",
    "Cargo.toml",
    "README.md",
    "input.json",
    "src/main.rs",
);

/// Files of the SDK.
const SDK: &[(&str, &str)] = files!("":
    "Cargo.toml",
    "macros/Cargo.toml",
    "macros/src/lib.rs",
    "macros/src/section.rs",
    "src/array.rs",
    "src/blob.rs",
    "src/codec.rs",
    "src/context.rs",
    "src/failure.rs",
    "src/float.rs",
    "src/imports.rs",
    "src/lib.rs",
    "src/logger.rs",
    "src/mock.rs",
    "src/private.rs",
    "src/pthread_stubs.rs",
);

/// Writes a new project called `name` into `dir`, which must not exist, and returns the files
/// written.
///
/// `rustc` is the compiler that `cargo wasm` shall use in the project, where the ordinary one cannot
/// build guests: that of a [`GuestToolchain`](crate::GuestToolchain) whose origin is the cache. The
/// ordinary compiler still builds the native tests.
///
/// # Errors
///
/// [`ToolchainError::BadName`], [`ToolchainError::Exists`], or [`ToolchainError::Io`].
pub fn write(name: &str, dir: &Path, rustc: Option<&Path>) -> Result<Vec<PathBuf>, ToolchainError> {
    check_name(name)?;
    if dir.symlink_metadata().is_ok() {
        return Err(ToolchainError::Exists(dir.to_owned()));
    }
    let mut written = Vec::new();
    for (path, text) in PROJECT {
        let mut text = text.replace("{{name}}", name);
        if let Some(rustc) = rustc
            && *path == ".cargo/config.toml"
        {
            text = with_compiler(&text, rustc);
        }
        written.push(write_file(&dir.join(path), &text)?);
    }
    for (path, text) in SDK {
        written.push(write_file(&dir.join(SDK_FOLDER).join(path), text)?);
    }
    Ok(written)
}

fn write_file(path: &Path, text: &str) -> Result<PathBuf, ToolchainError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(ToolchainError::io(folder))?;
    }
    fs::write(path, text).map_err(ToolchainError::io(path))?;
    Ok(path.to_owned())
}

/// The template's configuration with a compiler for the alias `wasm` alone.
fn with_compiler(config: &str, rustc: &Path) -> String {
    let alias = format!("\"--target\", \"{TARGET}\"]");
    // Quoted twice: as a value of the configuration that the alias passes, and in this file.
    let setting = toml::Value::String(format!(
        "build.rustc={}",
        toml::Value::String(rustc.display().to_string())
    ));
    let with = format!(
        "\"--target\", \"{TARGET}\",\n    # This machine's compiler for guests. Without this line \
         the ordinary one is used, which\n    # then needs `rustup target add {TARGET}`.\n    \
         \"--config\", {setting}]"
    );
    config.replace(&alias, &with)
}

/// Refuses what cargo or a file system would refuse, or what would clash with the SDK.
fn check_name(name: &str) -> Result<(), ToolchainError> {
    /// Names that cargo refuses for a binary, or that another crate of the project has.
    const TAKEN: [&str; 10] = [
        "test",
        "core",
        "std",
        "alloc",
        "proc_macro",
        "build",
        "deps",
        "examples",
        "incremental",
        SDK_FOLDER,
    ];
    /// Reserved words of Rust, edition 2024.
    const KEYWORDS: [&str; 52] = [
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate",
        "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl",
        "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
        "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type",
        "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield", "_",
    ];
    let why = if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        "it has to start with a letter"
    } else if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    {
        "it may hold letters, digits, - and _ only"
    } else if name.len() > LONGEST_NAME {
        "it is longer than 64 characters"
    } else if TAKEN.contains(&name) || ["optwasm-guest-macros", "serde"].contains(&name) {
        "that name is taken"
    } else if KEYWORDS.contains(&name) {
        "that is a reserved word of Rust"
    } else {
        return Ok(());
    };
    Err(ToolchainError::BadName {
        name: name.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Files below `folder`, relative to it, that satisfy `wanted`.
    fn files_in(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut pending = vec![folder.to_owned()];
        while let Some(next) = pending.pop() {
            for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                    continue;
                }
                let path = entry.path();
                let name = path
                    .strip_prefix(folder)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                if wanted(&name) {
                    found.insert(name);
                }
            }
        }
        found
    }

    fn listed(files: &[(&str, &str)]) -> BTreeSet<String> {
        files.iter().map(|(path, _)| (*path).to_owned()).collect()
    }

    #[test]
    fn no_file_of_the_sdk_or_the_template_is_forgotten() {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .to_owned();
        let belongs = |name: &str| {
            name == "Cargo.toml" || name.starts_with("src/") || name.starts_with("macros/")
        };
        assert_eq!(files_in(&sdk, &belongs), listed(SDK));
        let built = |name: &str| !name.starts_with("target/") && name != "Cargo.lock";
        assert_eq!(files_in(&sdk.join("template"), &built), listed(PROJECT));
    }

    #[test]
    fn a_project_has_its_name_and_its_compiler() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("my-job");
        let rustc = Path::new("/a \"b\"/rustc");
        let written = write("my-job", &dir, Some(rustc)).unwrap();
        assert!(written.iter().all(|path| path.is_file()));
        let manifest: toml::Table = fs::read_to_string(dir.join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some("my-job"));
        for path in &written[..PROJECT.len()] {
            assert!(
                !fs::read_to_string(path).unwrap().contains("{{"),
                "{}",
                path.display()
            );
        }
        let config: toml::Table = fs::read_to_string(dir.join(".cargo/config.toml"))
            .unwrap()
            .parse()
            .unwrap();
        let alias = config["alias"]["wasm"].as_array().unwrap();
        let setting: toml::Table = alias.last().unwrap().as_str().unwrap().parse().unwrap();
        assert_eq!(setting["build"]["rustc"].as_str(), rustc.to_str());
    }

    #[test]
    fn the_ordinary_compiler_needs_no_setting() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("job");
        write("job", &dir, None).unwrap();
        let config = fs::read_to_string(dir.join(".cargo/config.toml")).unwrap();
        assert!(!config.contains("build.rustc"));
    }

    #[test]
    fn what_exists_and_what_is_no_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let exists = write("job", folder.path(), None);
        assert!(matches!(exists, Err(ToolchainError::Exists(_))));
        let long = "x".repeat(65);
        for name in [
            "",
            "1job",
            "-job",
            "a b",
            "a/b",
            "..",
            "jöb",
            "match",
            "test",
            "optwasm-guest",
            &long,
        ] {
            let dir = folder.path().join("new");
            let error = write(name, &dir, None).unwrap_err();
            assert!(matches!(error, ToolchainError::BadName { .. }), "{name}");
            assert!(!dir.exists());
        }
    }
}
