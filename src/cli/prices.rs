//! `--prices FILE`: the file to the prices that costs are computed with.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::Context;

use super::Hint;
use crate::price::{MAX_FILE_BYTES, PriceFile, Prices};

/// The built-in prices, with those of a file before them where one is given. Costs at its prices are
/// labelled with the name that stands in the file, else with the file's name.
///
/// # Errors
/// When the file cannot be read or is not in the format.
pub fn prices(file: Option<&Path>) -> anyhow::Result<Prices> {
    let Some(path) = file else { return Ok(Prices::default()) };
    read(path).map(Prices::with_file).map_err(|error| {
        error
            .context(format!("cannot use prices of '{}'", path.display()))
            .context(Hint("docs/PRICES.md describes the format".into()))
    })
}

fn read(path: &Path) -> anyhow::Result<PriceFile> {
    let mut json = String::new();
    // One byte more than is allowed tells a larger file; a pipe has no size to ask for.
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut json)?;
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    PriceFile::parse(&json, &name).context("it is no price file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_price_file_is_read_and_what_is_wrong_with_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("prices.json");
        let fails = |path: &Path| format!("{:#}", prices(Some(path)).unwrap_err());
        assert!(fails(&path).contains("prices.json"), "{}", fails(&path));
        fs::write(&path, "{\"prices\": [3]}").unwrap();
        assert!(
            fails(&path).contains("prices[0]: expected an object, found 3"),
            "{}",
            fails(&path)
        );
        fs::write(&path, vec![b' '; MAX_FILE_BYTES as usize + 9]).unwrap();
        assert!(fails(&path).contains("expected at most 4194304 bytes"), "{}", fails(&path));
        fs::write(&path, "{\"prices\": []}").unwrap();
        assert!(prices(Some(&path)).is_ok());
        assert_eq!(prices(None).unwrap(), Prices::default());
    }
}
