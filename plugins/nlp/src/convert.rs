//! An [`NlModel`] as pounce's problem.
//!
//! pounce keeps expressions as trees and walks them by recursion, so the
//! depth of what it gets is limited here. Sums are flattened first: chains of
//! additions are the one kind of deep expression that is common.

use std::sync::Arc;

use optwasm_model::Sense;
use optwasm_model::nl::{
    Expression, NlModel, Node, Operator, PiecewiseLinear, SuffixTarget, Terms,
};
use pounce_nl::nl_reader::{BinOp, CmpOp, Expr, NlBody, NlProblem, NlSuffixes, UnaryOp};

use crate::SolveError;

/// Deepest expression that pounce gets. Its recursion takes under 2 KiB of
/// stack a level when optimized, and threads have 2 MiB at least: the main
/// one of a guest gets 16 (`build.rs`), those of Rust's tests have 2.
const MAX_DEPTH: usize = 800;

/// Beyond this a bound is none, for pounce as for Ipopt.
const INFINITY: f64 = 1e19;

/// A finished part of an expression and its depth.
struct Part {
    expr: Expr,
    depth: usize,
}

/// The problem as pounce takes it. Of several objectives the first counts.
pub(crate) fn problem(model: &NlModel) -> Result<NlProblem, SolveError> {
    if !model.logical.is_empty() {
        return Err(unsupported("logical constraints are"));
    }
    let mut defined: Vec<(Arc<Expr>, usize)> = Vec::with_capacity(model.defined.len());
    for definition in &model.defined {
        let body = expression(&definition.expression, &defined)?;
        let whole = with_terms(body, &definition.linear);
        defined.push((Arc::new(whole.expr), whole.depth));
    }
    let mut bodies = Vec::with_capacity(model.constraints.len());
    for constraint in &model.constraints {
        bodies.push(NlBody::Tree(
            expression(&constraint.expression, &defined)?.expr,
        ));
    }
    let objective = model.objectives.first();
    let body = match objective {
        Some(objective) => expression(&objective.expression, &defined)?.expr,
        None => Expr::Const(0.0),
    };
    let minimize = model.sense() == Sense::Minimize;
    // pounce's multipliers belong to the minimization of ±f, L = ±f + λᵀg.
    let sign = if minimize { -1.0 } else { 1.0 };
    let constraints = &model.constraints;
    let variables = &model.variables;
    Ok(NlProblem {
        n: variables.len(),
        m: constraints.len(),
        num_obj: 1,
        minimize,
        obj_nonlinear: NlBody::Tree(body),
        obj_linear: objective.map(|o| nonzero(&o.linear)).unwrap_or_default(),
        obj_constant: 0.0,
        con_nonlinear: bodies,
        con_linear: constraints.iter().map(|c| nonzero(&c.linear)).collect(),
        x_l: variables.iter().map(|v| bound(v.lower)).collect(),
        x_u: variables.iter().map(|v| bound(v.upper)).collect(),
        g_l: constraints.iter().map(|c| bound(c.lower)).collect(),
        g_u: constraints.iter().map(|c| bound(c.upper)).collect(),
        x0: variables.iter().map(|v| v.start).collect(),
        lambda0: constraints.iter().map(|c| sign * c.dual_start).collect(),
        suffixes: suffixes(model),
        ampl_options: Vec::new(),
        nl_counts: None,
        n_discrete: None,
        imported_funcs: Vec::new(),
        var_names: Vec::new(),
        con_names: Vec::new(),
        src: None,
        cse_bodies: Vec::new(),
    })
}

fn bound(bound: f64) -> f64 {
    bound.clamp(-INFINITY, INFINITY)
}

fn nonzero(terms: &Terms) -> Vec<(usize, f64)> {
    terms.iter().copied().filter(|term| term.1 != 0.0).collect()
}

fn unsupported(what: &str) -> SolveError {
    SolveError::Unsupported {
        what: what.to_owned(),
    }
}

