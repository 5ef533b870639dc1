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

/// Flags like [`rust_flags`], with loops unrolled `count` times; once means not at all.
#[must_use]
pub fn unrolled(flags: Vec<String>, count: u8) -> Vec<String> {
    const COUNT: &str = "llvm-args=-unroll-count=";
    let flag = |flag: String| {
        if flag.starts_with(COUNT) {
            format!("{COUNT}{count}")
        } else {
            flag
        }
    };
    flags.into_iter().map(flag).collect()
}

/// The flags of the build that a build script belongs to.
#[must_use]
pub fn flags_of_this_build() -> Vec<String> {
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    flags.split('\x1f').map(str::to_owned).collect()
}

/// Flags like [`rust_flags`] as clang spells them; it gets no others.
#[must_use]
pub fn c_flags(rust_flags: &[String]) -> Vec<String> {
    let mut flags = Vec::new();
    for flag in rust_flags {
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
            c_flags(&rust_flags()),
            [
                "-msimd128",
                "-mllvm",
                "-unroll-runtime=true",
                "-mllvm",
                "-unroll-count=8"
            ]
        );
    }

    #[test]
    fn loops_are_unrolled_as_often_as_asked() {
        let flags = c_flags(&unrolled(rust_flags(), 3));
        assert_eq!(flags.last().map(String::as_str), Some("-unroll-count=3"));
        assert_eq!(flags.len(), 5);
    }
}
