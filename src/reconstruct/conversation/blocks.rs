//! What is known of blocks: two bytes of each, the begin of what users say, and the texts of those
//! that are new in a call until it ends.

use std::collections::BTreeMap;

use super::diff::Texts;
use super::node::hash;
use super::summary;
use crate::reconstruct::finding::{Block, BlockKind, BlockRole};

/// Characters kept of a prompt.
const PROMPT_CHARS: usize = 200;

/// Prompts kept; the oldest make room.
const MAX_PROMPTS: usize = 1 << 16;

/// Uses and results of tools kept, since one without an id of its own, or with an id that a server
/// gives out again, may be met again; and the longest text kept of them.
const MAX_TOOLS: usize = 4_096;
const MAX_TOOL_TEXT_BYTES: usize = 4 << 10;

/// Text kept of blocks whose calls have not ended; beyond it, the text of the oldest is dropped.
const MAX_TOLD_BYTES: usize = 64 << 20;

/// What a block is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Text that the program put in the user's place, by its look.
    Markup,
    Thinking,
    ToolUse,
    /// A use or result of a tool of the provider.
    ServerTool,
    ToolResult,
    ToolDefinition,
    Compaction,
    Other,
}

/// A block that was seen for the first time in the call at hand.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The text, where it is needed.
    pub(super) text: Option<String>,
    pub(super) tool_name: Option<String>,
    pub(super) tool_call_id: Option<String>,
    pub(super) is_error: Option<bool>,
    /// Lines to find again, where it may be a summary.
    pub(super) probes: Vec<Box<str>>,
}

/// What a user said, after its block was told.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// Its begin.
    pub(super) begin: Box<str>,
    /// Hash of all of it, without white space around it.
    pub(super) said: u64,
}

/// Everything that is kept of blocks.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Of block n at n - 1.
    kinds: Vec<Kind>,
    prompts: BTreeMap<u64, Prompt>,
    tools: BTreeMap<u64, Told>,
    /// Of calls that have not ended, by call and block.
    told: BTreeMap<(u64, u64), Told>,
    told_bytes: usize,
    pub(super) texts: Texts,
}

impl Blocks {
    /// Takes in a block.
    pub(super) fn push(&mut self, block: &Block) {
        let kind = kind(block);
        // Blocks are numbered as they come; what is out of order stays unknown.
        if block.block_id == self.kinds.len() as u64 + 1 {
            self.kinds.push(kind);
        }
        let text = block.text.as_deref();
        match (kind, block.role) {
            (Kind::Text, BlockRole::User) => {
                let text = text.unwrap_or_default();
                let prompt = Prompt { begin: excerpt(text), said: hash(text.trim()) };
                if self.prompts.len() >= MAX_PROMPTS {
                    self.prompts.pop_first();
                }
                self.prompts.insert(block.block_id, prompt);
            }
            (Kind::ToolDefinition, _) | (_, BlockRole::System) => {
                if let Some(text) = text.filter(|_| !block.is_cut) {
                    self.texts.keep(block.block_id, text);
                }
                return;
            }
            _ => {}
        }
        let probes = match (kind, block.role) {
            (Kind::Text | Kind::Markup | Kind::Compaction, BlockRole::Assistant) => {
                summary::probes(text.unwrap_or_default())
            }
            _ => Vec::new(),
        };
        let is_wanted =
            matches!(kind, Kind::ToolUse | Kind::ServerTool | Kind::ToolResult | Kind::Compaction)
                || block.role == BlockRole::User;
        let told = Told {
            text: text.filter(|_| is_wanted).map(str::to_owned),
            tool_name: block.tool_name.clone(),
            tool_call_id: block.tool_call_id.clone(),
            is_error: block.is_error,
            probes,
        };
        if matches!(kind, Kind::ToolUse | Kind::ToolResult) {
            if self.tools.len() >= MAX_TOOLS {
                self.tools.pop_first();
            }
            let text = told.text.clone().filter(|text| text.len() <= MAX_TOOL_TEXT_BYTES);
            self.tools.insert(block.block_id, Told { text, ..told.clone() });
        }
        self.told_bytes += told.text.as_ref().map_or(0, String::len);
        self.told.insert((block.call_id, block.block_id), told);
        self.shed();
    }

    fn shed(&mut self) {
        let mut texts = self.told.values_mut().filter(|told| told.text.is_some());
        while self.told_bytes > MAX_TOLD_BYTES {
            let Some(oldest) = texts.next() else { break };
            self.told_bytes -= oldest.text.take().map_or(0, |text| text.len());
        }
    }

