//! Pictures of a search, as SVG that needs nothing beside it.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;
use thiserror::Error;

use crate::observations::BudgetKey;
use crate::{Ranking, Record, rankings};

/// Width and height in pixels: fits a page, and a screen twice.
const SIZE: (u32, u32) = (800, 500);

/// The colours of Okabe and Ito, which the colour-blind tell apart; again from the first if there
/// are more budgets.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// What a best loss is drawn against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// The number of evaluations told, at all budgets together.
    Evaluations,
    /// The seconds since the first evaluation was asked for.
    Seconds,
}

/// The best loss so far at one budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The budget.
    pub budget: f64,
    /// Each improvement: when, and the loss from then on.
    pub points: Vec<(f64, f64)>,
}

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    /// There is nothing to draw: no result that did not crash, or no configuration that was
    /// evaluated with two budgets.
    #[error("there is nothing to draw: {0}")]
    Nothing(&'static str),
    /// The picture could not be laid out.
    #[error("cannot draw: {0}")]
    Drawing(String),
}

/// The best loss at each budget in the course of the search, the least budget first. Records count
/// in the order in which they stand, or for [`Against::Seconds`] in that of their times.
pub fn convergence(records: &[Record], against: Against) -> Vec<Curve> {
    let begin = records.iter().map(|record| record.submitted);
    let begin = begin.fold(f64::INFINITY, f64::min);
    let mut placed: Vec<(f64, &Record)> = records
        .iter()
        .enumerate()
        .map(|(index, record)| match against {
            Against::Evaluations => (index as f64 + 1.0, record),
            Against::Seconds => (record.finished - begin, record),
        })
        .collect();
    placed.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let mut curves: BTreeMap<BudgetKey, Curve> = BTreeMap::new();
    for (place, record) in placed {
        let Some(loss) = record.loss else { continue };
        let budget = record.budget;
        let curve = curves.entry(BudgetKey::new(budget)).or_insert(Curve {
            budget,
            points: Vec::new(),
        });
        if curve.points.last().is_none_or(|(_, best)| loss < *best) {
            curve.points.push((place, loss));
        }
    }
    curves.into_values().collect()
}

/// The curves of [`convergence`] as a picture.
///
/// # Errors
/// No record has a loss.
pub fn convergence_svg(records: &[Record], against: Against) -> Result<String, ReportError> {
    let curves = convergence(records, against);
    let points = || curves.iter().flat_map(|curve| &curve.points);
    if points().next().is_none() {
        return Err(ReportError::Nothing("no evaluation returned a loss"));
    }
    let begin = records.iter().map(|record| record.submitted);
    let begin = begin.fold(f64::INFINITY, f64::min);
    let (end, what) = match against {
        Against::Evaluations => (records.len() as f64, "evaluations"),
        Against::Seconds => {
            let ends = records.iter().map(|record| record.finished - begin);
            (ends.fold(0.0, f64::max), "seconds")
        }
    };
    let low = points()
        .map(|(_, loss)| *loss)
        .fold(f64::INFINITY, f64::min);
    let high = points()
        .map(|(_, loss)| *loss)
        .fold(f64::NEG_INFINITY, f64::max);
    let losses = widened(low, high);
    draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Best loss per budget", ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(widened(0.0, end), losses)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_desc(what)
            .y_desc("loss")
            .x_label_formatter(&|place| short(*place))
            .y_label_formatter(&|loss| short(*loss))
            .draw()?;
        for (index, curve) in curves.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            chart
                .draw_series(LineSeries::new(
                    steps(&curve.points, end),
                    colour.stroke_width(2),
                ))?
                .label(format!("budget {}", short(curve.budget)))
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()
    })
}

/// The ranks of configurations between successive budgets ([`rankings`]) as a picture: a line for
/// each configuration, and Spearman's coefficient above.
///
/// # Errors
/// No configuration was evaluated with two successive budgets.
pub fn ranking_svg(records: &[Record]) -> Result<String, ReportError> {
    let mut all = rankings(records);
    all.retain(|ranking| !ranking.configs.is_empty());
    if all.is_empty() {
        let why = "no configuration was evaluated with two successive budgets";
        return Err(ReportError::Nothing(why));
    }
    let panels = all.len();
    draw(|area| {
        let area = area.titled("Ranks at successive budgets", ("sans-serif", 18))?;
        for (panel, ranking) in area.split_evenly((1, panels)).iter().zip(&all) {
            draw_ranking(panel, ranking)?;
        }
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_ranking<'a>(panel: &Area<'a>, ranking: &Ranking) -> Drawn<'a> {
    let last = ranking.configs.len() as f64;
    let spearman = ranking
        .spearman
        .map_or("-".to_owned(), |spearman| format!("{spearman:.3}"));
    let (low, high) = (short(ranking.low), short(ranking.high));
    let mut chart = ChartBuilder::on(panel)
        .caption(format!("Spearman {spearman}"), ("sans-serif", 14))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(40)
        // The best rank is on top.
        .build_cartesian_2d(-0.1..1.1, (last + 0.5)..0.5)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_labels(0)
        .x_desc(format!("budget {low} (left) and {high} (right)"))
        .y_desc("rank")
        .y_label_formatter(&|rank| format!("{rank:.0}"))
        .draw()?;
    let colour = COLOURS[0].mix(0.6);
    chart.draw_series(ranking.configs.iter().map(|ranked| {
        let ends = [(0.0, ranked.low), (1.0, ranked.high)];
        PathElement::new(ends, colour.stroke_width(2))
    }))?;
    Ok(())
}

fn draw<'a>(picture: impl FnOnce(&Area<'_>) -> Drawn<'a>) -> Result<String, ReportError> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).and_then(|()| picture(&area));
    let drawn = drawn.and_then(|()| area.present());
    drawn.map_err(|error| ReportError::Drawing(error.to_string()))?;
    drop(area);
    Ok(svg)
}

/// The corners of a curve that keeps each loss until the next improvement, and the last to the end.
fn steps(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut corners = Vec::with_capacity(2 * points.len() + 1);
    let mut loss = None;
    for &(place, better) in points {
        if let Some(loss) = loss {
            corners.push((place, loss));
        }
        corners.push((place, better));
        loss = Some(better);
    }
    corners.extend(loss.map(|loss| (end, loss)));
    corners
}

/// The range with a twentieth to spare, and never empty or beyond what floats hold.
fn widened(low: f64, high: f64) -> std::ops::Range<f64> {
    let spare = (high / 20.0 - low / 20.0).max(high.abs().max(1.0) * 1e-6);
    (low - spare).max(f64::MIN / 4.0)..(high + spare).min(f64::MAX / 4.0)
}

/// Four digits of a number: more than anybody reads off a picture.
fn short(number: f64) -> String {
    let digits = format!("{number:.3e}");
    // What was just written is a number again.
    let rounded: f64 = digits.parse().unwrap_or(number);
    if rounded == 0.0 || (1e-4..1e7).contains(&rounded.abs()) {
        format!("{rounded}")
    } else {
        format!("{rounded:e}")
    }
}
