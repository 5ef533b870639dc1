//! Networks from MATPOWER case files, format version 2.
//!
//! The columns are those of MATPOWER's `caseformat`. Only what an optimal
//! power flow needs is read, and only of what is in service: an isolated bus
//! takes its load, its generators and its branches with it. Version 1 of the
//! format, DC lines in service and costs of reactive power are refused.

use std::collections::{BTreeMap, HashMap};

use optwasm_model::ReadError;

use crate::matfile::{self, Field, Row};
use crate::network::{Bounds, Branch, Bus, Cost, Generator, Network};

/// Reads a case file.
///
/// # Errors
///
/// A [`ReadError`] that names the line.
pub fn read(bytes: &[u8]) -> Result<Network, ReadError> {
    // Only comments and strings could hold anything but ASCII.
    let text = String::from_utf8_lossy(bytes);
    let fields = matfile::read(&text)?;
    let field = |name: &'static str| {
        fields.get(name).ok_or_else(|| ReadError::UnexpectedEnd {
            line: text.lines().count().max(1),
            expected: format!("the field `{name}`"),
        })
    };
    let version = field("version")?;
    if version.scalar() != "2" {
        return Err(expected(version.line, "version '2'", version.scalar()));
    }
    let base_field = field("baseMVA")?;
    let base = base_field.number()?;
    if !(base > 0.0 && base.is_finite()) {
        return Err(expected(base_field.line, "a number above 0", base));
    }
    refuse_dc_lines(&fields)?;

    let (buses, index) = read_buses(field("bus")?, base)?;
    let costs = field("gencost")?.table()?;
    let mut network = Network {
        base,
        generators: read_generators(field("gen")?, field("gencost")?, &costs, base, &index)?,
        branches: read_branches(field("branch")?, base, &index)?,
        buses,
    };
    choose_reference(&mut network);
    Ok(network)
}

/// Where the buses with their numbers are in the network; `None` if isolated.
type BusIndex = HashMap<u64, Option<usize>>;

/// A row of which the columns are known.
struct Record<'a>(&'a Row);

impl Record<'_> {
    /// The number in a column, counted from 1 as in MATPOWER's documentation.
    fn get(&self, column: usize) -> f64 {
        self.0.numbers[column - 1]
    }

    /// The same, where it must be finite.
    fn finite(&self, column: usize) -> Result<f64, ReadError> {
        let value = self.get(column);
        if value.is_finite() {
            Ok(value)
        } else {
            Err(expected(
                self.0.line,
                format!("a finite number in column {column}"),
                value,
            ))
        }
    }

    fn bounds(&self, lower: usize, upper: usize, factor: f64) -> Bounds {
        Bounds {
            lower: self.get(lower) * factor,
            upper: self.get(upper) * factor,
        }
    }

    fn bus_number(&self, column: usize) -> Result<u64, ReadError> {
        // Above this doubles are not all of the integers.
        const LARGEST: f64 = 9_007_199_254_740_992.0;
        let number = self.get(column);
        if number.fract() == 0.0 && (1.0..=LARGEST).contains(&number) {
            Ok(number as u64)
        } else {
            Err(expected(self.0.line, "a bus number", number))
        }
    }

    /// The index of a bus that must exist; `None` if it is isolated.
    fn bus(&self, column: usize, index: &BusIndex) -> Result<Option<usize>, ReadError> {
        let number = self.bus_number(column)?;
        index
            .get(&number)
            .copied()
            .ok_or_else(|| ReadError::Unknown {
                line: self.0.line,
                kind: "bus",
                name: number.to_string(),
            })
    }
}

/// The rows of a table that must have so many columns at least.
fn records(rows: &[Row], columns: usize) -> Result<impl Iterator<Item = Record<'_>>, ReadError> {
    match rows.first() {
        Some(row) if row.numbers.len() < columns => Err(expected(
            row.line,
            format!("{columns} columns at least"),
            row.numbers.len(),
        )),
        _ => Ok(rows.iter().map(Record)),
    }
}

fn read_buses(field: &Field, base: f64) -> Result<(Vec<Bus>, BusIndex), ReadError> {
    const REFERENCE: f64 = 3.0;
    const ISOLATED: f64 = 4.0;
    let mut buses = Vec::new();
    let mut index = BusIndex::new();
    for record in records(&field.table()?, 13)? {
        let number = record.bus_number(1)?;
        let kind = record.get(2);
        if ![1.0, 2.0, REFERENCE, ISOLATED].contains(&kind) {
            return Err(expected(record.0.line, "a bus type from 1 to 4", kind));
        }
        let position = (kind != ISOLATED).then_some(buses.len());
        if index.insert(number, position).is_some() {
            return Err(ReadError::Duplicate {
                line: record.0.line,
                kind: "bus",
                name: number.to_string(),
            });
        }
        if kind == ISOLATED {
            continue;
        }
        buses.push(Bus {
            number,
            real_load: record.finite(3)? / base,
            reactive_load: record.finite(4)? / base,
            conductance: record.finite(5)? / base,
            susceptance: record.finite(6)? / base,
            voltage: record.bounds(13, 12, 1.0),
            angle: (kind == REFERENCE)
                .then(|| record.finite(9).map(f64::to_radians))
                .transpose()?,
        });
    }
    if buses.is_empty() {
        return Err(expected(field.line, "a bus that is not isolated", "none"));
    }
    Ok((buses, index))
}

