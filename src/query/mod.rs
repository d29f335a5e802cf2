//! SQL over one trace: the only place that knows DataFusion.
//!
//! A [`Session`] registers the catalogue of [`crate::tables`] and runs statements that only read:
//! `events` straight from the Parquet file, everything else from `source`. The interface blocks;
//! the asynchronous machinery stays inside. One partition per plan: the same query over the same
//! trace gives the same bytes.

mod error;
mod functions;
mod info;
pub mod library;
pub mod overview;
pub mod print;
mod provider;
mod schema;
mod source;
mod statement;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::scalar::ScalarValue;
use futures::StreamExt;
use tokio::runtime::Runtime;
use url::Url;

pub use error::Error;
use provider::Provider;
use schema::Tables;
use source::{Derived, Source};

use crate::tables::EVENTS;
use crate::trace::Reader;

/// How a session works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Memory that sorting, grouping and joining may hold before they spill to disk or fail;
    /// unlimited when absent. The tables' own rows (bounded) come on top.
    pub memory_limit_bytes: Option<usize>,
}

/// Rows of a batch. Far fewer than DataFusion's 8192, because filters and joins gather that many
/// before they hand them on and each row may carry a body of a megabyte or two. A scan of a million
/// events takes 0.5 s instead of 0.3 s for it (debug build).
const BATCH_ROWS: usize = 128;

/// Stack of the threads that plan and run queries. Deeply nested SQL recurses as deep; pages are
/// only used when touched.
const STACK_BYTES: usize = 256 << 20;

/// DataFusion's names for what is not qualified in SQL.
const CATALOG: &str = "datafusion";
const SCHEMA: &str = "public";

/// A trace, open for SQL.
pub struct Session {
    runtime: Runtime,
    context: SessionContext,
}

impl Session {
    /// Opens a trace.
    ///
    /// # Errors
    /// When it is not exactly one trace, or cannot be read.
    pub fn open(paths: &[PathBuf], options: Options) -> Result<Self, Error> {
        let [path] = paths else {
            return Err(Error::TraceCount(paths.len()));
        };
        let reader = Reader::open(path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(STACK_BYTES)
            .build()
            .map_err(DataFusionError::IoError)?;
        let context = context(&options)?;
        let events: Arc<dyn TableProvider> =
            Arc::new(runtime.block_on(events_table(&context, path))?);
        let source = Arc::new(Source::new(reader));
        let derived = Derived::ALL.into_iter().map(|table| -> (&str, Arc<dyn TableProvider>) {
            (table.declaration().0, Arc::new(Provider::new(Arc::clone(&source), table)))
        });
        let tables = Tables::new([(EVENTS, events)].into_iter().chain(derived));
        let catalog = context.catalog(CATALOG).expect("the session has its default catalog");
        catalog.register_schema(SCHEMA, Arc::new(tables))?;
        Ok(Self { runtime, context })
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// When it is not SQL, would change something, names what is not there, or cannot be planned.
    pub fn sql(&self, sql: &str) -> Result<Rows<'_>, Error> {
        let plan = self.plan(sql)?;
        if let Some(name) = first_parameter(&plan)? {
            return Err(Error::Placeholder(name));
        }
        self.run(plan)
    }

    /// Runs a named query ([`library`]) with the parameters given as text; those left out take
    /// their defaults.
    ///
    /// # Errors
    /// When there is no such query, a parameter does not fit it, or as [`Session::sql`].
    pub fn named(&self, name: &str, parameters: &[(String, String)]) -> Result<Rows<'_>, Error> {
        let query = library::find(name)?;
        let values: Vec<(String, ScalarValue)> = query.bind(parameters)?;
        let plan = self.plan(query.sql)?.with_param_values(values)?;
        self.run(plan)
    }

    fn plan(&self, sql: &str) -> Result<LogicalPlan, Error> {
        let state = self.context.state();
        let sql = sql.to_owned();
        // On a worker thread for its stack.
        let plan = async move { statement::plan(&state, &sql).await };
        self.runtime.block_on(self.runtime.spawn(plan)).map_err(joined)?
    }

    fn run(&self, plan: LogicalPlan) -> Result<Rows<'_>, Error> {
        let frame = DataFrame::new(self.context.state(), plan);
        let start = async move { frame.execute_stream().await };
        let stream = self.runtime.block_on(self.runtime.spawn(start)).map_err(joined)??;
        Ok(Rows { runtime: &self.runtime, schema: stream.schema(), stream: Some(stream) })
    }
}

/// The name of a parameter that has no value yet.
fn first_parameter(plan: &LogicalPlan) -> Result<Option<String>, Error> {
    let names = plan.get_parameter_names()?;
    Ok(names.into_iter().min())
}

fn joined(error: tokio::task::JoinError) -> Error {
    Error::Query { message: format!("the query ended abnormally: {error}"), hint: None }
}

fn context(options: &Options) -> Result<SessionContext, Error> {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_batch_size(BATCH_ROWS)
        // With several partitions the order of rows and of floating-point sums varies by run.
        .with_target_partitions(1);
    // Payload dwarfs all other columns: read it only for rows that pass the filters.
    config.options_mut().execution.parquet.pushdown_filters = true;
    config.options_mut().execution.parquet.reorder_filters = true;
    let mut environment = RuntimeEnvBuilder::new();
    if let Some(bytes) = options.memory_limit_bytes {
        environment = environment.with_memory_limit(bytes, 1.0);
    }
    let mut context = SessionContext::new_with_config_rt(config, environment.build_arc()?);
    datafusion_functions_json::register_all(&mut context)?;
    context.register_udf(functions::body_text());
    Ok(context)
}

/// The table over the trace file itself.
async fn events_table(context: &SessionContext, path: &Path) -> Result<ListingTable, Error> {
    let invalid = || Error::Path(path.to_owned());
    let absolute = std::path::absolute(path).map_err(|_| invalid())?;
    // As a URL and not as a path, in which DataFusion would take '*' or '[' for a pattern.
    let url = Url::from_file_path(absolute).map_err(|()| invalid())?;
    let url = ListingTableUrl::try_new(url, None)?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("");
    let config = ListingTableConfig::new(url).with_listing_options(options);
    let config = config.infer_schema(&context.state()).await?;
    Ok(ListingTable::try_new(config)?)
}

/// The rows that a statement gives, batch by batch.
pub struct Rows<'s> {
    runtime: &'s Runtime,
    schema: SchemaRef,
    /// Absent after the end or an error.
    stream: Option<SendableRecordBatchStream>,
}

impl Rows<'_> {
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
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        // Polled on a worker thread for its stack, like planning.
        let next = async move { (stream.next().await, stream) };
        let (batch, stream) = match self.runtime.block_on(self.runtime.spawn(next)) {
            Ok(polled) => polled,
            Err(error) => return Some(Err(joined(error))),
        };
        let batch = batch?.map_err(Error::from);
        self.stream = batch.is_ok().then_some(stream);
        Some(batch)
    }
}
