//! The compiler flags that every guest is built with.
//!
//! They live in `guest-sdk/template/.cargo/config.toml`, which `optwasm new` writes into projects;
//! this module reads that very file, so that guests of this repository, plugins and users' projects
//! are built alike.

use toml::Table;

use crate::TARGET;

/// The project template's cargo configuration.
const CONFIG: &str = include_str!("../../template/.cargo/config.toml");

/// The flags of rustc for a guest: SIMD, and unrolled loops because each iteration pays fuel.
#[must_use]
pub fn rust_flags() -> Vec<String> {
    let config: Table = CONFIG
        .parse()
        .expect("the template is valid TOML: a test parses it");
    config["target"][TARGET]["rustflags"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|flag| flag.as_str().map(str::to_owned))
        .collect()
}

/// The same flags as clang spells them.
#[must_use]
pub fn c_flags() -> Vec<String> {
    let mut flags = Vec::new();
    for flag in rust_flags() {
        if let Some(arguments) = flag.strip_prefix("llvm-args=") {
            for argument in arguments.split(' ') {
                flags.extend(["-mllvm".to_owned(), argument.to_owned()]);
            }
        } else if let Some(features) = flag.strip_prefix("target-feature=") {
            for feature in features.split(',') {
                match feature.strip_prefix('-') {
                    Some(off) => flags.push(format!("-mno-{off}")),
                    None => flags.push(format!("-m{}", feature.trim_start_matches('+'))),
                }
            }
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_holds_the_flags_of_both_compilers() {
        assert_eq!(
            rust_flags(),
            [
                "-C",
                "target-feature=+simd128",
                "-C",
                "llvm-args=-unroll-runtime=true",
                "-C",
                "llvm-args=-unroll-count=8"
            ]
        );
        assert_eq!(
            c_flags(),
            [
                "-msimd128",
                "-mllvm",
                "-unroll-runtime=true",
                "-mllvm",
                "-unroll-count=8"
            ]
        );
    }
}
