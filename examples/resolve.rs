//! Says of each file given which TLS functions the recorder would probe in it, and how long it took
//! to find out: file, library, version, sites and milliseconds, separated by tabs.
//!
//! `scripts/test-resolvers.sh` runs it over published releases of agents. It attaches nothing.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use agentsight::capture::tls_library::{self, Outcome};

#[expect(clippy::print_stdout, reason = "a program for a terminal")]
fn main() -> ExitCode {
    let mut failed = false;
    for path in std::env::args_os().skip(1) {
        let path = Path::new(&path);
        let started = Instant::now();
        let outcome = tls_library::find(path);
        let elapsed_ms = started.elapsed().as_secs_f64() * 1000.0;
        let line = match outcome {
            Ok(outcome) => line(&outcome),
            Err(error) => {
                failed = true;
                format!("-\t-\terror: {error}")
            }
        };
        println!("{}\t{line}\t{elapsed_ms:.1}", path.display());
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Library, version and sites, or why there are none.
fn line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Found(found) => {
            let sites = found.sites.iter().map(|s| format!("{}@{:#x}", s.symbol, s.file_offset));
            let sites = sites.collect::<Vec<_>>().join(" ");
            let version = found.version.as_deref().unwrap_or("-");
            format!("{}\t{version}\t{sites}", found.library.as_str())
        }
        Outcome::Unresolved { library, reason, .. } => {
            format!("{}\t-\tunresolved: {reason}", library.as_str())
        }
        Outcome::Absent { .. } => "-\t-\tno known TLS library".to_owned(),
    }
}
