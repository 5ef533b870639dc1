//! Reader of the Conic Benchmark Format, versions 1 to 4 (`.cbf`), as
//! <https://cblib.zib.de/doc/format4.pdf> defines it.
//!
//! Read are scalar and semidefinite variables and constraints, the cones `F`,
//! `L+`, `L-`, `L=`, `Q`, `QR`, `EXP` and parametric power cones `@k:POW`. The
//! dual cones, `SVECPSD`, `GMEANABS` and `CHANGE` are refused as unsupported,
//! and a list of integer variables as [`SolveError::Integers`].
//!
//! The format has no names. In the solution, element j of the scalar variable
//! is called `x[j]`, element (r, c) of semidefinite variable j `X[j](r,c)`,
//! constraint i `g[i]` and element (r, c) of semidefinite constraint i
//! `G[i](r,c)`, all counted from 0 as in the file, with r ≥ c.

use std::collections::HashSet;

use optwasm_model::{ReadError, Sense};

use crate::SolveError;
use crate::program::{
    Affine, Cone, MAX_SIZE, Program, Role, triangle_index, triangle_scale, triangle_size,
};

/// Reads a program.
///
/// # Errors
///
/// A [`SolveError::Read`] with the line at which the file is at fault, or
/// [`SolveError::Integers`].
pub fn read(input: &[u8]) -> Result<Program, SolveError> {
    let text = String::from_utf8_lossy(input);
    let mut reader = Reader {
        lines: text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.split('#').next().unwrap_or("").trim()))
            .filter(|(_, line)| !line.is_empty())
            .collect(),
        next: 0,
        seen: HashSet::new(),
        program: Program::default(),
        power: Vec::new(),
        scalars: Vec::new(),
        scalar_count: 0,
        matrices: Vec::new(),
        constraints: Vec::new(),
        rows: Vec::new(),
        matrix_constraints: Vec::new(),
    };
    while reader.next < reader.lines.len() {
        reader.section()?;
    }
    reader.finish()
}

/// A run of scalar variables or constraints in one cone, as the file names it.
struct Segment {
    line: usize,
    cone: String,
    length: usize,
}

/// Terms and constant of a row.
type Form = (Vec<(usize, f64)>, f64);

/// A semidefinite variable.
struct Matrix {
    order: usize,
    /// Index of its first element among the variables.
    first: usize,
}

struct Reader<'a> {
    /// The lines with content and their numbers.
    lines: Vec<(usize, &'a str)>,
    next: usize,
    /// The sections so far; none may come twice.
    seen: HashSet<&'a str>,
    program: Program,
    /// Exponents of the parametric power cones.
    power: Vec<Vec<f64>>,
    scalars: Vec<Segment>,
    scalar_count: usize,
    matrices: Vec<Matrix>,
    constraints: Vec<Segment>,
    /// The scalar constraints.
    rows: Vec<Form>,
    /// Orders of the semidefinite constraints, and their rows in the order of
    /// the triangle.
    matrix_constraints: Vec<(usize, Vec<Form>)>,
}

