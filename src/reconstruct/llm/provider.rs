//! Who runs the model, by the host that was asked: OpenTelemetry's `gen_ai.provider.name`.

/// Whole host names.
const HOSTS: &[(&str, &str)] = &[
    ("api.anthropic.com", "anthropic"),
    ("api.openai.com", "openai"),
    ("chatgpt.com", "openai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("cloudcode-pa.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("api.x.ai", "x_ai"),
    ("api.deepseek.com", "deepseek"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral_ai"),
    ("codestral.mistral.ai", "mistral_ai"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cohere.com", "cohere"),
    ("api.cerebras.ai", "cerebras"),
    ("api.together.xyz", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("openrouter.ai", "openrouter"),
    ("ollama.com", "ollama"),
    ("models.github.ai", "azure.ai.inference"),
];

/// Ends of host names, for providers with a host per customer, plan or region.
const HOST_ENDS: &[(&str, &str)] = &[
    (".anthropic.com", "anthropic"),
    (".openai.com", "openai"),
    (".openai.azure.com", "azure.ai.openai"),
    (".cognitiveservices.azure.com", "azure.ai.openai"),
    (".services.ai.azure.com", "azure.ai.inference"),
    (".inference.ai.azure.com", "azure.ai.inference"),
    ("-aiplatform.googleapis.com", "gcp.vertex_ai"),
    (".openrouter.ai", "openrouter"),
    (".githubcopilot.com", "github.copilot"),
    (".x.ai", "x_ai"),
    (".ml.cloud.ibm.com", "ibm.watsonx.ai"),
];

/// The port on which Ollama listens unless told otherwise.
const OLLAMA_PORT: &str = "11434";

/// The provider whose host it is. `host` may have a port; names are case-insensitive.
pub(super) fn of_host(host: &str) -> Option<&'static str> {
    // An IPv6 address in brackets is no provider's host, but may have a port.
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let name = name.to_ascii_lowercase();
    if let Some((_, provider)) = HOSTS.iter().find(|(host, _)| *host == name) {
        return Some(provider);
    }
    if let Some((_, provider)) = HOST_ENDS.iter().find(|(end, _)| name.ends_with(end)) {
        return Some(provider);
    }
    let is_bedrock = name.starts_with("bedrock-") || name.contains(".bedrock-");
    let is_amazon = [".amazonaws.com", ".amazonaws.com.cn", ".api.aws"];
    if is_bedrock && is_amazon.iter().any(|end| name.ends_with(end)) {
        return Some("aws.bedrock");
    }
    (port == OLLAMA_PORT).then_some("ollama")
}

#[cfg(test)]
mod tests {
    use super::of_host;

    #[test]
    fn hosts_are_known_by_name_or_end() {
        for (host, provider) in [
            ("API.OpenAI.com:443", "openai"),
            ("us-east5-aiplatform.googleapis.com", "gcp.vertex_ai"),
            ("res.openai.azure.com", "azure.ai.openai"),
            ("bedrock-runtime.eu-west-1.amazonaws.com", "aws.bedrock"),
            ("bedrock-mantle.us-east-1.api.aws", "aws.bedrock"),
            ("vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com", "aws.bedrock"),
            ("api.individual.githubcopilot.com", "github.copilot"),
            ("127.0.0.1:11434", "ollama"),
            ("[::1]:11434", "ollama"),
        ] {
            assert_eq!(of_host(host), Some(provider), "{host}");
        }
    }

    #[test]
    fn hosts_that_only_look_alike_are_not_known() {
        for host in
            ["", "api.anthropic.com.evil.test", "notopenai.com", "s3.amazonaws.com", "[::1]"]
        {
            assert_eq!(of_host(host), None, "{host}");
        }
    }
}
