//! The rows of the tables that are made of what calls have to do with each other.

use std::ops::ControlFlow;

use super::kept::Findings;
use super::source::{Batches, Result, Sink, Source, external, send};
use crate::reconstruct::finding::Finding;
use crate::tables::{
    self, CACHE_BREAKS, CONVERSATIONS, CacheBreakRow, ConversationRow, SpentBy, TURNS, Table,
    ToolCallRow, TurnRow,
};

impl Source {
    pub(super) fn messages(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let findings = external(self.findings())?;
        if let Some(rows) = &findings.messages {
            return send(&tables::MESSAGES, rows, projection, sink);
        }
        let mut batches = Batches::new(&tables::MESSAGES, projection, sink);
        self.reconstruct(false, |finding| match finding {
            Finding::Block(block) => {
                let row = findings.message(*block);
                let bytes = row.bytes();
                batches.push(row, bytes)
            }
            _ => Ok(ControlFlow::Continue(())),
        })?;
        batches.finish()
    }

    pub(super) fn tool_calls(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let findings = external(self.findings())?;
        let texts = ["arguments", "result"].map(|name| tables::TOOL_CALLS.index(name));
        let needs_texts = projection.iter().any(|index| texts.contains(index));
        let runs = external(self.tool_runs())?;
        let mut runs = runs.runs.iter();
        let mut next_run = || runs.next().cloned().unwrap_or_default();
        let mut batches = Batches::new(&tables::TOOL_CALLS, projection, sink);
        if findings.has_tool_texts || !needs_texts {
            for tool in &findings.tool_calls {
                let row = ToolCallRow { tool: tool.clone(), run: next_run() };
                let bytes = row.bytes();
                if batches.push(row, bytes)?.is_break() {
                    return Ok(());
                }
            }
            return batches.finish();
        }
        // The same findings in the same order: only texts are to be filled in.
        let mut kept = findings.tool_calls.iter();
        self.reconstruct(false, |finding| match (finding, kept.len()) {
            (Finding::ToolCall(found), 1..) => {
                let tool = kept.next().cloned().unwrap_or(*found.clone());
                let mut row = ToolCallRow { tool, run: next_run() };
                (row.tool.arguments, row.tool.result) = (found.arguments, found.result);
                let bytes = row.bytes();
                batches.push(row, bytes)
            }
            _ => Ok(ControlFlow::Continue(())),
        })?;
        batches.finish()
    }

    pub(super) fn turns(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let findings = external(self.findings())?;
        let spent = self.spent(&findings, &TURNS, projection);
        let rows = findings.turns.iter().map(|turn| TurnRow {
            spent: spent.turn(turn.conversation_id, turn.turn),
            turn: turn.clone(),
        });
        send(&TURNS, &rows.collect::<Vec<_>>(), projection, sink)
    }

    pub(super) fn conversations(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let (findings, activity) = (external(self.findings())?, external(self.activity())?);
        let spent = self.spent(&findings, &CONVERSATIONS, projection);
        let rows = findings.conversations.iter().map(|conversation| ConversationRow {
            agent: conversation
                .agent
                .clone()
                .or_else(|| activity.find(conversation.process?)?.name().map(String::from)),
            spent: spent.conversation(conversation.conversation_id),
            conversation: conversation.clone(),
        });
        send(&CONVERSATIONS, &rows.collect::<Vec<_>>(), projection, sink)
    }

    pub(super) fn cache_breaks(&self, projection: &[usize], sink: Sink<'_>) -> Result<()> {
        let findings = external(self.findings())?;
        let needs_prices = projection.contains(&CACHE_BREAKS.index("lost_cost_usd"));
        let prices = needs_prices.then_some(&*self.prices);
        let row = |found| CacheBreakRow::new(found, &findings.calls, prices);
        let rows: Vec<_> = findings.cache_breaks.iter().cloned().map(row).collect();
        send(&CACHE_BREAKS, &rows, projection, sink)
    }

    /// What calls used in all, with what it cost where that is asked for: looking up prices takes a
    /// moment.
    fn spent<R>(&self, findings: &Findings, table: &Table<R>, projection: &[usize]) -> SpentBy {
        let of_price = ["cost_usd", "unpriced_calls"].map(|name| table.index(name));
        let needs_prices = projection.iter().any(|index| of_price.contains(index));
        SpentBy::new(&findings.calls, needs_prices.then_some(&*self.prices))
    }
}
