//! Changes to a model whose file the solver has already.
//!
//! Methods that solve one model many times, each time with another objective or other bounds, need not
//! send it each time: its file travels once, as a blob, and every job gets a [`Patch`], which
//! names the blob and says what differs. [`resolve`] makes the model to be solved of the two.
//!
//! # Encoding
//!
//! A patch is one CBOR map behind the tag 55799 ("self-described CBOR", RFC 8949, section 3.4.6).
//! The bytes of that tag, `d9 d9 f7`, begin no model file, so [`is_patch`] can tell the two apart.
//! The keys of the map are the names of the fields below; those that change nothing are left out,
//! and others are refused. Rows and columns are named by their numbers, from 0, in the order in
//! which the readers of this crate find them in the base: the order in which an MPS file declares them
//! and in which they first occur in an LP file. All other numbers are CBOR floats. The numbers of columns and rows that the base
//! must have are there too, so that a patch that meets the wrong base is an error.

use ciborium::tag::Required;
use serde::{Deserialize, Serialize};

use crate::{Column, Entry, Model, ReadError, Row};

/// RFC 8949, section 3.4.6: the tag of self-described CBOR, and its bytes.
const SELF_DESCRIBED: u64 = 55799;
const MAGIC: [u8; 3] = [0xd9, 0xd9, 0xf7];

/// Changes to a base model. The default changes nothing, in a base without columns and rows.
///
/// They are made in the order of the fields, so a cost that is set and added to ends up at the sum.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// Name of the blob with the file of the base model.
    pub base: String,
    /// Columns that the base has.
    pub columns: u64,
    /// Rows that the base has.
    pub rows: u64,
    /// Columns and their new linear objective coefficients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_costs: Vec<(u32, f64)>,
    /// Columns and what is added to their linear objective coefficients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_costs: Vec<(u32, f64)>,
    /// Columns j and what is added to Qⱼⱼ, where the objective is ½xᵀQx: the objective grows by half of it
    /// times xⱼ².
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_quadratic: Vec<(u32, f64)>,
    /// What is added to the constant term of the objective.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub add_constant: f64,
    /// Columns and their new lower and upper bounds, which may be infinite.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<(u32, f64, f64)>,
    /// Columns, and whether they are integer now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub integers: Vec<(u32, bool)>,
    /// Rows and their new lower and upper sides, which may be infinite: right-hand sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sides: Vec<(u32, f64, f64)>,
    /// Columns that come after those of the base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_columns: Vec<NewColumn>,
    /// Rows that come after those of the base.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_rows: Vec<NewRow>,
}

/// A column that a patch adds; see [`Column`] for its fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewColumn {
    /// Its name, which no column of the base may have.
    pub name: String,
    /// Linear objective coefficient.
    pub cost: f64,
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether only integers are allowed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub integer: bool,
}

/// A row that a patch adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRow {
    /// Its name, which no row of the base may have.
    pub name: String,
    /// Lower side.
    pub lower: f64,
    /// Upper side.
    pub upper: f64,
    /// Columns, of the base or new, and their coefficients; none twice.
    pub terms: Vec<(u32, f64)>,
}

/// Why there is no patched model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The bytes are not a patch: cut off, of another version, or something else.
    #[error("not an encoded patch: {0}")]
    Decode(String),
    /// The job has no blob of the name that the patch gives; whoever submits it must name one.
    #[error("the patch is of the model in the blob `{name}`, which this job does not have")]
    NoBase {
        /// The name.
        name: String,
    },
    /// The blob is not a valid model file; mend it at the line named.
    #[error("blob `{name}`: {error}")]
    Base {
        /// The name of the blob.
        name: String,
        /// What is wrong with the file.
        error: ReadError,
    },
    /// The patch was made for another model than the base.
    #[error(
        "the patch is of a model with {columns} columns and {rows} rows; the base has {base_columns} and {base_rows}"
    )]
    Shape {
        /// Columns that the patch expects.
        columns: u64,
        /// Rows that the patch expects.
        rows: u64,
        /// Columns that there are.
        base_columns: usize,
        /// Rows that there are.
        base_rows: usize,
    },
    /// A column or row is named by a number that is too large.
    #[error("there is no {kind} {index}, counted from 0")]
    Unknown {
        /// "column" or "row".
        kind: &'static str,
        /// The number.
        index: u32,
    },
    /// A name is that of another column or row, or a coefficient of a row is there twice.
    #[error("{kind} `{name}` is there twice")]
    Duplicate {
        /// What is there twice.
        kind: &'static str,
        /// The name of the column or row.
        name: String,
    },
    /// A number is not finite, or a bound is NaN.
    #[error("{what} is {value}")]
    Number {
        /// Which number.
        what: String,
        /// What it is.
        value: String,
    },
}

