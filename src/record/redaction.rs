//! Redaction as part of a recording: its key, what the file says of it, what the user is told.

use std::fs::File;
use std::io::{self, Read};

use crate::redact::{COVERED, RULES_VERSION, Redactor};
use crate::trace::{Entry, Metadata, Redacted, Tally};

/// What is said when a recording is not redacted.
pub const OFF: &str = "--no-redact: credentials in request headers, arguments and standard streams WILL be in the file";

/// Begins redaction, with the command line in `metadata`, unless it is not `wanted`.
///
/// # Errors
/// When the kernel gives no random key.
pub fn start(wanted: bool, metadata: &mut Metadata) -> io::Result<Option<Redactor>> {
    if !wanted {
        return Ok(None);
    }
    let mut key = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut redactor = Redactor::new(key);
    redactor.command_line(&mut metadata.command_line);
    metadata.redaction = "secrets".into();
    Ok(Some(redactor))
}

/// What was done, for the metadata.
#[must_use]
pub fn entry(redactor: &Redactor) -> Entry {
    let tally = |count: &crate::redact::Count| Tally { events: count.values, bytes: count.bytes };
    let counts = redactor.counts().iter();
    let uncovered = redactor.uncovered();
    Entry::redacted(&Redacted {
        rules_version: RULES_VERSION,
        covered: COVERED.to_vec(),
        replaced: counts.map(|(rule, count)| (rule.as_str(), tally(count))).collect(),
        http2_connections: uncovered.http2,
        unrecognised_connections: uncovered.unrecognised,
    })
}

/// What the user has to know before sharing the file.
#[must_use]
pub fn warning(redactor: &Redactor) -> Option<String> {
    let connections = match redactor.uncovered().http2 {
        0 => return None,
        1 => "1 connection".to_owned(),
        several => format!("{several} connections"),
    };
    Some(format!(
        "{connections} spoke HTTP/2, whose compressed heads are not redacted: the file may hold \
         credentials sent there"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Body, Direction, Event, Source, StreamData};
    use crate::time::WallNanos;

    fn metadata() -> Metadata {
        let command_line = ["agentsight-rec", "--", "curl", "-H", "x-api-key: hunter2"];
        Metadata { command_line: command_line.map(str::to_owned).to_vec(), ..Metadata::default() }
    }

    #[test]
    fn the_command_line_is_redacted_and_the_level_is_told() {
        let mut redacted = metadata();
        let redactor = start(true, &mut redacted).unwrap().unwrap();
        assert_eq!(redacted.redaction, "secrets");
        assert!(!redacted.command_line[4].contains("hunter2"));
        assert!(redacted.command_line[4].starts_with("x-api-key: "));
        let entry = entry(&redactor);
        assert!(entry.value.contains(r#""header":{"values":1,"bytes":7}"#), "{}", entry.value);
        assert!(entry.value.contains(r#""standard_streams"]"#), "{}", entry.value);

        let mut plain = metadata();
        assert!(start(false, &mut plain).unwrap().is_none());
        assert_eq!(plain, metadata());
    }

    #[test]
    fn keys_are_new_for_every_recording() {
        let mut lines = [metadata(), metadata()];
        lines.iter_mut().for_each(|metadata| drop(start(true, metadata).unwrap()));
        assert_ne!(lines[0].command_line, lines[1].command_line);
    }

    #[test]
    fn connections_that_speak_http2_are_told_of() {
        let mut redactor = start(true, &mut metadata()).unwrap().unwrap();
        assert_eq!(warning(&redactor), None);
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let body = Body::Data(StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction: Direction::Write,
            stream_offset: 0,
            data_bytes: preface.len() as u64,
            lost_bytes: 0,
            data: preface.to_vec(),
            library: "openssl".into(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        });
        let event = Event { ts: WallNanos(1), process: None, tid: None, comm: None, body };
        redactor.push(event, &mut |_| {});
        assert!(warning(&redactor).unwrap().starts_with("1 connection spoke HTTP/2"));
        assert!(entry(&redactor).value.contains(r#""http2_connections":1"#));
    }
}
