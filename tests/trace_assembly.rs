//! Traces put together from row groups of others.

use std::fs::File;

use agentsight::event::Event;
use agentsight::trace::{Assembler, Completeness, Keys, Limits, Reader};
use session::resend_history;
use trace_file::{metadata, one_of_each, read, scratch, write};

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

#[test]
fn row_groups_copied_by_their_bytes_read_as_before() {
    let (directory, path) = scratch();
    let limits = Limits { group_bytes: 100_000, ..Limits::default() };
    let mut history = Vec::new();
    resend_history(8, 2, &mut |event| history.push(event));
    let parts: [&[Event]; 3] = [&one_of_each(), &history, &[]];
    let paths: Vec<_> = parts
        .iter()
        .enumerate()
        .map(|(at, events)| {
            let path = directory.path().join(format!("{at}.parquet"));
            write(&path, events, limits);
            path
        })
        .collect();

    let keys = Keys::new(&metadata());
    let mut assembler = Assembler::create(File::create(&path).unwrap(), keys).unwrap();
    for path in &paths {
        assembler.copy(&Reader::open(path).unwrap()).unwrap();
    }
    let summary = assembler.finish().unwrap();

    let whole: Vec<Event> = paths.iter().flat_map(|path| read(path)).collect();
    assert!(summary.row_groups > 2);
    assert_eq!(summary.rows, whole.len() as u64);
    assert_eq!(summary.file_bytes, path.metadata().unwrap().len());
    assert!(read(&path) == whole);
    let reader = Reader::open(&path).unwrap();
    let mut totals = Reader::open(&paths[0]).unwrap().totals().unwrap();
    totals.merge(&Reader::open(&paths[1]).unwrap().totals().unwrap());
    assert_eq!(reader.totals().unwrap(), totals);
    // Nobody has said that the recording ended.
    assert!(matches!(reader.completeness(), Completeness::Unfinished(_)));
}
