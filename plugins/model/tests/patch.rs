//! Patches of models, and the MPS files that bases are written to.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::patch::{NewColumn, NewRow, Patch, PatchError, is_patch, resolve};
use optwasm_model::{Format, Model, lp, mps};
use proptest::prelude::*;

const BASE: &[u8] = b"max
 obj: 3 x + 2 y + 5 + [ 4 x^2 + 2 x*y ] / 2
st
 a: x + y <= 4
 b: 1 <= x - y <= 3
bounds
 x <= 3
 z free
generals
 y
end
";

fn base() -> Model {
    lp::read(BASE).unwrap()
}

fn full_patch() -> Patch {
    Patch {
        set_costs: vec![(0, 10.0)],
        add_costs: vec![(0, 1.0), (1, -0.5)],
        add_quadratic: vec![(0, -4.0), (1, 6.0)],
        add_constant: 0.1,
        bounds: vec![(1, f64::NEG_INFINITY, 7.0)],
        integers: vec![(1, false), (0, true)],
        sides: vec![(1, 2.0, 2.0)],
        new_columns: vec![NewColumn {
            name: "p".into(),
            cost: 1.5,
            lower: 0.0,
            upper: f64::INFINITY,
            integer: false,
        }],
        new_rows: vec![NewRow {
            name: "cut".into(),
            lower: -1.0,
            upper: f64::INFINITY,
            terms: vec![(3, 1.0), (0, -2.0)],
        }],
        ..Patch::of("m", &base())
    }
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let before = base();
    let model = full_patch().apply(base()).unwrap();
    let point = [1.0, 2.0, -3.0, 4.0];
    // 5.1 + 11x + 1.5y + 1.5p, and ½·6y² + xy: x² has gone.
    let by_hand = 5.1 + 11.0 + 3.0 + 6.0 + 12.0 + 2.0;
    assert!((model.objective_at(&point) - by_hand).abs() < 1e-12);
    assert_eq!(
        (model.columns[1].lower, model.columns[1].upper),
        (f64::NEG_INFINITY, 7.0)
    );
    assert!(model.columns[0].integer && !model.columns[1].integer);
    assert_eq!((model.rows[1].lower, model.rows[1].upper), (2.0, 2.0));
    assert_eq!(model.rows[0], before.rows[0]);
    assert_eq!(model.columns[2], before.columns[2]);
    assert_eq!(model.sense, before.sense);
    let rows = model.row_coefficients();
    assert_eq!(rows[..2], before.row_coefficients()[..]);
    assert_eq!(rows[2], [(3, 1.0), (0, -2.0)]);
    assert_eq!(Patch::of("m", &before).apply(base()).unwrap(), before);
}

#[test]
fn a_patch_survives_its_encoding_and_begins_no_model_file() {
    let bytes = full_patch().to_cbor();
    assert!(is_patch(&bytes));
    assert_eq!(Format::detect(&bytes), None);
    assert!(!is_patch(BASE));
    assert_eq!(Patch::from_cbor(&bytes).unwrap(), full_patch());
    let empty = Patch::of("m", &base()).to_cbor();
    assert!(empty.len() < 40, "{} bytes say nothing", empty.len());
    let resolved = resolve(&bytes, |name| (name == "m").then(|| BASE.to_vec())).unwrap();
    assert_eq!(resolved, full_patch().apply(base()).unwrap());
}

#[test]
fn wrong_patches_are_errors() {
    let error = |change: fn(&mut Patch)| {
        let mut patch = full_patch();
        change(&mut patch);
        patch.apply(base()).unwrap_err().to_string()
    };
    assert_eq!(
        error(|p| p.set_costs[0].0 = 3),
        "there is no column 3, counted from 0"
    );
    assert_eq!(
        error(|p| p.add_quadratic[0].0 = 9),
        "there is no column 9, counted from 0"
    );
    assert_eq!(
        error(|p| p.sides[0].0 = 2),
        "there is no row 2, counted from 0"
    );
    assert_eq!(
        error(|p| p.new_rows[0].terms[0].0 = 4),
        "there is no column 4, counted from 0"
    );
    assert_eq!(
        error(|p| p.add_costs[0].1 = f64::NAN),
        "the cost of `x` is NaN"
    );
    assert_eq!(
        error(|p| p.add_quadratic[1].1 = f64::INFINITY),
        "the quadratic coefficient of `y` is inf"
    );
    assert_eq!(error(|p| p.bounds[0].1 = f64::NAN), "a bound of `y` is NaN");
    assert_eq!(error(|p| p.sides[0].2 = f64::NAN), "a bound of `b` is NaN");
    assert_eq!(
        error(|p| p.add_constant = f64::INFINITY),
        "the constant of the objective is inf"
    );
    assert_eq!(
        error(|p| p.new_rows[0].terms[0].0 = 0),
        "coefficient of row `cut` is there twice"
    );
    assert_eq!(
        error(|p| p.new_columns[0].name = "z".into()),
        "column `z` is there twice"
    );
    assert_eq!(
        error(|p| p.new_rows[0].name = "a".into()),
        "row `a` is there twice"
    );
    assert!(error(|p| p.columns = 4).contains("4 columns and 2 rows; the base has 3 and 2"));
    let bytes = full_patch().to_cbor();
    assert_eq!(
        resolve(&bytes, |_| None),
        Err(PatchError::NoBase { name: "m".into() })
    );
    let broken = resolve(&bytes, |_| Some(b"min\n x\nst\n c: x >=\n".to_vec())).unwrap_err();
    assert!(
        broken.to_string().starts_with("blob `m`: line "),
        "{broken}"
    );
}

