//! The providers' SDKs as oracle: what they make of an answer is what the server served and what is
//! found in its bytes.

use std::io::Write;

use agentsight::reconstruct::finding::{Block, BlockKind, BlockRole, Finding};
use serde_json::{Value, json};

use super::cases::{refusal, rich};
use super::found::{self, equal_served};
use super::support::mock::Server;
use super::support::mock::answer::Answer;
use super::support::mock::coding::Coding;
use super::support::mock::script::{Delivery, Reply, Rule, Script, When};
use super::support::mock::truth::Truth;
use super::support::sdk::Sdk;

/// Runs `test` for every SDK that is there, and says which are not.
fn for_each_sdk(test: impl Fn(Sdk)) {
    for sdk in Sdk::ALL {
        match sdk.python() {
            Some(_) => test(sdk),
            None => {
                let _ = writeln!(
                    std::io::stderr(),
                    "SKIPPED {sdk:?}: no Python with it (AGENTSIGHT_TEST_PYTHON)"
                );
            }
        }
    }
}

/// What the SDK said of a server that answers by these rules, and what that served.
fn asked(sdk: Sdk, rules: Vec<Rule>, manners: &[&str]) -> (Vec<Value>, Truth) {
    let server = Server::start(Script::of(rules)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (ca, script) = (directory.path().join("ca.pem"), directory.path().join("sdk.py"));
    server.write_ca(&ca).unwrap();
    let mut command = sdk.command(&sdk.python().unwrap(), &script, &server.url(), &ca, manners);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{sdk:?}: {said}");
    (Sdk::answers(&String::from_utf8(output.stdout).unwrap()), server.stop())
}

fn rule(answer: Answer, delivery: Delivery) -> Rule {
    Rule::new(When::default(), Reply::Answer(answer)).delivered(delivery)
}

/// Holds one answer of an SDK against the call that it was the answer of.
#[track_caller]
fn equal_answer(sdk: Sdk, answer: &Value, truth: &Truth, at: usize) {
    let call = truth.llm_calls()[at];
    assert!(answer["error"].is_null(), "{sdk:?} {at}: {answer}");
    assert_eq!(answer["text"], rich().whole_text(), "{sdk:?} {at}");
    let tool = &answer["tools"][0];
    assert_eq!((&tool[1], &tool[2]), (&json!("Bash"), &json!({"command": "echo 'ñ'"})));
    assert_eq!(sdk.usage(answer), Sdk::served(call.usage.as_ref()), "{sdk:?}: {answer}");
    assert_eq!(answer["model"], json!(call.model), "{sdk:?}");
    assert_eq!(answer["stop_reason"], json!(call.stop_reason), "{sdk:?}");
    let findings = found::all(truth);
    let found = found::calls(&findings)[at];
    assert_eq!(found::usage_row(found), sdk.usage(answer), "{sdk:?}: {answer}");
    assert_eq!(json!(found.model), answer["model"], "{sdk:?}");
    assert_eq!(json!(found.stop_reason), answer["stop_reason"], "{sdk:?}");
    assert_eq!(json!(found.response_id), answer["id"], "{sdk:?}");
}

/// Every coding, a refusal that is tried again, an error in the midst, a cut, and after all that a
/// document: one process per SDK, as they take seconds to load.
fn rules(sdk: Sdk) -> Vec<Rule> {
    let packed = |coding| {
        let delivery = Delivery { coding, ..Delivery::default() };
        rule(rich(), delivery).times(2)
    };
    let codings = [None, Some(Coding::Gzip), Some(Coding::Br), Some(Coding::Zstd)];
    let mut rules: Vec<Rule> = codings.into_iter().map(packed).collect();
    let word = if sdk == Sdk::Google { "RESOURCE_EXHAUSTED" } else { "rate_limit_error" };
    rules.push(Rule::new(When::default(), refusal(429, word, Some(1))).times(1));
    rules.push(rule(rich(), Delivery::default()).times(1));
    let error = Answer { error_after_events: Some(6), ..rich() };
    rules.push(rule(error, Delivery::default()).times(1));
    let cut = Delivery { cut_after_events: Some(6), ..Delivery::default() };
    rules.push(rule(rich(), cut).times(1));
    rules.push(rule(rich(), Delivery::default()));
    rules
}

/// What is asked for, and which call of the truth is the answer.
const QUESTIONS: [(&str, usize); 12] = [
    ("stream", 0),
    ("document", 1),
    ("stream", 2),
    ("document", 3),
    ("stream", 4),
    ("document", 5),
    ("stream", 6),
    ("document", 7),
    // Call 8 is refused.
    ("stream", 9),
    ("stream", ERROR),
    ("stream", CUT),
    ("document", 12),
];
const ERROR: usize = 10;
const CUT: usize = 11;

/// What the model said, as the SDK put it together from the pieces, is among the blocks found.
#[track_caller]
fn equal_content(sdk: Sdk, answer: &Value, truth: &Truth) {
    let findings = found::all(truth);
    let said: Vec<&Block> = findings.iter().filter_map(said).collect();
    let has = |kind: &BlockKind, text: &Value| {
        said.iter().any(|block| block.kind == *kind && block.text.as_deref() == text.as_str())
    };
    assert!(has(&BlockKind::Text, &answer["text"]), "{sdk:?}: {answer}\n{said:#?}");
    assert!(has(&BlockKind::Thinking, &answer["thinking"]), "{sdk:?}: {answer}\n{said:#?}");
    for tool in answer["tools"].as_array().unwrap() {
        let is_tool = |block: &&Block| {
            let arguments = block.text.as_deref().map(serde_json::from_str::<Value>);
            block.kind == BlockKind::ToolUse
                && block.tool_name.as_deref() == tool[1].as_str()
                && arguments.is_some_and(|arguments| arguments.is_ok_and(|it| it == tool[2]))
        };
        assert!(said.iter().copied().any(|block| is_tool(&block)), "{sdk:?}: {tool}\n{said:#?}");
    }
}

/// A block that the model said.
fn said(finding: &Finding) -> Option<&Block> {
    match finding {
        Finding::Block(block) if block.role == BlockRole::Assistant => Some(block),
        _ => None,
    }
}

#[test]
fn sdks_understand_what_is_found() {
    for_each_sdk(|sdk| {
        let (answers, truth) = asked(sdk, rules(sdk), &QUESTIONS.map(|(manner, _)| manner));
        let mut retries = vec![None; 13];
        retries[9] = Some(8);
        // The same words again after an error in the midst or a cut are another try, too.
        retries[CUT] = Some(ERROR);
        // Google has another target for documents.
        retries[12] = (sdk != Sdk::Google).then_some(CUT);
        assert_eq!(truth.retries(), retries, "{sdk:?}");
        let calls = truth.llm_calls();
        assert!(calls[ERROR].error_type.is_some() && !calls[CUT].complete, "{calls:?}");
        for (answer, (_, at)) in answers.iter().zip(QUESTIONS) {
            match at {
                CUT => assert!(!answer["error"].is_null(), "{sdk:?}: {answer}"),
                // Some take an error in the midst for the end.
                ERROR => {}
                _ => equal_answer(sdk, answer, &truth, at),
            }
        }
        let codings: Vec<_> = calls.iter().map(|call| call.content_encoding).collect();
        let packed = [None, None, Some("gzip"), Some("gzip"), Some("br"), Some("br")];
        assert_eq!(codings[..6], packed, "{sdk:?}");
        equal_served(&format!("{sdk:?}"), &truth);
        equal_content(sdk, &answers[0], &truth);
    });
}
