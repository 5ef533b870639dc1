//! Jobs of every shape, run by the mock host through the `main` that the attribute makes.

#![forbid(unsafe_code)]

use optwasm_guest::mock::{Host, Outcome};

mod bytes {
    use super::*;

    #[optwasm_guest::job]
    fn compute(input: &[u8]) -> Vec<u8> {
        input.iter().rev().copied().collect()
    }

    #[test]
    fn bytes_pass_without_cbor() {
        let run = Host::new().input_bytes(*b"\xff\x01").run(main);
        assert_eq!(
            (run.outcome, run.record.output),
            (Outcome::Ok, vec![1, 0xff])
        );
    }
}

mod numbers {
    use super::*;

    type Numbers = Vec<f64>;

    #[optwasm_guest::job]
    fn compute(numbers: Numbers) -> Result<Numbers, std::num::TryFromIntError> {
        u8::try_from(numbers.len())?;
        Ok(numbers.into_iter().map(|x| x * 2.0).collect())
    }

    #[test]
    fn numbers_pass_as_typed_arrays_behind_an_alias() {
        let run = Host::new()
            .input(&optwasm_guest::array::of(&[1.5]))
            .run(main);
        let mut expected = vec![0xd8, 86, 0x48];
        expected.extend(3f64.to_le_bytes());
        assert_eq!(run.record.output, expected);
        let plain = Host::new().input(&[1.5]).run(main);
        assert_eq!(plain.record.output, expected);
    }

    #[test]
    fn an_error_has_code_1() {
        let run = Host::new().input(&vec![0.0; 256]).run(main);
        assert_eq!(run.failure().code, 1);
        assert!(
            run.failure().message.contains("out of range"),
            "{:?}",
            run.outcome
        );
        assert!(run.record.output.is_empty());
    }
}

mod structs {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Point {
        x: f64,
        name: String,
    }

    #[optwasm_guest::job]
    fn compute(point: &Point) -> anyhow::Result<(String, f64)> {
        use anyhow::Context;
        point
            .name
            .parse::<i32>()
            .context("not numbered")
            .context("cannot move")?;
        Ok((point.name.clone(), point.x + 1.0))
    }

    fn host(name: &str) -> Host {
        Host::new().input(&Point {
            x: 1.0,
            name: name.to_owned(),
        })
    }

    #[test]
    fn values_pass_as_cbor() {
        assert_eq!(
            host("7").run(main).output::<(String, f64)>(),
            ("7".to_owned(), 2.0)
        );
    }

    #[test]
    fn the_whole_chain_of_causes_arrives() {
        let run = host("seven").run(main);
        assert_eq!(run.failure().message, "cannot move");
        assert_eq!(
            run.failure().chain,
            ["not numbered", "invalid digit found in string"]
        );
    }

    #[test]
    fn a_wrong_input_has_code_2_and_says_what_is_missing() {
        let run = Host::new()
            .input(&std::collections::BTreeMap::from([("x", 1.0)]))
            .run(main);
        assert_eq!(run.failure().code, 2);
        assert!(
            run.failure().message.contains("missing field `name`"),
            "{:?}",
            run.outcome
        );
        assert_eq!(Host::new().run(main).failure().code, 2);
    }
}

mod output {
    use super::*;

    /// A value that refuses to be encoded.
    struct Broken;

    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("broken"))
        }
    }

    #[optwasm_guest::job]
    fn compute() -> Broken {
        Broken
    }

    #[test]
    fn an_output_that_cannot_be_encoded_has_code_3() {
        let run = Host::new().run(main);
        assert_eq!(run.failure().code, 3);
        assert!(run.failure().message.ends_with("broken"));
    }
}

mod context {
    use super::*;
    use std::io::{Read, Seek, SeekFrom};

