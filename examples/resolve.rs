//! Prints, for every file named, which TLS functions the recorder would probe in it: one line per
//! library with file, library, version, sites and milliseconds, separated by tabs. The reason stands
//! where sites would if there are none. With `--known DIRECTORY` in front, answers are kept there and
//! taken from there as the recorder does.
//!
//! For maintainers who try the resolvers on new releases of agents; nothing is attached.

use std::path::Path;
use std::time::Instant;

use agentsight::capture::known::Known;
use agentsight::capture::tls_library::{Outcome, find};

fn main() {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let mut known = None;
    if arguments.next_if(|argument| argument == "--known").is_some() {
        known = arguments.next().map(|directory| Known::in_directory(directory.into()));
    }
    for path in arguments {
        let started = Instant::now();
        let outcome = match &known {
            Some(known) => known.outcome(Path::new(&path)),
            None => find(Path::new(&path)),
        };
        let ms = started.elapsed().as_secs_f64() * 1e3;
        let file = path.to_string_lossy();
        match outcome {
            Ok(outcome) => lines(&outcome).iter().for_each(|line| say(&file, line, ms)),
            Err(error) => say(&file, &format!("-\t-\tcannot be read: {error}"), ms),
        }
    }
}

/// Library, version and sites or reason of an outcome and of what is beside it.
fn lines(outcome: &Outcome) -> Vec<String> {
    match outcome {
        Outcome::Found(found) => {
            let sites =
                found.sites.iter().map(|site| format!("{}@{:#x}", site.symbol, site.file_offset));
            let sites = sites.collect::<Vec<_>>().join(" ");
            let version = found.version.as_deref().unwrap_or("-");
            let line = format!("{}\t{version}\t{sites}", found.library.as_str());
            std::iter::once(line).chain(found.beside.iter().flat_map(lines)).collect()
        }
        Outcome::Unresolved { library, reason, .. } => {
            vec![format!("{}\t-\tunresolved: {reason}", library.as_str())]
        }
        Outcome::Absent { .. } => vec!["-\t-\tno known TLS library".to_owned()],
    }
}

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn say(file: &str, line: &str, ms: f64) {
    println!("{file}\t{line}\t{ms:.1} ms");
}
