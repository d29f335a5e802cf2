//! SQL over traces: the only place that knows DataFusion.
//!
//! A [`Session`] registers the catalogue of [`crate::tables`] and runs statements that only read:
//! `events` straight from the Parquet files, everything else from `source`. The interface blocks;
//! the asynchronous machinery stays inside. One partition per plan: the same query over the same
//! traces gives the same bytes.

mod calls;
mod completeness;
mod error;
mod events;
mod facts;
mod functions;
mod info;
mod kept;
pub mod library;
pub mod overview;
pub mod print;
mod provider;
mod rows;
mod schema;
mod source;
mod statement;
mod traces;

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use tokio::runtime::Runtime;

pub use completeness::{Shortfall, ShortfallKind, Shortfalls};
pub use error::Error;
pub use rows::Rows;

use events::Events;
use provider::Provider;
use schema::Tables;
use source::Derived;
use traces::Named;

use crate::price::Prices;
use crate::tables::{DOCS, EVENTS, documentation};

/// How a session works.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Memory that sorting, grouping and joining may hold before they spill to disk or fail;
    /// unlimited when absent. The tables' own rows (bounded) come on top.
    pub memory_limit_bytes: Option<usize>,
    /// What calls to models cost.
    pub prices: Prices,
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

/// One trace or several, open for SQL.
pub struct Session {
    runtime: Runtime,
    environment: Arc<RuntimeEnv>,
    traces: Vec<Named>,
    /// The tables over all traces.
    context: SessionContext,
}

impl Session {
    /// Opens traces. With more than one, every table has the column `trace` in front. Files that
    /// are parts of one recording become one trace.
    ///
    /// # Errors
    /// When no trace is given, one is given twice, or one cannot be read.
    pub fn open(paths: &[PathBuf], options: Options) -> Result<Self, Error> {
        let traces = traces::open(paths, &Arc::new(options.prices))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(STACK_BYTES)
            .build()
            .map_err(DataFusionError::IoError)?;
        let mut environment = RuntimeEnvBuilder::new();
        if let Some(bytes) = options.memory_limit_bytes {
            environment = environment.with_memory_limit(bytes, 1.0);
        }
        let environment = environment.build_arc()?;
        let context = context(&traces, &environment)?;
        Ok(Self { runtime, environment, traces, context })
    }

    /// Runs one statement over the tables of all traces.
    ///
    /// # Errors
    /// When it is not SQL, would change something, names what is not there, or cannot be planned.
    pub fn sql(&self, sql: &str) -> Result<Rows<'_>, Error> {
        let plan = self.plan(&self.context, sql)?;
        if let Some(name) = first_parameter(&plan)? {
            return Err(Error::Placeholder(name));
        }
        let frame = DataFrame::new(self.context.state(), plan);
        Rows::start(&self.runtime, vec![(None, frame)])
    }

    /// Runs a named query ([`library`]) with the parameters given as text; those left out take
    /// their defaults. Of several traces it is asked one after the other, so that no join or sum
    /// mixes them, and the rows have the column `trace` in front.
    ///
    /// # Errors
    /// When there is no such query, a parameter does not fit it, or as [`Session::sql`].
    pub fn named(&self, name: &str, parameters: &[(String, String)]) -> Result<Rows<'_>, Error> {
        let query = library::find(name)?;
        let values = query.bind(parameters)?;
        let frame = |context: &SessionContext| -> Result<DataFrame, Error> {
            let plan = self.plan(context, query.sql)?.with_param_values(values.clone())?;
            Ok(DataFrame::new(context.state(), plan))
        };
        let frames = match self.traces.as_slice() {
            [_] => vec![(None, frame(&self.context)?)],
            traces => traces
                .iter()
                .map(|trace| {
                    let alone = context(std::slice::from_ref(trace), &self.environment)?;
                    Ok((Some(trace.name.clone()), frame(&alone)?))
                })
                .collect::<Result<_, Error>>()?,
        };
        Rows::start(&self.runtime, frames)
    }

    /// What is known so far to be missing from each trace. Damaged rows are known only once they
    /// were read.
    #[must_use]
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        self.traces.iter().flat_map(completeness::shortfalls).collect()
    }

    /// The traces, as the column `trace` names them.
    #[must_use]
    pub fn trace_names(&self) -> Vec<&str> {
        self.traces.iter().map(|trace| trace.name.as_str()).collect()
    }

    fn plan(&self, context: &SessionContext, sql: &str) -> Result<LogicalPlan, Error> {
        let state = context.state();
        let sql = sql.to_owned();
        // On a worker thread for its stack.
        let plan = async move { statement::plan(&state, &sql).await };
        self.runtime.block_on(self.runtime.spawn(plan)).map_err(rows::joined)?
    }
}

/// The name of a parameter that has no value yet.
fn first_parameter(plan: &LogicalPlan) -> Result<Option<String>, Error> {
    let names = plan.get_parameter_names()?;
    Ok(names.into_iter().min())
}

/// DataFusion with the tables over some traces.
fn context(traces: &[Named], environment: &Arc<RuntimeEnv>) -> Result<SessionContext, Error> {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_batch_size(BATCH_ROWS)
        // With several partitions the order of rows and of floating-point sums varies by run.
        .with_target_partitions(1);
    // Payload dwarfs all other columns: read it only for rows that pass the filters.
    config.options_mut().execution.parquet.pushdown_filters = true;
    config.options_mut().execution.parquet.reorder_filters = true;
    let mut context = SessionContext::new_with_config_rt(config, Arc::clone(environment));
    datafusion_functions_json::register_all(&mut context)?;
    context.register_udf(functions::body_text());
    let events: Arc<dyn TableProvider> = Arc::new(Events::new(traces)?);
    let derived = Derived::ALL.into_iter().map(|table| -> (&str, Arc<dyn TableProvider>) {
        (table.declaration().0, Arc::new(Provider::new(traces, table)))
    });
    let docs: Arc<dyn TableProvider> = Arc::new(docs(traces.len() > 1)?);
    let tables = [(EVENTS, events)].into_iter().chain(derived).chain([(DOCS.name, docs)]);
    let catalog = context.catalog(CATALOG).expect("the session has its default catalog");
    catalog.register_schema(SCHEMA, Arc::new(Tables::new(tables)))?;
    Ok(context)
}

/// The documentation as a table; it is of no trace.
fn docs(has_trace_column: bool) -> Result<MemTable, Error> {
    let columns: Vec<usize> = (0..DOCS.columns.len()).collect();
    let batch = DOCS.batch(&documentation(has_trace_column), &columns);
    let batch = batch.map_err(DataFusionError::from)?;
    Ok(MemTable::try_new(DOCS.schema(), vec![vec![batch]])?)
}
