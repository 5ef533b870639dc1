//! What a batch job runs: a script from a template.
//!
//! Lines that the batch system reads (`#SBATCH` and the like) have no quoting that holds everywhere, so
//! the words in them are plain or refused. Lines that the shell reads are quoted. The token is not in
//! the script, only the path of its file.
//!
//! A template of the user's own has these places: `{{directives}}`, `{{setup}}` (modules, prologue,
//! scratch folder), `{{command}}` (the worker, with its arguments, to be run or `exec`ed), `{{name}}` and
//! `{{folder}}`. It needs `{{command}}`.

mod directives;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use directives::WORD;
use ring::digest::{SHA256, digest};

use crate::batch::folder::prepare;
use crate::batch::system::System;
use crate::secret::{Secret, replace};
use crate::words::{WordError, plain, shell, shell_all};
use crate::worker::{LABEL_FLEET, LABEL_JOB, WorkerSpec};

/// The template that is used where the user has none.
const TEMPLATE: &str = "{{directives}}\numask 077\n{{setup}}exec {{command}}\n";

/// Bytes of the hash in the name of jobs: two fleets of a user have the same one by chance once in four
/// thousand million.
const NAME_HASH: usize = 4;

/// What a batch job asks for and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSpec {
    /// The batch system.
    pub system: System,
    /// The fleet's name, from which that of its jobs is made, see [`JobSpec::job_name`].
    pub name: String,
    /// A folder that this machine and all nodes share. A folder of the fleet's name is made in it.
    pub shared: PathBuf,
    /// The `optwasm` program, as nodes see it.
    pub program: PathBuf,
    /// The worker. A label with the fleet's name and one with the job's identity are added.
    pub worker: WorkerSpec,
    /// Partition or queue. Default: the system's.
    pub queue: Option<String>,
    /// Account or project. Default: the user's.
    pub account: Option<String>,
    /// Time limit of a job. The worker leaves before, see [`leave_after`]. Default: the system's.
    pub time: Option<Duration>,
    /// Memory of a job in MiB. Default: the system's.
    pub memory_mib: Option<u64>,
    /// Cores of a job. Default: the system's.
    pub cpus: Option<u32>,
    /// Further directives, each what follows `#SBATCH ` or the like. Default none.
    pub directives: Vec<String>,
    /// Environment modules to load, which takes a login shell. Default none.
    pub modules: Vec<String>,
    /// Lines of the shell to run before the worker, as they are. Default none.
    pub prologue: Vec<String>,
    /// Folder on the node for compiled modules. Default: the worker's own, which may be on a shared disk.
    pub scratch: Option<PathBuf>,
    /// The user's own template. Default: directives, setup, command.
    pub template: Option<String>,
}

