//! Readers must survive anything.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Format, Solution, Status, lp, mps, nl};
use proptest::prelude::*;

const MPS: &str = include_str!("../../../tests/data/flugpl.mps");
const NL: &str = include_str!("data/defined.nl");
const NL_BINARY: &[u8] = include_bytes!("data/miqp-binary.nl");
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

/// Segments and nodes of `.nl` files.
fn nl_lines() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "C0",
        "C1",
        "O0 0",
        "O0 1",
        "L0",
        "V2 0 0",
        "V2 1 1",
        "V3 1 0",
        "J0 1",
        "J0 2",
        "G0 1",
        "b",
        "r",
        "x1",
        "d1",
        "k1",
        "S0 1 s",
        "S4 2 s",
        "S1 1 t",
        "0",
        "1",
        "2",
        "3",
        "3",
        "0 1",
        "1 2.5",
        "1 -1",
        "2 0",
        "4 4",
        "0 -1 1",
        "5 1 1",
        "n1",
        "n-2.5",
        "n0",
        "n1e300",
        "s2",
        "l7",
        "v0",
        "v1",
        "v2",
        "v3",
        "o0",
        "o2",
        "o2",
        "o3",
        "o5",
        "o16",
        "o44",
        "o54",
        "o11",
        "o35",
        "o64",
        "o77",
        "o59",
        "o74",
        "o56",
        "F0 1 1 f",
        "# comment",
        "",
    ]);
    prop::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

/// Reads a `.nl` file and does with the model all that can be done.
fn use_nl(bytes: &[u8]) {
    let Ok(model) = nl::read(bytes) else { return };
    let x: Vec<f64> = model.variables.iter().map(|v| v.start).collect();
    let _ = (model.objective_at(&x), model.constraints_at(&x));
    let _ = model.class().to_string();
    for file in [model.write_text(), model.write_binary()] {
        let back = nl::read(&file.expect("a model that was read can be written")).unwrap();
        assert_eq!(back.to_model(), model.to_model());
        assert_eq!(back.variables, model.variables);
        assert_eq!(back.class(), model.class());
    }
    let mut solution = Solution::without_values(Status::Feasible, "s");
    solution.values = x;
    let sol = nl::write_sol(&model, &solution, &model.suffixes);
    assert!(String::from_utf8(sol).unwrap().contains("\nobjno 0 403\n"));
}

fn read_all(bytes: &[u8]) {
    use_nl(bytes);
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
    fn arbitrary_nl_segments(text in nl_lines(), flags in 0usize..4, classes in prop::array::uniform3(0usize..4), integers in prop::array::uniform5(0usize..3)) {
        let logical = flags & 1;
        let defined = flags & 2;
        let [constraints, objectives, both] = classes;
        let integers = integers.map(|count| count.to_string()).join(" ");
        let header = format!(
            "g3 1 1 0\n2 2 1 0 0 {logical}\n2 1\n0 0\n{constraints} {objectives} {both}\n0 0 0 1\n{integers}\n0 0\n0 0\n{defined} 0 0 0 0\n"
        );
        read_all(format!("{header}{text}").as_bytes());
        // With bounds, so that most others are complete.
        read_all(format!("{header}b\n3\n0 0 1\nr\n1 2\n4 3\n{text}").as_bytes());
    }

    #[test]
    fn one_byte_of_nl_changed(at in 0..NL.len(), of_binary in 0..NL_BINARY.len(), byte: u8) {
        let mut bytes = NL.as_bytes().to_vec();
        bytes[at] = byte;
        read_all(&bytes);
        let mut bytes = NL_BINARY.to_vec();
        bytes[of_binary] = byte;
        read_all(&bytes);
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
    for end in 0..NL.len() {
        let last_line = NL.trim_end().rfind('\n').unwrap();
        assert!(end > last_line || nl::read(&NL.as_bytes()[..end]).is_err());
        read_all(&NL.as_bytes()[..end]);
    }
    for end in 0..NL_BINARY.len() {
        assert!(nl::read(&NL_BINARY[..end]).is_err());
        read_all(&NL_BINARY[..end]);
    }
    for end in 0..LP.len() {
        read_all(&LP.as_bytes()[..end]);
    }
}
