//! An objective of a search: a parabola that larger budgets see more clearly.

use std::time::Duration;

use optwasm_test_guests::{Evaluation, Loss};

/// (x - 0.3)² + 1/budget, after `sleep` milliseconds; panics where x is below `crash`.
#[optwasm_guest::job]
fn compute(evaluation: Evaluation) -> Loss {
    let Evaluation { config, budget, .. } = evaluation;
    assert!(config.x >= config.crash, "x is {}", config.x);
    if config.sleep > 0 {
        std::thread::sleep(Duration::from_millis(config.sleep));
    }
    Loss {
        loss: (config.x - 0.3).powi(2) + 1.0 / budget,
        info: evaluation.id,
    }
}
