//! Every column of the trace, once: name, type, unit, meaning, and the kinds that set it.
//!
//! Encoding, decoding, the footer's column descriptions, `docs/FORMAT.md` and the schema golden all
//! come from the one table below. Columns are only ever added, never renamed or given another
//! meaning. Knows no payload and no file. Types are those that every Parquet reader handles: signed
//! integers, no views, no dictionaries in the schema.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Version of the format that this program writes.
pub const FORMAT_VERSION: u32 = 1;

/// Lowest reader version that understands what this program writes.
pub const MIN_READER_VERSION: u32 = 1;

/// The reader version that this program is: it reads every file that asks for this or less.
pub const READER_VERSION: u32 = 1;

/// A `kind` and what a row of it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The value of the `kind` column.
    pub name: &'static str,
    /// What happened, in one sentence.
    pub description: &'static str,
}

/// Every kind this program writes, in the order in which [`crate::event::Body`] declares them.
pub const KINDS: &[Kind] = &[
    kind("process_seen", "A process was already running when it came under observation."),
    kind("process_fork", "A process was created."),
    kind("process_exec", "A process started a new program."),
    kind("process_exit", "The last thread of a process ended."),
    kind("tls_data", "Plaintext went through a TLS library."),
    kind("tls_close", "A TLS connection object was freed."),
    kind("sample", "What /proc said of a traced process."),
    kind("recorder_sample", "What /proc said of the recorder itself."),
    kind("loss", "Events were observed and could not be kept."),
    kind("probe", "What came of looking for something to observe in a binary."),
    kind("socket_data", "Bytes went through a socket that speaks HTTP in plain text."),
    kind("stdio_data", "Bytes went through a pipe or a socket pair between programs."),
    kind("tls_hello", "The first flight of a TLS handshake, as it is on the wire: names the host."),
    kind("dns_data", "A DNS message was received."),
    kind("channel_open", "A process uses a socket or pipe for the first time."),
    kind("channel_close", "A process closed a socket or pipe, or ended."),
    kind("tls_socket", "Which socket carries a TLS connection."),
    kind("file_op", "A process renamed, removed, made, truncated or linked a path."),
    kind("file_access", "What a process did to a file since the previous such event, summed up."),
];

const fn kind(name: &'static str, description: &'static str) -> Kind {
    Kind { name, description }
}

/// How a column is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `TIMESTAMP(ns, UTC)`.
    Timestamp,
    /// Signed 64-bit integer.
    Int64,
    /// Signed 32-bit integer.
    Int32,
    /// IEEE 754 double.
    Float64,
    /// Boolean.
    Boolean,
    /// UTF-8 text.
    Utf8,
    /// List of UTF-8 text.
    Utf8List,
    /// List of `TIMESTAMP(ns, UTC)`.
    TimestampList,
    /// List of signed 64-bit integers.
    Int64List,
    /// List of byte strings whose concatenation is the value.
    BinaryList,
}

impl ColumnType {
    /// The Arrow type.
    #[must_use]
    pub fn arrow(self) -> DataType {
        let utc_timestamp = || DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        let list = |item| DataType::List(Arc::new(Field::new(LIST_ELEMENT, item, false)));
        match self {
            Self::Timestamp => utc_timestamp(),
            Self::Int64 => DataType::Int64,
            Self::Int32 => DataType::Int32,
            Self::Float64 => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Utf8 => DataType::Utf8,
            Self::Utf8List => list(DataType::Utf8),
            Self::TimestampList => list(utc_timestamp()),
            Self::Int64List => list(DataType::Int64),
            Self::BinaryList => list(DataType::Binary),
        }
    }

    /// The type as `docs/FORMAT.md` and the footer write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "TIMESTAMP(ns, UTC)",
            Self::Int64 => "INT64",
            Self::Int32 => "INT32",
            Self::Float64 => "DOUBLE",
            Self::Boolean => "BOOLEAN",
            Self::Utf8 => "STRING",
            Self::Utf8List => "LIST<STRING>",
            Self::TimestampList => "LIST<TIMESTAMP(ns, UTC)>",
            Self::Int64List => "LIST<INT64>",
            Self::BinaryList => "LIST<BINARY>",
        }
    }

    /// Whether the Parquet column is `NAME.list.element` rather than `NAME`.
    #[must_use]
    pub fn is_list(self) -> bool {
        matches!(self, Self::Utf8List | Self::TimestampList | Self::Int64List | Self::BinaryList)
    }
}

/// The element's name that the Parquet specification asks for (LogicalTypes.md, "Lists").
pub(crate) const LIST_ELEMENT: &str = "element";

