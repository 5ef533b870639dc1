//! Whole cases, from file to solution, against published answers and against
//! the equations, computed anew.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Options, Solution, Status};
use optwasm_plugin_opf::{Formulation, Settings, SolveError, matpower, solve, solve_network};

const CASE5: &str = include_str!("data/pglib_opf_case5_pjm.m");
const CASE14: &str = include_str!("data/pglib_opf_case14_ieee.m");
const SMALL: &str = include_str!("data/small.m");

fn attempt(text: &str, options: &[&str]) -> Result<Solution, SolveError> {
    solve(text.as_bytes(), Options::parse(options).unwrap())
}

#[track_caller]
fn optimum(text: &str, options: &[&str]) -> Solution {
    let solution = attempt(text, options).unwrap();
    assert_eq!(solution.status, Status::Optimal, "{:?}", solution.message);
    solution
}

#[track_caller]
fn assert_relative(found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs() / expected.abs();
    assert!(error < tolerance, "found {found}, expected {expected}");
}

#[test]
fn published_optima() {
    // DC, AC and the gap of SOC in per cent, from BASELINE.md of PGLib-OPF
    // v23.07, which has five digits.
    for (text, dc, ac, gap) in [
        (CASE5, 1.7480e4, 1.7552e4, 14.55),
        (CASE14, 2.0515e3, 2.1781e3, 0.11),
    ] {
        let objective = |formulation: &str| {
            let option = format!("formulation={formulation}");
            optimum(text, &[&option]).objective.unwrap()
        };
        assert_relative(objective("dc"), dc, 3e-5);
        assert_relative(objective("ac"), ac, 3e-5);
        assert_relative(objective("soc"), ac * (1.0 - gap / 100.0), 2.5e-4);
    }
}

#[test]
fn a_winter_weekday() {
    // Hourly loads in per cent of the peak, IEEE Reliability Test System 1996;
    // the optima are Ipopt's.
    let hours = [
        (67, 1429.074, 1374.523),
        (60, 1274.390, 1230.916),
        (86, 1856.163, 1764.313),
        (96, 2085.411, 1969.465),
        (100, 2178.080, 2051.526),
        (73, 1562.786, 1497.614),
    ];
    for (load, ac, dc) in hours {
        let scale = format!("load_scale={}", f64::from(load) / 100.0);
        assert_relative(optimum(CASE14, &[&scale]).objective.unwrap(), ac, 1e-6);
        let linear = optimum(CASE14, &[&scale, "formulation=dc"]);
        assert_relative(linear.objective.unwrap(), dc, 1e-6);
    }
}

/// Complex numbers, as far as power flow needs them.
#[derive(Clone, Copy)]
struct Complex(f64, f64);

impl Complex {
    fn polar(magnitude: f64, degrees: f64) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Complex(magnitude * cos, magnitude * sin)
    }
    fn plus(self, other: Self) -> Self {
        Complex(self.0 + other.0, self.1 + other.1)
    }
    fn times(self, other: Self) -> Self {
        Complex(
            self.0 * other.0 - self.1 * other.1,
            self.0 * other.1 + self.1 * other.0,
        )
    }
    fn over(self, other: Self) -> Self {
        let squared = other.0 * other.0 + other.1 * other.1;
        let Complex(re, im) = self.times(other.conjugate());
        Complex(re / squared, im / squared)
    }
    fn conjugate(self) -> Self {
        Complex(self.0, -self.1)
    }
}

