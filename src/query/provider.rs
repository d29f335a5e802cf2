//! Tables as DataFusion sees them: each scan knows which columns the query needs and makes only
//! those; the blocking work runs on a blocking thread and streams through a bounded channel.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::cast::as_boolean_array;
use datafusion::common::{Column, DFSchema, Result, internal_datafusion_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::scalar::ScalarValue;

use super::source::Derived;
use super::traces::{Named, TRACE, with_trace};
use crate::tables::{
    CACHE_BREAKS, CONNECTIONS, CONVERSATIONS, DNS_ANSWERS, FILE_OPS, FILES, GAPS, HTTP, LIMITS,
    LLM_CALLS, LOSSES, MCP_CALLS, MESSAGES, PROBES, PROCESSES, SAMPLES, STDIO_CHUNKS,
    STREAM_EVENTS, TLS_CHUNKS, TOOL_CALLS, TRACE_INFO, TURNS,
};

/// Batches that may wait between the thread that makes them and the query.
const CHANNEL_BATCHES: usize = 2;

impl Derived {
    /// All tables made from events, in the order of the catalogue.
    pub(super) const ALL: [Self; 22] = [
        Self::TlsChunks,
        Self::StdioChunks,
        Self::Processes,
        Self::Samples,
        Self::Files,
        Self::FileOps,
        Self::Connections,
        Self::DnsAnswers,
        Self::Http,
        Self::StreamEvents,
        Self::LlmCalls,
        Self::Messages,
        Self::ToolCalls,
        Self::Turns,
        Self::Conversations,
        Self::CacheBreaks,
        Self::Limits,
        Self::McpCalls,
        Self::Losses,
        Self::Gaps,
        Self::Probes,
        Self::TraceInfo,
    ];

    /// Name in SQL and schema of one trace's table.
    pub(super) fn declaration(self) -> (&'static str, SchemaRef) {
        match self {
            Self::TlsChunks => (TLS_CHUNKS.name, TLS_CHUNKS.schema()),
            Self::StdioChunks => (STDIO_CHUNKS.name, STDIO_CHUNKS.schema()),
            Self::Files => (FILES.name, FILES.schema()),
            Self::FileOps => (FILE_OPS.name, FILE_OPS.schema()),
            Self::Connections => (CONNECTIONS.name, CONNECTIONS.schema()),
            Self::DnsAnswers => (DNS_ANSWERS.name, DNS_ANSWERS.schema()),
            Self::Processes => (PROCESSES.name, PROCESSES.schema()),
            Self::Samples => (SAMPLES.name, SAMPLES.schema()),
            Self::Http => (HTTP.name, HTTP.schema()),
            Self::StreamEvents => (STREAM_EVENTS.name, STREAM_EVENTS.schema()),
            Self::LlmCalls => (LLM_CALLS.name, LLM_CALLS.schema()),
            Self::Messages => (MESSAGES.name, MESSAGES.schema()),
            Self::ToolCalls => (TOOL_CALLS.name, TOOL_CALLS.schema()),
            Self::Turns => (TURNS.name, TURNS.schema()),
            Self::Conversations => (CONVERSATIONS.name, CONVERSATIONS.schema()),
            Self::CacheBreaks => (CACHE_BREAKS.name, CACHE_BREAKS.schema()),
            Self::Limits => (LIMITS.name, LIMITS.schema()),
            Self::McpCalls => (MCP_CALLS.name, MCP_CALLS.schema()),
            Self::Gaps => (GAPS.name, GAPS.schema()),
            Self::Losses => (LOSSES.name, LOSSES.schema()),
            Self::Probes => (PROBES.name, PROBES.schema()),
            Self::TraceInfo => (TRACE_INFO.name, TRACE_INFO.schema()),
        }
    }
}

/// A derived table of one trace, or of several with the column `trace` in front.
#[derive(Debug)]
pub(super) struct Provider {
    traces: Vec<Named>,
    table: Derived,
    has_trace_column: bool,
    schema: SchemaRef,
}

impl Provider {
    pub(super) fn new(traces: &[Named], table: Derived) -> Self {
        let (_, own) = table.declaration();
        let has_trace_column = traces.len() > 1;
        let schema = if has_trace_column { with_trace(&own) } else { own };
        Self { traces: traces.to_vec(), table, has_trace_column, schema }
    }

    fn can_choose_traces(&self, filter: &Expr) -> bool {
        let columns = filter.column_refs();
        let is_trace = |column: &&Column| column.name == TRACE;
        self.has_trace_column
            && !columns.is_empty()
            && columns.iter().all(is_trace)
            && !filter.is_volatile()
    }

    /// The traces whose name passes the filters, so that no other is read.
    fn chosen(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Named>> {
        let filters: Vec<_> = filters.iter().filter(|it| self.can_choose_traces(it)).collect();
        if filters.is_empty() {
            return Ok(self.traces.clone());
        }
        let schema = Arc::new(Schema::new(vec![Field::new(TRACE, DataType::Utf8, false)]));
        let names = self.traces.iter().map(|trace| Some(trace.name.as_str()));
        let names: ArrayRef = Arc::new(names.collect::<StringArray>());
        let names = RecordBatch::try_new(Arc::clone(&schema), vec![names])?;
        let schema = DFSchema::try_from(schema)?;
        let mut is_chosen = vec![true; self.traces.len()];
        for filter in filters {
            let filter = state.create_physical_expr(filter.clone(), &schema)?;
            let passes = filter.evaluate(&names)?.into_array(self.traces.len())?;
            let passes = as_boolean_array(&passes)?;
            for (chosen, passes) in is_chosen.iter_mut().zip(passes.iter()) {
                *chosen &= passes == Some(true);
            }
        }
        let traces = self.traces.iter().zip(is_chosen).filter(|(_, chosen)| *chosen);
        Ok(traces.map(|(trace, _)| trace.clone()).collect())
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

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.can_choose_traces(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let schema = Arc::new(self.schema.project(&projection)?);
        let scan = Scan {
            traces: self.chosen(state, filters)?,
            table: self.table,
            has_trace_column: self.has_trace_column,
            projection,
            schema: Arc::clone(&schema),
        };
        // The scan projects by itself, so the plan node has nothing left to project.
        let plan =
            StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// One reading of some columns of a derived table.
#[derive(Clone, Debug)]
struct Scan {
    traces: Vec<Named>,
    table: Derived,
    has_trace_column: bool,
    /// Positions in the schema of the provider.
    projection: Vec<usize>,
    schema: SchemaRef,
}

impl Scan {
    /// Makes the batches of all traces, one trace after the other.
    fn produce(&self, sink: &mut dyn FnMut(RecordBatch) -> ControlFlow<()>) -> Result<()> {
        let own: Vec<usize> = match self.has_trace_column {
            true => self.projection.iter().filter_map(|index| index.checked_sub(1)).collect(),
            false => self.projection.clone(),
        };
        for trace in &self.traces {
            let mut outcome = Ok(ControlFlow::Continue(()));
            trace.source.produce(self.table, &own, &mut |batch| {
                outcome = self.labelled(&trace.name, batch).map(&mut *sink);
                match outcome {
                    Ok(flow) => flow,
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            if outcome?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// A batch with the column `trace` at the places where it was asked for.
    fn labelled(&self, trace: &str, batch: RecordBatch) -> Result<RecordBatch> {
        if !self.has_trace_column {
            return Ok(batch);
        }
        let rows = batch.num_rows();
        let mut own = batch.columns().iter();
        let mut columns = Vec::with_capacity(self.projection.len());
        for index in &self.projection {
            columns.push(match index {
                0 => ScalarValue::from(trace).to_array_of_size(rows)?,
                _ => own.next().map(Arc::clone).ok_or_else(|| {
                    internal_datafusion_err!("table {:?} made too few columns", self.table)
                })?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let mut stream = RecordBatchReceiverStream::builder(schema, CHANNEL_BATCHES);
        let sender = stream.tx();
        let scan = self.clone();
        stream.spawn_blocking(move || {
            // Sending fails when the query has what it wants (LIMIT) or was dropped.
            scan.produce(&mut |batch| match sender.blocking_send(Ok(batch)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
        });
        stream.build()
    }
}
