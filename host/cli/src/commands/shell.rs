//! `optwasm completions` and `man`.

use std::io::Write;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit::{Exit, Failure};

pub fn completions(args: CompletionsArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "optwasm", &mut script);
    write_all(&script)
}

pub fn man(args: ManArgs) -> Result<Exit, Failure> {
    let command = Cli::command();
    let failed = |error| Failure::new(Exit::Storage, format!("manual: {error}"));
    if let Some(dir) = args.out_dir {
        std::fs::create_dir_all(&dir).map_err(failed)?;
        clap_mangen::generate_to(command, &dir).map_err(failed)?;
        return Ok(Exit::Success);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(failed)?;
    write_all(&page)
}

fn write_all(bytes: &[u8]) -> Result<Exit, Failure> {
    std::io::stdout()
        .write_all(bytes)
        .map_err(|error| Failure::new(Exit::Storage, format!("stdout: {error}")))?;
    Ok(Exit::Success)
}