/// Whether some bytes begin as every patch does, and no model file.
pub fn is_patch(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The model that the input of a job means: that of the file, as [`crate::read`] reads it, or of the
/// patch, as [`resolve`] does.
///
/// # Errors
///
/// Those of the two.
pub fn read<E: From<ReadError> + From<PatchError>>(
    input: &[u8],
    blob: impl FnOnce(&str) -> Option<Vec<u8>>,
) -> Result<Model, E> {
    Ok(if is_patch(input) {
        resolve(input, blob)?
    } else {
        crate::read(input)?
    })
}

/// Reads a patch, reads the base that `blob` gives for the name in it, and applies the one to the other.
///
/// # Errors
///
/// A [`PatchError`]; [`PatchError::NoBase`] if `blob` gives nothing.
pub fn resolve(
    bytes: &[u8],
    blob: impl FnOnce(&str) -> Option<Vec<u8>>,
) -> Result<Model, PatchError> {
    let patch = Patch::from_cbor(bytes)?;
    let name = || patch.base.clone();
    let base = blob(&patch.base).ok_or_else(|| PatchError::NoBase { name: name() })?;
    let model = crate::read(&base).map_err(|error| PatchError::Base {
        name: name(),
        error,
    })?;
    patch.apply(model)
}

impl Patch {
    /// A patch that changes nothing of `model`, whose file is the blob `base`.
    pub fn of(base: impl Into<String>, model: &Model) -> Self {
        Patch {
            base: base.into(),
            columns: model.columns.len() as u64,
            rows: model.rows.len() as u64,
            ..Patch::default()
        }
    }

    /// Encodes the patch.
    pub fn to_cbor(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(&Required::<_, SELF_DESCRIBED>(self), &mut bytes)
            .expect("writing to a Vec cannot fail, and every field has a CBOR form");
        bytes
    }

    /// Decodes what [`Patch::to_cbor`] wrote.
    ///
    /// # Errors
    ///
    /// [`PatchError::Decode`] if `bytes` are anything else.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, PatchError> {
        let mut rest = bytes;
        let Required(patch) =
            ciborium::from_reader::<Required<Patch, SELF_DESCRIBED>, _>(&mut rest)
                .map_err(|error| PatchError::Decode(error.to_string()))?;
        if rest.is_empty() {
            Ok(patch)
        } else {
            Err(PatchError::Decode(format!("{} bytes too many", rest.len())))
        }
    }

    /// Makes the changes to the base.
    ///
    /// # Errors
    ///
    /// [`PatchError::Shape`], [`PatchError::Unknown`], [`PatchError::Duplicate`] and
    /// [`PatchError::Number`].
    pub fn apply(&self, mut model: Model) -> Result<Model, PatchError> {
        let (base_columns, base_rows) = (model.columns.len(), model.rows.len());
        if (self.columns, self.rows) != (base_columns as u64, base_rows as u64) {
            return Err(PatchError::Shape {
                columns: self.columns,
                rows: self.rows,
                base_columns,
                base_rows,
            });
        }
        for &(index, cost) in &self.set_costs {
            column(&mut model, index)?.cost = cost;
        }
        for &(index, cost) in &self.add_costs {
            column(&mut model, index)?.cost += cost;
        }
        self.apply_quadratic(&mut model)?;
        model.constant += self.add_constant;
        finite(model.constant, || "the constant of the objective".into())?;
        for &(index, lower, upper) in &self.bounds {
            let column = column(&mut model, index)?;
            (column.lower, column.upper) = (lower, upper);
        }
        for &(index, integer) in &self.integers {
            column(&mut model, index)?.integer = integer;
        }
        for &(index, lower, upper) in &self.sides {
            let row = get(&mut model.rows, "row", index)?;
            (row.lower, row.upper) = (lower, upper);
        }
        self.extend(&mut model)?;
        for column in &model.columns {
            finite(column.cost, || format!("the cost of `{}`", column.name))?;
            bounds(column.lower, column.upper, &column.name)?;
        }
        for row in &model.rows {
            bounds(row.lower, row.upper, &row.name)?;
        }
        Ok(model)
    }

    fn apply_quadratic(&self, model: &mut Model) -> Result<(), PatchError> {
        if self.add_quadratic.is_empty() {
            return Ok(());
        }
        let mut diagonal = vec![0.0; model.columns.len()];
        for &(index, value) in &self.add_quadratic {
            *get(&mut diagonal, "column", index)? += value;
        }
        for (i, j, value) in &mut model.quadratic {
            if i == j {
                *value += std::mem::take(&mut diagonal[*i]);
            }
        }
        let added = diagonal.into_iter().enumerate();
        model.quadratic.extend(
            added
                .filter(|&(_, value)| value != 0.0)
                .map(|(j, value)| (j, j, value)),
        );
        model.quadratic.retain(|&(_, _, value)| value != 0.0);
        for &(_, j, value) in &model.quadratic {
            let name = &model.columns[j].name;
            finite(value, || format!("the quadratic coefficient of `{name}`"))?;
        }
        Ok(())
    }

    /// Adds the new columns and rows.
    fn extend(&self, model: &mut Model) -> Result<(), PatchError> {
        for new in &self.new_columns {
            model.columns.push(Column {
                name: new.name.clone(),
                cost: new.cost,
                lower: new.lower,
                upper: new.upper,
                integer: new.integer,
                semicontinuous: false,
            });
        }
        for new in &self.new_rows {
            let row = model.rows.len();
            model.rows.push(Row {
                name: new.name.clone(),
                lower: new.lower,
                upper: new.upper,
            });
            let mut seen = std::collections::HashSet::new();
            for &(index, value) in &new.terms {
                get(&mut model.columns, "column", index)?;
                finite(value, || format!("a coefficient of row `{}`", new.name))?;
                if !seen.insert(index) {
                    return Err(PatchError::Duplicate {
                        kind: "coefficient of row",
                        name: new.name.clone(),
                    });
                }
                if value != 0.0 {
                    let column = index as usize;
                    model.entries.push(Entry { row, column, value });
                }
            }
        }
        if !self.new_columns.is_empty() {
            unique("column", model.columns.iter().map(|column| &column.name))?;
        }
        if !self.new_rows.is_empty() {
            unique("row", model.rows.iter().map(|row| &row.name))?;
        }
        Ok(())
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn column(model: &mut Model, index: u32) -> Result<&mut Column, PatchError> {
    get(&mut model.columns, "column", index)
}

fn get<'a, T>(list: &'a mut [T], kind: &'static str, index: u32) -> Result<&'a mut T, PatchError> {
    let found = list.get_mut(index as usize);
    found.ok_or(PatchError::Unknown { kind, index })
}

fn finite(value: f64, what: impl FnOnce() -> String) -> Result<(), PatchError> {
    if value.is_finite() {
        return Ok(());
    }
    Err(PatchError::Number {
        what: what(),
        value: value.to_string(),
    })
}

fn bounds(lower: f64, upper: f64, name: &str) -> Result<(), PatchError> {
    if !lower.is_nan() && !upper.is_nan() {
        return Ok(());
    }
    Err(PatchError::Number {
        what: format!("a bound of `{name}`"),
        value: f64::NAN.to_string(),
    })
}

fn unique<'a>(
    kind: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), PatchError> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        if !seen.insert(name) {
            let name = name.clone();
            return Err(PatchError::Duplicate { kind, name });
        }
    }
    Ok(())
}
