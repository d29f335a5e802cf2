//! `agentsight-query`: SQL over traces.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agentsight::cli::{self, Output, hinted};
use agentsight::query::print::{Format, PrintError, Printed, print};
use agentsight::query::{self, Options, Session, Shortfalls, library, overview};
use anyhow::Context;
use clap::{Parser, ValueEnum};

const PROGRAM: &str = "agentsight-query";

const EXAMPLES: &str = "\
TRACE and SQL are told apart like this: the last argument is SQL if it contains white space, is not
an existing file and does not end in .parquet. With -f or --named all arguments are traces. Without
any query each trace is described. With several traces every table has the column trace in front, and
a named query is asked of one after the other. The tables are in the SQL table docs:

  agentsight-query run.parquet
  agentsight-query runs/*.parquet \"SELECT trace, sum(output_tokens) FROM llm_calls GROUP BY 1 ORDER BY 1\"
  agentsight-query run.parquet \"SELECT model, output_tokens FROM llm_calls\"
  agentsight-query run.parquet --named llm_calls_list --param model=some-model --format csv
  agentsight-query run.parquet \"SELECT * FROM docs WHERE \\\"table\\\" = 'llm_calls'\"";

/// Ask traces questions in SQL.
#[derive(Parser)]
#[command(name = PROGRAM, version, after_help = EXAMPLES)]
struct Args {
    /// The traces, and after them the SQL statement.
    #[arg(value_name = "TRACE... [SQL]")]
    positional: Vec<OsString>,
    /// Read the SQL statement from a file, - for standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "named")]
    file: Option<PathBuf>,
    /// Run a named query; --list shows them.
    #[arg(long, value_name = "NAME")]
    named: Option<String>,
    /// Give a parameter of the named query a value.
    #[arg(long, value_name = "NAME=VALUE", requires = "named", value_parser = parameter)]
    param: Vec<(String, String)>,
    /// Show the named queries with their parameters.
    #[arg(long, conflicts_with_all = ["positional", "file", "named"])]
    list: bool,
    /// How to write the result: a table cuts long values, the other formats do not. Bytes are text
    /// in JSON where they are UTF-8, else {"base64": "..."}; elsewhere they are escaped text.
    #[arg(long, value_enum, default_value_t = FormatArg::Table)]
    format: FormatArg,
    /// Write the result to a file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Let -o replace an existing file.
    #[arg(long, requires = "output")]
    force: bool,
    /// Exit with code 1 when a trace is incomplete: the recorder did not finish, events were lost, or
    /// rows could not be read.
    #[arg(long)]
    strict: bool,
    /// Compute costs with the prices in this JSON file, and with the built-in ones for what it has
    /// none of; docs/PRICES.md describes it.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Memory that sorting, grouping and joining may hold before they spill to disk or fail, such
    /// as 512M or 2G [default: unlimited].
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory_limit: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArg {
    Table,
    Csv,
    Tsv,
    Json,
    Ndjson,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Table => Self::Table,
            FormatArg::Csv => Self::Csv,
            FormatArg::Tsv => Self::Tsv,
            FormatArg::Json => Self::Json,
            FormatArg::Ndjson => Self::Ndjson,
        }
    }
}

/// What is asked.
enum Question {
    Sql(String),
    Named(String, Vec<(String, String)>),
    /// Nothing: describe each trace.
    Overview,
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::run(PROGRAM, || answer(args))
}

fn answer(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        Output::new(None, false, &[])?.write(|out| Ok(list(out)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (traces, question) = question(&args)?;
    let output = Output::new(args.output.as_deref(), args.force, &traces)?;
    let prices = cli::prices(args.prices.as_deref())?;
    let options = Options { memory_limit_bytes: args.memory_limit, prices };
    let session = Session::open(&traces, options).map_err(|error| not_opened(error, &traces))?;
    let mut shortfalls = Shortfalls::default();
    let mut say = |at_end| {
        let new = shortfalls.look(&session, args.strict && at_end);
        new.iter().for_each(|line| cli::warn(PROGRAM, line));
    };
    say(false);
    let format = Format::from(args.format);
    output.write(|out| {
        let printed = ask(&session, &question, format, out).map_err(|error| match error {
            PrintError::Query(error) => explained(error),
            write => write.into(),
        })?;
        if printed.hidden_rows > 0 {
            eprintln!(
                "{PROGRAM}: {} of {} rows not shown; --format csv writes all",
                printed.hidden_rows, printed.rows
            );
        }
        Ok(())
    })?;
    say(true);
    if args.strict && shortfalls.is_incomplete() {
        return Ok(ExitCode::from(cli::EXIT_INCOMPLETE));
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(
    session: &Session,
    question: &Question,
    format: Format,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    match question {
        Question::Sql(sql) => print(session.sql(sql)?, format, out),
        Question::Named(name, parameters) => print(session.named(name, parameters)?, format, out),
        Question::Overview if format == Format::Table => {
            overview::print(session, out).map(|()| Printed::default())
        }
        Question::Overview => print(session.named(overview::FACTS, &[])?, format, out),
    }
}

/// Why the traces could not be opened. SQL without white space in it was taken for a trace.
fn not_opened(error: query::Error, traces: &[PathBuf]) -> anyhow::Error {
    let is_one_word = |path: &PathBuf| !path.exists() && path.components().count() == 1;
    let last = traces.last().filter(|path| traces.len() > 1 && is_one_word(path));
    let hint = last
        .filter(|path| path.extension().is_none())
        .map(|_| "check the path; SQL is one argument with white space in it".to_owned());
    let known = error.hint();
    hinted(error, hint.or(known))
}

/// An error of the library with its hint.
fn explained(error: query::Error) -> anyhow::Error {
    let hint = error.hint();
    hinted(error, hint)
}

/// Tells traces and SQL apart; see [`EXAMPLES`].
fn question(args: &Args) -> anyhow::Result<(Vec<PathBuf>, Question)> {
    let mut traces: Vec<PathBuf> = args.positional.iter().map(PathBuf::from).collect();
    if let Some(name) = &args.named {
        return Ok((traces, Question::Named(name.clone(), args.param.clone())));
    }
    if let Some(file) = &args.file {
        return Ok((traces, Question::Sql(read_sql(file)?)));
    }
    let question = match args.positional.last().and_then(|last| last.to_str()) {
        Some(sql) if is_sql(sql) => {
            traces.pop();
            Question::Sql(sql.to_owned())
        }
        _ => Question::Overview,
    };
    Ok((traces, question))
}

fn is_sql(argument: &str) -> bool {
    argument.contains(char::is_whitespace)
        && !argument.ends_with(".parquet")
        && !Path::new(argument).exists()
}

fn read_sql(file: &Path) -> anyhow::Result<String> {
    let mut sql = String::new();
    if file == Path::new("-") {
        io::stdin().read_to_string(&mut sql).context("cannot read SQL from standard input")?;
    } else {
        let read = File::open(file).and_then(|mut file| file.read_to_string(&mut sql));
        read.with_context(|| format!("cannot read SQL from '{}'", file.display()))?;
    }
    Ok(sql)
}

fn list(out: &mut dyn Write) -> io::Result<()> {
    for query in library::all() {
        writeln!(out, "{}: {}", query.name, query.question)?;
        for parameter in &query.parameters {
            let default = match &parameter.default {
                Some(default) => format!(" = {default}"),
                None => ", required".into(),
            };
            let (name, kind) = (&parameter.name, parameter.kind.as_str());
            writeln!(out, "    {name} ({kind}{default}): {}", parameter.description)?;
        }
    }
    Ok(())
}

fn parameter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Bytes with an optional suffix K, M or G (powers of 1024).
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| "expected bytes such as 512M or 2G")?;
    number.checked_mul(1 << shift).ok_or_else(|| "more than this machine can address".into())
}
