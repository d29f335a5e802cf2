//! Which API a request is for, and how each of them renders an answer.

use serde_json::Value;

use super::answer::{Answer, Context, Event, Known};
use super::http::Request;
use super::ollama::OLLAMA_PATH;
use super::responses::RESPONSES_PATH;
use super::script::{ANTHROPIC_PATH, Failure, OPENAI_PATH};
use super::{anthropic, bedrock, gemini, ollama, openai, responses};

/// An API that asks a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions.
    OpenaiChat,
    /// OpenAI Responses.
    OpenaiResponses,
    /// Gemini.
    Gemini,
    /// Gemini behind Code Assist.
    CodeAssist,
    /// Ollama.
    Ollama,
    /// Bedrock, in the model's own shape (Anthropic's).
    BedrockInvoke,
    /// Bedrock, in one shape for all models.
    BedrockConverse,
}

/// How events follow one another in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Server-sent events.
    Sse,
    /// A line of JSON each.
    Lines,
    /// Elements of one JSON array.
    Array,
    /// Frames of `application/vnd.amazon.eventstream`.
    EventStream,
}

impl Format {
    /// The `Content-Type` of such a response.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream; charset=utf-8",
            Self::Lines => "application/x-ndjson",
            Self::Array => "application/json; charset=UTF-8",
            Self::EventStream => "application/vnd.amazon.eventstream",
        }
    }

    /// An event as it goes over the wire, `at` of `count`, text lines ending in `line_end`.
    pub fn bytes(self, event: &Event, at: usize, count: usize, line_end: &str) -> Vec<u8> {
        let data = &event.data;
        match self {
            Self::Sse => {
                let name = event.name.as_ref().map(|name| format!("event: {name}{line_end}"));
                let name = name.unwrap_or_default();
                format!("{name}data: {data}{line_end}{line_end}").into_bytes()
            }
            Self::Lines => format!("{data}\n").into_bytes(),
            Self::Array => {
                let before = if at == 0 { "[" } else { ",\r\n" };
                let after = if at + 1 == count { "]" } else { "" };
                format!("{before}{data}{after}").into_bytes()
            }
            Self::EventStream => bedrock::frame(event),
        }
    }
}

/// A request to a model.
#[derive(Clone, Debug)]
pub struct Asked {
    /// By which API.
    pub api: Api,
    /// The format of the response, if it is to be a stream.
    pub stream: Option<Format>,
    /// The model asked for.
    pub model: Option<String>,
    /// Whether counts were asked for (OpenAI Chat streams tell none otherwise).
    pub include_usage: bool,
}

impl Asked {
    /// What a request whose body is `body` asks for, if it asks a model.
    pub fn of(request: &Request, body: &Value) -> Option<Self> {
        if request.method != "POST" {
            return None;
        }
        let path = request.path();
        let by_flag = |format| (body["stream"] == true).then_some(format);
        let (api, stream) = match path {
            ANTHROPIC_PATH => (Api::Anthropic, by_flag(Format::Sse)),
            OPENAI_PATH => (Api::OpenaiChat, by_flag(Format::Sse)),
            RESPONSES_PATH => (Api::OpenaiResponses, by_flag(Format::Sse)),
            OLLAMA_PATH => (Api::Ollama, (body["stream"] != false).then_some(Format::Lines)),
            _ if path.ends_with("/chat/completions") => (Api::OpenaiChat, by_flag(Format::Sse)),
            _ if path.ends_with("/responses") => (Api::OpenaiResponses, by_flag(Format::Sse)),
            _ => return Self::of_path(request, path, body),
        };
        let model = body["model"].as_str().map(String::from);
        let include_usage = body["stream_options"]["include_usage"] == true;
        Some(Self { api, stream, model, include_usage })
    }

