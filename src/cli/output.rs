//! Where a result goes: standard output, or a file that appears only once it is whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Hint;
use super::terminal::TerminalSafe;
use crate::trace::log_path;

/// The place of a result.
#[derive(Debug)]
pub struct Output {
    /// Absent: standard output.
    file: Option<PathBuf>,
}

impl Output {
    /// A file, or standard output when there is none. Asked before the work, so that nobody waits
    /// in vain.
    ///
    /// # Errors
    /// When the file exists and `force` does not let it be replaced, or when it is one of the traces
    /// `inputs` or a log beside one, which nothing lets be replaced.
    pub fn new(file: Option<&Path>, force: bool, inputs: &[PathBuf]) -> anyhow::Result<Self> {
        if let Some(file) = file {
            let shown = file.display();
            let same = file.canonicalize().ok();
            let mut own = inputs.iter().flat_map(|trace| [trace.clone(), log_path(trace)]);
            if same.is_some() && own.any(|input| input.canonicalize().ok() == same) {
                return Err(anyhow::anyhow!("'{shown}' is the trace itself")
                    .context(Hint("choose another output file".into())));
            }
            if !force && file.symlink_metadata().is_ok_and(|found| !is_stream(&found)) {
                return Err(exists(file));
            }
        }
        Ok(Self { file: file.map(Path::to_owned) })
    }

    /// Lets `write` write the result and sees that it arrives. A file appears, or replaces an older
    /// one, only after that; what a failed attempt wrote is removed. A terminal gets no control
    /// characters.
    ///
    /// # Errors
    /// Those of `write`, and when the result cannot be written.
    pub fn write(
        self,
        write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match self.file {
            Some(file) => write_file(&file, write),
            None if io::stdout().is_terminal() => {
                finish(TerminalSafe::new(BufWriter::new(io::stdout().lock())), write)
            }
            None => finish(BufWriter::new(io::stdout().lock()), write),
        }
    }
}

fn exists(file: &Path) -> anyhow::Error {
    anyhow::anyhow!("'{}' exists already", file.display())
        .context(Hint("add --force to replace it".into()))
}

/// Whether it is a device, pipe or socket, which cannot be replaced, only written to.
fn is_stream(found: &fs::Metadata) -> bool {
    !(found.is_file() || found.is_dir() || found.is_symlink())
}

fn finish(
    mut out: impl Write,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    write(&mut out)?;
    out.flush().context("cannot write the result")
}

fn write_file(
    file: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let cannot = || format!("cannot write '{}'", file.display());
    if file.metadata().is_ok_and(|found| is_stream(&found)) {
        let stream = File::options().write(true).open(file).with_context(cannot)?;
        return finish(BufWriter::new(stream), write).with_context(cannot);
    }
    // Through a link, so that it goes on to point to the result.
    let place = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mut name = place.file_name().with_context(cannot)?.to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = place.with_file_name(name);
    let mut out = BufWriter::new(File::create_new(&partial).with_context(cannot)?);
    let written = write(&mut out)
        .and_then(|()| out.flush().with_context(cannot))
        .and_then(|()| fs::rename(&partial, &place).with_context(cannot));
    if written.is_err() {
        // What is left of a failed attempt is of no use; the error is what matters.
        let _ = fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &Path, force: bool, text: &str) -> anyhow::Result<()> {
        Output::new(Some(file), force, &[])?.write(|out| Ok(out.write_all(text.as_bytes())?))
    }

    #[test]
    fn a_file_is_replaced_only_by_force_and_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out");
        write(&file, false, "one").unwrap();
        assert!(write(&file, false, "two").unwrap_err().to_string().contains("--force"));
        let failed = Output::new(Some(&file), true, &[]).unwrap().write(|out| {
            out.write_all(b"half")?;
            anyhow::bail!("no more")
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        write(&file, true, "two").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a partial file was left");
    }

    #[test]
    fn an_input_is_never_replaced_under_whatever_name() {
        let folder = tempfile::tempdir().unwrap();
        let trace = folder.path().join("trace");
        fs::write(&trace, "rows").unwrap();
        let other = folder.path().join(".").join("trace");
        let log = log_path(&trace);
        fs::write(&log, "more rows").unwrap();
        for own in [other, log] {
            let refused = Output::new(Some(&own), true, std::slice::from_ref(&trace)).unwrap_err();
            assert!(format!("{refused:#}").contains("is the trace itself"), "{refused:#}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write(&link, true, "new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        write(Path::new("/dev/null"), false, "gone").unwrap();
        assert!(is_stream(&fs::metadata("/dev/null").unwrap()));
    }
}
