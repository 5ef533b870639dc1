//! Whole problems, from file to solution, against answers known otherwise.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Solution, Status};
use optwasm_plugin_conic::{Settings, SolveError, solve};

fn read(text: &str) -> Solution {
    solve(text.as_bytes(), &Settings::default()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    let error = (found - expected).abs() / expected.abs().max(1.0);
    assert!(error < 1e-6, "found {found}, expected {expected}");
}

#[test]
fn linear_program_with_duals() {
    // Dantzig's furniture problem; its shadow prices are 0, 3/2 and 1.
    let text = "max\n 3 x + 5 y\nst\n a: x <= 4\n b: 2 y <= 12\n c: 3 x + 2 y <= 18\nend\n";
    let solution = read(text);
    assert_eq!(solution.status, Status::Optimal);
    assert_close(solution.objective.unwrap(), 36.0);
    assert_eq!(solution.constraints, ["a", "b", "c"]);
    for (dual, expected) in solution.duals.iter().zip([0.0, 1.5, 1.0]) {
        assert_close(*dual, expected);
    }
    // A lower bound that binds: reduced cost 1 per unit.
    let solution = read("min\n x + 2 y\nst\n x + y >= 3\nbounds\n y >= 1\nend\n");
    assert_close(solution.objective.unwrap(), 4.0);
    assert_close(solution.duals[0], 1.0);
    assert_close(solution.reduced_costs[1], 1.0);
}

#[test]
fn quadratic_program() {
    let solution = read(include_str!("../../../tests/data/hs35.lp"));
    assert_close(solution.objective.unwrap(), 1.0 / 9.0);
    for (value, expected) in solution
        .values
        .iter()
        .zip([4.0 / 3.0, 7.0 / 9.0, 4.0 / 9.0])
    {
        assert!((value - expected).abs() < 1e-4);
    }
    let maximum = "max\n 2 x - [ x^2 ]\nst\n x >= 0\nend\n";
    assert_close(read(maximum).objective.unwrap(), 1.0);
}

#[test]
fn second_order_cones() {
    let solution = read(include_str!("../../../tests/data/fermat.cbf"));
    assert_close(solution.objective.unwrap(), 3f64.sqrt());
    assert!((solution.value("x[0]").unwrap() - 0.5).abs() < 1e-4);
    assert!((solution.value("x[1]").unwrap() - 3f64.sqrt() / 6.0).abs() < 1e-4);
}

#[test]
fn rotated_cones_and_their_multipliers() {
    // min x + y with 2xy ≥ 1: x = y = 1/√2, and by symmetry the multipliers
    // of x and y are 1, that of the constant −√2.
    let text = "VER\n1\nOBJSENSE\nMIN\nVAR\n2 1\nF 2\nCON\n3 1\nQR 3\nOBJACOORD\n2\n0 1\n1 1\n\
                ACOORD\n2\n0 0 1\n1 1 1\nBCOORD\n1\n2 1\n";
    let solution = read(text);
    assert_close(solution.objective.unwrap(), 2f64.sqrt());
    assert_close(solution.duals[0], 1.0);
    assert_close(solution.duals[1], 1.0);
    assert_close(solution.duals[2], -(2f64.sqrt()));
}

#[test]
fn exponential_and_power_cones() {
    // min t with t ≥ exp(1): CBF orders EXP as (t, 1, exponent).
    let exp = "VER\n1\nOBJSENSE\nMIN\nVAR\n1 1\nF 1\nCON\n3 1\nEXP 3\nOBJACOORD\n1\n0 1\n\
               ACOORD\n1\n0 0 1\nBCOORD\n2\n1 1\n2 1\n";
    assert_close(read(exp).objective.unwrap(), 1f64.exp());
    // max z with 8^(1/3)·1^(2/3) ≥ |z|, by unnormalized exponents 1 and 2.
    let power = "VER\n1\nPOWCONES\n1 2\n2\n1\n2\nOBJSENSE\nMAX\nVAR\n1 1\nF 1\nCON\n3 1\n\
                 @0:POW 3\nOBJACOORD\n1\n0 1\nACOORD\n1\n2 0 1\nBCOORD\n2\n0 8\n1 1\n";
    assert_close(read(power).objective.unwrap(), 2.0);
}

#[test]
fn semidefinite_program_in_sdpa_format_with_its_dual() {
    let solution = read(include_str!("../../../tests/data/theta-c5.dat-s"));
    assert_close(solution.objective.unwrap(), 5f64.sqrt());
    assert_eq!(solution.variables[0], "x1");
    // The dual optimum is ⟨J, Y⟩ = √5 with trace 1 and zeros at the edges.
    let mut all = 0.0;
    let mut trace = 0.0;
    for (name, y) in solution.constraints.iter().zip(&solution.duals) {
        let indices: Vec<usize> = name["Y[1](".len()..name.len() - 1]
            .split(',')
            .map(|index| index.parse().unwrap())
            .collect();
        let (i, j) = (indices[0], indices[1]);
        all += if i == j { *y } else { 2.0 * y };
        trace += if i == j { *y } else { 0.0 };
        if j == i + 1 || (i, j) == (1, 5) {
            assert!(y.abs() < 1e-6, "{name} {y}");
        }
    }
    assert_close(all, 5f64.sqrt());
    assert_close(trace, 1.0);
}

/// Lovász numbers of odd cycles: n·cos(π/n)/(1 + cos(π/n)). The matrices are
/// large enough for the dense routines to matter.
#[test]
fn lovasz_numbers_of_odd_cycles() {
    for n in [7, 15, 21] {
        let mut text = format!("{}\n1\n{n}\n1{}\n", n + 1, " 0".repeat(n));
        for i in 1..=n {
            for j in i..=n {
                text += &format!("0 1 {i} {j} 1\n");
            }
        }
        for i in 1..=n {
            text += &format!("1 1 {i} {i} 1\n");
            let next = i % n + 1;
            text += &format!("{} 1 {} {} 1\n", i + 1, i.min(next), i.max(next));
        }
        let cos = (std::f64::consts::PI / n as f64).cos();
        assert_close(read(&text).objective.unwrap(), n as f64 * cos / (1.0 + cos));
    }
}

#[test]
fn semidefinite_variables_and_constraints_in_cbf() {
    // max ⟨C, X⟩ over trace 1: the largest eigenvalue of [[2, 1], [1, 2]].
    let variable = "VER\n1\nOBJSENSE\nMAX\nPSDVAR\n1\n2\nCON\n1 1\nL= 1\nOBJFCOORD\n3\n0 0 0 2\n\
                    0 1 0 1\n0 1 1 2\nFCOORD\n2\n0 0 0 0 1\n0 0 1 1 1\nBCOORD\n1\n0 -1\n";
    let solution = read(variable);
    assert_close(solution.objective.unwrap(), 3.0);
    assert!((solution.value("X[0](1,0)").unwrap() - 0.5).abs() < 1e-4);
    // The same from the other side: min t with t·I − C ⪰ 0.
    let constraint = "VER\n1\nOBJSENSE\nMIN\nVAR\n1 1\nF 1\nPSDCON\n1\n2\nOBJACOORD\n1\n0 1\n\
                      HCOORD\n2\n0 0 0 0 1\n0 0 1 1 1\nDCOORD\n3\n0 0 0 -2\n0 1 0 -1\n0 1 1 -2\n";
    let solution = read(constraint);
    assert_close(solution.objective.unwrap(), 3.0);
    assert_close(
        solution.duals[solution
            .constraints
            .iter()
            .position(|c| c == "G[0](1,0)")
            .unwrap()],
        0.5,
    );
    // Scalar variables declared after semidefinite ones keep their own indices.
    let both = "VER\n1\nOBJSENSE\nMIN\nPSDVAR\n1\n2\nVAR\n2 2\nL+ 1\nL- 1\nCON\n2 1\nL= 2\n\
                OBJACOORD\n2\n0 1\n1 -1\nOBJFCOORD\n1\n0 0 0 1\nACOORD\n2\n0 0 1\n1 1 1\n\
                FCOORD\n2\n0 0 1 1 1\n1 0 1 0 0.5\nBCOORD\n2\n0 -1\n1 2\n";
    // x0 + X11 = 1, x1 + X01 = −2, X ⪰ 0; min x0 − x1 + X00.
    let solution = read(both);
    let at = |name: &str| solution.value(name).unwrap();
    assert_close(at("x[0]") + at("X[0](1,1)"), 1.0);
    assert_close(at("x[1]") + at("X[0](1,0)"), -2.0);
    assert!(at("x[0]") > -1e-7 && at("x[1]") < 1e-7);
}

#[test]
fn statuses_other_than_optimal() {
    for (text, status) in [
        ("min\n x\nst\n x >= 2\n x <= 1\nend\n", Status::Infeasible),
        ("max\n x + y\nst\n x - y <= 1\nend\n", Status::Unbounded),
        // No point, and a direction in which the objective would improve.
        (
            "max\n x\nst\n y + z >= 2\n y + z <= 1\nend\n",
            Status::Infeasible,
        ),
        // X ⪰ 0 with a negative diagonal.
        ("1\n1\n2\n1\n0 1 1 1 1\n1 1 2 2 1\n", Status::Infeasible),
    ] {
        let solution = read(text);
        assert_eq!(solution.status, status, "{text}");
        assert_eq!(solution.objective, None, "{text}");
    }
}

#[test]
fn what_the_plugin_cannot_solve_is_an_error() {
    for (text, message) in [
        (
            "hello",
            "unknown file format: expected MPS, CPLEX LP, AMPL .nl, CBF, SDPA sparse or Clarabel's JSON",
        ),
        (
            "min\n - [ x^2 ]\nst\n x <= 1\nend\n",
            "the quadratic objective is not convex",
        ),
        (
            "min\n [ x*y ]\nst\n x <= 1\nend\n",
            "the quadratic objective is not convex",
        ),
        (
            "max\n [ x^2 ]\nst\n x <= 1\nend\n",
            "the quadratic objective is not convex",
        ),
        (
            "min\n x\ngen\n x\nend\n",
            "the model has integer or semi-continuous variables, which an interior-point method cannot handle",
        ),
        (
            "VER\n1\nVAR\n1 1\nL+ 1\nINT\n1\n0\n",
            "the model has integer or semi-continuous variables, which an interior-point method cannot handle",
        ),
        (
            "VER\n9\n",
            "line 2: expected version 1, 2, 3 or 4, found `9`",
        ),
        (
            "VER\n1\nVAR\n2 1\nL+ 1\n",
            "line 4: expected cones for every variable, found `1`",
        ),
        (
            "VER\n1\nVAR\n1 1\nEXP* 1\n",
            "line 5: cone EXP* is not supported",
        ),
        (
            "VER\n1\nVAR\n1 1\nEXP 1\n",
            "line 5: expected cone EXP of dimension 3, found `1`",
        ),
        (
            "VER\n1\nVAR\n9999999999 1\nF 9999999999\n",
            "line 4: problems of this size are not supported",
        ),
        (
            "VER\n1\nPSDVAR\n1\n99999999\n",
            "line 5: problems of this size are not supported",
        ),
        (
            "VER\n1\nVAR\n1 1\nF 1\nACOORD\n1\n0 0 1\n",
            "line 8: unknown constraint `0`",
        ),
        (
            "VER\n1\nVAR\n1 1\nF 1\nOBJACOORD\n1\n1 1\n",
            "line 8: unknown scalar variable `1`",
        ),
        (
            "VER\n1\nVAR\n1 1\nF 1\nVAR\n",
            "line 6: section `VAR` appears twice",
        ),
        ("1\n1\n2\n1\n0 1 1 3 1\n", "line 5: unknown column `3`"),
        ("1\n1\n2\n1\n0 2 1 1 1\n", "line 5: unknown block `2`"),
        (
            "1\n1\n2\n",
            "line 3: the file ends where an objective coefficient for each variable was expected",
        ),
        (
            "1\n1\n-2\n1\n0 1 1 2 1\n",
            "line 5: expected an element on the diagonal, found `0 1 1 2 1`",
        ),
    ] {
        match solve(text.as_bytes(), &Settings::default()) {
            Err(error) => assert_eq!(error.to_string(), message, "{text}"),
            Ok(solution) => panic!("{text}: {solution:?}"),
        }
    }
}

mod robustness {
    use super::*;
    use optwasm_plugin_conic::read;
    use proptest::prelude::*;

    const CBF: &str = include_str!("../../../tests/data/fermat.cbf");
    const SDPA: &str = include_str!("../../../tests/data/theta-c5.dat-s");

    proptest! {
        #[test]
        fn one_byte_changed(at in 0..CBF.len(), byte: u8) {
            for text in [CBF, SDPA] {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at % text.len()] = byte;
                let _ = read(&bytes);
            }
        }

        #[test]
        fn arbitrary_numbers(numbers in prop::collection::vec("-?[0-9]{1,3}( |\n)", 0..60)) {
            let text = numbers.concat();
            let _ = read(format!("1\n{text}").as_bytes());
            let _ = read(format!("VER\n1\nVAR\n{text}").as_bytes());
            let _ = read(format!("VER\n1\nVAR\n2 1\nF 2\nPSDVAR\n1\n2\nPSDCON\n{text}").as_bytes());
            let _ = read(format!("VER\n1\nVAR\n2 1\nF 2\nPSDVAR\n1\n2\nOBJFCOORD\n{text}").as_bytes());
        }
    }

    #[test]
    fn truncations() {
        for text in [CBF, SDPA] {
            for end in 0..text.len() {
                let _ = read(&text.as_bytes()[..end]);
            }
        }
        assert!(matches!(
            read(&CBF.as_bytes()[..CBF.len() - 25]),
            Err(SolveError::Read(_))
        ));
    }
}

