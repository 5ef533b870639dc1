//! Whatever arrives is a message or an error.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use optwasm_protocol::frame::{FrameError, FrameReader, encode};
use optwasm_protocol::message::{FromWorker, Request, Response, ToWorker};
use optwasm_protocol::{JobId, Outcome, Report, Token};
use proptest::prelude::*;
use serde::de::DeserializeOwned;

/// Reads messages to the end; all that may happen is that it ends or fails.
async fn read_all<T: DeserializeOwned>(bytes: &[u8]) -> Result<usize, FrameError> {
    let mut reader = FrameReader::new(bytes);
    let mut count = 0;
    while reader.next::<T>().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime can be built").block_on(future)
}

/// A message that a worker sends, as bytes.
fn finished(batch: u64, index: u32, text: &str) -> Vec<u8> {
    let outcome = Outcome::Rejected(text.to_owned());
    let report = Report::not_run(outcome);
    let message = FromWorker::Finished(vec![(
        JobId(optwasm_protocol::BatchId(batch), index),
        1,
        report,
    )]);
    let mut bytes = Vec::new();
    encode(&message, &mut bytes).expect("it is small");
    bytes
}

proptest! {
    #[test]
    fn noise_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let framed = [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat();
        for noise in [&bytes, &framed] {
            let _ = block_on(read_all::<FromWorker>(noise));
            let _ = block_on(read_all::<ToWorker>(noise));
            let _ = block_on(read_all::<Request>(noise));
            let _ = block_on(read_all::<Response>(noise));
        }
    }

    #[test]
    fn a_message_with_a_flipped_bit_is_a_message_or_an_error(
        batch in any::<u64>(),
        index in any::<u32>(),
        text in ".{0,40}",
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let mut bytes = finished(batch, index, &text);
        prop_assert_eq!(block_on(read_all::<FromWorker>(&bytes)).unwrap(), 1);
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let _ = block_on(read_all::<FromWorker>(&bytes));
    }

    #[test]
    fn text_is_a_token_only_with_its_checksum(text in "(optwasm1_)?[A-Za-z0-9_-]{0,130}") {
        prop_assert!(text.parse::<Token>().is_err());
    }
}
