//! What programs print: what is to be replaced in it, what is not, however it is cut.

use proptest::prelude::*;

use super::*;
use crate::redact::mask::Mask;

/// A secret that no rule finds by its looks alone, and that has no character in common with a
/// replacement, so that what is replaced shows.
const SECRET: &str = "ZQW0_7ZQ!W9Z8Y7";

/// What becomes of a stream that comes in these pieces.
fn through(mask: &mut Mask, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut parser, mut edits, mut spans) = (Parser::default(), Vec::new(), Vec::new());
    let mut bytes = pieces.concat();
    for piece in pieces {
        parser.feed(piece, &mut Output { mask, edits: &mut edits, spans: &mut spans });
        assert!(parser.pending() < MAX_LINE_BYTES);
        assert!(spans.is_empty());
    }
    parser.force(&mut Output { mask, edits: &mut edits, spans: &mut spans });
    assert_eq!((parser.pos(), parser.pending()), (bytes.len() as u64, 0));
    let mut from = 0;
    for edit in edits {
        assert!(edit.pos >= from, "edits are in order and do not overlap");
        from = edit.pos + edit.bytes.len() as u64;
        bytes[edit.pos as usize..from as usize].copy_from_slice(&edit.bytes);
    }
    bytes
}

fn redacted(text: &str) -> String {
    String::from_utf8(through(&mut Mask::new(&[5; 32]), &[text.as_bytes()])).unwrap()
}

/// What of a text is replaced, each as a question mark.
fn shown(text: &str) -> String {
    let now = redacted(text);
    assert_eq!(now.len(), text.len());
    let mut shown = String::new();
    let mut replaced = false;
    let mut rest = now.as_str();
    for (at, char) in text.char_indices() {
        let same = now[at..].starts_with(char);
        if same {
            shown.push(char);
        } else if !replaced {
            shown.push('?');
        }
        replaced = !same;
        rest = &rest[char.len_utf8()..];
    }
    assert!(rest.is_empty());
    shown
}

/// Each `§` of the lines is a secret, and exactly those are to be replaced.
#[track_caller]
fn finds(lines: &[&str]) {
    for line in lines {
        for end in ["\n", "\r\n", "\0"] {
            let text = format!("first line{end}{}{end}last", line.replace('§', SECRET));
            let expected = format!("first line{end}{}{end}last", line.replace('§', "?"));
            assert_eq!(shown(&text), expected);
        }
    }
}

#[track_caller]
fn leaves(lines: &[&str]) {
    for line in lines {
        let text = format!("{line}\n");
        assert_eq!(redacted(&text), text);
    }
}

#[test]
fn environments_and_files_of_settings_are_found() {
    finds(&[
        "ANTHROPIC_API_KEY=§",
        "export GITHUB_TOKEN=§",
        "declare -x DB_PASSWORD=\"§\"",
        "declare -rx DB_PASSWORD='§'",
        "set -x AWS_SECRET_ACCESS_KEY §",
        "setenv NPM_TOKEN §",
        "ANTHROPIC_CUSTOM_HEADERS=x-custom-api-key: §",
        "  PGPASSWORD=§",
        ".env:3:API_TOKEN=§",
        "aws_secret_access_key = §",
        "//registry.example/:_authToken=§",
        "api_key: §",
        "  password: \"§\"",
        "- client_secret: §",
        "db.password=§",
        "SERVICE_KEY=ZQWZ0123456789QWZQWZ".replace("ZQWZ0123456789QWZQWZ", "§").as_str(),
        "machine h login me password §",
        "ENCRYPTION_KEY=§",
        "\x1b[32mAPI_KEY\x1b[0m=\x1b[33m§\x1b[0m",
    ]);
    assert_eq!(shown("MY_PASSPHRASE=\"ZQ WZ YQ\"\nA=b"), "MY_PASSPHRASE=\"?\"\nA=b");
}

#[test]
fn headers_are_found() {
    finds(&[
        "Authorization: Bearer §",
        "> authorization: Basic §",
        "x-api-key: §",
        "< set-cookie: sid=§; Path=/; HttpOnly",
        "Cookie: a=§; b=§",
        "  'X-Auth-Token': '§',",
        "{\"Authorization\": \"Bearer §\"}",
        "headers['Authorization'] = 'Bearer §'",
        "* Server auth; proxy-authorization: Basic §",
    ]);
}

