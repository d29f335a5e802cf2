//! From SQL text to a plan that is known to only read, with errors that name the nearest thing
//! that exists.

use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::{self, Statement as Sql, Visit, Visitor};

use super::error::{Error, nearest};
use crate::tables;

/// Bytes of SQL text that are read. A person writes a hundredth of it; what a program writes may
/// nest by as many levels as it has words, and each level takes stack.
const MAX_SQL_BYTES: usize = 256 << 10;

/// Levels of expressions in expressions (`a OR b OR c` has three), as planning takes some 100 KiB
/// of stack per level in a debug build.
const MAX_EXPRESSION_LEVELS: usize = 1000;

/// SELECTs and tables in a statement: UNION and JOIN nest one level for each.
const MAX_SELECTS: usize = 256;

/// Plans one statement.
pub(super) async fn plan(state: &SessionState, sql: &str) -> Result<LogicalPlan, Error> {
    if sql.len() > MAX_SQL_BYTES {
        let (found, most) = (sql.len(), MAX_SQL_BYTES);
        return Err(Error::TooLarge(format!("expected at most {most} bytes, found {found}")));
    }
    let mut statements = DFParser::parse_sql(sql)?;
    if statements.len() != 1 {
        return Err(Error::StatementCount(statements.len()));
    }
    let statement = statements.pop_front().expect("there is exactly one");
    check_reads(&statement)?;
    check_nesting(&statement)?;
    for table in state.resolve_table_references(&statement)? {
        check_table(&table)?;
    }
    let plan = state.statement_to_plan(statement).await?;
    // The second look, at what the planner made of it.
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)?;
    Ok(plan)
}

/// Refuses what does not merely read.
fn check_reads(statement: &Statement) -> Result<(), Error> {
    match statement {
        Statement::Explain(explain) => check_reads(&explain.statement),
        Statement::Statement(sql) => match &**sql {
            Sql::Query(_)
            | Sql::ExplainTable { .. }
            | Sql::ShowTables { .. }
            | Sql::ShowColumns { .. }
            | Sql::ShowFunctions { .. }
            | Sql::ShowVariable { .. }
            | Sql::ShowVariables { .. } => Ok(()),
            Sql::Explain { statement, .. } => check_reads(&Statement::Statement(statement.clone())),
            _ => Err(Error::NotReadOnly(first_words(statement))),
        },
        _ => Err(Error::NotReadOnly(first_words(statement))),
    }
}

/// Refuses what would nest too deep to plan.
fn check_nesting(statement: &Statement) -> Result<(), Error> {
    match statement {
        Statement::Explain(explain) => check_nesting(&explain.statement),
        Statement::Statement(sql) => match sql.visit(&mut Nesting::default()) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(found) => Err(Error::TooLarge(found)),
        },
        _ => Ok(()),
    }
}

#[derive(Default)]
struct Nesting {
    levels: usize,
    selects: usize,
    tables: usize,
}

impl Visitor for Nesting {
    type Break = String;

    fn pre_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<String> {
        self.levels += 1;
        if self.levels > MAX_EXPRESSION_LEVELS {
            let found = format!("expected at most {MAX_EXPRESSION_LEVELS} levels of expressions");
            return ControlFlow::Break(found);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<String> {
        self.levels -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, _: &ast::Select) -> ControlFlow<String> {
        self.selects += 1;
        if self.selects > MAX_SELECTS {
            return ControlFlow::Break(format!("expected at most {MAX_SELECTS} SELECTs"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, _: &ast::TableFactor) -> ControlFlow<String> {
        self.tables += 1;
        if self.tables > MAX_SELECTS {
            return ControlFlow::Break(format!("expected at most {MAX_SELECTS} tables"));
        }
        ControlFlow::Continue(())
    }
}

/// The words a statement begins with, to name it: `CREATE TABLE`, `DROP`, ...
fn first_words(statement: &Statement) -> String {
    let text = statement.to_string();
    let is_word = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
    let words: Vec<_> = text.split_whitespace().take(3).take_while(is_word).collect();
    if words.is_empty() { "this statement".into() } else { words.join(" ") }
}

/// Refuses a table that does not exist, before the planner does so in its own words.
fn check_table(table: &TableReference) -> Result<(), Error> {
    if table.schema() == Some("information_schema") {
        return Ok(());
    }
    let names: Vec<_> = tables::catalogue().iter().map(|table| table.name).collect();
    if table.schema().is_none_or(|schema| schema == "public") && names.contains(&table.table()) {
        return Ok(());
    }
    let nearest = nearest(table.table(), names);
    Err(Error::UnknownTable { name: table.to_string(), nearest })
}
