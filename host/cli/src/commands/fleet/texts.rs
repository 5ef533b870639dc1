//! `optwasm fleet systemd` and `k8s`: texts from which others start workers.

use optwasm_fleet::kubernetes::{Kind, Manifest};
use optwasm_fleet::systemd::Unit;

use super::{Reach, worker_spec};
use crate::args::{K8sArgs, KindArg, SystemdArgs};
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::settings::Settings;

pub fn systemd(settings: &Settings, args: SystemdArgs) -> Result<Exit, Failure> {
    let worker = worker_spec(settings, Reach::Elsewhere, &args.worker)?;
    let mut unit = Unit::new(worker, &args.program, &args.credential);
    unit.memory_max = args.memory_max;
    unit.stop_after = args.stop_after;
    print(unit.render()?.trim_end())?;
    eprintln!(
        "optwasm: save it as /etc/systemd/system/optwasm-worker.service, put a worker's token into {}, \
         and type: systemctl enable --now optwasm-worker",
        args.credential
    );
    Ok(Exit::Success)
}

pub fn k8s(settings: &Settings, args: K8sArgs) -> Result<Exit, Failure> {
    let worker = worker_spec(settings, Reach::Elsewhere, &args.worker)?;
    let mut manifest = Manifest::new(&args.name, worker, args.replicas, &args.image);
    manifest.kind = match args.kind {
        KindArg::Deployment => Kind::Deployment,
        KindArg::Job => Kind::Job,
    };
    manifest.namespace = args.namespace;
    let (name, key) = args
        .secret
        .split_once('/')
        .ok_or_else(|| Failure::usage(format!("`{}` is not of the form NAME/KEY", args.secret)))?;
    manifest.secret = (name.to_owned(), key.to_owned());
    manifest.cpus = args.cpus;
    manifest.memory_mib = args.job_memory >> 20;
    manifest.stop_after = args.stop_after;
    print(manifest.render()?.trim_end())?;
    eprintln!(
        "optwasm: make the secret first, with: {}",
        manifest.secret_command("worker.token")?
    );
    Ok(Exit::Success)
}
