//! The token counts of real agents and SDKs are those that were served: over every coding that the
//! client takes, through a refusal, an error in the midst of a stream and a stream that is cut.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::agents::{KEY, at_home, gemini_cli, opencode, program};
use super::claude;
use super::compare::{Expected, nothing_lost};
use super::host::{Host, live, skip};
use super::recorder::record;
use super::support::codex;
use super::support::mock::Server;
use super::support::mock::answer::Answer;
use super::support::mock::coding::Coding;
use super::support::mock::script::{Delivery, Failure, Reply, Rule, Script, When};
use super::support::mock::truth::{Exchange, Truth};
use super::support::sdk::Sdk;
use super::trace::Trace;

/// What the model says in the end.
const DONE: &str = "Done: the commands ran. ✓";

/// What happens to a request, one after the other; after the last the model says [`DONE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It is refused for its rate.
    Refusal,
    /// The model asks for a command to be run, in an answer packed so.
    Tool(Coding),
    /// The answer ends in an error.
    Error,
    /// The answer is cut.
    Cut,
}

/// The course of a session.
struct Course {
    /// Which requests are the session's own; others get a short text.
    main: When,
    /// Name of the tool that runs commands.
    tool: &'static str,
    /// Its arguments.
    input: Value,
    /// The provider's word for a refusal.
    refusal: &'static str,
    /// In this order. What ends the agent's session comes last: some try again after a cut, some
    /// after an error.
    steps: Vec<Step>,
}

impl Course {
    fn script(&self) -> Script {
        let mut rules: Vec<Rule> = self.steps.iter().map(|step| self.rule(*step)).collect();
        let done = Reply::Answer(Answer { delta_chars: 4, ..Answer::text(DONE) });
        rules.push(Rule::new(self.main.clone(), done).delivered(packed(Coding::Br)));
        let other = Reply::Answer(Answer::text("Mock session"));
        rules.push(Rule::new(When { method: Some("POST".into()), ..When::default() }, other));
        Script::of(rules)
    }

    fn rule(&self, step: Step) -> Rule {
        let done = Answer { delta_chars: 4, ..Answer::text(DONE) };
        let (reply, delivery) = match step {
            Step::Refusal => (
                Reply::Failure(Failure {
                    status: 429,
                    error_type: self.refusal.into(),
                    message: "slow down".into(),
                    retry_after_s: Some(1),
                }),
                Delivery::default(),
            ),
            Step::Tool(coding) => {
                (Reply::Answer(Answer::tool(self.tool, self.input.clone())), packed(coding))
            }
            Step::Error => {
                let answer = Answer { error_after_events: Some(5), ..done };
                (Reply::Answer(answer), packed(Coding::Br))
            }
            Step::Cut => {
                let cut = Delivery { cut_after_events: Some(5), ..packed(Coding::Gzip) };
                (Reply::Answer(done), cut)
            }
        };
        Rule::new(self.main.clone(), reply).times(1).delivered(delivery)
    }

    /// The agent met with everything that the course has in store.
    #[track_caller]
    fn was_taken(&self, truth: &Truth, said: &str) {
        let calls = truth.llm_calls();
        let is = |step: Step, call: &Exchange| match step {
            Step::Refusal => call.status == 429,
            Step::Tool(_) => call.stop_reason.is_some() && call.complete,
            Step::Error => call.streamed && call.error_type.is_some(),
            Step::Cut => !call.complete,
        };
        for step in &self.steps {
            let met = calls.iter().any(|call| is(*step, call));
            assert!(met, "{step:?} did not happen: {}\n{said}", summary(truth));
        }
        assert!(truth.retries().iter().any(Option::is_some), "{}", summary(truth));
    }
}

/// Compressed, if the client takes it, and not all at once.
fn packed(coding: Coding) -> Delivery {
    Delivery { coding: Some(coding), delta_ms: 2, ..Delivery::default() }
}

/// The calls served, for a person.
fn summary(truth: &Truth) -> String {
    let line = |call: &&Exchange| {
        let Exchange { target, status, error_type, complete, content_encoding, .. } = call;
        let stop = &call.stop_reason;
        format!("{target} {status} {content_encoding:?} {stop:?} {error_type:?} {complete}\n")
    };
    truth.llm_calls().iter().map(line).collect()
}

/// Records an agent on a course and holds the counts recorded against those served.
fn counts_are_served(host: &Host, course: &Course, agent: impl FnOnce(&str) -> Command) {
    let server = Server::start(course.script()).unwrap();
    server.write_ca(&host.path("ca.pem")).unwrap();
    let mut agent = agent(&server.url());
    at_home(host, &mut agent);
    let output = host.path("run.parquet");
    // A session may be the second of its test.
    let ended = record(&output, &["--force", "--interval", "100ms"], &mut agent);
    let truth = server.stop();
    course.was_taken(&truth, &format!("{}{}", ended.stdout, ended.stderr));
    let trace = Trace::open(&output);
    nothing_lost(&trace);
    Expected::all(&truth).check_counts(&trace);
}

