//! Every rule of the document has a number of its own, and a test that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::DOCUMENT;

/// Letter, number, and the letter behind the number that a later rule between two others has.
type Rule = (char, u32, Option<char>);

/// In the order of the text. The index only shows what they look like.
fn rules() -> Vec<Rule> {
    let (_, text) = DOCUMENT.split_once("\n# Connecting\n").expect("the first file behind the index");
    let words = text.split('`').skip(1).step_by(2);
    words.filter_map(rule).collect()
}

/// `C3`, or `C3a`.
fn rule(word: &str) -> Option<Rule> {
    let (letter, rest) = word.split_at_checked(1)?;
    let letter = letter.chars().next().filter(char::is_ascii_uppercase)?;
    let suffix = rest.chars().last().filter(char::is_ascii_lowercase);
    let digits = rest.strip_suffix(|last: char| Some(last) == suffix).unwrap_or(rest);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((letter, digits.parse().ok().filter(|_| is_number)?, suffix))
}

fn shown((letter, number, suffix): Rule) -> String {
    format!("{letter}{number}{}", suffix.map(String::from).unwrap_or_default())
}

#[test]
fn numbers_are_unique_and_in_order() {
    let mut last: BTreeMap<char, Rule> = BTreeMap::new();
    let mut current = None;
    for rule in rules() {
        let before = last.insert(rule.0, rule);
        assert!(before.is_none_or(|before| before < rule), "{} follows {before:?}", shown(rule));
        assert!(before.is_none() || current == Some(rule.0), "the rules {} stand together", rule.0);
        current = Some(rule.0);
    }
    assert!(last.len() >= 15, "{last:?}");
}

#[test]
fn what_is_cited_exists_and_every_rule_is_cited_by_a_test() {
    if !Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/wire/src/tests")).exists() {
        return println!("skipped: this package comes without the others, whose tests cite rules, too");
    }
    let rules: BTreeSet<Rule> = rules().into_iter().collect();
    let mut held = BTreeSet::new();
    for folder in ["tests", "wire", "platform", "src"] {
        read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut |path, text| {
            for (number, cited, by_test) in citations(text) {
                let shown = shown(cited);
                assert!(rules.contains(&cited), "{}, line {number}: no rule {shown}", path.display());
                if by_test || path.extension().is_some_and(|extension| extension == "txt") {
                    held.insert(cited);
                }
            }
        });
    }
    let open: Vec<_> = rules.difference(&held).map(|rule| shown(*rule)).collect();
    assert!(open.is_empty(), "no test cites {open:?}");
}

/// Calls `each` with every file of code and every conversation.
fn read_all(folder: &Path, each: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !path.ends_with("target") {
            read_all(&path, each);
        } else if ["rs", "txt"].contains(&&extension[..]) {
            each(&path, &fs::read_to_string(&path).expect("a text"));
        }
    }
}

/// What stands behind the document's name in comments: line, rule, and whether a test is described.
fn citations(text: &str) -> Vec<(usize, Rule, bool)> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some((comment, list)) = line.split_once("PROTOCOL ") else { continue };
        if !comment.starts_with("//") && !comment.starts_with(';') {
            continue;
        }
        let mut behind = lines[index + 1..].iter().take_while(|line| line.starts_with(['/', '#']));
        let by_test = behind.any(|line| line.starts_with("#[test]"));
        let words = list.split(',').map(|word| word.trim().trim_end_matches('.'));
        found.extend(words.map_while(rule).map(|rule| (index + 1, rule, by_test)));
    }
    found
}
