//! Which programs are linear or quadratic, and those as a [`Model`].
//!
//! Expressions are expanded into polynomials of degree two where they are
//! such. Expanding may square the number of terms, as in (x₁ + … + xₙ)², so
//! it has a budget; an expression that exceeds it counts as nonlinear, which
//! is never wrong, only less precise.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};

use super::expression::{Expression, Node, Operator};
use super::{NlModel, Terms};
use crate::{Column, Entry, Model, Row};

/// What expanding may cost whatever the size of the model, in terms: enough
/// for a dense square of 1400 variables.
const BASE_BUDGET: usize = 1 << 20;

/// What it may cost for each node of the model's expressions, in terms.
const BUDGET_PER_NODE: usize = 16;

/// The highest degree that a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Degree {
    /// Linear objective and constraints.
    Linear,
    /// Quadratic objective, linear constraints.
    Quadratic,
    /// Anything else, quadratic constraints included.
    Nonlinear,
}

/// What kind of program a model is. It displays as, for example,
/// `mixed-integer nonlinear program`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NlClass {
    /// Of the objective and the constraints.
    pub degree: Degree,
    /// Whether any variable must be integer.
    pub integers: bool,
    /// Whether there are logical conditions.
    pub logical: bool,
}

impl Display for NlClass {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let integers = if self.integers { "mixed-integer " } else { "" };
        let degree = match self.degree {
            Degree::Linear => "linear",
            Degree::Quadratic => "quadratic",
            Degree::Nonlinear => "nonlinear",
        };
        let logical = match self.logical {
            true => " with logical constraints",
            false => "",
        };
        f.pad(&format!("{integers}{degree} program{logical}"))
    }
}

impl NlModel {
    /// What kind of program it is.
    pub fn class(&self) -> NlClass {
        let degree = match self.expand() {
            None => Degree::Nonlinear,
            Some((objective, _)) if objective.quadratic.is_empty() => Degree::Linear,
            Some(_) => Degree::Quadratic,
        };
        NlClass {
            degree,
            integers: self.has_integers(),
            logical: !self.logical.is_empty(),
        }
    }

    /// The model as a linear or quadratic program; `None` if it is neither or
    /// has logical conditions. Columns and rows have the indices and names of
    /// this model's variables and constraints.
    pub fn to_model(&self) -> Option<Model> {
        if !self.logical.is_empty() {
            return None;
        }
        let (objective, rows) = self.expand()?;
        let mut model = Model {
            sense: self.sense(),
            constant: objective.constant,
            ..Model::default()
        };
        for (variable, name) in self.variables.iter().zip(self.variable_names()) {
            let mut column = Column::new(name);
            column.lower = variable.lower;
            column.upper = variable.upper;
            column.integer = variable.integer;
            model.columns.push(column);
        }
        for (&column, &cost) in &objective.linear {
            model.columns[column].cost = cost;
        }
        // The model has ½xᵀQx.
        for (&(i, j), &factor) in &objective.quadratic {
            let value = if i == j { 2.0 * factor } else { factor };
            model.quadratic.push((i, j, value));
        }
        let names = self.constraint_names();
        for (row, (constraint, name)) in self.constraints.iter().zip(names).enumerate() {
            let polynomial = &rows[row];
            model.rows.push(Row {
                name,
                lower: constraint.lower - polynomial.constant,
                upper: constraint.upper - polynomial.constant,
            });
            let entries = polynomial.linear.iter();
            model
                .entries
                .extend(entries.map(|(&column, &value)| Entry { row, column, value }));
        }
        model
            .quadratic
            .iter()
            .all(|q| q.2.is_finite())
            .then_some(model)
    }

