//! Which names announce a secret: of header fields, of URL parameters, of options and variables.
//!
//! Header fields are judged most severely, because any credential may stand in one; the names in
//! program arguments must be whole words, because arguments are also prose and code.

/// Names longer than this are nobody's.
const MAX_NAME: usize = 128;

/// What a header field carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// A scheme and credentials.
    Authorization,
    /// `name=value` pairs.
    Cookie,
    /// One such pair, then attributes.
    SetCookie,
    /// Names of subprotocols, among which browsers' clients hide keys.
    WebSocketProtocol,
    /// A credential and nothing else.
    Secret,
    /// Counts, if the value is plain, else a credential: `x-ratelimit-remaining-tokens`.
    Counted,
    /// How long the message is.
    Framing,
    /// Anything else.
    Other,
}

/// What a name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// It is secret.
    Secret,
    /// It is secret unless it is a number or a time.
    Counted,
    /// It may be secret, if it looks like that.
    Opaque,
    /// It is not.
    Other,
}

/// Words in the name of a header field whose value is a credential.
const FIELD_WORDS: [&str; 19] = [
    "token",
    "secret",
    "api-key",
    "apikey",
    "api_key",
    "password",
    "passwd",
    "passphrase",
    "signature",
    "credential",
    "session-key",
    "sessionkey",
    "private-key",
    "access-key",
    "auth-key",
    "authorization",
    "attestation",
    "assertion",
    "jwt",
];

/// Words that make a name with `token` in it a count or a time.
const COUNT_WORDS: [&str; 14] = [
    "tokens",
    "ratelimit",
    "rate-limit",
    "count",
    "limit",
    "remaining",
    "reset",
    "usage",
    "used",
    "budget",
    "expires",
    "expiry",
    "expiration",
    "ttl",
];

