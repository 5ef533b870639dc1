//! Typed calls: values in, values out.

use std::marker::PhantomData;

use bytes::Bytes;
use optwasm_protocol::message::{BatchSpec, Order};
use optwasm_protocol::{ContentId, Outcome, Report, Template};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Batch, Client, ClientError, Results};

/// A job of a typed call failed.
#[derive(Debug, thiserror::Error)]
#[error("job {index}: {outcome}")]
pub struct JobFailed {
    /// Its place among the inputs.
    pub index: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// The outputs of a typed call, as jobs end. Dropping it leaves the jobs running.
pub struct Mapped<'a, Out> {
    client: &'a Client,
    batch: Batch<'a>,
    results: Results<'a>,
    output: PhantomData<fn() -> Out>,
}

impl<'a, Out: DeserializeOwned> Mapped<'a, Out> {
    /// The batch that they belong to.
    pub fn batch(&self) -> Batch<'a> {
        self.batch
    }

    /// The next output, with the place of its input; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`ClientError`] where the batch as a whole could not be run.
    #[allow(clippy::type_complexity)] // It is what it says.
    pub async fn next(&mut self) -> Result<Option<(u32, Result<Out, JobFailed>)>, ClientError> {
        match self.results.next().await? {
            Some((index, report)) => Ok(Some((index, decode(self.client, index, report).await?))),
            None => Ok(None),
        }
    }
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
        let mut outputs = Vec::new();
        if let Some(mut mapped) = self.map_in(Order::Input, spec, inputs).await? {
            while let Some((_, output)) = mapped.next().await? {
                outputs.push(output);
            }
        }
        Ok(outputs)
    }

    /// As [`map_with`](Self::map_with), but gives each output when its job ends; `None` where there
    /// are no inputs.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn map_as_completed<In, Out>(
        &self,
        spec: BatchSpec,
        inputs: impl IntoIterator<Item = In>,
    ) -> Result<Option<Mapped<'_, Out>>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        self.map_in(Order::Completion, spec, inputs).await
    }

    async fn map_in<In, Out>(
        &self,
        order: Order,
        spec: BatchSpec,
        inputs: impl IntoIterator<Item = In>,
    ) -> Result<Option<Mapped<'_, Out>>, ClientError>
    where
        In: Serialize,
        Out: DeserializeOwned,
    {
        let inputs = inputs.into_iter().map(|input| encode(&input));
        let inputs: Vec<Bytes> = inputs.collect::<Result<_, _>>()?;
        if inputs.is_empty() {
            return Ok(None);
        }
        let batch = self.submit(spec, inputs).await?;
        Ok(Some(Mapped {
            client: self,
            batch,
            results: batch.results(order).await?,
            output: PhantomData,
        }))
    }
}

/// Pairs of arguments, for modules that take two.
///
/// # Errors
///
/// [`ClientError::Lengths`] where there are not as many of the one as of the other.
pub fn zip<A, B>(first: Vec<A>, second: Vec<B>) -> Result<Vec<(A, B)>, ClientError> {
    if first.len() != second.len() {
        return Err(ClientError::Lengths(first.len(), second.len()));
    }
    Ok(first.into_iter().zip(second).collect())
}

/// A value as CBOR.
pub(crate) fn encode<In: Serialize>(input: &In) -> Result<Bytes, ClientError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(input, &mut bytes)
        .map_err(|error| ClientError::Codec(format!("input: {error}")))?;
    Ok(bytes.into())
}

/// What a job returned, or how it failed.
pub(crate) async fn decode<Out: DeserializeOwned>(
    client: &Client,
    index: u32,
    report: Report,
) -> Result<Result<Out, JobFailed>, ClientError> {
    match report.outcome {
        Outcome::Ok(output) => {
            let bytes = client.fetch(&output).await?;
            let decoded = ciborium::from_reader(&bytes[..]);
            Ok(Ok(decoded.map_err(|e| {
                ClientError::Codec(format!("output {index}: {e}"))
            })?))
        }
        outcome => Ok(Err(JobFailed { index, outcome })),
    }
}
