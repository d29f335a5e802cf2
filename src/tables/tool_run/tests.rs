//! Made-up agents and what they start.

use super::*;
use crate::event::{Exit, FileAccess, Fork, Image, Sample};
use crate::tables::Files;

const AGENT: u32 = 1;

fn id(pid: u32, start_s: i64) -> ProcessId {
    ProcessId { pid, start_ts: at(start_s) }
}

fn at(s: i64) -> WallNanos {
    WallNanos(s * 1_000_000_000)
}

fn event(s: i64, id: ProcessId, body: Body) -> Event {
    Event { ts: at(s), process: Some(id), tid: None, comm: Some("x".into()), body }
}

/// A process that runs `argv`, words separated by `|`, from one second to another.
fn process(pid: u32, ppid: u32, span: (i64, Option<i64>), argv: &[&str]) -> Vec<Event> {
    let id = id(pid, span.0);
    let mut events = vec![event(span.0, id, Body::ProcessFork(Fork { ppid, uid: 0 }))];
    for argv in argv {
        let argv = argv.split('|').map(str::to_owned).collect();
        let image = Image { ppid, argv, matched: pid == AGENT, ..Image::default() };
        events.push(event(span.0, id, Body::ProcessExec(image)));
    }
    if let Some(end) = span.1 {
        let exit = Exit {
            ppid,
            exit_code: Some(3),
            cpu_user_ns: 500_000_000,
            peak_rss_bytes: u64::from(pid),
            read_bytes: 10,
            written_bytes: 1,
            ..Exit::default()
        };
        events.push(event(end, id, Body::ProcessExit(exit)));
    }
    events
}

fn call(name: &str, arguments: &str, from_s: i64, until_s: Option<i64>) -> ToolCall {
    ToolCall {
        tool_call_id: format!("{name}-{from_s}"),
        call_id: 7,
        result_call_id: None,
        conversation_id: None,
        turn: None,
        process: Some(id(AGENT, 0)),
        name: Some(name.into()),
        arguments: Some(arguments.into()),
        result: None,
        is_error: None,
        result_bytes: None,
        start_ts: at(from_s),
        end_ts: until_s.map(at),
        carried_calls: None,
        is_server_side: false,
    }
}

fn bash(command: &str, from_s: i64, until_s: Option<i64>) -> ToolCall {
    call("Bash", &serde_json::json!({ "command": command }).to_string(), from_s, until_s)
}

struct Ran {
    activity: Activity,
    runs: ToolRuns,
}

fn run(calls: &[ToolCall], events: &[Vec<Event>]) -> Ran {
    run_with(calls, events, &Inputs::default(), &[])
}

fn run_with(calls: &[ToolCall], events: &[Vec<Event>], inputs: &Inputs, files: &[FileRow]) -> Ran {
    let mut activity = Activity::default();
    process(AGENT, 99, (0, None), &["agent"]).iter().for_each(|event| activity.push(event));
    events.iter().flatten().for_each(|event| activity.push(event));
    activity.finish();
    let runs = tool_runs(calls, &activity, inputs, files);
    activity.attribute_tools(calls, &runs);
    Ran { activity, runs }
}

impl Ran {
    /// Root, confidence and evidence of a call.
    fn found(&self, call: usize) -> (Option<u32>, &str, &str) {
        let run = &self.runs.runs[call];
        let confidence = run.confidence.map_or("", Confidence::as_str);
        (run.root.map(|root| root.pid), confidence, run.evidence.unwrap_or_default())
    }
}

#[test]
fn a_command_is_found_however_it_was_quoted_and_wrapped() {
    let command = "echo \"it's\" && grep -r 'needle' src\necho done";
    let wrapped = r#"/bin/bash|-c|source /tmp/s.sh && eval 'echo "it'"'"'s" && grep -r '"'"'needle'"'"' src
echo done' < /dev/null && pwd -P >| /tmp/cwd"#;
    let ran = run(
        &[bash(command, 10, Some(20))],
        &[
            process(5, AGENT, (11, Some(15)), &[wrapped]),
            process(6, 5, (12, Some(13)), &["grep|-r|needle|src"]),
            process(7, AGENT, (11, Some(12)), &["git|status"]),
            process(8, AGENT, (30, Some(31)), &[wrapped]),
        ],
    );
    assert_eq!(ran.found(0), (Some(5), "certain", "argv"));
    let run = &ran.runs.runs[0];
    assert_eq!((run.processes, run.exit_code, run.left_running), (2, Some(3), 0));
    assert_eq!((run.cpu_ms, run.peak_rss_bytes), (Some(1000.0), Some(6)));
    assert_eq!((run.read_bytes, run.written_bytes), (Some(20), Some(2)));
    let tool = |pid| {
        let row = ran.activity.processes.iter().find(|row| row.id.pid == pid).unwrap();
        row.tool.as_ref().map(|tool| tool.tool_call_id.as_str())
    };
    assert_eq!([5, 6, 7, 8].map(tool), [Some("Bash-10"), Some("Bash-10"), None, None]);
}

