//! The rows that a statement gives, batch by batch: one plan, or one per trace in turn.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use tokio::runtime::Runtime;

use super::error::Error;
use super::traces::with_trace;

/// The rows that a statement gives, batch by batch.
pub struct Rows<'s> {
    runtime: &'s Runtime,
    schema: SchemaRef,
    /// The trace it is of, where there are several, and its rows. Absent after the end or an error.
    running: Option<(Option<String>, SendableRecordBatchStream)>,
    /// Not begun yet, so that one trace is read at a time.
    waiting: VecDeque<(Option<String>, DataFrame)>,
}

impl<'s> Rows<'s> {
    /// Begins with the first of the plans, each of which gives the same columns. The rows of a plan
    /// that comes with the name of a trace have it in front.
    pub(super) fn start(
        runtime: &'s Runtime,
        plans: Vec<(Option<String>, DataFrame)>,
    ) -> Result<Self, Error> {
        let mut waiting = VecDeque::from(plans);
        let (trace, frame) = waiting.pop_front().expect("there is a plan for every trace");
        let stream = execute(runtime, frame)?;
        let schema = stream.schema();
        let schema = if trace.is_some() { with_trace(&schema) } else { schema };
        Ok(Self { runtime, schema, running: Some((trace, stream)), waiting })
    }

    /// The columns.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// All rows at once; for results known to be small.
    ///
    /// # Errors
    /// When the query fails on the way.
    pub fn collect_batches(self) -> Result<Vec<RecordBatch>, Error> {
        self.collect()
    }

    fn advance(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            let (trace, mut stream) = match self.running.take() {
                Some(running) => running,
                None => match self.waiting.pop_front() {
                    Some((trace, frame)) => (trace, execute(self.runtime, frame)?),
                    None => return Ok(None),
                },
            };
            // Polled on a worker thread for its stack, like planning.
            let next = async move { (stream.next().await, stream) };
            let (batch, stream) =
                self.runtime.block_on(self.runtime.spawn(next)).map_err(joined)?;
            let Some(batch) = batch.transpose()? else { continue };
            let batch = match &trace {
                Some(trace) => labelled(&self.schema, trace, &batch)?,
                None => batch,
            };
            self.running = Some((trace, stream));
            return Ok(Some(batch));
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.advance();
        if batch.is_err() {
            self.running = None;
            self.waiting.clear();
        }
        batch.transpose()
    }
}

fn execute(runtime: &Runtime, frame: DataFrame) -> Result<SendableRecordBatchStream, Error> {
    let start = async move { frame.execute_stream().await };
    Ok(runtime.block_on(runtime.spawn(start)).map_err(joined)??)
}

/// A batch with the name of its trace in front.
fn labelled(
    schema: &SchemaRef,
    trace: &str,
    batch: &RecordBatch,
) -> Result<RecordBatch, DataFusionError> {
    let trace = ScalarValue::from(trace).to_array_of_size(batch.num_rows())?;
    let columns = std::iter::once(trace).chain(batch.columns().iter().cloned()).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

pub(super) fn joined(error: tokio::task::JoinError) -> Error {
    Error::Query { message: format!("the query ended abnormally: {error}"), hint: None }
}
