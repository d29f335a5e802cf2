//! A report to paste into an issue: GitHub-flavoured Markdown.
//!
//! Text from the trace is escaped, so that it shows as it is and makes no link, image or HTML.

use super::document::{Align, Block, Document, Table};

/// The report as Markdown.
pub(super) fn print(document: &Document) -> String {
    let mut text = format!("# {}\n", escaped(&document.title));
    for section in &document.sections {
        if let Some(heading) = section.heading {
            text.push_str(&format!("\n## {heading}\n"));
        }
        for block in &section.blocks {
            text.push('\n');
            print_block(&mut text, block);
        }
    }
    text
}

fn print_block(text: &mut String, block: &Block) {
    match block {
        Block::Facts(facts) => {
            for (name, value) in facts {
                text.push_str(&format!("- **{name}:** {}\n", escaped(value)));
            }
        }
        Block::Caption(caption) => text.push_str(&format!("**{caption}**\n")),
        Block::Table(table) => print_table(text, table),
        Block::Note(note) => text.push_str(&format!("{}\n", escaped(note))),
        // The command holds no line break, so nothing in it can end the fence.
        Block::Command(command) => text.push_str(&format!("```sh\n{command}\n```\n")),
    }
}

fn print_table(text: &mut String, table: &Table) {
    let line = |cells: &mut dyn Iterator<Item = String>| {
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let headers = table.headers();
    text.push_str(&line(&mut headers.iter().map(|(name, _)| (*name).to_owned())));
    text.push_str(&line(&mut headers.iter().map(|(_, align)| match align {
        Align::Left => "---".to_owned(),
        Align::Right => "---:".to_owned(),
    })));
    for row in table.rows() {
        text.push_str(&line(&mut row.iter().map(|cell| escaped(cell))));
    }
}

/// Text as Markdown that shows that text.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            // An at sign would notify whoever has that name; an entity does not.
            '@' => safe.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' => {
                safe.push('\\');
                safe.push(character);
            }
            _ => safe.push(character),
        }
    }
    // Bare addresses become links too; breaking their first characters keeps them text.
    safe.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
}

#[cfg(test)]
mod tests {
    use super::super::document::Section;
    use super::*;

    #[test]
    fn cells_cannot_break_the_table_or_make_markup() {
        let mut table = Table::new([("a", Align::Left), ("b", Align::Right)]);
        table.push(["x | <img src=x> [l](http://e)".to_owned(), "`*@all".to_owned()]);
        let section = Section::new("H", vec![Block::Table(table)]);
        let document = Document { title: "t".to_owned(), sections: vec![section] };
        let expected = "# t\n\n## H\n\n| a | b |\n| --- | ---: |\n\
                        | x \\| &lt;img src=x&gt; \\[l\\](http:&#47;&#47;e) | \\`\\*&#64;all |\n";
        assert_eq!(print(&document), expected);
    }
}
