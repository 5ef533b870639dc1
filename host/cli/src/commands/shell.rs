//! `optwasm completions`, `man` and `link`.

use std::io::Write;
use std::path::Path;

use clap::CommandFactory;

use crate::args::{Cli, CompletionsArgs, LinkArgs, ManArgs};
use crate::callers;
use crate::exit::{Exit, Failure};
use crate::output::print;

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

pub fn link(args: LinkArgs) -> Result<Exit, Failure> {
    let failed = |error| Failure::new(Exit::Storage, format!("{}: {error}", args.dir.display()));
    let program = std::env::current_exe().map_err(failed)?;
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    let names = if args.names.is_empty() {
        callers::NAMES.map(str::to_owned).to_vec()
    } else {
        args.names
    };
    for name in names {
        if name.contains('/') || name.starts_with('-') {
            return Err(Failure::usage(format!("`{name}` is no name for a program")));
        }
        let link = args.dir.join(&name);
        // A link to an earlier installation is replaced, a program of the same name is not.
        let is_ours = |target: &Path| {
            let name = target.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("optwasm")
        };
        let is_taken = match std::fs::read_link(&link) {
            Ok(target) => !is_ours(&target),
            Err(_) => link.exists(),
        };
        if is_taken {
            return Err(Failure::usage(format!(
                "{} exists and is no link to optwasm",
                link.display()
            )));
        }
        let draft = args.dir.join(format!(".{name}.{}", std::process::id()));
        std::os::unix::fs::symlink(&program, &draft).map_err(failed)?;
        std::fs::rename(&draft, &link).map_err(failed)?;
        print(link.display())?;
    }
    Ok(Exit::Success)
}

fn write_all(bytes: &[u8]) -> Result<Exit, Failure> {
    std::io::stdout()
        .write_all(bytes)
        .map_err(|error| Failure::new(Exit::Storage, format!("stdout: {error}")))?;
    Ok(Exit::Success)
}