/// The suffixes that pounce knows: initial multipliers of the bounds and
/// scaling factors.
fn suffixes(model: &NlModel) -> NlSuffixes {
    let mut suffixes = NlSuffixes::default();
    let [n, m] = [model.variables.len(), model.constraints.len()];
    for suffix in &model.suffixes {
        let (all, length) = match suffix.target {
            SuffixTarget::Variables => (&mut suffixes.var_real, n),
            SuffixTarget::Constraints => (&mut suffixes.con_real, m),
            SuffixTarget::Objectives => (&mut suffixes.obj_real, 1),
            SuffixTarget::Problem => continue,
        };
        let known = ["ipopt_zL_in", "ipopt_zU_in", "scaling_factor"];
        if known.contains(&suffix.name.as_str()) {
            let mut values = vec![0.0; length];
            for &(index, value) in suffix.values.iter().filter(|value| value.0 < length) {
                values[index] = value;
            }
            all.insert(suffix.name.clone(), values);
        }
    }
    suffixes
}

/// `terms + body`.
fn with_terms(body: Part, terms: &Terms) -> Part {
    let terms = nonzero(terms).into_iter().map(|(variable, factor)| {
        let factor = Box::new(Expr::Const(factor));
        Expr::Binary(BinOp::Mul, factor, Box::new(Expr::Var(variable)))
    });
    let mut sum: Vec<Expr> = terms.collect();
    if sum.is_empty() {
        return body;
    }
    match body.expr {
        Expr::Const(0.0) => {}
        Expr::Sum(rest) => sum.extend(rest),
        other => sum.push(other),
    }
    Part {
        expr: Expr::Sum(sum),
        // A term under a sum is three deep.
        depth: (body.depth + 1).max(3),
    }
}

fn expression(expression: &Expression, defined: &[(Arc<Expr>, usize)]) -> Result<Part, SolveError> {
    expression.fold(|node, arguments| {
        let arguments: Vec<Part> = arguments.collect();
        let dissolves = matches!(node, Node::Operation(Operator::Add | Operator::Sum, _));
        let depth = |part: &Part| match part.expr {
            Expr::Sum(_) if dissolves => part.depth - 1,
            _ => part.depth,
        };
        let deepest = arguments.iter().map(depth).max().unwrap_or(0);
        let (expr, levels) = match node {
            Node::Number(number) => (Expr::Const(*number), 1),
            Node::Variable(index) => (Expr::Var(*index), 1),
            Node::Defined(index) => {
                let (body, depth) = &defined[*index];
                (Expr::Cse(Arc::clone(body)), depth + 1)
            }
            Node::PiecewiseLinear(function) => {
                let argument = arguments.into_iter().map(|part| part.expr).next();
                let argument = argument.unwrap_or(Expr::Const(0.0));
                piecewise_linear(function, argument)
            }
            Node::Operation(..) if dissolves => (sum(arguments), 1),
            Node::Operation(operator, _) => {
                operation(*operator, arguments.into_iter().map(|part| part.expr))?
            }
        };
        let depth = deepest + levels;
        if depth > MAX_DEPTH {
            return Err(SolveError::TooDeep {
                depth,
                limit: MAX_DEPTH,
            });
        }
        Ok(Part { expr, depth })
    })
}

/// The sum of all, with sums among them dissolved: the longest takes up the
/// others, so that a chain costs no more than its terms.
fn sum(parts: Vec<Part>) -> Expr {
    let mut longest: Vec<Expr> = Vec::new();
    let mut rest: Vec<Expr> = Vec::new();
    for part in parts {
        match part.expr {
            Expr::Sum(mut terms) => {
                if terms.len() > longest.len() {
                    std::mem::swap(&mut terms, &mut longest);
                }
                rest.extend(terms);
            }
            other => rest.push(other),
        }
    }
    longest.extend(rest);
    match longest.len() {
        0 => Expr::Const(0.0),
        1 => longest.remove(0),
        _ => Expr::Sum(longest),
    }
}

