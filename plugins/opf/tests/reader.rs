//! What the reader of case files takes and what it refuses, where.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_plugin_opf::{Bounds, Cost, matpower};
use proptest::prelude::*;

const SMALL: &str = include_str!("data/small.m");

#[test]
fn a_case_in_per_unit() {
    let network = matpower::read(SMALL.as_bytes()).unwrap();
    assert_eq!(network.base, 50.0);
    let numbers: Vec<u64> = network.buses.iter().map(|bus| bus.number).collect();
    assert_eq!(numbers, [10, 20, 30, 40]);
    let bus = &network.buses[1];
    assert_eq!((bus.real_load, bus.reactive_load), (1.2, 0.4));
    assert_eq!((bus.conductance, bus.susceptance), (0.04, 0.2));
    let voltage = Bounds {
        lower: 0.95,
        upper: 1.05,
    };
    assert_eq!(bus.voltage, voltage);
    assert_eq!(network.buses[0].angle, Some(5_f64.to_radians()));
    assert_eq!(network.buses[1].angle, None);

    let numbers: Vec<usize> = network.generators.iter().map(|g| g.number).collect();
    assert_eq!(numbers, [1, 3, 5]);
    assert_eq!(
        network.generators[0].cost,
        Cost::Polynomial(vec![5.0, 500.0, 125.0])
    );
    assert_eq!(
        network.generators[0].cost.at(2.0),
        0.05 * 1e4 + 10.0 * 100.0 + 5.0
    );
    let line = Cost::PiecewiseLinear(vec![(0.2, 150.0), (1.4, 1650.0)]);
    assert_eq!(network.generators[1].cost, line);
    assert_eq!(
        (network.generators[2].bus, network.generators[2].real.lower),
        (3, -0.2)
    );

    let numbers: Vec<usize> = network.branches.iter().map(|b| b.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(network.branches[0].tap, 1.0);
    assert_eq!(network.branches[0].rating, 1.8);
    assert_eq!(network.branches[1].rating, f64::INFINITY);
    assert_eq!(network.branches[1].angle, Bounds::FREE);
    assert_eq!(network.branches[2].angle, Bounds::FREE);
    assert_eq!(network.branches[2].shift, (-4_f64).to_radians());
}

#[test]
fn without_a_reference_the_largest_generator_has_it() {
    let text = SMALL
        .replace("10  3  0   0", "10  2  0   0")
        .replace("1  200   0;", "1  20   0;");
    let network = matpower::read(text.as_bytes()).unwrap();
    let angles: Vec<Option<f64>> = network.buses.iter().map(|bus| bus.angle).collect();
    assert_eq!(angles, [None, None, Some(0.0), None]);
}

#[test]
fn faults_name_their_line() {
    for (from, to, expected) in [
        (
            "function mpc = small",
            "mpc = small",
            "line 1: expected `function NAME = …`",
        ),
        (
            "function mpc =",
            "function [baseMVA, bus] =",
            "line 1: case files of format version 1 are not supported",
        ),
        (
            "%}",
            "",
            "line 2: the file ends where the end of the block comment was expected",
        ),
        ("'2'", "'1'", "line 5: expected version '2', found `1`"),
        (
            "mpc.baseMVA = 50",
            "mpc.baseMVA = 100/2",
            "line 6: expected a number, found `100/2`",
        ),
        (
            "mpc.baseMVA = 50",
            "mpc.baseMVA = 0",
            "line 6: expected a number above 0",
        ),
        (
            "mpc.baseMVA = 50;",
            "mpc.bus(2, 3) = 50;",
            "line 6: statements other than `mpc.FIELD = VALUE` are not supported",
        ),
        (
            "mpc.areas = [1, 4];",
            "mpc.version = '2';",
            "line 8: field `version` appears twice",
        ),
        (
            "60, 20, 2, 10,",
            "60, 2O, 2, 10,",
            "line 12: expected a number, found `2O`",
        ),
        (
            "60, 20, 2, 10,",
            "60, 20, NaN, 10,",
            "line 12: expected a number, found `NaN`",
        ),
        (
            "60, 20, 2, 10,",
            "60, 20, Inf, 10,",
            "line 12: expected a finite number in column 5, found `inf`",
        ),
        (
            "60, 20, 2, 10,",
            "60, 20, 10,",
            "line 12: expected 13 numbers, as in the rows before, found `12 numbers`",
        ),
        (
            "  30  2  40  10",
            "  20  2  40  10",
            "line 13: bus `20` appears twice",
        ),
        (
            "  30  2  40  10",
            "  -3  2  40  10",
            "line 13: expected a bus number, found `-3`",
        ),
        (
            "  30  2  40  10",
            "  30  5  40  10",
            "line 13: expected a bus type from 1 to 4, found `5`",
        ),
        (
            "  30  0 0  60 -60  1 50 1",
            "  31  0 0  60 -60  1 50 1",
            "line 20: unknown bus `31`",
        ),
        (
            "  1 0 0 2  10 150",
            "  3 0 0 2  10 150",
            "line 27: expected a cost model, 1 or 2, found `3`",
        ),
        (
            "  1 0 0 2  10 150",
            "  1 0 0 9  10 150",
            "line 27: expected 22 columns at least, found `8`",
        ),
        (
            "  1 0 0 2  10 150",
            "  1 0 0 2  90 150",
            "line 27: expected two or more points, in ascending order",
        ),
        (
            "  2 0 0 2  35 0  0     0;\n",
            "",
            "line 24: expected a row for each of the 5 generators, found `4`",
        ),
        (
            "0.02 0.10 0.02",
            "0 0 0.02",
            "line 33: expected an impedance other than 0",
        ),
        (
            "  20 10  0.02",
            "  20 20  0.02",
            "line 33: expected two buses, found `twice bus 20`",
        ),
        (
            "0.02  0  0 0",
            "0.02  -1  0 0",
            "line 33: expected a rating of 0 or more, found `-1`",
        ),
        (
            "[ 10 20 0 ]",
            "[ 10 20 1 ]",
            "line 40: DC lines are not supported",
        ),
        (
            "[ 10 20 0 ];",
            "[ 10 20 0 ",
            "line 40: the file ends where the end of the value of line 40 was expected",
        ),
        (
            "[ 10 20 0 ];",
            "[ 10 20 0 ]';",
            "line 40: expected `;`, found `'`",
        ),
        (
            "mpc.gencost",
            "mpc.cost",
            "line 40: the file ends where the field `gencost` was expected",
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let text = SMALL.replacen(from, to, 1);
        let error = matpower::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}, not {expected}");
    }
    // Twice as many costs as generators are costs of reactive power.
    let rows: String = SMALL
        .lines()
        .skip(24)
        .take(5)
        .map(|l| format!("{l}\n"))
        .collect();
    let text = SMALL.replacen(&rows, &format!("{rows}{rows}"), 1);
    let error = matpower::read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "line 30: costs of reactive power are not supported");
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = matpower::read(&bytes);
        let _ = matpower::read(&[b"function m = x\nm.bus = ", &bytes[..]].concat());
    }

    #[test]
    fn changed_files_do_not_panic(
        at in 0..SMALL.len(),
        length in 0..40_usize,
        with in "[-0-9 .;'\"\\[\\]{}%=,\\neIN]{0,6}",
    ) {
        let mut bytes = SMALL.as_bytes().to_vec();
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, with.bytes());
        let _ = matpower::read(&bytes);
    }
}
