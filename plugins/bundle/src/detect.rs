//! Which plugin solves a file.

use std::path::Path;

use optwasm_model::Format;
use optwasm_model::nl::{self, Degree};

use crate::{Plugin, find};

/// Why no plugin solves a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsolved {
    /// The file begins like none of the formats that some plugin reads.
    #[error("no plugin reads what is in it")]
    UnknownFormat,
    /// The file is in a known format, but what it asks for is beyond all plugins of this build.
    #[error("it is a {0}, which no plugin here solves")]
    Kind(String),
}

/// Plugins for linear programs, with and without integer variables; the first that is there.
const LINEAR: &[&str] = &["highs", "linear"];

/// The plugin that solves the problem in `bytes`: chosen by the content and,
/// where that begins like no format known, by the extension of the file's name.
///
/// Only what is needed to choose is looked at; that a plugin is found does not
/// mean that the file is valid.
///
/// # Errors
///
/// [`Unsolved`].
pub fn detect(bytes: &[u8], file_name: Option<&str>) -> Result<&'static Plugin, Unsolved> {
    let (names, kind) = match Format::detect(bytes) {
        Some(Format::Mps) if has_quadratic_section(bytes) => quadratic(bytes)?,
        Some(Format::Lp) if has_bracket(bytes) => quadratic(bytes)?,
        Some(Format::Mps | Format::Lp) => (LINEAR, "linear program"),
        Some(Format::Nl) => of_nl(bytes)?,
        Some(Format::Cbf | Format::Sdpa) => (&["conic"][..], "conic program"),
        Some(Format::Dimacs) => (&["sat"][..], "Boolean formula"),
        Some(Format::Matpower) => (&["opf"][..], "power network"),
        Some(Format::Strd) => (&["least-squares"][..], "nonlinear regression"),
        Some(Format::Json) if is_regression(bytes) => {
            (&["least-squares"][..], "nonlinear regression")
        }
        Some(Format::Json) if contains(bytes, b"\"cones\"") => (&["conic"][..], "conic program"),
        // The CBOR maps (RFC 8949, appendix B).
        None if matches!(bytes.first(), Some(0xa0..=0xbf)) && is_regression(bytes) => {
            (&["least-squares"][..], "nonlinear regression")
        }
        _ => file_name
            .and_then(by_extension)
            .ok_or(Unsolved::UnknownFormat)?,
    };
    let mut found = names.iter().filter_map(|name| find(name));
    found.next().ok_or_else(|| Unsolved::Kind(kind.to_owned()))
}

/// Which plugins solve something, and what it is.
type Choice = (&'static [&'static str], &'static str);

/// For a file with a quadratic objective, which is read to see whether it has integer variables.
fn quadratic(bytes: &[u8]) -> Result<Choice, Unsolved> {
    match optwasm_model::read(bytes) {
        Ok(model) if model.is_mixed_integer() && !model.quadratic.is_empty() => {
            Err(Unsolved::Kind("mixed-integer quadratic program".to_owned()))
        }
        // What is wrong with a file, the plugin says.
        _ => Ok((&["conic"], "quadratic program")),
    }
}

/// For an AMPL file, which says what kind of program it is.
fn of_nl(bytes: &[u8]) -> Result<Choice, Unsolved> {
    let Ok(model) = nl::read(bytes) else {
        // What is wrong with it, the plugin says.
        return Ok((&["nlp"], "nonlinear program"));
    };
    let class = model.class();
    match class.degree {
        _ if class.logical => Err(Unsolved::Kind(class.to_string())),
        Degree::Linear => Ok((LINEAR, "linear program")),
        _ if class.integers => Err(Unsolved::Kind(class.to_string())),
        // Whether a quadratic objective is convex, nobody knows yet.
        Degree::Quadratic => Ok((&["nlp", "conic"], "quadratic program")),
        Degree::Nonlinear => Ok((&["nlp"], "nonlinear program")),
    }
}

fn by_extension(file_name: &str) -> Option<Choice> {
    let extension = Path::new(file_name).extension()?.to_str()?;
    match extension.to_ascii_lowercase().as_str() {
        "mps" | "lp" => Some((LINEAR, "linear program")),
        "qps" | "cbf" | "dat-s" => Some((&["conic"], "conic program")),
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
    [&b"model"[..], b"data", b"start"]
        .iter()
        .all(|name| contains(bytes, name))
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
