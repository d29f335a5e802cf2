//! The table `events`: the rows of the trace files as they are, read by DataFusion's Parquet source.
//!
//! Filters are evaluated inside the source, row groups are pruned by their statistics, and only the
//! columns that a query names are decoded. The bytes come through [`Scan`], because a recording need
//! not be one finished file, and because its checks are due to files of strangers. The columns are
//! those that this program knows, also where a file lacks some; what else a file has is passed over.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::{ParquetAccessPlan, ParquetFileReaderFactory};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::scalar::ScalarValue;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::traces::{Named, TRACE, with_trace};
use crate::trace::Scan;

/// A file of a trace.
#[derive(Debug)]
struct File {
    /// The name of the trace that it is of.
    trace: String,
    scan: Arc<Scan>,
    /// Row groups at its begin that only repeat what the file before it says.
    repeated_groups: usize,
}

/// The raw events of one trace, or of several with the column `trace` in front.
#[derive(Debug)]
pub(super) struct Events {
    /// The files of all traces in order.
    files: Vec<File>,
    has_trace_column: bool,
    schema: SchemaRef,
}

impl Events {
    pub(super) fn new(traces: &[Named]) -> Result<Self, crate::trace::Error> {
        let mut files = Vec::new();
        for trace in traces {
            for (reader, repeated_groups) in trace.source.files() {
                let (trace, scan) = (trace.name.clone(), Arc::new(reader.scan()?));
                files.push(File { trace, scan, repeated_groups });
            }
        }
        let has_trace_column = traces.len() > 1;
        let columns = Scan::known_columns();
        let schema = if has_trace_column { with_trace(&columns) } else { columns };
        Ok(Self { files, has_trace_column, schema })
    }

    /// Positions in [`Events::schema`] as the Parquet source counts: it has `trace`, which is in no
    /// file, behind all others.
    fn source_projection(&self, projection: Option<&Vec<usize>>) -> Vec<usize> {
        let columns = self.schema.fields().len();
        let all = || (0..columns).collect();
        let shown = projection.cloned().unwrap_or_else(all);
        if !self.has_trace_column {
            return shown;
        }
        shown.into_iter().map(|index| index.checked_sub(1).unwrap_or(columns - 1)).collect()
    }

    fn partitioned_file(&self, file: &File) -> PartitionedFile {
        let File { trace, scan, repeated_groups } = file;
        let trace = trace.as_str();
        let values = if self.has_trace_column { vec![ScalarValue::from(trace)] } else { vec![] };
        let mut groups = ParquetAccessPlan::new_all(scan.footer().num_row_groups());
        (0..*repeated_groups).for_each(|group| groups.skip(group));
        PartitionedFile::new(trace, scan.len_bytes())
            .with_partition_values(values)
            // Not what the file may embed: types come from its Parquet schema alone.
            .with_arrow_schema(Arc::clone(scan.schema()))
            .with_extension(groups)
            .with_extension(Arc::clone(scan))
    }
}

#[async_trait]
impl TableProvider for Events {
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
        // The physical optimizer hands them to the source; until then they stay above it.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut options = TableParquetOptions::new();
        options.global = state.config_options().execution.parquet.clone();
        // A trace has neither, and those of a hostile file are not worth the trust.
        options.global.enable_page_index = false;
        options.global.bloom_filter_on_read = false;
        let trace = Field::new(TRACE, DataType::Utf8, false);
        let partition_columns = if self.has_trace_column { vec![Arc::new(trace)] } else { vec![] };
        let schema = TableSchema::builder(Scan::known_columns())
            .with_table_partition_cols(partition_columns)
            .build();
        let source = ParquetSource::new(schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(OpenFiles));
        let files = self.files.iter().map(|file| self.partitioned_file(file)).collect();
        // The factory opens the files; the address is only asked for.
        let scan = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_group(FileGroup::new(files))
            .with_projection_indices(Some(self.source_projection(projection)))?
            .with_limit(limit)
            .with_preserve_order(true)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

/// Hands out the open files that travel in the plan.
#[derive(Debug)]
struct OpenFiles;

impl ParquetFileReaderFactory for OpenFiles {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let scan = file.extension::<Arc<Scan>>();
        let scan = scan.ok_or_else(|| internal_datafusion_err!("a file of events is not open"))?;
        Ok(Box::new(OpenFile(Arc::clone(scan))))
    }
}

/// One open file. Reading blocks for as long as a disk takes: nothing else runs meanwhile.
struct OpenFile(Arc<Scan>);

impl AsyncFileReader for OpenFile {
    fn get_bytes(
        &mut self,
        range: Range<u64>,
    ) -> BoxFuture<'_, datafusion::parquet::errors::Result<Bytes>> {
        let bytes = self.0.bytes(range).map_err(|error| ParquetError::External(Box::new(error)));
        ready(bytes).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, datafusion::parquet::errors::Result<Arc<ParquetMetaData>>> {
        ready(Ok(Arc::clone(self.0.footer()))).boxed()
    }
}