#[test]
fn members_of_documents_are_found_at_any_depth() {
    let document = format!("{{\"api_key\": \"{SECRET}\", \"n\": 1}}");
    let mut nested = document.clone();
    for _ in 0..4 {
        let now = shown(&nested);
        assert!(!now.contains(SECRET) && now.contains("?\\") | now.contains("?\""), "{now}");
        assert!(now.ends_with("}") || now.ends_with("}\"}"), "{now}");
        nested = format!("{{\"text\":{}}}", serde_json::to_string(&nested).unwrap());
    }
    let environment = format!("HOME=/root\nmy_token={SECRET}\nX_PASSWORD={SECRET}\nPATH=/bin\n");
    let yaml = format!("user: me\n  password: \"{SECRET}\"\n  api_key: '{SECRET}'\nport: 80\n");
    for text in [&environment, &yaml] {
        let expected = text.replace(SECRET, "?");
        let (mut text, mut expected) = (text.clone(), expected);
        for _ in 0..3 {
            let wrap = |text: &str| {
                let text = serde_json::to_string(text).unwrap();
                format!("{{\"jsonrpc\":\"2.0\",\"result\":{{\"text\":{text}}}}}")
            };
            (text, expected) = (wrap(&text), wrap(&expected));
            assert_eq!(shown(&text), expected);
        }
    }
    finds(&[
        "{'api_key': '§', 'b': 2}",
        "{ apiKey: '§', b: 2 }",
        "{\"env\":{\"GITHUB_PERSONAL_ACCESS_TOKEN\":\"§\",\"HOME\":\"/root\"}}",
        "\"-e\", \"API_TOKEN=§\", \"image\"",
        ":token => \"§\", \"secret\"=>\"§\"",
        "const API_KEY = \"§\";",
        "client = Client(api_key='§', timeout=3)",
    ]);
}

#[test]
fn commands_urls_and_tokens_are_found() {
    finds(&[
        "+ curl -sS -u user:§ https://h/",
        "$ curl -H 'Authorization: Bearer §' -H \"x-api-key: §\" https://h",
        "{\"command\":\"curl -u user:§ https://h\",\"timeout\":3}",
        "run: tool --token §",
        "tool --password=§ --verbose",
        "origin\thttps://me:§@h.example/x.git (fetch)",
        "GET https://h/v1?access_token=§&x=1",
        "DATABASE_URL=postgres://u:§@db:5432/x",
        "env FOO_TOKEN=§ cmd --flag",
        "FOO_TOKEN=§ cmd --flag",
        "connecting with user=me password=§ host=db",
    ]);
    let token = format!("ghp_{}", "ZQ".repeat(18));
    for around in ["the token is § now", "{\"a\":[\"§\"]}", "x\\n§\\n", "(§)"] {
        assert_eq!(shown(&around.replace('§', &token)), around.replace('§', "?"));
    }
}

#[test]
fn private_keys_are_found_over_many_lines() {
    let line = "Zqwy".repeat(16);
    let key = |begin: &str, end: &str| {
        let block =
            format!("{begin}-----BEGIN RSA PRIVATE KEY-----{end}{begin}§{end}{begin}§{end}");
        let text =
            format!("before{end}{block}{begin}-----END RSA PRIVATE KEY-----{end}after {line}{end}");
        let now = redacted(&text.replace('§', &line));
        assert!(now.contains("-----BEGIN RSA PRIVATE KEY-----"), "{now}");
        assert!(now.ends_with(&format!("after {line}{end}")), "{now}");
        assert_eq!(now.matches(&line).count(), 1, "{now}");
    };
    for begin in ["", "  ", "+", "    12\t"] {
        key(begin, "\n");
        key(begin, "\r\n");
    }
    let escaped = format!(
        "{{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n{line}\\n{line}\\n-----END PRIVATE KEY-----\\n\", \"id\": 1}}\n"
    );
    let now = redacted(&escaped);
    assert!(
        !now.contains("Zqwy") && now.ends_with("-----END PRIVATE KEY-----\\n\", \"id\": 1}\n"),
        "{now}"
    );
    leaves(&[
        "if line.startswith('-----BEGIN PRIVATE KEY-----'):\n    return parse(line)",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ",
    ]);
}

