//! Enums whose doc comments say what each word means and, in a second paragraph, what to do.

use schemars::JsonSchema;
use serde_json::Value;

use super::markdown::{Page, code};

/// A word, what it means, and what to do about it.
struct Word {
    word: String,
    means: String,
    remedy: String,
}

fn words<T: JsonSchema>() -> Vec<Word> {
    let schema = postern_crds::schema::of::<T>();
    let all = schema["oneOf"].as_array().expect("every variant has a doc comment").iter();
    all.map(|variant| {
        let word = variant.get("const").or_else(|| variant["enum"].get(0)).and_then(Value::as_str).unwrap().to_owned();
        let text = variant["description"].as_str().unwrap_or_else(|| panic!("{word} has no doc comment"));
        let (means, remedy) = text.split_once("\n\n").unwrap_or((text, ""));
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Word { word, means: line(means), remedy: line(remedy) }
    })
    .collect()
}

pub(crate) fn page<T: JsonSchema>(file: &'static str, title: &str, intro: &str) -> Page {
    let mut page = Page::new(file, title, intro);
    let nothing = |remedy: String| if remedy.is_empty() { "–".to_owned() } else { remedy };
    page.table(
        &["code", "it means", "what to do"],
        words::<T>().into_iter().map(|it| vec![code(&it.word), it.means, nothing(it.remedy)]),
    );
    page
}

#[test]
fn every_denial_and_every_error_of_the_broker_has_a_remedy() {
    for it in words::<postern_sidecar::decide::Reason>().iter().chain(&words::<postern_crds::lease::ErrorCode>()) {
        assert!(!it.remedy.is_empty(), "{} says what it means in its doc comment, and not what to do", it.word);
    }
}

#[test]
fn a_denial_is_explained_under_the_code_that_clients_see() {
    let explained: Vec<String> = words::<postern_sidecar::decide::Reason>().into_iter().map(|it| it.word).collect();
    assert_eq!(explained, postern_sidecar::decide::Reason::ALL.map(|reason| reason.as_str().to_owned()));
}