/// Why no script can be written.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A word that can be neither quoted nor taken as it is.
    #[error(transparent)]
    Word(#[from] WordError),
    /// A path that is not absolute, which means something else on every node.
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// A path that is not UTF-8.
    #[error("{} is not UTF-8", .0.display())]
    NotUtf8(PathBuf),
    /// A place in the template that does not exist.
    #[error("line {line} of the template: there is no {{{{{name}}}}}")]
    Place {
        /// The line, counted from 1.
        line: usize,
        /// What it names.
        name: String,
    },
    /// The template has no place for the command.
    #[error("the template has no {{{{command}}}}")]
    NoCommand,
    /// The folder is another user's, or others can write into it, and so choose what nodes run. Take
    /// another, or forbid them.
    #[error("{} is not a folder that only you can write", .0.display())]
    NotOwn(PathBuf),
    /// Another fleet of this name uses the folder. Give this one another name or folder.
    #[error("a fleet runs in {} already", .0.display())]
    InUse(PathBuf),
    /// The folder cannot be made or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

impl JobSpec {
    /// A job with everything by default.
    #[must_use]
    pub fn new(
        system: System,
        name: &str,
        shared: &Path,
        program: &Path,
        worker: WorkerSpec,
    ) -> Self {
        Self {
            system,
            name: name.to_owned(),
            shared: shared.to_owned(),
            program: program.to_owned(),
            worker,
            queue: None,
            account: None,
            time: None,
            memory_mib: None,
            cpus: None,
            directives: Vec::new(),
            modules: Vec::new(),
            prologue: Vec::new(),
            scratch: None,
            template: None,
        }
    }

    /// The name of the batch jobs: the fleet's, and digits that tell its coordinator from others. A list
    /// by this name shows the jobs of this fleet and of no other.
    #[must_use]
    pub fn job_name(&self) -> String {
        let (name, coordinator) = (&self.name, self.worker.coordinator());
        let hash = digest(&SHA256, format!("{name}\n{coordinator}").as_bytes());
        let digits = hash.as_ref()[..NAME_HASH].iter();
        let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
        // What is cut off is in the digits, too.
        let room = self.system.name_max().saturating_sub(digits.len() + 1);
        let name: String = name.chars().take(room).collect();
        format!("{name}-{digits}")
    }

    /// How long its workers stay, where that is known.
    #[must_use]
    pub fn stay(&self) -> Option<Duration> {
        self.worker.leave_after.or(self.time.map(leave_after))
    }

    /// The folder of the fleet: script, token and logs. A relative path is taken from the current
    /// directory.
    ///
    /// # Errors
    ///
    /// [`ScriptError`], where the path has characters that directives do not take.
    pub fn folder(&self) -> Result<PathBuf, ScriptError> {
        plain("fleet", &self.name, "-_.")?;
        let absolute = std::path::absolute(&self.shared).map_err(|error| ScriptError::Io {
            path: self.shared.clone(),
            error,
        })?;
        let text = utf8(&absolute)?;
        plain("shared folder", text, WORD)?;
        Ok(absolute.join(&self.name))
    }

    /// The script, which is what a dry run shows.
    ///
    /// # Errors
    ///
    /// [`ScriptError`].
    pub fn render(&self) -> Result<String, ScriptError> {
        let folder = self.folder()?;
        let template = self.template.as_deref().unwrap_or(TEMPLATE);
        let mut text = String::new();
        let mut has_command = false;
        for (index, line) in template.lines().enumerate() {
            let mut rest = line;
            while let Some((before, after)) = rest.split_once("{{") {
                let (place, after) = after.split_once("}}").unwrap_or((after, ""));
                text.push_str(before);
                match place.trim() {
                    "directives" => text.push_str(&self.directives(&folder)?),
                    "setup" => text.push_str(&self.setup()?),
                    "command" => {
                        has_command = true;
                        text.push_str(&self.command(&folder)?);
                    }
                    "name" => text.push_str(&self.name),
                    "folder" => text.push_str(utf8(&folder)?),
                    name => {
                        let name = name.to_owned();
                        return Err(ScriptError::Place {
                            line: index + 1,
                            name,
                        });
                    }
                }
                rest = after;
            }
            text.push_str(rest);
            text.push('\n');
        }
        if !has_command {
            return Err(ScriptError::NoCommand);
        }
        // `module` is a function of login shells.
        let shell = if self.modules.is_empty() {
            "#!/bin/sh"
        } else {
            "#!/bin/bash -l"
        };
        Ok(if text.starts_with("#!") {
            text
        } else {
            format!("{shell}\n{text}")
        })
    }

    /// Makes the folder and writes the script and the token, which only this user can read, in place of
    /// those that are there. Returns the script's path.
    ///
    /// # Errors
    ///
    /// [`ScriptError`].
    pub fn write(&self, secret: &Secret) -> Result<PathBuf, ScriptError> {
        let text = self.render()?;
        let folder = self.folder()?;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| ScriptError::Io { path, error }
        };
        prepare(&folder)?;
        let token = token_file(&folder);
        secret.write_to(&token).map_err(failed(&token))?;
        let script = folder.join("job.sh");
        replace(&script, text.as_bytes(), 0o700).map_err(failed(&script))?;
        Ok(script)
    }

    fn command(&self, folder: &Path) -> Result<String, ScriptError> {
        let program = utf8(&self.program)?;
        if !self.program.is_absolute() {
            return Err(ScriptError::Relative(self.program.clone()));
        }
        let mut worker = self.worker.clone();
        worker
            .labels
            .insert(LABEL_FLEET.to_owned(), self.name.clone());
        worker.leave_after = self.stay();
        let mut args = worker.args();
        args.push(format!("--token-file={}", utf8(&token_file(folder))?));
        let args = shell_all(args.iter().map(String::as_str))?;
        let id = self.system.own_id();
        Ok(format!(
            "{} {args} --label={LABEL_JOB}=\"{id}\"",
            shell(program)?
        ))
    }

    fn setup(&self) -> Result<String, ScriptError> {
        let mut text = String::new();
        for module in &self.modules {
            let _ = writeln!(text, "module load {}", shell(module)?);
        }
        for line in &self.prologue {
            if line.contains(['\n', '\r', '\0']) {
                return Err(WordError::Control(line.clone()).into());
            }
            let _ = writeln!(text, "{line}");
        }
        if let Some(scratch) = &self.scratch {
            if !scratch.is_absolute() {
                return Err(ScriptError::Relative(scratch.clone()));
            }
            let scratch = shell(utf8(scratch)?)?;
            let _ = writeln!(
                text,
                "OPTWASM_CACHE_DIR={scratch}\nexport OPTWASM_CACHE_DIR"
            );
            text.push_str("mkdir -p \"$OPTWASM_CACHE_DIR\"\n");
        }
        Ok(text)
    }
}