#[test]
fn source_code_and_prose_come_through() {
    leaves(&[
        "const TOKEN = getToken()",
        "const token = await getToken();",
        "PASSWORD=$PASSWORD",
        "PASSWORD=\"${PASSWORD:-$DEFAULT}\"",
        "export TOKEN=$(cat /run/token)",
        "export TOKEN=`cat /run/token`",
        "TOKEN=$(shell cat token)",
        "api_key=os.environ[\"X\"]",
        "api_key = os.environ.get(\"ANTHROPIC_API_KEY\")",
        "API_KEY = os.getenv('API_KEY', '')",
        "    api_key=api_key,",
        "    token=self.token,",
        "    password=None,",
        "    key_password=self.key_password,",
        "$env:GOOGLE_APPLICATION_CREDENTIALS=\"C:\\path\\to\\your\\account.json\"",
        "connect(user=user, password=password)",
        "password = getpass.getpass(\"Password: \")",
        "password: string;",
        "  apiKey: config.apiKey,",
        "pub token: Option<String>,",
        "    token: String,",
        "let token = Token::new(kind, span);",
        "match token { Token::Key(key) => key, _ => None }",
        "if token == \"abc123def456\" {",
        "\"Authorization\": \"Bearer \" + token,",
        "headers: { Authorization: `Bearer ${token}` }",
        "headers = {\"Authorization\": f\"Bearer {key}\", 'X-API-Key': api_key}",
        "-H \"Authorization: Bearer $TOKEN\" \\",
        "curl -u $USER:$PASS --token ${T} https://h",
        "credentials: 'include',",
        "{\"type\": \"object\", \"properties\": {\"password\": {\"type\": \"string\"}}}",
        "{\"password\": \"Password\", \"forgotPassword\": \"Forgot your password?\"}",
        "{\"token\": \"Hello\", \"logprob\": -0.25, \"bytes\": [72, 101]}",
        "{\"usage\":{\"input_tokens\":1234567890,\"output_tokens\":12,\"max_tokens\":4096}}",
        "\"key\": \"3b18e512dba79e4c8300dd08aeb37f8e728b8dad\"",
        "key=3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
        "author: A U Thor <a@b.example>",
        "Token: what does this word mean in a sentence like that one?",
        "The password: it must have eight characters.",
        "Explain what a Bearer token is: it's a secret. Cookie: a biscuit?",
        "Enter token:",
        "error: invalid token: unexpected end of input",
        "error: token: expected `;`, found `}`",
        "SyntaxError: Unexpected token: keyword1 (if)",
        "Usage: tool [--token TOKEN] [--password PASSWORD] --api-key=API_KEY",
        "  --token string   the token to use",
        "  --api-key <key>  the key to use",
        "API_KEY=your-api-key-here",
        "api_key: <your api key>",
        "TOKEN_FILE=/run/secrets/token",
        "SECRET_NAME=db TOKEN_URL=https://h/token",
        "private_key: /etc/ssl/private.key",
        "session_id=3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
        "    \"integrity\": \"sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP==\",",
        "drwxr-xr-x 2 root root 4096 Nov 20 12:00 tokens",
        "src/redact/names.rs:12:const SECRET_WORDS: [&str; 11] = [",
        "#key=value of a comment",
        "x = cond ? key=1 : code=2",
        "https://h/?key=${key}&token={token}",
        "git@github.com:a/b.git",
        "http://localhost:8080/@scope/pkg",
        "document.cookie = \"a=\" + value",
        "PWD=/home/user OLDPWD=/ AUTHOR=me",
        "MAX_TOKENS=1000 TOKEN_COUNT=5",
        "DISABLE_TOKEN=1",
        "USE_PASSWORD=true",
        "tokenizer: cl100k_base_v1_2024",
        "Error: Cannot find module 'token-types' (key: 12)",
        "    async fn refresh_token(&self, token: &str) -> Result<Token, Error> {",
        "passed: 1234 tests, 5678 assertions",
        "key: value",
        "\"\"=:;'\\",
    ]);
}

#[test]
fn what_was_replaced_elsewhere_is_found_without_a_name() {
    let mut mask = Mask::new(&[5; 32]);
    let text = format!("it is {SECRET}, in words\n");
    assert_eq!(through(&mut mask, &[text.as_bytes()]), text.as_bytes());
    let mut header = SECRET.as_bytes().to_vec();
    mask.hash(Rule::Header, true, &mut header);
    let now = through(&mut mask, &[text.as_bytes()]);
    let hash = String::from_utf8(header).unwrap();
    assert_eq!(now, text.replace(SECRET, &hash).into_bytes());
    assert_eq!(mask.counts()[&Rule::Known].values, 1);
    // What looks random and was named is remembered as well, from there on.
    let named = "first 0123456789abcdef0\nAPI_KEY=0123456789abcdef0\nlater 0123456789abcdef0\n";
    let now = String::from_utf8(through(&mut mask, &[named.as_bytes()])).unwrap();
    assert!(now.starts_with("first 0123456789abcdef0\n"), "{now}");
    assert_eq!(now.matches("0123456789abcdef0").count(), 1, "{now}");
    let hash = now.lines().nth(1).unwrap().strip_prefix("API_KEY=").unwrap();
    assert!(now.ends_with(&format!("later {hash}\n")), "{now}");
}

