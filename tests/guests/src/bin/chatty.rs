//! Says as much as its input tells: logs, progress, incumbents, checkpoints, prints.

use std::io::Write;

use optwasm_guest::log;
use optwasm_test_guests::Chatty;

/// Returns the number of things said.
#[optwasm_guest::job]
fn compute(say: Chatty) -> std::io::Result<u32> {
    for number in 0..say.logs {
        log::info!("message {number}");
    }
    for done in 1..=say.progress {
        optwasm_guest::progress(f64::from(done), f64::from(say.progress));
    }
    for objective in (1..=say.incumbents).rev().map(f64::from) {
        let first = objective == f64::from(say.incumbents);
        optwasm_guest::incumbent(objective, (!first).then_some(0.0), &[objective]);
    }
    for state in 1..=say.checkpoints {
        optwasm_guest::checkpoint(&state);
    }
    let text = vec![b'x'; say.print as usize];
    std::io::stdout().write_all(&text)?;
    std::io::stdout().flush()?;
    std::io::stderr().write_all(&text)?;
    assert!(
        !say.panic,
        "told to panic after {} checkpoints",
        say.checkpoints
    );
    Ok(say.logs + say.progress + say.incumbents + say.checkpoints)
}
