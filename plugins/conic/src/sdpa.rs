//! Reader of the SDPA sparse format (`.dat-s`) of semidefinite programs
//!
//! ```text
//! min c·x   subject to   x₁F₁ + … + xₘFₘ − F₀ ⪰ 0
//! ```
//!
//! as SDPLIB uses it: comment lines starting with `"` or `*`, the number of
//! variables, the number of blocks, the blocks' orders (negative for a diagonal
//! block), c, and then one line `matrix block i j value` for each element of an
//! upper triangle. The punctuation `{ } ( ) ,` counts as blank, and text after
//! a number of the first three lines is ignored.
//!
//! In the solution the variables are called `x1` … `xm` and the constraints,
//! whose duals are the elements of the dual matrix Y, `Y[block](i,j)`.

use std::collections::HashSet;

use optwasm_model::{ReadError, Sense};

use crate::program::{
    Affine, Cone, MAX_SIZE, Program, Role, triangle_index, triangle_scale, triangle_size,
};

/// Reads a program.
///
/// # Errors
///
/// A [`ReadError`] with the line at which the file is at fault.
pub fn read(input: &[u8]) -> Result<Program, ReadError> {
    let text = String::from_utf8_lossy(input);
    let text = text.replace(['{', '}', '(', ')', ','], " ");
    let mut lines = Lines {
        lines: text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
            .filter(|(_, line)| {
                let line = line.trim_start();
                !line.is_empty() && !line.starts_with(['"', '*'])
            })
            .collect(),
        next: 0,
    };
    let variables = lines.leading_integer("the number of variables")?;
    let blocks = lines.leading_integer("the number of blocks")?;
    let (line, variables) = (variables.0, usize::try_from(variables.1));
    let variables = match variables {
        Ok(m) if (1..=MAX_SIZE).contains(&m) => m,
        _ => {
            return Err(ReadError::expected(
                line,
                "a sensible number of variables",
                "another",
            ));
        }
    };
    let orders = lines.numbers(blocks.1, "the order of each block", true)?;
    let mut program = Program {
        sense: Sense::Minimize,
        cost: lines.numbers(
            variables as i64,
            "an objective coefficient for each variable",
            false,
        )?,
        variables: (1..=variables).map(|i| format!("x{i}")).collect(),
        ..Program::default()
    };
    let blocks = read_blocks(&mut program, line, &orders)?;
    lines.entries(&mut program, &blocks)?;
    Ok(program)
}

/// Where the rows of a block are.
struct Block {
    order: usize,
    diagonal: bool,
}

/// Declares the blocks that the orders imply, with rows of zero.
fn read_blocks(
    program: &mut Program,
    line: usize,
    orders: &[f64],
) -> Result<Vec<Block>, ReadError> {
    let mut blocks = Vec::new();
    for (index, &order) in orders.iter().enumerate() {
        let refuse = || ReadError::expected(line, "blocks of a sensible order", &order.to_string());
        if order == 0.0 || order.fract() != 0.0 || order.abs() > MAX_SIZE as f64 {
            return Err(refuse());
        }
        let diagonal = order < 0.0;
        let order = order.abs() as usize;
        let elements: Vec<(usize, usize)> = if diagonal {
            (0..order).map(|i| (i, i)).collect()
        } else {
            triangle_size(order).ok_or_else(refuse)?;
            (0..order)
                .flat_map(|j| (0..=j).map(move |i| (i, j)))
                .collect()
        };
        if program.constraints.len() + elements.len() > MAX_SIZE {
            return Err(refuse());
        }
        let mut rows = Vec::with_capacity(elements.len());
        for (i, j) in elements {
            rows.push(Affine {
                terms: Vec::new(),
                constant: 0.0,
                // ⟨Z, S⟩ counts an element off the diagonal twice and its
                // scaled multiplier once.
                role: Role::Constraint(program.constraints.len(), 1.0 / triangle_scale(i, j)),
            });
            let name = format!("Y[{}]({},{})", index + 1, i + 1, j + 1);
            program.constraints.push(name);
        }
        let cone = if diagonal {
            Cone::Nonnegative
        } else {
            Cone::Semidefinite(order)
        };
        program.blocks.push((cone, rows));
        blocks.push(Block { order, diagonal });
    }
    Ok(blocks)
}

