//! Disks that are full or read-only: new work is refused, accepted work is finished, and when the disk
//! works again, so does the coordinator.
//!
//! The coordinator's directory is a small file system of its own, where the system permits that.

use std::path::{Path, PathBuf};
use std::process::Command;

use optwasm_tests::cluster::{Place, Ran, wait_for};

use crate::{guest, place};

/// A file system in memory at a place's state directory. It is unmounted when this is dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where it cannot be mounted: that takes root.
    fn new(place: &Place, size: &str) -> Option<Self> {
        let path = place.state();
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = mount(&["-t", "tmpfs", "-o", &options, "optwasm-test"], &path);
        if !mounted {
            println!("skipped: no file system can be mounted");
        }
        mounted.then_some(Self(path))
    }

    fn remount(&self, options: &str) -> bool {
        mount(&["-o", &format!("remount,{options}")], &self.0)
    }

    /// Takes up all that is left.
    fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.0.join("other-peoples-data");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has files open there keeps them until the end.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(args: &[&str], at: &Path) -> bool {
    let ran = Command::new("mount").args(args).arg(at).output();
    ran.is_ok_and(|ran| ran.status.success())
}

fn submit(place: &Place, guest: &str, input: &str, priority: &str) -> String {
    let fixed = [
        "submit", guest, "--jsonl", "--memo", "off", "--output", "json",
    ];
    let priority = ["--priority", priority];
    number(&place.run_on(fixed.iter().chain(&priority), input.as_bytes()))
}

/// Submits so many lines of 60 kB, which results repeat.
fn submit_lines(place: &Place, count: usize) -> Ran {
    let lines: String = (0..count)
        .map(|i| format!("{i}{}\n", "x".repeat(60_000)))
        .collect();
    let echo = guest("echo");
    let args = [
        "submit",
        &echo,
        "--each-line",
        "--memo",
        "off",
        "--output",
        "json",
    ];
    place.run_on(args, lines.as_bytes())
}

fn number(submitted: &Ran) -> String {
    submitted.json()["batch"].to_string()
}

fn wait_until_taken(place: &Place, lines: usize, what: &str) {
    wait_for(what, || {
        let ran = submit_lines(place, lines);
        match ran.code() {
            0 => true,
            _ => {
                ran.fails(10, "Make room with: optwasm rm");
                false
            }
        }
    });
}

#[test]
fn a_disk_that_others_fill() {
    let place = place();
    let Some(disk) = Disk::new(&place, "96M") else {
        return;
    };
    let spin = guest("spin");
    let mut coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let first = number(&submit_lines(&place, 64));
    place.run(["wait", &first]).ok();
    let running = submit(&place, &spin, &"30\n".repeat(60), "0");
    // Begins when the others have ended.
    let endless = submit(&place, &spin, "1000000000\n", "-1");
    wait_for("some results", || {
        !place.run(["results", &running]).stdout().is_empty()
    });

    let others = disk.fill();
    submit_lines(&place, 64).fails(10, "Make room with: optwasm rm");
    let small = || place.run_on(["submit", &spin, "--json"], b"1");
    wait_for("the refusal", || small().code() != 0);
    small().fails(10, "Make room with: optwasm rm");

    // All else goes on.
    let status = place.run(["coordinator", "status"]).ok();
    assert!(status.contains("refuses new work"), "{status}");
    place.run(["wait", &running]).ok();
    let results = place.run(["results", &running, "--output", "jsonl"]).ok();
    assert_eq!(results.lines().count(), 60);
    let results = place.run(["results", &first, "--output", "jsonl"]).ok();
    assert_eq!(results.lines().count(), 64);
    place.run(["cancel", &endless]).ok();
    assert_eq!(place.run(["wait", &endless]).code(), 7);

    // Also when it is killed and started again.
    let address = place.address();
    coordinator.kill();
    coordinator = place.coordinator_at(&address, &[]);
    let results = place.run(["results", &running, "--output", "jsonl"]).ok();
    assert_eq!(results.lines().count(), 60);
    small().fails(10, "Make room with: optwasm rm");

    // There is room again, and nobody is told to start anything.
    std::fs::remove_file(others).unwrap();
    wait_until_taken(&place, 64, "room");
    let status = place.run(["coordinator", "status"]).ok();
    assert!(status.contains("in service"), "{status}");
    assert!(coordinator.is_running(), "{}", coordinator.log());
}

#[test]
fn a_disk_that_the_coordinator_fills() {
    let place = place();
    let Some(disk) = Disk::new(&place, "24M") else {
        return;
    };
    let mut coordinator = place.coordinator(&[]);
    let _worker = place.worker("w", &[]);
    let fill = || {
        let mut taken = Vec::new();
        loop {
            let ran = submit_lines(&place, 8);
            match ran.code() {
                0 => taken.push(number(&ran)),
                _ => break ran.fails(10, "Make room with: optwasm rm"),
            }
            assert!(taken.len() < 100, "24 MiB do not hold that");
        }
        taken
    };
    let kept = fill();
    // What was accepted finds room in the reserve.
    for batch in &kept {
        place.run(["wait", batch]).ok();
    }
    submit_lines(&place, 8).fails(10, "Make room with: optwasm rm");
    for batch in &kept[..kept.len() / 2] {
        place.run(["rm", batch]).ok();
    }
    wait_until_taken(&place, 8, "room of removed batches");
    fill();
    assert!(disk.remount("size=48M"));
    wait_until_taken(&place, 8, "room of a larger disk");
    for batch in &kept[kept.len() / 2..] {
        let results = place.run(["results", batch, "--output", "jsonl"]).ok();
        assert_eq!(results.lines().count(), 8);
    }
    place.run(["shutdown"]).ok();
    assert!(coordinator.wait().success(), "{}", coordinator.log());
    let checked = place.run(["coordinator", "check"]).ok();
    assert!(checked.contains("all is well"), "{checked}");
}

#[test]
fn a_read_only_disk_is_refused_and_nothing_is_lost() {
    let place = place();
    let Some(disk) = Disk::new(&place, "24M") else {
        return;
    };
    let spin = guest("spin");
    let coordinator = place.coordinator(&["--reserve", "1MiB"]);
    let worker = place.worker("w", &[]);
    let batch = submit(&place, &spin, "1\n2\n3\n", "0");
    place.run(["wait", &batch]).ok();
    let before = place.run(["results", &batch, "--output", "jsonl"]).ok();
    let address = place.address();
    // Linux makes no file system read-only in which files are open for writing.
    coordinator.kill();
    assert!(disk.remount("ro"));
    place
        .run(["coordinator", "--listen", &address])
        .fails(10, "Read-only file system");
    assert!(disk.remount("rw"));
    let _coordinator = place.coordinator_at(&address, &[]);
    let kept = place.run(["results", &batch, "--output", "jsonl"]).ok();
    assert_eq!(kept, before);
    let next = submit(&place, &spin, "4\n", "0");
    place.run(["wait", &next]).ok();
    drop(worker);
}
