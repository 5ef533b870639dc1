//! Readers must survive anything.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Format, Solution, lp, mps};
use proptest::prelude::*;

const MPS: &str = include_str!("../../../tests/data/flugpl.mps");
const LP: &str = include_str!("../../../tests/data/hs35.lp");

/// Text made of the words that the readers look for, so that more than their
/// first line is reached.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "NAME",
        "ROWS",
        "COLUMNS",
        "RHS",
        "RANGES",
        "BOUNDS",
        "QUADOBJ",
        "QMATRIX",
        "ENDATA",
        "N",
        "L",
        "E",
        "UP",
        "FR",
        "'MARKER'",
        "'INTORG'",
        "x",
        "y",
        "1",
        "-2.5",
        "1e400",
        "inf",
        "nan",
        "\n",
        "\n ",
        "\t",
        "min",
        "max",
        "st",
        "subject to",
        "bounds",
        "free",
        "gen",
        "bin",
        "end",
        "[",
        "]",
        "/",
        "2",
        "^",
        "*",
        "+",
        "-",
        "<=",
        ">=",
        "=",
        "->",
        ":",
        "\\",
        "é",
        "\u{feff}",
    ]);
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

fn read_all(bytes: &[u8]) {
    let _ = Format::detect(bytes);
    let models = [
        mps::read(bytes),
        lp::read(bytes),
        optwasm_model::read(bytes),
    ];
    // What the readers promise of every model.
    for model in models.into_iter().flatten() {
        let (rows, columns) = (model.rows.len(), model.columns.len());
        for entry in &model.entries {
            assert!(entry.row < rows && entry.column < columns && entry.value.is_finite());
        }
        for &(i, j, value) in &model.quadratic {
            assert!(i <= j && j < columns && value.is_finite());
        }
        for column in &model.columns {
            assert!(column.cost.is_finite() && !column.lower.is_nan() && !column.upper.is_nan());
        }
        for row in &model.rows {
            assert!(!row.lower.is_nan() && !row.upper.is_nan());
        }
    }
    let _ = Solution::from_cbor(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn arbitrary_words(text in words()) {
        read_all(text.as_bytes());
        read_all(format!("NAME\nROWS\n N c\n L r\nCOLUMNS\n x c 1 r 1\n{text}").as_bytes());
        read_all(format!("min\n x\nst\n x + y >= 1\n{text}").as_bytes());
    }

    #[test]
    fn one_byte_changed(at in 0..MPS.len(), byte: u8) {
        let mut bytes = MPS.as_bytes().to_vec();
        bytes[at] = byte;
        read_all(&bytes);
    }
}

#[test]
fn truncations() {
    for end in 0..MPS.len() {
        read_all(&MPS.as_bytes()[..end]);
        // Only the line end after the last word may be missing.
        assert_eq!(
            mps::read(&MPS.as_bytes()[..end]).is_ok(),
            MPS[..end].trim_end().ends_with("ENDATA")
        );
    }
    for end in 0..LP.len() {
        read_all(&LP.as_bytes()[..end]);
    }
}