/// A stream of everything: findings, text, code, binary data, long lines.
fn medley() -> Vec<u8> {
    let line = "Zqwy".repeat(16);
    let mut medley = format!(
        "PATH=/bin\nAPI_KEY={SECRET}\nB=2\0MY_TOKEN={SECRET}\0plain\r\nAuthorization: Bearer {SECRET}\r\n\
         {{\"id\":1,\"result\":{{\"text\":\"A=b\\nDB_PASSWORD={SECRET}\\nC=d\"}}}}\n\
         -----BEGIN PRIVATE KEY-----\n{line}\n{line}\nab==\n-----END PRIVATE KEY-----\n\
         https://u:{SECRET}@h/?token={SECRET}&x=1 ghp_{}\n+ curl -u me:{SECRET} h\n",
        "ZQ".repeat(18)
    )
    .into_bytes();
    medley.extend((0..2000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8));
    medley.extend(format!("\nX_SECRET={SECRET}\n").bytes());
    let filler = "{\"type\": \"text\", \"value\": \"lorem ipsum dolor\"}, ".repeat(1000);
    for _ in 0..4 {
        medley.extend(format!("{filler}\"api_key\": \"{SECRET}\", ").bytes());
    }
    medley.extend(format!("\nLONG_TOKEN={}\nlast line\n", "Zq0Y".repeat(30_000)).bytes());
    medley
}

#[test]
fn nothing_secret_of_a_medley_is_left_and_nothing_else_is_touched() {
    let medley = medley();
    let now = through(&mut Mask::new(&[5; 32]), &[&medley]);
    for secret in [SECRET, "Zqwy", "ZQZQ", "Zq0Y"] {
        let found = memchr::memmem::find(&now, secret.as_bytes());
        assert_eq!(found, None, "{secret}");
    }
    // All that differs lies within secrets.
    let mut secret = vec![false; medley.len()];
    for word in
        [SECRET, &"Zqwy".repeat(16), "ab==", &"ZQ".repeat(18), &"Zq0Y".repeat(30_000), "ghp_"]
    {
        for at in memchr::memmem::find_iter(&medley, word.as_bytes()) {
            secret[at..at + word.len()].fill(true);
        }
    }
    for (at, secret) in secret.into_iter().enumerate() {
        let context =
            || String::from_utf8_lossy(&medley[at.saturating_sub(40)..at + 10]).into_owned();
        assert!(secret || now[at] == medley[at], "{at}: {}", context());
    }
}

fn pieces<'a>(text: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
    ends.push(text.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &text[std::mem::replace(&mut start, end)..end]).collect()
}

#[test]
fn every_single_cut_gives_the_same() {
    let medley = &medley()[..4000];
    let whole = through(&mut Mask::new(&[5; 32]), &[medley]);
    for at in 0..medley.len() {
        let (one, other) = medley.split_at(at);
        assert!(through(&mut Mask::new(&[5; 32]), &[one, other]) == whole, "cut at {at}");
    }
    let bytes: Vec<&[u8]> = medley.chunks(1).collect();
    assert!(through(&mut Mask::new(&[5; 32]), &bytes) == whole);
}