/// Reads the name of a header field.
pub(super) fn field(name: &[u8]) -> Field {
    if name.len() > MAX_NAME {
        return Field::Secret;
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    match &*name {
        "authorization" | "proxy-authorization" => Field::Authorization,
        "cookie" | "cookie2" => Field::Cookie,
        "set-cookie" | "set-cookie2" => Field::SetCookie,
        "sec-websocket-protocol" => Field::WebSocketProtocol,
        "content-length" | "transfer-encoding" => Field::Framing,
        "x-auth" | "auth" | "x-api" => Field::Secret,
        // What is signed, not the signature.
        "signature-input" | "signature-agent" | "accept-signature" => Field::Other,
        // `true` or a list of names of fields.
        name if name.starts_with("access-control-") => Field::Other,
        name if !FIELD_WORDS.iter().any(|word| name.contains(word)) => Field::Other,
        name if COUNT_WORDS.iter().any(|word| name.contains(word)) => Field::Counted,
        _ => Field::Secret,
    }
}

/// Whether a text is a number, a time, a length of time, or a word that is no secret.
pub(super) fn is_plain(value: &[u8]) -> bool {
    let word = |word: &str| value.eq_ignore_ascii_case(word.as_bytes());
    if ["true", "false", "null", "none", "unlimited"].into_iter().any(word) {
        return true;
    }
    // Digits with what stands between them: `12.5`, `6m0s`, `1,000`, `2026-11-20T08:00:00Z`.
    let in_quantity = |byte: &u8| byte.is_ascii_digit() || b"TZmnush.,:+-% ;w=".contains(byte);
    value.len() <= 64
        && value.iter().all(in_quantity)
        && value.first().is_none_or(|first| first.is_ascii_digit() || *first == b'-')
        && value.split(|byte| byte.is_ascii_digit()).all(|between| between.len() <= 4)
}

/// Reads the name of a URL parameter.
pub(super) fn parameter(name: &[u8]) -> Class {
    if name.len() > MAX_NAME {
        return Class::Other;
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('-', "_");
    match &*name {
        "key" | "sig" | "signature" | "code" | "code_verifier" | "auth" | "authorization"
        | "password" | "passwd" | "pwd" | "pass" | "jwt" | "assertion" | "client_assertion"
        | "ticket" | "otp" => Class::Secret,
        "state" => Class::Opaque,
        // Where to go on in a list.
        "page_token" | "pagetoken" | "next_token" | "nexttoken" | "nextpagetoken"
        | "next_page_token" | "continuation_token" | "continuationtoken" | "sync_token"
        | "synctoken" => Class::Other,
        "keyword" | "keywords" => Class::Other,
        name if !PARAMETER_WORDS.iter().any(|word| name.contains(word)) => Class::Other,
        name if COUNT_WORDS.iter().any(|word| name.contains(word)) => Class::Counted,
        _ => Class::Secret,
    }
}

/// Words in the name of a URL parameter whose value is a credential.
const PARAMETER_WORDS: [&str; 14] = [
    "token",
    "secret",
    "api_key",
    "apikey",
    "password",
    "passwd",
    "passphrase",
    "signature",
    "credential",
    "session_key",
    "sessionkey",
    "private_key",
    "access_key",
    "accesskey",
];

/// Words of the name of an option or variable whose value is secret.
const SECRET_WORDS: [&str; 11] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "apikey",
    "credential",
    "credentials",
    "authorization",
    "bearer",
];
/// Endings of such words, written as one: `PGPASSWORD`, `authtoken`.
const SECRET_ENDINGS: [&str; 6] = ["password", "passwd", "passphrase", "apikey", "token", "secret"];
/// Pairs of words of such a name.
const SECRET_PAIRS: [(&str, &str); 13] = [
    ("api", "key"),
    ("access", "key"),
    ("secret", "key"),
    ("session", "key"),
    ("auth", "key"),
    ("account", "key"),
    ("master", "key"),
    ("subscription", "key"),
    ("shared", "key"),
    ("service", "key"),
    ("storage", "key"),
    ("secret", "id"),
    ("mysql", "pwd"),
];
/// Words of a name whose value is secret if it looks like it.
const OPAQUE_WORDS: [&str; 8] =
    ["key", "pat", "auth", "pass", "jwt", "signature", "sig", "session"];
/// Words that say that the value is about a secret and not the secret.
const ABOUT_WORDS: [&str; 58] = [
    "arn",
    "audience",
    "budget",
    "ca",
    "cache",
    "cert",
    "class",
    "cmd",
    "command",
    "count",
    "dir",
    "endpoint",
    "engine",
    "env",
    "expiration",
    "expires",
    "expiry",
    "fd",
    "field",
    "file",
    "files",
    "format",
    "hash",
    "header",
    "helper",
    "id",
    "ids",
    "index",
    "issuer",
    "length",
    "limit",
    "limits",
    "manager",
    "max",
    "min",
    "mount",
    "name",
    "names",
    "num",
    "path",
    "policy",
    "prefix",
    "provider",
    "rate",
    "ref",
    "scope",
    "size",
    "source",
    "stdin",
    "store",
    "ttl",
    "type",
    "uri",
    "url",
    "usage",
    "var",
    "version",
    "window",
];

/// Reads the name of an option (`--api-key`), a variable (`OPENAI_API_KEY`) or a member
/// (`"apiKey"`).
pub(super) fn setting(name: &[u8]) -> Class {
    if name.is_empty() || name.len() > MAX_NAME {
        return Class::Other;
    }
    let words = words(name);
    let pair = |index: usize| {
        let next = words.get(index + 1).map(String::as_str).unwrap_or_default();
        SECRET_PAIRS.contains(&(&*words[index], next))
    };
    let secret = |index: &usize| {
        let word = &*words[*index];
        SECRET_WORDS.contains(&word)
            || SECRET_ENDINGS.iter().any(|ending| word.ends_with(ending))
            || pair(*index)
    };
    if let Some(index) = (0..words.len()).find(secret) {
        // `secret_id` is a pair, and nothing about a secret.
        let after = index + 1 + usize::from(pair(index));
        let about = |word: &String| ABOUT_WORDS.contains(&&**word);
        let counted = words[..index].iter().any(|word| matches!(&**word, "max" | "min" | "num"));
        let other = counted || words[after.min(words.len())..].iter().any(about);
        return if other { Class::Other } else { Class::Secret };
    }
    match words.last() {
        Some(last) if OPAQUE_WORDS.contains(&&**last) => Class::Opaque,
        _ => Class::Other,
    }
}

/// Pairs of words of a name whose value is secret unless it is a path: in arguments it mostly is.
const KEY_PAIRS: [(&str, &str); 5] = [
    ("private", "key"),
    ("encryption", "key"),
    ("signing", "key"),
    ("hmac", "key"),
    ("webhook", "key"),
];

/// What a name says of its value in the standard streams of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// Something a person chose: any word may be one.
    Password,
    /// Credentials, a scheme in front of them.
    Authorization,
    /// `name=value` pairs, as the header field of the name holds them.
    Cookies(Field),
    /// Something a machine made.
    Token,
    /// Something a machine made, perhaps.
    Opaque,
}