/// A refusal, and three calls of a tool, each in another coding.
fn work() -> Vec<Step> {
    let tools = [Coding::Zstd, Coding::Br, Coding::Gzip].map(Step::Tool);
    [&[Step::Refusal], &tools[..]].concat()
}

/// Installs an agent while there is a network, then runs the test where there is none.
fn live_with(agent: Result<PathBuf, String>, test: impl FnOnce(&Host, PathBuf) + Send) {
    match agent {
        Err(reason) => skip(&reason),
        Ok(program) => live(|host| test(host, program)),
    }
}

#[test]
fn claude_code_counts_what_was_served() {
    live_with(claude::installed_agent(), |host, program| {
        let course = Course {
            main: When { has_tools: Some(true), ..When::path("/v1/messages") },
            tool: "Bash",
            input: json!({"command": "echo done", "description": "Scripted step"}),
            refusal: "rate_limit_error",
            steps: [work(), vec![Step::Error, Step::Cut]].concat(),
        };
        counts_are_served(host, &course, |url| {
            let mut agent = Command::new(&program);
            agent.args(["-p", "Do the scripted work.", "--allowedTools", "Bash"]);
            agent.env("ANTHROPIC_BASE_URL", url).env("ANTHROPIC_API_KEY", KEY);
            agent.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
            agent.env("DISABLE_TELEMETRY", "1").env("DISABLE_AUTOUPDATER", "1");
            agent.env_remove("CLAUDE_CONFIG_DIR");
            agent
        });
    });
}

#[test]
fn opencode_counts_what_was_served() {
    live_with(program("opencode-ai", "1.18.33", "opencode"), |host, program| {
        let course = Course {
            main: When { has_tools: Some(true), ..When::path("/v1/messages") },
            tool: "bash",
            input: json!({"command": "echo done", "description": "Scripted step"}),
            refusal: "rate_limit_error",
            steps: [work(), vec![Step::Error, Step::Cut]].concat(),
        };
        let prompt = "Do the scripted work.";
        counts_are_served(host, &course, |url| opencode(&program, url, prompt));
    });
}

#[test]
fn gemini_cli_counts_what_was_served() {
    live_with(program("@google/gemini-cli", "0.61.0", "gemini"), |host, program| {
        // It makes do with what it has of an answer that is cut, and takes an error for the end.
        for end in [Step::Cut, Step::Error] {
            let course = Course {
                main: When { has_tools: Some(true), ..When::default() },
                tool: "run_shell_command",
                input: json!({"command": "echo done", "description": "Scripted step"}),
                refusal: "RESOURCE_EXHAUSTED",
                steps: [work(), vec![end]].concat(),
            };
            let prompt = "Do the scripted work.";
            counts_are_served(host, &course, |url| gemini_cli(host, &program, url, prompt));
        }
    });
}

/// Codex, told to do its work at the server; `websocket` says how.
fn codex_agent(host: &Host, program: &PathBuf, url: &str, websocket: bool) -> Command {
    let home = host.path("home/.codex");
    std::fs::create_dir_all(&home).unwrap();
    let config = format!(
        "model = \"gpt-5\"\nmodel_provider = \"mock\"\n[model_providers.mock]\nname = \"mock\"\n\
         base_url = \"{url}/v1\"\nenv_key = \"MOCK_KEY\"\nwire_api = \"responses\"\n\
         supports_websockets = {websocket}\nrequest_max_retries = 3\nstream_max_retries = 5\n"
    );
    std::fs::write(home.join("config.toml"), config).unwrap();
    let mut agent = Command::new(program);
    agent.args(["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access"]);
    agent.arg("Do the scripted work.");
    agent.env("CODEX_HOME", &home).env("MOCK_KEY", KEY);
    agent.env("CODEX_CA_CERTIFICATE", host.path("ca.pem"));
    agent.env_remove("OPENAI_API_KEY").env_remove("SSL_CERT_FILE");
    agent
}

fn codex_course() -> Course {
    Course {
        main: When { has_tools: Some(true), ..When::path("/v1/responses") },
        tool: "exec_command",
        input: json!({"cmd": "echo done"}),
        refusal: "rate_limit_exceeded",
        steps: [work(), vec![Step::Error, Step::Cut]].concat(),
    }
}

#[test]
fn codex_over_http_counts_what_was_served() {
    live_with(codex::installed(), |host, program| {
        counts_are_served(host, &codex_course(), |url| codex_agent(host, &program, url, false));
    });
}

