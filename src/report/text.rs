//! A report for a terminal: aligned columns, no line longer than [`LINE_CHARS`] but for commands.
//!
//! The width is fixed rather than the terminal's, so that the same trace gives the same bytes.

use super::document::{Align, Block, Document, Table};
use crate::human::shorten;

/// Longest line.
const LINE_CHARS: usize = 120;

/// What a table's last column keeps of a line however wide the others are.
const LAST_COLUMN_MIN_CHARS: usize = 16;

/// The widest that any other column may be.
const COLUMN_MAX_CHARS: usize = 40;

const INDENT: &str = "  ";
const BETWEEN: &str = "  ";

/// The report as text.
pub(super) fn print(document: &Document) -> String {
    let mut text = format!("{}\n", document.title);
    for section in &document.sections {
        text.push('\n');
        if let Some(heading) = section.heading {
            text.push_str(&format!("{heading}\n"));
        }
        for block in &section.blocks {
            print_block(&mut text, block);
        }
    }
    text
}

fn print_block(text: &mut String, block: &Block) {
    match block {
        Block::Facts(facts) => print_facts(text, facts),
        Block::Caption(caption) => text.push_str(&format!("{INDENT}{caption}\n")),
        Block::Table(table) => print_table(text, table),
        Block::Note(note) => {
            for line in wrap(note, LINE_CHARS - INDENT.len()) {
                text.push_str(&format!("{INDENT}{line}\n"));
            }
        }
        Block::Command(command) => text.push_str(&format!("{INDENT}{INDENT}{command}\n")),
    }
}

fn print_facts(text: &mut String, facts: &[(&str, String)]) {
    let name_chars = facts.iter().map(|(name, _)| chars(name)).max().unwrap_or(0);
    let left_chars = INDENT.len() + name_chars + BETWEEN.len();
    for (name, value) in facts {
        let mut name = *name;
        for line in wrap(value, LINE_CHARS - left_chars) {
            text.push_str(&format!("{INDENT}{name:name_chars$}{BETWEEN}{line}\n"));
            name = "";
        }
    }
}

fn print_table(text: &mut String, table: &Table) {
    let widths = widths(table);
    let headers: Vec<&str> = table.headers().iter().map(|(name, _)| *name).collect();
    print_row(text, table, &widths, &headers);
    for row in table.rows() {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        print_row(text, table, &widths, &cells);
    }
}

/// Characters per column: as many as its widest cell has, within the bounds of a line.
fn widths(table: &Table) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for (index, (name, _)) in table.headers().iter().enumerate() {
        let cells = table.rows().iter().map(|row| chars(&row[index]));
        let widest = cells.max().unwrap_or(0).max(chars(name));
        widths.push(widest.min(COLUMN_MAX_CHARS.max(chars(name))));
    }
    if let Some(last) = widths.pop() {
        let others: usize = widths.iter().map(|width| width + BETWEEN.len()).sum();
        let left = LINE_CHARS.saturating_sub(INDENT.len() + others).max(LAST_COLUMN_MIN_CHARS);
        let widest = table.rows().iter().filter_map(|row| row.last()).map(|cell| chars(cell)).max();
        widths.push(last.max(widest.unwrap_or(0)).min(left));
    }
    widths
}

fn print_row(text: &mut String, table: &Table, widths: &[usize], cells: &[&str]) {
    let mut line = INDENT.to_owned();
    for (index, ((cell, &width), (_, align))) in
        cells.iter().zip(widths).zip(table.headers()).enumerate()
    {
        if index > 0 {
            line.push_str(BETWEEN);
        }
        let cell = shorten(cell, width);
        match align {
            Align::Left => line.push_str(&format!("{cell:<width$}")),
            Align::Right => line.push_str(&format!("{cell:>width$}")),
        }
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Lines of at most `line_chars` characters; a single longer word is cut where the line ends.
fn wrap(sentence: &str, line_chars: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in sentence.split(' ') {
        let mut word = word.to_owned();
        loop {
            let line = lines.last_mut().expect("there is always a last line");
            let space = usize::from(!line.is_empty());
            if chars(line) + space + chars(&word) <= line_chars {
                if space == 1 {
                    line.push(' ');
                }
                line.push_str(&word);
                break;
            }
            if line.is_empty() {
                let rest = word.chars().skip(line_chars).collect();
                line.extend(word.chars().take(line_chars));
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::super::document::Section;
    use super::*;

    fn printed(block: Block) -> String {
        let section = Section::new("Heading", vec![block]);
        print(&Document { title: "title".to_owned(), sections: vec![section] })
    }

    #[test]
    fn columns_are_aligned_and_no_line_ends_in_spaces() {
        let mut table =
            Table::new([("name", Align::Left), ("n", Align::Right), ("end", Align::Left)]);
        table.push(["a".to_owned(), "1,000".to_owned(), String::new()]);
        table.push(["long".to_owned(), "2".to_owned(), "x".to_owned()]);
        let expected = "title\n\nHeading\n  name      n  end\n  a     1,000\n  long      2  x\n";
        assert_eq!(printed(Block::Table(table)), expected);
    }

    #[test]
    fn no_cell_makes_a_line_too_long() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Right), ("c", Align::Left)]);
        table.push(["ä".repeat(500), "1".to_owned(), "c".repeat(500)]);
        let text = printed(Block::Table(table));
        assert!(text.lines().all(|line| line.chars().count() <= LINE_CHARS), "{text}");
        assert!(text.contains('…'));
    }

    #[test]
    fn sentences_are_wrapped_between_words_and_overlong_words_within() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh i", 3), ["abc", "def", "gh", "i"]);
        assert_eq!(wrap("", 3), [""]);
    }

    #[test]
    fn columns_that_say_nothing_can_be_left_out() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Left)]);
        table.push(["-".to_owned(), "1".to_owned()]);
        table.drop_if_all("b", "-");
        table.drop_if_all("a", "-");
        assert_eq!(table.headers().len(), 1);
        assert_eq!(table.rows()[0], ["1"]);
    }
}
