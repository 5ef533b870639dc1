//! The stoch file: which numbers are random, and how.

use std::collections::{HashMap, HashSet};

use optwasm_model::{Entry, Model};

use super::core::Core;
use super::lines::{Line, Source, lines};
use super::time::Periods;
use crate::ProblemError;
use crate::tree::SUM_TOLERANCE;

/// A number of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Cost(usize),
    /// Index of an entry of the model, after [`add_entries`].
    Coefficient(usize),
    /// Minus the constant term of the objective.
    ObjectiveSide,
    Side(usize),
    Lower(usize),
    Upper(usize),
    /// Both bounds.
    Fixed(usize),
}

/// How the number of the file changes that of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Replace,
    Add,
    Multiply,
}

/// A changed number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    target: Target,
    how: How,
    value: f64,
    line: usize,
}

/// One way in which something random may come out.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub probability: f64,
    pub changes: Vec<Change>,
}

/// Something random that is independent of all else.
#[derive(Debug, Clone)]
pub(super) struct Element {
    pub period: usize,
    pub outcomes: Vec<Outcome>,
    name: String,
    line: usize,
}

/// A scenario that branches from another.
#[derive(Debug, Clone)]
pub(super) struct Branch {
    pub name: String,
    /// None if it branches from the core.
    pub parent: Option<usize>,
    pub probability: f64,
    /// First period in which it differs.
    pub period: usize,
    pub changes: Vec<Change>,
}

/// What a stoch file says.
pub(super) struct Stoch {
    pub random: Random,
    /// Row and column of entries that the core does not have.
    pub new_entries: Vec<(usize, usize)>,
}

/// What is random.
pub(super) enum Random {
    Independent(Vec<Element>),
    Scenarios(Vec<Branch>),
}

#[derive(Clone, Copy, PartialEq)]
enum Section {
    None,
    Independent,
    Blocks,
    Scenarios,
    End,
}

struct Reader<'a> {
    core: &'a Core,
    periods: &'a Periods,
    source: Source<'a>,
    how: How,
    elements: Vec<Element>,
    by_target: HashMap<Target, usize>,
    blocks: HashMap<String, usize>,
    /// The element whose last outcome data lines belong to.
    block: Option<usize>,
    branches: Vec<Branch>,
    branch_index: HashMap<String, usize>,
    new_entries: Vec<(usize, usize)>,
    new_entry_index: HashMap<(usize, usize), usize>,
}

/// Reads a stoch file.
pub(super) fn read(
    file: &str,
    text: &str,
    core: &Core,
    periods: &Periods,
) -> Result<Stoch, ProblemError> {
    let source = Source(file);
    let mut reader = Reader {
        core,
        periods,
        source,
        how: How::Replace,
        elements: Vec::new(),
        by_target: HashMap::new(),
        blocks: HashMap::new(),
        block: None,
        branches: Vec::new(),
        branch_index: HashMap::new(),
        new_entries: Vec::new(),
        new_entry_index: HashMap::new(),
    };
    let mut section = Section::None;
    let mut last = 1;
    for line in lines(text) {
        last = line.number;
        if line.is_header {
            section = reader.header(&line)?;
            if section == Section::End {
                break;
            }
            continue;
        }
        match section {
            Section::Independent => reader.independent(&line)?,
            Section::Blocks => reader.block(&line)?,
            Section::Scenarios => reader.scenario(&line)?,
            Section::None | Section::End => {
                return Err(source.expected(line.number, "a section of a stoch file", &line.words));
            }
        }
    }
    if section != Section::End {
        return Err(source.wrong(last, "the file ends where ENDATA was expected"));
    }
    reader.finish(last)
}

