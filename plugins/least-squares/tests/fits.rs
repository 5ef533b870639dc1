//! Fits against NIST's certified values, and inputs of the plugin's own.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Solution, Status};
use optwasm_plugin_least_squares::{Settings, problem::ProblemError, solve, solve_reporting};
use proptest::prelude::*;

const FILES: [(&str, &str); 4] = [
    ("Misra1a", include_str!("../../../tests/data/Misra1a.dat")),
    ("BoxBOD", include_str!("../../../tests/data/BoxBOD.dat")),
    ("Thurber", include_str!("../../../tests/data/Thurber.dat")),
    ("MGH09", include_str!("../../../tests/data/MGH09.dat")),
];

/// The certified results that the file states beside the starting values.
struct Certified {
    parameters: Vec<f64>,
    deviations: Vec<f64>,
    sum_of_squares: f64,
    residual_deviation: f64,
}

fn certified(text: &str) -> Certified {
    let after = |label: &str| {
        let (_, rest) = text.split_once(label).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    let rows: Vec<Vec<f64>> = text
        .lines()
        .filter(|line| {
            line.trim_start().starts_with('b') && line.contains("E+") | line.contains("E-")
        })
        .filter_map(|line| line.split_once('='))
        .map(|(_, numbers)| {
            numbers
                .split_whitespace()
                .map(|n| n.parse().unwrap())
                .collect()
        })
        .collect();
    Certified {
        parameters: rows.iter().map(|row| row[2]).collect(),
        deviations: rows.iter().map(|row| row[3]).collect(),
        sum_of_squares: after("Residual Sum of Squares:"),
        residual_deviation: after("Residual Standard Deviation:"),
    }
}

#[track_caller]
fn assert_close(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs() / expected.abs();
    assert!(error < tolerance, "found {found}, expected {expected}");
}

#[test]
fn certified_values_are_met() {
    for (name, text) in FILES {
        let solution = solve(text.as_bytes()).unwrap();
        let certified = certified(text);
        assert_eq!(solution.status, Status::Optimal, "{name}");
        assert!(!certified.parameters.is_empty());
        assert_eq!(solution.values.len(), certified.parameters.len());
        let fit = solution.fit.unwrap();
        assert_close(solution.objective.unwrap(), certified.sum_of_squares, 1e-9);
        assert_close(
            fit.residual_standard_deviation.unwrap(),
            certified.residual_deviation,
            1e-9,
        );
        for (found, expected) in solution.values.iter().zip(certified.parameters) {
            assert_close(*found, expected, 1e-6);
        }
        for (found, expected) in fit.standard_deviations.iter().zip(certified.deviations) {
            assert_close(*found, expected, 1e-6);
        }
    }
}

#[test]
fn certified_values_are_not_used() {
    let (_, text) = FILES[0];
    let mangled: String = text
        .lines()
        .map(|line| match line.trim_start().starts_with('b') {
            true => {
                line.split_whitespace()
                    .take(4)
                    .collect::<Vec<_>>()
                    .join(" ")
                    + "\n"
            }
            false => format!("{line}\n"),
        })
        .collect();
    assert!(!mangled.contains("2.3894212918E+02"));
    assert_eq!(
        solve(mangled.as_bytes()).unwrap(),
        solve(text.as_bytes()).unwrap()
    );
}

#[test]
fn every_start_is_tried_and_the_best_is_kept() {
    // From b = 1000 the exponential is zero at all data, so nothing moves.
    let json = r#"{"model": "y = a*exp(-b*x)", "data": {"x": [1, 2, 3], "y": [2, 1, 0.5]},
                   "start": [{"a": 1, "b": 1000}, {"a": 1, "b": 1}]}"#;
    let mut starts = Vec::new();
    let solution = solve_reporting(json.as_bytes(), &Settings::default(), |done, of| {
        starts.push((done, of))
    })
    .unwrap();
    assert_eq!(starts, [(1, 2), (2, 2)]);
    assert_eq!(solution.fit.as_ref().unwrap().start, 1);
    assert_close(solution.value("a").unwrap(), 4.0, 1e-9);
    assert_close(solution.value("b").unwrap(), 2f64.ln(), 1e-9);
}

/// The straight line through data, for which the statistics have closed forms.
fn line(bytes: &[u8]) -> Solution {
    solve(bytes).unwrap()
}

