//! A report as headings, sentences, facts and tables, before it is known how it will be printed.
//!
//! Cells are already fit for a terminal (`human::printable`); the printers only lay them out.

/// A whole report.
pub(super) struct Document {
    pub(super) title: String,
    pub(super) sections: Vec<Section>,
}

/// A part of a report; without a heading it belongs to the title.
pub(super) struct Section {
    pub(super) heading: Option<&'static str>,
    pub(super) blocks: Vec<Block>,
}

impl Section {
    pub(super) fn new(heading: &'static str, blocks: Vec<Block>) -> Self {
        Self { heading: Some(heading), blocks }
    }
}

/// What a section is made of.
pub(super) enum Block {
    /// Names and what is said of each.
    Facts(Vec<(&'static str, String)>),
    /// A caption for what follows it.
    Caption(&'static str),
    /// Rows under headers.
    Table(Table),
    /// Sentences.
    Note(String),
    /// A command line to copy; never cut.
    Command(String),
}

/// Where a cell's text stands in its column.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows under headers.
pub(super) struct Table {
    headers: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows. Its last column takes what the others leave of a line.
    pub(super) fn new<const N: usize>(headers: [(&'static str, Align); N]) -> Self {
        Self { headers: headers.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as there are headers.
    pub(super) fn push<const N: usize>(&mut self, row: [String; N]) {
        debug_assert_eq!(N, self.headers.len());
        self.rows.push(row.to_vec());
    }

    /// Takes out the columns named `header` that hold the same text in every row.
    pub(super) fn drop_if_all(&mut self, header: &str, text: &str) {
        let Some(index) = self.headers.iter().position(|(name, _)| *name == header) else {
            return;
        };
        if self.rows.iter().all(|row| row[index] == text) {
            self.headers.remove(index);
            for row in &mut self.rows {
                row.remove(index);
            }
        }
    }

    pub(super) fn headers(&self) -> &[(&'static str, Align)] {
        &self.headers
    }

    pub(super) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }
}
