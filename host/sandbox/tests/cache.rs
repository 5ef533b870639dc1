//! Native code on disk: used where it is ours and whole, and done without otherwise.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{job, output, program, wasm};
use optwasm_protocol::{ContentId, Profile};
use optwasm_sandbox::cache::{CacheError, DiskCache};
use optwasm_sandbox::{Compiler, Control, PrepareError, Prepared, Sandbox, SandboxConfig};

fn module() -> Vec<u8> {
    wasm(&program(
        r#"(import "optwasm_v1" "output_write" (func $output (param i32 i32)))"#,
        "(call $output (i32.const 0) (i32.const 3))",
    ))
}

fn compiling(dir: &Path) -> Sandbox {
    Sandbox::new(SandboxConfig {
        cache_dir: Some(dir.to_owned()),
        ..SandboxConfig::new(1)
    })
    .unwrap()
}

/// A sandbox that cannot compile: what it runs comes from the cache.
fn without_compiler(dir: &Path) -> Sandbox {
    Sandbox::new(SandboxConfig {
        cache_dir: Some(dir.to_owned()),
        compiler: Compiler::Child {
            program: "/nonexistent/optwasm".into(),
            args: Vec::new(),
        },
        ..SandboxConfig::new(1)
    })
    .unwrap()
}

fn prepare(sandbox: &Sandbox, profile: Profile) -> Result<Prepared, PrepareError> {
    sandbox.prepare(ContentId::of(&module()), &module(), profile)
}

#[track_caller]
fn runs(sandbox: &Sandbox) {
    let prepared = prepare(sandbox, Profile::Strict).unwrap();
    let report = sandbox.run(&prepared, job(), &Control::new());
    assert_eq!(output(&report), [0; 3]);
}

fn native_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "native")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_hit_needs_no_compiler() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/by/need");
    runs(&compiling(&dir));
    assert_eq!(native_files(&dir).len(), 1);
    runs(&without_compiler(&dir));
    // Another engine is another file.
    assert!(prepare(&without_compiler(&dir), Profile::Portable).is_err());
    assert!(prepare(&compiling(&dir), Profile::Portable).is_ok());
    assert_eq!(native_files(&dir).len(), 2);
    assert!(prepare(&without_compiler(&dir), Profile::Portable).is_ok());
    // Nobody else may read or write what is there.
    for path in fs::read_dir(&dir).unwrap() {
        let mode = path.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_file_that_is_not_ours_and_whole_is_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    runs(&compiling(dir.path()));
    runs(&compiling(elsewhere.path()));
    let file = native_files(dir.path()).remove(0);
    let good = fs::read(&file).unwrap();
    let foreign = fs::read(native_files(elsewhere.path()).remove(0)).unwrap();
    assert_eq!(good[32..], foreign[32..], "the same code under another key");

    let changed = |place: usize| {
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        bytes
    };
    let cases = [
        ("foreign", foreign),
        ("MAC changed", changed(0)),
        ("header changed", changed(40)),
        ("code changed", changed(good.len() / 2)),
        ("end changed", changed(good.len() - 1)),
        ("truncated", good[..good.len() - 1].to_vec()),
        ("only a MAC", good[..32].to_vec()),
        ("half a MAC", good[..16].to_vec()),
        ("empty", Vec::new()),
        ("longer", [&good[..], b"x"].concat()),
    ];
    for (name, bytes) in cases {
        fs::write(&file, &bytes).unwrap();
        assert!(
            prepare(&without_compiler(dir.path()), Profile::Strict).is_err(),
            "{name}"
        );
        runs(&compiling(dir.path()));
        assert_eq!(fs::read(&file).unwrap(), good, "{name}");
    }
    // Code of one module under the name of another.
    let cache = DiskCache::open(dir.path()).unwrap();
    let (one, other, engine) = (ContentId::of(b"1"), ContentId::of(b"2"), [7; 32]);
    cache.put(&one, &engine, b"about", b"code").unwrap();
    let (about, code) = cache.get(&one, &engine).unwrap();
    assert_eq!((&about[..], &code[..]), (&b"about"[..], &b"code"[..]));
    assert_eq!(cache.get(&other, &engine), None);
    assert_eq!(cache.get(&one, &[8; 32]), None);
}

#[test]
fn a_lost_or_damaged_key_costs_only_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    runs(&compiling(dir.path()));
    let key = dir.path().join("key");
    for damage in [Some(&b"short"[..]), None] {
        match damage {
            Some(bytes) => fs::write(&key, bytes).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        assert!(prepare(&without_compiler(dir.path()), Profile::Strict).is_err());
        runs(&compiling(dir.path()));
        runs(&without_compiler(dir.path()));
    }
}

#[test]
fn a_directory_that_others_may_write_to_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = DiskCache::open(dir.path()).unwrap_err();
        assert!(matches!(error, CacheError::NotPrivate(_)), "{error}");
        assert!(error.to_string().contains("writable by nobody else"));
        // Jobs run without it.
        runs(&compiling(dir.path()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(DiskCache::open(dir.path()).is_ok());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(12345), None).unwrap();
        let error = DiskCache::open(dir.path()).unwrap_err();
        assert!(matches!(error, CacheError::NotPrivate(_)), "{error}");
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(
        DiskCache::open(&file.join("below")),
        Err(CacheError::Io(..))
    ));
    runs(&compiling(&file.join("below")));
}

#[test]
fn a_full_disk_costs_only_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |arguments: &[&str]| {
        let done = std::process::Command::new(arguments[0])
            .args(&arguments[1..])
            .arg(dir.path())
            .output();
        done.is_ok_and(|done| done.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs"]) {
        println!("skipped: no right to mount a small file system");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        runs(&compiling(dir.path()));
        assert_eq!(native_files(dir.path()).len(), 0);
        // What could not be written whole is not left in parts.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the key");
        runs(&compiling(dir.path()));
    });
    assert!(mount(&["umount"]));
    result.unwrap();
}

#[test]
fn threads_that_need_the_same_module_at_once_compile_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = compiling(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| prepare(&sandbox, Profile::Strict).unwrap());
        }
    });
    // And several sandboxes of several processes in one directory do not disturb each other.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let profile = Profile::Portable;
                prepare(&compiling(dir.path()), profile).unwrap();
            });
        }
    });
    assert!(prepare(&without_compiler(dir.path()), Profile::Portable).is_ok());
}