impl Reader<'_> {
    fn header(&mut self, line: &Line<'_>) -> Result<Section, ProblemError> {
        let words: Vec<String> = line.words.iter().map(|w| w.to_ascii_uppercase()).collect();
        let section = match words[0].as_str() {
            "STOCH" => return Ok(Section::None),
            "ENDATA" => return Ok(Section::End),
            "INDEP" => Section::Independent,
            "BLOCKS" => Section::Blocks,
            "SCENARIOS" | "SCEN" => Section::Scenarios,
            other => {
                let feature = format!("section {other} is");
                return Err(self.source.unsupported(line.number, feature));
            }
        };
        self.how = How::Replace;
        self.block = None;
        for word in &words[1..] {
            match word.as_str() {
                "DISCRETE" => {}
                "REPLACE" => self.how = How::Replace,
                "ADD" => self.how = How::Add,
                "MULTIPLY" => self.how = How::Multiply,
                other => {
                    let feature = format!("section {} {other} is", words[0]);
                    return Err(self.source.unsupported(line.number, feature));
                }
            }
        }
        let mixes = match section {
            Section::Scenarios => !self.elements.is_empty(),
            _ => !self.branches.is_empty(),
        };
        if mixes {
            let feature = "scenarios beside independent data are";
            return Err(self.source.unsupported(line.number, feature));
        }
        Ok(section)
    }

    /// `column row value [period] probability`, or with a bound.
    fn independent(&mut self, line: &Line<'_>) -> Result<(), ProblemError> {
        let (target, rest) = self.target(line.number, &line.words)?;
        let (value, period, probability) = match rest {
            [value, probability] => (value, None, probability),
            [value, period, probability] => (value, Some(*period), probability),
            _ => {
                let what = "a column, a row, a value, a period and a probability";
                return Err(self.source.expected(line.number, what, &line.words));
            }
        };
        let value = self.source.number(line.number, value)?;
        let probability = self.source.probability(line.number, probability)?;
        let period = match period {
            Some(name) => self.period(line.number, name)?,
            None => self.period_of(target),
        };
        let element = match self.by_target.get(&target) {
            Some(&element) => element,
            None => {
                let name = line.words[..line.words.len() - rest.len()].join(" ");
                self.add_element(line.number, name, period)?;
                self.by_target.insert(target, self.elements.len() - 1);
                self.elements.len() - 1
            }
        };
        if self.elements[element].period != period {
            let problem = format!(
                "`{}` was in another period before",
                self.elements[element].name
            );
            return Err(self.source.wrong(line.number, problem));
        }
        let change = Change {
            target,
            how: self.how,
            value,
            line: line.number,
        };
        self.elements[element].outcomes.push(Outcome {
            probability,
            changes: vec![change],
        });
        Ok(())
    }

    fn add_element(
        &mut self,
        line: usize,
        name: String,
        period: usize,
    ) -> Result<(), ProblemError> {
        if period == 0 {
            let problem = format!("`{name}` is random in the first period, in which all is known");
            return Err(self.source.wrong(line, problem));
        }
        self.elements.push(Element {
            period,
            outcomes: Vec::new(),
            name,
            line,
        });
        Ok(())
    }

    /// `BL name period probability`, or data of the last such line.
    fn block(&mut self, line: &Line<'_>) -> Result<(), ProblemError> {
        if line.words[0].eq_ignore_ascii_case("BL") {
            let [_, name, period, probability] = line.words[..] else {
                let what = "BL, a block, a period and a probability";
                return Err(self.source.expected(line.number, what, &line.words));
            };
            let period = self.period(line.number, period)?;
            let probability = self.source.probability(line.number, probability)?;
            let element = match self.blocks.get(name) {
                Some(&element) => element,
                None => {
                    self.add_element(line.number, name.to_owned(), period)?;
                    self.blocks.insert(name.to_owned(), self.elements.len() - 1);
                    self.elements.len() - 1
                }
            };
            if self.elements[element].period != period {
                let problem = format!("block `{name}` was in another period before");
                return Err(self.source.wrong(line.number, problem));
            }
            self.elements[element].outcomes.push(Outcome {
                probability,
                changes: Vec::new(),
            });
            self.block = Some(element);
            return Ok(());
        }
        let Some(element) = self.block else {
            return Err(self.source.expected(line.number, "a line BL", &line.words));
        };
        let changes = self.changes(line)?;
        if let Some(outcome) = self.elements[element].outcomes.last_mut() {
            outcome.changes.extend(changes);
        }
        Ok(())
    }

    /// `SC name parent probability period`, or data of the last such line.
    fn scenario(&mut self, line: &Line<'_>) -> Result<(), ProblemError> {
        if line.words[0].eq_ignore_ascii_case("SC") {
            let [_, name, parent, probability, period] = line.words[..] else {
                let what = "SC, a scenario, the one it branches from, a probability and a period";
                return Err(self.source.expected(line.number, what, &line.words));
            };
            let parent = match parent.trim_matches('\'') {
                root if root.eq_ignore_ascii_case("ROOT") => None,
                other => Some(*self.branch_index.get(other).ok_or_else(|| {
                    let problem = format!("scenario `{other}` does not come before");
                    self.source.wrong(line.number, problem)
                })?),
            };
            let branch = Branch {
                name: name.to_owned(),
                parent,
                probability: self.source.probability(line.number, probability)?,
                // In the first period there is nothing to branch.
                period: self.period(line.number, period)?.max(1),
                changes: Vec::new(),
            };
            self.branches.push(branch);
            let last = self.branches.len() - 1;
            if self.branch_index.insert(name.to_owned(), last).is_some() {
                let problem = format!("scenario `{name}` is there twice");
                return Err(self.source.wrong(line.number, problem));
            }
            return Ok(());
        }
        let changes = self.changes(line)?;
        match self.branches.last_mut() {
            Some(branch) => branch.changes.extend(changes),
            None => return Err(self.source.expected(line.number, "a line SC", &line.words)),
        }
        Ok(())
    }

    /// `column row value [row value]`, or a bound and its value.
    fn changes(&mut self, line: &Line<'_>) -> Result<Vec<Change>, ProblemError> {
        let (how, source, line_number) = (self.how, self.source, line.number);
        let change = |target, value| {
            Ok(Change {
                target,
                how,
                value: source.number(line_number, value)?,
                line: line_number,
            })
        };
        let (target, rest) = self.target(line.number, &line.words)?;
        match rest {
            [value] => Ok(vec![change(target, value)?]),
            [value, row, second] => {
                let other = self.target(line.number, &[line.words[0], row, second])?.0;
                Ok(vec![change(target, value)?, change(other, second)?])
            }
            _ => {
                let what = "a column and one or two pairs of row and value";
                Err(self.source.expected(line.number, what, &line.words))
            }
        }
    }

    /// What the first words of a line name, and the other words.
    fn target<'w>(
        &mut self,
        line: usize,
        words: &'w [&'w str],
    ) -> Result<(Target, &'w [&'w str]), ProblemError> {
        if let [kind, _, column, rest @ ..] = words
            && let Some(&index) = self.core.column_index.get(*column)
            && let Some(bound) = bound(kind, index)
        {
            return Ok((bound, rest));
        }
        let [column, row, rest @ ..] = words else {
            return Err(self.source.expected(line, "a column and a row", words));
        };
        let is_objective = *row == self.core.objective;
        let row_index = self.core.row_index.get(*row).copied();
        let target = match (self.core.column_index.get(*column), row_index) {
            (Some(&column), Some(row)) => Target::Coefficient(self.entry(row, column)),
            (Some(&column), None) if is_objective => Target::Cost(column),
            (None, _) if !self.core.is_side_name(column) => {
                let problem = format!(
                    "the core has no column `{column}`, and no right-hand sides of that name"
                );
                return Err(self.source.wrong(line, problem));
            }
            (None, Some(row)) => {
                let sides = &self.core.model.rows[row];
                if sides.lower != sides.upper && sides.lower.is_finite() && sides.upper.is_finite()
                {
                    let feature = "random right-hand sides of rows with ranges are";
                    return Err(self.source.unsupported(line, feature));
                }
                Target::Side(row)
            }
            (None, None) if is_objective => Target::ObjectiveSide,
            (_, None) => {
                let problem = format!("the core has no row `{row}`");
                return Err(self.source.wrong(line, problem));
            }
        };
        Ok((target, rest))
    }

    /// The index of an entry, which may be new.
    fn entry(&mut self, row: usize, column: usize) -> usize {
        let place = (row, column);
        if let Some(&entry) = self.core.entry_index.get(&place) {
            return entry;
        }
        let next = self.core.model.entries.len() + self.new_entries.len();
        let entry = *self.new_entry_index.entry(place).or_insert(next);
        if entry == next {
            self.new_entries.push(place);
        }
        entry
    }

    fn period(&self, line: usize, name: &str) -> Result<usize, ProblemError> {
        self.periods.index.get(name).copied().ok_or_else(|| {
            let problem = format!("there is no period `{name}`");
            self.source.wrong(line, problem)
        })
    }

    /// The period in which a number matters, where the file does not say it.
    fn period_of(&self, target: Target) -> usize {
        let column = |column: usize| self.periods.of_column[column];
        let row = |row: usize| self.periods.of_row[row];
        match target {
            Target::Coefficient(entry) => {
                let old = self
                    .core
                    .model
                    .entries
                    .get(entry)
                    .map(|e| (e.row, e.column));
                let new = || self.new_entries[entry - self.core.model.entries.len()];
                let (r, c) = old.unwrap_or_else(new);
                row(r).max(column(c))
            }
            Target::Side(r) => row(r),
            Target::Cost(c) | Target::Lower(c) | Target::Upper(c) | Target::Fixed(c) => column(c),
            Target::ObjectiveSide => self.periods.len() - 1,
        }
    }

    fn finish(mut self, last: usize) -> Result<Stoch, ProblemError> {
        if self.elements.is_empty() && self.branches.is_empty() {
            return Err(self.source.wrong(last, "nothing is random"));
        }
        if !self.branches.is_empty() {
            let sum = self.branches.iter().map(|branch| branch.probability).sum();
            self.check_sum(last, "the scenarios", sum)?;
            return Ok(Stoch {
                random: Random::Scenarios(self.branches),
                new_entries: self.new_entries,
            });
        }
        for element in &mut self.elements {
            // What a further outcome does not list is as in the first one.
            let first = element.outcomes[0].changes.clone();
            for outcome in &mut element.outcomes[1..] {
                let own = std::mem::replace(&mut outcome.changes, first.clone());
                let listed: HashSet<Target> = own.iter().map(|change| change.target).collect();
                outcome
                    .changes
                    .retain(|change| !listed.contains(&change.target));
                outcome.changes.extend(own);
            }
        }
        for element in &self.elements {
            let sum = element
                .outcomes
                .iter()
                .map(|outcome| outcome.probability)
                .sum();
            self.check_sum(element.line, &format!("`{}`", element.name), sum)?;
        }
        Ok(Stoch {
            random: Random::Independent(self.elements),
            new_entries: self.new_entries,
        })
    }

    fn check_sum(&self, line: usize, what: &str, sum: f64) -> Result<(), ProblemError> {
        if (sum - 1.0).abs() <= SUM_TOLERANCE {
            return Ok(());
        }
        let problem = format!("the probabilities of {what} sum to {sum}, not to 1");
        Err(self.source.wrong(line, problem))
    }
}

