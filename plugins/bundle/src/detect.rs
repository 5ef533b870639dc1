//! Which plugin solves a file.

use std::path::Path;

use optwasm_model::Format;

use crate::{Plugin, find};

/// The plugin that solves the problem in `bytes`: chosen by the content and,
/// where that begins like no format known, by the extension of the file's name.
/// `None` if neither tells.
///
/// Only what is needed to choose is looked at; that a plugin is found does not
/// mean that the file is valid.
pub fn detect(bytes: &[u8], file_name: Option<&str>) -> Option<&'static Plugin> {
    find(match Format::detect(bytes) {
        Some(Format::Mps) if has_quadratic_section(bytes) => "conic",
        Some(Format::Mps) => "linear",
        Some(Format::Lp) if has_bracket(bytes) => "conic",
        Some(Format::Lp) => "linear",
        Some(Format::Cbf | Format::Sdpa) => "conic",
        Some(Format::Strd) => "least-squares",
        Some(Format::Json) if is_regression(bytes) => "least-squares",
        // The CBOR maps (RFC 8949, appendix B).
        None if matches!(bytes.first(), Some(0xa0..=0xbf)) && is_regression(bytes) => {
            "least-squares"
        }
        _ => by_extension(file_name?)?,
    })
}

fn by_extension(file_name: &str) -> Option<&'static str> {
    let extension = Path::new(file_name).extension()?.to_str()?;
    match extension.to_ascii_lowercase().as_str() {
        "mps" | "lp" => Some("linear"),
        "qps" | "cbf" | "dat-s" => Some("conic"),
        _ => None,
    }
}

/// Whether a line of an MPS file starts a section with a quadratic objective.
fn has_quadratic_section(bytes: &[u8]) -> bool {
    bytes.split(|&byte| byte == b'\n').any(|line| {
        let keywords: [&[u8]; 3] = [b"QUADOBJ", b"QMATRIX", b"QSECTION"];
        keywords.iter().any(|keyword| line.starts_with(keyword))
    })
}

/// Whether an LP file has a bracket, as only quadratic terms have, outside of
/// its comments.
fn has_bracket(bytes: &[u8]) -> bool {
    bytes.split(|&byte| byte == b'\n').any(|line| {
        let code = line.split(|&byte| byte == b'\\').next();
        code.is_some_and(|code| code.contains(&b'['))
    })
}

/// Whether the names of the fields of a regression problem occur.
fn is_regression(bytes: &[u8]) -> bool {
    let contains = |name: &[u8]| bytes.windows(name.len()).any(|window| window == name);
    contains(b"model") && contains(b"data") && contains(b"start")
}