/// Everything that is said of a column.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Name in the file and in SQL.
    pub name: &'static str,
    /// How it is stored.
    pub column_type: ColumnType,
    /// Whether every row has it.
    pub required: bool,
    /// Unit of the number; empty where there is none.
    pub unit: &'static str,
    /// The kinds that may set it; [`ALL_KINDS`] for columns of every row.
    pub kinds: &'static [&'static str],
    /// Meaning, range and what absence says.
    pub text: &'static str,
}

/// Marks a column that any kind may set.
pub const ALL_KINDS: &[&str] = &["*"];

impl Description {
    /// Whether rows of `kind` may set this column.
    #[must_use]
    pub fn is_set_by(&self, kind: &str) -> bool {
        self.kinds == ALL_KINDS || self.kinds.contains(&kind)
    }
}

/// Declares the columns: the enum names them in code, the table describes them, and both have the
/// same order because they are the same list.
macro_rules! columns {
    ($($variant:ident $name:literal $type:ident $required:literal $unit:literal $kinds:tt $text:literal;)*) => {
        /// A column of the trace; its discriminant is its position in the schema.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each variant is documented by its description")]
        pub enum Column { $($variant),* }

        impl Column {
            /// All columns in schema order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
        }

        const DESCRIPTIONS: &[Description] = &[$(Description {
            name: $name,
            column_type: ColumnType::$type,
            required: $required,
            unit: $unit,
            kinds: &$kinds,
            text: $text,
        }),*];
    };
}