/// Reads a name in front of `=` or `:` in a text.
pub(super) fn announced(name: &[u8]) -> Option<Announced> {
    match setting(name) {
        Class::Secret => {
            let words = words(name);
            let ends = |ending: &&str| words.iter().any(|word| word.ends_with(*ending));
            let password = ["password", "passwd", "passphrase", "passcode", "pwd"].iter().any(ends);
            let authorization = ["authorization", "bearer"].iter().any(ends);
            Some(match () {
                () if password => Announced::Password,
                () if authorization => Announced::Authorization,
                () => Announced::Token,
            })
        }
        Class::Opaque => {
            let words = words(name);
            let pair = |pair: &[String]| KEY_PAIRS.contains(&(&*pair[0], &*pair[1]));
            Some(if words.windows(2).any(pair) { Announced::Token } else { Announced::Opaque })
        }
        Class::Counted | Class::Other => match field(name) {
            cookies @ (Field::Cookie | Field::SetCookie) => Some(Announced::Cookies(cookies)),
            _ => None,
        },
    }
}

/// The words of a name in lower case: `ANTHROPIC_API_KEY`, `api-key` and `apiKey` all end in
/// `api`, `key`.
fn words(name: &[u8]) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut new = true;
    let mut after_small = false;
    for &byte in name {
        if !byte.is_ascii_alphanumeric() {
            new = true;
            continue;
        }
        let begins = new || (after_small && byte.is_ascii_uppercase());
        let lower = char::from(byte.to_ascii_lowercase());
        match words.last_mut() {
            Some(word) if !begins => word.push(lower),
            _ => words.push(lower.to_string()),
        }
        new = false;
        after_small = byte.is_ascii_lowercase();
    }
    words
}