/// An operation and how many levels it puts above its arguments.
fn operation(
    operator: Operator,
    arguments: impl ExactSizeIterator<Item = Expr>,
) -> Result<(Expr, usize), SolveError> {
    let count = arguments.len();
    let mut arguments = arguments.map(Box::new);
    // The reader and `Expression::operation` make sure of their number.
    let mut next = || {
        arguments
            .next()
            .unwrap_or_else(|| Box::new(Expr::Const(0.0)))
    };
    let zero = || Box::new(Expr::Const(0.0));
    let unary = |operator, a| (Expr::Unary(operator, a), 1);
    let (expr, levels) = match operator {
        Operator::Subtract => (Expr::Binary(BinOp::Sub, next(), next()), 1),
        Operator::Multiply => (Expr::Binary(BinOp::Mul, next(), next()), 1),
        Operator::Divide => (Expr::Binary(BinOp::Div, next(), next()), 1),
        Operator::Power | Operator::PowerOfConstant | Operator::ConstantToPower => {
            (Expr::Binary(BinOp::Pow, next(), next()), 1)
        }
        Operator::Square => {
            let two = Box::new(Expr::Const(2.0));
            (Expr::Binary(BinOp::Pow, next(), two), 1)
        }
        Operator::Atan2 => (Expr::Binary(BinOp::Atan2, next(), next()), 1),
        Operator::Less => {
            let difference = Expr::Binary(BinOp::Sub, next(), next());
            (Expr::MaxList(vec![difference, Expr::Const(0.0)]), 2)
        }
        Operator::Minimum => (Expr::MinList(arguments.map(|a| *a).collect()), 1),
        Operator::Maximum => (Expr::MaxList(arguments.map(|a| *a).collect()), 1),
        Operator::Absolute => unary(UnaryOp::Abs, next()),
        Operator::Negate => unary(UnaryOp::Neg, next()),
        Operator::SquareRoot => unary(UnaryOp::Sqrt, next()),
        Operator::Log => unary(UnaryOp::Log, next()),
        Operator::Log10 => unary(UnaryOp::Log10, next()),
        Operator::Exp => unary(UnaryOp::Exp, next()),
        Operator::Sin => unary(UnaryOp::Sin, next()),
        Operator::Cos => unary(UnaryOp::Cos, next()),
        Operator::Tan => unary(UnaryOp::Tan, next()),
        Operator::Asin => unary(UnaryOp::Asin, next()),
        Operator::Acos => unary(UnaryOp::Acos, next()),
        Operator::Atan => unary(UnaryOp::Atan, next()),
        Operator::Sinh => unary(UnaryOp::Sinh, next()),
        Operator::Cosh => unary(UnaryOp::Cosh, next()),
        Operator::Tanh => unary(UnaryOp::Tanh, next()),
        Operator::Asinh => unary(UnaryOp::Asinh, next()),
        Operator::Acosh => unary(UnaryOp::Acosh, next()),
        Operator::Atanh => unary(UnaryOp::Atanh, next()),
        Operator::LessThan => (Expr::Compare(CmpOp::Lt, next(), next()), 1),
        Operator::LessOrEqual => (Expr::Compare(CmpOp::Le, next(), next()), 1),
        Operator::Equal => (Expr::Compare(CmpOp::Eq, next(), next()), 1),
        Operator::GreaterOrEqual => (Expr::Compare(CmpOp::Ge, next(), next()), 1),
        Operator::GreaterThan => (Expr::Compare(CmpOp::Gt, next(), next()), 1),
        Operator::NotEqual => (Expr::Compare(CmpOp::Ne, next(), next()), 1),
        Operator::Not => (Expr::Not(next()), 1),
        Operator::And => (Expr::And(next(), next()), 1),
        Operator::Or => (Expr::Or(next(), next()), 1),
        Operator::ForAll => {
            let first = Expr::Const(1.0);
            (
                arguments.fold(first, |all, a| Expr::And(Box::new(all), a)),
                count + 1,
            )
        }
        Operator::Exists => {
            let first = Expr::Const(0.0);
            (
                arguments.fold(first, |any, a| Expr::Or(Box::new(any), a)),
                count + 1,
            )
        }
        Operator::IfAndOnlyIf => {
            let (a, b) = (Expr::Not(next()), Expr::Not(next()));
            (Expr::Compare(CmpOp::Eq, Box::new(a), Box::new(b)), 2)
        }
        Operator::If | Operator::Implication => {
            // Only what is the number 0 is false.
            let cond = Box::new(Expr::Compare(CmpOp::Ne, next(), zero()));
            let (then_, else_) = (next(), next());
            (Expr::Cond { cond, then_, else_ }, 2)
        }
        other => {
            return Err(unsupported(&format!(
                "the discontinuous operator {other:?} is"
            )));
        }
    };
    Ok((expr, levels))
}

/// A tree of decisions between the pieces, and its levels.
fn piecewise_linear(function: &PiecewiseLinear, argument: Expr) -> (Expr, usize) {
    let argument = Arc::new(argument);
    let expr = pieces(&function.lines(), &function.breakpoints, &argument);
    // Levels of a balanced tree, each a comparison; then slope·x + offset.
    let levels = function.slopes.len().ilog2() as usize + 1;
    (expr, levels + 4)
}