    /// The objective, and the constraints if they are linear.
    fn expand(&self) -> Option<(Polynomial, Vec<Polynomial>)> {
        let defined = self.defined.iter().map(|d| &d.expression);
        let bodies = self.constraints.iter().map(|c| &c.expression);
        let objective = self.objectives.first();
        let all = objective.iter().map(|o| &o.expression);
        let nodes: usize = all
            .chain(bodies)
            .chain(defined)
            .map(|e| e.nodes().len())
            .sum();
        let mut expansion = Expansion {
            defined: Vec::new(),
            budget: nodes
                .saturating_mul(BUDGET_PER_NODE)
                .saturating_add(BASE_BUDGET),
        };
        for defined in &self.defined {
            let polynomial = expansion.of(&defined.linear, &defined.expression);
            expansion.defined.push(polynomial);
        }
        let objective = match objective {
            Some(objective) => expansion.of(&objective.linear, &objective.expression)?,
            None => Polynomial::default(),
        };
        let rows: Option<Vec<Polynomial>> = self
            .constraints
            .iter()
            .map(|c| expansion.of(&c.linear, &c.expression))
            .map(|row| row.filter(|row| row.quadratic.is_empty()))
            .collect();
        Some((objective, rows?))
    }
}

/// A polynomial of degree two. No coefficient is 0.
#[derive(Debug, Clone, Default)]
struct Polynomial {
    constant: f64,
    linear: BTreeMap<usize, f64>,
    /// By pairs with the lesser variable first.
    quadratic: BTreeMap<(usize, usize), f64>,
}

impl Polynomial {
    fn number(constant: f64) -> Self {
        Polynomial {
            constant,
            ..Polynomial::default()
        }
    }

    fn variable(index: usize) -> Self {
        Polynomial {
            linear: BTreeMap::from([(index, 1.0)]),
            ..Polynomial::default()
        }
    }

    fn terms(&self) -> usize {
        1 + self.linear.len() + self.quadratic.len()
    }

    fn as_number(&self) -> Option<f64> {
        (self.linear.is_empty() && self.quadratic.is_empty()).then_some(self.constant)
    }

    fn is_finite(&self) -> bool {
        let linear = self.linear.values();
        let mut all = linear.chain(self.quadratic.values());
        self.constant.is_finite() && all.all(|factor| factor.is_finite())
    }
}

/// Adds to a coefficient, which vanishes when it becomes 0.
fn add<K: Ord>(terms: &mut BTreeMap<K, f64>, key: K, value: f64) {
    use std::collections::btree_map::Entry;
    match terms.entry(key) {
        Entry::Vacant(entry) if value != 0.0 => {
            entry.insert(value);
        }
        Entry::Vacant(_) => {}
        Entry::Occupied(mut entry) => {
            *entry.get_mut() += value;
            if *entry.get() == 0.0 {
                entry.remove();
            }
        }
    }
}

/// Not a polynomial of degree two, or too costly to see whether it is.
struct Other;

struct Expansion {
    /// Of the defined variables so far, those that are quadratic.
    defined: Vec<Option<Polynomial>>,
    /// Terms that may still be touched.
    budget: usize,
}

impl Expansion {
    /// `terms + expression` as a polynomial.
    fn of(&mut self, terms: &Terms, expression: &Expression) -> Option<Polynomial> {
        let folded = expression.fold(|node, arguments| self.node(node, arguments.collect()));
        let mut polynomial = folded.ok()?;
        for &(variable, factor) in terms {
            add(&mut polynomial.linear, variable, factor);
        }
        polynomial.is_finite().then_some(polynomial)
    }

    fn node(&mut self, node: &Node, arguments: Vec<Polynomial>) -> Result<Polynomial, Other> {
        match node {
            Node::Number(number) => Ok(Polynomial::number(*number)),
            Node::Variable(index) => Ok(Polynomial::variable(*index)),
            Node::Defined(index) => {
                let polynomial = self.defined[*index].clone().ok_or(Other)?;
                self.spend(polynomial.terms())?;
                Ok(polynomial)
            }
            Node::PiecewiseLinear(_) => {
                let value = arguments[0].as_number().ok_or(Other)?;
                let expression = Expression::of_read_nodes(vec![node.clone(), Node::Number(value)]);
                Ok(Polynomial::number(expression.value(&[], &[])))
            }
            Node::Operation(operator, _) => self.operation(*operator, arguments),
        }
    }