columns! {
    Ts "ts" Timestamp true "ns" ["*"]
        "When it was observed; of joined calls, when the first returned.";
    Seq "seq" Int64 true "" ["*"]
        "Order in which the recorder took in the events, from 0; unique in the file.";
    Kind "kind" Utf8 true "" ["*"]
        "What happened; decides which other columns are set.";
    Pid "pid" Int64 false "" ["*"]
        "Thread-group id in the initial pid namespace; absent for facts about the recording itself.";
    ProcessStartTs "process_start_ts" Timestamp false "ns" ["*"]
        "When the process was created, floored to a clock tick; with pid it identifies the process. Present exactly when pid is.";
    Tid "tid" Int64 false "" ["*"]
        "The thread that did it, where one did.";
    Comm "comm" Utf8 false "" ["*"]
        "The thread's name at that moment, invalid UTF-8 replaced.";
    Ppid "ppid" Int64 false "" ["process_seen", "process_fork", "process_exec", "process_exit", "sample", "recorder_sample"]
        "Parent process id; 0 when unknown.";
    Uid "uid" Int64 false "" ["process_seen", "process_fork", "process_exec"]
        "Real user id.";
    Exe "exe" Utf8 false "" ["process_seen", "process_exec"]
        "Absolute path of the executable file; absent when unreadable.";
    Argv "argv" Utf8List false "" ["process_seen", "process_exec"]
        "Arguments, argv[0] first, invalid UTF-8 replaced; empty when unreadable.";
    ArgvLostBytes "argv_lost_bytes" Int64 false "bytes" ["process_seen", "process_exec"]
        "Bytes of the argument area that were not captured.";
    Cwd "cwd" Utf8 false "" ["process_seen", "process_exec"]
        "Working directory; absent when unreadable.";
    Matched "matched" Boolean false "" ["process_seen", "process_exec"]
        "Whether the process matched the recording's filters itself, rather than descending from a match.";
    ExitCode "exit_code" Int32 false "" ["process_exit"]
        "Exit status 0-255; absent when a signal ended the process.";
    Signal "signal" Int32 false "" ["process_exit"]
        "Signal number that ended the process; absent when it exited by itself.";
    ConnId "conn_id" Int64 false "" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data", "tls_close", "channel_open", "channel_close", "tls_socket", "loss"]
        "Connection or channel, unique in the file: process, library handle (or socket or pipe) and its generation. All 64 bits count, so it may be negative.";
    Direction "direction" Utf8 false "" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data"]
        "Which way it went, seen from the process: read or write.";
    StreamOffset "stream_offset" Int64 false "bytes" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data"]
        "Position of the first byte in this direction of this connection, from 0 at the first byte seen. Lost bytes count, so a jump is a gap of that length.";
    DataBytes "data_bytes" Int64 false "bytes" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data"]
        "Bytes the calls moved: the length of data plus lost_bytes.";
    LostBytes "lost_bytes" Int64 false "bytes" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data", "loss"]
        "Of data: bytes at the end of data_bytes that could not be captured. loss: payload bytes that were lost.";
    Data "data" BinaryList false "" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data"]
        "The captured bytes: the concatenation of the list. Absent when they were withheld from the file.";
    Library "library" Utf8 false "" ["tls_data", "probe"]
        "Which TLS library or kind of binary, such as openssl or boringssl; in probe rows absent when none was recognised.";
    CallTs "call_ts" TimestampList false "ns" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data"]
        "When each joined call returned; absent for a single call, whose time is ts.";
    CallBytes "call_bytes" Int64List false "bytes" ["tls_data", "socket_data", "stdio_data", "tls_hello", "dns_data"]
        "Bytes each joined call moved, parallel to call_ts; sums to data_bytes.";
    CpuPercent "cpu_percent" Float64 false "percent" ["sample", "recorder_sample"]
        "CPU used since the previous sample of the same process, 100 = one core; absent in the first.";
    CpuUserNs "cpu_user_ns" Int64 false "ns" ["process_exit", "sample", "recorder_sample"]
        "CPU time in user mode so far, all threads, ended children not included.";
    CpuSystemNs "cpu_system_ns" Int64 false "ns" ["process_exit", "sample", "recorder_sample"]
        "CPU time in kernel mode so far, all threads, ended children not included.";
    RssBytes "rss_bytes" Int64 false "bytes" ["sample", "recorder_sample"]
        "Resident set size.";
    PeakRssBytes "peak_rss_bytes" Int64 false "bytes" ["process_exit"]
        "Highest resident set size of the program last executed.";
    VszBytes "vsz_bytes" Int64 false "bytes" ["sample", "recorder_sample"]
        "Virtual memory size.";
    Threads "threads" Int64 false "" ["sample", "recorder_sample"]
        "Number of threads.";
    Children "children" Int64 false "" ["sample", "recorder_sample"]
        "Number of live child processes.";
    ReadBytes "read_bytes" Int64 false "bytes" ["process_exit", "sample", "recorder_sample", "channel_close", "file_access"]
        "Bytes fetched from storage so far (/proc/PID/io read_bytes); absent when not readable. Of a channel: read from it. Of a file access: read since the previous one.";
    WrittenBytes "written_bytes" Int64 false "bytes" ["process_exit", "sample", "recorder_sample", "channel_close", "file_access"]
        "Bytes sent to storage so far (/proc/PID/io write_bytes); absent when not readable. Of a channel: written to it. Of a file access: written since the previous one.";
    FirstTs "first_ts" Timestamp false "ns" ["loss", "file_access"]
        "Start of the time range, ending at ts, in which the loss happened or the file was used.";
    EventClass "event_class" Utf8 false "" ["loss"]
        "The kind of the events that were lost.";
    Cause "cause" Utf8 false "" ["loss"]
        "Why: ring_full, copy_fault, truncated, map_full, bypassed, decode_error, unusable; disk_full or write_failed where the recorder could not write.";
    LostEvents "lost_events" Int64 false "" ["loss"]
        "How many events were lost.";
    Path "path" Utf8 false "" ["probe", "file_op", "file_access"]
        "Path of the binary, as the traced process sees it; path of the file. Absent when it could not be read.";
    ProbeState "probe_state" Utf8 false "" ["probe"]
        "attached: its plaintext is recorded from here on. absent: it holds no known TLS library. unresolved: it holds one whose functions could not be found for certain. failed: the kernel refused the probe.";
    Detail "detail" Utf8 false "" ["probe"]
        "Sites attached, or the reason why not, for a person to read.";
    BuildId "build_id" Utf8 false "" ["probe"]
        "GNU build-id in hexadecimal, where the binary has one.";
    Fd "fd" Int64 false "" ["stdio_data", "socket_data", "tls_hello", "dns_data", "channel_open"]
        "File descriptor the bytes went through, or at which the channel was first seen.";
    ChannelType "channel_type" Utf8 false "" ["channel_open"]
        "tcp, udp, unix or pipe.";
    Role "role" Utf8 false "" ["channel_open"]
        "connect or accept; inherited for one that was open when it was first seen, or was made as a pair.";
    LocalAddr "local_addr" Utf8 false "" ["channel_open"]
        "This end: address:port, [address]:port, pipe:[inode] or unix:[inode].";
    RemoteAddr "remote_addr" Utf8 false "" ["channel_open"]
        "The other end: address:port, [address]:port, the path of a Unix socket (@name if abstract), unix:[inode]; of a pipe the same as local_addr.";
    SocketConnId "socket_conn_id" Int64 false "" ["tls_socket"]
        "conn_id of the socket that carries the TLS connection conn_id.";
    Confidence "confidence" Utf8 false "" ["tls_socket"]
        "certain: the socket was used inside a call of the library for this connection. likely: the thread used it next to such calls, twice without another answer.";
    Operation "operation" Utf8 false "" ["file_op", "file_access"]
        "file_access: how the process came to use the file: open, create, open_directory, or inherited for one that was open already; absent when that was lost. file_op: rename, unlink, rmdir, mkdir, truncate, link, symlink.";
    NewPath "new_path" Utf8 false "" ["file_op"]
        "The second path of rename, link and symlink.";
    Flags "flags" Utf8 false "" ["file_access"]
        "Flags of its first open(2) by name, joined by |; absent for a file that was open already.";
    Errno "errno" Int64 false "" ["channel_open", "file_access"]
        "Why connect(2) or open(2) failed; 0 when it did not.";
    OpenCount "open_count" Int64 false "" ["file_access"]
        "How often the process opened the file since the previous such event, or failed to.";
    ReadCount "read_count" Int64 false "" ["file_access"]
        "How often it read some of it.";
    WriteCount "write_count" Int64 false "" ["file_access"]
        "How often it wrote to it.";
    Cgroup "cgroup" Utf8 false "" ["process_seen", "process_exec"]
        "Path of its cgroup in the v2 hierarchy; absent when there is none or it is not known.";
}