#[test]
fn bytes_that_are_no_patch_are_errors() {
    let whole = full_patch().to_cbor();
    for end in 0..whole.len() {
        assert!(Patch::from_cbor(&whole[..end]).is_err());
    }
    assert!(Patch::from_cbor(&[&whole[..], &[0]].concat()).is_err());
    // The map without its tag; a field that nobody knows; a list that says it has 2^60 elements.
    assert!(Patch::from_cbor(&whole[3..]).is_err());
    assert!(Patch::from_cbor(b"\xd9\xd9\xf7\xa1\x64what\x01").is_err());
    let mut huge = b"\xd9\xd9\xf7\xa4\x64base\x60\x67columns\x00\x64rows\x00\x69set_costs".to_vec();
    huge.extend(b"\x9b\x10\x00\x00\x00\x00\x00\x00\x00");
    assert!(Patch::from_cbor(&huge).is_err());
}

#[test]
fn what_mps_writes_it_reads() {
    let text = mps::write(&base()).unwrap();
    let mut back = mps::read(text.as_bytes()).unwrap();
    let mut expected = base();
    let key = |entry: &optwasm_model::Entry| (entry.column, entry.row);
    back.entries.sort_by_key(key);
    expected.entries.sort_by_key(key);
    assert_eq!(back, expected);
}

#[test]
fn names_that_mps_cannot_hold_are_changed() {
    let mut model = base();
    model.columns[0].name = "two words".into();
    model.columns[1].name = "_two_words".into();
    model.columns[2].name = "BND".into();
    model.rows[0].name = "MARKER".into();
    model.rows[1].name = "OBJ".into();
    let back = mps::read(mps::write(&model).unwrap().as_bytes()).unwrap();
    let names: Vec<&str> = back.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["_two_words_", "_two_words", "BND"]);
    assert_eq!(back.rows[1].name, "OBJ");
    assert_eq!(
        (back.columns[0].cost, back.columns[2].lower),
        (3.0, f64::NEG_INFINITY)
    );
}

#[test]
fn rows_that_no_file_can_express_are_refused() {
    let mut model = base();
    model.rows[1].lower = 4.0;
    assert_eq!(
        mps::write(&model).unwrap_err().to_string(),
        "row `b` has sides that no MPS file can express"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_patch_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let tagged = [&[0xd9, 0xd9, 0xf7], &bytes[..]].concat();
        for bytes in [&bytes, &tagged] {
            if let Ok(patch) = Patch::from_cbor(bytes) {
                let _ = patch.apply(base());
            }
        }
    }

    #[test]
    fn any_model_survives_its_file(
        maximize: bool,
        constant in -9i32..9,
        columns in prop::collection::vec((-9i32..9, -5..5i32, 0..8i32, any::<bool>(), 0..4u8), 1..5),
        rows in prop::collection::vec((-9i32..9, 0..9i32, 0..4u8), 0..4),
        values in prop::collection::vec(-2i32..3, 16),
    ) {
        let bounds = |low: i32, width: i32, kind: u8| {
            let (low, high) = (f64::from(low), f64::from(low + width));
            match kind {
                0 => (low, high),
                1 => (f64::NEG_INFINITY, high),
                2 => (low, f64::INFINITY),
                _ => (f64::NEG_INFINITY, f64::INFINITY),
            }
        };
        let mut model = Model {
            name: "m".into(),
            constant: f64::from(constant) / 3.0,
            ..Model::default()
        };
        if maximize {
            model.sense = optwasm_model::Sense::Maximize;
        }
        for (index, &(cost, low, width, integer, kind)) in columns.iter().enumerate() {
            let (lower, upper) = bounds(low, width, kind);
            model.columns.push(optwasm_model::Column {
                name: format!("x{index}"),
                cost: f64::from(cost) / 7.0,
                lower,
                upper,
                integer,
                semicontinuous: false,
            });
        }
        for (index, &(low, width, kind)) in rows.iter().enumerate() {
            let (lower, upper) = bounds(low, width, kind);
            model.rows.push(optwasm_model::Row { name: format!("r{index}"), lower, upper });
        }
        // By columns, as a file has them.
        for column in 0..columns.len() {
            for row in 0..rows.len() {
                let value = f64::from(values[4 * row + column]) / 3.0;
                if value != 0.0 {
                    model.entries.push(optwasm_model::Entry { row, column, value });
                }
            }
        }
        model.quadratic = vec![(0, 0, f64::from(constant) + 0.5)];
        prop_assert_eq!(mps::read(mps::write(&model).unwrap().as_bytes()).unwrap(), model);
    }

    #[test]
    fn a_damaged_patch_never_panics(at in 3usize..200, byte in any::<u8>()) {
        let mut bytes = full_patch().to_cbor();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = resolve(&bytes, |_| Some(BASE.to_vec()));
    }
}