    fn operation(
        &mut self,
        operator: Operator,
        arguments: Vec<Polynomial>,
    ) -> Result<Polynomial, Other> {
        let numbers: Option<Vec<f64>> = arguments.iter().map(Polynomial::as_number).collect();
        if let Some(numbers) = numbers {
            return Ok(Polynomial::number(operator.apply(&numbers)));
        }
        let mut arguments = arguments.into_iter();
        let mut next = || arguments.next().ok_or(Other);
        match operator {
            Operator::Add => {
                let (a, b) = (next()?, next()?);
                self.sum(a, b)
            }
            Operator::Subtract => {
                let (a, b) = (next()?, next()?);
                let negative = self.scaled(b, -1.0)?;
                self.sum(a, negative)
            }
            Operator::Sum => {
                let first = next()?;
                arguments.try_fold(first, |sum, term| self.sum(sum, term))
            }
            Operator::Negate => {
                let a = next()?;
                self.scaled(a, -1.0)
            }
            Operator::Multiply => {
                let (a, b) = (next()?, next()?);
                self.product(&a, &b)
            }
            Operator::Divide => {
                let (mut a, b) = (next()?, next()?);
                let divisor = b.as_number().ok_or(Other)?;
                self.spend(a.terms())?;
                a.constant /= divisor;
                a.linear.values_mut().for_each(|factor| *factor /= divisor);
                a.quadratic
                    .values_mut()
                    .for_each(|factor| *factor /= divisor);
                Ok(a)
            }
            Operator::Square => {
                let a = next()?;
                self.product(&a, &a)
            }
            Operator::Power | Operator::PowerOfConstant => {
                let (a, b) = (next()?, next()?);
                match b.as_number() {
                    Some(0.0) => Ok(Polynomial::number(1.0)),
                    Some(1.0) => Ok(a),
                    Some(2.0) => self.product(&a, &a),
                    _ => Err(Other),
                }
            }
            _ => Err(Other),
        }
    }

    /// Adds the shorter to the longer, so that a long sum built term by term
    /// costs little more than its terms.
    fn sum(&mut self, a: Polynomial, b: Polynomial) -> Result<Polynomial, Other> {
        let (mut long, short) = if a.terms() < b.terms() {
            (b, a)
        } else {
            (a, b)
        };
        self.spend(short.terms())?;
        long.constant += short.constant;
        for (variable, factor) in short.linear {
            add(&mut long.linear, variable, factor);
        }
        for (pair, factor) in short.quadratic {
            add(&mut long.quadratic, pair, factor);
        }
        Ok(long)
    }

    fn scaled(&mut self, mut a: Polynomial, by: f64) -> Result<Polynomial, Other> {
        if by == 0.0 {
            return Ok(Polynomial::number(0.0));
        }
        self.spend(a.terms())?;
        a.constant *= by;
        a.linear.values_mut().for_each(|factor| *factor *= by);
        a.quadratic.values_mut().for_each(|factor| *factor *= by);
        Ok(a)
    }

    fn product(&mut self, a: &Polynomial, b: &Polynomial) -> Result<Polynomial, Other> {
        for (a, b) in [(a, b), (b, a)] {
            if let Some(number) = a.as_number() {
                return self.scaled(b.clone(), number);
            }
        }
        if !a.quadratic.is_empty() || !b.quadratic.is_empty() {
            return Err(Other);
        }
        self.spend(a.terms().saturating_mul(b.terms()))?;
        let mut product = Polynomial::number(a.constant * b.constant);
        for (a, b) in [(a, b), (b, a)] {
            for (&variable, &factor) in &a.linear {
                add(&mut product.linear, variable, factor * b.constant);
            }
        }
        for (&i, &p) in &a.linear {
            for (&j, &q) in &b.linear {
                add(&mut product.quadratic, (i.min(j), i.max(j)), p * q);
            }
        }
        Ok(product)
    }

    fn spend(&mut self, terms: usize) -> Result<(), Other> {
        self.budget = self.budget.checked_sub(terms).ok_or(Other)?;
        Ok(())
    }
}
