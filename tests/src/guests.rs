//! The test guests, built for wasm32-wasip1.

use std::path::{Path, PathBuf};

/// The module of the guest `tests/guests/src/bin/NAME.rs`.
///
/// # Panics
///
/// Where there is no such guest.
pub fn path(name: &str) -> PathBuf {
    let path = Path::new(env!("OPTWASM_TEST_GUESTS")).join(format!("{name}.wasm"));
    assert!(path.exists(), "there is no test guest `{name}`");
    path
}

/// Its bytes.
///
/// # Panics
///
/// Where there is no such guest.
pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).expect("the guest was built and can be read")
}

/// The C guest `tests/guests/c/echo.c`; `None` where no C compiler for wasm32-wasi was found.
pub fn c_path() -> Option<PathBuf> {
    option_env!("OPTWASM_TEST_C_GUEST").map(PathBuf::from)
}