fn pieces(lines: &[(f64, f64)], breakpoints: &[f64], argument: &Arc<Expr>) -> Expr {
    let x = || Box::new(Expr::Cse(Arc::clone(argument)));
    let number = |value| Box::new(Expr::Const(value));
    if let [(slope, offset)] = lines {
        let product = Expr::Binary(BinOp::Mul, number(*slope), x());
        return Expr::Binary(BinOp::Add, Box::new(product), number(*offset));
    }
    let middle = lines.len() / 2;
    let (left, right) = lines.split_at(middle);
    Expr::Cond {
        cond: Box::new(Expr::Compare(
            CmpOp::Le,
            x(),
            number(breakpoints[middle - 1]),
        )),
        then_: Box::new(pieces(left, &breakpoints[..middle - 1], argument)),
        else_: Box::new(pieces(right, &breakpoints[middle..], argument)),
    }
}

#[cfg(test)]
mod tests {
    use optwasm_model::nl;
    use pounce_nl::nl_reader::NlTnlp;
    use pounce_nlp::tnlp::TNLP;

    use super::problem;

    /// Both sides of what changes with the variables, and of the breakpoints.
    const POINTS: [[f64; 2]; 4] = [[0.3, 0.6], [0.7, 0.2], [0.5, 0.5], [0.9, 0.95]];

    #[test]
    fn pounce_computes_what_the_model_says() {
        let piecewise = "o64\n4\nn-1\nn0.2\nn2\nn0.4\nn3\nn0.6\nn-2\n";
        for expression in [
            "o0\nv0\nv1",
            "o1\nv0\nv1",
            "o2\nv0\nv1",
            "o3\nv0\nv1",
            "o5\nv0\nv1",
            "o5\nv0\nn3",
            "o6\nv0\nv1",
            "o11\n3\nv0\nv1\nn0.4",
            "o12\n3\nv0\nv1\nn0.4",
            "o15\no1\nv0\nv1",
            "o16\nv0",
            "o35\no22\nv0\nv1\nv0\no2\nn3\nv1",
            "o35\no21\no29\nv0\nn0.1\no34\no23\nv1\nv0\nn1\nn2",
            "o35\no20\no24\nv0\nv1\no30\nv0\nn0.3\nn1\nn2",
            "o35\no1\nv0\nv1\nn1\nn2",
            "o72\no28\nv0\nv1\no22\nv0\nn0.8\nn1",
            "o73\no22\nv0\nn0.4\no22\nv1\nn0.4",
            "o70\n2\no22\nv0\nn0.8\no22\nv1\nn0.8",
            "o71\n2\no22\nv0\nn0.4\no22\nv1\nn0.4",
            "o37\nv0",
            "o38\nv0",
            "o39\nv0",
            "o40\nv0",
            "o41\nv0",
            "o42\nv0",
            "o43\nv0",
            "o44\nv0",
            "o45\nv0",
            "o46\nv0",
            "o47\nv0",
            "o48\nv0\nv1",
            "o49\nv0",
            "o50\nv0",
            "o51\nv0",
            "o52\no0\nv0\nn1",
            "o53\nv0",
            "o54\n3\nv0\no54\n2\nv1\nn2\no2\nv0\nv1",
            "o54\n0",
            "o76\nv0\nn3",
            "o77\nv0",
            "o78\nn3\nv0",
            &format!("{piecewise}v0"),
            &format!("o2\nv1\n{piecewise}o1\nv0\nv1"),
            "o2\nv2\nv2",
        ] {
            let text = format!(
                "g3 1 1 0\n2 0 1\n0 1\n0 0\n2 2 2\n0 0\n0 0\n0 0\n0 0\n1 0 0 0 0\n\
                 V2 2 0\n0 2\n1 0\no41\nv1\nO0 1\n{expression}\nG0 1\n1 0.5\nb\n3\n3\n"
            );
            let model = nl::read(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
            let converted = problem(&model).unwrap_or_else(|e| panic!("{e}: {text}"));
            let mut evaluator = NlTnlp::try_new(converted).unwrap();
            for x in POINTS {
                // pounce minimizes the negative of what is to be maximized.
                let found = -evaluator.eval_f(&x, true).unwrap();
                let expected = model.objective_at(&x);
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{expression:?} at {x:?}: {found}"
                );
            }
        }
    }
}
