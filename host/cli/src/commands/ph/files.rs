//! Files of stochastic programs.

use std::io;
use std::path::{Path, PathBuf};

use optwasm_ph::{Problem, read_smps, read_tree};

use crate::exit::Failure;
use crate::inputs;
use crate::solving::PROBLEM_MAX;

/// Ends of the names of the three SMPS files: core, time, stoch.
const SMPS: [&[&str]; 3] = [&["cor", "core", "mps"], &["tim", "time"], &["sto", "stoch"]];

/// Reads a tree in a TOML file, or the three SMPS files.
pub fn read_problem(files: &[PathBuf]) -> Result<Problem, Failure> {
    if let [tree] = files
        && smps_part(tree).is_none()
    {
        let name = tree.display().to_string();
        let folder = tree.parent().unwrap_or(Path::new(""));
        let path = |file: &str| match file == name {
            true => tree.clone(),
            // An absolute one stays as it is.
            false => folder.join(file),
        };
        return reading(path, |read| read_tree(&name, read));
    }
    let wrong = || {
        Failure::usage(
            "a program is one TOML file, or three SMPS files whose names end in .cor, .tim and .sto",
        )
    };
    let mut parts: [Option<&PathBuf>; 3] = [None; 3];
    for file in files {
        let part = smps_part(file).ok_or_else(wrong)?;
        if parts[part].replace(file).is_some() {
            return Err(wrong());
        }
    }
    let [Some(core), Some(time), Some(stoch)] = parts else {
        return Err(wrong());
    };
    let names = [core, time, stoch].map(|path| path.display().to_string());
    let path = |file: &str| PathBuf::from(file);
    reading(path, |read| {
        read_smps(&names[0], &names[1], &names[2], read)
    })
}

/// Which of the three SMPS files a name is that of.
fn smps_part(path: &Path) -> Option<usize> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    SMPS.iter().position(|ends| ends.contains(&&*extension))
}

/// Has a reader read files; where one cannot be read, that is the failure.
fn reading<E: std::fmt::Display>(
    path: impl Fn(&str) -> PathBuf,
    read: impl FnOnce(&mut dyn FnMut(&str) -> io::Result<Vec<u8>>) -> Result<Problem, E>,
) -> Result<Problem, Failure> {
    let mut unreadable = None;
    let read = read(&mut |file| {
        let read = inputs::read_file(&path(file), PROBLEM_MAX);
        read.map(Vec::from).map_err(|failure| {
            let error = io::Error::other(failure.to_string());
            unreadable = Some(failure);
            error
        })
    });
    read.map_err(|error| unreadable.unwrap_or_else(|| Failure::usage(error)))
}