fn read_generators(
    field: &Field,
    cost_field: &Field,
    costs: &[Row],
    base: f64,
    index: &BusIndex,
) -> Result<Vec<Generator>, ReadError> {
    let rows = field.table()?;
    if costs.len() == 2 * rows.len() && !rows.is_empty() {
        return Err(ReadError::Unsupported {
            line: costs[rows.len()].line,
            feature: "costs of reactive power are".into(),
        });
    }
    if costs.len() != rows.len() {
        let rows = format!("a row for each of the {} generators", rows.len());
        return Err(expected(cost_field.line, rows, costs.len()));
    }
    let mut generators = Vec::new();
    for (row, (record, cost)) in records(&rows, 10)?.zip(costs).enumerate() {
        let bus = record.bus(1, index)?;
        let (Some(bus), true) = (bus, record.get(8) > 0.0) else {
            continue;
        };
        generators.push(Generator {
            number: row + 1,
            bus,
            real: record.bounds(10, 9, 1.0 / base),
            reactive: record.bounds(5, 4, 1.0 / base),
            cost: read_cost(cost, base)?,
            cost_line: cost.line,
        });
    }
    Ok(generators)
}

fn read_cost(row: &Row, base: f64) -> Result<Cost, ReadError> {
    let missing = |columns: usize| {
        let columns = format!("{columns} columns at least");
        expected(row.line, columns, row.numbers.len())
    };
    let [model, _, _, count, parameters @ ..] = row.numbers.as_slice() else {
        return Err(missing(4));
    };
    // Negative counts become 0, and large ones are too many for the row.
    let count = *count as usize;
    let parameters = |each: usize| {
        let needed = count.saturating_mul(each);
        parameters
            .get(..needed)
            .ok_or_else(|| missing(needed.saturating_add(4)))
            .and_then(|found| match found.iter().find(|x| !x.is_finite()) {
                Some(x) => Err(expected(row.line, "finite numbers", x)),
                None => Ok(found),
            })
    };
    match model {
        2.0 => {
            let mut coefficients: Vec<f64> = parameters(1)?.iter().rev().copied().collect();
            let mut factor = 1.0;
            for coefficient in &mut coefficients {
                *coefficient *= factor;
                factor *= base;
            }
            while coefficients.pop_if(|c| *c == 0.0).is_some() {}
            Ok(Cost::Polynomial(coefficients))
        }
        1.0 => {
            let (pairs, _) = parameters(2)?.as_chunks();
            let points: Vec<(f64, f64)> = pairs
                .iter()
                .map(|[power, cost]| (power / base, *cost))
                .collect();
            let ascending = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
            if points.len() < 2 || !ascending {
                let found = format!("{count} points");
                return Err(expected(
                    row.line,
                    "two or more points, in ascending order",
                    found,
                ));
            }
            Ok(Cost::PiecewiseLinear(points))
        }
        _ => Err(expected(row.line, "a cost model, 1 or 2", model)),
    }
}

fn read_branches(field: &Field, base: f64, index: &BusIndex) -> Result<Vec<Branch>, ReadError> {
    let mut branches = Vec::new();
    for (row, record) in records(&field.table()?, 13)?.enumerate() {
        let (from, to) = (record.bus(1, index)?, record.bus(2, index)?);
        let (Some(from), Some(to), true) = (from, to, record.get(11) > 0.0) else {
            continue;
        };
        if from == to {
            let found = format!("twice bus {}", record.get(1));
            return Err(expected(record.0.line, "two buses", found));
        }
        let (r, x) = (record.finite(3)?, record.finite(4)?);
        let squared = r * r + x * x;
        if squared == 0.0 {
            return Err(expected(record.0.line, "an impedance other than 0", 0));
        }
        let angle = match (record.get(12), record.get(13)) {
            (0.0, 0.0) => (f64::NEG_INFINITY, f64::INFINITY),
            (min, max) => (
                if min <= -360.0 {
                    f64::NEG_INFINITY
                } else {
                    min.to_radians()
                },
                if max >= 360.0 {
                    f64::INFINITY
                } else {
                    max.to_radians()
                },
            ),
        };
        branches.push(Branch {
            number: row + 1,
            from,
            to,
            conductance: r / squared,
            susceptance: -x / squared,
            charging: record.finite(5)?,
            tap: match record.finite(9)? {
                0.0 => 1.0,
                tap => tap,
            },
            shift: record.finite(10)?.to_radians(),
            rating: match record.get(6) {
                0.0 => f64::INFINITY,
                rating if rating > 0.0 => rating / base,
                rating => return Err(expected(record.0.line, "a rating of 0 or more", rating)),
            },
            angle: Bounds {
                lower: angle.0,
                upper: angle.1,
            },
        });
    }
    Ok(branches)
}

fn refuse_dc_lines(fields: &BTreeMap<&str, Field>) -> Result<(), ReadError> {
    const STATUS: usize = 3;
    let Some(field) = fields.get("dcline") else {
        return Ok(());
    };
    for record in records(&field.table()?, STATUS)? {
        if record.get(STATUS) > 0.0 {
            return Err(ReadError::Unsupported {
                line: record.0.line,
                feature: "DC lines are".into(),
            });
        }
    }
    Ok(())
}

/// Angles count from somewhere: without a reference bus, from the bus of the
/// largest generator, as in PowerModels.
fn choose_reference(network: &mut Network) {
    if network.buses.iter().any(|bus| bus.angle.is_some()) {
        return;
    }
    let largest = network
        .generators
        .iter()
        .max_by(|a, b| a.real.upper.total_cmp(&b.real.upper));
    let bus = largest.map_or(0, |generator| generator.bus);
    network.buses[bus].angle = Some(0.0);
}

fn expected(line: usize, what: impl Into<String>, found: impl std::fmt::Display) -> ReadError {
    ReadError::expected(line, what, &found.to_string())
}