#[test]
fn the_flows_are_those_of_kirchhoff_and_ohm() {
    let solution = optimum(SMALL, &[]);
    let at = |name: String| solution.value(&name).unwrap_or_else(|| panic!("{name}"));
    let voltage = |bus: u32| Complex::polar(at(format!("vm[{bus}]")), at(format!("va[{bus}]")));
    assert!((at("va[10]".into()) - 5.0).abs() < 1e-9);

    // number, from, to, r, x, b, tap, shift, as in the file.
    let branches = [
        (1, 10, 20, 0.01, 0.08, 0.04, 1.0, 0.0),
        (2, 20, 10, 0.02, 0.10, 0.02, 1.0, 0.0),
        (3, 10, 30, 0.01, 0.09, 0.03, 0.97, -4.0),
        (4, 40, 30, 0.02, 0.12, 0.0, 1.03, 2.0),
        (5, 20, 40, 0.03, 0.15, 0.05, 1.0, 0.0),
    ];
    // Power that leaves each bus, in MVA.
    let mut out = [
        (10, 0.0, 0.0),
        (20, 0.0, 0.0),
        (30, 0.0, 0.0),
        (40, 0.0, 0.0),
    ];
    for (number, from, to, r, x, b, tap, shift) in branches {
        let behind = voltage(from).over(Complex::polar(tap, shift));
        let series = Complex(1.0, 0.0).over(Complex(r, x));
        let charging = Complex(0.0, b / 2.0);
        let minus = |v: Complex| Complex(-v.0, -v.1);
        let power = |near: Complex, far: Complex| {
            let current = near
                .plus(minus(far))
                .times(series)
                .plus(near.times(charging));
            near.times(current.conjugate())
        };
        let ends = [
            ('f', from, power(behind, voltage(to))),
            ('t', to, power(voltage(to), behind)),
        ];
        for (end, bus, Complex(p, q)) in ends {
            let (found_p, found_q) = (
                at(format!("p{end}[{number}]")),
                at(format!("q{end}[{number}]")),
            );
            assert!(
                (found_p - 50.0 * p).abs() < 1e-5,
                "p{end}[{number}]: {found_p}, {}",
                50.0 * p
            );
            assert!(
                (found_q - 50.0 * q).abs() < 1e-5,
                "q{end}[{number}]: {found_q}, {}",
                50.0 * q
            );
            let sum = out.iter_mut().find(|(b, ..)| *b == bus).unwrap();
            sum.1 += found_p;
            sum.2 += found_q;
            if ![2].contains(&number) {
                let rating = if number == 1 { 90.0 } else { 60.0 };
                assert!(found_p.hypot(found_q) < rating + 1e-4);
            }
        }
    }
    // Load, shunt and generators at each bus.
    for ((bus, p, q), (pd, qd, gs, bs, generators)) in out.into_iter().zip([
        (0.0, 0.0, 0.0, 0.0, &[1][..]),
        (60.0, 20.0, 2.0, 10.0, &[]),
        (40.0, 10.0, 0.0, 0.0, &[3]),
        (30.0, 12.0, 0.0, -3.0, &[5]),
    ]) {
        let squared = at(format!("vm[{bus}]")).powi(2);
        let pg: f64 = generators.iter().map(|g| at(format!("pg[{g}]"))).sum();
        let qg: f64 = generators.iter().map(|g| at(format!("qg[{g}]"))).sum();
        assert!(
            (pg - pd - gs * squared - p).abs() < 1e-5,
            "real power at {bus}"
        );
        assert!(
            (qg - qd + bs * squared - q).abs() < 1e-5,
            "reactive power at {bus}"
        );
    }
    let cost = |p: f64| 0.05 * p * p + 10.0 * p + 5.0;
    let [p1, p3, p5] = [1, 3, 5].map(|g| at(format!("pg[{g}]")));
    let total = cost(p1) + 150.0 + 25.0 * (p3 - 10.0) + 35.0 * p5;
    assert_relative(solution.objective.unwrap(), total, 1e-7);
    // What is out of service has no values.
    for name in ["va[50]", "pg[2]", "pg[4]", "pf[6]", "pf[7]"] {
        assert_eq!(solution.value(name), None);
    }
}

#[test]
fn the_relaxation_is_a_lower_bound_and_knows_phase_shifts() {
    let exact = optimum(SMALL, &[]);
    let relaxed = optimum(SMALL, &["formulation=soc"]);
    let (upper, lower) = (exact.objective.unwrap(), relaxed.objective.unwrap());
    assert!(
        lower < upper + 1e-6 * upper && lower > 0.99 * upper,
        "{lower} {upper}"
    );
    // Of a network without loops the relaxation is exact here.
    let radial = SMALL
        .replace(
            "20 10  0.02 0.10 0.02  0  0 0  0    0   1",
            "20 10  0.02 0.10 0.02  0  0 0  0    0   0",
        )
        .replace(
            "20 40  0.03 0.15 0.05  60 0 0  0    0   1",
            "20 40  0.03 0.15 0.05  60 0 0  0    0   0",
        );
    let exact = optimum(&radial, &[]);
    let relaxed = optimum(&radial, &["formulation=soc"]);
    assert_relative(relaxed.objective.unwrap(), exact.objective.unwrap(), 1e-5);
    for name in ["pf[3]", "qf[3]", "pt[4]", "qt[4]", "vm[40]", "pg[3]"] {
        let (found, expected) = (relaxed.value(name).unwrap(), exact.value(name).unwrap());
        assert!(
            (found - expected).abs() < 0.05,
            "{name}: {found} {expected}"
        );
    }
}

