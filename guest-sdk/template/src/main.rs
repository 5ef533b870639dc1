//! Minimizes a convex quadratic function within bounds, by projected gradient descent.

use optwasm_guest::log;
use serde::{Deserialize, Serialize};

/// Minimize ½ xᵀQx + cᵀx where lower ≤ x ≤ upper.
#[derive(Serialize, Deserialize)]
struct Problem {
    /// Q, symmetric and positive semidefinite, row by row: n·n numbers.
    #[serde(with = "optwasm_guest::array")]
    q: Vec<f64>,
    /// c, n numbers.
    #[serde(with = "optwasm_guest::array")]
    c: Vec<f64>,
    /// Lower bounds, n numbers.
    #[serde(with = "optwasm_guest::array")]
    lower: Vec<f64>,
    /// Upper bounds, n numbers.
    #[serde(with = "optwasm_guest::array")]
    upper: Vec<f64>,
    /// Most iterations to do.
    iterations: u32,
}

#[derive(Serialize, Deserialize)]
struct Solution {
    #[serde(with = "optwasm_guest::array")]
    x: Vec<f64>,
    objective: f64,
    iterations: u32,
}

#[optwasm_guest::job]
fn compute(problem: Problem) -> Result<Solution, String> {
    let Problem {
        q,
        c,
        lower,
        upper,
        iterations,
    } = problem;
    let n = c.len();
    if q.len() != n * n || lower.len() != n || upper.len() != n {
        return Err(format!(
            "{n} costs, but q has {} numbers and the bounds {} and {}",
            q.len(),
            lower.len(),
            upper.len()
        ));
    }
    if lower.iter().zip(&upper).any(|(low, high)| !(low <= high)) {
        return Err("a lower bound is above its upper bound".to_owned());
    }

    let rows = || q.chunks_exact(n.max(1));
    // The gradient changes no faster than the largest absolute row sum of Q (Gershgorin).
    let slope = rows()
        .map(|row| row.iter().map(|v| v.abs()).sum())
        .fold(1e-12, f64::max);
    let mut x: Vec<f64> = lower
        .iter()
        .zip(&upper)
        .map(|(low, high)| 0f64.clamp(*low, *high))
        .collect();
    let mut objective = 0.0;
    let mut done = 0;
    while done < iterations {
        let qx: Vec<f64> = rows().map(|row| dot(row, &x)).collect();
        objective = 0.5 * dot(&qx, &x) + dot(&c, &x);
        let mut moved = 0f64;
        for i in 0..n {
            let step = (x[i] - (qx[i] + c[i]) / slope).clamp(lower[i], upper[i]);
            moved = moved.max((step - x[i]).abs());
            x[i] = step;
        }
        done += 1;
        if done % 1000 == 0 {
            optwasm_guest::progress(f64::from(done), f64::from(iterations));
            optwasm_guest::incumbent(objective, None, &optwasm_guest::array::of(&x));
        }
        if moved < 1e-12 {
            break;
        }
    }
    log::info!("{done} iterations, objective {objective}");
    Ok(Solution {
        x,
        objective,
        iterations: done,
    })
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use optwasm_guest::mock::Host;

    fn problem(upper: f64) -> Problem {
        // (x - 1)² + (y - 2)², without the constant.
        Problem {
            q: vec![2.0, 0.0, 0.0, 2.0],
            c: vec![-2.0, -4.0],
            lower: vec![0.0, 0.0],
            upper: vec![upper, upper],
            iterations: 10_000,
        }
    }

    #[test]
    fn finds_the_minimum_within_the_bounds() {
        let free: Solution = Host::new().input(&problem(10.0)).run(main).output();
        assert!(
            (free.x[0] - 1.0).abs() < 1e-9 && (free.x[1] - 2.0).abs() < 1e-9,
            "{:?}",
            free.x
        );
        let bounded: Solution = Host::new().input(&problem(1.5)).run(main).output();
        assert!((bounded.x[1] - 1.5).abs() < 1e-9, "{:?}", bounded.x);
    }

    #[test]
    fn wrong_lengths_are_reported() {
        let wrong = Problem {
            c: vec![1.0],
            ..problem(1.0)
        };
        let run = Host::new().input(&wrong).run(main);
        assert!(run.failure().message.contains("q has 4 numbers"));
    }
}