#[test]
fn a_shell_that_became_its_command_and_one_that_ran_before_are_known() {
    let became = process(5, AGENT, (11, Some(15)), &["sh|-c|make all", "make|all"]);
    assert_eq!(
        run(&[bash("make all", 10, Some(20))], &[became]).found(0),
        (Some(5), "certain", "argv")
    );
    let shell = process(4, AGENT, (2, None), &["bash"]);
    let parts = [
        shell,
        process(5, 4, (11, Some(15)), &["/usr/bin/sort|-u|names.txt"]),
        process(6, 4, (11, Some(15)), &["/usr/bin/wc|-l"]),
    ];
    let ran = run(&[bash("sort -u names.txt | wc -l", 10, Some(20))], &parts);
    assert_eq!(ran.found(0), (Some(5), "likely", "argv"));
    assert_eq!(ran.runs.runs[0].processes, 2, "each part of it is started by the shell");
}

#[test]
fn a_script_that_is_read_is_known_by_it() {
    let script = "import os\nprint(os.getcwd())";
    let python = process(5, AGENT, (11, Some(15)), &["python3|-"]);
    let mut inputs = Inputs::default();
    let data = crate::event::StreamData {
        source: Source::Stdio,
        conn_id: 1,
        direction: Direction::Read,
        stream_offset: 0,
        data_bytes: script.len() as u64,
        lost_bytes: 0,
        data: script.as_bytes().to_vec(),
        library: String::new(),
        fd: Some(0),
        call_ts: vec![],
        call_bytes: vec![],
    };
    inputs.push(&event(11, id(5, 11), Body::Data(data)));
    let code = call("run", &serde_json::json!({ "code": script }).to_string(), 10, Some(20));
    let ran = run_with(&[code], &[python], &inputs, &[]);
    assert_eq!(ran.found(0), (Some(5), "certain", "stdin"));
}