#[test]
fn dc_flows_follow_angles() {
    let solution = optimum(SMALL, &["formulation=dc"]);
    let at = |name: &str| solution.value(name).unwrap();
    let b = 0.08 / (0.01 * 0.01 + 0.08 * 0.08);
    let flow = 50.0 * b * (at("va[10]") - at("va[20]")).to_radians();
    assert!((at("pf[1]") - flow).abs() < 1e-5);
    assert!((at("pt[1]") + flow).abs() < 1e-5);
    let balance = at("pg[1]") + at("pg[3]") + at("pg[5]") - 130.0 - 2.0;
    assert!(balance.abs() < 1e-5, "{balance}");
    assert_eq!(solution.value("vm[10]"), None);
    assert_eq!(solution.value("qg[1]"), None);
}

#[test]
fn prices_are_rates_of_the_objective() {
    for formulation in [Formulation::Ac, Formulation::Soc, Formulation::Dc] {
        let settings = Settings {
            formulation,
            load_scale: 1.0,
            tolerance: 1e-10,
        };
        let network = matpower::read(SMALL.as_bytes()).unwrap();
        let solution = solve_network(network.clone(), &settings).unwrap();
        let price = |name: &str| {
            let index = solution.constraints.iter().position(|c| c == name)?;
            Some(solution.duals[index])
        };
        // MW or MVAr more and less; large enough for what SOC is exact to.
        const STEP: f64 = 0.5;
        let rate = |change: &dyn Fn(&mut optwasm_plugin_opf::Bus, f64)| {
            let objective = |step: f64| {
                let mut network = network.clone();
                change(&mut network.buses[3], step / network.base);
                solve_network(network, &settings)
                    .unwrap()
                    .objective
                    .unwrap()
            };
            (objective(STEP) - objective(-STEP)) / (2.0 * STEP)
        };
        let real = rate(&|bus, step| bus.real_load += step);
        assert_relative(price("p_balance[40]").unwrap(), real, 2e-3);
        if formulation == Formulation::Dc {
            assert_eq!(price("q_balance[40]"), None);
        } else {
            let reactive = rate(&|bus, step| bus.reactive_load += step);
            let found = price("q_balance[40]").unwrap();
            assert!((found - reactive).abs() < 0.01, "{found} {reactive}");
        }
    }
}

#[test]
fn what_is_out_of_service_does_not_matter() {
    let mut without = String::new();
    let mut columns = SMALL.lines().filter(|line| {
        ![
            "out of service",
            "isolated bus",
            "  2 0 0 3  0 1 0       0;",
        ]
        .iter()
        .any(|mark| line.contains(mark))
    });
    for line in columns.by_ref() {
        let line = line.replace(" 50 4 900 0 0 0 1 1 0 110 1 1.05 0.95;", "");
        without.push_str(&line);
        without.push('\n');
    }
    for formulation in ["ac", "soc", "dc"] {
        let option = format!("formulation={formulation}");
        let all = optimum(SMALL, &[&option]);
        let some = optimum(&without, &[&option]);
        assert_relative(some.objective.unwrap(), all.objective.unwrap(), 1e-9);
        assert_eq!(some.value("pg[2]"), all.value("pg[3]"));
    }
}