/// Whether a value is a path rather than what may be there: begins like one, and has nothing random.
pub(super) fn is_path(value: &[u8]) -> bool {
    let begins = [&b"/"[..], b"./", b"../", b"~/", b"file:"].iter().any(|b| value.starts_with(b));
    let base64 = value.iter().any(|byte| matches!(byte, b'+' | b'='));
    let random = value
        .split(|byte| !byte.is_ascii_alphanumeric())
        .any(|run| run.len() >= 16 && run.iter().any(u8::is_ascii_digit));
    let drive = matches!(value, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    (begins || drive) && !base64 && !random
}

/// Whether a value looks random: long, of letters and digits mixed, not a path, a time or an id.
pub(super) fn is_opaque(value: &[u8]) -> bool {
    const MIN_OPAQUE: usize = 16;
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_.~-".contains(byte);
    let base64 = value.contains(&b'+') || value.contains(&b'=');
    let path = value.contains(&b'/') && !base64;
    let run = value
        .split(|byte| !byte.is_ascii_alphanumeric())
        .any(|run| run.len() >= MIN_OPAQUE && run.iter().any(u8::is_ascii_digit));
    value.len() >= MIN_OPAQUE
        && value.iter().all(in_token)
        && value.iter().any(u8::is_ascii_alphabetic)
        && run
        && !path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_credentials_are_known_by_their_names() {
        let is = |name: &str| field(name.as_bytes());
        assert_eq!(is("Proxy-Authorization"), Field::Authorization);
        assert_eq!(is("COOKIE"), Field::Cookie);
        for name in [
            "x-api-key",
            "Api-Key",
            "X-Goog-Api-Key",
            "x-amz-security-token",
            "X-Auth-Token",
            "PRIVATE-TOKEN",
            "x-csrf-token",
            "x-hub-signature-256",
            "x-openai-session-key",
            "x-client-secret",
            "x-oai-attestation",
            "x-forwarded-authorization",
        ] {
            assert_eq!(is(name), Field::Secret, "{name}");
        }
        for name in [
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
            "x-ratelimit-limit-tokens",
            "x-amzn-bedrock-output-token-count",
        ] {
            assert_eq!(is(name), Field::Counted, "{name}");
        }
        for name in [
            "access-control-allow-credentials",
            "access-control-allow-headers",
            "idempotency-key",
            "request-id",
            "x-claude-code-session-id",
            "sec-websocket-key",
            "www-authenticate",
            "anthropic-beta",
            "openai-organization",
        ] {
            assert_eq!(is(name), Field::Other, "{name}");
        }
    }

    #[test]
    fn counts_and_times_are_plain() {
        for value in [
            "",
            "0",
            "239000",
            "-1",
            "12.5",
            "1,000",
            "6m0s",
            "120ms",
            "80%",
            "true",
            "2026-11-20T08:00:00Z",
            "2026-11-20T08:00:00.123+01:00",
            "10;w=60",
            "unlimited",
        ] {
            assert!(is_plain(value.as_bytes()), "{value}");
        }
        for value in ["abc", "s3cret", "mmmmmmmmm", "1TZTZTZ2", "sk-ant-1", "0123456789abcdef"] {
            assert!(!is_plain(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn settings_are_known_by_whole_words() {
        for name in [
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "--api-key",
            "apiKey",
            "accessToken",
            "PGPASSWORD",
            "MYSQL_PWD",
            "AWS_SECRET_ACCESS_KEY",
            "client_secret",
            "--secret-id",
            "authToken",
            "_authToken",
            "AccountKey",
        ] {
            assert_eq!(setting(name.as_bytes()), Class::Secret, "{name}");
        }
        for name in [
            "max_tokens",
            "--max-tokens",
            "MAX_TOKEN",
            "tokenizer",
            "token_count",
            "--token-file",
            "password-stdin",
            "SECRET_NAME",
            "TOKEN_URL",
            "PWD",
            "OLDPWD",
            "monkey",
            "keyboard",
            "author",
            "passenger",
            "compass",
            "bypass",
            "AWS_ACCESS_KEY_ID",
            "--discovery-token-ca-cert-hash",
            "secretary",
            "",
        ] {
            assert_eq!(setting(name.as_bytes()), Class::Other, "{name}");
        }
        for name in ["OPENAI_KEY", "GH_PAT", "REDISCLI_AUTH", "--key"] {
            assert_eq!(setting(name.as_bytes()), Class::Opaque, "{name}");
        }
        assert!(is_opaque(b"0123456789abcdef") && is_opaque(b"q/Z+0123456789abcdefA=="));
        for value in [
            "/etc/ssl/key0123456789abcdef.pem",
            "id",
            "sort-by-name-2024-and-date",
            "1234567890123456",
        ] {
            assert!(!is_opaque(value.as_bytes()), "{value}");
        }
    }
}
