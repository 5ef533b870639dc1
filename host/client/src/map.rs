//! Typed calls: values in, values out.

use optwasm_protocol::message::{BatchSpec, Order};
use optwasm_protocol::{ContentId, Outcome, Template};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Client, ClientError};

/// A job of a typed call failed.
#[derive(Debug, thiserror::Error)]
#[error("job {index}: {outcome}")]
pub struct JobFailed {
    /// Its place among the inputs.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
}

impl Client {
    /// Runs `module` on each input, as CBOR, and decodes the outputs, in the order of the inputs.
    ///
    /// Jobs that fail are errors of their own places.
    ///
    /// # Errors
    ///
    /// [`ClientError`] where the batch as a whole could not be run.
    pub async fn map<In, Out>(
        &self,
        module: ContentId,
        inputs: impl IntoIterator<Item = In>,
    ) -> Result<Vec<Result<Out, JobFailed>>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        self.map_with(BatchSpec::new(Template::new(module)), inputs)
            .await
    }

    /// As [`map`](Self::map), with limits, blobs and the rest as `spec` says.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn map_with<In, Out>(
        &self,
        spec: BatchSpec,
        inputs: impl IntoIterator<Item = In>,
    ) -> Result<Vec<Result<Out, JobFailed>>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        let encode = |input: In| -> Result<Vec<u8>, ClientError> {
            let mut bytes = Vec::new();
            ciborium::into_writer(&input, &mut bytes)
                .map_err(|error| ClientError::Codec(format!("input: {error}")))?;
            Ok(bytes)
        };
        let inputs: Vec<Vec<u8>> = inputs.into_iter().map(encode).collect::<Result<_, _>>()?;
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let batch = self.submit(spec, inputs).await?;
        let mut results = batch.results(Order::Input).await?;
        let mut outputs = Vec::new();
        while let Some((index, report)) = results.next().await? {
            outputs.push(match &report.outcome {
                Outcome::Ok(output) => {
                    let bytes = self.fetch(output).await?;
                    let decoded = ciborium::from_reader(&bytes[..]);
                    Ok(decoded.map_err(|e| ClientError::Codec(format!("output {index}: {e}")))?)
                }
                _ => Err(JobFailed {
                    index,
                    outcome: report.outcome,
                }),
            });
        }
        Ok(outputs)
    }
}