/// Lines that hold a secret, ended or not.
fn planted() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "API_KEY=§\n",
        "export X_TOKEN=\"§\"\n",
        "{\"a\":1,\"client_secret\":\"§\"}\n",
        "{\"text\":\"x\\nDB_PASSWORD=§\\n\"}\n",
        "x-api-key: §\r\n",
        "MY_SECRET=§\0",
        "{\\\"apiKey\\\":\\\"§\\\"}\n",
        "https://u:§@h/\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cuts_do_not_show(cuts in prop::collection::vec(any::<usize>(), 0..80)) {
        let medley = medley();
        let mut masks = [Mask::new(&[5; 32]), Mask::new(&[5; 32])];
        let whole = through(&mut masks[0], &[&medley]);
        prop_assert!(through(&mut masks[1], &pieces(&medley, &cuts)) == whole);
        let counts = masks.map(|mask| {
            let mut counts = mask.counts().clone();
            // What is replaced without a hash is counted by the piece.
            counts.entry(Rule::Cut).and_modify(|count| count.values = 0);
            counts
        });
        prop_assert_eq!(&counts[0], &counts[1]);
    }

    #[test]
    fn planted_secrets_are_never_left(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), planted()), 1..6),
        cuts in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let mut text = Vec::new();
        for (noise, line) in &parts {
            text.extend_from_slice(noise);
            text.push(b'\n');
            text.extend_from_slice(line.replace('§', SECRET).as_bytes());
        }
        let now = through(&mut Mask::new(&[5; 32]), &pieces(&text, &cuts));
        prop_assert!(memchr::memmem::find(&now, SECRET.as_bytes()).is_none());
    }

    #[test]
    fn random_data_comes_through(
        data in prop::collection::vec(any::<u8>(), 0..5000), cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let now = through(&mut Mask::new(&[5; 32]), &pieces(&data, &cuts));
        prop_assert_eq!(now, data);
    }
}

#[test]
fn what_is_let_go_midway_holds_no_secret() {
    for line in [
        "X_API_KEY=§ and more\n",
        "https://u:§@h/\n",
        "{\"password\": \"§\"}\n",
        "Authorization: Bearer §\n",
    ] {
        let text = line.replace('§', SECRET);
        for at in 1..text.len() {
            let mut mask = Mask::new(&[5; 32]);
            let (mut parser, mut edits, mut spans) = (Parser::default(), Vec::new(), Vec::new());
            let mut bytes = text.clone().into_bytes();
            let (one, other) = text.as_bytes().split_at(at);
            for piece in [one, other] {
                let mut out = Output { mask: &mut mask, edits: &mut edits, spans: &mut spans };
                parser.feed(piece, &mut out);
                parser.force(&mut out);
                assert_eq!(parser.pending(), 0);
            }
            for edit in edits {
                bytes[edit.pos as usize..][..edit.bytes.len()].copy_from_slice(&edit.bytes);
            }
            let now = String::from_utf8(bytes).unwrap();
            assert!(!now.contains("ZQ") && !now.contains("9Z8"), "{now}");
            assert_eq!(now.find(SECRET.chars().next().unwrap()), None, "{now}");
        }
    }
}

#[test]
fn a_gap_within_a_value_hides_its_rest() {
    let mut mask = Mask::new(&[5; 32]);
    let (mut edits, mut spans) = (Vec::new(), Vec::new());
    for (before, after, rest) in [
        ("API_KEY=abc", "defgh\nnext", "\nnext"),
        ("{\"api_key\": \"", "defgh\", \"a\": 1}", "\", \"a\": 1}"),
        ("plain text ", "0123456789abcdef0123 and more", " and more"),
        ("plain text ", "goes on\n", "goes on\n"),
    ] {
        let mut parser = Parser::default();
        edits.clear();
        let mut out = Output { mask: &mut mask, edits: &mut edits, spans: &mut spans };
        parser.feed(before.as_bytes(), &mut out);
        parser.gap(&mut out);
        parser.feed(after.as_bytes(), &mut out);
        parser.force(&mut out);
        let mut now = [before, after].concat().into_bytes();
        for edit in &edits {
            now[edit.pos as usize..][..edit.bytes.len()].copy_from_slice(&edit.bytes);
        }
        let now = String::from_utf8(now).unwrap();
        let hidden = "x".repeat(after.len() - rest.len());
        assert!(now.ends_with(&format!("{hidden}{rest}")), "{now}");
    }
}

#[test]
fn hostile_text_takes_linear_time() {
    for unit in [
        "a=\"",
        "token=",
        "\"token\":\"",
        "\\",
        "key",
        "://:@",
        "?a=b&",
        "curl ",
        "sk-",
        "Bearer ",
        "\\\"key\\\":",
        "-----BEGIN PRIVATE KEY-----",
        "cookie: a=b;",
        "\x1b[1m",
        "authorization: Digest a=",
        "token: \\\\\\\\",
    ] {
        for end in ["", "\n"] {
            let line = format!("{}{end}", unit.repeat((64 << 10) / unit.len()));
            let text = line.repeat(4);
            let started = std::time::Instant::now();
            let now = through(&mut Mask::new(&[5; 32]), &[text.as_bytes()]);
            assert_eq!(now.len(), text.len());
            let elapsed = started.elapsed();
            assert!(elapsed.as_secs() < 10, "{unit:?}: {elapsed:?}");
        }
    }
}
