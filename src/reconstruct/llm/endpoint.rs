//! Which API a request is made to, by method, host and path.
//!
//! Paths are compared by their ends, because gateways and compatible servers put their own begin in
//! front. What no path tells may still look like a request to a model: [`super::other`].

use super::Api;
use super::provider;
use crate::reconstruct::finding::CallClass;

/// What is asked for, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) api: Api,
    /// OpenTelemetry's name: by host, else who made the API.
    pub(super) provider: &'static str,
    /// Host or path prove that it is this API; otherwise the request's body must.
    pub(super) is_proven: bool,
    /// The model, where the path names it.
    pub(super) model: Option<String>,
    /// The path says what kind of call it is.
    pub(super) class: CallClass,
    /// The path says that the response is to be streamed.
    pub(super) is_streaming: bool,
}

impl Endpoint {
    /// The API that a `POST` to this path is for; [`Api::Other`] where the path does not tell.
    pub(super) fn of(host: Option<&str>, path: &str) -> Self {
        let by_host = host.and_then(provider::of_host);
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let (api, class, model, is_streaming) = of_path(path);
        // A name that only the API has; other paths are too common.
        let is_telling = matches!(api, Api::Gemini) || path.contains("/publishers/anthropic/");
        Self {
            api,
            provider: by_host.unwrap_or_else(|| api.family()),
            is_proven: api != Api::Other && (by_host.is_some() || is_telling),
            model,
            class,
            is_streaming,
        }
    }
}

fn of_path(path: &str) -> (Api, CallClass, Option<String>, bool) {
    use CallClass::{Compaction, CountTokens, Main};
    for (end, api, class) in [
        ("/v1/messages", Api::Anthropic, Main),
        ("/v1/messages/count_tokens", Api::Anthropic, CountTokens),
        ("/chat/completions", Api::OpenaiChat, Main),
        ("/responses", Api::OpenaiResponses, Main),
        ("/responses/compact", Api::OpenaiResponses, Compaction),
        ("/responses/input_tokens", Api::OpenaiResponses, CountTokens),
        ("/api/chat", Api::Ollama, Main),
        ("/api/generate", Api::Ollama, Main),
    ] {
        if path.ends_with(end) {
            return (api, class, deployment(path), false);
        }
    }
    if let Some((before, verb)) = path.rsplit_once(':') {
        let model = before.rsplit_once("/models/").map(|(_, model)| decoded(model));
        match verb {
            "generateContent" => return (Api::Gemini, Main, model, false),
            "streamGenerateContent" => return (Api::Gemini, Main, model, true),
            "countTokens" => return (Api::Gemini, CountTokens, model, false),
            "rawPredict" | "streamRawPredict" if before.contains("/publishers/anthropic/") => {
                let counts = model.as_deref() == Some("count-tokens");
                let class = if counts { CountTokens } else { Main };
                return (Api::Anthropic, class, model.filter(|_| !counts), verb != "rawPredict");
            }
            _ => {}
        }
    }
    if let Some((model, verb)) =
        path.split_once("/model/").and_then(|(_, rest)| rest.rsplit_once('/'))
    {
        let model = Some(decoded(model));
        match verb {
            "invoke" => return (Api::BedrockInvoke, Main, model, false),
            "invoke-with-response-stream" => return (Api::BedrockInvoke, Main, model, true),
            "converse" => return (Api::BedrockConverse, Main, model, false),
            "converse-stream" => return (Api::BedrockConverse, Main, model, true),
            "count-tokens" => return (Api::BedrockConverse, CountTokens, model, false),
            _ => {}
        }
    }
    (Api::Other, Main, None, false)
}

/// The deployment of Azure that a path names; what model it has only the response says.
fn deployment(path: &str) -> Option<String> {
    let (_, rest) = path.split_once("/openai/deployments/")?;
    rest.split('/').next().map(decoded)
}

/// Undoes percent-encoding (RFC 3986 section 2.1).
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, value) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = &after[2..];
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(path: &str) -> (Api, CallClass) {
        let endpoint = Endpoint::of(Some("gateway.test"), path);
        (endpoint.api, endpoint.class)
    }

    #[test]
    fn apis_are_known_by_the_ends_of_paths() {
        use CallClass::{Compaction, CountTokens, Main};
        for (path, expected) in [
            ("/v1/messages?beta=true", (Api::Anthropic, Main)),
            ("/anthropic/v1/messages/count_tokens", (Api::Anthropic, CountTokens)),
            ("/v1/messages/batches", (Api::Other, Main)),
            ("/openai/deployments/a/chat/completions?api-version=1", (Api::OpenaiChat, Main)),
            ("/backend-api/codex/responses", (Api::OpenaiResponses, Main)),
            ("/backend-api/codex/responses/compact", (Api::OpenaiResponses, Compaction)),
            ("/v1beta/models/m:streamGenerateContent?alt=sse", (Api::Gemini, Main)),
            ("/v1internal:countTokens", (Api::Gemini, CountTokens)),
            ("/model/m/converse-stream", (Api::BedrockConverse, Main)),
            ("/api/chat", (Api::Ollama, Main)),
            ("/v1/models", (Api::Other, Main)),
        ] {
            assert_eq!(api(path), expected, "{path}");
        }
    }

    #[test]
    fn models_are_taken_from_paths() {
        let model = |path| Endpoint::of(None, path).model;
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(
            model("/model/us.anthropic.claude-test-v1%3A0/invoke-with-response-stream"),
            some("us.anthropic.claude-test-v1:0")
        );
        assert_eq!(model("/model/arn%3Aaws%3Ax%2Fy/converse"), some("arn:aws:x/y"));
        let vertex =
            "/v1/projects/p/locations/l/publishers/anthropic/models/claude-test:rawPredict";
        assert_eq!(model(vertex), some("claude-test"));
        assert_eq!(model("/v1beta/models/gemini-test:generateContent"), some("gemini-test"));
        assert_eq!(model("/openai/deployments/mine/chat/completions"), some("mine"));
        assert_eq!(model("/v1internal:generateContent"), None);
    }

    #[test]
    fn hosts_and_telling_paths_prove_an_api() {
        let proven = |host, path| Endpoint::of(Some(host), path).is_proven;
        assert!(proven("api.anthropic.com", "/v1/messages"));
        assert!(!proven("gateway.test", "/v1/messages"));
        assert!(proven("gateway.test", "/v1beta/models/m:generateContent"));
        assert!(!proven("api.openai.com", "/v1/embeddings"));
    }

    #[test]
    fn percent_signs_that_encode_nothing_stay() {
        assert_eq!(decoded("a%3Ab%2"), "a:b%2");
        assert_eq!(decoded("%zz%\u{e9}"), "%zz%\u{e9}");
    }
}
