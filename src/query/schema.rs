//! The tables of a session, in the order of the catalogue and for good: nothing can be added, and
//! `SHOW TABLES` always lists them alike (DataFusion's own schema keeps them in a random order).

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result;

/// Names and tables, in order.
#[derive(Debug)]
pub(super) struct Tables(Vec<(&'static str, Arc<dyn TableProvider>)>);

impl Tables {
    pub(super) fn new(
        tables: impl IntoIterator<Item = (&'static str, Arc<dyn TableProvider>)>,
    ) -> Self {
        Self(tables.into_iter().collect())
    }

    fn find(&self, name: &str) -> Option<&Arc<dyn TableProvider>> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, table)| table)
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.find(name).cloned())
    }

    fn table_exist(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
