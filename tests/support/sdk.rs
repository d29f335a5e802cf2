//! The providers' own SDKs for Python, asking a mock server: what they make of an answer is the
//! measure of what is found in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::mock::answer::Usage;

/// An SDK and the API that it is asked to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `anthropic`, Messages.
    Anthropic,
    /// `openai`, Chat Completions.
    OpenaiChat,
    /// `openai`, Responses.
    OpenaiResponses,
    /// `google-genai`.
    Google,
}

impl Sdk {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Anthropic, Self::OpenaiChat, Self::OpenaiResponses, Self::Google];

    fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenaiChat => "openai-chat",
            Self::OpenaiResponses => "openai-responses",
            Self::Google => "google",
        }
    }

    fn module(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenaiChat | Self::OpenaiResponses => "openai",
            Self::Google => "google.genai",
        }
    }

    /// A Python that has it: `AGENTSIGHT_TEST_PYTHON` or the one on the path.
    pub fn python(self) -> Option<PathBuf> {
        let variable = std::env::var_os("AGENTSIGHT_TEST_PYTHON");
        let python = variable.map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        // Looked for, not loaded: that takes seconds.
        let find = format!(
            "import importlib.util, sys; sys.exit(importlib.util.find_spec('{}') is None)",
            self.module()
        );
        let output = Command::new(&python).args(["-c", &find]).output().ok()?;
        output.status.success().then_some(python)
    }

    /// The command that asks the server at `url` once in each of `manners` (`stream`, `document`).
    /// `script` is where this module's program may be written.
    pub fn command(
        self,
        python: &Path,
        script: &Path,
        url: &str,
        ca: &Path,
        manners: &[&str],
    ) -> Command {
        std::fs::write(script, include_str!("sdk.py")).unwrap();
        let mut command = Command::new(python);
        command.arg(script).arg(self.name()).arg(url).arg(ca).args(manners);
        // Its answers are not ASCII, whatever the locale.
        command.env("PYTHONUTF8", "1").stdin(Stdio::null());
        command
    }

    /// The answers that it printed.
    pub fn answers(stdout: &str) -> Vec<Value> {
        stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The counts of an answer by the rules of its provider: what is in what.
    pub fn usage(self, answer: &Value) -> Value {
        let usage = &answer["usage"];
        let at = |path: &str| usage.pointer(path).and_then(Value::as_u64);
        let rest = |whole: Option<u64>, parts: &[Option<u64>]| {
            whole.map(|whole| whole - parts.iter().flatten().sum::<u64>())
        };
        let (input, read, written, output, reasoning) = match self {
            Self::Anthropic => (
                at("/input_tokens"),
                at("/cache_read_input_tokens"),
                at("/cache_creation_input_tokens"),
                at("/output_tokens"),
                at("/output_tokens_details/thinking_tokens"),
            ),
            Self::OpenaiChat => {
                let details = "/prompt_tokens_details";
                let read = at(&format!("{details}/cached_tokens"));
                let written = at(&format!("{details}/cache_write_tokens"));
                let reasoning = at("/completion_tokens_details/reasoning_tokens");
                let input = rest(at("/prompt_tokens"), &[read, written]);
                (input, read, written, at("/completion_tokens"), reasoning)
            }
            Self::OpenaiResponses => {
                let read = at("/input_tokens_details/cached_tokens");
                let written = at("/input_tokens_details/cache_write_tokens");
                let reasoning = at("/output_tokens_details/reasoning_tokens");
                let input = rest(at("/input_tokens"), &[read, written]);
                (input, read, written, at("/output_tokens"), reasoning)
            }
            Self::Google => {
                let read = at("/cached_content_token_count");
                let thoughts = at("/thoughts_token_count");
                let candidates = at("/candidates_token_count");
                let output = candidates.map(|count| count + thoughts.unwrap_or_default());
                (rest(at("/prompt_token_count"), &[read]), read, None, output, thoughts)
            }
        };
        json!({
            "input": input, "cache_read": read, "cache_creation": written, "output": output,
            "reasoning": reasoning,
        })
    }

    /// The counts that the server served, in the same form.
    pub fn served(usage: Option<&Usage>) -> Value {
        json!({
            "input": usage.map(|usage| usage.input_tokens),
            "cache_read": usage.and_then(|usage| usage.cache_read_tokens),
            "cache_creation": usage.and_then(|usage| usage.cache_creation_tokens),
            "output": usage.map(|usage| usage.output_tokens),
            "reasoning": usage.and_then(|usage| usage.reasoning_tokens),
        })
    }
}
