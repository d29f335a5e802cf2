//! Values are found wherever they stand, and where the text was cut does not show.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

const FIELDS: &[Field] = &[
    Field { name: "model", take: Take::Value(100) },
    Field { name: "stream", take: Take::Value(100) },
    Field { name: "messages", take: Take::Elements },
    Field {
        name: "request",
        take: Take::Inside(&[
            Field { name: "contents", take: Take::Elements },
            Field { name: "id", take: Take::Value(100) },
        ]),
    },
];

/// Name, position, JSON, whether cut, size.
type Seen = (&'static str, Option<u32>, String, bool, u64, [u8; 32]);

fn read(pieces: &[&[u8]]) -> (Vec<Seen>, bool) {
    let mut reader = Reader::new(FIELDS);
    let mut seen = Vec::new();
    for piece in pieces {
        reader.push(piece, &mut |found| {
            let json = String::from_utf8_lossy(found.json).into_owned();
            seen.push((found.name, found.item, json, found.is_cut, found.bytes, found.digest));
        });
    }
    (seen, reader.is_whole())
}

fn values(text: &str) -> Vec<(&'static str, Option<u32>, String)> {
    let (seen, _) = read(&[text.as_bytes()]);
    seen.into_iter().map(|(name, item, json, ..)| (name, item, json)).collect()
}

const TEXT: &str = r#" {"a":{"model":"no","x":[1,{"y":"}\"],"}]},"model" : "m\u00e9\"\\",
    "stream":true ,"messages":[ {"role":"user","content":"\"model\": {"} , "b",[],7 ],"n":{},
    "request":{"z":[{}],"contents":[{"c":1}],"id" :"i"},"last":-1.5e3 } "#;

#[test]
fn fields_and_elements_are_found_where_they_are_wanted() {
    let expected = [
        ("model", None, r#""m\u00e9\"\\""#),
        ("stream", None, "true"),
        ("messages", Some(0), r#"{"role":"user","content":"\"model\": {"}"#),
        ("messages", Some(1), r#""b""#),
        ("messages", Some(2), "[]"),
        ("messages", Some(3), "7"),
        ("contents", Some(0), r#"{"c":1}"#),
        ("id", None, r#""i""#),
    ];
    let own = expected.map(|(name, item, json)| (name, item, json.to_owned()));
    assert_eq!(values(TEXT), own);
    assert!(read(&[TEXT.as_bytes()]).1);
}

#[test]
fn what_is_no_list_is_one_element() {
    let text = r#"{"messages":"all","request":"none","messages":[]}"#;
    assert_eq!(values(text), [("messages", None, r#""all""#.to_owned())]);
}

#[test]
fn a_cut_text_gives_what_came_before_and_is_not_whole() {
    for end in 0..TEXT.trim_end().len() {
        let (seen, is_whole) = read(&[&TEXT.as_bytes()[..end]]);
        assert!(!is_whole);
        assert_eq!(seen, read(&[TEXT.as_bytes()]).0[..seen.len()]);
    }
}

#[test]
fn long_values_are_cut_and_long_elements_hashed_whole() {
    let long = "x".repeat(MAX_ELEMENT_BYTES + 7);
    let text = format!(r#"{{"model":"{long}","messages":["{long}",1]}}"#);
    let pieces: Vec<_> = text.as_bytes().chunks(1 << 20).collect();
    let (seen, is_whole) = read(&pieces);
    let [model, element, last] = &seen[..] else { panic!("{}", seen.len()) };
    assert!(is_whole);
    assert_eq!((model.2.len(), model.3), (100, true));
    assert_eq!((element.2.len(), element.3), (MAX_ELEMENT_BYTES, true));
    assert_eq!(element.4, long.len() as u64 + 2);
    assert_eq!(element.5, *blake3::hash(format!("\"{long}\"").as_bytes()).as_bytes());
    assert_eq!(last.2, "1");
}

#[test]
fn other_texts_give_nothing() {
    for text in
        ["", "[]", "\"model\"", "model=1", "{model:1}", "{\"model\" 1}", "{]", "{\"model\":,"]
    {
        let (seen, is_whole) = read(&[text.as_bytes()]);
        assert!(!is_whole, "{text}");
        assert!(seen.iter().all(|found| found.2.is_empty()), "{text}");
    }
}

proptest! {
    #[test]
    fn cutting_changes_nothing(cuts in prop::collection::vec(0..TEXT.len(), 0..6)) {
        let mut cuts = cuts;
        cuts.extend([0, TEXT.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> =
            cuts.windows(2).map(|pair| &TEXT.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(&pieces), read(&[TEXT.as_bytes()]));
    }

    #[test]
    fn it_agrees_with_a_json_parser(
        model in "[ -~\u{e9}]{0,20}", other in "[ -~]{0,20}", number in any::<i32>(),
    ) {
        let messages = json!([{ "role": other }, number, [other, { "model": 1 }]]);
        let text = json!({ "x": [other, { "model": 1 }], "messages": messages, "model": model });
        for text in [text.to_string(), serde_json::to_string_pretty(&text).unwrap()] {
            let (seen, is_whole) = read(&[text.as_bytes()]);
            prop_assert!(is_whole);
            let parsed: Vec<Json> =
                seen.iter().map(|found| serde_json::from_str(&found.2).unwrap()).collect();
            prop_assert_eq!(&parsed[..3], &messages.as_array().unwrap()[..]);
            prop_assert_eq!(&parsed[3], &json!(model));
        }
    }

    #[test]
    fn any_bytes_are_read_alike_whole_and_single(
        text in r#"[{}\[\]",:\\a-c0 \n]{0,60}"#, start in "(\\{\"messages\":|\\{\"request\":\\{|)",
    ) {
        let text = format!("{start}{text}");
        let single: Vec<_> = text.as_bytes().chunks(1).collect();
        prop_assert_eq!(read(&single), read(&[text.as_bytes()]));
    }
}
