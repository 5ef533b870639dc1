//! Which file format some bytes are in.

use crate::lp;

/// A file format that some plugin reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// MPS, fixed or free, and its extension for quadratic objectives (QPS).
    Mps,
    /// CPLEX LP.
    Lp,
    /// AMPL's `.nl`, text or binary.
    Nl,
    /// Conic Benchmark Format.
    Cbf,
    /// SDPA sparse format of semidefinite programs.
    Sdpa,
    /// Data set of the NIST Statistical Reference Datasets for nonlinear
    /// regression.
    Strd,
    /// DIMACS CNF, a Boolean formula.
    Dimacs,
    /// MATPOWER case file, a power network.
    Matpower,
    /// JSON object.
    Json,
}

impl Format {
    /// Tells the format by the first lines that are not comments; `None` if
    /// they begin like no format known.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        if is_dimacs(bytes) {
            return Some(Format::Dimacs);
        }
        // Far more than any header or licence comment takes.
        const LOOK_AT: usize = 64 * 1024;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LOOK_AT)]);
        let trimmed = text.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        if trimmed.starts_with('{') {
            return Some(Format::Json);
        }
        if trimmed.starts_with("NIST/ITL StRD") {
            return Some(Format::Strd);
        }
        // Comments of MPS and SDPA, of SDPA, of CBF, of LP and of MATPOWER.
        let comment = |line: &&str| line.starts_with(['*', '"', '#', '\\', '%']);
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !comment(line));
        let first = lines.next()?;
        let word = first.split_whitespace().next()?;
        let counts = |line: &str| line.starts_with(|c: char| c.is_ascii_digit());
        match word {
            _ if begins_nl(first) => Some(Format::Nl),
            "VER" => Some(Format::Cbf),
            "function" => Some(Format::Matpower),
            "NAME" | "ROWS" | "OBJSENSE" | "OBJNAME" => Some(Format::Mps),
            _ if lp::is_objective_keyword(word) => Some(Format::Lp),
            // The numbers of variables and of blocks.
            _ if counts(first) && lines.next().is_some_and(counts) => Some(Format::Sdpa),
            _ => None,
        }
    }
}

/// Whether the first line that is no comment of DIMACS is its header. The
/// comments before it may be long: some tools list all variables there.
fn is_dimacs(bytes: &[u8]) -> bool {
    let mut lines = bytes
        .split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && !line.starts_with(b"c"));
    let mut words = lines
        .next()
        .unwrap_or_default()
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    words.next() == Some(b"p") && words.next() == Some(b"cnf")
}

/// Whether a line is the first one of a `.nl` file, such as `g3 1 1 0`: a
/// letter for the form, then the number of options and the options.
fn begins_nl(line: &str) -> bool {
    let line = line.split('#').next().unwrap_or(line);
    let mut words = line.split_whitespace();
    let count = words.next().and_then(|word| word.strip_prefix(['g', 'b']));
    let is_count = |word: &str| word.parse::<u8>().is_ok();
    let is_option = |word: &str| word.parse::<i64>().is_ok();
    count.is_some_and(is_count) && words.next().is_some_and(is_option)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_words() {
        for (text, format) in [
            ("* c\nNAME x\nROWS\n", Some(Format::Mps)),
            ("\\ c\n\nMinimize obj: x\n", Some(Format::Lp)),
            ("max x\n", Some(Format::Lp)),
            ("g3 1 1 0 # problem x\n 2 1", Some(Format::Nl)),
            ("b3 0 1 0\n 2 1 \u{0}\u{1}", Some(Format::Nl)),
            ("g3x 1", None),
            ("g 1", None),
            ("# c\nVER\n3\n", Some(Format::Cbf)),
            ("\"a comment\"\n 3 =mdim\n1 =nblocks\n", Some(Format::Sdpa)),
            ("12 drummers\n11 pipers", Some(Format::Sdpa)),
            ("12 drummers", None),
            ("NIST/ITL StRD\nDataset Name: x", Some(Format::Strd)),
            ("c by hand\nc\n\np  cnf 2 1\n1 -2 0\n", Some(Format::Dimacs)),
            ("% c\n\nfunction mpc = case3\n", Some(Format::Matpower)),
            ("c by hand\n1 -2 0\n", None),
            (" { \"model\": 1}", Some(Format::Json)),
            ("blah blah", None),
            ("", None),
            ("\\ only a comment", None),
        ] {
            assert_eq!(Format::detect(text.as_bytes()), format, "{text:?}");
        }
    }
}
