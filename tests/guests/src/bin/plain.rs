//! A WASI program that knows nothing of optwasm.
//!
//! Writes its arguments (`arg VALUE`), its environment (`env NAME=VALUE`, sorted) and the length of
//! stdin (`stdin LENGTH`) to stdout, one a line, then stdin itself. Exits with the code that the
//! environment variable `EXIT` names, after a line on stderr where that is not 0.

use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;

    let mut out = std::io::stdout().lock();
    for argument in std::env::args() {
        writeln!(out, "arg {argument}")?;
    }
    let mut environment: Vec<_> = std::env::vars().collect();
    environment.sort();
    for (name, value) in environment {
        writeln!(out, "env {name}={value}")?;
    }
    writeln!(out, "stdin {}", input.len())?;
    out.write_all(&input)?;
    out.flush()?;

    let code = std::env::var("EXIT")
        .ok()
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    if code != 0 {
        eprintln!("leaving with code {code}");
    }
    Ok(ExitCode::from(code))
}
