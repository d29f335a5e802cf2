//! Tables as DataFusion sees them: each scan knows which columns the query needs and makes only
//! those; the blocking work runs on a blocking thread and streams through a bounded channel.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use super::source::{Derived, Source};
use crate::tables::{
    DOCS, HTTP, LLM_CALLS, LOSSES, PROBES, PROCESSES, SAMPLES, STREAM_EVENTS, TLS_CHUNKS,
    TRACE_INFO,
};

/// Batches that may wait between the thread that makes them and the query.
const CHANNEL_BATCHES: usize = 2;

impl Derived {
    /// All derived tables, in the order of the catalogue.
    pub(super) const ALL: [Self; 10] = [
        Self::TlsChunks,
        Self::Processes,
        Self::Samples,
        Self::Http,
        Self::StreamEvents,
        Self::LlmCalls,
        Self::Losses,
        Self::Probes,
        Self::TraceInfo,
        Self::Docs,
    ];

    /// Name in SQL and schema.
    pub(super) fn declaration(self) -> (&'static str, SchemaRef) {
        match self {
            Self::TlsChunks => (TLS_CHUNKS.name, TLS_CHUNKS.schema()),
            Self::Processes => (PROCESSES.name, PROCESSES.schema()),
            Self::Samples => (SAMPLES.name, SAMPLES.schema()),
            Self::Http => (HTTP.name, HTTP.schema()),
            Self::StreamEvents => (STREAM_EVENTS.name, STREAM_EVENTS.schema()),
            Self::LlmCalls => (LLM_CALLS.name, LLM_CALLS.schema()),
            Self::Losses => (LOSSES.name, LOSSES.schema()),
            Self::Probes => (PROBES.name, PROBES.schema()),
            Self::TraceInfo => (TRACE_INFO.name, TRACE_INFO.schema()),
            Self::Docs => (DOCS.name, DOCS.schema()),
        }
    }
}

/// A derived table of a trace.
#[derive(Debug)]
pub(super) struct Provider {
    source: Arc<Source>,
    table: Derived,
    schema: SchemaRef,
}

impl Provider {
    pub(super) fn new(source: Arc<Source>, table: Derived) -> Self {
        Self { source, table, schema: table.declaration().1 }
    }
}

#[async_trait]
impl TableProvider for Provider {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let schema = Arc::new(self.schema.project(&projection)?);
        let (source, table) = (Arc::clone(&self.source), self.table);
        let scan = Scan { source, table, projection, schema: Arc::clone(&schema) };
        // The scan projects by itself, so the plan node has nothing left to project.
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// One reading of some columns of a derived table.
#[derive(Debug)]
struct Scan {
    source: Arc<Source>,
    table: Derived,
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let mut stream = RecordBatchReceiverStream::builder(schema, CHANNEL_BATCHES);
        let sender = stream.tx();
        let (source, table) = (Arc::clone(&self.source), self.table);
        let projection = self.projection.clone();
        stream.spawn_blocking(move || {
            // Sending fails when the query has what it wants (LIMIT) or was dropped.
            source.produce(table, &projection, &mut |batch| match sender.blocking_send(Ok(batch)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        stream.build()
    }
}