#[test]
fn piecewise_linear_costs() {
    // Between the two lines the cheaper generator stops where they cross.
    let bent = SMALL
        .replace(
            "1 0 0 2  10 150  70 1650;",
            "1 0 0 3  10 20  35 45  70 3545;",
        )
        .replace("  2 0 0 3  0.05 10 5   0;", "  2 0 0 3  0.05 10 5 0 0 0;");
    let bent = bent
        .replace("  2 0 0 3  0 1 0       0;", "  2 0 0 3  0 1 0 0 0 0;")
        .replace("  2 0 0 2  35 0  0     0;", "  2 0 0 2  35 0 0 0 0 0;");
    for formulation in ["ac", "soc", "dc"] {
        let option = format!("formulation={formulation}");
        let solution = optimum(&bent, &[&option]);
        let power = solution.value("pg[3]").unwrap();
        assert!((power - 35.0).abs() < 1e-3, "{formulation}: {power}");
        let concave = bent.replace("35 45", "35 2000");
        let error = attempt(&concave, &[&option]).unwrap_err().to_string();
        assert_eq!(error, "line 27: the cost of generator 3 is not convex");
    }
}

#[test]
fn polynomial_costs() {
    let cubic = SMALL.replace("2 0 0 3  0.05 10 5   0;", "2 0 0 4  0.001 0 10 5;");
    let solution = optimum(&cubic, &[]);
    let p = |g: u32| solution.value(&format!("pg[{g}]")).unwrap();
    let total =
        0.001 * p(1).powi(3) + 10.0 * p(1) + 5.0 + 150.0 + 25.0 * (p(3) - 10.0) + 35.0 * p(5);
    assert_relative(solution.objective.unwrap(), total, 1e-7);
    let error = attempt(&cubic, &["formulation=dc"])
        .unwrap_err()
        .to_string();
    let expected = "line 25: costs of degree 3 are, except with formulation ac, not supported";
    assert_eq!(error, expected);
    let concave = SMALL.replace("0.05 10 5", "-0.05 10 5");
    let error = attempt(&concave, &["formulation=soc"])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "line 25: the cost of generator 1 is not convex");
}

#[test]
fn impossible_cases_are_infeasible() {
    for formulation in ["ac", "soc", "dc"] {
        let option = format!("formulation={formulation}");
        let solution = attempt(CASE14, &["load_scale=3", &option]).unwrap();
        assert_eq!(solution.status, Status::Infeasible, "{formulation}");
        assert!(solution.values.is_empty());
        assert_eq!(solution.objective, None);
        if formulation == "ac" {
            assert!(solution.message.unwrap().starts_with("proved"));
        }
        let crossed = SMALL.replace("1 50 1  70   10;", "1 50 1  7   10;");
        let solution = attempt(&crossed, &[&option]).unwrap();
        assert_eq!(solution.status, Status::Infeasible);
        let message = solution.message.unwrap();
        let expected = "real power of generator 3: the lower bound is above the upper bound";
        assert_eq!(message, expected);
    }
}

#[test]
fn limits_that_bind() {
    // The rating of a branch, its angle, and the angles of all branches.
    let rating = (SMALL, "0.04  90 0 0", "0.04  33 0 0");
    let angle = (SMALL, "1.03 2   1  -20 25;", "1.03 2   1  -2.5 25;");
    let angles = (CASE14, "-30.0\t 30.0;", "-7.0\t 7.0;");
    for ((text, wide, narrow), formulation) in [
        (rating, "ac"),
        (rating, "soc"),
        (angle, "ac"),
        (angle, "dc"),
        (angles, "soc"),
    ] {
        assert!(text.contains(wide));
        let option = format!("formulation={formulation}");
        let objective = |text: &str| optimum(text, &[&option]).objective.unwrap();
        let (free, limited) = (objective(text), objective(&text.replace(wide, narrow)));
        assert!(
            limited > free * 1.001,
            "{narrow} {formulation}: {limited} {free}"
        );
    }
}

#[test]
fn unknown_options_and_files_are_refused() {
    let error = |text: &str, option: &str| attempt(text, &[option]).unwrap_err().to_string();
    assert_eq!(error(SMALL, "scale=2"), "there is no option `scale`");
    assert!(error(SMALL, "formulation=xy").contains("expected one of ac, soc, dc"));
    assert!(error(SMALL, "load_scale=-1").contains("expected a number from 0"));
    assert!(error("min x", "tol=1e-6").contains("expected a MATPOWER case file"));
}