#[test]
fn arguments_of_a_tool_show_in_the_program_it_starts() {
    let grep = call("Grep", r#"{"pattern":"fn main","path":"src"}"#, 10, Some(20));
    let rg = process(5, AGENT, (11, Some(12)), &["rg|--json|fn main|src"]);
    let other = process(6, AGENT, (11, Some(12)), &["git|log"]);
    assert_eq!(run(&[grep], &[rg, other]).found(0), (Some(5), "certain", "argv"));
}

#[test]
fn the_same_command_twice_is_likely_only_and_goes_by_time() {
    let calls = [bash("npm test", 10, Some(30)), bash("npm test", 11, Some(30))];
    let ran = run(
        &calls,
        &[
            process(5, AGENT, (12, Some(15)), &["sh|-c|npm test"]),
            process(6, AGENT, (13, Some(16)), &["sh|-c|npm test"]),
        ],
    );
    assert_eq!(ran.found(0), (Some(5), "likely", "argv"));
    assert_eq!(ran.found(1), (Some(6), "likely", "argv"));
}

#[test]
fn time_alone_is_believed_of_one_process_and_one_call_only() {
    let blind = |from| call("deploy", "{}", from, Some(from + 5));
    let child = |pid, from| process(pid, AGENT, (from, Some(from + 1)), &["tool|run"]);
    assert_eq!(run(&[blind(10)], &[child(5, 11)]).found(0), (Some(5), "likely", "time"));
    assert_eq!(run(&[blind(10)], &[child(5, 11), child(6, 12)]).found(0), (None, "", ""));
    let both = run(&[blind(10), blind(10)], &[child(5, 11)]);
    assert_eq!((both.found(0), both.found(1)), ((None, "", ""), (None, "", "")));
    let other = run(&[bash("cargo build", 10, Some(15))], &[child(5, 11)]);
    assert_eq!(other.found(0), (None, "", ""), "what it runs is known, and it is something else");
    let mut of_provider = blind(10);
    of_provider.is_server_side = true;
    assert_eq!(run(&[of_provider], &[child(5, 11)]).found(0), (None, "", ""));
}

#[test]
fn what_outlives_its_tool_call_or_its_agent_says_so() {
    let events = [
        process(5, AGENT, (11, Some(15)), &["sh|-c|npm start"]),
        process(6, 5, (12, Some(90)), &["node|server.js"]),
    ];
    let ran = run(&[bash("npm start", 10, Some(20))], &events);
    assert_eq!(ran.runs.runs[0].left_running, 1);
    let outlived = |ran: &Ran, pid| {
        let row = ran.activity.processes.iter().find(|row| row.id.pid == pid).unwrap();
        row.outlived.map(|(what, _)| what.as_str())
    };
    assert_eq!((outlived(&ran, 5), outlived(&ran, 6)), (None, Some("tool_call")));
    let mut ended = events.to_vec();
    ended.push(vec![event(50, id(AGENT, 0), Body::ProcessExit(Exit::default()))]);
    let ran = run(&[bash("npm start", 10, Some(20))], &ended);
    assert_eq!(outlived(&ran, 6), Some("agent"));
}

#[test]
fn cpu_after_the_result_is_not_the_tools() {
    let server = id(6, 12);
    let sample = |s, cpu_s: u64| {
        let cpu_user_ns = cpu_s * 1_000_000_000;
        event(s, server, Body::Sample(Sample { cpu_user_ns, ..Sample::default() }))
    };
    let mut events = process(6, AGENT, (12, None), &["sh|-c|npm start"]);
    events.extend([sample(20, 1), sample(30, 9)]);
    let ran = run(&[bash("npm start", 10, Some(20))], &[events]);
    assert_eq!(ran.runs.runs[0].cpu_ms, Some(1000.0));
}

#[test]
fn an_edit_is_found_in_the_files_of_the_agent() {
    let mut files = Files::default();
    let mut access = |pid, from_s, until_s, path: &str| {
        let access =
            FileAccess { path: Some(path.into()), first_ts: at(from_s), ..FileAccess::default() };
        files.push(&event(until_s, id(pid, 0), Body::FileAccess(access)));
    };
    access(AGENT, 11, 12, "/home/demo/src/main.rs");
    access(AGENT, 1, 50, "/home/demo/README.md");
    access(9, 11, 12, "/home/demo/Cargo.toml");
    let files = files.finish();
    let edit = |path: &str| {
        let arguments = serde_json::json!({ "file_path": path, "new_string": "x" }).to_string();
        run_with(&[call("Edit", &arguments, 10, Some(20))], &[], &Inputs::default(), &files)
    };
    let found = edit("/home/demo/src/main.rs");
    assert_eq!(found.found(0), (None, "certain", "file"));
    assert_eq!(found.runs.runs[0].file.as_deref(), Some("/home/demo/src/main.rs"));
    assert_eq!(edit("README.md").found(0), (None, "likely", "file"), "used before as well");
    assert_eq!(edit("/home/demo/Cargo.toml").found(0), (None, "", ""), "another process did");
    let patch =
        call("apply_patch", "*** Begin Patch\n*** Update File: src/main.rs\n+x", 10, Some(20));
    let ran = run_with(&[patch], &[], &Inputs::default(), &files);
    assert_eq!(ran.found(0), (None, "certain", "file"));
}

#[test]
fn files_of_a_tree_are_counted_and_loops_of_parents_end() {
    let mut files = Files::default();
    for path in ["/a", "/b"] {
        let access =
            FileAccess { path: Some(path.into()), first_ts: at(12), ..FileAccess::default() };
        files.push(&event(13, id(5, 11), Body::FileAccess(access)));
    }
    let files = files.finish();
    let events = [
        process(5, AGENT, (11, Some(15)), &["sh|-c|make all"]),
        process(6, 7, (12, Some(13)), &["x"]),
        process(7, 6, (12, Some(13)), &["y"]),
    ];
    let calls = [bash("make all", 10, Some(20))];
    let ran = run_with(&calls, &events, &Inputs::default(), &files);
    assert_eq!(ran.runs.runs[0].files, 2);
}