#[test]
fn clarabels_json_is_read() {
    // min ½(x² + y²) − y with x + y = 1 and (1, x, y) in the second-order cone.
    let text = r#"{
        "P": {"m": 2, "n": 2, "colptr": [0, 1, 2], "rowval": [0, 1], "nzval": [1.0, 1.0]},
        "q": [0.0, -1.0],
        "A": {"m": 4, "n": 2, "colptr": [0, 2, 4], "rowval": [0, 2, 0, 3],
              "nzval": [1.0, -1.0, 1.0, -1.0]},
        "b": [1.0, 1.0, 0.0, 0.0],
        "cones": [{"ZeroConeT": 1}, {"SecondOrderConeT": 3}]
    }"#;
    let solution = read(text);
    assert_eq!(solution.status, Status::Optimal);
    assert_close(solution.objective.unwrap(), -0.5);
    // At the edge of the cone the objective is flat: half as many digits.
    assert!((solution.value("x1").unwrap() - 1.0).abs() < 1e-3);
    for (from, to) in [
        ("\"b\": [1.0, ", "\"b\": ["),
        ("[0, 2, 4]", "[0, 5, 4]"),
        ("\"rowval\": [0, 1]", "\"rowval\": [0, 7]"),
        ("\"SecondOrderConeT\": 3", "\"SecondOrderConeT\": 4"),
        ("\"ZeroConeT\"", "\"Nonsense\""),
        ("\"ZeroConeT\": 1", "\"PowerConeT\": 1.5"),
        (
            "{\"ZeroConeT\": 1}",
            "{\"GenPowerConeT\": [[0.5, 0.5], 18446744073709551615]}",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        let broken = text.replace(from, to);
        assert!(
            solve(broken.as_bytes(), &Settings::default()).is_err(),
            "{to}"
        );
    }
}

