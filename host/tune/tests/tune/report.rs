//! Pictures.

use optwasm_tune::{
    Against, Outcome, Record, ReportError, convergence, convergence_svg, ranking_svg, rankings,
};

use crate::support::{floats, hyperband, moving_rosenbrock, random, run, told};
use optwasm_tune::Settings;

fn records() -> Vec<Record> {
    let settings = Settings::new(
        floats(&["x0", "x1"], -5.0, 10.0),
        hyperband(1.0, 100.0, 3),
        10,
    );
    let (_, entries) = run(settings, random(), |trial| {
        if trial.seed.is_multiple_of(11) {
            Outcome::Crashed("eleven".to_owned())
        } else {
            moving_rosenbrock(trial)
        }
    });
    let mut records = told(&entries);
    for (index, record) in records.iter_mut().enumerate() {
        record.submitted = 1000.0 + index as f64;
        record.finished = 1001.5 + index as f64;
    }
    records
}

#[test]
fn curves_fall_and_begin_with_the_first_result() {
    let records = records();
    let curves = convergence(&records, Against::Evaluations);
    let budgets: Vec<f64> = curves.iter().map(|curve| curve.budget).collect();
    assert_eq!(budgets.len(), 5);
    assert!(budgets.is_sorted());
    for curve in &curves {
        assert!(
            curve
                .points
                .is_sorted_by(|one, other| one.0 < other.0 && one.1 > other.1)
        );
        let of_budget = || {
            let all = records.iter().enumerate();
            all.filter(|(_, record)| record.budget == curve.budget && record.loss.is_some())
        };
        let (first, record) = of_budget().next().unwrap();
        assert_eq!(curve.points[0], (first as f64 + 1.0, record.loss.unwrap()));
        let best = of_budget().filter_map(|(_, record)| record.loss);
        assert_eq!(
            curve.points.last().unwrap().1,
            best.fold(f64::INFINITY, f64::min)
        );
    }
    let seconds = convergence(&records, Against::Seconds);
    assert_eq!(seconds[0].points[0].0, curves[0].points[0].0 - 1.0 + 1.5);
}

#[test]
fn pictures_are_svg_with_a_line_for_each_curve_and_configuration() {
    let records = records();
    for against in [Against::Evaluations, Against::Seconds] {
        let svg = convergence_svg(&records, against).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        for budget in ["1.235", "3.704", "11.11", "33.33", "100"] {
            assert!(
                svg.contains(&format!("budget {budget}\n")),
                "{budget}: {svg}"
            );
        }
        let curves = convergence(&records, against).len();
        // One in the picture and one in the legend.
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 2 * curves);
        assert_eq!(svg, convergence_svg(&records, against).unwrap());
    }
    let svg = ranking_svg(&records).unwrap();
    for ranking in rankings(&records) {
        assert!(
            ranking
                .spearman
                .is_some_and(|spearman| spearman.abs() <= 1.0)
        );
        assert!(svg.contains(&format!("Spearman {:.3}", ranking.spearman.unwrap())));
    }
    let lines: usize = rankings(&records)
        .iter()
        .map(|ranking| ranking.configs.len())
        .sum();
    assert_eq!(svg.matches("stroke-width=\"2\"").count(), lines);
}

#[test]
fn nothing_to_draw_is_said_and_odd_numbers_are_drawn() {
    assert!(matches!(
        convergence_svg(&[], Against::Seconds),
        Err(ReportError::Nothing(_))
    ));
    assert!(matches!(ranking_svg(&[]), Err(ReportError::Nothing(_))));
    let odd = [1e308, -1e308, 0.0, 1e-300, 5e-324];
    for one in odd {
        for other in odd {
            let mut records = records();
            records.truncate(2);
            records[0].loss = Some(one);
            records[1].loss = Some(other);
            records[1].finished = one;
            records[0].submitted = other;
            for against in [Against::Evaluations, Against::Seconds] {
                assert!(convergence_svg(&records, against).is_ok());
            }
            records[1].id = records[0].id;
            records[1].budget = 2.0 * records[0].budget;
            assert!(ranking_svg(&records).is_ok());
        }
    }
}