impl Column {
    /// What is said of this column.
    #[must_use]
    pub fn description(self) -> &'static Description {
        &DESCRIPTIONS[self as usize]
    }

    /// Name in the file and in SQL.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.description().name
    }

    /// Path of the Parquet column that holds the values.
    pub(crate) fn parquet_path(self) -> Vec<String> {
        let mut path = vec![self.name().to_owned()];
        if self.description().column_type.is_list() {
            path.extend(["list".to_owned(), LIST_ELEMENT.to_owned()]);
        }
        path
    }
}

/// The Arrow schema of the trace, in column order, without metadata.
#[must_use]
pub fn arrow_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let field = |description: &Description| {
            Field::new(description.name, description.column_type.arrow(), !description.required)
        };
        Arc::new(Schema::new(DESCRIPTIONS.iter().map(field).collect::<Vec<_>>()))
    });
    Arc::clone(&SCHEMA)
}

/// The Arrow schema of the first `columns` columns: what a recorder of an earlier version wrote that
/// knew only those. The position of a column never changes, new ones come last.
pub(crate) fn arrow_schema_of(columns: usize) -> SchemaRef {
    let all = arrow_schema();
    if columns >= all.fields().len() {
        return all;
    }
    let fields: Vec<_> = all.fields().iter().take(columns).cloned().collect();
    Arc::new(Schema::new(fields))
}

/// The column descriptions as JSON, for the `agentsight.columns` metadata key.
pub(crate) fn columns_json() -> serde_json::Value {
    let column = |description: &Description| {
        serde_json::json!({
            "name": description.name,
            "type": description.column_type.name(),
            "required": description.required,
            "unit": description.unit,
            "kinds": description.kinds,
            "description": description.text,
        })
    };
    DESCRIPTIONS.iter().map(column).collect()
}

/// The columns as a Markdown table, for `docs/FORMAT.md`.
#[must_use]
pub fn columns_markdown() -> String {
    let mut table =
        String::from("| column | type | unit | set by | meaning |\n|---|---|---|---|---|\n");
    for column in DESCRIPTIONS {
        let kinds =
            if column.kinds == ALL_KINDS { "all".to_owned() } else { column.kinds.join(", ") };
        let required = if column.required { ", never null" } else { "" };
        table.push_str(&format!(
            "| `{}` | {}{required} | {} | {kinds} | {} |\n",
            column.name,
            column.column_type.name(),
            column.unit,
            column.text
        ));
    }
    table
}

/// The kinds as a Markdown table, for `docs/FORMAT.md`.
#[must_use]
pub fn kinds_markdown() -> String {
    let mut table = String::from("| kind | meaning |\n|---|---|\n");
    for kind in KINDS {
        table.push_str(&format!("| `{}` | {} |\n", kind.name, kind.description));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_kinds_exist() {
        let mut names: Vec<_> = DESCRIPTIONS.iter().map(|column| column.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Column::ALL.len());
        for column in DESCRIPTIONS.iter().filter(|column| column.kinds != ALL_KINDS) {
            for kind in column.kinds {
                assert!(KINDS.iter().any(|known| known.name == *kind), "{}: {kind}", column.name);
            }
        }
    }

    #[test]
    fn numbers_with_a_dimension_name_it() {
        for column in DESCRIPTIONS {
            let suffix = match column.column_type {
                ColumnType::Timestamp | ColumnType::TimestampList => "ts",
                ColumnType::Float64 => "_percent",
                _ if column.unit == "bytes" && column.name != "stream_offset" => "_bytes",
                _ if column.unit == "ns" => "_ns",
                _ => continue,
            };
            assert!(column.name.ends_with(suffix), "{} should end with {suffix}", column.name);
        }
    }
}