/// Over a WebSocket there is no refusal and no coding of single answers: the session as a whole is
/// compressed.
#[test]
fn codex_over_a_websocket_counts_what_was_served() {
    live_with(codex::installed(), |host, program| {
        let deflate = Delivery { message_deflate: Some(true), ..Delivery::default() };
        let upgrade = When { method: Some("GET".into()), ..When::path("/v1/responses") };
        let answer = Answer { delta_chars: 4, ..Answer::text(DONE) };
        let course = codex_course();
        let tool = Reply::Answer(Answer::tool(course.tool, course.input));
        let server = Server::start(Script::of(vec![
            Rule::new(upgrade, Reply::WebSocket(answer)).delivered(deflate),
            Rule::new(course.main, tool).times(2).delivered(packed(Coding::Identity)),
        ]));
        let server = server.unwrap();
        server.write_ca(&host.path("ca.pem")).unwrap();
        let mut agent = codex_agent(host, &program, &server.url(), true);
        at_home(host, &mut agent);
        let output = host.path("run.parquet");
        let ended = record(&output, &["--interval", "100ms"], &mut agent);
        let truth = server.stop();
        assert!(ended.stdout.contains("Done: the commands ran."), "{ended:?}\n{}", summary(&truth));
        let over_websocket = |call: &&&Exchange| call.method == "WS";
        assert!(
            truth.llm_calls().iter().filter(over_websocket).count() >= 3,
            "{}",
            summary(&truth)
        );
        let trace = Trace::open(&output);
        nothing_lost(&trace);
        Expected::all(&truth).check_calls(&trace);
    });
}

/// The rules of the SDKs' questions: every coding, a refusal, an error, a cut, and then an end.
fn sdk_rules(sdk: Sdk) -> Vec<Rule> {
    let rule = |answer, delivery| {
        Rule::new(When::default(), Reply::Answer(answer)).delivered(delivery).times(1)
    };
    let answer = Answer { delta_chars: 4, ..Answer::tool("Bash", json!({"command": "ls"})) };
    let mut rules = Vec::new();
    for coding in [None, Some(Coding::Gzip), Some(Coding::Br), Some(Coding::Zstd)] {
        let delivery = Delivery { coding, delta_ms: 2, ..Delivery::default() };
        rules.push(rule(answer.clone(), delivery));
    }
    let word = if sdk == Sdk::Google { "RESOURCE_EXHAUSTED" } else { "rate_limit_error" };
    let refusal = Failure {
        status: 429,
        error_type: word.into(),
        message: "slow down".into(),
        retry_after_s: Some(1),
    };
    rules.push(Rule::new(When::default(), Reply::Failure(refusal)).times(1));
    let error = Answer { error_after_events: Some(6), ..answer.clone() };
    rules.push(rule(error, Delivery::default()));
    let cut = Delivery { cut_after_events: Some(6), ..Delivery::default() };
    rules.push(rule(answer.clone(), cut));
    rules.push(Rule::new(When::default(), Reply::Answer(answer)));
    rules
}

fn sdk_counts_what_was_served(sdk: Sdk) {
    let Some(python) = sdk.python() else {
        return skip(&format!("no Python with {sdk:?} (AGENTSIGHT_TEST_PYTHON)"));
    };
    live(|host| {
        let server = Server::start(Script::of(sdk_rules(sdk))).unwrap();
        let ca = host.path("ca.pem");
        server.write_ca(&ca).unwrap();
        let manners = ["stream", "document", "stream", "stream", "stream", "stream", "document"];
        let mut command = sdk.command(&python, &host.path("sdk.py"), &server.url(), &ca, &manners);
        let output = host.path("run.parquet");
        let ended = record::<&str>(&output, &[], &mut command).succeeded();
        let truth = server.stop();
        // After the refusal, the error and the cut; Google has another target for the document last.
        let retries = if sdk == Sdk::Google { 2 } else { 3 };
        assert_eq!(truth.retries().iter().flatten().count(), retries, "{}", summary(&truth));
        let trace = Trace::open(&output);
        nothing_lost(&trace);
        Expected::all(&truth).check_counts(&trace);
        // What the SDK counted is what was recorded of the calls that it got to their end.
        let told: Vec<Value> = Sdk::answers(&ended.stdout);
        let told = told.iter().filter(|answer| answer["error"].is_null());
        let told: Vec<Value> = told.map(|answer| sdk.usage(answer)).collect();
        let recorded = trace.rows(
            "select input_tokens as input, cache_read_tokens as cache_read, \
             cache_creation_tokens as cache_creation, output_tokens as output, \
             reasoning_tokens as reasoning from llm_calls \
             where usage_state = 'reported' order by request_end_ts",
        );
        assert_eq!(recorded, told);
    });
}

#[test]
fn the_sdk_of_anthropic_counts_what_was_served() {
    sdk_counts_what_was_served(Sdk::Anthropic);
}

#[test]
fn the_sdk_of_openai_counts_what_was_served() {
    sdk_counts_what_was_served(Sdk::OpenaiChat);
}

#[test]
fn the_sdk_of_openai_counts_responses_as_served() {
    sdk_counts_what_was_served(Sdk::OpenaiResponses);
}

#[test]
fn the_sdk_of_google_counts_what_was_served() {
    sdk_counts_what_was_served(Sdk::Google);
}