impl<'a> Reader<'a> {
    fn section(&mut self) -> Result<(), SolveError> {
        let (line, keyword) = self.line("a section")?;
        if !self.seen.insert(keyword) {
            return Err(ReadError::Duplicate {
                line,
                kind: "section",
                name: keyword.into(),
            }
            .into());
        }
        match keyword {
            "VER" => {
                let (line, [version]) = self.integers("a version")?;
                if !(1..=4).contains(&version) {
                    let found = version.to_string();
                    return Err(ReadError::expected(line, "version 1, 2, 3 or 4", &found).into());
                }
            }
            "OBJSENSE" => {
                self.program.sense = match self.line("MIN or MAX")? {
                    (_, "MIN") => Sense::Minimize,
                    (_, "MAX") => Sense::Maximize,
                    (line, other) => {
                        return Err(ReadError::expected(line, "MIN or MAX", other).into());
                    }
                }
            }
            "POWCONES" => self.power_cones()?,
            "VAR" => {
                let (count, segments) = self.segments("variable")?;
                (self.scalar_count, self.scalars) = (count, segments);
                for j in 0..count {
                    self.variable(format!("x[{j}]"));
                }
            }
            "PSDVAR" => self.matrix_variables()?,
            "CON" => {
                let (count, segments) = self.segments("constraint")?;
                self.rows = vec![Default::default(); count];
                self.constraints = segments;
            }
            "PSDCON" => self.matrix_constraint_sizes()?,
            "INT" => {
                let (_, [count]) = self.integers("a number of variables")?;
                if count > 0 {
                    return Err(SolveError::Integers);
                }
            }
            "OBJACOORD" => self.coordinates(|reader, line, [j]: [usize; 1], value| {
                let j = reader.scalar(line, j)?;
                reader.program.cost[j] += value;
                Ok(())
            })?,
            "OBJBCOORD" => {
                let (line, text) = self.line("a number")?;
                self.program.constant = number(line, text)?;
            }
            "OBJFCOORD" => self.coordinates(|reader, line, [j, r, c], value| {
                let (j, factor) = reader.matrix_element(line, j, r, c)?;
                reader.program.cost[j] += factor * value;
                Ok(())
            })?,
            "ACOORD" => self.coordinates(|reader, line, [i, j], value| {
                let j = reader.scalar(line, j)?;
                reader.row(line, i)?.0.push((j, value));
                Ok(())
            })?,
            "BCOORD" => self.coordinates(|reader, line, [i], value| {
                reader.row(line, i)?.1 += value;
                Ok(())
            })?,
            "FCOORD" => self.coordinates(|reader, line, [i, j, r, c], value| {
                let (j, factor) = reader.matrix_element(line, j, r, c)?;
                reader.row(line, i)?.0.push((j, factor * value));
                Ok(())
            })?,
            "HCOORD" => self.coordinates(|reader, line, [i, j, r, c], value| {
                let j = reader.scalar(line, j)?;
                reader.matrix_row(line, i, r, c)?.0.push((j, value));
                Ok(())
            })?,
            "DCOORD" => self.coordinates(|reader, line, [i, r, c], value| {
                reader.matrix_row(line, i, r, c)?.1 += value;
                Ok(())
            })?,
            "POW*CONES" | "CHANGE" => {
                return Err(ReadError::Unsupported {
                    line,
                    feature: format!("section {keyword} is"),
                }
                .into());
            }
            _ => return Err(ReadError::expected(line, "a CBF section", keyword).into()),
        }
        Ok(())
    }

    /// `count total`, and for each cone its length and exponents.
    fn power_cones(&mut self) -> Result<(), ReadError> {
        let (_, [count, _total]) = self.integers("the number of power cones and exponents")?;
        for _ in 0..count {
            let (line, [length]) = self.integers("a number of exponents")?;
            let mut exponents = Vec::new();
            for _ in 0..length {
                let (line, text) = self.line("an exponent")?;
                let value = number(line, text)?;
                if value <= 0.0 {
                    return Err(ReadError::expected(line, "a positive exponent", text));
                }
                exponents.push(value);
            }
            if exponents.is_empty() {
                return Err(ReadError::expected(line, "some exponents", "0"));
            }
            let sum: f64 = exponents.iter().sum();
            self.power.push(exponents.iter().map(|e| e / sum).collect());
        }
        Ok(())
    }

    /// `count segments`, and for each segment its cone and length.
    fn segments(&mut self, kind: &'static str) -> Result<(usize, Vec<Segment>), ReadError> {
        let (line, [count, segments]) = self.integers("a count and a number of cones")?;
        self.check_size(line, Some(count))?;
        let mut total = 0;
        let mut list = Vec::new();
        for _ in 0..segments {
            let (line, text) = self.line("a cone and its dimension")?;
            let words: Vec<&str> = text.split_whitespace().collect();
            let &[cone, length] = words.as_slice() else {
                return Err(ReadError::expected(line, "a cone and its dimension", text));
            };
            let length = length
                .parse()
                .ok()
                .filter(|&length: &usize| length <= count - total)
                .ok_or_else(|| ReadError::expected(line, "a dimension within the count", length))?;
            total += length;
            list.push(Segment {
                line,
                cone: cone.into(),
                length,
            });
        }
        if total != count {
            let expected = format!("cones for every {kind}");
            return Err(ReadError::expected(line, expected, &total.to_string()));
        }
        Ok((count, list))
    }

    fn matrix_variables(&mut self) -> Result<(), ReadError> {
        let (_, [count]) = self.integers("a number of matrices")?;
        for index in 0..count {
            let (line, [order]) = self.integers("a matrix order")?;
            let size = triangle_size(order);
            self.check_size(line, size)?;
            let first = self.program.variables.len();
            for c in 0..order {
                for r in 0..=c {
                    // The file speaks of the lower triangle.
                    self.variable(format!("X[{index}]({c},{r})"));
                }
            }
            self.matrices.push(Matrix { order, first });
        }
        Ok(())
    }

    fn matrix_constraint_sizes(&mut self) -> Result<(), ReadError> {
        let (_, [count]) = self.integers("a number of matrices")?;
        for _ in 0..count {
            let (line, [order]) = self.integers("a matrix order")?;
            let size = triangle_size(order);
            self.check_size(line, size)?;
            let rows = vec![Default::default(); size.unwrap_or(0)];
            self.matrix_constraints.push((order, rows));
        }
        Ok(())
    }