#[test]
fn a_patch_of_a_model_in_a_blob_is_solved() {
    use optwasm_model::{Patch, patch::PatchError};
    use optwasm_plugin_conic::{read_with_blobs, solve_program};
    const TEXT: &[u8] = b"min\n x + y\nst\n c: x + y >= 2\nend\n";
    let mut patch = Patch::of("base", &optwasm_model::read(TEXT).unwrap());
    // x² + y² − 2x: best at (1.5, 0.5).
    patch.set_costs = vec![(0, -2.0), (1, 0.0)];
    patch.add_quadratic = vec![(0, 2.0), (1, 2.0)];
    let blob = |name: &str| (name == "base").then(|| TEXT.to_vec());
    let program = read_with_blobs(&patch.to_cbor(), blob).unwrap();
    let solution = solve_program(&program, &Settings::default()).unwrap();
    assert_close(solution.objective.unwrap(), -0.5);
    assert_close(solution.value("x").unwrap(), 1.5);
    patch.integers = vec![(0, true)];
    let error = |patch: &Patch, blob: fn(&str) -> Option<Vec<u8>>| {
        read_with_blobs(&patch.to_cbor(), blob).unwrap_err()
    };
    let integers = error(&patch, |_| Some(TEXT.to_vec()));
    assert!(matches!(integers, SolveError::Integers));
    let none = error(&patch, |_| None);
    assert!(matches!(none, SolveError::Patch(PatchError::NoBase { .. })));
}