    #[optwasm_guest::job]
    fn compute(mode: String) -> Result<u64, String> {
        optwasm_guest::log::info!("mode {mode}");
        optwasm_guest::log::trace!("not shown");
        match mode.as_str() {
            "resume" => {
                let step = optwasm_guest::resume::<u64>().unwrap_or(0);
                optwasm_guest::checkpoint(&(step + 1));
                Ok(step)
            }
            "solve" => {
                optwasm_guest::progress(1.0, 4.0);
                optwasm_guest::incumbent(5.0, None, "first");
                optwasm_guest::incumbent_bytes(4.0, Some(3.5), b"second");
                Ok(optwasm_guest::fuel_left() + u64::from(optwasm_guest::seed()[31]))
            }
            "fail" => optwasm_guest::fail(40, "own code"),
            "panic" => panic!("mode {mode}"),
            name => {
                let mut blob = optwasm_guest::blob(name).ok_or("no such blob")?;
                let mut text = String::new();
                blob.seek(SeekFrom::End(-3))
                    .map_err(|error| error.to_string())?;
                blob.read_to_string(&mut text)
                    .map_err(|error| error.to_string())?;
                let mut two = [0; 2];
                assert_eq!(blob.read_at(1, &mut two), 2);
                assert_eq!(blob.to_vec()[1..3], two);
                assert_eq!(blob.read_at(blob.len(), &mut two), 0);
                assert!(blob.seek(SeekFrom::Current(-100)).is_err());
                text.parse().map_err(|_| text)
            }
        }
    }

    #[test]
    fn checkpoints_are_resumed() {
        let first = Host::new().input("resume").run(main);
        assert_eq!(first.output::<u64>(), 0);
        let state = first.record.checkpoints.last().unwrap().clone();
        let second = Host::new().input("resume").resume_bytes(state).run(main);
        assert_eq!(second.output::<u64>(), 1);
        // A state of another type is warned of and ignored.
        let other = Host::new().input("resume").resume("text").run(main);
        assert_eq!(other.output::<u64>(), 0);
        assert_eq!(other.record.logs[1].0, log::Level::Warn);
    }

    #[test]
    fn what_is_told_is_recorded() {
        let mut seed = [0; 32];
        seed[31] = 5;
        let run = Host::new().input("solve").fuel(100).seed(seed).run(main);
        assert_eq!(run.output::<u64>(), 105);
        assert_eq!(run.record.progress, [(1.0, 4.0)]);
        let [first, second] = &run.record.incumbents[..] else {
            panic!("{:?}", run.record)
        };
        assert_eq!(
            (first.objective, first.bound, &first.solution[..]),
            (5.0, None, &b"\x65first"[..])
        );
        assert_eq!(
            (second.bound, &second.solution[..]),
            (Some(3.5), &b"second"[..])
        );
        let logs: Vec<_> = run
            .record
            .logs
            .iter()
            .map(|(level, _, text)| (*level, &text[..]))
            .collect();
        assert_eq!(logs, [(log::Level::Info, "mode solve")]);
    }

    #[test]
    fn failures_and_panics_are_told_apart() {
        let failed = Host::new().input("fail").run(main);
        assert_eq!(
            (failed.failure().code, &failed.failure().message[..]),
            (40, "own code")
        );
        let panicked = Host::new().input("panic").run(main);
        assert_eq!(panicked.outcome, Outcome::Panicked("mode panic".to_owned()));
    }

    #[test]
    fn blobs_are_read() {
        let host = || Host::new().blob("empty", *b"").blob("data", *b"abcdef123");
        assert_eq!(host().input("data").run(main).output::<u64>(), 123);
        assert_eq!(
            host().input("other").run(main).failure().message,
            "no such blob"
        );
    }
}

#[test]
fn the_sdk_and_its_macros_share_a_version() {
    let line = |manifest: &str| {
        manifest
            .lines()
            .find(|line| line.starts_with("version = "))
            .map(str::to_owned)
    };
    let sdk = line(include_str!("../Cargo.toml"));
    assert!(sdk.is_some());
    assert_eq!(sdk, line(include_str!("../macros/Cargo.toml")));
}