    /// The same for APIs whose path holds the model or the manner.
    fn of_path(request: &Request, path: &str, body: &Value) -> Option<Self> {
        let asked = |api, stream, model: &str| {
            let model = (!model.is_empty()).then(|| model.replace("%3A", ":"));
            Some(Self { api, stream, model, include_usage: false })
        };
        if let Some((before, action)) = path.rsplit_once(':') {
            let array =
                if request.query("alt") == Some("sse") { Format::Sse } else { Format::Array };
            let stream = match action {
                "streamGenerateContent" => Some(array),
                "generateContent" => None,
                _ => return None,
            };
            if before.ends_with("/v1internal") {
                return asked(Api::CodeAssist, stream, body["model"].as_str().unwrap_or_default());
            }
            return asked(Api::Gemini, stream, before.rsplit_once("/models/")?.1);
        }
        let (model, action) = path.strip_prefix("/model/")?.rsplit_once('/')?;
        let frames = Some(Format::EventStream);
        match action {
            "invoke" => asked(Api::BedrockInvoke, None, model),
            "invoke-with-response-stream" => asked(Api::BedrockInvoke, frames, model),
            "converse" => asked(Api::BedrockConverse, None, model),
            "converse-stream" => asked(Api::BedrockConverse, frames, model),
            _ => None,
        }
    }
}

impl Api {
    /// Its name in column `api`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic_messages",
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiResponses => "openai_responses",
            Self::Gemini | Self::CodeAssist => "gemini_generate",
            Self::Ollama => "ollama_chat",
            Self::BedrockInvoke => "bedrock_invoke",
            Self::BedrockConverse => "bedrock_converse",
        }
    }

    /// The field of a response head that names the request.
    pub fn id_field(self) -> &'static str {
        match self {
            Self::Anthropic => "request-id",
            Self::BedrockInvoke | Self::BedrockConverse => "x-amzn-requestid",
            _ => "x-request-id",
        }
    }

    /// The events of a streamed answer.
    pub fn events(self, answer: &Answer, context: &Context) -> Vec<Event> {
        let mut events = self.rendered(answer, context);
        for (index, event) in events.iter_mut().enumerate() {
            let is_first_error = index == 0 && event.known.error_type.is_some();
            let tells = self.tells_model() && !is_first_error;
            event.known.model = tells.then(|| context.model.clone());
        }
        events
    }

    /// Whether answers name the model.
    fn tells_model(self) -> bool {
        self != Self::BedrockConverse
    }

    fn rendered(self, answer: &Answer, context: &Context) -> Vec<Event> {
        match self {
            Self::Anthropic => anthropic::events(answer, context),
            Self::OpenaiChat => openai::events(answer, context),
            Self::OpenaiResponses => responses::events(answer, context),
            Self::Gemini => gemini::events(answer, context),
            Self::CodeAssist => gemini::wrapped(gemini::events(answer, context)),
            Self::Ollama => ollama::events(answer, context),
            Self::BedrockInvoke => bedrock::invoke_events(answer, context),
            Self::BedrockConverse => bedrock::converse_events(answer, context),
        }
    }

    /// The answer as one document, and what it tells.
    pub fn document(self, answer: &Answer, context: &Context) -> (Value, Known) {
        let (document, mut known) = match self {
            Self::Anthropic | Self::BedrockInvoke => anthropic::document(answer, context),
            Self::OpenaiChat => openai::document(answer, context),
            Self::OpenaiResponses => responses::document(answer, context),
            Self::Gemini | Self::CodeAssist => gemini::document(answer, context),
            Self::Ollama => ollama::document(answer, context),
            Self::BedrockConverse => bedrock::converse_document(answer, context),
        };
        known.model = self.tells_model().then(|| context.model.clone());
        match self {
            Self::CodeAssist => (gemini::wrap_document(document), known),
            _ => (document, known),
        }
    }

    /// An error document, and the fields of its head.
    pub fn failure(self, failure: &Failure) -> (Value, Vec<(String, String)>) {
        let Failure { status, error_type, message, retry_after_s } = failure;
        let wait = retry_after_s.iter().map(|s| ("retry-after".into(), s.to_string()));
        let mut fields: Vec<(String, String)> = wait.collect();
        let document = match self {
            Self::Anthropic => anthropic::error(error_type, message),
            Self::OpenaiChat | Self::OpenaiResponses => openai::error(error_type, message),
            Self::Gemini | Self::CodeAssist => {
                fields.clear();
                gemini::error(*status, error_type, message, *retry_after_s)
            }
            Self::Ollama => ollama::error(message),
            Self::BedrockInvoke | Self::BedrockConverse => {
                fields.push(("x-amzn-errortype".into(), error_type.clone()));
                bedrock::error(message)
            }
        };
        (document, fields)
    }

    /// The type that an error document tells.
    pub fn error_type(self, failure: &Failure) -> String {
        match self {
            Self::Ollama => ollama::ERROR.into(),
            _ => failure.error_type.clone(),
        }
    }
}