fn bound(kind: &str, column: usize) -> Option<Target> {
    match kind.to_ascii_uppercase().as_str() {
        "LO" => Some(Target::Lower(column)),
        "UP" => Some(Target::Upper(column)),
        "FX" => Some(Target::Fixed(column)),
        _ => None,
    }
}

/// Adds the entries that changes refer to.
pub(super) fn add_entries(model: &mut Model, new_entries: &[(usize, usize)]) {
    let entries = new_entries.iter().map(|&(row, column)| Entry {
        row,
        column,
        value: 0.0,
    });
    model.entries.extend(entries);
}

impl Change {
    /// Makes the change, in a model to which [`add_entries`] has been applied.
    pub fn apply(&self, model: &mut Model, source: Source<'_>) -> Result<(), ProblemError> {
        let change = |number: &mut f64| {
            *number = match self.how {
                How::Replace => self.value,
                How::Add => *number + self.value,
                How::Multiply => *number * self.value,
            };
            if number.is_finite() {
                return Ok(());
            }
            Err(source.wrong(self.line, "the changed number is not finite"))
        };
        match self.target {
            Target::Cost(column) => change(&mut model.columns[column].cost),
            Target::ObjectiveSide => {
                let mut side = -model.constant;
                change(&mut side)?;
                model.constant = -side;
                Ok(())
            }
            Target::Coefficient(entry) => change(&mut model.entries[entry].value),
            Target::Side(row) => {
                let row = &mut model.rows[row];
                if row.lower == row.upper {
                    change(&mut row.lower)?;
                    row.upper = row.lower;
                    Ok(())
                } else if row.lower.is_finite() {
                    change(&mut row.lower)
                } else {
                    change(&mut row.upper)
                }
            }
            Target::Lower(column) => change(&mut model.columns[column].lower),
            Target::Upper(column) => change(&mut model.columns[column].upper),
            Target::Fixed(column) => {
                let column = &mut model.columns[column];
                change(&mut column.lower)?;
                column.upper = column.lower;
                Ok(())
            }
        }
    }
}