struct Lines<'a> {
    /// The lines with content and their numbers.
    lines: Vec<(usize, &'a str)>,
    next: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self, expected: &str) -> Result<(usize, &'a str), ReadError> {
        let line = self.lines.get(self.next).copied();
        self.next += 1;
        line.ok_or_else(|| ReadError::UnexpectedEnd {
            line: self.lines.last().map_or(1, |&(line, _)| line),
            expected: expected.into(),
        })
    }

    /// The integer that a line starts with; what follows is a comment.
    fn leading_integer(&mut self, expected: &str) -> Result<(usize, i64), ReadError> {
        let (line, text) = self.next(expected)?;
        let text = text.trim_start();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '+')
            .unwrap_or(text.len());
        match text[..end].parse() {
            Ok(value) => Ok((line, value)),
            Err(_) => Err(ReadError::expected(line, expected, text)),
        }
    }

    /// `count` numbers on one or more lines. What follows them on the last line
    /// is a comment if `comments`, and an error otherwise.
    fn numbers(
        &mut self,
        count: i64,
        expected: &str,
        comments: bool,
    ) -> Result<Vec<f64>, ReadError> {
        let mut numbers = Vec::new();
        while (numbers.len() as i64) < count {
            let (line, text) = self.next(expected)?;
            for word in text.split_whitespace() {
                if numbers.len() as i64 == count {
                    if comments {
                        break;
                    }
                    return Err(ReadError::expected(line, "the end of the line", word));
                }
                numbers.push(number(line, word)?);
            }
        }
        Ok(numbers)
    }

    fn entries(&mut self, program: &mut Program, blocks: &[Block]) -> Result<(), ReadError> {
        let mut seen = HashSet::new();
        while let Some(&(line, text)) = self.lines.get(self.next) {
            self.next += 1;
            let words: Vec<&str> = text.split_whitespace().collect();
            let &[matrix, block, i, j, value] = words.as_slice() else {
                return Err(ReadError::expected(
                    line,
                    "a line `matrix block i j value`",
                    text.trim(),
                ));
            };
            let index = |word: &str, range: std::ops::RangeInclusive<usize>, what| {
                word.parse()
                    .ok()
                    .filter(|value| range.contains(value))
                    .ok_or_else(|| ReadError::Unknown {
                        line,
                        kind: what,
                        name: word.into(),
                    })
            };
            let matrix = index(matrix, 0..=program.cost.len(), "matrix")?;
            let block = index(block, 1..=blocks.len(), "block")? - 1;
            let Block { order, diagonal } = blocks[block];
            let i = index(i, 1..=order, "row")? - 1;
            let j = index(j, 1..=order, "column")? - 1;
            let value = number(line, value)?;
            let (i, j) = (i.min(j), i.max(j));
            if diagonal && i != j {
                return Err(ReadError::expected(
                    line,
                    "an element on the diagonal",
                    text.trim(),
                ));
            }
            if !seen.insert((matrix, block, i, j)) {
                return Err(ReadError::Duplicate {
                    line,
                    kind: "element",
                    name: format!("{} {} {} {}", matrix, block + 1, i + 1, j + 1),
                });
            }
            let position = if diagonal { i } else { triangle_index(i, j) };
            let row = &mut program.blocks[block].1[position];
            let value = value * triangle_scale(i, j);
            match matrix.checked_sub(1) {
                None => row.constant = -value,
                Some(variable) => row.terms.push((variable, value)),
            }
        }
        Ok(())
    }
}

fn number(line: usize, word: &str) -> Result<f64, ReadError> {
    match word.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err(ReadError::expected(line, "a number", word)),
    }
}