    /// Reads a number of lines, each with `N` indices and a value.
    fn coordinates<const N: usize>(
        &mut self,
        take: fn(&mut Self, usize, [usize; N], f64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let (_, [count]) = self.integers("a number of entries")?;
        for _ in 0..count {
            let (line, text) = self.line("an entry")?;
            let malformed = || ReadError::expected(line, format!("{N} indices and a value"), text);
            let words: Vec<&str> = text.split_whitespace().collect();
            let (&value, indices) = words.split_last().ok_or_else(malformed)?;
            let indices: Vec<usize> = indices
                .iter()
                .map(|word| word.parse().map_err(|_| malformed()))
                .collect::<Result<_, _>>()?;
            let indices = indices.try_into().map_err(|_| malformed())?;
            take(self, line, indices, number(line, value)?)?;
        }
        Ok(())
    }

    fn variable(&mut self, name: String) {
        self.program.variables.push(name);
        self.program.cost.push(0.0);
    }

    /// Index among all variables of scalar variable `j`.
    fn scalar(&self, line: usize, j: usize) -> Result<usize, ReadError> {
        // Semidefinite variables may have been declared before.
        let offset = match self.matrices.first() {
            Some(matrix) if matrix.first == 0 => self.program.variables.len() - self.scalar_count,
            _ => 0,
        };
        if j < self.scalar_count {
            Ok(offset + j)
        } else {
            Err(unknown(line, "scalar variable", j))
        }
    }

    /// Index among all variables of an element of a semidefinite variable, and
    /// how often the inner product with a symmetric matrix counts it.
    fn matrix_element(
        &self,
        line: usize,
        j: usize,
        r: usize,
        c: usize,
    ) -> Result<(usize, f64), ReadError> {
        let matrix = self
            .matrices
            .get(j)
            .ok_or_else(|| unknown(line, "semidefinite variable", j))?;
        let position = element(line, matrix.order, r, c)?;
        let factor = if r == c { 1.0 } else { 2.0 };
        Ok((matrix.first + position, factor))
    }

    fn row(&mut self, line: usize, i: usize) -> Result<&mut Form, ReadError> {
        self.rows
            .get_mut(i)
            .ok_or_else(|| unknown(line, "constraint", i))
    }

    fn matrix_row(
        &mut self,
        line: usize,
        i: usize,
        r: usize,
        c: usize,
    ) -> Result<&mut Form, ReadError> {
        let (order, rows) = self
            .matrix_constraints
            .get_mut(i)
            .ok_or_else(|| unknown(line, "semidefinite constraint", i))?;
        Ok(&mut rows[element(line, *order, r, c)?])
    }

    fn line(&mut self, expected: &str) -> Result<(usize, &'a str), ReadError> {
        let line = self.lines.get(self.next).copied();
        self.next += 1;
        line.ok_or_else(|| ReadError::UnexpectedEnd {
            line: self.lines.last().map_or(1, |&(line, _)| line),
            expected: expected.into(),
        })
    }

    fn integers<const N: usize>(
        &mut self,
        expected: &str,
    ) -> Result<(usize, [usize; N]), ReadError> {
        let (line, text) = self.line(expected)?;
        let integers: Option<Vec<usize>> = text
            .split_whitespace()
            .map(|word| word.parse().ok())
            .collect();
        match integers.and_then(|integers| integers.try_into().ok()) {
            Some(integers) => Ok((line, integers)),
            None => Err(ReadError::expected(line, expected, text)),
        }
    }

    /// Refuses what would make the program larger than any may be.
    fn check_size(&self, line: usize, more: Option<usize>) -> Result<(), ReadError> {
        let matrix_rows = self.matrix_constraints.iter().map(|(_, rows)| rows.len());
        let used = self.program.variables.len() + self.rows.len() + matrix_rows.sum::<usize>();
        match more {
            Some(more) if more <= MAX_SIZE - used.min(MAX_SIZE) => Ok(()),
            _ => Err(ReadError::Unsupported {
                line,
                feature: "problems of this size are".into(),
            }),
        }
    }

    fn finish(mut self) -> Result<Program, SolveError> {
        let first_scalar = self.scalar(0, 0).unwrap_or(0);
        let mut next = first_scalar;
        for segment in std::mem::take(&mut self.scalars) {
            let rows = (next..next + segment.length)
                .map(|j| Affine {
                    terms: vec![(j, 1.0)],
                    constant: 0.0,
                    role: Role::Variable(j, 1.0),
                })
                .collect();
            next += segment.length;
            self.add_block(&segment, rows)?;
        }
        for matrix in std::mem::take(&mut self.matrices) {
            let rows = triangle(matrix.order)
                .enumerate()
                .map(|(position, (i, j))| Affine {
                    terms: vec![(matrix.first + position, triangle_scale(i, j))],
                    constant: 0.0,
                    role: Role::Variable(matrix.first + position, 1.0 / triangle_scale(i, j)),
                })
                .collect();
            self.program
                .blocks
                .push((Cone::Semidefinite(matrix.order), rows));
        }
        let mut forms = std::mem::take(&mut self.rows).into_iter();
        for segment in std::mem::take(&mut self.constraints) {
            let mut rows = Vec::with_capacity(segment.length);
            for (terms, constant) in forms.by_ref().take(segment.length) {
                let index = self.program.constraints.len();
                self.program.constraints.push(format!("g[{index}]"));
                rows.push(Affine {
                    terms,
                    constant,
                    role: Role::Constraint(index, 1.0),
                });
            }
            self.add_block(&segment, rows)?;
        }
        let matrix_constraints = std::mem::take(&mut self.matrix_constraints);
        for (number, (order, forms)) in matrix_constraints.into_iter().enumerate() {
            let mut rows = Vec::with_capacity(forms.len());
            for ((terms, constant), (i, j)) in forms.into_iter().zip(triangle(order)) {
                let index = self.program.constraints.len();
                self.program
                    .constraints
                    .push(format!("G[{number}]({j},{i})"));
                let scale = triangle_scale(i, j);
                rows.push(Affine {
                    terms: terms.into_iter().map(|(j, a)| (j, a * scale)).collect(),
                    constant: constant * scale,
                    role: Role::Constraint(index, 1.0 / scale),
                });
            }
            self.program.blocks.push((Cone::Semidefinite(order), rows));
        }
        Ok(self.program)
    }

    /// Adds rows to the program in the cone that the file names.
    fn add_block(&mut self, segment: &Segment, mut rows: Vec<Affine>) -> Result<(), ReadError> {
        let line = segment.line;
        let at_least = |least: usize| {
            if segment.length >= least {
                return Ok(());
            }
            let expected = format!("cone {} of dimension {least} or more", segment.cone);
            Err(ReadError::expected(
                line,
                expected,
                &segment.length.to_string(),
            ))
        };
        let cone = match segment.cone.as_str() {
            "F" => return Ok(()),
            "L=" => Cone::Zero,
            "L+" => Cone::Nonnegative,
            "L-" => {
                rows.iter_mut().for_each(|row| scale(row, -1.0));
                Cone::Nonnegative
            }
            "Q" => {
                at_least(1)?;
                Cone::SecondOrder
            }
            "QR" => {
                at_least(2)?;
                Cone::RotatedSecondOrder
            }
            "EXP" => {
                if segment.length != 3 {
                    let found = segment.length.to_string();
                    return Err(ReadError::expected(line, "cone EXP of dimension 3", &found));
                }
                // The file's x₁ ≥ x₂·exp(x₃/x₂) has the other order.
                rows.reverse();
                Cone::Exponential
            }
            other => {
                let index = other
                    .strip_prefix('@')
                    .and_then(|rest| rest.strip_suffix(":POW"));
                let Some(index) = index else {
                    return Err(ReadError::Unsupported {
                        line,
                        feature: format!("cone {other} is"),
                    });
                };
                let exponents = index
                    .parse()
                    .ok()
                    .and_then(|index: usize| self.power.get(index))
                    .ok_or_else(|| ReadError::Unknown {
                        line,
                        kind: "power cone",
                        name: other.into(),
                    })?
                    .clone();
                at_least(exponents.len() + 1)?;
                if exponents.len() == 1 {
                    // x₁ ≥ ‖w‖
                    Cone::SecondOrder
                } else {
                    Cone::Power(exponents)
                }
            }
        };
        self.program.blocks.push((cone, rows));
        Ok(())
    }
}

/// The elements (i, j), i ≤ j, of a triangle in the order of its block.
fn triangle(order: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..order).flat_map(|j| (0..=j).map(move |i| (i, j)))
}

/// Position within its block of element (r, c), whichever half it is in.
fn element(line: usize, order: usize, r: usize, c: usize) -> Result<usize, ReadError> {
    if r >= order || c >= order {
        return Err(unknown(line, "row or column", r.max(c)));
    }
    Ok(triangle_index(r.min(c), r.max(c)))
}

fn scale(row: &mut Affine, factor: f64) {
    row.terms.iter_mut().for_each(|(_, a)| *a *= factor);
    row.constant *= factor;
    row.role = match row.role {
        Role::Constraint(index, old) => Role::Constraint(index, old * factor),
        Role::Variable(index, old) => Role::Variable(index, old * factor),
    };
}

fn unknown(line: usize, kind: &'static str, index: usize) -> ReadError {
    ReadError::Unknown {
        line,
        kind,
        name: index.to_string(),
    }
}

fn number(line: usize, text: &str) -> Result<f64, ReadError> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(ReadError::expected(line, "a number", text)),
    }
}
