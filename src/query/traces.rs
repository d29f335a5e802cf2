//! The traces of a session: opened, parts of one recording joined, each with the name that the
//! column `trace` gives it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::error::Error;
use super::source::Source;
use crate::price::Prices;
use crate::trace::Reader;

/// The column that every table has in front when a session has several traces.
pub(super) const TRACE: &str = "trace";

/// A trace and what it is called.
#[derive(Clone, Debug)]
pub(super) struct Named {
    /// The name of its file, or as much of the path as tells it from the others.
    pub(super) name: String,
    /// Its rows.
    pub(super) source: Arc<Source>,
}

/// Opens traces, in the order given; parts of one recording become one trace at the place of the
/// first of them.
pub(super) fn open(paths: &[PathBuf], prices: &Arc<Prices>) -> Result<Vec<Named>, Error> {
    if paths.is_empty() {
        return Err(Error::NoTrace);
    }
    let mut files = BTreeSet::new();
    let mut readers = Vec::new();
    for path in paths {
        readers.push(Reader::open(path)?);
        let canonical = path.canonicalize().unwrap_or_else(|_| path.clone());
        if !files.insert(canonical) {
            return Err(Error::SameTrace(path.clone()));
        }
    }
    let traces = joined(readers);
    let paths: Vec<&Path> = traces.iter().map(|readers| readers[0].path()).collect();
    let names = names(&paths);
    let source = |readers| Arc::new(Source::new(readers, Arc::clone(prices)));
    let named = |(name, readers)| Named { name, source: source(readers) };
    Ok(names.into_iter().zip(traces).map(named).collect())
}

/// Puts the parts of each recording together, in their order. Where a part is there twice, its
/// recording's files stay traces of their own: which of the two belongs to the rest is not known.
fn joined(readers: Vec<Reader>) -> Vec<Vec<Reader>> {
    let mut parts: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for reader in &readers {
        if let Some((recording, part)) = part_of(reader) {
            parts.entry(recording).or_default().push(part);
        }
    }
    parts.retain(|_, parts| parts.iter().collect::<BTreeSet<_>>().len() == parts.len());
    let mut traces: Vec<Vec<Reader>> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for reader in readers {
        match part_of(&reader).filter(|(recording, _)| parts.contains_key(recording)) {
            Some((recording, _)) => {
                let place = *places.entry(recording).or_insert(traces.len());
                match traces.get_mut(place) {
                    Some(trace) => trace.push(reader),
                    None => traces.push(vec![reader]),
                }
            }
            None => traces.push(vec![reader]),
        }
    }
    for trace in &mut traces {
        trace.sort_by_key(|reader| part_of(reader).map(|(_, part)| part));
    }
    traces
}

/// Which part of which recording a file is, if it is only a part.
pub(super) fn part_of(reader: &Reader) -> Option<(String, u32)> {
    let origin = reader.origin();
    Some((origin.recording_id, origin.part?))
}

/// The names of traces: the last component of the path, or as many as tell it from all others.
fn names(paths: &[&Path]) -> Vec<String> {
    let absolute = |path: &&Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let paths: Vec<PathBuf> = paths.iter().map(absolute).collect();
    let last = |path: &PathBuf, count: usize| -> PathBuf {
        let components: Vec<_> = path.components().collect();
        components[components.len().saturating_sub(count)..].iter().collect()
    };
    let deepest = paths.iter().map(|path| path.components().count()).max().unwrap_or(0);
    let name = |path: &PathBuf| {
        let is_distinct = |count: &usize| {
            let own = last(path, *count);
            paths.iter().filter(|other| last(other, *count) == own).count() == 1
        };
        let count = (1..=deepest).find(is_distinct).unwrap_or(deepest);
        last(path, count).to_string_lossy().into_owned()
    };
    paths.iter().map(name).collect()
}

/// A schema with the column `trace` in front.
pub(super) fn with_trace(schema: &SchemaRef) -> SchemaRef {
    let trace = Arc::new(Field::new(TRACE, DataType::Utf8, false));
    let fields = std::iter::once(trace).chain(schema.fields().iter().cloned());
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(paths: &[&str]) -> Vec<String> {
        names(&paths.iter().map(Path::new).collect::<Vec<_>>())
    }

    #[test]
    fn a_trace_is_called_by_its_file_name_where_that_is_enough() {
        assert_eq!(names_of(&["/a/x.parquet", "/b/y.parquet"]), ["x.parquet", "y.parquet"]);
        assert_eq!(names_of(&["/a/x.parquet"]), ["x.parquet"]);
    }

    #[test]
    fn equal_file_names_take_folders_along_until_they_differ() {
        let paths = ["/r/one/sub/x", "/r/two/sub/x", "/r/y", "/x"];
        assert_eq!(names_of(&paths), ["one/sub/x", "two/sub/x", "y", "/x"]);
        // One path is the end of the other.
        assert_eq!(names_of(&["/sub/x", "/r/sub/x"]), ["/sub/x", "r/sub/x"]);
    }
}