#[test]
fn json_and_cbor_mean_the_same() {
    let json = br#"{"model": "log(y) = a + b*t", "data": {"t": [0, 1, 2, 3], "y": [1, 3, 8, 20]},
                    "start": {"a": 0, "b": 0}}"#;
    let from_json = line(json);
    assert_eq!(from_json.variables, ["a", "b"]);
    let y: Vec<f64> = [1f64, 3.0, 8.0, 20.0].iter().map(|y| y.ln()).collect();
    // Least squares of a line with t̄ = 3/2 and Σ(t−t̄)² = 5.
    let slope = (-1.5 * y[0] - 0.5 * y[1] + 0.5 * y[2] + 1.5 * y[3]) / 5.0;
    let offset = y.iter().sum::<f64>() / 4.0 - 1.5 * slope;
    assert_close(from_json.value("b").unwrap(), slope, 1e-9);
    assert_close(from_json.value("a").unwrap(), offset, 1e-9);
    let fit = from_json.fit.clone().unwrap();
    let s = fit.residual_standard_deviation.unwrap();
    assert_close(fit.standard_deviations[1], s / 5f64.sqrt(), 1e-9);
    assert_eq!(fit.degrees_of_freedom, 2);

    #[derive(serde::Serialize)]
    struct Array(#[serde(with = "optwasm_guest::array")] Vec<f64>);
    #[derive(serde::Serialize)]
    struct Input {
        model: &'static str,
        data: std::collections::BTreeMap<&'static str, Array>,
        start: Vec<std::collections::BTreeMap<&'static str, f64>>,
    }
    let input = Input {
        model: "log(y) = a + b*t",
        data: [
            ("t", Array(vec![0., 1., 2., 3.])),
            ("y", Array(vec![1., 3., 8., 20.])),
        ]
        .into(),
        start: vec![[("a", 0.0), ("b", 0.0)].into()],
    };
    let mut cbor = Vec::new();
    ciborium::into_writer(&input, &mut cbor).unwrap();
    assert_eq!(line(&cbor), from_json);
}

#[test]
fn what_cannot_be_estimated_is_left_out() {
    // As many parameters as observations: no degrees of freedom.
    let exact = line(br#"{"model": "y = a + b*x", "data": {"x": [0, 1], "y": [1, 3]}, "start": {"a": 0, "b": 0}}"#);
    let fit = exact.fit.unwrap();
    assert_eq!(
        (
            fit.residual_standard_deviation,
            fit.standard_deviations.len()
        ),
        (None, 0)
    );
    // Only the product of a and b matters.
    let product = line(br#"{"model": "y = a*b*x", "data": {"x": [1, 2, 3], "y": [2, 4, 7]}, "start": {"a": 1, "b": 1}}"#);
    assert!(product.fit.unwrap().standard_deviations.is_empty());
    // Not defined anywhere.
    let undefined = line(br#"{"model": "y = log(-exp(a*x))", "data": {"x": [1, 2], "y": [1, 2]}, "start": {"a": 1}}"#);
    assert_eq!(undefined.status, Status::NumericalFailure);
    assert_eq!(undefined.objective, None);
}

#[test]
fn faults_are_explained() {
    for (json, message) in [
        (
            r#"{"model": "y = a*q", "data": {"x": [1], "y": [1]}, "start": {"a": 1}}"#,
            "formula, character 4: unknown name `q`",
        ),
        (
            r#"{"model": "y", "data": {"y": [1]}, "start": {"a": 1}}"#,
            "expected a model such as `y = a*exp(b*x)`, found `y`",
        ),
        (
            r#"{"model": "y=a", "data": {"y": [1]}, "start": {}}"#,
            "expected at least as many observations as parameters, and one parameter, found 1 and 0",
        ),
        (
            r#"{"model": "y=a", "data": {"y": [1]}, "start": []}"#,
            "expected at least as many observations as parameters, and one parameter, found 1 and 0",
        ),
        (
            r#"{"model": "y=a*x", "data": {"y": [1], "x": [1, 2]}, "start": {"a": 1}}"#,
            "column `y` has 1 numbers, column `x` has 2",
        ),
        (
            r#"{"model": "y=a", "data": {"y": [1]}, "start": [{"a": 1}, {"b": 1}]}"#,
            "the starting points name different parameters",
        ),
        (
            r#"{"model": "y=y", "data": {"y": [1]}, "start": {"y": 1}}"#,
            "`y` is both a parameter and a column of the data",
        ),
    ] {
        assert_eq!(solve(json.as_bytes()).unwrap_err().to_string(), message);
    }
    assert!(matches!(solve(b"{}"), Err(ProblemError::Decode(_))));
    assert!(matches!(solve(b"hello"), Err(ProblemError::Read(_))));
    assert!(matches!(solve(b""), Err(ProblemError::Read(_))));
}

#[test]
fn truncated_files_are_errors() {
    for (name, text) in FILES {
        for end in 0..text.trim_end().len() {
            let result = solve(&text.as_bytes()[..end]);
            // Where the last number is cut, the file is still well-formed.
            let last_line = text[..end].lines().count() == text.lines().count();
            assert!(result.is_err() || last_line, "{name} {end}");
        }
    }
}

proptest! {
    #[test]
    fn one_byte_changed(at in 0..FILES[0].1.len(), byte: u8) {
        let mut bytes = FILES[0].1.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = solve(&bytes);
    }

    #[test]
    fn arbitrary_formulas(formula in "[-+*/^()\\[\\]ab0-9.ex ]{0,30}") {
        let json = serde_json::json!({
            "model": format!("y = {formula}"),
            "data": {"x": [1, 2, 3], "y": [1, 2, 4]},
            "start": {"a": 1, "b": 2},
        });
        let _ = solve(json.to_string().as_bytes());
    }
}