    /// Hands over what was new in a call, which has ended. What is left of exchanges before it that
    /// turned out to be no calls goes when it is in the way.
    pub(super) fn take(&mut self, call_id: u64) -> BTreeMap<u64, Told> {
        let mut of_call = self.told.split_off(&(call_id, 0));
        let mut others = of_call.split_off(&(call_id.saturating_add(1), 0));
        self.told.append(&mut others);
        let bytes = of_call.values().filter_map(|told| told.text.as_ref()).map(String::len);
        self.told_bytes -= bytes.sum::<usize>();
        of_call.into_iter().map(|((_, block_id), told)| (block_id, told)).collect()
    }

    /// What a block is; `None` where it was never told.
    pub(super) fn kind(&self, block_id: u64) -> Option<Kind> {
        let at = usize::try_from(block_id.checked_sub(1)?).ok()?;
        self.kinds.get(at).copied()
    }

    /// What the user said in a block.
    pub(super) fn prompt(&self, block_id: u64) -> Option<&Prompt> {
        self.prompts.get(&block_id)
    }

    /// A use or result of a tool that was seen before.
    pub(super) fn tool(&self, block_id: u64) -> Option<&Told> {
        self.tools.get(&block_id)
    }
}

fn kind(block: &Block) -> Kind {
    match &block.kind {
        BlockKind::Text if is_markup(block.text.as_deref().unwrap_or_default()) => Kind::Markup,
        BlockKind::Text => Kind::Text,
        BlockKind::Thinking => Kind::Thinking,
        BlockKind::ToolUse => Kind::ToolUse,
        BlockKind::ToolResult => Kind::ToolResult,
        BlockKind::ToolDefinition => Kind::ToolDefinition,
        BlockKind::Compaction => Kind::Compaction,
        BlockKind::Other(_) if block.tool_name.is_some() || block.tool_call_id.is_some() => {
            Kind::ServerTool
        }
        BlockKind::Image | BlockKind::Document | BlockKind::Other(_) => Kind::Other,
    }
}

/// Whether a text is one element of markup from begin to end: programs put what they tell the model
/// in the user's place into such, people hardly ever.
fn is_markup(text: &str) -> bool {
    let text = text.trim();
    let name_ends = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | ':'));
    let Some(rest) = text.strip_prefix('<') else { return false };
    let name = &rest[..rest.find(name_ends).unwrap_or(rest.len())];
    let end = text.strip_suffix('>').and_then(|text| text.strip_suffix(name));
    !name.is_empty() && end.is_some_and(|text| text.ends_with("</"))
}

/// The begin of a text in one line.
fn excerpt(text: &str) -> Box<str> {
    let mut words = String::new();
    // No more is looked at than may be kept: white space may go on for megabytes.
    for c in text.trim_start().chars().take(PROMPT_CHARS) {
        match c.is_whitespace() {
            true if words.ends_with(' ') => {}
            true => words.push(' '),
            false => words.push(c),
        }
    }
    words.trim_end().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::WallNanos;

    #[test]
    fn what_programs_say_in_the_users_place_is_told_by_its_look() {
        for text in ["<note>do\nthis</note>", " <a-b x=1>text</a-b>\n"] {
            assert!(is_markup(text), "{text}");
        }
        for text in ["fix <b>this</b>", "<b>this</b> is wrong", "<>x</>", "<", "x", "", "<b></c>"] {
            assert!(!is_markup(text), "{text}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(&*excerpt("  fix\n\n the   test \n"), "fix the test");
        assert_eq!(excerpt(&"\u{e9} ".repeat(1_000)).chars().count(), PROMPT_CHARS - 1);
    }

    fn block(call_id: u64, block_id: u64, bytes: usize) -> Block {
        Block {
            block_id,
            call_id,
            ts: WallNanos(1),
            role: BlockRole::Tool,
            kind: BlockKind::ToolResult,
            text: Some("x".repeat(bytes)),
            is_cut: false,
            tool_name: None,
            tool_call_id: None,
            is_error: None,
            bytes: bytes as u64,
            sha256: [0; 32],
        }
    }

    #[test]
    fn texts_of_calls_that_never_end_are_bounded() {
        let mut blocks = Blocks::default();
        for call_id in 1..=10 {
            blocks.push(&block(call_id, call_id, MAX_TOLD_BYTES / 4));
            assert!(blocks.told_bytes <= MAX_TOLD_BYTES);
        }
        assert_eq!(blocks.take(1)[&1].text, None);
        assert!(blocks.take(10)[&10].text.is_some());
        (1..=10).for_each(|call_id| drop(blocks.take(call_id)));
        assert_eq!((blocks.told_bytes, blocks.told.len()), (0, 0));
    }
}
