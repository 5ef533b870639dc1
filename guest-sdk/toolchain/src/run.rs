//! Running other programs: one way to report that they could not start or failed, and the
//! environment that a nested cargo must not inherit.

use std::process::{Command, Output, Stdio};

use crate::ToolchainError;

/// How much of a failed program's output an error quotes, in bytes: some forty lines, enough for
/// the compiler's first messages and little enough to read.
const QUOTED: usize = 4000;

/// Runs `command` to its end and returns what it wrote to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String, ToolchainError> {
    let output = raw_output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`output`], with stderr passed through to this process's when `show` is set.
pub(crate) fn output_showing(command: &mut Command, show: bool) -> Result<String, ToolchainError> {
    if show {
        command.stderr(Stdio::inherit());
    }
    output(command)
}

fn raw_output(command: &mut Command) -> Result<Output, ToolchainError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ToolchainError::Spawn { program, source })?;
    if output.status.success() {
        return Ok(output);
    }
    let mut text = String::from_utf8_lossy(&output.stderr).into_owned();
    if text.trim().is_empty() {
        text = String::from_utf8_lossy(&output.stdout).into_owned();
    }
    Err(ToolchainError::Failed {
        program: shown(command),
        status: output.status,
        output: tail(text.trim_end()),
    })
}

/// The last [`QUOTED`] bytes of `text`, cut at a character.
fn tail(text: &str) -> String {
    let mut from = text.len().saturating_sub(QUOTED);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

/// The program and its first two arguments.
fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args().take(2))
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Removes from `command`'s environment what a surrounding cargo or a user sets for *host* builds:
/// flags, wrappers, profiles and target directories that would leak into the guest, and the
/// variables of a build script. Network, registry and terminal settings stay.
pub(crate) fn clean_cargo_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(leaks_into_nested_cargo) {
            command.env_remove(name);
        }
    }
}

/// Whether a nested cargo must not see the environment variable `name`.
fn leaks_into_nested_cargo(name: &str) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
    ];
    const BUILD_SCRIPT: [&str; 12] = [
        "OUT_DIR",
        "TARGET",
        "HOST",
        "NUM_JOBS",
        "OPT_LEVEL",
        "DEBUG",
        "PROFILE",
        "RUSTC",
        "RUSTDOC",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_LINKER",
    ];
    if name.starts_with("CARGO") {
        return !KEPT.iter().any(|kept| name.starts_with(kept));
    }
    BUILD_SCRIPT.contains(&name)
        || name.starts_with("RUSTC_")
        || name.starts_with("DEP_")
        || name.starts_with("CLIPPY_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_settings_do_not_reach_a_nested_cargo() {
        for name in [
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_TARGET_DIR",
            "CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS",
            "CARGO_PROFILE_GUEST_LTO",
            "CARGO_MANIFEST_DIR",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "RUSTC",
            "OUT_DIR",
            "CLIPPY_ARGS",
        ] {
            assert!(leaks_into_nested_cargo(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_REGISTRIES_X_INDEX",
            "CARGO_NET_OFFLINE",
            "PATH",
            "HOME",
            "RUSTUP_TOOLCHAIN",
        ] {
            assert!(!leaks_into_nested_cargo(name), "{name}");
        }
    }

    #[test]
    fn a_failure_quotes_the_end_of_stderr() {
        let script = "i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 3";
        let error = output(Command::new("sh").args(["-c", script]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 1999"), "{error}");
        assert!(error.len() < QUOTED + 200, "{}", error.len());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program-x"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no-such-program-x"), "{error}");
    }
}
