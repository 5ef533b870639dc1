//! Measures what a fresh sandbox costs: small jobs, one after the other, on one thread and on two.
//!
//! `cargo run --release -p optwasm-sandbox --example noop`

use std::sync::Arc;
use std::time::{Duration, Instant};

use optwasm_protocol::{ContentId, Profile};
use optwasm_sandbox::{Control, Job, Prepared, Sandbox, SandboxConfig, Setup};

const JOBS: usize = 100_000;
const WARM_UP: usize = 10_000;

/// Does nothing.
const EMPTY: &str = r#"(module (memory (export "memory") 16) (func (export "_start")))"#;

/// Reads 8 bytes, computes a little, touches 64 KiB of memory and writes 8 bytes.
const SMALL: &str = r#"(module
    (import "optwasm_v1" "input_read" (func $read (param i64 i32 i32) (result i32)))
    (import "optwasm_v1" "output_write" (func $output (param i32 i32)))
    (memory (export "memory") 16) (data (i32.const 1024) "constants")
    (func (export "_start") (local $i i32)
        (drop (call $read (i64.const 0) (i32.const 0) (i32.const 8)))
        (loop $l
            (i64.store (i32.add (i32.const 65536) (local.get $i)) (i64.load (i32.const 0)))
            (local.set $i (i32.add (local.get $i) (i32.const 4096)))
            (br_if $l (i32.lt_u (local.get $i) (i32.const 65536))))
        (call $output (i32.const 65536) (i32.const 8))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sandbox = Sandbox::new(SandboxConfig::new(2))?;
    for (name, text) in [("empty", EMPTY), ("small", SMALL)] {
        let module = wat::parse_str(text)?;
        let prepared = sandbox.prepare(ContentId::of(&module), &module, Profile::Strict)?;
        for threads in [1, 2] {
            let mut times = std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(|| measure(&sandbox, &prepared)))
                    .collect();
                running
                    .into_iter()
                    .flat_map(|thread| thread.join().expect("no panic"))
                    .collect::<Vec<_>>()
            });
            times.sort();
            let at = |share: f64| times[(times.len() as f64 * share) as usize];
            println!(
                "{name}, {threads} threads: p50 {:?}, p90 {:?}, p99 {:?}",
                at(0.5),
                at(0.9),
                at(0.99)
            );
        }
    }
    Ok(())
}

/// Time of each job.
fn measure(sandbox: &Sandbox, prepared: &Prepared) -> Vec<Duration> {
    let setup = Arc::new(Setup::default());
    let input = bytes::Bytes::from_static(b"12345678");
    let run = || {
        let job = Job {
            setup: setup.clone(),
            ..Job::new(input.clone())
        };
        let start = Instant::now();
        let report = sandbox.run(prepared, job, &Control::new());
        let took = start.elapsed();
        assert!(report.outcome.is_ok(), "{}", report.outcome);
        took
    };
    for _ in 0..WARM_UP {
        run();
    }
    (0..JOBS).map(|_| run()).collect()
}