/// Where the token of a fleet is.
pub(crate) fn token_file(folder: &Path) -> PathBuf {
    folder.join("token")
}

/// When the worker of a job with this time limit leaves: a tenth before, so that what it finishes then
/// has time, but at least 10 s and at most 2 min before.
#[must_use]
pub fn leave_after(time: Duration) -> Duration {
    let margin = (time / 10).clamp(Duration::from_secs(10), Duration::from_secs(120));
    time.saturating_sub(margin).max(Duration::from_secs(1))
}

fn utf8(path: &Path) -> Result<&str, ScriptError> {
    path.to_str()
        .ok_or_else(|| ScriptError::NotUtf8(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    fn job(system: System) -> JobSpec {
        let worker = WorkerSpec {
            slots: Some(4),
            ..WorkerSpec::new("head:4710")
        };
        JobSpec {
            queue: Some("long".into()),
            account: Some("p123".into()),
            time: Some(Duration::from_secs(90_000)),
            memory_mib: Some(8192),
            cpus: Some(4),
            directives: vec!["--constraint=\"a&b\"".into()],
            prologue: vec!["ulimit -v unlimited".into()],
            scratch: Some("/scratch/it's mine".into()),
            ..JobSpec::new(
                system,
                "fleet-1",
                Path::new("/shared"),
                Path::new("/opt/optwasm"),
                worker,
            )
        }
    }

    #[test]
    fn slurm_s_script_is_this() {
        assert_eq!(
            job(System::Slurm).render().unwrap(),
            "#!/bin/sh\n\
             #SBATCH --job-name=fleet-1-799b817f\n\
             #SBATCH --output=/shared/fleet-1/%j.log\n\
             #SBATCH --no-requeue\n\
             #SBATCH --nodes=1 --ntasks=1\n\
             #SBATCH --partition=long\n\
             #SBATCH --account=p123\n\
             #SBATCH --time=25:00:00\n\
             #SBATCH --mem=8192M\n\
             #SBATCH --cpus-per-task=4\n\
             #SBATCH --constraint=\"a&b\"\n\
             umask 077\n\
             ulimit -v unlimited\n\
             OPTWASM_CACHE_DIR=\"/scratch/it's mine\"\n\
             export OPTWASM_CACHE_DIR\n\
             mkdir -p \"$OPTWASM_CACHE_DIR\"\n\
             exec /opt/optwasm worker '--connect=head:4710' '--slots=4' \
             '--label=fleet=fleet-1' '--leave-after=89880s' '--token-file=/shared/fleet-1/token' \
             --label=fleet-job=\"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}\
             ${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}\"\n"
        );
    }

    #[test]
    fn the_others_have_their_own_directives() {
        let has = |system, lines: &[&str]| {
            let text = job(system).render().unwrap();
            for line in lines {
                assert!(text.lines().any(|l| l == *line), "{line} is not in\n{text}");
            }
        };
        let pbs = "#PBS -l select=1:ncpus=4:mem=8192mb";
        has(
            System::Pbs,
            &[
                "#PBS -N fleet-1-799b817f",
                "#PBS -q long",
                pbs,
                "#PBS -l walltime=25:00:00",
            ],
        );
        has(System::Torque, &["#PBS -l nodes=1:ppn=4,mem=8192mb"]);
        has(
            System::GridEngine,
            &[
                "#$ -l h_rt=90000",
                "#$ -pe smp 4",
                "#$ -l mem_free=2048M",
                "#$ -S /bin/sh",
                "#$ -o /shared/fleet-1/",
            ],
        );
        has(
            System::Lsf,
            &[
                "#BSUB -W 1500",
                "#BSUB -M 8192MB",
                "#BSUB -o /shared/fleet-1/%J.log",
            ],
        );
    }

    #[test]
    fn the_name_of_jobs_tells_coordinators_and_fleets_apart_also_where_names_are_short() {
        let name = |system, fleet: &str, coordinator: Option<&str>| {
            let mut job = job(system);
            job.name = fleet.to_owned();
            job.worker.coordinator = coordinator.map(str::to_owned);
            job.job_name()
        };
        for system in [System::Slurm, System::Torque] {
            let all = [
                name(system, "workers", None),
                name(system, "workers", Some("one")),
                name(system, "workers", Some("two")),
                name(system, "workers-with-gpu", Some("one")),
                name(system, "workers-without", Some("one")),
            ];
            for (n, own) in all.iter().enumerate() {
                assert!(
                    own.starts_with("worker") && !all[..n].contains(own),
                    "{all:?}"
                );
                // qsub(1B) of Torque: up to 15 characters.
                assert!(system != System::Torque || own.len() <= 15, "{own}");
            }
        }
        assert_eq!(
            name(System::Slurm, "workers", Some("one")),
            name(System::Lsf, "workers", Some("one")),
            "the same in each run"
        );
    }

    #[test]
    fn a_script_that_somebody_laid_there_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        let mut job = job(System::Slurm);
        job.shared = dir.path().join("shared");
        let secret = Secret::new("secret").unwrap();
        let script = job.write(&secret).unwrap();
        std::fs::remove_file(&script).unwrap();
        std::os::unix::fs::symlink(&target, &script).unwrap();
        job.write(&secret).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert!(script.symlink_metadata().unwrap().is_file());
        let folder = script.parent().unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(job.write(&secret), Err(ScriptError::NotOwn(_))));
    }

    #[test]
    fn names_are_quoted_or_refused() {
        let refused = |change: &dyn Fn(&mut JobSpec)| {
            let mut job = job(System::Slurm);
            change(&mut job);
            job.render().unwrap_err().to_string()
        };
        refused(&|job| job.name = "a b".into());
        refused(&|job| job.name = "../up".into());
        refused(&|job| job.queue = Some("a\n#SBATCH --wrap=x".into()));
        refused(&|job| job.queue = Some("-x".into()));
        refused(&|job| job.account = Some(String::new()));
        refused(&|job| job.shared = "/a b".into());
        refused(&|job| job.shared = "/a%j".into());
        refused(&|job| job.directives = vec!["--x\nrm -rf".into()]);
        refused(&|job| job.prologue = vec!["a\nb".into()]);
        refused(&|job| job.worker.name = Some("a\nb".into()));
        refused(&|job| job.program = "optwasm".into());
        refused(&|job| job.scratch = Some("tmp".into()));
        assert_eq!(
            refused(&|job| job.template = Some("ok\n{{comand}}\n".into())),
            "line 2 of the template: there is no {{comand}}"
        );
        assert_eq!(
            refused(&|job| job.template = Some("{{directives}}".into())),
            "the template has no {{command}}"
        );
    }

    #[test]
    fn what_the_shell_reads_comes_through() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("it's \"$HOME\" `x`");
        std::fs::write(&program, "#!/bin/sh\nfor arg; do echo \"<$arg>\"; done\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let hostile = "'; touch owned #$(touch owned)`touch owned`\\ *";
        let worker = WorkerSpec {
            name: Some(hostile.into()),
            ..WorkerSpec::new("head:4710")
        };
        let shared = dir.path().join("shared");
        let mut job = JobSpec::new(System::Slurm, "f", &shared, &program, worker);
        job.scratch = Some(dir.path().join("a 'scratch' $folder"));
        job.template = Some("{{setup}}cd /; {{command}} # {{name}}, {{ folder }}".into());
        let script = job.write(&Secret::new("secret").unwrap()).unwrap();
        let mut command = Command::new(&script);
        let output = command
            .env("SLURM_JOB_ID", "7")
            .current_dir(dir.path())
            .output()
            .unwrap();
        let folder = shared.join("f").display().to_string();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!(
                "<worker>\n<--connect=head:4710>\n<--name={hostile}>\n<--label=fleet=f>\n\
                 <--token-file={folder}/token>\n<--label=fleet-job=7>\n"
            )
        );
        assert!(dir.path().join("a 'scratch' $folder").is_dir());
        assert!(!dir.path().join("owned").exists());
        let text = std::fs::read_to_string(&script).unwrap();
        assert!(
            text.ends_with(&format!("# f, {folder}\n")) && !text.contains("secret"),
            "{text}"
        );
        for (path, mode) in [(shared.join("f"), 0o700), (shared.join("f/token"), 0o600)] {
            assert_eq!(
                path.metadata().unwrap().permissions().mode() & 0o777,
                mode,
                "{path:?}"
            );
        }

        // An array's task.
        let mut command = Command::new(&script);
        command
            .env("SLURM_JOB_ID", "9")
            .env("SLURM_ARRAY_JOB_ID", "8")
            .env("SLURM_ARRAY_TASK_ID", "0");
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.ends_with("<--label=fleet-job=8_0>\n"), "{said}");
    }

    #[test]
    fn a_relative_folder_is_made_absolute_and_the_worker_leaves_in_time() {
        let mut job = job(System::Slurm);
        job.shared = "somewhere".into();
        let here = std::env::current_dir().unwrap();
        assert_eq!(job.folder().unwrap(), here.join("somewhere/fleet-1"));
        let secs = Duration::from_secs;
        assert_eq!(leave_after(secs(3600)), secs(3480));
        assert_eq!(leave_after(secs(300)), secs(270));
        assert_eq!(leave_after(secs(60)), secs(50));
        assert_eq!(leave_after(secs(5)), secs(1));
        job.modules = vec!["gcc/12".into()];
        let text = job.render().unwrap();
        assert!(text.starts_with("#!/bin/bash -l\n") && text.contains("module load gcc/12\n"));
        job.system = System::GridEngine;
        assert!(job.render().unwrap().contains("#$ -S /bin/bash\n"));
    }
}
